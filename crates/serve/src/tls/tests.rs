use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use model::error::in_one_line;
use rustls::crypto::ring;
use rustls::{ClientConfig, ClientConnection, ProtocolVersion, ServerConnection, Stream};
use testkit::{Authority, CertificatePair};

use super::*;

fn inline(tls: &CertificatePair) -> ServerTls {
    ServerTls {
        cert: Pem::Inline(tls.cert.clone()),
        key: Pem::Inline(tls.key.clone()),
        choice: TlsChoice { min_version: TlsVersion::V1_2, ..TlsChoice::default() },
        ..ServerTls::default()
    }
}

fn write(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
    let file = std::fs::File::options().write(true).open(path).unwrap();
    // rotation that keeps times must be noticed all the same
    let changed = std::time::UNIX_EPOCH + Duration::from_secs(1000);
    file.set_modified(changed).unwrap();
}

#[test]
fn changed_files_are_read_anew_and_broken_ones_change_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    let ca = Authority::new("ca");
    let (old, new) = (ca.issue(&["localhost"]), ca.issue(&["localhost"]));
    write(&cert, &old.cert);
    write(&key, &old.key);
    let (pem_cert, pem_key) = (Pem::File(cert.clone()), Pem::File(key.clone()));
    let tls = ServerTls { cert: pem_cert, key: pem_key, ..ServerTls::default() };
    let reloader = reloader(tls, &[b"h2"]).unwrap();
    let first = reloader.current();
    assert_eq!(first.alpn_protocols, [b"h2".to_vec()]);
    assert!(Arc::ptr_eq(&first, &reloader.current()));

    // only the certificate is new: it does not fit the key
    write(&cert, &new.cert);
    assert!(Arc::ptr_eq(&first, &reloader.current()));
    write(&key, &new.key[..new.key.len() / 2]);
    assert!(Arc::ptr_eq(&first, &reloader.current()));
    write(&key, &new.key);
    assert!(!Arc::ptr_eq(&first, &reloader.current()));
}

#[test]
fn a_missing_or_empty_file_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let empty = dir.path().join("empty.pem");
    std::fs::write(&empty, "").unwrap();
    let with_cert = |cert: PathBuf| {
        let tls = inline(&Authority::new("ca").issue(&["localhost"]));
        let error = reloader(ServerTls { cert: Pem::File(cert), ..tls }, &[]).unwrap_err();
        in_one_line(&error).to_string()
    };
    let error = with_cert(empty);
    assert!(error.contains("empty.pem") && error.contains("no certificate"), "{error}");
    let error = with_cert(dir.path().join("none.pem"));
    assert!(error.contains("none.pem"), "{error}");
}

#[test]
fn keys_are_not_shown() {
    let tls = inline(&Authority::new("ca").issue(&["localhost"]));
    assert!(!format!("{tls:?}").contains("PRIVATE"), "{tls:?}");
}

/// What a client brings.
#[derive(Clone, Default)]
struct Visitor {
    identity: Option<CertificatePair>,
    choice: Option<TlsChoice>,
}

/// The version and suite on which both agree, or why they do not.
fn meet(tls: &ServerTls, ca: &Authority, visitor: &Visitor) -> std::result::Result<Met, String> {
    let server = reloader(tls.clone(), &[]).unwrap().current();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut socket = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let served = std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        let mut connection = ServerConnection::new(server).unwrap();
        let mut byte = [0];
        let mut stream = Stream::new(&mut connection, &mut socket);
        stream.read_exact(&mut byte)?;
        stream.write_all(&byte)
    });
    let provider = visitor
        .choice
        .clone()
        .map_or_else(ring::default_provider, |choice| choice.provider().unwrap());
    let all = TlsChoice { min_version: TlsVersion::V1_2, ..TlsChoice::default() };
    let versions = visitor.choice.clone().unwrap_or(all).versions();
    let mut roots = RootCertStore::empty();
    roots.add(certificates(ca.pem().as_bytes()).unwrap().remove(0)).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&versions)
        .unwrap()
        .with_root_certificates(roots);
    let client = match &visitor.identity {
        None => builder.with_no_client_auth(),
        Some(pair) => {
            let chain = certificates(pair.cert.as_bytes()).unwrap();
            let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
            builder.with_client_auth_cert(chain, key).unwrap()
        }
    };
    let name = "localhost".try_into().unwrap();
    let mut connection = ClientConnection::new(Arc::new(client), name).unwrap();
    let mut stream = Stream::new(&mut connection, &mut socket);
    let mut byte = [0];
    let talked = stream.write_all(b"x").and_then(|()| stream.read_exact(&mut byte));
    drop(socket);
    let served = served.join().unwrap();
    talked.and(served).map_err(|e| e.to_string())?;
    Ok(Met {
        version: connection.protocol_version().unwrap(),
        suite: format!("{:?}", connection.negotiated_cipher_suite().unwrap().suite()),
    })
}

#[derive(Debug)]
struct Met {
    version: ProtocolVersion,
    suite: String,
}

