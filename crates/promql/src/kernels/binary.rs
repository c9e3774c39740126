//! Binary operators on floats.

use crate::ast::BinaryOp;

/// The value of an arithmetic operator; comparisons and set operators are NaN here and evaluated by
/// [`compare`].
#[inline]
pub fn arithmetic(op: BinaryOp, a: f64, b: f64) -> f64 {
    match op {
        BinaryOp::Add => a + b,
        BinaryOp::Sub => a - b,
        BinaryOp::Mul => a * b,
        BinaryOp::Div => a / b,
        BinaryOp::Mod => a % b,
        BinaryOp::Pow => a.powf(b),
        BinaryOp::Atan2 => a.atan2(b),
        _ => f64::NAN,
    }
}

/// The truth of a comparison; `None` for other operators.
#[inline]
pub fn compare(op: BinaryOp, a: f64, b: f64) -> Option<bool> {
    Some(match op {
        BinaryOp::Eq => a == b,
        BinaryOp::Ne => a != b,
        BinaryOp::Gt => a > b,
        BinaryOp::Lt => a < b,
        BinaryOp::Ge => a >= b,
        BinaryOp::Le => a <= b,
        _ => return None,
    })
}

pub fn is_comparison(op: BinaryOp) -> bool {
    compare(op, 0.0, 0.0).is_some()
}

pub fn is_set(op: BinaryOp) -> bool {
    matches!(op, BinaryOp::And | BinaryOp::Or | BinaryOp::Unless)
}

/// The operators that cut a native histogram at a bound.
pub fn is_trim(op: BinaryOp) -> bool {
    matches!(op, BinaryOp::TrimLower | BinaryOp::TrimUpper)
}

/// Whether the result no longer belongs to the metric, so that its name is dropped.
pub fn changes_metric(op: BinaryOp) -> bool {
    !is_comparison(op) && !is_trim(op)
}
