//! Functions of one value.

/// A function of a value alone.
pub type FloatFunction = fn(f64) -> f64;

/// Functions of one value by their name in PromQL; those of time are in [`super::calendar`].
pub fn by_name(name: &str) -> Option<FloatFunction> {
    Some(match name {
        "abs" => f64::abs,
        "ceil" => f64::ceil,
        "floor" => f64::floor,
        "exp" => f64::exp,
        "ln" => f64::ln,
        "log2" => f64::log2,
        "log10" => f64::log10,
        "sqrt" => f64::sqrt,
        "sgn" => sgn,
        "sin" => f64::sin,
        "cos" => f64::cos,
        "tan" => f64::tan,
        "asin" => f64::asin,
        "acos" => acos,
        "atan" => f64::atan,
        // beyond this, both are half of `exp`, and like Go's they overflow where `exp` does
        "sinh" => |v| if v.abs() > 21.0 { (v.abs().exp() * 0.5).copysign(v) } else { v.sinh() },
        "cosh" => |v| if v.abs() > 21.0 { v.abs().exp() * 0.5 } else { v.cosh() },
        "tanh" => f64::tanh,
        "asinh" => f64::asinh,
        "acosh" => f64::acosh,
        // an odd function: use the side where nothing cancels out
        "atanh" => |v| v.abs().atanh().copysign(v),
        "deg" => |v| v * 180.0 / std::f64::consts::PI,
        "rad" => |v| v * std::f64::consts::PI / 180.0,
        _ => return None,
    })
}

/// Near 1 it is inexact as in Go: squaring the cosine rounds away the digits that the arc depends
/// on, up to its eighth digit.
fn acos(v: f64) -> f64 {
    use std::f64::consts::FRAC_PI_2;
    if v > 0.7 { FRAC_PI_2 - (FRAC_PI_2 - ((1.0 - v * v).sqrt() / v).atan()) } else { v.acos() }
}

fn sgn(v: f64) -> f64 {
    if v < 0.0 {
        -1.0
    } else if v > 0.0 {
        1.0
    } else {
        v
    }
}

/// Rounds to the nearest multiple, halves up.
pub fn round(v: f64, to_nearest: f64) -> f64 {
    let inverse = 1.0 / to_nearest;
    (v * inverse + 0.5).floor() / inverse
}

/// The larger; +Inf beats NaN, NaN beats the rest.
pub fn max(a: f64, b: f64) -> f64 {
    if a == f64::INFINITY || b == f64::INFINITY {
        return f64::INFINITY;
    }
    let larger = if a > b || (a == b && b.is_sign_negative()) { a } else { b };
    if a.is_nan() || b.is_nan() { f64::NAN } else { larger }
}

/// The smaller; -Inf beats NaN, NaN beats the rest.
pub fn min(a: f64, b: f64) -> f64 {
    if a == f64::NEG_INFINITY || b == f64::NEG_INFINITY {
        return f64::NEG_INFINITY;
    }
    let smaller = if a < b || (a == b && a.is_sign_negative()) { a } else { b };
    if a.is_nan() || b.is_nan() { f64::NAN } else { smaller }
}
