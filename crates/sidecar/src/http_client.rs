//! The HTTP client to Prometheus, and `--prometheus.http-client`, its YAML configuration.

use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::RequestBuilder;
use serde_yaml_ng::Value;

use crate::{Error, Kind, Result};

const KEYS: [&str; 5] = ["basic_auth", "bearer_token", "bearer_token_file", "tls_config", "transport_config"];
const BASIC_AUTH_KEYS: [&str; 3] = ["username", "password", "password_file"];
const TLS_KEYS: [&str; 5] = ["ca_file", "cert_file", "key_file", "server_name", "insecure_skip_verify"];
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

/// A client that shows its credentials with each request.
#[derive(Clone)]
pub(crate) struct HttpClient {
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
                let text = std::fs::read_to_string(path).map_err(|e| Error::local("reading secret", path, &e))?;
                Ok(text.trim().to_owned())
            }
        }
    }
}

impl HttpClient {
    /// From the YAML of `--prometheus.http-client`; empty = no credentials.
    ///
    /// # Errors
    /// `Invalid`, naming the key.
    pub(crate) fn new(config: &str) -> Result<HttpClient> {
        // Fails when the process chose one already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let root = parse(config)?;
        let root = Section::new("", root.as_ref(), &KEYS)?;
        let builder = reqwest::Client::builder()
            .connect_timeout(Duration::from_secs(10))
            .pool_idle_timeout(Duration::from_secs(90))
            .tcp_nodelay(true)
            .user_agent(concat!("drumlin/", env!("CARGO_PKG_VERSION")));
        let tls = root.section("tls_config", &TLS_KEYS)?;
        let builder = with_tls(builder, &tls)?;
        let transport = root.section("transport_config", &TRANSPORT_KEYS)?;
        if transport.present() {
            tracing::warn!("transport_config of --prometheus.http-client has no effect");
        }
        let client = builder.build().map_err(|e| Error::from(e).context("building the HTTP client for Prometheus"))?;
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
            Auth::Basic { username, password } => request.basic_auth(username, Some(password.read()?)),
            Auth::Bearer(token) => request.bearer_auth(token.read()?),
        })
    }
}

fn parse(config: &str) -> Result<Option<Value>> {
    if config.trim().is_empty() {
        return Ok(None);
    }
    // The parser's message may quote the text, and the text may hold secrets; only the place is told.
    serde_yaml_ng::from_str(config).map(Some).map_err(|e| {
        let at = e.location().map(|l| format!(" at line {}, column {}", l.line(), l.column())).unwrap_or_default();
        invalid(format!("not valid YAML{at}"))
    })
}

fn with_tls(mut builder: reqwest::ClientBuilder, tls: &Section<'_>) -> Result<reqwest::ClientBuilder> {
    if tls.boolean("insecure_skip_verify")? {
        builder = builder.danger_accept_invalid_certs(true).tls_built_in_root_certs(false);
    }
    if let Some(path) = tls.text("ca_file")? {
        let pem = read("tls_config.ca_file", &path)?;
        let certificates = reqwest::Certificate::from_pem_bundle(&pem)
            .map_err(|e| invalid(format!("tls_config.ca_file {path}: {e}")))?;
        builder = builder.tls_built_in_root_certs(false);
        builder = certificates.into_iter().fold(builder, reqwest::ClientBuilder::add_root_certificate);
    }
    match (tls.text("cert_file")?, tls.text("key_file")?) {
        (Some(cert), Some(key)) => {
            let mut pem = read("tls_config.cert_file", &cert)?;
            pem.extend(read("tls_config.key_file", &key)?);
            let identity = reqwest::Identity::from_pem(&pem)
                .map_err(|e| invalid(format!("tls_config.cert_file {cert} and key_file {key}: {e}")))?;
            builder = builder.identity(identity);
        }
        (None, None) => {}
        _ => return Err(invalid("tls_config needs cert_file and key_file, both or none".to_owned())),
    }
    if tls.text("server_name")?.is_some() {
        return Err(invalid("tls_config.server_name is not supported; use the name in --prometheus.url".to_owned()));
    }
    Ok(builder)
}

