//! The web configuration file of `--http.config`, in the format of Prometheus' exporter toolkit.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::{Error, Kind, Result, TlsFiles, TlsVersion};

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct WebConfigFile {
    tls_server_config: Option<Tls>,
    http_server_config: serde_yaml_ng::Mapping,
    basic_auth_users: serde_yaml_ng::Mapping,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Tls {
    cert_file: PathBuf,
    key_file: PathBuf,
    client_ca_file: Option<PathBuf>,
    client_auth_type: String,
    min_version: Option<String>,
    prefer_server_cipher_suites: bool,
}

/// Reads the file. What it asks for and we cannot do is an error and never ignored, because the
/// file is there to keep people out.
pub(crate) fn web_config(path: &Path) -> Result<Option<TlsFiles>> {
    let named = || format!("http config {}", path.display());
    let failed = |reason: String| Error::new(Kind::Invalid, format!("{}: {reason}", named()));
    let text =
        std::fs::read_to_string(path).map_err(|e| Error::caused(Kind::Invalid, named(), e))?;
    if text.trim().is_empty() {
        return Ok(None);
    }
    let file: WebConfigFile =
        serde_yaml_ng::from_str(&text).map_err(|e| Error::caused(Kind::Invalid, named(), e))?;
    if !file.basic_auth_users.is_empty() {
        return Err(failed(
            "basic_auth_users is not supported yet; put a proxy in front that authenticates"
                .to_owned(),
        ));
    }
    if !file.http_server_config.is_empty() {
        tracing::warn!(path = %path.display(), "http_server_config has no effect");
    }
    let Some(tls) = file.tls_server_config else { return Ok(None) };
    if tls.prefer_server_cipher_suites {
        tracing::debug!("prefer_server_cipher_suites has no effect with TLS 1.3");
    }
    let require_client = match tls.client_auth_type.as_str() {
        "" | "NoClientCert" => tls.client_ca_file.is_some(),
        "RequireAndVerifyClientCert" => true,
        other => {
            return Err(failed(format!(
                "client_auth_type {other} is not supported; use RequireAndVerifyClientCert"
            )));
        }
    };
    if require_client && tls.client_ca_file.is_none() {
        return Err(failed("client_auth_type needs client_ca_file".to_owned()));
    }
    let min_version = match tls.min_version.as_deref() {
        None | Some("TLS12") => TlsVersion::V1_2,
        Some("TLS13") => TlsVersion::V1_3,
        Some(other) => {
            return Err(failed(format!(
                "min_version {other} is not supported; use TLS12 or TLS13"
            )));
        }
    };
    // relative to the file, as the exporter toolkit reads them
    let beside = |file: PathBuf| path.parent().map(|dir| dir.join(&file)).unwrap_or(file);
    Ok(Some(TlsFiles {
        cert: beside(tls.cert_file),
        key: beside(tls.key_file),
        client_ca: tls.client_ca_file.map(beside),
        min_version,
    }))
}

#[cfg(test)]
mod tests {
    use model::error::in_one_line;

    use super::*;

    fn parse(text: &str) -> Result<Option<TlsFiles>> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("web.yml");
        std::fs::write(&path, text).unwrap();
        web_config(&path)
    }

    #[test]
    fn tls_files_are_beside_the_file() {
        let files =
            parse("tls_server_config: {cert_file: a.pem, key_file: /k.pem}").unwrap().unwrap();
        assert!(files.cert.is_absolute() && files.cert.ends_with("a.pem"));
        assert_eq!(files.key, Path::new("/k.pem"));
        assert_eq!(files.min_version, TlsVersion::V1_2);
    }

    fn refusal(text: &str) -> String {
        in_one_line(&parse(text).unwrap_err()).to_string()
    }

    #[test]
    fn what_would_weaken_security_is_refused() {
        assert!(refusal("basic_auth_users: {alice: x}").contains("basic_auth_users"));
        assert!(parse("tls_server_config: {client_auth_type: RequestClientCert}").is_err());
        assert!(refusal("tls_server_confg: {}").contains("tls_server_confg"));
        assert!(parse("").unwrap().is_none());
    }
}
