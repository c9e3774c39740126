//! What `--http.config` makes of a listener.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine;
use model::error::in_one_line;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::*;

struct Web {
    dir: tempfile::TempDir,
    server: Server,
    _ready: watch::Sender<bool>,
}

impl Web {
    async fn start(config: &str) -> Web {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("web.yml");
        std::fs::write(&path, config).unwrap();
        let (server, ready) = started(&path).await;
        Web { dir, server: server.unwrap(), _ready: ready }
    }

    fn rewrite(&self, config: &str) {
        std::fs::write(self.file("web.yml"), config).unwrap();
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The head and body of the answer to a GET over plain HTTP, with a user and a password.
    async fn get(&self, path: &'static str, login: Option<&str>) -> String {
        let address = self.server.http_addr();
        let login = login.map(|login| base64::engine::general_purpose::STANDARD.encode(login));
        let ask = move || ask(TcpStream::connect(address).unwrap(), path, login.as_deref());
        tokio::task::spawn_blocking(ask).await.unwrap().unwrap()
    }

    async fn status(&self, path: &'static str, login: Option<&str>) -> u16 {
        let answer = self.get(path, login).await;
        answer.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
}

async fn started(path: &Path) -> (Result<Server>, watch::Sender<bool>) {
    let mut settings = settings(None);
    settings.http.config = Some(path.to_owned());
    let routes = Router::new().route("/api/v1/ping", get(async || "pong"));
    try_start(routes, settings).await
}

fn ask(mut stream: impl Read + Write, path: &str, login: Option<&str>) -> std::io::Result<String> {
    let login = login.map(|login| format!("authorization: Basic {login}\r\n"));
    let login = login.unwrap_or_default();
    write!(stream, "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{login}\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn user(name: &str, password: &str) -> String {
    let hash = bcrypt::hash_with_result(password, 4).unwrap();
    format!("basic_auth_users: {{{name}: {hash}}}\n")
}

#[tokio::test]
async fn everything_asks_for_a_password_and_the_file_is_read_again() {
    let web = Web::start(&user("alice", "one")).await;
    for path in ["/-/healthy", "/-/ready", "/metrics", "/api/v1/ping", "/none"] {
        let refused = web.get(path, None).await.to_lowercase();
        assert!(refused.starts_with("http/1.1 401"), "{path}: {refused}");
        assert!(refused.contains("www-authenticate: basic\r\n"), "{path}: {refused}");
        assert!(refused.contains("x-content-type-options: nosniff\r\n"), "{path}: {refused}");
    }
    assert_eq!(web.status("/-/healthy", Some("alice:one")).await, 200);
    assert_eq!(web.status("/api/v1/ping", Some("alice:one")).await, 200);
    assert_eq!(web.status("/api/v1/ping", Some("alice:two")).await, 401);
    web.rewrite(&user("alice", "two"));
    assert_eq!(web.status("/api/v1/ping", Some("alice:one")).await, 401);
    assert_eq!(web.status("/api/v1/ping", Some("alice:two")).await, 200);
    // half written, broken, gone, and with a section that cannot come later
    for broken in ["", "# x", "basic_auth_", "x: y", "tls_server_config: {cert: a, key: b}"] {
        web.rewrite(broken);
        assert_eq!(web.status("/api/v1/ping", None).await, 401, "{broken}");
        assert_eq!(web.status("/api/v1/ping", Some("alice:two")).await, 200, "{broken}");
    }
    std::fs::remove_file(web.file("web.yml")).unwrap();
    assert_eq!(web.status("/api/v1/ping", None).await, 401);
    web.rewrite("{}");
    assert_eq!(web.status("/api/v1/ping", None).await, 200);
}

#[tokio::test]
async fn passwords_are_compared_beside_the_thread_that_serves() {
    let hash = bcrypt::hash_with_result("one", 13).unwrap();
    let quick = bcrypt::hash_with_result("two", 4).unwrap();
    let web = Web::start(&format!("basic_auth_users: {{quick: {quick}, slow: {hash}}}\n")).await;
    assert_eq!(web.status("/-/healthy", Some("quick:two")).await, 200);
    let slow = web.status("/-/healthy", Some("slow:one"));
    let quick = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        web.status("/-/healthy", Some("quick:two")).await
    };
    tokio::pin!(slow);
    // the quick one was let in before, so it is answered while the slow one is still compared
    tokio::select! {
        biased;
        code = &mut slow => panic!("{code}: comparing took no time; raise the cost"),
        code = quick => assert_eq!(code, 200),
    }
    assert_eq!(slow.await, 200);
}

#[tokio::test]
async fn headers_and_limits_are_kept() {
    let web = Web::start(
        "http_server_config: {headers: {X-Frame-Options: deny}}\n\
         rate_limit: {interval: 1h, burst: 2}\n",
    )
    .await;
    for _ in 0..2 {
        let answer = web.get("/metrics", None).await.to_lowercase();
        assert!(answer.starts_with("http/1.1 200"), "{answer}");
        assert!(answer.contains("x-frame-options: deny\r\n"), "{answer}");
    }
    assert_eq!(web.status("/metrics", None).await, 429);
    assert_eq!(web.status("/-/healthy", None).await, 429);
    web.rewrite("rate_limit: {interval: 0s, burst: 0}");
    assert_eq!(web.status("/-/healthy", None).await, 200);
}

#[tokio::test]
async fn without_a_file_every_answer_says_nosniff() {
    let (server, _ready) = start(Router::new(), None).await;
    let address = server.http_addr();
    for path in ["/-/healthy", "/metrics", "/none", "/api/v1/query"] {
        let ask = move || ask(TcpStream::connect(address).unwrap(), path, None).unwrap();
        let answer = tokio::task::spawn_blocking(ask).await.unwrap().to_lowercase();
        assert!(answer.contains("x-content-type-options: nosniff\r\n"), "{path}: {answer}");
    }
}

/// What is negotiated, and the answer to a GET, trusting one authority.
fn ask_tls(address: SocketAddr, ca: &str) -> std::io::Result<(Option<Vec<u8>>, String)> {
    let mut roots = RootCertStore::empty();
    roots.add(crate::certificates(ca.as_bytes()).unwrap().remove(0)).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let name = ServerName::try_from("localhost").unwrap();
    let connection = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut stream = StreamOwned::new(connection, TcpStream::connect(address)?);
    stream.flush()?;
    let protocol = stream.conn.alpn_protocol().map(<[u8]>::to_vec);
    if protocol.as_deref() == Some(b"h2") {
        return Ok((protocol, String::new()));
    }
    Ok((protocol, ask(stream, "/-/healthy", None)?))
}

#[tokio::test]
async fn tls_and_http2_follow_the_file() {
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str| dir.path().join(name);
    let rotate = |ca: &Authority| {
        let pair = ca.issue(&["localhost"]);
        std::fs::write(file("cert.pem"), pair.cert).unwrap();
        std::fs::write(file("key.pem"), pair.key).unwrap();
    };
    rotate(&old);
    let config = |http2: bool| {
        let text = format!(
            "tls_server_config: {{cert_file: cert.pem, key_file: key.pem}}\n\
             http_server_config: {{http2: {http2}}}\n"
        );
        std::fs::write(file("web.yml"), text).unwrap();
    };
    config(true);
    let (server, _ready) = started(&file("web.yml")).await;
    let server = server.unwrap();
    let address = server.http_addr();
    let ask = async |ca: &Authority| {
        let ca = ca.pem();
        tokio::task::spawn_blocking(move || ask_tls(address, &ca)).await.unwrap()
    };
    assert_eq!(ask(&old).await.unwrap().0, Some(b"h2".to_vec()));
    assert!(ask(&new).await.is_err());
    config(false);
    let (protocol, answer) = ask(&old).await.unwrap();
    assert_eq!(protocol, Some(b"http/1.1".to_vec()));
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    rotate(&new);
    assert!(ask(&old).await.is_err());
    assert!(ask(&new).await.unwrap().1.starts_with("HTTP/1.1 200"));
    // taking TLS away needs a restart
    std::fs::write(file("web.yml"), "{}").unwrap();
    assert!(ask(&new).await.unwrap().1.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn http2_that_is_switched_off_is_refused_to_those_who_speak_it_unasked() {
    let web = Web::start("http_server_config: {http2: false}").await;
    let address = format!("http://{}", web.server.http_addr());
    let channel = Channel::from_shared(address).unwrap().connect().await.unwrap();
    let request = HealthCheckRequest { service: String::new() };
    let refused = HealthClient::new(channel).check(request).await.unwrap_err();
    assert!(refused.message().contains("505"), "{refused}");
}

#[tokio::test]
async fn a_file_that_cannot_be_served_stops_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("web.yml");
    std::fs::write(&path, "tls_server_config: {cert_file: none.pem, key_file: k.pem}").unwrap();
    let error = started(&path).await.0.unwrap_err();
    let text = in_one_line(&error).to_string();
    assert!(text.contains("web.yml") && text.contains("none.pem"), "{text}");
}