fn read(key: &str, path: &str) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|e| Error::local(&format!("reading {key}"), Path::new(path), &e))
}

fn auth(root: &Section<'_>) -> Result<Auth> {
    let basic = root.section("basic_auth", &BASIC_AUTH_KEYS)?;
    let bearer = secret(root, "bearer_token", "bearer_token_file")?;
    if basic.present() {
        if bearer.is_some() {
            return Err(invalid("basic_auth and bearer_token exclude each other".to_owned()));
        }
        let username = basic.text("username")?.unwrap_or_default();
        let password = secret(&basic, "password", "password_file")?.unwrap_or(Secret::Inline(String::new()));
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

/// A mapping of the YAML whose keys are known.
struct Section<'a> {
    name: String,
    value: Option<&'a Value>,
}

impl<'a> Section<'a> {
    fn new(name: &str, value: Option<&'a Value>, known: &[&str]) -> Result<Section<'a>> {
        let value = value.filter(|v| !v.is_null());
        if let Some(value) = value {
            let shown = if name.is_empty() { "the document" } else { name };
            let mapping = value.as_mapping().ok_or_else(|| invalid(format!("{shown} is not a mapping")))?;
            for key in mapping.keys() {
                let key = key.as_str().unwrap_or("?");
                if !known.contains(&key) {
                    return Err(unknown_key(name, key, known));
                }
            }
        }
        Ok(Section { name: name.to_owned(), value })
    }

    fn section(&self, key: &str, known: &[&str]) -> Result<Section<'a>> {
        Section::new(key, self.value.and_then(|v| v.get(key)), known)
    }

    fn present(&self) -> bool {
        self.value.is_some()
    }

    fn text(&self, key: &str) -> Result<Option<String>> {
        let Some(value) = self.value.and_then(|v| v.get(key)).filter(|v| !v.is_null()) else { return Ok(None) };
        let text = value.as_str().ok_or_else(|| invalid(format!("{} is not a string", self.path(key))))?;
        Ok(Some(text.to_owned()).filter(|t| !t.is_empty()))
    }

    fn boolean(&self, key: &str) -> Result<bool> {
        let Some(value) = self.value.and_then(|v| v.get(key)).filter(|v| !v.is_null()) else { return Ok(false) };
        value.as_bool().ok_or_else(|| invalid(format!("{} is not true or false", self.path(key))))
    }

    fn path(&self, key: &str) -> String {
        if self.name.is_empty() { key.to_owned() } else { format!("{}.{key}", self.name) }
    }
}

fn unknown_key(section: &str, key: &str, known: &[&str]) -> Error {
    let nearest = known.iter().max_by(|a, b| strsim::jaro_winkler(key, a).total_cmp(&strsim::jaro_winkler(key, b)));
    let place = if section.is_empty() { String::new() } else { format!(" in {section}") };
    invalid(format!("unknown key {key:?}{place}; the nearest known one is {:?}", nearest.unwrap_or(&"")))
}

fn invalid(reason: String) -> Error {
    Error::new(Kind::Invalid, format!("--prometheus.http-client: {reason}"))
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
    fn what_the_operator_passes_is_understood() {
        assert!(HttpClient::new(r#"{"tls_config": {"insecure_skip_verify":true}}"#).is_ok());
    }

    #[test]
    fn unknown_keys_are_named_with_the_nearest() {
        let error = |config: &str| HttpClient::new(config).unwrap_err().to_string();
        assert_eq!(
            error("basic_aut: {}"),
            r#"--prometheus.http-client: unknown key "basic_aut"; the nearest known one is "basic_auth""#
        );
        assert!(error("tls_config: {ca: x}").contains(r#"unknown key "ca" in tls_config"#));
        assert!(error("bearer_token: [").starts_with("--prometheus.http-client: not valid YAML"));
        assert!(!error("bearer_token: 's3cret").contains("s3cret"));
        assert!(error("{bearer_token: a, basic_auth: {username: b}}").contains("exclude each other"));
    }
}
