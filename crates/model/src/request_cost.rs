//! What the selectors of one request may cost, whoever sends it and however.
//!
//! Every selector of a request is charged to one [`RequestCost`] before its regular expressions are
//! compiled, or right after where the parser does that within bounds of its own. The limits are far
//! above what people and dashboards ask for: a dashboard that offers ten thousand pods sends a
//! megabyte in one matcher, and has some dozens of matchers.

use crate::{MatchOp, Matcher};

/// The most matchers.
const MAX_MATCHERS: u64 = 10_000;

/// The most bytes of names and values, with what their alternatives take beside them.
const MAX_MATCHER_BYTES: u64 = 8 << 20;

/// The most time that compiling regular expressions may take, as [`Matcher::regex_cost`] estimates
/// it: twice as much as the text of one query. They then take a hundred megabytes at most.
const MAX_REGEX_MICROSECONDS: u64 = 1_000_000;

/// The most names of labels beside matchers: those of replicas and of shards.
const MAX_LABEL_NAMES: u64 = 1_000;

/// The most parameters of a URL and a form. There is room for every matcher in a selector of its
/// own; decoded, each takes some hundred bytes beside its text.
const MAX_PARAMETERS: u64 = 20_000;

/// What an alternative such as `b` in `a|b|c` takes in memory beside its text.
const ALTERNATIVE_BYTES: u64 = 40;

/// A request asks for more than one request may.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the request has {cost} {what}, more than the limit of {limit} per request")]
pub struct RequestTooCostly {
    pub what: &'static str,
    pub cost: u64,
    pub limit: u64,
}

/// What was charged to one request so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequestCost {
    matchers: u64,
    bytes: u64,
    regex_microseconds: u64,
    label_names: u64,
    parameters: u64,
}

impl RequestCost {
    /// Charges a matcher that is not made yet.
    ///
    /// # Errors
    /// All matchers together exceed a limit.
    pub fn charge(
        &mut self,
        op: MatchOp,
        name: &[u8],
        value: &[u8],
    ) -> Result<(), RequestTooCostly> {
        self.matchers += 1;
        check("matchers", self.matchers, MAX_MATCHERS)?;
        let is_regex = matches!(op, MatchOp::Regex | MatchOp::NotRegex);
        let bars = if is_regex { value.iter().filter(|b| **b == b'|').count() as u64 } else { 0 };
        self.bytes += (name.len() + value.len()) as u64 + bars * ALTERNATIVE_BYTES;
        check("bytes of matchers", self.bytes, MAX_MATCHER_BYTES)?;
        if is_regex {
            let cost = Matcher::regex_cost(value);
            self.regex_microseconds = self.regex_microseconds.saturating_add(cost);
        }
        check(
            "microseconds (estimated) of compiling regular expressions",
            self.regex_microseconds,
            MAX_REGEX_MICROSECONDS,
        )
    }

    /// Charges matchers that were made.
    ///
    /// # Errors
    /// As for [`RequestCost::charge`].
    pub fn charge_made(&mut self, matchers: &[Matcher]) -> Result<(), RequestTooCostly> {
        matchers.iter().try_for_each(|m| self.charge(m.op(), m.name.as_bytes(), &m.value))
    }

    /// Charges names of labels beside matchers.
    ///
    /// # Errors
    /// There are too many of them.
    pub fn charge_label_names(&mut self, names: usize) -> Result<(), RequestTooCostly> {
        self.label_names += names as u64;
        check("names of replica labels and shards", self.label_names, MAX_LABEL_NAMES)
    }

    /// Charges parameters of a URL or a form, before they are decoded.
    ///
    /// # Errors
    /// There are too many of them.
    pub fn charge_parameters(&mut self, parameters: usize) -> Result<(), RequestTooCostly> {
        self.parameters += parameters as u64;
        check("parameters", self.parameters, MAX_PARAMETERS)
    }
}

fn check(what: &'static str, cost: u64, limit: u64) -> Result<(), RequestTooCostly> {
    if cost <= limit { Ok(()) } else { Err(RequestTooCostly { what, cost, limit }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn charged(count: usize, op: MatchOp, value: &str) -> Result<(), RequestTooCostly> {
        let mut cost = RequestCost::default();
        (0..count).try_for_each(|_| cost.charge(op, b"pod", value.as_bytes()))
    }

    #[test]
    fn what_dashboards_send_is_far_below_the_limits() {
        let pods = vec!["api-server-6f7d8c9b5d-x2x4z"; 10_000].join("|");
        let addresses = vec!["api-server-6f7d8c9b5d:9090.example.org"; 8_000].join("|");
        for (count, op, value) in [
            (5, MatchOp::Regex, pods.as_str()),
            (2, MatchOp::Regex, &addresses),
            (1000, MatchOp::Regex, ".*api-server.*"),
            (5000, MatchOp::Equal, "api-server"),
            (1, MatchOp::NotRegex, &format!("({pods})")),
        ] {
            assert_eq!(charged(count, op, value), Ok(()), "{count}");
        }
    }

    #[test]
    fn everything_of_one_request_counts_together() {
        let long = "a".repeat(1 << 20);
        let alternatives = "a|".repeat(100_000);
        for (count, op, value, what) in [
            (1000, MatchOp::Regex, ".{999}|", "microseconds"),
            (300, MatchOp::NotRegex, r"\pL{200}", "microseconds"),
            (9, MatchOp::Equal, long.as_str(), "bytes"),
            (3, MatchOp::Regex, &alternatives, "bytes"),
            (10_001, MatchOp::NotEqual, "", "matchers"),
        ] {
            let refused = charged(count, op, value).unwrap_err();
            assert!(refused.what.contains(what) && refused.cost > refused.limit, "{refused}");
        }
        let mut cost = RequestCost::default();
        assert_eq!(cost.charge_label_names(1000), Ok(()));
        let text = "the request has 1001 names of replica labels and shards, more than the limit \
                    of 1000 per request";
        assert_eq!(cost.charge_label_names(1).unwrap_err().to_string(), text);
    }
}
