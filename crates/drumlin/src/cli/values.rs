//! Values of flags, spelt as Thanos' flags are: Go's and Prometheus' durations, binary sizes, times
//! and offsets.

use std::str::FromStr;
use std::time::Duration;

use model::{Labels, TimestampMs, rfc3339};

/// `2h`, `1d12h`, `1.5h`, `0`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    signed_millis(text)
        .and_then(|ms| u64::try_from(ms).ok())
        .map(Duration::from_millis)
        .ok_or_else(|| "expected a duration such as 30s, 5m, 1h30m or 2d".to_owned())
}

/// Milliseconds of Prometheus' durations and of Go's, which have decimals and smaller units.
fn signed_millis(text: &str) -> Option<i64> {
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text.strip_prefix('+').unwrap_or(text)),
    };
    match rest {
        "0" => return Some(0),
        "" => return None,
        _ => {}
    }
    let mut total = 0.0;
    while !rest.is_empty() {
        let (number, after) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit() && c != '.')?);
        let unit_end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_end);
        total += number.parse::<f64>().ok()? * unit_millis(unit)?;
        rest = after;
    }
    // within the range of a duration in nanoseconds
    (total < 9.2e12).then_some((sign * total).round() as i64)
}

fn unit_millis(unit: &str) -> Option<f64> {
    Some(match unit {
        "ns" => 1e-6,
        "us" | "µs" => 1e-3,
        "ms" => 1.0,
        "s" => 1e3,
        "m" => 60e3,
        "h" => 3600e3,
        "d" => 24.0 * 3600e3,
        "w" => 7.0 * 24.0 * 3600e3,
        "y" => 365.0 * 24.0 * 3600e3,
        _ => return None,
    })
}

/// A size in bytes: `250MB` is 250·2²⁰, as in Thanos.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ByteSize(pub(crate) u64);

impl FromStr for ByteSize {
    type Err = String;

    fn from_str(text: &str) -> Result<ByteSize, String> {
        let invalid = || "expected a size such as 512KB, 250MB or 2GB".to_owned();
        let number_end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, unit) = text.split_at(number_end);
        let factor = match unit {
            "" | "B" => 0,
            "KB" | "KiB" | "K" => 10,
            "MB" | "MiB" | "M" => 20,
            "GB" | "GiB" | "G" => 30,
            "TB" | "TiB" | "T" => 40,
            _ => return Err(invalid()),
        };
        let bytes = number.parse::<f64>().map_err(|_| invalid())? * f64::from(2u32).powi(factor);
        if bytes < 9e18 { Ok(ByteSize(bytes as u64)) } else { Err(invalid()) }
    }
}

/// A point in time, or one relative to now: `2026-01-01T00:00:00Z`, `-2h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TimeOrOffset {
    At(TimestampMs),
    /// Milliseconds from now; negative is the past.
    Offset(i64),
}

impl TimeOrOffset {
    /// Milliseconds since the epoch, as of `now`.
    pub(crate) fn at(self, now: TimestampMs) -> i64 {
        match self {
            TimeOrOffset::At(time) => time.0,
            TimeOrOffset::Offset(ms) => now.0.saturating_add(ms),
        }
    }
}

impl FromStr for TimeOrOffset {
    type Err = String;

    fn from_str(text: &str) -> Result<TimeOrOffset, String> {
        if let Some(time) = rfc3339::parse(text) {
            return Ok(TimeOrOffset::At(time));
        }
        signed_millis(text).map(TimeOrOffset::Offset).ok_or_else(|| {
            "expected a time such as 2026-01-01T00:00:00Z or an offset such as -2h".to_owned()
        })
    }
}

/// `name="value"` or `name=value`.
pub(crate) fn label(text: &str) -> Result<(String, String), String> {
    let invalid = || "expected name=\"value\"".to_owned();
    let (name, value) =
        text.split_once('=').filter(|(name, _)| !name.is_empty()).ok_or_else(invalid)?;
    let Some(quoted) = value.strip_prefix('"') else {
        return Ok((name.to_owned(), value.to_owned()));
    };
    let escaped = quoted.strip_suffix('"').ok_or_else(invalid)?;
    let (mut value, mut letters) = (String::new(), escaped.chars());
    while let Some(letter) = letters.next() {
        value.push(match letter {
            '"' => return Err(invalid()),
            '\\' => match letters.next().ok_or_else(invalid)? {
                'n' => '\n',
                't' => '\t',
                same @ ('"' | '\\') => same,
                _ => return Err(invalid()),
            },
            plain => plain,
        });
    }
    Ok((name.to_owned(), value))
}

pub(crate) fn labels(pairs: &[(String, String)]) -> Labels {
    Labels::from_pairs(pairs.iter().map(|(name, value)| (name, value)))
}

/// A boolean in Go's spellings.
pub(crate) fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err("expected true or false".to_owned()),
    }
}

/// Values of a flag that may be repeated and may hold several, separated by commas.
pub(crate) fn split_commas(values: &[String]) -> Vec<String> {
    let parts = values.iter().flat_map(|value| value.split(','));
    parts.map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_of_prometheus_and_go() {
        for (text, ms) in [
            ("0", 0),
            ("0ms", 0),
            ("0d", 0),
            ("500ms", 500),
            ("2m", 120_000),
            ("1d12h", 129_600_000),
            ("1w", 604_800_000),
            ("1y", 31_536_000_000),
            ("1.5h", 5_400_000),
            ("1h0m0s", 3_600_000),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in ["", "-", "5", "m", "-5m", "1x", "1h-"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_are_binary() {
        for (text, bytes) in
            [("0", 0), ("250MB", 250 << 20), ("2GB", 2 << 30), ("64GiB", 64 << 30), ("1.5KB", 1536)]
        {
            assert_eq!(text.parse(), Ok(ByteSize(bytes)), "{text}");
        }
        assert!("lots".parse::<ByteSize>().is_err() && "1XB".parse::<ByteSize>().is_err());
    }

    #[test]
    fn times_are_absolute_or_relative() {
        assert_eq!("-2h".parse(), Ok(TimeOrOffset::Offset(-7_200_000)));
        assert_eq!("2w".parse(), Ok(TimeOrOffset::Offset(1_209_600_000)));
        assert_eq!("1970-01-01T00:00:01Z".parse(), Ok(TimeOrOffset::At(TimestampMs(1000))));
        assert!("0000-01-01T00:00:00Z".parse::<TimeOrOffset>().is_ok());
        assert!("9999-12-31T23:59:59Z".parse::<TimeOrOffset>().is_ok());
        assert!("yesterday".parse::<TimeOrOffset>().is_err());
    }

    #[test]
    fn labels_are_quoted_or_not() {
        assert_eq!(label(r#"a="b c""#), Ok(("a".to_owned(), "b c".to_owned())));
        assert_eq!(label("a=b"), Ok(("a".to_owned(), "b".to_owned())));
        assert_eq!(label(r#"a="\"\\""#), Ok(("a".to_owned(), "\"\\".to_owned())));
        assert!(label(r#"a="b"c""#).is_err());
        assert!(label("=b").is_err() && label("a").is_err() && label("a=\"b").is_err());
    }
}
