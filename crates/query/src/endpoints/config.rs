//! Endpoints from the YAML of `--endpoint.sd-config`.

use model::secret::Unquoted;
use serde::Deserialize;
use serde_yaml_ng::Value;
use storeapi::client::TlsSettings;
use upstream::{Section, TlsConfig};

use crate::settings::{EndpointSpec, EndpointTls, GrpcCompression};
use crate::{Error, Kind, Result};

use super::discovery::validate;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct EndpointsFile {
    default_client_config: Option<Value>,
    endpoints: Vec<EndpointEntry>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct EndpointEntry {
    address: String,
    #[serde(default)]
    strict: bool,
    #[serde(default)]
    group: bool,
    /// How Go's client balances within a group; ours has no such setting.
    #[serde(default)]
    service_config: String,
    client_config: Option<Value>,
}

const CLIENT_KEYS: [&str; 3] = ["tls_config", "server_name", "compression"];
const TLS_KEYS: [&str; 6] =
    ["enabled", "insecure_skip_verify", "cert_file", "key_file", "ca_file", "min_version"];

/// What a `client_config` says.
#[derive(Clone, Debug, Default)]
struct Client {
    tls: EndpointTls,
    compression: Option<GrpcCompression>,
}

impl Client {
    fn parse(value: &Value) -> upstream::Result<Client> {
        let section = Section::new("client_config", Some(value), &CLIENT_KEYS)?;
        let tls_section = section.section("tls_config", &TLS_KEYS)?;
        let tls = TlsConfig::of(&tls_section)?;
        let min_version = tls_section.text("min_version")?;
        let min_version = min_version.as_deref().map(str::parse).transpose();
        let min_version = min_version
            .map_err(|e| upstream::Error::caused(upstream::Kind::Invalid, "min_version", e))?
            .unwrap_or_default();
        let compression = section.text("compression")?;
        let compression = compression.as_deref().map(str::parse).transpose();
        let compression = compression
            .map_err(|e| upstream::Error::caused(upstream::Kind::Invalid, "compression", e))?;
        let server_name = section.text("server_name")?.unwrap_or_default();
        let tls = match (tls.is_wanted(), tls.enabled) {
            (true, _) => EndpointTls::On(TlsSettings {
                ca: tls.ca_file,
                cert: tls.cert_file,
                key: tls.key_file,
                server_name,
                skip_verify: tls.insecure_skip_verify.unwrap_or_default(),
                min_version,
            }),
            (false, Some(false)) => EndpointTls::Off,
            (false, _) => EndpointTls::AsForAll,
        };
        Ok(Client { compression, tls })
    }
}

/// Endpoints of the YAML. `origin` names the text in errors.
pub(super) fn parse(text: &str, origin: &str) -> Result<Vec<EndpointSpec>> {
    let named = || format!("endpoint configuration {origin}");
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    let file: EndpointsFile = serde_yaml_ng::from_str(text)
        .map_err(|e| Error::caused(Kind::Invalid, named(), Unquoted::of(&e)))?;
    let client_of = |value: Option<&Value>| {
        value.map(Client::parse).transpose().map_err(|e| Error::caused(Kind::Invalid, named(), e))
    };
    let default = client_of(file.default_client_config.as_ref())?.unwrap_or_default();
    let mut specs = Vec::with_capacity(file.endpoints.len());
    for entry in file.endpoints {
        if !entry.service_config.is_empty() {
            tracing::debug!(endpoint = entry.address, "service_config has no effect");
        }
        let client = client_of(entry.client_config.as_ref())?.unwrap_or_else(|| default.clone());
        validate(&entry.address)?;
        specs.push(EndpointSpec {
            address: entry.address,
            strict: entry.strict,
            group: entry.group,
            tls: client.tls,
            compression: client.compression,
        });
    }
    Ok(specs)
}

#[cfg(test)]
mod tests {
    use model::error::in_one_line;
    use serve::TlsVersion;

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
        let EndpointTls::On(tls) = &specs[0].tls else { panic!("{:?}", specs[0]) };
        assert_eq!((&tls.ca, tls.server_name.as_str()), (&Some("/ca.pem".into()), "thanos"));
        assert_eq!(tls.min_version, TlsVersion::V1_3);
        assert!(specs[0].strict && specs[1].tls == EndpointTls::Off && specs[2].group);
    }

    #[test]
    fn versions_and_compression_are_read() {
        let text = "endpoints: [{address: a:1, client_config: {compression: snappy, \
                    tls_config: {ca_file: x, min_version: '1.2'}}}, {address: b:1}]";
        let specs = parse(text, "x").unwrap();
        let EndpointTls::On(tls) = &specs[0].tls else { panic!("{:?}", specs[0]) };
        assert_eq!(tls.min_version, TlsVersion::V1_2);
        assert_eq!(specs[1].tls, EndpointTls::AsForAll);
        assert_eq!(specs[0].compression, Some(GrpcCompression::Snappy));
        assert_eq!(specs[1].compression, None);
    }

    fn refusal(text: &str, origin: &str) -> String {
        in_one_line(&parse(text, origin).unwrap_err()).to_string()
    }

    #[test]
    fn mistakes_are_named() {
        assert!(refusal("endpoints: [{adress: a:1}]", "x.yml").contains("adress"));
        assert!(refusal("endpoints: [{address: a}]", "x.yml").contains("host:port"));
        let unknown = "endpoints: [{address: a:1, client_config: {tls_config: {ca: x}}}]";
        assert!(refusal(unknown, "x").contains(r#"unknown key "ca" in tls_config"#));
        let compressed = "endpoints: [{address: a:1, client_config: {compression: zstd}}]";
        assert!(refusal(compressed, "x").contains("none or snappy"));
        let old = "endpoints: [{address: a:1, client_config: {tls_config: {min_version: '9'}}}]";
        assert!(refusal(old, "x").contains("use 1.2 or 1.3"));
        assert!(parse("", "x").unwrap().is_empty());
        assert!(!refusal("endpoints: 'http://u:hush@a'", "x").contains("hush"));
        for rest in ["", ", strict: true"] {
            let secret = format!("endpoints: [{{address: 'dns+u:hush@a:1'{rest}}}]");
            let shown = refusal(&secret, "x");
            assert!(shown.contains("<hidden>@a:1") && !shown.contains("hush"), "{shown}");
        }
    }
}
