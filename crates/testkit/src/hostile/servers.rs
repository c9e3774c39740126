//! Servers that we ask: a Prometheus, an object store. They answer every request alike.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// An answer that no correct server gives.
#[derive(Clone, Debug)]
pub struct HostileAnswer {
    pub name: &'static str,
    /// The status line and the headers, with a CRLF after each.
    pub head: String,
    pub body: Body,
}

impl Body {
    pub(super) fn whole(bytes: impl Into<Bytes>) -> Body {
        Body::Whole(bytes.into())
    }

    pub(super) fn endless(first: impl Into<Bytes>, again: impl Into<Bytes>) -> Body {
        Body::Endless(first.into(), again.into())
    }

    pub(super) fn stalls(first: impl Into<Bytes>) -> Body {
        Body::Stalls(first.into())
    }
}

/// What comes after the head.
#[derive(Clone, Debug)]
pub enum Body {
    /// These bytes, and then the end of the connection.
    Whole(Bytes),
    /// The first, and then the second again and again.
    Endless(Bytes, Bytes),
    /// These bytes, and then nothing, while the connection stays.
    Stalls(Bytes),
    /// Nothing, not even a head, while the connection stays.
    Silence,
}

impl HostileAnswer {
    /// An answer of this status line and these headers; silence until it is given a body.
    pub fn new(name: &'static str, status: &str, headers: &[(&str, &str)]) -> HostileAnswer {
        let mut head = format!("HTTP/1.1 {status}\r\nconnection: close\r\n");
        for (header, value) in headers {
            head += &format!("{header}: {value}\r\n");
        }
        HostileAnswer { name, head, body: Body::Silence }
    }

    pub fn with(self, body: Body) -> HostileAnswer {
        HostileAnswer { body, ..self }
    }
}

/// A running server; stops when dropped.
#[derive(Debug)]
pub struct HostileServer {
    address: SocketAddr,
    sent: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl HostileServer {
    /// Serves on a free port of the loopback interface, on the runtime of the caller. `answer` is
    /// given the request line.
    pub async fn start(
        answer: impl Fn(&str) -> HostileAnswer + Send + Sync + 'static,
    ) -> std::io::Result<HostileServer> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let (address, sent) = (listener.local_addr()?, Arc::new(AtomicU64::new(0)));
        let (answer, counter) = (Arc::new(answer), Arc::clone(&sent));
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (answer, counter) = (Arc::clone(&answer), Arc::clone(&counter));
                tokio::spawn(async move {
                    // the client may leave at any time
                    let _ = respond(stream, &*answer, &counter).await;
                });
            }
        });
        Ok(HostileServer { address, sent, task })
    }

    /// `http://127.0.0.1:<port>`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// `127.0.0.1:<port>`.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Bytes of bodies sent so far.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }
}

impl Drop for HostileServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn respond(
    mut stream: TcpStream,
    answer: &(dyn Fn(&str) -> HostileAnswer + Send + Sync),
    sent: &AtomicU64,
) -> std::io::Result<()> {
    let mut request = Vec::new();
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        let mut byte = [0; 1024];
        let read = stream.read(&mut byte).await?;
        if read == 0 {
            return Ok(());
        }
        request.extend_from_slice(&byte[..read]);
    }
    let text = String::from_utf8_lossy(&request);
    let answer = answer(text.lines().next().unwrap_or_default());
    if !matches!(answer.body, Body::Silence) {
        stream.write_all(format!("{}\r\n", answer.head).as_bytes()).await?;
    }
    match answer.body {
        Body::Whole(bytes) => {
            sent.fetch_add(bytes.len() as u64, Ordering::Relaxed);
            stream.write_all(&bytes).await?;
            stream.shutdown().await?;
            // what the client still sends must be read, or its own end would be an error
            tokio::io::copy(&mut stream, &mut tokio::io::sink()).await.map(drop)
        }
        Body::Endless(first, again) => {
            stream.write_all(&first).await?;
            loop {
                stream.write_all(&again).await?;
                sent.fetch_add(again.len() as u64, Ordering::Relaxed);
            }
        }
        Body::Stalls(first) => {
            stream.write_all(&first).await?;
            std::future::pending().await
        }
        Body::Silence => std::future::pending().await,
    }
}
