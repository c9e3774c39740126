//! Checks YAML against the table of keys.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_yaml_ng::Value;

use super::fields::{ConfigField, FieldEffect, FieldShape};
use crate::{Error, Kind, Result};

/// Scalars by their path, such as `config.http_config.insecure_skip_verify`. Empty ones are left
/// out.
#[derive(Clone, Default)]
pub(super) struct ConfigValues(BTreeMap<String, String>);

impl ConfigValues {
    pub(super) fn get(&self, path: &str) -> Option<&str> {
        self.0.get(path).map(String::as_str)
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// The names and values of a map.
    pub(super) fn map(&self, path: &str) -> impl Iterator<Item = (&str, &str)> {
        let below = format!("{path}.");
        self.0.iter().filter_map(move |(key, value)| {
            Some((key.strip_prefix(below.as_str())?, value.as_str()))
        })
    }

    pub(super) fn is_on(&self, path: &str) -> bool {
        self.get(path) == Some("true")
    }

    pub(super) fn number(&self, path: &str) -> Result<Option<u64>> {
        let parse = |text: &str| text.parse().map_err(|_| wrong(path, "a whole number"));
        // Thanos' clients take a negative number for none given
        self.get(path).filter(|text| !text.starts_with('-')).map(parse).transpose()
    }

    pub(super) fn duration(&self, path: &str) -> Result<Option<Duration>> {
        let parse = |text: &str| {
            parse_duration(text).ok_or_else(|| wrong(path, "a duration such as 90s or 1m30s"))
        };
        self.get(path).map(parse).transpose()
    }
}

pub(super) fn provider_name(root: &Value) -> Result<String> {
    let Value::Mapping(map) = root else {
        let text = "object store configuration must be a mapping with the keys type and config";
        return Err(Error::new(Kind::Invalid, text));
    };
    Ok(map.get("type").and_then(Value::as_str).unwrap_or_default().to_owned())
}

/// Checks a section, gathers its values under `prefix` and warns about what has no effect.
pub(super) fn check(
    section: &Value,
    fields: &[ConfigField],
    prefix: &str,
    values: &mut ConfigValues,
    warnings: &mut Vec<String>,
) -> Result<()> {
    let map = match section {
        Value::Mapping(map) => map,
        Value::Null => return Ok(()),
        _ => return Err(wrong(prefix, "a mapping")),
    };
    for (key, value) in map {
        let Some(key) = key.as_str() else {
            return Err(wrong(prefix, "a mapping whose keys are text"));
        };
        let path = if prefix.is_empty() { key.to_owned() } else { format!("{prefix}.{key}") };
        let Some(field) = fields.iter().find(|f| f.name == key) else {
            return Err(unknown(&path, key, fields));
        };
        if let FieldShape::Section(inner) = &field.shape {
            check(value, inner, &path, values, warnings)?;
            continue;
        }
        if let FieldShape::Map = &field.shape {
            check_map(value, &path, values)?;
            continue;
        }
        let text = scalar(&path, value, &field.shape)?;
        if matches!(text.as_str(), "" | "0" | "0s" | "false") {
            continue;
        }
        match field.effect {
            FieldEffect::Used => {}
            FieldEffect::None(why) => {
                warnings.push(format!("object store configuration: {path} has no effect: {why}"))
            }
            FieldEffect::Refused(why) => {
                let text = format!("object store configuration: {path} cannot be honoured: {why}");
                return Err(Error::new(Kind::Invalid, text));
            }
        }
        values.0.insert(path, text);
    }
    Ok(())
}

/// Gathers the values of a map whose keys the user chooses.
fn check_map(section: &Value, path: &str, values: &mut ConfigValues) -> Result<()> {
    let map = match section {
        Value::Mapping(map) => map,
        Value::Null => return Ok(()),
        _ => return Err(wrong(path, "a mapping")),
    };
    for (key, value) in map {
        let Some(key) = key.as_str() else {
            return Err(wrong(path, "a mapping whose keys are text"));
        };
        let path = format!("{path}.{key}");
        let text = scalar(&path, value, &FieldShape::Text)?;
        values.0.insert(path, text);
    }
    Ok(())
}

/// The words of YAML 1.1, which Thanos reads.
fn switch(text: &str) -> Option<bool> {
    match text {
        "y" | "Y" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" | "true" | "True" | "TRUE" => {
            Some(true)
        }
        "n" | "N" | "no" | "No" | "NO" | "off" | "Off" | "OFF" | "false" | "False" | "FALSE" => {
            Some(false)
        }
        _ => None,
    }
}

fn scalar(path: &str, value: &Value, shape: &FieldShape) -> Result<String> {
    let text = match value {
        Value::Null => String::new(),
        Value::Bool(on) => on.to_string(),
        Value::Number(n) => n.to_string(),
        Value::String(text) => match (shape, switch(text)) {
            (FieldShape::Switch, Some(on)) => on.to_string(),
            _ => text.clone(),
        },
        _ => return Err(wrong(path, "a single value")),
    };
    let fits = text.is_empty()
        || match shape {
            FieldShape::Switch => matches!(text.as_str(), "true" | "false"),
            FieldShape::Number => text.parse::<f64>().is_ok(),
            FieldShape::Duration => parse_duration(&text).is_some(),
            FieldShape::Text | FieldShape::Map | FieldShape::Section(_) => true,
        };
    if fits {
        return Ok(text);
    }
    Err(wrong(
        path,
        match shape {
            FieldShape::Switch => "true or false",
            FieldShape::Number => "a number",
            _ => "a duration such as 90s or 1m30s",
        },
    ))
}

fn unknown(path: &str, key: &str, fields: &[ConfigField]) -> Error {
    let nearest = fields
        .iter()
        .map(|f| (strsim::jaro_winkler(key, f.name), f.name))
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .filter(|(likeness, _)| *likeness > 0.7);
    let hint = match nearest {
        Some((_, name)) => format!("; did you mean {name:?}?"),
        None => format!(
            "; known here: {}",
            fields.iter().map(|f| f.name).collect::<Vec<_>>().join(", ")
        ),
    };
    Error::new(Kind::Invalid, format!("object store configuration: unknown key {path:?}{hint}"))
}

fn wrong(path: &str, expected: &str) -> Error {
    Error::new(Kind::Invalid, format!("object store configuration: {path} must be {expected}"))
}

/// Go's and Prometheus' forms: `1m30s`, `1.5h`, `0`, `2d`; nanoseconds for a bare number.
fn parse_duration(text: &str) -> Option<Duration> {
    if let Ok(nanos) = text.parse::<u64>() {
        return Some(Duration::from_nanos(nanos));
    }
    let mut rest = text;
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        let after = &rest[digits..];
        let unit_len = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let unit = match &after[..unit_len] {
            "ns" => 1e-9,
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            "d" => 86_400.0,
            "w" => 604_800.0,
            "y" => 31_536_000.0,
            _ => return None,
        };
        seconds += number * unit;
        rest = &after[unit_len..];
    }
    Duration::try_from_secs_f64(seconds).ok().filter(|_| !text.is_empty())
}
