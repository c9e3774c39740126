use std::io::{Read, Write};
use std::net::TcpStream;

use axum::routing::get;
use model::SystemClock;
use tonic::service::Routes;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Identity};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use super::*;
use crate::{ClientAuth, Pem};
use testkit::Authority;

fn clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock::new(|span| Box::pin(tokio::time::sleep(span))))
}

fn settings(tls: Option<ServerTls>) -> Settings {
    let (grace, patience) = (Duration::from_secs(5), Patience::default());
    Settings {
        http: HttpSettings { address: "127.0.0.1:0".to_owned(), grace, config: None, patience },
        grpc: Some(GrpcSettings {
            address: "127.0.0.1:0".to_owned(),
            grace,
            tls,
            max_connection_age: None,
            patience,
        }),
    }
}

async fn start(routes: Router, tls: Option<ServerTls>) -> (Server, watch::Sender<bool>) {
    let (server, ready) = try_start(routes, settings(tls)).await;
    (server.unwrap(), ready)
}

async fn try_start(routes: Router, settings: Settings) -> (Result<Server>, watch::Sender<bool>) {
    let build = crate::BuildInfo { version: "1.2.3".to_owned(), revision: "abc".to_owned() };
    let (ready_sender, ready) = watch::channel(false);
    let services = Services {
        routes: Routes::default(),
        descriptors: vec![tonic_health::pb::FILE_DESCRIPTOR_SET],
    };
    let served = Served {
        name: "query",
        routes,
        services: Some(services),
        registry: crate::registry(&build).unwrap(),
        budget: model::Budget::unlimited(),
        ready,
    };
    (Server::start(settings, served, clock()).await, ready_sender)
}

/// Status code and body of a GET, on a connection of its own.
fn get_blocking(address: SocketAddr, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let code = answer.split_whitespace().nth(1).unwrap().parse().unwrap();
    (code, answer.split_once("\r\n\r\n").unwrap().1.to_owned())
}

async fn fetch(address: SocketAddr, path: &'static str) -> (u16, String) {
    tokio::task::spawn_blocking(move || get_blocking(address, path)).await.unwrap()
}

