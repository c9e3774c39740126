use std::path::Path;

use model::Labels;
use model::error::in_one_line;
use serve::{ClientAuth, Pem, Server, ServerTls};
use tempfile::TempDir;
use testkit::Authority;

use super::*;
use crate::Store;
use crate::client::{ClientSettings, GrpcStore};
use crate::conformance::{Dataset, MemoryStore};
use crate::testing::process;

/// A folder of certificate files for a server and a client of one authority.
struct Files(TempDir);

impl Files {
    fn new() -> Files {
        Files(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
        // rotation that keeps times must be noticed all the same
        let changed = std::time::UNIX_EPOCH + Duration::from_secs(1000);
        let file = std::fs::File::options().write(true).open(self.path(name)).unwrap();
        file.set_modified(changed).unwrap();
    }

    fn rotate_server(&self, ca: &Authority) {
        let pair = ca.issue(&["localhost"]);
        self.write("server-ca", &ca.pem());
        self.write("server-cert", &pair.cert);
        self.write("server-key", &pair.key);
    }

    fn rotate_client(&self, ca: &Authority) {
        let pair = ca.issue(&["client"]);
        self.write("ca", &ca.pem());
        self.write("cert", &pair.cert);
        self.write("key", &pair.key);
    }

    fn client(&self) -> TlsSettings {
        TlsSettings {
            ca: Some(self.path("ca")),
            cert: Some(self.path("cert")),
            key: Some(self.path("key")),
            ..TlsSettings::default()
        }
    }
}

fn pem(path: &Path) -> Pem {
    Pem::File(path.to_owned())
}

/// A server on this port, or on any for 0.
async fn serve_store(files: &Files, port: u16) -> Server {
    let tls = ServerTls {
        cert: pem(&files.path("server-cert")),
        key: pem(&files.path("server-key")),
        client_auth: ClientAuth::RequireAndVerify,
        client_ca: Some(pem(&files.path("server-ca"))),
        ..ServerTls::default()
    };
    let data = Dataset { external: Labels::from_pairs([("region", "eu")]), series: Vec::new() };
    process(Arc::new(MemoryStore::new(&data)), Some(tls), port).await
}

fn client(server: &Server, tls: TlsSettings) -> GrpcStore {
    let address = format!("localhost:{}", server.grpc_addr().unwrap().port());
    let settings = ClientSettings { tls: Some(tls), ..ClientSettings::new(address) };
    GrpcStore::new(&settings).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotated_fleet_goes_on_without_a_restart() {
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let files = Files::new();
    files.rotate_server(&old);
    files.rotate_client(&old);
    let server = serve_store(&files, 0).await;
    let store = client(&server, files.client());
    store.info().await.unwrap();

    // the server has new certificates and closes its connections; the client has old ones
    files.rotate_server(&new);
    let port = server.grpc_addr().unwrap().port();
    server.stop().await;
    let server = serve_store(&files, port).await;
    assert!(store.info().await.is_err());

    // half of the client's files are new: the last good ones stay
    let pair = new.issue(&["client"]);
    files.write("cert", &pair.cert);
    assert!(store.info().await.is_err());
    files.write("key", &pair.key);
    files.write("ca", &new.pem());
    eventually(&store).await;
    server.stop().await;
}

/// tonic waits a little before it connects again.
async fn eventually(store: &GrpcStore) {
    let ask = async {
        while store.info().await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), ask).await.expect("a connection");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_connection_outlives_rotation_and_the_next_one_takes_it() {
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let files = Files::new();
    files.rotate_server(&old);
    files.rotate_client(&old);
    let server = serve_store(&files, 0).await;
    let held = client(&server, files.client());
    held.info().await.unwrap();
    files.rotate_server(&new);
    files.rotate_client(&new);
    held.info().await.unwrap();
    client(&server, files.client()).info().await.unwrap();
    files.rotate_client(&old);
    assert!(client(&server, files.client()).info().await.is_err());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whom_a_client_believes() {
    let (ca, foreign) = (Authority::new("ca"), Authority::new("foreign"));
    let files = Files::new();
    files.rotate_server(&ca);
    files.rotate_client(&ca);
    files.write("foreign", &foreign.pem());
    let server = serve_store(&files, 0).await;
    let named = |name: &str| TlsSettings { server_name: name.to_owned(), ..files.client() };
    let trusting = |ca: &str| TlsSettings { ca: Some(files.path(ca)), ..files.client() };
    let careless = TlsSettings { skip_verify: true, ..trusting("foreign") };
    let anonymous = TlsSettings { cert: None, key: None, ..files.client() };
    let table = [
        (files.client(), true),
        (named("localhost"), true),
        (named("other.example"), false),
        (trusting("foreign"), false),
        (careless, true),
        (anonymous, false),
        (TlsSettings { min_version: TlsVersion::V1_2, ..files.client() }, true),
    ];
    for (tls, expected) in table {
        let answer = client(&server, tls.clone()).info().await;
        assert_eq!(answer.is_ok(), expected, "{tls:?}: {answer:?}");
    }
    server.stop().await;
}

#[tokio::test]
async fn broken_files_are_named() {
    let files = Files::new();
    files.rotate_client(&Authority::new("ca"));
    let pair = Authority::new("ca").issue(&["other"]);
    files.write("other-key", &pair.key);
    files.write("half", &pair.key[..pair.key.len() / 2]);
    files.write("empty", "");
    let path = |name: &str| Some(files.path(name));
    let table = [
        (TlsSettings { ca: path("none"), ..files.client() }, "none"),
        (TlsSettings { ca: path("empty"), ..files.client() }, "empty"),
        (TlsSettings { cert: path("empty"), ..files.client() }, "empty"),
        (TlsSettings { key: path("half"), ..files.client() }, "half"),
        (TlsSettings { key: path("other-key"), ..files.client() }, "certificate"),
        (TlsSettings { server_name: "a b".to_owned(), ..files.client() }, "a b"),
    ];
    for (tls, part) in table {
        let settings = ClientSettings { tls: Some(tls), ..ClientSettings::new("host:1") };
        let text = in_one_line(&GrpcStore::new(&settings).unwrap_err()).to_string();
        assert!(text.starts_with("endpoint host:1: ") && text.contains(part), "{text}");
        assert!(!text.contains("PRIVATE"), "{text}");
    }
}
