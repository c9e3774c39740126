//! `label_replace` and `label_join`.

use model::go_regex::{self, Regex};
use model::{Labels, METRIC_NAME};

use crate::quote::quote;

/// The arguments of `label_replace`, checked.
#[derive(Clone, Debug)]
pub struct LabelReplace {
    destination: Vec<u8>,
    replacement: Vec<u8>,
    source: Vec<u8>,
    regex: Regex,
}

impl LabelReplace {
    /// `args`: destination, replacement, source, regex. Errors are Prometheus' texts.
    pub fn new(args: [&[u8]; 4]) -> Result<LabelReplace, String> {
        let [destination, replacement, source, pattern] = args;
        let text = String::from_utf8_lossy(pattern);
        let invalid = || format!("invalid regular expression in label_replace(): {text}");
        std::str::from_utf8(pattern).map_err(|_| invalid())?;
        let regex = go_regex::compile(&format!("^(?s:{text})$")).map_err(|_| invalid())?;
        if !is_valid_name(destination) {
            let name = String::from_utf8_lossy(destination);
            return Err(format!("invalid destination label name in label_replace(): {name}"));
        }
        let (destination, replacement, source) =
            (destination.to_vec(), replacement.to_vec(), source.to_vec());
        Ok(LabelReplace { destination, replacement, source, regex })
    }

    pub fn writes_name(&self) -> bool {
        self.destination == METRIC_NAME.as_bytes()
    }

    /// The new labels, or `None` where the regex does not match.
    pub fn apply(&self, labels: &Labels) -> Option<Labels> {
        let captures = self.regex.captures(labels.get(&self.source).unwrap_or_default())?;
        Some(labels.with(&self.destination, go_regex::expand(&captures, &self.replacement)))
    }
}

/// The arguments of `label_join`, checked.
#[derive(Clone, Debug)]
pub struct LabelJoin {
    destination: Vec<u8>,
    separator: Vec<u8>,
    sources: Vec<Vec<u8>>,
}

impl LabelJoin {
    /// Errors are Prometheus' texts.
    pub fn new(
        destination: &[u8],
        separator: &[u8],
        sources: Vec<Vec<u8>>,
    ) -> Result<LabelJoin, String> {
        for source in &sources {
            if !is_valid_name(source) {
                return Err(format!(
                    "invalid source label name in label_join(): {}",
                    String::from_utf8_lossy(source)
                ));
            }
        }
        if !is_valid_name(destination) {
            let name = String::from_utf8_lossy(destination);
            return Err(format!("invalid destination label name in label_join(): {name}"));
        }
        Ok(LabelJoin { destination: destination.to_vec(), separator: separator.to_vec(), sources })
    }

    pub fn writes_name(&self) -> bool {
        self.destination == METRIC_NAME.as_bytes()
    }

    pub fn apply(&self, labels: &Labels) -> Labels {
        let values: Vec<&[u8]> =
            self.sources.iter().map(|s| labels.get(s).unwrap_or_default()).collect();
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
        let replace = LabelReplace::new([b"host", b"$1-x", b"instance", b"(.*):.*"]).unwrap();
        assert_eq!(
            replace.apply(&labels).unwrap().to_string(),
            r#"{host="a-x", instance="a:9100"}"#
        );
        assert!(
            LabelReplace::new([b"host", b"$1", b"instance", b"z"])
                .unwrap()
                .apply(&labels)
                .is_none()
        );
        assert!(LabelReplace::new([b"", b"$1", b"instance", b"z"]).is_err());
        assert!(LabelReplace::new([b"a", b"$1", b"instance", b"("]).is_err());
    }

    #[test]
    fn joins_missing_labels_as_empty() {
        let labels = Labels::from_pairs([("a", "1"), ("c", "3")]);
        let join =
            LabelJoin::new(b"d", b"-", vec![b"a".to_vec(), b"b".to_vec(), b"c".to_vec()]).unwrap();
        assert_eq!(join.apply(&labels).get("d"), Some(&b"1--3"[..]));
    }
}
