//! Durations: reading and printing `1h30m`, and evaluating duration arithmetic.

use crate::ast::{BinaryOp, Duration, DurationExpr, DurationExprKind, NumberLiteral, Span};
use crate::quote::quote;

/// Why a text is not a duration, or duration arithmetic has no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct DurationError(String);

/// The most seconds that fit 64 bits of nanoseconds.
pub(crate) const MAX_SECONDS: f64 = (1u64 << 63) as f64 / 1e9;

const UNITS: [(&str, i64); 7] = [
    ("y", 365 * 86_400_000),
    ("w", 7 * 86_400_000),
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1000),
    ("ms", 1),
];

/// Milliseconds of a duration such as `1d12h`, units from the largest to the smallest; `0` needs no
/// unit.
pub fn parse_duration(text: &str) -> Result<i64, DurationError> {
    let invalid =
        || DurationError(format!("not a valid duration string: {}", quote(text.as_bytes())));
    let out_of_range = || DurationError("duration out of range".to_owned());
    match text {
        "0" => return Ok(0),
        "" => return Err(DurationError("empty duration string".to_owned())),
        _ => {}
    }
    let (mut rest, mut total, mut units) = (text, 0i64, UNITS.as_slice());
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let count: u64 = rest[..digits].parse().map_err(|_| invalid())?;
        let after = &rest[digits..];
        let unit = &after[..after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len())];
        rest = &after[unit.len()..];
        if unit.is_empty() {
            return Err(invalid());
        }
        if UNITS.iter().all(|(name, _)| *name != unit) {
            let (unit, text) = (quote(unit.as_bytes()), quote(text.as_bytes()));
            return Err(DurationError(format!("unknown unit {unit} in duration {text}")));
        }
        let at = units.iter().position(|(name, _)| *name == unit).ok_or_else(invalid)?;
        let millis = i64::try_from(count)
            .ok()
            .and_then(|n| n.checked_mul(units[at].1))
            .ok_or_else(out_of_range)?;
        total = total
            .checked_add(millis)
            .filter(|ms| *ms <= i64::MAX / 1_000_000)
            .ok_or_else(out_of_range)?;
        units = &units[at + 1..];
    }
    Ok(total)
}

/// Prints milliseconds as `1h30m`; years and weeks only where nothing smaller is left over.
pub fn format_duration(millis: i64) -> String {
    if millis == 0 {
        return "0s".to_owned();
    }
    let mut out = String::from(if millis < 0 { "-" } else { "" });
    let mut rest = millis.unsigned_abs();
    for (unit, size) in UNITS {
        let size = size.unsigned_abs();
        let exact_only = matches!(unit, "y" | "w");
        if rest >= size && (!exact_only || rest.is_multiple_of(size)) {
            out.push_str(&format!("{}{unit}", rest / size));
            rest %= size;
        }
    }
    out
}

/// Seconds of a duration literal. Whole seconds and the rest are added as Go adds them, for the
/// same last bit.
pub(crate) fn literal_seconds(millis: i64) -> f64 {
    (millis / 1000) as f64 + (millis % 1000 * 1_000_000) as f64 / 1e9
}

/// Whole milliseconds of a literal. Plain numbers are rounded to nanoseconds, then cut off; what
/// was written as a duration has whole milliseconds, which must not be lost to the precision of
/// seconds.
pub(crate) fn literal_millis(literal: NumberLiteral) -> i64 {
    if literal.is_duration {
        (literal.value * 1000.0).round() as i64
    } else {
        (literal.value * 1e9).round() as i64 / 1_000_000
    }
}

impl Duration {
    /// Milliseconds, given the step and the range (end minus start) of the query in milliseconds;
    /// both are 0 for instant queries. May be negative, as offsets may.
    ///
    /// # Errors
    /// Division by zero, and results that are not finite or beyond 292 years.
    pub fn resolve(&self, step_ms: i64, range_ms: i64) -> Result<i64, DurationError> {
        match &self.expr {
            Some(expr) => finish(expr, expr.seconds(step_ms, range_ms)?, true),
            None => Ok(self.millis.unwrap_or(0)),
        }
    }

