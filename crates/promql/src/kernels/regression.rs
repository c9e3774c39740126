//! `deriv`, `predict_linear`, `double_exponential_smoothing`.

use super::kahan;
use super::window::Samples;

/// Slope (per second) and value at `at` of the least-squares line; compensated sums.
pub fn linear(samples: Samples<'_>, at: i64) -> (f64, f64) {
    let first = samples.v[0];
    if samples.v.iter().skip(1).all(|v| *v == first) {
        return if first.is_infinite() { (f64::NAN, f64::NAN) } else { (0.0, first) };
    }
    let (mut x, mut y, mut xy, mut xx) = ((0.0, 0.0), (0.0, 0.0), (0.0, 0.0), (0.0, 0.0));
    for (t, v) in samples.t.iter().zip(samples.v) {
        let seconds = (t - at) as f64 / 1e3;
        x = kahan::add(seconds, x.0, x.1);
        y = kahan::add(*v, y.0, y.1);
        xy = kahan::add(seconds * v, xy.0, xy.1);
        xx = kahan::add(seconds * seconds, xx.0, xx.1);
    }
    let n = samples.v.len() as f64;
    let (x, y, xy, xx) = (x.0 + x.1, y.0 + y.1, xy.0 + xy.1, xx.0 + xx.1);
    let covariance = xy - x * y / n;
    let variance = xx - x * x / n;
    let slope = covariance / variance;
    (slope, y / n - slope * x / n)
}

/// Holt's linear method over at least two values.
pub fn smooth(values: &[f64], smoothing: f64, trend: f64) -> f64 {
    let (mut before, mut level, mut slope) = (0.0, values[0], values[1] - values[0]);
    for (i, v) in values.iter().enumerate().skip(1) {
        if i > 1 {
            slope = trend * (level - before) + (1.0 - trend) * slope;
        }
        let next = smoothing * v + (1.0 - smoothing) * (level + slope);
        (before, level) = (level, next);
    }
    level
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_found_exactly() {
        let t: Vec<i64> = (0..10).map(|i| i * 1000).collect();
        let v: Vec<f64> = (0..10).map(|i| 3.0 + 2.0 * f64::from(i)).collect();
        let (slope, at) = linear(Samples { t: &t, v: &v }, 5000);
        assert_eq!((slope, at), (2.0, 13.0));
        assert!(linear(Samples { t: &t[..2], v: &[f64::INFINITY; 2] }, 0).0.is_nan());
    }

    #[test]
    fn smoothing_follows_a_line() {
        assert_eq!(smooth(&[1.0, 2.0, 3.0, 4.0], 0.5, 0.5), 4.0);
    }
}
