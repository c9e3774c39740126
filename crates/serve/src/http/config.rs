//! The web configuration file of `--http.config`, in the format of Prometheus' exporter toolkit.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use model::secret::Unquoted;
use serde::Deserialize;

use super::limit::Rate;
use super::users::PasswordHash;
use crate::tls::{ClientAuth, Pem, ServerTls, TlsChoice, TlsVersion};
use crate::{Error, Kind, Result};

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct WebConfigFile {
    tls_server_config: Option<Tls>,
    http_server_config: Option<HttpServer>,
    basic_auth_users: Option<BTreeMap<String, String>>,
    rate_limit: Option<RateLimit>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Tls {
    cert: String,
    key: String,
    client_ca: String,
    cert_file: PathBuf,
    key_file: PathBuf,
    client_ca_file: PathBuf,
    client_auth_type: String,
    client_allowed_sans: Option<Vec<String>>,
    min_version: Option<String>,
    max_version: Option<String>,
    cipher_suites: Option<Vec<String>>,
    curve_preferences: Option<Vec<String>>,
    prefer_server_cipher_suites: Option<bool>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").field("cert_file", &self.cert_file).finish_non_exhaustive()
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct HttpServer {
    http2: Option<bool>,
    headers: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RateLimit {
    interval: Option<serde_yaml_ng::Value>,
    burst: u32,
}

/// What the file says.
#[derive(Debug, Default)]
pub(super) struct WebConfig {
    pub(super) tls: Option<ServerTls>,
    pub(super) without_http2: bool,
    pub(super) headers: HeaderMap,
    /// Nobody has to log in when empty.
    pub(super) users: BTreeMap<String, PasswordHash>,
    pub(super) rate: Option<Rate>,
}

/// The headers that may be set, with the values they may have; none listed means any.
const HEADERS: [(&str, &[&str]); 5] = [
    ("Strict-Transport-Security", &[]),
    ("X-Content-Type-Options", &["nosniff"]),
    ("X-Frame-Options", &["deny", "sameorigin"]),
    ("X-XSS-Protection", &[]),
    ("Content-Security-Policy", &[]),
];

fn invalid<T>(text: String) -> Result<T> {
    Err(Error::new(Kind::Invalid, text))
}

/// What the text of the file means. Whatever it asks for and we cannot do is an error and never
/// ignored, because the file is there to keep people out. `path` is that of the file, beside which
/// the files that it names are.
pub(super) fn parse(text: &str, path: &Path) -> Result<WebConfig> {
    if is_empty(text) {
        return Ok(WebConfig::default());
    }
    let file: Option<WebConfigFile> = serde_yaml_ng::from_str(text)
        .map_err(|e| Error::caused(Kind::Invalid, "read its YAML", Unquoted::of(&e)))?;
    let file = file.unwrap_or_default();
    let http = file.http_server_config.unwrap_or_default();
    let users = file.basic_auth_users.unwrap_or_default();
    let hashed = |(name, hash): (String, String)| {
        let hash = PasswordHash::parse(&hash).map_err(|e| {
            Error::caused(Kind::Invalid, format!("basic_auth_users: the hash of {name:?}"), e)
        })?;
        Ok((name, hash))
    };
    Ok(WebConfig {
        tls: file.tls_server_config.map(|tls| server_tls(tls, path)).transpose()?.flatten(),
        without_http2: http.http2 == Some(false),
        headers: headers(http.headers.unwrap_or_default())?,
        users: users.into_iter().map(hashed).collect::<Result<_>>()?,
        rate: file.rate_limit.map(rate).transpose()?.flatten(),
    })
}

/// Whether a file asks for nothing because nothing is in it: it may be about to be written.
pub(super) fn is_empty(text: &str) -> bool {
    text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#'))
}

fn headers(given: BTreeMap<String, String>) -> Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    for (name, value) in given {
        let Some((_, values)) = HEADERS.iter().find(|(known, _)| *known == name) else {
            let known: Vec<&str> = HEADERS.iter().map(|(known, _)| *known).collect();
            return invalid(format!(
                "http_server_config: the header {name:?} cannot be set; {} can",
                known.join(", ")
            ));
        };
        if !values.is_empty() && !values.contains(&value.as_str()) {
            return invalid(format!(
                "http_server_config: {name} is {value:?}; it may be {}",
                values.join(" or ")
            ));
        }
        if value.is_empty() {
            continue;
        }
        let attempt = || format!("http_server_config: the value of {name}");
        let parsed = HeaderValue::from_str(&value)
            .map_err(|e| Error::caused(Kind::Invalid, attempt(), e))?;
        let name = HeaderName::from_bytes(name.as_bytes())
            .map_err(|e| Error::caused(Kind::Invalid, attempt(), e))?;
        headers.insert(name, parsed);
    }
    Ok(headers)
}

fn rate(limit: RateLimit) -> Result<Option<Rate>> {
    let interval = match limit.interval {
        None => return Ok(None),
        // Go writes durations without a unit in nanoseconds
        Some(serde_yaml_ng::Value::Number(n)) => n.as_u64().map(Duration::from_nanos),
        Some(serde_yaml_ng::Value::String(text)) => go_duration(&text),
        Some(_) => None,
    };
    let Some(interval) = interval else {
        return invalid("rate_limit: interval must be a duration such as 100ms or 1s".to_owned());
    };
    Ok((!interval.is_zero()).then_some(Rate { interval, burst: limit.burst }))
}

/// A duration as Go writes it: `1.5s`, `1m30s`, `250ms`, `0`.
fn go_duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let units = [
            ("ns", 1e-9),
            ("us", 1e-6),
            ("µs", 1e-6),
            ("ms", 1e-3),
            ("s", 1.0),
            ("m", 60.0),
            ("h", 3600.0),
        ];
        let (unit, seconds) = units.iter().find(|(unit, _)| rest.starts_with(unit))?;
        rest = &rest[unit.len()..];
        total = total.checked_add(Duration::try_from_secs_f64(number * seconds).ok()?)?;
    }
    (!text.is_empty()).then_some(total)
}

