//! Endpoints from the YAML of `--endpoint.sd-config`.

use serde::Deserialize;
use serde_yaml_ng::Value;
use storeapi::client::TlsSettings;
use upstream::{Section, TlsConfig};

use crate::settings::EndpointSpec;
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
    tls: Option<TlsSettings>,
    compresses: bool,
}

impl Client {
    fn parse(value: &Value) -> upstream::Result<Client> {
        let section = Section::new("client_config", Some(value), &CLIENT_KEYS)?;
        let tls = TlsConfig::of(&section.section("tls_config", &TLS_KEYS)?)?;
        let server_name = section.text("server_name")?.unwrap_or_default();
        Ok(Client {
            compresses: section.text("compression")?.is_some_and(|name| name != "none"),
            tls: tls.is_wanted().then_some(TlsSettings {
                ca: tls.ca_file,
                cert: tls.cert_file,
                key: tls.key_file,
                server_name,
                skip_verify: tls.insecure_skip_verify.unwrap_or_default(),
            }),
        })
    }
}

/// Endpoints of the YAML. `origin` names the text in errors.
pub(super) fn parse(text: &str, origin: &str) -> Result<Vec<EndpointSpec>> {
    let named = || format!("endpoint configuration {origin}");
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    let file: EndpointsFile =
        serde_yaml_ng::from_str(text).map_err(|e| Error::caused(Kind::Invalid, named(), e))?;
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
        if client.compresses {
            tracing::warn!(endpoint = entry.address, "compression of requests has no effect");
        }
        validate(&entry.address)?;
        specs.push(EndpointSpec {
            address: entry.address,
            strict: entry.strict,
            group: entry.group,
            tls: client.tls,
        });
    }
    Ok(specs)
}

#[cfg(test)]
mod tests {
    use model::error::in_one_line;

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

    fn refusal(text: &str, origin: &str) -> String {
        in_one_line(&parse(text, origin).unwrap_err()).to_string()
    }

    #[test]
    fn mistakes_are_named() {
        assert!(refusal("endpoints: [{adress: a:1}]", "x.yml").contains("adress"));
        assert!(refusal("endpoints: [{address: a}]", "x.yml").contains("host:port"));
        let unknown = "endpoints: [{address: a:1, client_config: {tls_config: {ca: x}}}]";
        assert!(refusal(unknown, "x").contains(r#"unknown key "ca" in tls_config"#));
        assert!(parse("", "x").unwrap().is_empty());
    }
}
