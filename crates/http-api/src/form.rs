//! `name=value&…`, as in URLs and in bodies of forms.

use promql::quote;

/// Parameters in their order; a name may come more than once.
pub(crate) type Pairs = Vec<(String, String)>;

/// Reads all parameters.
///
/// # Errors
/// Names the first escape that is none, and parameters that are not UTF-8. Go drops such a
/// parameter and goes on; a query that silently lacks its end or a selector is worse than none.
pub(crate) fn decode(text: &[u8]) -> Result<Pairs, String> {
    text.split(|byte| *byte == b'&').filter(|one| !one.is_empty()).map(parameter).collect()
}

fn parameter(text: &[u8]) -> Result<(String, String), String> {
    let at = text.iter().position(|byte| *byte == b'=').unwrap_or(text.len());
    let value = text.get(at + 1..).unwrap_or_default();
    Ok((unescaped(&text[..at])?, unescaped(value)?))
}

/// The meaning of `+` and `%41`.
fn unescaped(text: &[u8]) -> Result<String, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        let (byte, taken) = match first {
            b'+' => (b' ', 1),
            b'%' => (escaped(after).ok_or_else(|| bad_escape(rest))?, 3),
            other => (*other, 1),
        };
        bytes.push(byte);
        rest = &rest[taken..];
    }
    String::from_utf8(bytes).map_err(|e| format!("{} is not UTF-8", shown(e.as_bytes())))
}

fn escaped(after: &[u8]) -> Option<u8> {
    let digit = |at: usize| char::from(*after.get(at)?).to_digit(16);
    u8::try_from(digit(0)? * 16 + digit(1)?).ok()
}

fn bad_escape(rest: &[u8]) -> String {
    format!("invalid URL escape {}", quote(&rest[..rest.len().min(3)]))
}

/// The beginning of a text, for a message.
fn shown(text: &[u8]) -> String {
    quote(&text[..text.len().min(100)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_read_as_they_were_meant() {
        let decoded = decode(b"&a=1+2&&b=%C3%a9%26&c&=d&a=x=y;z").unwrap();
        let pairs: Vec<(&str, &str)> =
            decoded.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(pairs, [("a", "1 2"), ("b", "\u{e9}&"), ("c", ""), ("", "d"), ("a", "x=y;z")]);
        assert!(decode(b"").unwrap().is_empty());
    }

    #[test]
    fn broken_escapes_and_bytes_are_named() {
        for (text, reason) in [
            ("q=up%zz", r#"invalid URL escape "%zz""#),
            ("q=up%2", r#"invalid URL escape "%2""#),
            ("%", r#"invalid URL escape "%""#),
            ("q=%+1", r#"invalid URL escape "%+1""#),
            ("q=%ff", r#""\xff" is not UTF-8"#),
        ] {
            assert_eq!(decode(text.as_bytes()).unwrap_err(), reason, "{text}");
        }
    }
}