/// Nothing when the section asks for no TLS, as the exporter toolkit decides it.
fn server_tls(tls: Tls, path: &Path) -> Result<Option<ServerTls>> {
    // relative to the file, as the exporter toolkit reads them
    let beside = |file: PathBuf| path.parent().map(|dir| dir.join(&file)).unwrap_or(file);
    let pem = |inline: String, file: PathBuf| match (inline.is_empty(), file.as_os_str()) {
        (_, name) if !name.is_empty() => Some(Pem::File(beside(file))),
        (false, _) => Some(Pem::Inline(inline)),
        (true, _) => None,
    };
    let (cert, key) = (pem(tls.cert, tls.cert_file), pem(tls.key, tls.key_file));
    let client_ca = pem(tls.client_ca, tls.client_ca_file);
    if cert.is_none() && key.is_none() && client_ca.is_none() && tls.client_auth_type.is_empty() {
        return match tls.client_allowed_sans {
            None => Ok(None),
            Some(_) => missing("cert_file or cert"),
        };
    }
    let Some(cert) = cert else { return missing("cert_file or cert") };
    let Some(key) = key else { return missing("key_file or key") };
    let client_auth = client_auth(&tls.client_auth_type)?;
    if client_auth.verifies() && client_ca.is_none() {
        return missing("client_ca_file or client_ca, which client_auth_type needs");
    }
    let unused = client_ca.is_some() || tls.client_allowed_sans.is_some();
    if client_auth == ClientAuth::None && unused {
        return missing(
            "client_auth_type: without it nobody is asked for the certificate that client_ca \
             or client_allowed_sans are for; use RequireAndVerifyClientCert",
        );
    }
    let choice = TlsChoice {
        min_version: version("min_version", tls.min_version.as_deref(), TlsVersion::V1_2)?,
        max_version: version("max_version", tls.max_version.as_deref(), TlsVersion::V1_3)?,
        cipher_suites: tls.cipher_suites.unwrap_or_default(),
        curves: tls.curve_preferences.unwrap_or_default(),
    };
    choice.check().map_err(|e| Error::caused(Kind::Invalid, "tls_server_config", e))?;
    Ok(Some(ServerTls {
        cert,
        key,
        client_auth,
        client_ca,
        client_allowed_sans: tls.client_allowed_sans,
        choice,
        prefer_server_suites: tls.prefer_server_cipher_suites.unwrap_or(true),
    }))
}

fn missing<T>(what: &str) -> Result<T> {
    invalid(format!("tls_server_config lacks {what}"))
}

fn client_auth(name: &str) -> Result<ClientAuth> {
    Ok(match name {
        "" | "NoClientCert" => ClientAuth::None,
        "RequestClientCert" => ClientAuth::Request,
        // the second is an old name of the exporter toolkit
        "RequireAnyClientCert" | "RequireClientCert" => ClientAuth::RequireAny,
        "VerifyClientCertIfGiven" => ClientAuth::VerifyIfGiven,
        "RequireAndVerifyClientCert" => ClientAuth::RequireAndVerify,
        other => {
            return invalid(format!(
                "tls_server_config: client_auth_type {other:?} is unknown; use NoClientCert, \
                 RequestClientCert, RequireAnyClientCert, VerifyClientCertIfGiven or \
                 RequireAndVerifyClientCert"
            ));
        }
    })
}

fn version(field: &str, name: Option<&str>, default: TlsVersion) -> Result<TlsVersion> {
    match name {
        None => Ok(default),
        Some("TLS13") => Ok(TlsVersion::V1_3),
        Some("TLS12") => Ok(TlsVersion::V1_2),
        Some(old @ ("TLS10" | "TLS11")) if field == "min_version" => {
            tracing::warn!(
                min_version = old,
                "tls before 1.2 is insecure and not spoken; using 1.2"
            );
            Ok(TlsVersion::V1_2)
        }
        Some(other) => invalid(format!(
            "tls_server_config: {field} {other:?} is not available; use TLS12 or TLS13"
        )),
    }
}

#[cfg(test)]
mod tests;
