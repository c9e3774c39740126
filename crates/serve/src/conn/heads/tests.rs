use model::Budget;
use tokio::sync::watch;

use super::*;
use crate::conn::Wish;

fn heads_within(budget: u64) -> (Heads, Asides) {
    let asides = Asides::default();
    let bodies = Bodies::new(&Budget::new(budget), watch::Sender::new(Wish::Serve)).unwrap();
    (Heads::new(bodies, asides.clone()), asides)
}

/// What the server reads when bytes come in pieces of a size.
fn passed(input: &[u8], piece: usize) -> (Vec<u8>, Heads, Asides) {
    let (mut heads, asides) = heads_within(1 << 30);
    let mut read = Vec::new();
    for piece in input.chunks(piece) {
        heads.receive(piece);
        // the server reads a little less than there is
        while !heads.ready().is_empty() {
            let some = heads.ready().len().div_ceil(2);
            read.extend_from_slice(&heads.ready()[..some]);
            heads.consume(some);
        }
    }
    (read, heads, asides)
}

const PIECES: [usize; 4] = [1, 3, 100, 1 << 20];

#[test]
fn ordinary_requests_pass_as_they_are() {
    let requests = "\r\nGET /a?q=up HTTP/1.1\r\nHost: x\r\n\r\n\
        POST /b HTTP/1.1\r\ncontent-length: 5\r\n\r\n\"\"\"\"\"\
        POST /c HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n\
        a;x=1\r\nGET / \"\"\"\"\r\n3\r\n\r\n\r\r\n0\r\ntrailer: x\r\n\r\n\
        GET /d HTTP/1.0\nhost: y\n\nDELETE /e HTTP/1.1\r\ncontent-length: 0\r\n\r\n";
    for piece in PIECES {
        let (read, heads, _) = passed(requests.as_bytes(), piece);
        // the line breaks of request lines alone are made regular
        let regular = requests.trim_start().replace("HTTP/1.0\n", "HTTP/1.0\r\n");
        assert_eq!(String::from_utf8(read).unwrap(), regular, "pieces of {piece}");
        assert!(matches!(heads.state, State::Head(_)), "{:?}", heads.state);
    }
}

#[test]
fn bytes_that_need_escaping_are_escaped_in_targets_alone() {
    let requests = "GET /a?q={x=\"é\"} HTTP/1.1\r\nx: \"\r\ncontent-length: 3\r\n\r\n\"\"\"\
                    GET /b?<>`^|\\ HTTP/1.1\r\n\r\n";
    let wanted = "GET /a?q={x=%22%C3%A9%22} HTTP/1.1\r\nx: \"\r\ncontent-length: 3\r\n\r\n\"\"\"\
                  GET /b?%3C%3E%60^|\\ HTTP/1.1\r\n\r\n";
    for piece in PIECES {
        assert_eq!(String::from_utf8(passed(requests.as_bytes(), piece).0).unwrap(), wanted);
    }
}

/// The request that the server reads, and what was put aside for it.
fn taken(read: &[u8], asides: &Asides) -> (String, Option<SetAside>) {
    let text = String::from_utf8(read.to_vec()).unwrap();
    let id = text.split("drumlin-aside: ").nth(1).and_then(|rest| rest.split('\r').next());
    let mut request = http::Request::new(());
    if let Some(id) = id {
        request.headers_mut().insert("drumlin-aside", id.parse().unwrap());
    }
    let aside = asides.take(&mut request);
    (text, aside)
}

#[test]
fn long_queries_are_put_aside_and_found_again() {
    let query = format!("query=up%23{}\"", "a".repeat(900_000));
    let request = format!("GET /api/v1/query?{query} HTTP/1.1\r\nhost: x\r\n\r\nGET /");
    for piece in [1000, 16 << 10, 1 << 20] {
        let (read, _, asides) = passed(request.as_bytes(), piece);
        let (text, aside) = taken(&read, &asides);
        assert_eq!(text, "GET /api/v1/query HTTP/1.1\r\ndrumlin-aside: 1\r\nhost: x\r\n\r\n");
        let Some(SetAside::Query(found, Some(_))) = aside else { panic!("{aside:?}") };
        assert_eq!(found.as_bytes(), query.replace('"', "%22").as_bytes());
        assert!(taken(&read, &asides).1.is_none(), "only once");
    }
}

