use model::error::in_one_line;

use super::*;

fn read(text: &str) -> Result<WebConfig> {
    parse(text, Path::new("/etc/web.yml"))
}

fn tls(text: &str) -> ServerTls {
    let text = format!("tls_server_config: {{cert_file: a.pem, key_file: /k.pem, {text}}}");
    read(&text).unwrap().tls.unwrap()
}

fn refusal(text: &str) -> String {
    in_one_line(&read(text).unwrap_err()).to_string()
}

fn tls_refusal(text: &str) -> String {
    refusal(&format!("tls_server_config: {{cert_file: a.pem, key_file: /k.pem, {text}}}"))
}

#[test]
fn tls_files_are_beside_the_file() {
    let read = tls("client_ca_file: ca.pem, client_auth_type: VerifyClientCertIfGiven");
    assert_eq!(read.cert, Pem::File("/etc/a.pem".into()));
    assert_eq!(read.key, Pem::File("/k.pem".into()));
    assert_eq!(read.client_ca, Some(Pem::File("/etc/ca.pem".into())));
    assert_eq!(read.client_auth, ClientAuth::VerifyIfGiven);
    assert_eq!(read.choice.min_version, TlsVersion::V1_2);
    assert!(read.prefer_server_suites);
}

#[test]
fn certificates_may_stand_in_the_file() {
    let text = "tls_server_config: {cert: C, key: K, client_ca: A, \
                client_auth_type: RequireAnyClientCert, client_allowed_sans: [x]}";
    let tls = read(text).unwrap().tls.unwrap();
    let inline = |text: &str| Pem::Inline(text.to_owned());
    assert_eq!((tls.cert, tls.key), (inline("C"), inline("K")));
    assert_eq!(tls.client_ca, Some(inline("A")));
    assert_eq!(tls.client_allowed_sans, Some(vec!["x".to_owned()]));
}

#[test]
fn versions_and_suites_are_taken() {
    let all = tls("min_version: TLS10, max_version: TLS12, prefer_server_cipher_suites: false, \
                   cipher_suites: [TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256], \
                   curve_preferences: [CurveP256]");
    assert_eq!(all.choice.min_version, TlsVersion::V1_2);
    assert_eq!(all.choice.max_version, TlsVersion::V1_2);
    assert_eq!(all.choice.curves, ["CurveP256"]);
    assert_eq!(all.choice.cipher_suites.len(), 1);
    assert!(!all.prefer_server_suites);
}

#[test]
fn nothing_is_asked_of_visitors_by_an_empty_file() {
    for text in ["", "  \n", "# nothing\n", "tls_server_config: {}", "rate_limit: {burst: 3}"] {
        let web = read(text).unwrap();
        assert!(web.tls.is_none() && web.users.is_empty() && web.rate.is_none(), "{text}");
        assert!(!web.without_http2 && web.headers.is_empty(), "{text}");
    }
}

#[test]
fn what_would_weaken_security_is_refused() {
    let table = [
        (refusal("tls_server_confg: {}"), "tls_server_confg"),
        (refusal("tls_server_config: {cert_file: a}"), "key_file"),
        (refusal("tls_server_config: {key_file: a}"), "cert_file"),
        (refusal("tls_server_config: {client_auth_type: RequestClientCert}"), "cert_file"),
        (refusal("tls_server_config: {client_allowed_sans: [x]}"), "cert_file"),
        (tls_refusal("client_auth_type: Nobody"), "RequireAndVerifyClientCert"),
        (tls_refusal("client_auth_type: RequireAndVerifyClientCert"), "client_ca_file"),
        (tls_refusal("client_ca_file: ca.pem"), "client_auth_type"),
        (tls_refusal("client_allowed_sans: [x]"), "client_auth_type"),
        (tls_refusal("max_version: TLS11"), "use TLS12 or TLS13"),
        (tls_refusal("min_version: TLS13, max_version: TLS12"), "newer"),
        (tls_refusal("cipher_suites: [TLS_RSA_WITH_AES_128_CBC_SHA]"), "AES_128_GCM"),
        (tls_refusal("curve_preferences: [CurveP521]"), "X25519, CurveP256, CurveP384"),
        (refusal("basic_auth_users: {alice: x}"), "alice"),
        (refusal("http_server_config: {headers: {X-Other: a}}"), "X-Frame-Options"),
        (refusal("http_server_config: {headers: {X-Frame-Options: maybe}}"), "sameorigin"),
        (refusal("http_server_config: {headers: {X-Content-Type-Options: ''}}"), "nosniff"),
        (refusal("rate_limit: {interval: often}"), "interval"),
        (refusal("rate_limit: {interval: 1s, burst: -1}"), "burst"),
    ];
    for (text, part) in table {
        assert!(text.contains(part), "{part} is not in {text}");
    }
}

#[test]
fn headers_and_rates_are_read() {
    let web = read(
        "http_server_config: {http2: false, headers: {X-Frame-Options: deny, \
         Strict-Transport-Security: max-age=1, X-XSS-Protection: ''}}\n\
         rate_limit: {interval: 1m0.5s, burst: 7}\n",
    )
    .unwrap();
    assert!(web.without_http2);
    assert_eq!(web.headers.len(), 2);
    assert_eq!(web.headers["x-frame-options"], "deny");
    assert_eq!(web.rate, Some(Rate { interval: Duration::from_millis(60_500), burst: 7 }));
    for (text, nanos) in [("100ms", 100_000_000), ("5", 5), ("2µs", 2000), ("1h1s", 3601e9 as u64)]
    {
        let web = read(&format!("rate_limit: {{interval: {text}, burst: 1}}")).unwrap();
        assert_eq!(web.rate.unwrap().interval, Duration::from_nanos(nanos), "{text}");
    }
}

#[test]
fn secrets_in_the_wrong_place_are_not_shown() {
    for text in [
        "basic_auth_users: hunter2",
        "basic_auth_users: {alice: hunter2}",
        "basic_auth_users: {alice: [hunter2]}",
        "tls_server_config: hunter2",
        "tls_server_config: {cert_file: a, key_file: k, prefer_server_cipher_suites: hunter2}",
        "hunter2",
    ] {
        let error = refusal(text);
        assert!(!error.contains("hunter2"), "{error}");
    }
}
