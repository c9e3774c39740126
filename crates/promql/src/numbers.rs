//! Number literals as Go reads them: decimal, hexadecimal, octal and binary integers, floats,
//! underscores, `Inf` and `NaN`.

use crate::quote::quote;

/// The NaN that a literal `NaN` means; its bits are those of Go's `math.NaN()`.
pub(crate) const NAN: f64 = f64::from_bits(0x7ff8_0000_0000_0001);

/// The value of a token of kind number, or why it has none.
pub(crate) fn parse_number(text: &str) -> Result<f64, String> {
    if let Some(integer) = parse_integer(text) {
        return Ok(integer as f64);
    }
    let failure = |why| {
        Err(format!(
            "error parsing number: strconv.ParseFloat: parsing {}: {why}",
            quote(text.as_bytes())
        ))
    };
    if text.eq_ignore_ascii_case("nan") {
        return Ok(NAN);
    }
    if text.eq_ignore_ascii_case("inf") {
        return Ok(f64::INFINITY);
    }
    // Prefixed numbers that reach this are not 64-bit integers, and a hexadecimal float needs a `p`
    // exponent.
    let decimal =
        text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-' | b'_'));
    if !decimal || !underscores_separate_digits(text) {
        return failure("invalid syntax");
    }
    match text.replace('_', "").parse::<f64>() {
        Ok(value) if value.is_infinite() => failure("value out of range"),
        Ok(value) => Ok(value),
        Err(_) => failure("invalid syntax"),
    }
}

/// As [`parse_number`], with a sign before it if there is one.
pub(crate) fn parse_signed_number(text: &str) -> Result<f64, String> {
    match text.strip_prefix('-') {
        Some(rest) => parse_number(rest).map(|value| -value),
        None => parse_number(text.strip_prefix('+').unwrap_or(text)),
    }
}

fn parse_integer(text: &str) -> Option<i64> {
    let lower = text.to_ascii_lowercase();
    let (radix, digits) = match lower.as_bytes() {
        [b'0', b'x', ..] => (16, &lower[2..]),
        [b'0', b'o', ..] => (8, &lower[2..]),
        [b'0', b'b', ..] => (2, &lower[2..]),
        [b'0', _, ..] => (8, &lower[1..]),
        _ => (10, &lower[..]),
    };
    if digits.starts_with(['+', '-']) || !underscores_separate_digits(text) {
        return None;
    }
    i64::from_str_radix(&digits.replace('_', ""), radix).ok()
}

/// Underscores may stand between digits, and between a base prefix and a digit.
fn underscores_separate_digits(text: &str) -> bool {
    let bytes = text.as_bytes();
    let prefixed = matches!(bytes, [b'0', b'x' | b'X' | b'o' | b'O' | b'b' | b'B', ..]);
    let is_digit = |i: usize| match bytes.get(i) {
        Some(b'a'..=b'f' | b'A'..=b'F') => prefixed,
        Some(b) => b.is_ascii_digit(),
        None => false,
    };
    (0..bytes.len()).filter(|&i| bytes[i] == b'_').all(|i| {
        let after_prefix = prefixed && i == 2;
        i > 0 && (after_prefix || is_digit(i - 1)) && is_digit(i + 1)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_have_their_go_values() {
        let cases = [
            ("0755", 493.0),
            ("08", 8.0),
            ("0x1F", 31.0),
            ("0X_1f", 31.0),
            ("1_000", 1000.0),
            ("1_000.5", 1000.5),
            (".5", 0.5),
            ("5.", 5.0),
            ("1e3", 1000.0),
            ("99999999999999999999", 1e20),
            ("Inf", f64::INFINITY),
            ("0_7", 7.0),
        ];
        for (text, value) in cases {
            assert_eq!(parse_number(text), Ok(value), "{text}");
        }
        assert_eq!(parse_number("NaN").map(f64::to_bits), Ok(0x7ff8_0000_0000_0001));
    }

    #[test]
    fn what_go_refuses_is_refused_with_its_text() {
        let text = parse_number("1e400").unwrap_err();
        assert_eq!(
            text,
            "error parsing number: strconv.ParseFloat: parsing \"1e400\": value out of range"
        );
        for text in [".5.5", "0xfffffffffffffffff", "0x", "1__0", "1_"] {
            assert!(parse_number(text).unwrap_err().ends_with("invalid syntax"), "{text}");
        }
    }
}
