//! Label matchers, as PromQL selectors and StoreAPI requests carry them.

use std::fmt;
use std::sync::Arc;

use regex::bytes::Regex;

use crate::go_regex;

/// How a matcher compares: `=`, `!=`, `=~`, `!~`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MatchOp {
    Equal,
    NotEqual,
    Regex,
    NotRegex,
}

impl MatchOp {
    pub fn as_str(self) -> &'static str {
        match self {
            MatchOp::Equal => "=",
            MatchOp::NotEqual => "!=",
            MatchOp::Regex => "=~",
            MatchOp::NotRegex => "!~",
        }
    }

    /// Whether this is `!=` or `!~`.
    pub fn is_negative(self) -> bool {
        matches!(self, MatchOp::NotEqual | MatchOp::NotRegex)
    }
}

/// The regular expression of a matcher does not compile.
#[derive(Clone, Debug, thiserror::Error)]
#[error("regular expression {pattern:?}: {reason}")]
pub struct MatcherError {
    pub pattern: String,
    pub reason: String,
}

/// A value over which the regex of a matcher would run for too long, which nothing could end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a value of label {name} has {bytes} bytes, more than the limit of {most} for the regular \
     expression {pattern:?}"
)]
pub struct ValueTooLong {
    pub name: String,
    pub bytes: usize,
    pub most: usize,
    pub pattern: String,
}

/// One condition on one label. A series without the label has the value "".
#[derive(Clone)]
pub struct Matcher {
    pub name: String,
    /// Any bytes, as label values may be.
    pub value: Vec<u8>,
    op: MatchOp,
    /// Shared by clones, as is the memory in which it matches.
    regex: Option<Arc<Regex>>,
    /// The longest value over which the regex is run.
    longest: usize,
    /// For a regex that is only an alternation of literals: the literals, so that no regex need
    /// run.
    literals: Option<Vec<Vec<u8>>>,
}

impl Matcher {
    /// Regexes are those of Go, anchored on both sides, and `.` matches newlines, as in Prometheus.
    ///
    /// # Errors
    /// The reason is Go's text where Go refuses the expression too.
    pub fn new(
        op: MatchOp,
        name: impl Into<String>,
        value: impl Into<Vec<u8>>,
    ) -> Result<Matcher, MatcherError> {
        let (name, value) = (name.into(), value.into());
        let (mut regex, mut literals, mut longest) = (None, None, usize::MAX);
        if matches!(op, MatchOp::Regex | MatchOp::NotRegex) {
            literals = literal_alternatives(&value);
            if literals.is_none() {
                let compiled = pattern(&value).and_then(|pattern| {
                    longest = go_regex::longest_text(pattern);
                    go_regex::compile_anchored(pattern)
                });
                let refused = |reason| MatcherError {
                    pattern: String::from_utf8_lossy(&value).into_owned(),
                    reason,
                };
                regex = Some(Arc::new(compiled.map_err(refused)?));
            }
        }
        Ok(Matcher { name, value, op, regex, longest, literals })
    }

    pub fn equal(name: impl Into<String>, value: impl Into<Vec<u8>>) -> Matcher {
        Matcher {
            name: name.into(),
            value: value.into(),
            op: MatchOp::Equal,
            regex: None,
            longest: usize::MAX,
            literals: None,
        }
    }

    /// About how many microseconds it takes [`new`](Matcher::new) to compile a matcher with this
    /// regex: 0 for an alternation of literals, or if it does not compile.
    pub fn regex_cost(value: &[u8]) -> u64 {
        let compiled =
            if literal_alternatives(value).is_some() { None } else { pattern(value).ok() };
        compiled.map_or(0, go_regex::cost)
    }

    pub fn op(&self) -> MatchOp {
        self.op
    }

    pub fn matches(&self, value: &[u8]) -> bool {
        match self.op {
            MatchOp::Equal => self.value == value,
            MatchOp::NotEqual => self.value != value,
            MatchOp::Regex => self.regex_matches(value),
            MatchOp::NotRegex => !self.regex_matches(value),
        }
    }

