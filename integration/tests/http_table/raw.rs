//! HTTP/1.1 as it is on the wire: requests that no client library would send.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use super::requests::Request;

/// An answer; `None` where the connection ended without one.
pub(super) type Answered = Option<Answer>;

#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    head: String,
    pub(super) body: Vec<u8>,
}

impl Answer {
    /// A header's value, empty where it is not there.
    pub(super) fn header(&self, name: &str) -> &str {
        let mut fields = self.head.lines().filter_map(|line| line.split_once(':'));
        let found = fields.find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map_or("", |(_, value)| value.trim())
    }
}

/// Asks `http://host:port`.
pub(super) fn ask(server: &str, request: &Request) -> Answered {
    ask_for(server, request, &request.target)
}

/// Asks, and asks again where the answer points to.
pub(super) fn ask_following(server: &str, request: &Request) -> Answered {
    let answer = ask(server, request)?;
    let location = answer.header("location").to_owned();
    if location.is_empty() { Some(answer) } else { ask_for(server, request, &location) }
}

fn ask_for(server: &str, request: &Request, target: &str) -> Answered {
    let host = server.strip_prefix("http://").expect("a plain server");
    let mut head =
        format!("{} {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n", request.method);
    for header in &request.headers {
        head.push_str(&format!("{header}\r\n"));
    }
    let body = request.body.as_deref().unwrap_or_default();
    if request.body.is_some() || matches!(request.method.as_str(), "POST" | "PUT") {
        head.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    head.push_str("\r\n");
    let mut stream = TcpStream::connect(host).expect("connect");
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a time limit");
    // whoever refuses a request may close before it has read it
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes()));
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    parse(&bytes)
}

fn parse(bytes: &[u8]) -> Answered {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let mut answer = Answer { status, head, body: bytes[end + 4..].to_vec() };
    if answer.header("transfer-encoding").eq_ignore_ascii_case("chunked") {
        answer.body = unchunked(&answer.body);
    }
    Some(answer)
}

fn unchunked(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(at) = rest.windows(2).position(|two| two == b"\r\n") {
        let size = std::str::from_utf8(&rest[..at]).ok();
        let size = size.and_then(|size| usize::from_str_radix(size, 16).ok()).unwrap_or_default();
        let Some(chunk) = rest.get(at + 2..at + 2 + size).filter(|chunk| !chunk.is_empty()) else {
            break;
        };
        body.extend_from_slice(chunk);
        rest = rest.get(at + 4 + size..).unwrap_or_default();
    }
    body
}
