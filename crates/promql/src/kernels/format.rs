//! Numbers as Go prints them, where they become part of labels and messages.

/// `strconv.FormatFloat(v, 'f', -1, 64)`: the shortest decimal without exponent.
pub fn plain(v: f64) -> String {
    if v.is_nan() {
        return "NaN".to_owned();
    }
    if v.is_infinite() {
        return if v > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    format!("{v}")
}

/// `fmt.Sprintf("%g", v)`: the shortest form, with an exponent below 1e-4 and from 1e6 on.
pub fn general(v: f64) -> String {
    if !v.is_finite() {
        return plain(v);
    }
    let scientific = format!("{v:e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if v == 0.0 || (-4..6).contains(&exponent) {
        return plain(v);
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:02}", exponent.abs())
}

/// Text in Go's `%q` form; bytes that are no UTF-8 as `\xNN`.
pub fn quoted(bytes: &[u8]) -> String {
    let mut out = String::from("\"");
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                c if c.is_control() => out.extend(c.escape_unicode().filter(|c| !matches!(c, '{' | '}'))),
                c => out.push(c),
            }
        }
        for byte in chunk.invalid() {
            out.push_str(&format!("\\x{byte:02x}"));
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_print_as_go_prints_them() {
        assert_eq!(plain(1e21), "1000000000000000000000");
        assert_eq!(plain(f64::NEG_INFINITY), "-Inf");
        assert_eq!(general(1.1), "1.1");
        assert_eq!(general(1e-5), "1e-05");
        assert_eq!(general(1234567.0), "1.234567e+06");
        assert_eq!(general(100000.0), "100000");
        assert_eq!(quoted(b"a\xc5z"), "\"a\\xc5z\"");
    }
}
