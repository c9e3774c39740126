//! An HTTP client with credentials and TLS, from a YAML configuration in Thanos' format.

use std::path::{Path, PathBuf};
use std::time::Duration;

use model::secret::shown_path;
use reqwest::RequestBuilder;

use crate::config::{Section, TlsConfig, invalid, parse};
use crate::{Error, Kind, Result};

const KEYS: [&str; 5] =
    ["basic_auth", "bearer_token", "bearer_token_file", "tls_config", "transport_config"];
const BASIC_AUTH_KEYS: [&str; 3] = ["username", "password", "password_file"];
const TLS_KEYS: [&str; 5] =
    ["ca_file", "cert_file", "key_file", "server_name", "insecure_skip_verify"];
const TRANSPORT_KEYS: [&str; 9] = [
    "max_idle_conns",
    "max_idle_conns_per_host",
    "idle_conn_timeout",
    "response_header_timeout",
    "expect_continue_timeout",
    "max_conns_per_host",
    "disable_compression",
    "tls_handshake_timeout",
    "tls_session_cache_size",
];

/// How long a server may send nothing: what a query may take in Prometheus by default.
const READ_TIMEOUT: Duration = Duration::from_secs(120);

/// A client that shows its credentials with each request.
#[derive(Clone)]
pub struct HttpClient {
    client: reqwest::Client,
    auth: Auth,
}

impl std::fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HttpClient")
    }
}

#[derive(Clone)]
enum Auth {
    None,
    Basic { username: String, password: Secret },
    Bearer(Secret),
}

/// Given inline, or in a file that is read for each request, so that it can be rotated.
#[derive(Clone)]
enum Secret {
    Inline(String),
    File(PathBuf),
}

impl Secret {
    fn read(&self) -> Result<String> {
        match self {
            Secret::Inline(text) => Ok(text.clone()),
            Secret::File(path) => {
                let text = std::fs::read_to_string(path)
                    .map_err(|e| Error::local("reading secret", path, e))?;
                Ok(text.trim().to_owned())
            }
        }
    }
}

impl HttpClient {
    /// Reads a YAML document; empty = no credentials, and the machine's root certificates.
    ///
    /// # Errors
    /// `Invalid`, naming the key.
    pub fn new(config: &str) -> Result<HttpClient> {
        // Fails when the process has already chosen one, which is fine.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let root = parse(config)?;
        let root = Section::new("", root.as_ref(), &KEYS)?;
        let builder = reqwest::Client::builder()
            .connect_timeout(Duration::from_secs(10))
            .pool_idle_timeout(Duration::from_secs(90))
            .read_timeout(READ_TIMEOUT)
            .tcp_nodelay(true)
            .user_agent(concat!("drumlin/", env!("CARGO_PKG_VERSION")));
        let tls = TlsConfig::of(&root.section("tls_config", &TLS_KEYS)?)?;
        let builder = with_tls(builder, &tls)?;
        let transport = root.section("transport_config", &TRANSPORT_KEYS)?;
        if transport.present() {
            tracing::warn!("transport_config of the HTTP client has no effect");
        }
        let client =
            builder.build().map_err(|e| Error::from(e).context("building the HTTP client"))?;
        Ok(HttpClient { client, auth: auth(&root)? })
    }

    pub(crate) fn get(&self, url: &str) -> Result<RequestBuilder> {
        self.signed(self.client.get(url))
    }

    pub(crate) fn post(&self, url: &str) -> Result<RequestBuilder> {
        self.signed(self.client.post(url))
    }

    fn signed(&self, request: RequestBuilder) -> Result<RequestBuilder> {
        Ok(match &self.auth {
            Auth::None => request,
            Auth::Basic { username, password } => {
                request.basic_auth(username, Some(password.read()?))
            }
            Auth::Bearer(token) => request.bearer_auth(token.read()?),
        })
    }
}

fn with_tls(
    mut builder: reqwest::ClientBuilder,
    tls: &TlsConfig,
) -> Result<reqwest::ClientBuilder> {
    if tls.insecure_skip_verify.unwrap_or_default() {
        builder = builder.danger_accept_invalid_certs(true).tls_built_in_root_certs(false);
    }
    if let Some(path) = &tls.ca_file {
        let pem = read("tls_config.ca_file", path)?;
        let certificates = reqwest::Certificate::from_pem_bundle(&pem).map_err(|e| {
            Error::caused(Kind::Invalid, format!("tls_config.ca_file {}", shown_path(path)), e)
        })?;
        builder = builder.tls_built_in_root_certs(false);
        builder =
            certificates.into_iter().fold(builder, reqwest::ClientBuilder::add_root_certificate);
    }
    match (&tls.cert_file, &tls.key_file) {
        (Some(cert), Some(key)) => {
            let mut pem = read("tls_config.cert_file", cert)?;
            pem.extend(read("tls_config.key_file", key)?);
            let identity = reqwest::Identity::from_pem(&pem).map_err(|e| {
                let (cert, key) = (shown_path(cert), shown_path(key));
                let attempt = format!("tls_config.cert_file {cert} and key_file {key}");
                Error::caused(Kind::Invalid, attempt, e)
            })?;
            builder = builder.identity(identity);
        }
        (None, None) => {}
        _ => {
            return Err(invalid(
                "tls_config needs cert_file and key_file, both or none".to_owned(),
            ));
        }
    }
    if tls.server_name.is_some() {
        return Err(invalid(
            "tls_config.server_name is not supported; use the name in the URL".to_owned(),
        ));
    }
    Ok(builder)
}

