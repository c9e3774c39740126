use super::*;

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

/// Sets a file's time of change explicitly: two writes in one tick of the file system's clock would
/// look like one.
fn copy(from: &str, to: &Path, changed_seconds: u64) {
    std::fs::copy(data(from), to).unwrap();
    let changed = std::time::UNIX_EPOCH + std::time::Duration::from_secs(changed_seconds);
    std::fs::File::options().write(true).open(to).unwrap().set_modified(changed).unwrap();
}

#[test]
fn changed_files_are_read_anew_and_broken_ones_change_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let files = TlsFiles {
        cert: dir.path().join("cert.pem"),
        key: dir.path().join("key.pem"),
        client_ca: Some(data("ca.pem")),
        min_version: TlsVersion::V1_3,
    };
    copy("server.pem", &files.cert, 1000);
    copy("server-key.pem", &files.key, 1000);
    let reloader = TlsReloader::new(files.clone(), &[b"h2"]).unwrap();
    let first = reloader.current();
    assert_eq!(first.alpn_protocols, [b"h2".to_vec()]);
    assert!(Arc::ptr_eq(&first, &reloader.current()));

    // only the certificate is new: it does not fit the key
    copy("server2.pem", &files.cert, 2000);
    assert!(Arc::ptr_eq(&first, &reloader.current()));

    copy("server2-key.pem", &files.key, 3000);
    assert!(!Arc::ptr_eq(&first, &reloader.current()));
}

#[test]
fn a_missing_or_empty_file_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let empty = dir.path().join("empty.pem");
    std::fs::write(&empty, "").unwrap();
    let with_cert =
        |cert: PathBuf| TlsFiles { cert, key: data("server-key.pem"), ..TlsFiles::default() };
    let error = TlsReloader::new(with_cert(empty), &[]).unwrap_err().to_string();
    assert!(error.contains("empty.pem") && error.contains("no certificate"), "{error}");
    let error = TlsReloader::new(with_cert(data("none.pem")), &[]).unwrap_err().to_string();
    assert!(error.contains("none.pem"), "{error}");
}
