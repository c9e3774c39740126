//! `label_replace` and `label_join`.

use model::go_regex::{self, Captures, Regex, Template};
use model::{Labels, METRIC_NAME};

use crate::quote::quote;

/// The arguments of `label_replace`, checked.
#[derive(Clone, Debug)]
pub struct LabelReplace {
    destination: Vec<u8>,
    replacement: Template,
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
        let replacement = Template::new(&regex, replacement);
        let (destination, source) = (destination.to_vec(), source.to_vec());
        Ok(LabelReplace { destination, replacement, source, regex })
    }

    pub fn writes_name(&self) -> bool {
        self.destination == METRIC_NAME.as_bytes()
    }

    /// What the labels become, or `None` where the regex does not match.
    pub fn apply<'a>(&'a self, labels: &'a Labels) -> Option<NewLabels<'a>> {
        let captures = self.regex.captures(labels.get(&self.source).unwrap_or_default())?;
        let value = NewValue::Replaced(captures, &self.replacement);
        Some(NewLabels { labels, name: &self.destination, value })
    }
}

/// Labels that a function gives a series, before they are made.
#[derive(Debug)]
pub struct NewLabels<'a> {
    labels: &'a Labels,
    name: &'a [u8],
    value: NewValue<'a>,
}

/// The value of the label that changes.
#[derive(Debug)]
enum NewValue<'a> {
    Replaced(Captures<'a>, &'a Template),
    Joined(&'a LabelJoin),
}

impl NewLabels<'_> {
    /// About how many bytes they will take.
    pub fn bytes(&self) -> usize {
        let value = match &self.value {
            NewValue::Replaced(captures, template) => template.expanded_len(captures),
            NewValue::Joined(join) => join.value_len(self.labels),
        };
        self.labels.as_packed().len() + self.name.len() + value
    }

    /// The labels.
    pub fn build(&self) -> Labels {
        let value = match &self.value {
            NewValue::Replaced(captures, template) => template.expand(captures),
            NewValue::Joined(join) => join.values(self.labels).join(&join.separator[..]),
        };
        self.labels.with(self.name, value)
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

    /// What the labels become.
    pub fn apply<'a>(&'a self, labels: &'a Labels) -> NewLabels<'a> {
        NewLabels { labels, name: &self.destination, value: NewValue::Joined(self) }
    }

    fn values<'a>(&self, labels: &'a Labels) -> Vec<&'a [u8]> {
        self.sources.iter().map(|s| labels.get(s).unwrap_or_default()).collect()
    }

    fn value_len(&self, labels: &Labels) -> usize {
        let values: usize = self.values(labels).iter().map(|value| value.len()).sum();
        values + self.separator.len() * self.sources.len().saturating_sub(1)
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
        let replaced = replace.apply(&labels).unwrap();
        assert_eq!(replaced.bytes(), labels.as_packed().len() + "hosta-x".len());
        assert_eq!(replaced.build().to_string(), r#"{host="a-x", instance="a:9100"}"#);
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
        let joined = join.apply(&labels);
        assert_eq!(joined.bytes(), labels.as_packed().len() + "d1--3".len());
        assert_eq!(joined.build().get("d"), Some(&b"1--3"[..]));
    }
}
