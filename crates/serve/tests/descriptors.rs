//! A process without file descriptors. It is alone in this binary, because it uses all of them up.

#![allow(clippy::disallowed_methods, reason = "real connections need real time")]

mod support;

use std::fs::File;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use model::Budget;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serve::Patience;
use support::{Held, PROBES, ask, start};
use testkit::hostile::{Port, TEST_SERVER, clients};
use tokio::net::TcpSocket;

/// Few, so that all of them are soon in use.
const FILES: u64 = 256;

/// Takes all descriptors that are left.
fn take_all(files: &mut Vec<File>) {
    let out_of_files = loop {
        match File::open("/dev/null") {
            Ok(file) => files.push(file),
            Err(error) => break error,
        }
    };
    assert_eq!(out_of_files.raw_os_error(), Some(24), "{out_of_files}");
}

/// Asks on a socket that was made before.
async fn ask_on(socket: TcpSocket, http: SocketAddr, path: &str) -> String {
    let stream = socket.connect(http).await.unwrap().into_std().unwrap();
    stream.set_nonblocking(false).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    tokio::task::spawn_blocking(move || ask(stream, &request)).await.unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn probes_are_answered_with_no_descriptor_left() {
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: Some(FILES), maximum }).unwrap();
    let server = start(Patience::default(), Budget::unlimited(), &Held::default()).await;
    let http = server.http_addr();

    // sockets of clients take descriptors of this process too, so they are made before
    let socket = || TcpSocket::new_v4().unwrap();
    let (sockets, other, last) = (PROBES.map(|_| socket()), socket(), socket());
    let mut files = Vec::new();
    take_all(&mut files);
    let begun = Instant::now();
    for (socket, path) in sockets.into_iter().zip(PROBES) {
        let answer = ask_on(socket, http, path).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{path}: {answer}");
        // the connection ends a moment after its answer, and what it frees is the server's spare
        tokio::time::sleep(Duration::from_millis(300)).await;
        take_all(&mut files);
    }
    let answer = ask_on(other, http, TEST_SERVER.form).await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(answer.contains("the process has no file descriptor left"), "{answer}");
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());

    // connections that ask for nothing make room
    files.truncate(files.len() - 100);
    let silent: Vec<_> =
        clients(&TEST_SERVER).into_iter().filter(|client| client.sends.is_empty()).collect();
    let silent = silent.into_iter().find(|client| client.port == Port::Http).unwrap();
    let idle: Vec<_> = (0..10).map(|_| silent.connect(http).unwrap()).collect();
    assert!(ask_on(socket(), http, PROBES[0]).await.starts_with("HTTP/1.1 200 "));
    tokio::time::sleep(Duration::from_millis(300)).await;
    take_all(&mut files);
    assert!(ask_on(last, http, PROBES[0]).await.starts_with("HTTP/1.1 200 "));
    for stream in idle {
        let silent = silent.clone();
        let closed = move || silent.is_closed_within(stream, Duration::from_secs(20));
        assert!(tokio::task::spawn_blocking(closed).await.unwrap());
    }

    drop(files);
    serve::raise_open_files();
    assert_eq!(getrlimit(Resource::Nofile).current, maximum);
    server.stop().await;
}
