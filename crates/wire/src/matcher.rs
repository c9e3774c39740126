//! Label matchers on the wire.

use bytes::Bytes;
use model::{MatchOp, Matcher, RequestCost};

use crate::error::Case;
use crate::{Error, Result, prometheus, thanos};

/// A generated matcher message. Thanos and Prometheus each have their own, of the same shape and
/// numbers.
pub trait WireMatcher {
    fn parts(&self) -> (i32, &Bytes, &Bytes);
    fn from_parts(kind: i32, name: Bytes, value: Bytes) -> Self;
}

macro_rules! wire_matcher {
    ($($message:ty),*) => {$(
        impl WireMatcher for $message {
            fn parts(&self) -> (i32, &Bytes, &Bytes) {
                (self.r#type, &self.name, &self.value)
            }

            fn from_parts(r#type: i32, name: Bytes, value: Bytes) -> Self {
                Self { r#type, name, value }
            }
        }
    )*};
}

wire_matcher!(thanos::LabelMatcher, prometheus::LabelMatcher);

/// Fails on an unknown type, on a name that is not UTF-8 and on a regular expression that does not
/// compile.
pub fn matcher_from_wire<M: WireMatcher>(message: &M) -> Result<Matcher> {
    let (kind, name, value) = message.parts();
    let name = std::str::from_utf8(name).map_err(|_| {
        Error(Case::MatcherName { name: String::from_utf8_lossy(name).into_owned() })
    })?;
    let op =
        operator(kind).ok_or_else(|| Error(Case::MatcherType { name: name.to_owned(), kind }))?;
    Matcher::new(op, name, &value[..])
        .map_err(|source| Error(Case::MatcherRegex { name: name.to_owned(), source }))
}

/// The matchers of a request, all of which are charged to its cost before any is made.
pub fn matchers_from_wire<M: WireMatcher>(
    messages: &[M],
    cost: &mut RequestCost,
) -> Result<Vec<Matcher>> {
    for (kind, name, value) in messages.iter().map(WireMatcher::parts) {
        let op = operator(kind).unwrap_or(MatchOp::Equal);
        cost.charge(op, name, value).map_err(|e| Error(Case::TooCostly(e)))?;
    }
    messages.iter().map(matcher_from_wire).collect()
}

fn operator(kind: i32) -> Option<MatchOp> {
    match kind {
        0 => Some(MatchOp::Equal),
        1 => Some(MatchOp::NotEqual),
        2 => Some(MatchOp::Regex),
        3 => Some(MatchOp::NotRegex),
        _ => None,
    }
}

pub fn matchers_to_wire<M: WireMatcher>(matchers: &[Matcher]) -> Vec<M> {
    let message = |m: &Matcher| {
        let kind = match m.op() {
            MatchOp::Equal => 0,
            MatchOp::NotEqual => 1,
            MatchOp::Regex => 2,
            MatchOp::NotRegex => 3,
        };
        M::from_parts(
            kind,
            Bytes::copy_from_slice(m.name.as_bytes()),
            Bytes::copy_from_slice(&m.value),
        )
    };
    matchers.iter().map(message).collect()
}

#[cfg(test)]
mod tests {
    use model::error::in_one_line;

    use super::*;

    #[test]
    fn every_operator_survives_the_round_trip() {
        let matchers: Vec<Matcher> =
            [MatchOp::Equal, MatchOp::NotEqual, MatchOp::Regex, MatchOp::NotRegex]
                .into_iter()
                .map(|op| Matcher::new(op, "a", "x|y").unwrap())
                .collect();
        let wire: Vec<thanos::LabelMatcher> = matchers_to_wire(&matchers);
        assert_eq!(matchers_from_wire(&wire, &mut RequestCost::default()).unwrap(), matchers);
    }

    #[test]
    fn matchers_are_charged_before_they_are_made() {
        let costly = thanos::LabelMatcher::from_parts(
            2,
            Bytes::from_static(b"job"),
            Bytes::from_static(br"\pL{200}"),
        );
        let broken = thanos::LabelMatcher::from_parts(9, Bytes::new(), Bytes::new());
        let all: Vec<_> = [broken].into_iter().chain(vec![costly; 300]).collect();
        let error = matchers_from_wire(&all, &mut RequestCost::default()).unwrap_err();
        assert_eq!(error.kind(), crate::Kind::Limit, "{error}");
    }

    #[test]
    fn impossible_matchers_are_refused_by_name() {
        let read = |kind, name: &'static [u8], value: &'static [u8]| {
            let m = thanos::LabelMatcher::from_parts(
                kind,
                Bytes::from_static(name),
                Bytes::from_static(value),
            );
            matcher_from_wire(&m).map_err(|error| in_one_line(&error).to_string())
        };
        assert_eq!(
            read(9, b"job", b"x"),
            Err(r#"matcher on label "job": unknown type 9"#.to_owned())
        );
        assert!(read(2, b"job", b"(").unwrap_err().starts_with(r#"matcher on label "job": "#));
        assert_eq!(
            read(0, b"\xff", b"x"),
            Err("matcher name: \"\u{fffd}\" is not valid UTF-8".to_owned())
        );
        assert!(read(0, b"job", b"\xff").is_ok());
    }
}
