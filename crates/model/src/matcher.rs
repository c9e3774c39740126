//! Label matchers, as PromQL selectors and StoreAPI requests carry them.

use std::fmt;

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

/// One condition on one label. A series without the label has the value "".
#[derive(Clone)]
pub struct Matcher {
    pub name: String,
    pub value: String,
    op: MatchOp,
    regex: Option<Regex>,
    /// For a regex that is only an alternation of literals: those, so that no regex need run.
    literals: Option<Vec<String>>,
}

impl Matcher {
    /// Regexes are those of Go, anchored on both sides, and `.` matches newlines, as in Prometheus.
    ///
    /// # Errors
    /// The reason is Go's text where Go refuses the expression too.
    pub fn new(op: MatchOp, name: impl Into<String>, value: impl Into<String>) -> Result<Matcher, MatcherError> {
        let (name, value) = (name.into(), value.into());
        let (mut regex, mut literals) = (None, None);
        if matches!(op, MatchOp::Regex | MatchOp::NotRegex) {
            literals = literal_alternatives(&value);
            if literals.is_none() {
                let compiled = go_regex::compile_anchored(&value);
                regex = Some(compiled.map_err(|reason| MatcherError { pattern: value.clone(), reason })?);
            }
        }
        Ok(Matcher { name, value, op, regex, literals })
    }

    pub fn equal(name: impl Into<String>, value: impl Into<String>) -> Matcher {
        Matcher { name: name.into(), value: value.into(), op: MatchOp::Equal, regex: None, literals: None }
    }

    pub fn op(&self) -> MatchOp {
        self.op
    }

    pub fn matches(&self, value: &[u8]) -> bool {
        match self.op {
            MatchOp::Equal => self.value.as_bytes() == value,
            MatchOp::NotEqual => self.value.as_bytes() != value,
            MatchOp::Regex => self.regex_matches(value),
            MatchOp::NotRegex => !self.regex_matches(value),
        }
    }

    /// Whether a series that lacks the label satisfies the matcher.
    pub fn matches_empty(&self) -> bool {
        self.matches(b"")
    }

    /// The only values that can satisfy a positive matcher, where they are few and known: `=` and `a|b|c`.
    pub fn set_matches(&self) -> Option<Vec<&str>> {
        match self.op {
            MatchOp::Equal => Some(vec![&self.value]),
            MatchOp::Regex => Some(self.literals.as_ref()?.iter().map(String::as_str).collect()),
            MatchOp::NotEqual | MatchOp::NotRegex => None,
        }
    }

    fn regex_matches(&self, value: &[u8]) -> bool {
        match &self.literals {
            Some(literals) => literals.iter().any(|l| l.as_bytes() == value),
            None => self.regex.as_ref().is_some_and(|r| r.is_match(value)),
        }
    }
}

/// The alternatives of `a|b|c` when none of them holds a character that a regex reads specially.
fn literal_alternatives(pattern: &str) -> Option<Vec<String>> {
    let special = |c: char| matches!(c, '.' | '+' | '*' | '?' | '(' | ')' | '[' | ']' | '{' | '}' | '^' | '$' | '\\');
    if pattern.chars().any(special) {
        return None;
    }
    Some(pattern.split('|').map(str::to_owned).collect())
}

impl PartialEq for Matcher {
    fn eq(&self, other: &Matcher) -> bool {
        (self.op, &self.name, &self.value) == (other.op, &other.name, &other.value)
    }
}

impl Eq for Matcher {}

impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}{:?}", self.name, self.op.as_str(), self.value)
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
        assert_eq!(m.set_matches(), Some(vec!["x", "y", ""]));
        assert!(m.matches_empty() && !m.matches(b"xy"));
    }

    #[test]
    fn a_broken_regex_is_an_error() {
        assert!(Matcher::new(MatchOp::NotRegex, "a", "(").is_err());
    }
}
