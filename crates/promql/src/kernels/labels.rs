//! `label_replace` and `label_join`.

use model::{Labels, METRIC_NAME};
use regex::bytes::{Captures, Regex};

use crate::quote::quote;

/// The arguments of `label_replace`, checked.
#[derive(Clone, Debug)]
pub struct Replace {
    destination: Vec<u8>,
    replacement: Vec<u8>,
    source: Vec<u8>,
    regex: Regex,
}

impl Replace {
    /// `args`: destination, replacement, source, regex. Errors are Prometheus' texts.
    pub fn new(args: [&[u8]; 4]) -> Result<Replace, String> {
        let [destination, replacement, source, pattern] = args;
        let text = String::from_utf8_lossy(pattern);
        let invalid = || format!("invalid regular expression in label_replace(): {text}");
        let regex = model::go_regex::compile(&format!("^(?s:{text})$")).map_err(|_| invalid())?;
        if !is_valid_name(destination) {
            let name = String::from_utf8_lossy(destination);
            return Err(format!("invalid destination label name in label_replace(): {name}"));
        }
        let (destination, replacement, source) = (destination.to_vec(), replacement.to_vec(), source.to_vec());
        Ok(Replace { destination, replacement, source, regex })
    }

    pub fn writes_name(&self) -> bool {
        self.destination == METRIC_NAME.as_bytes()
    }

    /// The new labels, or `None` where the regex does not match.
    pub fn apply(&self, labels: &Labels) -> Option<Labels> {
        let captures = self.regex.captures(labels.get(&self.source).unwrap_or_default())?;
        let mut value = Vec::new();
        expand(&captures, &self.replacement, &mut value);
        Some(labels.with(&self.destination, value))
    }
}

/// Replaces `$1`, `${1}`, `$name` and `${name}` by what the groups matched, and `$$` by a dollar, as Go does: a name is
/// as long as letters, digits and underscores go, also in braces, and a dollar before anything else stands for itself.
fn expand(captures: &Captures<'_>, template: &[u8], out: &mut Vec<u8>) {
    let mut rest = template;
    while let Some(at) = rest.iter().position(|b| *b == b'$') {
        out.extend_from_slice(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix(b"$") {
            out.push(b'$');
            rest = after;
        } else if let Some((name, after)) = group_name(rest) {
            out.extend_from_slice(group(captures, name).unwrap_or_default());
            rest = after;
        } else {
            out.push(b'$');
        }
    }
    out.extend_from_slice(rest);
}

/// The name of a group behind a dollar, and what follows.
fn group_name(text: &[u8]) -> Option<(&str, &[u8])> {
    let inner = text.strip_prefix(b"{");
    let valid = inner.unwrap_or(text).utf8_chunks().next()?.valid();
    let in_name = |c: char| c == '_' || c.is_alphabetic() || c.is_numeric();
    let name = &valid[..valid.find(|c| !in_name(c)).unwrap_or(valid.len())];
    let after = &inner.unwrap_or(text)[name.len()..];
    let after = if inner.is_some() { after.strip_prefix(b"}")? } else { after };
    (!name.is_empty()).then_some((name, after))
}

/// What a group matched: by number, unless that has a leading zero, else by name.
fn group<'a>(captures: &Captures<'a>, name: &str) -> Option<&'a [u8]> {
    let number = if name.len() > 1 && name.starts_with('0') { None } else { name.parse::<usize>().ok() };
    let found = number.map_or_else(|| captures.name(name), |number| captures.get(number));
    found.map(|group| group.as_bytes())
}

/// The arguments of `label_join`, checked.
#[derive(Clone, Debug)]
pub struct Join {
    destination: Vec<u8>,
    separator: Vec<u8>,
    sources: Vec<Vec<u8>>,
}

impl Join {
    /// Errors are Prometheus' texts.
    pub fn new(destination: &[u8], separator: &[u8], sources: Vec<Vec<u8>>) -> Result<Join, String> {
        for source in &sources {
            if !is_valid_name(source) {
                return Err(format!("invalid source label name in label_join(): {}", String::from_utf8_lossy(source)));
            }
        }
        if !is_valid_name(destination) {
            let name = String::from_utf8_lossy(destination);
            return Err(format!("invalid destination label name in label_join(): {name}"));
        }
        Ok(Join { destination: destination.to_vec(), separator: separator.to_vec(), sources })
    }

    pub fn writes_name(&self) -> bool {
        self.destination == METRIC_NAME.as_bytes()
    }

    pub fn apply(&self, labels: &Labels) -> Labels {
        let values: Vec<&[u8]> = self.sources.iter().map(|s| labels.get(s).unwrap_or_default()).collect();
        labels.with(&self.destination, values.join(&self.separator[..]))
    }
}

/// Label names are any non-empty UTF-8.
pub fn is_valid_name(name: &[u8]) -> bool {
    !name.is_empty() && std::str::from_utf8(name).is_ok()
}

/// Prometheus' text for the label of `count_values`.
pub fn check_count_values_label(name: &[u8]) -> Result<(), String> {
    if is_valid_name(name) { Ok(()) } else { Err(format!("invalid label name {}", quote(name))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_put_in_and_mismatches_leave_alone() {
        let labels = Labels::from_pairs([("instance", "a:9100")]);
        let replace = Replace::new([b"host", b"$1-x", b"instance", b"(.*):.*"]).unwrap();
        assert_eq!(replace.apply(&labels).unwrap().to_string(), r#"{host="a-x", instance="a:9100"}"#);
        assert!(Replace::new([b"host", b"$1", b"instance", b"z"]).unwrap().apply(&labels).is_none());
        assert!(Replace::new([b"", b"$1", b"instance", b"z"]).is_err());
        assert!(Replace::new([b"a", b"$1", b"instance", b"("]).is_err());
    }

    #[test]
    fn joins_missing_labels_as_empty() {
        let labels = Labels::from_pairs([("a", "1"), ("c", "3")]);
        let join = Join::new(b"d", b"-", vec![b"a".to_vec(), b"b".to_vec(), b"c".to_vec()]).unwrap();
        assert_eq!(join.apply(&labels).get("d"), Some(&b"1--3"[..]));
    }
}
