//! YAML that says how to reach other servers: keys that are known, and TLS.

use std::path::PathBuf;

use serde_yaml_ng::Value;

use crate::{Error, Kind, Result};

/// What a section `tls_config` says; which of its keys exist depends on the client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsConfig {
    /// `None`: the machine's root certificates are trusted.
    pub ca_file: Option<PathBuf>,
    /// Certificate and key to show to the server; one without the other is useless.
    pub cert_file: Option<PathBuf>,
    pub key_file: Option<PathBuf>,
    pub server_name: Option<String>,
    /// Accept any certificate.
    pub insecure_skip_verify: Option<bool>,
    pub enabled: Option<bool>,
}

impl TlsConfig {
    /// # Errors
    /// `Invalid`, naming the key.
    pub fn of(section: &Section<'_>) -> Result<TlsConfig> {
        let path = |key| section.text(key).map(|text| text.map(PathBuf::from));
        Ok(TlsConfig {
            ca_file: path("ca_file")?,
            cert_file: path("cert_file")?,
            key_file: path("key_file")?,
            server_name: section.text("server_name")?,
            insecure_skip_verify: section.boolean("insecure_skip_verify")?,
            enabled: section.boolean("enabled")?,
        })
    }

    /// Whether TLS is to be used where it need not be: when it is enabled, or any of its settings
    /// is given and it is not disabled.
    pub fn is_wanted(&self) -> bool {
        let files = [&self.ca_file, &self.cert_file, &self.key_file];
        let given = self.insecure_skip_verify.is_some() || files.iter().any(|file| file.is_some());
        self.enabled.unwrap_or(given)
    }
}

/// The document; `None` when it is empty.
pub(crate) fn parse(config: &str) -> Result<Option<Value>> {
    if config.trim().is_empty() {
        return Ok(None);
    }
    // The parser's message may quote the text, and the text may hold secrets; only the position is
    // reported.
    serde_yaml_ng::from_str(config).map(Some).map_err(|e| {
        let at = e
            .location()
            .map(|l| format!(" at line {}, column {}", l.line(), l.column()))
            .unwrap_or_default();
        invalid(format!("not valid YAML{at}"))
    })
}

/// A mapping of the YAML whose keys are known.
#[derive(Debug)]
pub struct Section<'a> {
    name: String,
    value: Option<&'a Value>,
}

impl<'a> Section<'a> {
    /// `value` as the section `name`, which is empty for the whole document.
    ///
    /// # Errors
    /// `Invalid` when it is not a mapping, or has an unknown key.
    pub fn new(name: &str, value: Option<&'a Value>, known: &[&str]) -> Result<Section<'a>> {
        let value = value.filter(|v| !v.is_null());
        if let Some(value) = value {
            let shown = if name.is_empty() { "the document" } else { name };
            let mapping =
                value.as_mapping().ok_or_else(|| invalid(format!("{shown} is not a mapping")))?;
            for key in mapping.keys() {
                let key = key.as_str().unwrap_or("?");
                if !known.contains(&key) {
                    return Err(unknown_key(name, key, known));
                }
            }
        }
        Ok(Section { name: name.to_owned(), value })
    }

    /// The section of this key; it need not be there.
    pub fn section(&self, key: &str, known: &[&str]) -> Result<Section<'a>> {
        Section::new(key, self.value.and_then(|v| v.get(key)), known)
    }

    /// Whether the document has this section.
    pub fn present(&self) -> bool {
        self.value.is_some()
    }

    /// A text; an empty one counts as absent.
    pub fn text(&self, key: &str) -> Result<Option<String>> {
        let Some(value) = self.value.and_then(|v| v.get(key)).filter(|v| !v.is_null()) else {
            return Ok(None);
        };
        let text =
            value.as_str().ok_or_else(|| invalid(format!("{} is not a string", self.path(key))))?;
        Ok(Some(text.to_owned()).filter(|t| !t.is_empty()))
    }

    /// Whether it is true; `None` where the key is absent.
    pub fn boolean(&self, key: &str) -> Result<Option<bool>> {
        let Some(value) = self.value.and_then(|v| v.get(key)).filter(|v| !v.is_null()) else {
            return Ok(None);
        };
        value
            .as_bool()
            .map(Some)
            .ok_or_else(|| invalid(format!("{} is not true or false", self.path(key))))
    }

    fn path(&self, key: &str) -> String {
        if self.name.is_empty() { key.to_owned() } else { format!("{}.{key}", self.name) }
    }
}

fn unknown_key(section: &str, key: &str, known: &[&str]) -> Error {
    let nearest = known
        .iter()
        .max_by(|a, b| strsim::jaro_winkler(key, a).total_cmp(&strsim::jaro_winkler(key, b)));
    let place = if section.is_empty() { String::new() } else { format!(" in {section}") };
    invalid(format!(
        "unknown key {key:?}{place}; the nearest known one is {:?}",
        nearest.unwrap_or(&"")
    ))
}

pub(crate) fn invalid(reason: String) -> Error {
    Error::new(Kind::Invalid, reason)
}