#[tokio::test]
async fn health_readiness_and_metrics_are_served() {
    let (server, ready) =
        start(Router::new().route("/api/v1/ping", get(async || "pong")), None).await;
    let http = server.http_addr();
    assert_eq!(fetch(http, "/-/healthy").await.0, 200);
    assert_eq!(fetch(http, "/-/ready").await.0, 503);
    ready.send_replace(true);
    assert_eq!(fetch(http, "/-/ready").await.0, 200);
    assert_eq!(fetch(http, "/api/v1/ping").await, (200, "pong".to_owned()));
    let (_, metrics) = fetch(http, "/metrics").await;
    for line in [
        r#"http_requests_total{code="200",handler="ping",method="get"} 1"#,
        r#"thanos_build_info{branch="",goversion="rust",revision="abc",version="1.2.3"} 1"#,
        "process_resident_memory_bytes ",
        r#"thanos_status{check="healthy",component="query"} 1"#,
        r#"thanos_status{check="ready",component="query"} 1"#,
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
    server.stop().await;
    assert!(TcpStream::connect(http).is_err());
}

#[tokio::test]
async fn a_failing_handler_answers_in_json() {
    async fn broken() -> &'static str {
        panic!("on purpose")
    }
    let routes = Router::new().route("/api/v1/broken", get(broken)).fallback(crate::not_found);
    let (server, _ready) = start(routes, None).await;
    let (code, body) = fetch(server.http_addr(), "/api/v1/broken").await;
    assert_eq!(
        (code, body.starts_with(r#"{"status":"error","errorType":"internal""#)),
        (500, true),
        "{body}"
    );
    let (code, body) = fetch(server.http_addr(), "/nope").await;
    assert_eq!((code, body.contains("page not found")), (404, true), "{body}");
}

#[tokio::test]
async fn what_probes_do_not_allow_is_an_error_in_json() {
    let (server, _ready) = start(Router::new(), None).await;
    let http = server.http_addr();
    let asked = tokio::task::spawn_blocking(move || {
        let mut stream = TcpStream::connect(http).unwrap();
        stream.write_all(b"PUT /metrics HTTP/1.1\r\nconnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    });
    let answer = asked.await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 405 ") && answer.contains("cache-control: no-store"));
    assert!(
        answer.ends_with(r#""errorType":"bad_data","error":"method not allowed"}"#),
        "{answer}"
    );
}

/// What a route sees of a request whose URL may be long.
async fn seen(request: axum::extract::Request) -> String {
    let long = request.extensions().get::<model::LongQuery>();
    let path = request.uri().to_string();
    format!("{path} {} {}", long.map_or(0, |q| q.as_bytes().len()), request.headers().len())
}

#[tokio::test]
async fn long_urls_are_answered_on_connections_that_go_on() {
    let (server, _ready) = start(Router::new().route("/api/v1/seen", get(seen)), None).await;
    let http = server.http_addr();
    let asked = tokio::task::spawn_blocking(move || {
        let mut stream = TcpStream::connect(http).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let long = "a".repeat(1_000_000);
        let own = "drumlin-aside: 1\r\n";
        for target in [&format!("//api/v1/seen?{long}"), "/api/v1/seen?q=\"x\""] {
            write!(stream, "GET {target} HTTP/1.1\r\nhost: x\r\n{own}\r\n").unwrap();
        }
        // far too long; the connection ends with its answer
        let _ = write!(stream, "GET /?{long}{long} HTTP/1.1\r\nhost: x\r\n\r\n");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    });
    let answers = asked.await.unwrap();
    let answers: Vec<&str> = answers.split("HTTP/1.1 ").skip(1).collect();
    assert_eq!(answers.len(), 3, "{answers:?}");
    assert!(answers[0].ends_with("\r\n\r\n/api/v1/seen 1000000 1"), "{}", answers[0]);
    assert!(answers[1].ends_with("\r\n\r\n/api/v1/seen?q=%22x%22 0 1"), "{}", answers[1]);
    assert!(answers[2].starts_with("414 ") && answers[2].contains("no-store"), "{}", answers[2]);
    assert!(answers[2].contains(r#"{"status":"error","errorType":"bad_data","error":"the URL"#));
    server.stop().await;
}

#[tokio::test]
async fn probes_are_answered_while_the_main_runtime_is_stuck() {
    let (server, _ready) = start(Router::new(), None).await;
    // this blocks the only thread of the main runtime, on purpose
    assert_eq!(get_blocking(server.http_addr(), "/-/healthy").0, 200);
}

#[tokio::test]
async fn grpc_health_follows_readiness_and_is_counted() {
    let (server, ready) = start(Router::new(), None).await;
    let channel = Channel::from_shared(format!("http://{}", server.grpc_addr().unwrap()))
        .unwrap()
        .connect()
        .await
        .unwrap();
    let mut health = HealthClient::new(channel);
    let request = || HealthCheckRequest { service: String::new() };
    let mut statuses = health.watch(request()).await.unwrap().into_inner();
    ready.send_replace(true);
    let deadline = tokio::time::timeout(Duration::from_secs(10), async {
        while statuses.message().await.unwrap().unwrap().status() != ServingStatus::Serving {}
    });
    deadline.await.unwrap();
    drop(statuses);
    assert_eq!(
        health.check(request()).await.unwrap().into_inner().status(),
        ServingStatus::Serving
    );
    let (_, metrics) = fetch(server.http_addr(), "/metrics").await;
    let handled = r#"grpc_server_handled_total{grpc_code="OK",grpc_method="Check",grpc_service="grpc.health.v1.Health",grpc_type="unary"} 1"#;
    assert!(metrics.contains(handled), "{metrics}");
    let check = r#"grpc_method="Check",grpc_service="grpc.health.v1.Health",grpc_type="unary"}"#;
    for line in [
        format!("grpc_server_msg_received_total{{{check} 1"),
        format!("grpc_server_msg_sent_total{{{check} 1"),
        // an alert's rate needs a zero to begin with
        format!(r#"grpc_server_handled_total{{grpc_code="Unavailable",{check} 0"#),
        format!(r#"grpc_server_handled_total{{grpc_code="DataLoss",{check} 0"#),
    ] {
        assert!(metrics.contains(&line), "{line} is not in\n{metrics}");
    }
    let started = r#"grpc_server_started_total{grpc_method="Watch",grpc_service="grpc.health.v1.Health",grpc_type="server_stream"} 1"#;
    assert!(metrics.contains(started), "{metrics}");
}

#[tokio::test]
async fn mutual_tls_lets_in_only_those_with_a_certificate_and_follows_rotation() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str| dir.path().join(name);
    let rotate = |ca: &Authority| {
        let server = ca.issue(&["localhost"]);
        for (name, text) in [("ca", ca.pem()), ("cert", server.cert), ("key", server.key)] {
            std::fs::write(file(name), text).unwrap();
            // the time of change must not be what tells
            let changed = std::time::UNIX_EPOCH + Duration::from_secs(1000);
            let written = std::fs::File::options().write(true).open(file(name)).unwrap();
            written.set_modified(changed).unwrap();
        }
    };
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    rotate(&old);
    let tls = ServerTls {
        cert: Pem::File(file("cert")),
        key: Pem::File(file("key")),
        client_ca: Some(Pem::File(file("ca"))),
        client_auth: ClientAuth::RequireAndVerify,
        ..ServerTls::default()
    };
    let (server, _ready) = start(Router::new(), Some(tls)).await;
    let address = format!("https://localhost:{}", server.grpc_addr().unwrap().port());
    let connect = async |tls: ClientTlsConfig| {
        let endpoint = Channel::from_shared(address.clone()).unwrap().tls_config(tls).unwrap();
        endpoint.connect().await
    };
    let check = async |channel: Channel| {
        let request = HealthCheckRequest { service: String::new() };
        Ok::<_, tonic::Status>(HealthClient::new(channel).check(request).await?.into_inner())
    };
    let trusting =
        |ca: &Authority| ClientTlsConfig::new().ca_certificate(Certificate::from_pem(ca.pem()));
    let client = |ca: &Authority| {
        let pair = ca.issue(&["client"]);
        trusting(ca).identity(Identity::from_pem(pair.cert, pair.key))
    };
    match connect(trusting(&old)).await {
        Ok(channel) => assert!(check(channel).await.is_err()),
        Err(error) => assert!(in_one_line(&error).to_string().contains("transport"), "{error}"),
    }
    let held = connect(client(&old)).await.unwrap();
    check(held.clone()).await.unwrap();
    rotate(&new);
    check(held).await.unwrap();
    assert!(connect(client(&old)).await.is_err());
    check(connect(client(&new)).await.unwrap()).await.unwrap();
}

#[test]
fn what_is_open_to_the_network() {
    let table = [
        ("0.0.0.0:1", false, true),
        ("[::]:1", false, true),
        ("10.1.2.3:1", false, true),
        ("10.1.2.3:1", true, false),
        ("127.0.0.1:1", false, false),
        ("[::1]:1", false, false),
        ("[::ffff:127.0.0.1]:1", false, false),
    ];
    for (address, has_tls, expected) in table {
        let address = address.parse().unwrap();
        let listening = Listening { server: "http", address, has_tls };
        assert_eq!(listening.is_open(), expected, "{address}");
    }
}

mod web;
