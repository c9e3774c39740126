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
    /// The longest value over which the regex is run.
    longest: usize,
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
        let longest = go_regex::longest_text(&text);
        Ok(LabelReplace { destination, replacement, source, regex, longest })
    }

    pub fn writes_name(&self) -> bool {
        self.destination == METRIC_NAME.as_bytes()
    }

    /// What the labels become, or `None` where the regex does not match.
    ///
    /// # Errors
    /// The value is so long that nothing would end the regex for a while.
    pub fn apply<'a>(&'a self, labels: &'a Labels) -> Result<Option<NewLabels<'a>>, String> {
        let value = labels.get(&self.source).unwrap_or_default();
        if value.len() > self.longest {
            return Err(format!(
                "label_replace(): the value of label {} has {} bytes, more than the limit of {} for \
                 this regular expression",
                String::from_utf8_lossy(&self.source),
                value.len(),
                self.longest
            ));
        }
        let Some(captures) = self.regex.captures(value) else { return Ok(None) };
        let value = NewValue::Replaced(captures, &self.replacement);
        Ok(Some(NewLabels { labels, name: &self.destination, value }))
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
    use model::{Clock, SystemClock};

    use super::*;

    #[test]
    fn groups_are_put_in_and_mismatches_leave_alone() {
        let labels = Labels::from_pairs([("instance", "a:9100")]);
        let replace = LabelReplace::new([b"host", b"$1-x", b"instance", b"(.*):.*"]).unwrap();
        let replaced = replace.apply(&labels).unwrap().unwrap();
        assert_eq!(replaced.bytes(), labels.as_packed().len() + "hosta-x".len());
        assert_eq!(replaced.build().to_string(), r#"{host="a-x", instance="a:9100"}"#);
        assert!(
            LabelReplace::new([b"host", b"$1", b"instance", b"z"])
                .unwrap()
                .apply(&labels)
                .unwrap()
                .is_none()
        );
        assert!(LabelReplace::new([b"", b"$1", b"instance", b"z"]).is_err());
        assert!(LabelReplace::new([b"a", b"$1", b"instance", b"("]).is_err());
    }

    /// Nothing ends a regex over one value, so no value may keep it busy for long.
    #[test]
    fn no_regex_is_run_over_a_value_for_long() {
        let clock = SystemClock::new(|_| Box::pin(std::future::pending()));
        let mut random = 1u32;
        let values = std::iter::repeat_with(|| {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            b"ab"[(random >> 31) as usize]
        });
        let value: Vec<u8> = values.take(1 << 20).collect();
        let labels = |length: usize| Labels::from_pairs([("l", &value[..length])]);
        for regex in
            ["(.*a.{500}b)+", ".*a.{900}", "[ab]*a[ab]{14}c", "([ab]*a[ab]{300}c)+", "(a|b|ab)*c"]
        {
            let args: [&[u8]; 4] = [b"m", b"$1", b"l", regex.as_bytes()];
            let replace = LabelReplace::new(args).unwrap();
            let longest = labels(replace.longest);
            let began = clock.monotonic();
            assert!(replace.apply(&longest).is_ok());
            let took = clock.monotonic() - began;
            println!("{regex} over {} bytes: {took:?}", replace.longest);
            // it takes a tenth of a second, but tests run beside others
            assert!(took < std::time::Duration::from_secs(2), "{regex}: {took:?}");
            let refused = replace.apply(&labels(replace.longest + 1)).map(drop).unwrap_err();
            let text = format!("the value of label l has {} bytes, more", replace.longest + 1);
            assert!(refused.contains(&text), "{refused}");
        }
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