#[test]
fn who_is_let_in_by_each_policy() {
    let (ca, foreign) = (Authority::new("ca"), Authority::new("foreign"));
    let server = inline(&ca.issue(&["localhost"]));
    let names = ["prometheus.example", "10.1.2.3", "spiffe://fleet/querier", "a@b.example"];
    let visitors = [
        None,
        Some(ca.issue(&names)),
        Some(foreign.issue(&names)),
        Some(ca.issue(&["other.example"])),
    ];
    let table = [
        // (policy, allowed names, [nothing, good, foreign, good with another name])
        (ClientAuth::None, None, [true, true, true, true]),
        (ClientAuth::Request, None, [true, true, true, true]),
        (ClientAuth::RequireAny, None, [false, true, true, true]),
        (ClientAuth::VerifyIfGiven, None, [true, true, false, true]),
        (ClientAuth::RequireAndVerify, None, [false, true, false, true]),
        (ClientAuth::Request, Some("10.1.2.3"), [false, true, true, false]),
        (ClientAuth::RequireAny, Some("a@b.example"), [false, true, true, false]),
        (ClientAuth::VerifyIfGiven, Some("spiffe://fleet/querier"), [false, true, false, false]),
        (ClientAuth::RequireAndVerify, Some("prometheus.example"), [false, true, false, false]),
        (ClientAuth::RequireAndVerify, Some("example"), [false, false, false, false]),
        (ClientAuth::RequireAndVerify, Some("other.example"), [false, false, false, true]),
    ];
    for (client_auth, san, expected) in table {
        for max_version in [TlsVersion::V1_2, TlsVersion::V1_3] {
            let tls = ServerTls {
                client_auth,
                client_ca: Some(Pem::Inline(ca.pem())),
                client_allowed_sans: san.map(|san| vec!["unused.example".into(), san.into()]),
                choice: TlsChoice { max_version, ..server.choice.clone() },
                ..server.clone()
            };
            let let_in = visitors.clone().map(|identity| {
                meet(&tls, &ca, &Visitor { identity, ..Visitor::default() }).is_ok()
            });
            assert_eq!(let_in, expected, "{client_auth:?} {san:?} {max_version:?}");
        }
    }
}

#[test]
fn versions_and_suites_are_those_chosen() {
    const GCM: &str = "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256";
    const CHACHA: &str = "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256";
    let ca = Authority::new("ca");
    let server = inline(&ca.issue(&["localhost"]));
    let choice = |min_version, max_version, suites: &[&str]| TlsChoice {
        min_version,
        max_version,
        cipher_suites: suites.iter().map(|name| (*name).to_owned()).collect(),
        curves: Vec::new(),
    };
    use TlsVersion::{V1_2, V1_3};
    let all = choice(V1_2, V1_3, &[]);
    let table = [
        (all.clone(), all.clone(), Some((ProtocolVersion::TLSv1_3, None))),
        (choice(V1_2, V1_2, &[]), all.clone(), Some((ProtocolVersion::TLSv1_2, None))),
        (choice(V1_3, V1_3, &[]), choice(V1_2, V1_2, &[]), None),
        (choice(V1_2, V1_2, &[]), choice(V1_3, V1_3, &[]), None),
        (choice(V1_2, V1_2, &[GCM]), all.clone(), Some((ProtocolVersion::TLSv1_2, Some(GCM)))),
        (choice(V1_2, V1_2, &[CHACHA]), choice(V1_2, V1_2, &[GCM]), None),
        (
            choice(V1_2, V1_2, &[CHACHA, GCM]),
            choice(V1_2, V1_2, &[GCM, CHACHA]),
            Some((ProtocolVersion::TLSv1_2, Some(CHACHA))),
        ),
        (choice(V1_2, V1_3, &[GCM]), all, Some((ProtocolVersion::TLSv1_3, None))),
    ];
    for (ours, theirs, expected) in table {
        let tls = ServerTls { choice: ours.clone(), prefer_server_suites: true, ..server.clone() };
        let visitor = Visitor { choice: Some(theirs.clone()), ..Visitor::default() };
        let met = meet(&tls, &ca, &visitor);
        match (expected, met) {
            (None, met) => assert!(met.is_err(), "{ours:?} {theirs:?}: {met:?}"),
            (Some((version, suite)), met) => {
                let met = met.unwrap_or_else(|e| panic!("{ours:?} {theirs:?}: {e}"));
                assert_eq!(met.version, version, "{ours:?} {theirs:?}");
                assert!(suite.is_none_or(|suite| met.suite == suite), "{ours:?}: {met:?}");
            }
        }
    }
}

#[test]
fn curves_are_those_chosen() {
    let ca = Authority::new("ca");
    let curves = |name: &str| TlsChoice {
        min_version: TlsVersion::V1_2,
        curves: vec![name.to_owned()],
        ..TlsChoice::default()
    };
    let tls = ServerTls { choice: curves("CurveP384"), ..inline(&ca.issue(&["localhost"])) };
    let visitor = |name| Visitor { choice: Some(curves(name)), ..Visitor::default() };
    assert!(meet(&tls, &ca, &visitor("CurveP384")).is_ok());
    assert!(meet(&tls, &ca, &visitor("X25519")).is_err());
}
