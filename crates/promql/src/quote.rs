//! Quoting and unquoting of strings and characters, and numbers as text, as Go's `strconv` and
//! `fmt` do them: error texts and printed expressions depend on it to the byte.

use crate::kernels::format::{Decimal, plain, shortest};

/// Quotes with double quotes; bytes that are not UTF-8 become `\xff`, unprintable characters
/// `\u202a`.
pub fn quote(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() + 2);
    out.push('"');
    for chunk in bytes.utf8_chunks() {
        chunk.valid().chars().for_each(|c| push_char(&mut out, c, '"'));
        for byte in chunk.invalid() {
            out.push_str(&format!("\\x{byte:02x}"));
        }
    }
    out.push('"');
    out
}

/// Quotes one character with single quotes; `None` is the end of input.
pub(crate) fn quote_char(c: Option<char>) -> String {
    let mut out = String::from("'");
    push_char(&mut out, c.unwrap_or(char::REPLACEMENT_CHARACTER), '\'');
    out.push('\'');
    out
}

/// `U+0067 'g'`.
pub(crate) fn describe_char(c: char) -> String {
    let code = format!("U+{:04X}", u32::from(c));
    if is_printable(c) { format!("{code} '{c}'") } else { code }
}

fn push_char(out: &mut String, c: char, quote: char) {
    match c {
        '\\' => out.push_str("\\\\"),
        c if c == quote => {
            out.push('\\');
            out.push(quote);
        }
        '\x07' => out.push_str("\\a"),
        '\x08' => out.push_str("\\b"),
        '\x0c' => out.push_str("\\f"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        '\x0b' => out.push_str("\\v"),
        c if is_printable(c) => out.push(c),
        c if u32::from(c) < 0x20 || c == '\x7f' => {
            out.push_str(&format!("\\x{:02x}", u32::from(c)))
        }
        c if u32::from(c) < 0x10000 => out.push_str(&format!("\\u{:04x}", u32::from(c))),
        c => out.push_str(&format!("\\U{:08x}", u32::from(c))),
    }
}

/// Letters, marks, numbers, punctuation, symbols and the ASCII space.
fn is_printable(c: char) -> bool {
    if c.is_ascii() {
        return (' '..='~').contains(&c);
    }
    // The standard library escapes unprintable characters, and combining ones only at the start of
    // a string.
    let mut probe = String::from("a");
    probe.push(c);
    !probe.escape_debug().any(|escaped| escaped == '\\')
}

/// The bytes that a quoted string stands for, `None` if it is malformed. `\xff` and `\377` are
/// single bytes; within back quotes nothing is escaped; single and double quotes differ only in the
/// quote that must be escaped.
pub fn unquote(text: &str) -> Option<Vec<u8>> {
    let quote = text.bytes().next()?;
    let inner = text.get(1..)?.strip_suffix(char::from(quote))?;
    match quote {
        b'`' if inner.contains('`') => None,
        b'`' => Some(inner.as_bytes().to_vec()),
        b'"' | b'\'' => unescape(inner, quote),
        _ => None,
    }
}

fn unescape(inner: &str, quote: u8) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(inner.len());
    let mut rest = inner.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte == quote || byte == b'\n' {
            return None;
        }
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        let (&escape, after) = rest.split_first()?;
        rest = after;
        match escape {
            b'a' => out.push(7),
            b'b' => out.push(8),
            b'f' => out.push(12),
            b'n' => out.push(b'\n'),
            b'r' => out.push(b'\r'),
            b't' => out.push(b'\t'),
            b'v' => out.push(11),
            b'\\' => out.push(b'\\'),
            b'\'' | b'"' if escape == quote => out.push(escape),
            b'x' => out.push(u8::try_from(take_digits(&mut rest, 2, 16)?).ok()?),
            b'u' => push_code_point(&mut out, take_digits(&mut rest, 4, 16)?)?,
            b'U' => push_code_point(&mut out, take_digits(&mut rest, 8, 16)?)?,
            b'0'..=b'7' => {
                let low = take_digits(&mut rest, 2, 8)?;
                out.push(u8::try_from(u32::from(escape - b'0') * 64 + low).ok()?);
            }
            _ => return None,
        }
    }
    Some(out)
}

fn take_digits(rest: &mut &[u8], count: usize, radix: u32) -> Option<u32> {
    let (digits, after) = rest.split_at_checked(count)?;
    *rest = after;
    digits
        .iter()
        .try_fold(0u32, |n, d| n.checked_mul(radix)?.checked_add(char::from(*d).to_digit(radix)?))
}

fn push_code_point(out: &mut Vec<u8>, code: u32) -> Option<()> {
    out.extend_from_slice(char::from_u32(code)?.encode_utf8(&mut [0; 4]).as_bytes());
    Some(())
}

/// As [`plain`], with an exponent of at least two digits below 1e-4 and from 1e6, as Go's `%v` and
/// `%g` print.
pub fn format_float_general(value: f64) -> String {
    let Some(Decimal { negative, digits, point }) = shortest(value) else { return plain(value) };
    let exponent = point - 1;
    if (-4..6).contains(&exponent) {
        return plain(value);
    }
    let (first, rest) = digits.split_at(1);
    let (sign, point) = (if negative { "-" } else { "" }, if rest.is_empty() { "" } else { "." });
    format!(
        "{sign}{first}{point}{rest}e{}{:02}",
        if exponent < 0 { '-' } else { '+' },
        exponent.abs()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoting_follows_go() {
        assert_eq!(quote(b"a\"b\\\n\xffz"), r#""a\"b\\\n\xffz""#);
        assert_eq!(quote("é\u{202a}\u{301}\u{7f}".as_bytes()), "\"é\\u202a\u{301}\\x7f\"");
        assert_eq!(quote_char(Some('\'')), r"'\''");
        assert_eq!(quote_char(None), "'\u{fffd}'");
        assert_eq!(describe_char('g'), "U+0067 'g'");
    }

    #[test]
    fn unquoting_gives_bytes() {
        assert_eq!(unquote(r#""\xff\377é\u00e9\U0001F600\'""#), None);
        assert_eq!(unquote(r#""\xff\377\u00e9""#), Some(b"\xff\xff\xc3\xa9".to_vec()));
        assert_eq!(unquote(r"'a\'b'"), Some(b"a'b".to_vec()));
        assert_eq!(unquote(r"`a\n`"), Some(b"a\\n".to_vec()));
        assert_eq!(
            [unquote("\""), unquote("\"\\400\""), unquote("\"\\ud800\""), unquote("")],
            [None, None, None, None]
        );
    }

    #[test]
    fn quoted_strings_read_back() {
        for text in ["", "a'b\"c`\n\t\x00\x1b\u{85}\u{a0}", "日本\u{10ffff}"] {
            assert_eq!(unquote(&quote(text.as_bytes())), Some(text.as_bytes().to_vec()));
        }
    }

    #[test]
    fn numbers_print_with_an_exponent_only_far_out() {
        let cases = [
            (0.1, "0.1"),
            (123_456.0, "123456"),
            (1_234_567.0, "1.234567e+06"),
            (1e21, "1e+21"),
            (1.5e-7, "1.5e-07"),
            (-0.0, "-0"),
        ];
        for (value, printed) in cases {
            assert_eq!(format_float_general(value), printed);
        }
        assert_eq!(format_float_general(f64::INFINITY), "+Inf");
    }
}
