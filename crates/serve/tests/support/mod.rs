//! A server for hostile clients.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::convert::Infallible;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::DefaultBodyLimit;
use axum::response::IntoResponse;
use axum::routing::{get, post};
use model::{Budget, SystemClock};
use serve::{BuildInfo, GrpcSettings, HttpSettings, Patience, Served, Server, Services, Settings};
use testkit::hostile::TEST_SERVER;
use tokio::sync::watch;
use tonic::service::Routes;

pub(crate) const PROBES: [&str; 3] = ["/-/healthy", "/-/ready", "/metrics"];

/// What must answer within 50 ms; ten times as long on a machine that does something else too.
pub(crate) const PROBE_LIMIT: Duration = Duration::from_millis(500);

pub(crate) fn short_patience() -> Patience {
    let short = Duration::from_millis(300);
    Patience { head: short, body: short, write: short, idle: short }
}

/// Answers that are being made.
#[derive(Clone, Debug, Default)]
pub(crate) struct Held(Arc<AtomicUsize>);

impl Held {
    pub(crate) fn answers(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    fn one_more(&self) -> HeldAnswer {
        self.0.fetch_add(1, Ordering::Relaxed);
        HeldAnswer(self.clone())
    }
}

struct HeldAnswer(Held);

impl Drop for HeldAnswer {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A body that never ends, and holds something as long as it is there.
fn endless(held: HeldAnswer) -> Body {
    let pieces = futures::stream::repeat_with(move || {
        let _held = &held;
        Ok::<_, Infallible>(Bytes::from_static(&[0; 64 << 10]))
    });
    Body::from_stream(pieces)
}

pub(crate) async fn start(patience: Patience, budget: Budget, held: &Held) -> Server {
    let grace = Duration::from_secs(60);
    let address = || "127.0.0.1:0".to_owned();
    let settings = Settings {
        http: HttpSettings { address: address(), grace, config: None, patience },
        grpc: Some(GrpcSettings {
            address: address(),
            grace,
            tls: None,
            max_connection_age: None,
            patience,
        }),
    };
    let build = BuildInfo { version: "1".to_owned(), revision: "a".to_owned() };
    let (one, other) = (held.clone(), held.clone());
    let grpc_endless = move |_: Bytes| {
        let body = endless(other.one_more());
        async move { ([("content-type", "application/grpc")], body).into_response() }
    };
    let served = Served {
        name: "query",
        routes: Router::new()
            .route(TEST_SERVER.endless, get(move || std::future::ready(endless(one.one_more()))))
            .route(TEST_SERVER.form, post(async |form: Bytes| form.len().to_string()))
            .layer(DefaultBodyLimit::max(10 << 20)),
        services: Some(Services {
            routes: Routes::from(Router::new().route(TEST_SERVER.endless_call, post(grpc_endless))),
            descriptors: Vec::new(),
        }),
        registry: serve::registry(&build).unwrap(),
        budget,
        // the sender may go: what it said last stays
        ready: watch::channel(true).1,
    };
    let clock = Arc::new(SystemClock::new(|span| Box::pin(tokio::time::sleep(span))));
    Server::start(settings, served, clock).await.unwrap()
}

/// The answer to a request on a connection of its own.
pub(crate) fn ask(mut stream: TcpStream, request: &str) -> std::io::Result<String> {
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// How long a probe takes; it must succeed.
pub(crate) fn probe(address: SocketAddr, path: &str) -> Duration {
    let start = Instant::now();
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    let answer = ask(TcpStream::connect(address).unwrap(), &request).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{path}: {answer}");
    start.elapsed()
}
