//! Endpoints from text: the YAML of `--endpoint.sd-config` and the files of `--store.sd-files`.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use storeapi::client::TlsSettings;

use crate::settings::EndpointSpec;
use crate::{Error, Result};

use super::dns;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    default_client_config: Option<Client>,
    endpoints: Vec<Entry>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    address: String,
    #[serde(default)]
    strict: bool,
    #[serde(default)]
    group: bool,
    /// How Go's client balances within a group; ours has nothing to set.
    #[serde(default)]
    service_config: String,
    client_config: Option<Client>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Client {
    tls_config: Tls,
    server_name: String,
    compression: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Tls {
    enabled: Option<bool>,
    insecure_skip_verify: Option<bool>,
    cert_file: Option<PathBuf>,
    key_file: Option<PathBuf>,
    ca_file: Option<PathBuf>,
    min_version: Option<String>,
}

impl Client {
    /// TLS is on when it is enabled, or when any of its settings is given and it is not disabled.
    fn tls(&self) -> Option<TlsSettings> {
        let tls = &self.tls_config;
        let given = tls.insecure_skip_verify.is_some()
            || tls.cert_file.is_some()
            || tls.key_file.is_some()
            || tls.ca_file.is_some();
        tls.enabled.unwrap_or(given).then(|| TlsSettings {
            ca: non_empty(tls.ca_file.clone()),
            cert: non_empty(tls.cert_file.clone()),
            key: non_empty(tls.key_file.clone()),
            server_name: self.server_name.clone(),
            skip_verify: tls.insecure_skip_verify.unwrap_or_default(),
        })
    }
}

fn non_empty(path: Option<PathBuf>) -> Option<PathBuf> {
    path.filter(|path| !path.as_os_str().is_empty())
}

/// Endpoints of the YAML. `origin` names the text in errors.
pub(super) fn parse(text: &str, origin: &str) -> Result<Vec<EndpointSpec>> {
    let failed = |reason: String| Error::Config { origin: origin.to_owned(), reason };
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    let file: File = serde_yaml_ng::from_str(text).map_err(|e| failed(e.to_string()))?;
    let mut specs = Vec::with_capacity(file.endpoints.len());
    for entry in file.endpoints {
        if !entry.service_config.is_empty() {
            tracing::debug!(endpoint = entry.address, "service_config has no effect");
        }
        let client = entry.client_config.or_else(|| file.default_client_config.clone());
        if client.as_ref().is_some_and(|c| !matches!(c.compression.as_str(), "" | "none")) {
            tracing::warn!(endpoint = entry.address, "compression of requests has no effect");
        }
        if entry.strict && dns_scheme(&entry.address) && !entry.group {
            return Err(failed(format!(
                "endpoint {:?}: a strict endpoint must be one address, not a name to look up",
                entry.address
            )));
        }
        dns::validate(&entry.address)?;
        let tls = client.and_then(|client| client.tls());
        specs.push(EndpointSpec { address: entry.address, strict: entry.strict, group: entry.group, tls });
    }
    Ok(specs)
}

fn dns_scheme(address: &str) -> bool {
    address.contains('+')
}

#[derive(Deserialize)]
struct Group {
    targets: Vec<String>,
}

/// Targets of a file in the format of Prometheus' file discovery, JSON or YAML. Labels mean nothing here.
pub(super) fn read_sd_file(path: &Path) -> Result<Vec<EndpointSpec>> {
    let failed = |reason: String| Error::Read { path: path.display().to_string(), reason };
    let text = std::fs::read_to_string(path).map_err(|e| failed(e.to_string()))?;
    // JSON is YAML too
    let groups: Vec<Group> = serde_yaml_ng::from_str(&text).map_err(|e| failed(e.to_string()))?;
    let targets = groups.into_iter().flat_map(|group| group.targets);
    Ok(targets.map(|address| EndpointSpec { address, ..EndpointSpec::default() }).collect())
}

/// The files a path stands for: its last part may hold `*`.
pub(super) fn matching_files(pattern: &Path) -> Vec<PathBuf> {
    let name = pattern.file_name().and_then(|n| n.to_str()).unwrap_or_default();
    let Some((head, tail)) = name.split_once('*') else { return vec![pattern.to_owned()] };
    let folder = pattern.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let fits = |name: &str| name.len() >= head.len() + tail.len() && name.starts_with(head) && name.ends_with(tail);
    let mut files: Vec<PathBuf> = entries
        .flatten()
        .filter(|entry| entry.file_name().to_str().is_some_and(fits))
        .map(|entry| entry.path())
        .collect();
    files.sort();
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_take_their_own_tls_before_the_default() {
        let text = r"
default_client_config: {tls_config: {enabled: true, ca_file: /ca.pem}, server_name: thanos}
endpoints:
  - address: a:10901
    strict: true
  - address: dnssrv+_grpc._tcp.b
    client_config: {tls_config: {enabled: false}}
  - address: dns+c:1
    group: true
    strict: true
";
        let specs = parse(text, "test").unwrap();
        let tls = specs[0].tls.clone().unwrap();
        assert_eq!((tls.ca, tls.server_name), (Some("/ca.pem".into()), "thanos".to_owned()));
        assert!(specs[0].strict && specs[1].tls.is_none() && specs[2].group);
    }

    #[test]
    fn mistakes_are_named() {
        assert!(parse("endpoints: [{adress: a:1}]", "x.yml").unwrap_err().to_string().contains("adress"));
        assert!(parse("endpoints: [{address: a}]", "x.yml").unwrap_err().to_string().contains("host:port"));
        assert!(
            parse("endpoints: [{address: dns+a:1, strict: true}]", "x").unwrap_err().to_string().contains("strict")
        );
        assert!(parse("", "x").unwrap().is_empty());
    }

    #[test]
    fn file_discovery_reads_json_and_yaml_by_pattern() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a.json"), r#"[{"targets": ["a:1", "b:2"], "labels": {"x": "y"}}]"#).unwrap();
        std::fs::write(dir.path().join("b.yml"), "- targets: ['c:3']\n").unwrap();
        assert_eq!(matching_files(&dir.path().join("*.json")), [dir.path().join("a.json")]);
        assert_eq!(matching_files(&dir.path().join("b.yml")), [dir.path().join("b.yml")]);
        let addresses = |name| -> Vec<String> {
            read_sd_file(&dir.path().join(name)).unwrap().into_iter().map(|s| s.address).collect()
        };
        assert_eq!(addresses("a.json"), ["a:1", "b:2"]);
        assert_eq!(addresses("b.yml"), ["c:3"]);
    }
}