#[track_caller]
fn refused(input: &[u8]) -> (u16, String) {
    let (read, heads, asides) = passed(input, 16 << 10);
    assert!(heads.is_refused());
    match taken(&read, &asides) {
        (text, Some(SetAside::Refused(refusal))) => {
            assert!(text.starts_with("GET / HTTP/1.1\r\n") && text.contains("connection: close"));
            (refusal.status.as_u16(), refusal.text)
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn heads_beyond_the_limits_are_refused_with_a_reason() {
    let long = "a".repeat((1 << 20) + 1);
    let (status, text) = refused(format!("GET /?{long} HTTP/1.1\r\n\r\n").as_bytes());
    assert!(status == 414 && text.contains("1048576") && text.contains("POST"), "{text}");
    // its end never comes
    assert_eq!(refused(format!("GET /?{long}{long}").as_bytes()).0, 414);
    assert_eq!(refused(format!("GET /{} HTTP/1.1\r\n\r\n", &long[..60_000]).as_bytes()).0, 414);
    let field = format!("x: {}\r\n", &long[..300_000]);
    assert_eq!(refused(format!("GET / HTTP/1.1\r\n{field}\r\n").as_bytes()).0, 431);
    assert_eq!(refused(format!("GET / HTTP/1.1\r\nx: {}", &long[..300_000]).as_bytes()).0, 431);
    let fields = "x: y\r\n".repeat(101);
    assert_eq!(refused(format!("GET / HTTP/1.1\r\n{fields}\r\n").as_bytes()).0, 431);
}

#[test]
fn heads_share_the_room_for_bodies() {
    // a sixteenth of it is the room
    let (mut first, asides) = heads_within(16 << 20);
    let mut second = Heads::new(first.bodies.clone(), Asides::default());
    let half = format!("GET /?{}", "a".repeat(500_000));
    first.receive(half.as_bytes());
    assert!(!first.is_refused());
    second.receive(half.as_bytes());
    assert!(second.is_refused(), "there is not as much left as it would take");
    drop(first);
    let mut third = Heads::new(second.bodies.clone(), asides);
    third.receive(half.as_bytes());
    assert!(!third.is_refused(), "what was given up is there again");
}

#[test]
fn where_the_end_of_a_body_is_in_doubt_nothing_is_changed_any_more() {
    for fields in [
        "content-length: 5\r\ntransfer-encoding: chunked",
        "content-length: 5\r\ncontent-length: 6",
        "content-length: +5",
        "transfer-encoding: gzip, chunked",
        "transfer-encoding: chunked\r\n , identity",
        "content-length : 5",
        "upgrade: websocket",
        "no colon",
    ] {
        let requests = format!("POST / HTTP/1.1\r\n{fields}\r\n\r\nGET /\" HTTP/1.1\r\n\r\n");
        let (read, heads, _) = passed(requests.as_bytes(), 7);
        assert_eq!(String::from_utf8(read).unwrap(), requests);
        assert!(matches!(heads.state, State::Through), "{fields}: {:?}", heads.state);
    }
    let chunked = "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n";
    for size in ["\r\n", "x\r\n", "fffffffffffffffff\r\n", "-1\r\n"] {
        let requests = format!("{chunked}{size}GET /\" HTTP/1.1\r\n\r\n");
        let (read, heads, _) = passed(requests.as_bytes(), 7);
        assert_eq!(String::from_utf8(read).unwrap(), requests, "{size}");
        assert!(matches!(heads.state, State::Through), "{size}: {:?}", heads.state);
    }
    for other in ["PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "CONNECT a:1 HTTP/1.1\r\n\r\n\"", "\0\"\n\n"]
    {
        let (read, heads, _) = passed(other.as_bytes(), 5);
        assert_eq!(String::from_utf8(read).unwrap(), other);
        assert!(matches!(heads.state, State::Through), "{other}");
    }
}

#[test]
fn what_ends_early_is_left_to_the_server() {
    let (mut heads, _) = heads_within(1 << 30);
    heads.receive(b"GET / HT");
    assert!(heads.ready().is_empty());
    heads.end();
    assert_eq!(heads.ready(), b"GET / HT");
}

/// Neither empty lines nor tiny pieces make what comes be looked at again and again.
#[test]
fn a_head_is_searched_once() {
    let (mut heads, _) = heads_within(1 << 30);
    for byte in "\n".repeat(MAX_FIELDS).bytes() {
        heads.receive(&[byte]);
    }
    assert!(!heads.is_refused());
    heads.receive(b"\n\n");
    assert!(heads.is_refused(), "more empty lines than fields may take");
    let (mut heads, _) = heads_within(1 << 30);
    for byte in format!("GET /{} ", "a".repeat(MAX_TARGET)).bytes() {
        heads.receive(&[byte]);
    }
    assert!(!heads.is_refused(), "its end may come");
}