    /// As [`matches`](Matcher::matches), for values of any length, such as those of files.
    ///
    /// # Errors
    /// The value is so long that nothing would end the regex for a while.
    pub fn try_matches(&self, value: &[u8]) -> Result<bool, ValueTooLong> {
        if value.len() > self.longest {
            return Err(ValueTooLong {
                name: self.name.clone(),
                bytes: value.len(),
                most: self.longest,
                pattern: String::from_utf8_lossy(&self.value).into_owned(),
            });
        }
        Ok(self.matches(value))
    }

    /// Whether a series that lacks the label satisfies the matcher.
    pub fn matches_empty(&self) -> bool {
        self.matches(b"")
    }

    /// The only values that can satisfy a positive matcher, where they are few and known: `=` and
    /// `a|b|c`.
    pub fn set_matches(&self) -> Option<Vec<&[u8]>> {
        match self.op {
            MatchOp::Equal => Some(vec![&self.value]),
            MatchOp::Regex => Some(self.literals.as_ref()?.iter().map(Vec::as_slice).collect()),
            MatchOp::NotEqual | MatchOp::NotRegex => None,
        }
    }

    fn regex_matches(&self, value: &[u8]) -> bool {
        match &self.literals {
            Some(literals) => literals.iter().any(|l| l == value),
            None => self.regex.as_ref().is_some_and(|r| r.is_match(value)),
        }
    }
}

/// The alternatives of `a|b|c` when none of them holds a character that a regex reads specially.
fn literal_alternatives(pattern: &[u8]) -> Option<Vec<Vec<u8>>> {
    if pattern.iter().any(|b| b".+*?()[]{}^$\\".contains(b)) {
        return None;
    }
    Some(pattern.split(|b| *b == b'|').map(<[u8]>::to_vec).collect())
}

/// The text of a regex, or Go's reason why it is invalid.
fn pattern(value: &[u8]) -> Result<&str, String> {
    std::str::from_utf8(value).map_err(|e| {
        format!("invalid UTF-8: `{}`", String::from_utf8_lossy(&value[e.valid_up_to()..]))
    })
}

impl PartialEq for Matcher {
    fn eq(&self, other: &Matcher) -> bool {
        (self.op, &self.name, &self.value) == (other.op, &other.name, &other.value)
    }
}

impl Eq for Matcher {}

impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}{:?}", self.name, self.op.as_str(), String::from_utf8_lossy(&self.value))
    }
}

impl fmt::Debug for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regexes_are_anchored_and_dot_matches_newline() {
        let m = Matcher::new(MatchOp::Regex, "a", "b.d").unwrap();
        assert!(m.matches(b"b\nd") && !m.matches(b"bcde"));
    }

    #[test]
    fn alternations_of_literals_are_known_as_sets() {
        let m = Matcher::new(MatchOp::Regex, "a", "x|y|").unwrap();
        assert_eq!(m.set_matches(), Some(vec![&b"x"[..], b"y", b""]));
        assert!(m.matches_empty() && !m.matches(b"xy"));
    }

    #[test]
    fn values_are_bytes_but_regexes_are_text() {
        assert!(Matcher::equal("a", b"\xff").matches(b"\xff"));
        let either = Matcher::new(MatchOp::Regex, "a", b"b|\xff").unwrap();
        assert!(either.matches(b"\xff") && !either.matches("\u{fffd}".as_bytes()));
        let error = Matcher::new(MatchOp::Regex, "a", b"b\xff.*").unwrap_err();
        assert_eq!(error.reason, "invalid UTF-8: `\u{fffd}.*`");
    }

    #[test]
    fn only_what_is_compiled_costs() {
        assert_eq!(
            [
                Matcher::regex_cost(b"a|b"),
                Matcher::regex_cost(b"\xff.*"),
                Matcher::regex_cost(b"(")
            ],
            [0; 3]
        );
        assert!(Matcher::regex_cost(b"a.*") > 0);
    }

    #[test]
    fn a_broken_regex_is_an_error() {
        assert!(Matcher::new(MatchOp::NotRegex, "a", "(").is_err());
    }
}
