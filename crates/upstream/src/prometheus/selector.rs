//! How matchers, times and label names are written in requests to Prometheus.

use std::fmt::Write;

use model::{Matcher, TimeRange};

/// Prometheus does not handle times outside the years 1970 to 9999 well.
const LAST_TIME_MS: i64 = 253_402_300_799_999;

/// `{name="value",…}` as PromQL; names that are not identifiers are quoted.
pub(super) fn selector(matchers: &[Matcher]) -> String {
    let mut text = String::from("{");
    for (i, matcher) in matchers.iter().enumerate() {
        if i > 0 {
            text.push(',');
        }
        if is_legacy_name(&matcher.name) {
            text.push_str(&matcher.name);
        } else {
            push_quoted(&mut text, matcher.name.as_bytes());
        }
        text.push_str(matcher.op().as_str());
        push_quoted(&mut text, &matcher.value);
    }
    text.push('}');
    text
}

/// `start` and `end` in seconds; both ends inclusive.
pub(super) fn time_query(range: TimeRange) -> Vec<(&'static str, String)> {
    vec![("start", seconds(range.start)), ("end", seconds(range.last()))]
}

fn seconds(ms: i64) -> String {
    let ms = ms.clamp(0, LAST_TIME_MS);
    format!("{}.{:03}", ms / 1000, ms % 1000)
}

/// A label name in a URL path: identifiers as they are, others in Prometheus' `U__` form.
pub(super) fn escape_label_name(name: &str) -> String {
    if is_legacy_name(name) && !name.starts_with("U__") {
        return name.to_owned();
    }
    let mut escaped = String::from("U__");
    for c in name.chars() {
        match c {
            '_' => escaped.push_str("__"),
            c if c.is_ascii_alphanumeric() => escaped.push(c),
            c => {
                let _ = write!(escaped, "_{:x}_", u32::from(c));
            }
        }
    }
    escaped
}

fn is_legacy_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    matches!(bytes.next(), Some(b'a'..=b'z' | b'A'..=b'Z' | b'_'))
        && bytes.all(|b| matches!(b, b'a'..=b'z' | b'A'..=b'Z' | b'_' | b'0'..=b'9'))
}

fn push_quoted(text: &mut String, value: &[u8]) {
    text.push('"');
    for chunk in value.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '"' | '\\' => {
                    text.push('\\');
                    text.push(c);
                }
                '\n' => text.push_str("\\n"),
                c => text.push(c),
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text.push('"');
}

#[cfg(test)]
mod tests {
    use model::MatchOp;

    use super::*;

    #[test]
    fn selectors_are_promql() {
        let matchers = [
            Matcher::equal("job", "a\"b\\c\nd"),
            Matcher::new(MatchOp::NotRegex, "http.status", "5..").unwrap(),
        ];
        assert_eq!(selector(&matchers), r#"{job="a\"b\\c\nd","http.status"!~"5.."}"#);
    }

    #[test]
    fn times_stay_within_what_prometheus_takes() {
        let query = time_query(TimeRange::new(1_500, 2_001));
        assert_eq!(query, [("start", "1.500".to_owned()), ("end", "2.000".to_owned())]);
        let query = time_query(TimeRange::ALL);
        assert_eq!(query, [("start", "0.000".to_owned()), ("end", "253402300799.999".to_owned())]);
    }

    #[test]
    fn label_names_are_escaped_where_they_must() {
        assert_eq!(escape_label_name("job"), "job");
        assert_eq!(escape_label_name("http.status"), "U__http_2e_status");
        assert_eq!(escape_label_name("a_ü"), "U__a___fc_");
    }
}