fn read(key: &str, path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|e| Error::local(&format!("reading {key}"), path, e))
}

fn auth(root: &Section<'_>) -> Result<Auth> {
    let basic = root.section("basic_auth", &BASIC_AUTH_KEYS)?;
    let bearer = secret(root, "bearer_token", "bearer_token_file")?;
    if basic.present() {
        if bearer.is_some() {
            return Err(invalid("basic_auth and bearer_token exclude each other".to_owned()));
        }
        let username = basic.text("username")?.unwrap_or_default();
        let password =
            secret(&basic, "password", "password_file")?.unwrap_or(Secret::Inline(String::new()));
        return Ok(Auth::Basic { username, password });
    }
    Ok(bearer.map_or(Auth::None, Auth::Bearer))
}

fn secret(section: &Section<'_>, inline: &str, file: &str) -> Result<Option<Secret>> {
    match (section.text(inline)?, section.text(file)?) {
        (Some(_), Some(_)) => Err(invalid(format!("{inline} and {file} exclude each other"))),
        (Some(text), None) => Ok(Some(Secret::Inline(text))),
        (None, Some(path)) => Ok(Some(Secret::File(PathBuf::from(path)))),
        (None, None) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(config: &str) -> Option<String> {
        let client = HttpClient::new(config).unwrap();
        let request = client.get("http://localhost/").unwrap().build().unwrap();
        request.headers().get("authorization").map(|v| v.to_str().unwrap().to_owned())
    }

    #[test]
    fn credentials_are_shown() {
        assert_eq!(header(""), None);
        assert_eq!(header("basic_auth: {username: a, password: b}").as_deref(), Some("Basic YTpi"));
        assert_eq!(header("bearer_token: xyz").as_deref(), Some("Bearer xyz"));
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "from-file\n").unwrap();
        let config = format!("bearer_token_file: {}", file.path().display());
        assert_eq!(header(&config).as_deref(), Some("Bearer from-file"));
    }

    #[test]
    fn secrets_in_place_of_a_path_are_not_shown() {
        for key in ["password_file: hush", "password_file: /hush"] {
            let client = HttpClient::new(&format!("basic_auth: {{username: a, {key}}}")).unwrap();
            let error = client.get("http://localhost/").unwrap_err();
            let shown = model::error::in_one_line(&error).to_string();
            assert!(shown.starts_with("reading secret <hidden"), "{shown}");
            assert!(!shown.contains("hush"), "{shown}");
        }
        let error = HttpClient::new("tls_config: {ca_file: hush}").unwrap_err();
        let shown = model::error::in_one_line(&error).to_string();
        assert!(shown.contains("tls_config.ca_file") && !shown.contains("hush"), "{shown}");
        let url = "ftp://a:hush@b/";
        let http = HttpClient::new("").unwrap();
        let client = crate::PrometheusClient::new(url, http.clone(), model::Budget::unlimited());
        let shown = client.unwrap_err().to_string();
        assert_eq!(shown, "\"ftp://<hidden>@b/\" is not an HTTP URL");
        let url = "http://a:hush@b:1/x";
        let client = crate::PrometheusClient::new(url, http, model::Budget::unlimited()).unwrap();
        assert!(!format!("{client:?} {}", client.name()).contains("hush"));
    }

    #[test]
    fn what_the_operator_passes_is_understood() {
        assert!(HttpClient::new(r#"{"tls_config": {"insecure_skip_verify":true}}"#).is_ok());
    }

    #[test]
    fn unknown_keys_are_named_with_the_nearest() {
        let error = |config: &str| HttpClient::new(config).unwrap_err().to_string();
        assert_eq!(
            error("basic_aut: {}"),
            r#"unknown key "basic_aut"; the nearest known one is "basic_auth""#
        );
        assert!(error("tls_config: {ca: x}").contains(r#"unknown key "ca" in tls_config"#));
        assert!(error("bearer_token: [").starts_with("not valid YAML"));
        assert!(!error("bearer_token: 's3cret").contains("s3cret"));
        assert!(
            error("{bearer_token: a, basic_auth: {username: b}}").contains("exclude each other")
        );
    }
}
