//! Label matchers on the wire.

use bytes::Bytes;
use model::{MatchOp, Matcher};

use crate::{Error, Result, prometheus, thanos};

/// A generated matcher message. Thanos and Prometheus each have their own, of the same shape and numbers.
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

/// Fails on an unknown type, on text that is no UTF-8 and on a regular expression that does not compile.
pub fn matcher_from_wire<M: WireMatcher>(message: &M) -> Result<Matcher> {
    let (kind, name, value) = message.parts();
    let name = utf8("name", name)?;
    let op = match kind {
        0 => MatchOp::Equal,
        1 => MatchOp::NotEqual,
        2 => MatchOp::Regex,
        3 => MatchOp::NotRegex,
        _ => return Err(Error::MatcherType { name: name.to_owned(), kind }),
    };
    let value = utf8("value", value)?;
    Matcher::new(op, name, value).map_err(|source| Error::MatcherRegex { name: name.to_owned(), source })
}

pub fn matchers_from_wire<M: WireMatcher>(messages: &[M]) -> Result<Vec<Matcher>> {
    messages.iter().map(matcher_from_wire).collect()
}

pub fn matchers_to_wire<M: WireMatcher>(matchers: &[Matcher]) -> Vec<M> {
    let message = |m: &Matcher| {
        let kind = match m.op() {
            MatchOp::Equal => 0,
            MatchOp::NotEqual => 1,
            MatchOp::Regex => 2,
            MatchOp::NotRegex => 3,
        };
        M::from_parts(kind, Bytes::copy_from_slice(m.name.as_bytes()), Bytes::copy_from_slice(m.value.as_bytes()))
    };
    matchers.iter().map(message).collect()
}

fn utf8<'a>(part: &'static str, bytes: &'a Bytes) -> Result<&'a str> {
    std::str::from_utf8(bytes)
        .map_err(|_| Error::MatcherText { part, text: String::from_utf8_lossy(bytes).into_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operator_survives_the_round_trip() {
        let matchers: Vec<Matcher> = [MatchOp::Equal, MatchOp::NotEqual, MatchOp::Regex, MatchOp::NotRegex]
            .into_iter()
            .map(|op| Matcher::new(op, "a", "x|y").unwrap())
            .collect();
        let wire: Vec<thanos::LabelMatcher> = matchers_to_wire(&matchers);
        assert_eq!(matchers_from_wire(&wire).unwrap(), matchers);
    }

    #[test]
    fn impossible_matchers_are_refused_by_name() {
        let broken = |kind, value: &'static [u8]| {
            let m = thanos::LabelMatcher::from_parts(kind, Bytes::from_static(b"job"), Bytes::from_static(value));
            matcher_from_wire(&m).unwrap_err().to_string()
        };
        assert_eq!(broken(9, b"x"), r#"matcher on label "job": unknown type 9"#);
        assert!(broken(2, b"(").starts_with(r#"matcher on label "job": "#));
        assert_eq!(broken(0, b"\xff"), "matcher value: \"\u{fffd}\" is not valid UTF-8");
    }
}
