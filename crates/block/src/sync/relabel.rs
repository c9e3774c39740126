//! Relabel configs, as Prometheus' `model/relabel` defines them.

use md5::{Digest, Md5};
use model::go_regex::{self, Regex, Template};
use model::{Labels, LabelsBuilder};
use serde::Deserialize;

use crate::{Error, Kind, Result};

/// One rule.
#[derive(Clone, Debug)]
pub struct RelabelConfig {
    source_labels: Vec<String>,
    separator: String,
    regex: Regex,
    modulus: u64,
    target_label: String,
    /// The name of the label, which may refer to groups too.
    target: Template,
    replacement: Template,
    action: Action,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Action {
    Replace,
    Keep,
    Drop,
    KeepEqual,
    DropEqual,
    HashMod,
    LabelMap,
    LabelDrop,
    LabelKeep,
    Lowercase,
    Uppercase,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Yaml {
    #[serde(default)]
    source_labels: Vec<String>,
    separator: Option<String>,
    regex: Option<String>,
    #[serde(default)]
    modulus: u64,
    #[serde(default)]
    target_label: String,
    replacement: Option<String>,
    action: Option<String>,
}

/// Reads a YAML list of relabel configs; empty text is an empty list.
pub fn parse_relabel_configs(yaml: &str) -> Result<Vec<RelabelConfig>> {
    let list: Option<Vec<Yaml>> = serde_yaml_ng::from_str(yaml)
        .map_err(|e| Error::caused(Kind::Invalid, "relabel config", e))?;
    list.unwrap_or_default().into_iter().map(RelabelConfig::from_yaml).collect()
}

fn invalid(text: String) -> Error {
    Error::new(Kind::Invalid, format!("relabel config: {text}"))
}

impl RelabelConfig {
    fn from_yaml(yaml: Yaml) -> Result<RelabelConfig> {
        let name = yaml.action.unwrap_or_else(|| "replace".into()).to_lowercase();
        let action: Action = serde_yaml_ng::from_str(&name)
            .map_err(|_| invalid(format!("unknown relabel action {name:?}")))?;
        let pattern = yaml.regex.unwrap_or_else(|| "(.*)".into());
        let regex = go_regex::compile(&format!("^(?s:{pattern})$"))
            .map_err(|reason| invalid(format!("regex {pattern:?}: {reason}")))?;
        use Action::*;
        if action == HashMod && yaml.modulus == 0 {
            return Err(invalid(
                "relabel configuration for hashmod requires non-zero modulus".into(),
            ));
        }
        let needs_target =
            matches!(action, Replace | HashMod | Lowercase | Uppercase | KeepEqual | DropEqual);
        if needs_target && yaml.target_label.is_empty() {
            return Err(invalid(format!(
                "relabel configuration for {name} action requires 'target_label' value"
            )));
        }
        let replacement = yaml.replacement.unwrap_or_else(|| "$1".into());
        Ok(RelabelConfig {
            target: Template::new(&regex, yaml.target_label.as_bytes()),
            replacement: Template::new(&regex, replacement.as_bytes()),
            source_labels: yaml.source_labels,
            separator: yaml.separator.unwrap_or_else(|| ";".into()),
            regex,
            modulus: yaml.modulus,
            target_label: yaml.target_label,
            action,
        })
    }

    /// `None` when the rule drops the label set.
    fn apply(&self, labels: Labels) -> Option<Labels> {
        let value = |name: &str| labels.get(name).unwrap_or_default();
        let joined = self
            .source_labels
            .iter()
            .map(|n| value(n))
            .collect::<Vec<_>>()
            .join(self.separator.as_bytes());
        let kept = match self.action {
            Action::Keep => self.regex.is_match(&joined),
            Action::Drop => !self.regex.is_match(&joined),
            Action::KeepEqual => value(&self.target_label) == joined,
            Action::DropEqual => value(&self.target_label) != joined,
            _ => true,
        };
        if !kept {
            return None;
        }
        Some(match self.action {
            Action::Keep | Action::Drop | Action::KeepEqual | Action::DropEqual => labels,
            Action::Replace => self.replace(labels, &joined),
            Action::HashMod => {
                let digest = Md5::digest(&joined);
                let tail: [u8; 8] = digest[8..].try_into().expect("MD5 has 16 bytes");
                labels
                    .with(&self.target_label, (u64::from_be_bytes(tail) % self.modulus).to_string())
            }
            Action::Lowercase => labels.with(&self.target_label, text(&joined).to_lowercase()),
            Action::Uppercase => labels.with(&self.target_label, text(&joined).to_uppercase()),
            Action::LabelMap | Action::LabelDrop | Action::LabelKeep => self.by_name(&labels),
        })
    }

    fn replace(&self, labels: Labels, joined: &[u8]) -> Labels {
        let Some(captures) = self.regex.captures(joined) else { return labels };
        let target = self.target.expand(&captures);
        if target.is_empty() || std::str::from_utf8(&target).is_err() {
            return labels;
        }
        labels.with(target, self.replacement.expand(&captures))
    }

    fn by_name(&self, labels: &Labels) -> Labels {
        let mut builder = LabelsBuilder::from(labels);
        for (name, value) in labels.iter() {
            match (self.action, self.regex.captures(name)) {
                (Action::LabelMap, Some(captures)) => {
                    builder.set(self.replacement.expand(&captures), value);
                }
                (Action::LabelDrop, Some(_)) | (Action::LabelKeep, None) => {
                    builder.remove(name);
                }
                _ => {}
            }
        }
        builder.build()
    }
}

fn text(value: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(value)
}

/// The labels after all rules; `None` when a rule drops them.
pub(super) fn relabel(labels: &Labels, configs: &[RelabelConfig]) -> Option<Labels> {
    configs.iter().try_fold(labels.clone(), |labels, config| config.apply(labels))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(yaml: &str, labels: &[(&str, &str)]) -> Option<String> {
        let configs = parse_relabel_configs(yaml).unwrap();
        relabel(&Labels::from_pairs(labels.iter().copied()), &configs).map(|l| l.to_string())
    }

    #[test]
    fn every_action() {
        let labels = [("cluster", "eu-1"), ("tier", "gold"), ("Zone", "A")];
        let all = r#"{Zone="A", cluster="eu-1", tier="gold"}"#;
        for (yaml, expected) in [
            ("[{action: keep, source_labels: [cluster], regex: eu-.*}]", Some(all)),
            ("[{action: keep, source_labels: [cluster], regex: eu}]", None),
            ("[{action: drop, source_labels: [cluster, tier], regex: eu-1;gold}]", None),
            ("[{action: drop, source_labels: [cluster], separator: '', regex: us.*}]", Some(all)),
            ("[{action: keepequal, source_labels: [cluster], target_label: tier}]", None),
            ("[{action: dropequal, source_labels: [cluster], target_label: tier}]", Some(all)),
            (
                "[{source_labels: [cluster], regex: '(..)-(.)', target_label: r, replacement: \
                 '${2}x$1'}, {action: labelkeep, regex: r}]",
                Some(r#"{r="1xeu"}"#),
            ),
            ("[{action: labeldrop, regex: '[Z].*|tier'}]", Some(r#"{cluster="eu-1"}"#)),
            (
                "[{action: labelmap, regex: 'cl(.*)', replacement: 'm_$1'}, {action: labelkeep, \
                 regex: 'm_.*'}]",
                Some(r#"{m_uster="eu-1"}"#),
            ),
            (
                "[{action: uppercase, source_labels: [tier], target_label: tier}, {action: \
                 labelkeep, regex: tier}]",
                Some(r#"{tier="GOLD"}"#),
            ),
            (
                "[{action: Lowercase, source_labels: [Zone], target_label: z}, {action: labelkeep, \
                 regex: z}]",
                Some(r#"{z="a"}"#),
            ),
            // Go's expressions: a brace that does not begin a count is a brace, digits are ASCII
            // digits
            ("[{action: keep, source_labels: [cluster], regex: 'eu-\\d|{a}'}]", Some(all)),
            ("[{action: drop, source_labels: [cluster], regex: '\\Qeu-1\\E'}]", None),
            (
                "[{source_labels: [tier], regex: '(?P<t>.*)', target_label: '${t}_x', replacement: \
                 '$1-$'}, {action: labelkeep, regex: gold_x}]",
                Some(r#"{gold_x="gold-$"}"#),
            ),
            ("", Some(all)),
        ] {
            assert_eq!(run(yaml, &labels).as_deref(), expected, "{yaml}");
        }
    }

    /// MD5("foo") = acbd18db4cc2f85cedef654fccc4a4d8; its last 8 bytes modulo 1000.
    #[test]
    fn hashmod_is_that_of_prometheus() {
        let yaml = "[{action: hashmod, source_labels: [a], target_label: shard, modulus: 1000}, \
            {action: labelkeep, regex: shard}]";
        let expected = 0xedef_654f_ccc4_a4d8_u64 % 1000;
        assert_eq!(run(yaml, &[("a", "foo")]), Some(format!("{{shard=\"{expected}\"}}")));
    }

    #[test]
    fn broken_configs_are_errors() {
        for yaml in [
            "[{action: explode}]",
            "[{action: keep, regx: a}]",
            "[{action: keep, regex: '('}]",
            "[{action: keep, regex: 'a**'}]",
            "[{action: hashmod, target_label: x}]",
            "[{action: replace}]",
            "{}",
        ] {
            assert_eq!(parse_relabel_configs(yaml).unwrap_err().kind(), Kind::Invalid, "{yaml}");
        }
    }
}