    /// As [`Duration::resolve`], for ranges and the steps of subqueries: results must be above 0.
    pub fn resolve_positive(&self, step_ms: i64, range_ms: i64) -> Result<i64, DurationError> {
        match &self.expr {
            Some(expr) => finish(expr, expr.seconds(step_ms, range_ms)?, false),
            None => Ok(self.millis.unwrap_or(0)),
        }
    }
}

fn fail<T>(span: Span, message: &str) -> Result<T, DurationError> {
    Err(DurationError(format!("{}:{}: {message}", span.start, span.end)))
}

fn finish(expr: &DurationExpr, seconds: f64, negative_allowed: bool) -> Result<i64, DurationError> {
    if !seconds.is_finite() {
        return fail(expr.span, "duration is NaN or infinite");
    }
    if seconds <= 0.0 && !negative_allowed {
        return fail(expr.span, "duration must be greater than 0");
    }
    if seconds.abs() > MAX_SECONDS {
        return fail(expr.span, "duration is out of range");
    }
    Ok((seconds * 1000.0) as i64)
}

impl DurationExpr {
    fn seconds(&self, step_ms: i64, range_ms: i64) -> Result<f64, DurationError> {
        let value = |e: &DurationExpr| e.seconds(step_ms, range_ms);
        Ok(match &self.kind {
            DurationExprKind::Number(number) => number.value,
            DurationExprKind::Step => step_ms as f64 / 1000.0,
            DurationExprKind::Range => range_ms as f64 / 1000.0,
            DurationExprKind::Negate(inner) => -value(inner)?,
            DurationExprKind::Paren(inner) => value(inner)?,
            DurationExprKind::Min(a, b) => choose(value(a)?, value(b)?, f64::min),
            DurationExprKind::Max(a, b) => choose(value(a)?, value(b)?, f64::max),
            DurationExprKind::Binary(op, a, b) => {
                let (a, b) = (value(a)?, value(b)?);
                match op {
                    BinaryOp::Add => a + b,
                    BinaryOp::Sub => a - b,
                    BinaryOp::Mul => a * b,
                    BinaryOp::Div if b == 0.0 => return fail(self.span, "division by zero"),
                    BinaryOp::Div => a / b,
                    BinaryOp::Mod if b == 0.0 => return fail(self.span, "modulo by zero"),
                    BinaryOp::Mod => a % b,
                    BinaryOp::Pow => a.powf(b),
                    other => {
                        return fail(
                            self.span,
                            &format!("operator {} has no meaning for durations", other.as_str()),
                        );
                    }
                }
            }
        })
    }
}

/// Unlike [`f64::min`], a NaN on either side wins.
fn choose(a: f64, b: f64, pick: fn(f64, f64) -> f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::NAN } else { pick(a, b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_and_print() {
        for (text, millis, printed) in [
            ("1h30m", 5_400_000, "1h30m"),
            ("90d", 90 * 86_400_000, "90d"),
            ("1y", 365 * 86_400_000, "1y"),
            ("2w", 14 * 86_400_000, "2w"),
            ("1500ms", 1500, "1s500ms"),
            ("0", 0, "0s"),
        ] {
            assert_eq!(parse_duration(text).as_ref(), Ok(&millis));
            assert_eq!(format_duration(millis), printed);
        }
        assert_eq!(format_duration(-300_000), "-5m");
        assert!(!format_duration(i64::MIN).is_empty());
    }

    #[test]
    fn what_is_no_duration_is_told() {
        for (text, message) in [
            ("", "empty duration string"),
            ("5", r#"not a valid duration string: "5""#),
            ("5m1h", r#"not a valid duration string: "5m1h""#),
            ("5m5m", r#"not a valid duration string: "5m5m""#),
            ("m", r#"not a valid duration string: "m""#),
            ("5hs", r#"unknown unit "hs" in duration "5hs""#),
            ("300y", "duration out of range"),
            ("99999999999999999999y", r#"not a valid duration string: "99999999999999999999y""#),
        ] {
            assert_eq!(parse_duration(text).unwrap_err().to_string(), message);
        }
    }
}
