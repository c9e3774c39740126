//! Forms that are never sent whole, very many at once. This is alone in its binary, because it
//! counts every allocation of the process.

#![allow(clippy::print_stdout, reason = "tests report what they counted")]
#![allow(clippy::disallowed_methods, reason = "real connections need real time")]

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use model::Budget;
use serve::Patience;
use support::{Held, ask, short_patience, start};
use testkit::Allocations;
use testkit::hostile::TEST_SERVER;

#[global_allocator]
static ALLOCATIONS: Allocations = Allocations::new();

/// Held by whoever counts.
static COUNTING: Mutex<()> = Mutex::new(());

const MIB: usize = 1 << 20;
const FORMS: usize = 150;
const FORM_BYTES: usize = 10 * MIB;

fn head(length: usize) -> String {
    format!(
        "POST {} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n",
        TEST_SERVER.form
    )
}

/// Sends all of a form but its last piece, unless it is refused before.
fn stall(mut stream: TcpStream) -> TcpStream {
    static PIECE: [u8; 256 << 10] = [b'a'; 256 << 10];
    stream.write_all(head(FORM_BYTES).as_bytes()).unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(30))).unwrap();
    for _ in 1..FORM_BYTES / PIECE.len() {
        if stream.write_all(&PIECE).is_err() {
            break;
        }
    }
    stream
}

#[test]
fn forms_that_are_being_received_take_a_share_of_the_budget_and_leave_room_for_small_ones() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let budget = Budget::new(512 << 20);
    // long enough for all of them to be there at once
    let patience = Patience { body: Duration::from_secs(60), ..short_patience() };
    let server = runtime.block_on(start(patience, budget.clone(), &Held::default()));
    assert_eq!(budget.limit(), 480 << 20, "the room for bodies is set aside from the start");
    let http = server.http_addr();
    let connect = move || TcpStream::connect(http).unwrap();

    let _counting = COUNTING.lock().unwrap_or_else(PoisonError::into_inner);
    let before = ALLOCATIONS.begin();
    let stalled: Vec<_> = (0..FORMS).map(|_| thread::spawn(move || stall(connect()))).collect();
    let stalled: Vec<TcpStream> = stalled.into_iter().map(|one| one.join().unwrap()).collect();
    let answer = ask(connect(), &(head(5) + "query")).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with('5'), "{answer}");
    let refused = ask(stall(connect()), "").unwrap_or_default();
    // a connection that is closed while it still sends may lose its answer
    assert!(refused.is_empty() || refused.contains("503 Service Unavailable"), "{refused}");

    let peak = (ALLOCATIONS.peak() - before) / MIB;
    println!("{peak} MiB for {FORMS} forms of {} MiB", FORM_BYTES / MIB);
    assert!(peak <= 128, "{peak} MiB");
    drop(stalled);
    runtime.block_on(server.stop());
}

#[test]
fn a_form_that_is_late_is_told_so() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let server = runtime.block_on(start(short_patience(), Budget::unlimited(), &Held::default()));
    let stream = TcpStream::connect(server.http_addr()).unwrap();
    let answer = ask(stream, &(head(6) + "query")).unwrap();
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    let told = r#""errorType":"timeout","error":"the body of the request did not come to its end"#;
    assert!(answer.contains(told), "{answer}");
    runtime.block_on(server.stop());
}

/// Sends most of a head whose URL is as long as one may be, unless it is refused before.
fn stall_in_head(mut stream: TcpStream) -> TcpStream {
    // one for all who send it, since what they hold counts too
    static BEGUN: LazyLock<String> =
        LazyLock::new(|| format!("GET {}?{}", TEST_SERVER.form, "a".repeat(1_000_000)));
    stream.set_write_timeout(Some(Duration::from_secs(30))).unwrap();
    let _ = stream.write_all(BEGUN.as_bytes());
    stream
}

#[test]
fn heads_that_are_never_sent_whole_take_a_share_of_the_budget() {
    const HEADS: usize = 300;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let patience = Patience { head: Duration::from_secs(60), ..short_patience() };
    let server = runtime.block_on(start(patience, Budget::new(512 << 20), &Held::default()));
    let http = server.http_addr();
    let connect = move || TcpStream::connect(http).unwrap();
    let _counting = COUNTING.lock().unwrap_or_else(PoisonError::into_inner);
    let before = ALLOCATIONS.begin();
    let stalled: Vec<_> =
        (0..HEADS).map(|_| thread::spawn(move || stall_in_head(connect()))).collect();
    let stalled: Vec<TcpStream> = stalled.into_iter().map(|one| one.join().unwrap()).collect();
    let answer = ask(connect(), &(head(5) + "query")).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with('5'), "{answer}");
    // those refused while all came at once have left room, which a few more take
    let mut more = Vec::new();
    let refused = (0..64).find_map(|_| {
        let mut stream = stall_in_head(connect());
        stream.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        more.push(stream);
        Some(answer).filter(|answer| !answer.is_empty())
    });
    let refused = refused.expect("one that finds no room");
    assert!(refused.contains("503 Service Unavailable"), "{refused}");
    assert!(refused.contains(r#""errorType":"unavailable""#), "{refused}");
    let peak = (ALLOCATIONS.peak() - before) / MIB;
    println!("{peak} MiB for {HEADS} heads of 1 MiB");
    // with what the threads of this test and the connections take
    assert!(peak <= 32 + 64, "{peak} MiB");
    drop(stalled);
    runtime.block_on(server.stop());
}
