//! Clients of our listeners.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// What clients ask of a server.
#[derive(Clone, Copy, Debug)]
pub struct AskedServer<'a> {
    /// A path whose answer never ends, or is longer than what connections buffer.
    pub endless: &'a str,
    /// A path that reads the form of a POST.
    pub form: &'a str,
    /// A gRPC method whose answer is as long as that of `endless`; fewer than 128 bytes.
    pub endless_call: &'a str,
    /// The message of its request; fewer than 128 bytes.
    pub message: &'a [u8],
}

/// A server for tests of connections alone.
pub const TEST_SERVER: AskedServer<'static> = AskedServer {
    endless: "/api/v1/endless",
    form: "/api/v1/form",
    endless_call: "/test.Endless/Call",
    message: &[],
};

/// Which listener is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Port {
    Http,
    Grpc,
}

/// A client that does not keep its part. What must hold of every one: the server closes the
/// connection when its patience is over and holds nothing for it any more, does not wait for it
/// when it stops, and answers probes meanwhile.
#[derive(Clone, Debug)]
pub struct HostileClient {
    pub name: &'static str,
    pub port: Port,
    /// Sent at once.
    pub sends: Vec<u8>,
    /// Sent again and again afterwards, a byte at a time.
    pub drips: Option<u8>,
    /// Whether it takes the bytes that are sent to it.
    pub reads: bool,
    /// Whether it has asked for something, so that a process that stops gives it its time.
    pub is_owed: bool,
}

/// The pause between two bytes that drip.
const DRIP: Duration = Duration::from_millis(20);

impl HostileClient {
    fn new(name: &'static str, port: Port, sends: impl Into<Vec<u8>>) -> HostileClient {
        HostileClient { name, port, sends: sends.into(), drips: None, reads: true, is_owed: false }
    }

    fn dripping(self, byte: u8) -> HostileClient {
        HostileClient { drips: Some(byte), ..self }
    }

    fn not_reading(self) -> HostileClient {
        HostileClient { reads: false, ..self }
    }

    fn owed(self) -> HostileClient {
        HostileClient { is_owed: true, ..self }
    }

    /// Connects and sends.
    pub fn connect(&self, address: SocketAddr) -> std::io::Result<TcpStream> {
        let mut stream = TcpStream::connect(address)?;
        stream.write_all(&self.sends)?;
        Ok(stream)
    }

    /// Goes on as it does until the server closes the connection; `false` when it did not within
    /// the time. A client that does not read notices only that nothing can be sent any more.
    #[allow(clippy::disallowed_methods, reason = "real connections need real time")]
    pub fn is_closed_within(&self, mut stream: TcpStream, limit: Duration) -> bool {
        let start = Instant::now();
        stream.set_read_timeout(Some(DRIP)).expect("a timeout that is not zero");
        let mut taken = [0; 4096];
        while start.elapsed() < limit {
            if let Some(byte) = self.drips
                && stream.write_all(&[byte]).is_err()
            {
                return true;
            }
            if !self.reads {
                std::thread::sleep(DRIP);
                continue;
            }
            match stream.read(&mut taken) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(_) => return true,
            }
        }
        false
    }
}

const CHUNKED: &str = "transfer-encoding: chunked";

/// All of them, before a server that takes these requests.
pub fn clients(server: &AskedServer<'_>) -> Vec<HostileClient> {
    let http = |name, sends: &str| HostileClient::new(name, Port::Http, sends);
    let grpc = |name, sends: Vec<u8>| HostileClient::new(name, Port::Grpc, sends);
    let AskedServer { endless, form, message, .. } = server;
    let half = [&[0, 0, 0, 1, 0], &[1, 2, 3][..]].concat();
    let whole = [&[0, 0, 0, 0, message.len() as u8], *message].concat();
    let form = format!(
        "POST {form} HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-www-form-urlencoded\r\n\
         content-length: 1000000\r\n\r\n"
    );
    vec![
        http("http: says nothing", ""),
        http("http: half of a request line", "GET /-/hea"),
        http("http: half of a head", "GET /-/healthy HTTP/1.1\r\nhost: x\r\n"),
        http("http: a head without end", "GET /-/healthy HTTP/1.1\r\nx: ").dripping(b'a'),
        http("http: half of a long URL", &format!("GET /?{}", "a".repeat(900_000))),
        http("http: a URL that goes on", &format!("GET /?{}", "a".repeat(1_200_000)))
            .dripping(b'a'),
        http("http: a chunk that drips", &form.replace("content-length: 1000000", CHUNKED))
            .dripping(b'0'),
        http("http: half of a body", &format!("{form}query=")),
        http("http: a body that drips", &format!("{form}query=")).dripping(b'a'),
        http("http: stays after its answer", "GET /-/healthy HTTP/1.1\r\nhost: x\r\n\r\n"),
        http("http: half of a second head", "GET /-/healthy HTTP/1.1\r\nhost: x\r\n\r\nGET /"),
        http("http: does not read", &format!("GET {endless} HTTP/1.1\r\nhost: x\r\n\r\n"))
            .owed()
            .not_reading()
            // an empty line before a request means nothing, but shows whether it can be sent
            .dripping(b'\n'),
        http("http: half of HTTP/2", "PRI * HTTP/2.0\r\n"),
        http("http: HTTP/2 and then nothing", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        http("http: noise", "\u{1}\u{2}\u{3} \r\n\r\n\0"),
        grpc("grpc: says nothing", Vec::new()),
        grpc("grpc: half of a preface", b"PRI * HTTP/2.0\r\n".to_vec()),
        grpc("grpc: a preface and then nothing", http2(&[])),
        grpc("grpc: HTTP/1", b"GET / HTTP/1.1\r\nhost: x\r\n".to_vec()),
        grpc("grpc: half of a message", http2(&server.call(&half, 0))),
        grpc("grpc: asks and never for more", http2(&server.call(&whole, END_STREAM))).owed(),
    ]
}

/// A connection of HTTP/2 that begins with these frames.
fn http2(frames: &[u8]) -> Vec<u8> {
    const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &SETTINGS[..], frames].concat()
}

/// The flag of the last frame of a body.
const END_STREAM: u8 = 1;

impl AskedServer<'_> {
    /// The call with a frame of its body. RFC 9113 has the frames, RFC 7541 the head: indices of
    /// its static table, and literals.
    fn call(&self, body: &[u8], flags: u8) -> Vec<u8> {
        const DATA: u8 = 0;
        const HEADERS: u8 = 1;
        const END_HEADERS: u8 = 4;
        const POST: u8 = 0x83;
        const HTTP: u8 = 0x86;
        const PATH: u8 = 0x44;
        const AUTHORITY: u8 = 0x41;
        const CONTENT_TYPE: u8 = 0x5f;
        let literal = |index: u8, value: &str| {
            let mut field = vec![index, value.len() as u8];
            field.extend(value.as_bytes());
            field
        };
        let head = [
            vec![POST, HTTP],
            literal(PATH, self.endless_call),
            literal(AUTHORITY, "x"),
            literal(CONTENT_TYPE, "application/grpc"),
        ]
        .concat();
        let frame = |kind: u8, flags: u8, payload: &[u8]| {
            let mut frame = vec![0, 0, payload.len() as u8, kind, flags, 0, 0, 0, 1];
            frame.extend(payload);
            frame
        };
        [frame(HEADERS, END_HEADERS, &head), frame(DATA, flags, body)].concat()
    }
}
