//! Compensated summation: Neumaier's variant, with the compensation dropped when the sum overflows,
//! as Prometheus does it, and sums in double-double precision for prefix sums.

/// Adds `x` to the sum `(s, c)`; the value of the sum is `s + c`.
#[inline(always)]
pub fn add(x: f64, s: f64, c: f64) -> (f64, f64) {
    let t = s + x;
    let lost = if s.abs() >= x.abs() { (s - t) + x } else { (x - t) + s };
    (t, if t.is_infinite() { 0.0 } else { c + lost })
}

/// A sum in double-double precision: the exact error of every addition is kept in the low part.
#[derive(Clone, Copy, Debug, Default)]
pub struct Double {
    pub hi: f64,
    pub lo: f64,
}

impl Double {
    #[inline(always)]
    pub fn plus(self, x: f64) -> Double {
        let s = self.hi + x;
        let b = s - self.hi;
        let err = (self.hi - (s - b)) + (x - b);
        Double { hi: s, lo: self.lo + err }
    }

    /// Adds the exact product `a * b`.
    #[inline(always)]
    pub fn plus_product(self, a: f64, b: f64) -> Double {
        let p = a * b;
        let mut sum = self.plus(p);
        sum.lo += a.mul_add(b, -p);
        sum
    }

    #[inline(always)]
    pub fn minus(self, other: Double) -> f64 {
        let d = self.hi - other.hi;
        let b = d - self.hi;
        let err = (self.hi - (d - b)) + (-other.hi - b);
        d + (err + (self.lo - other.lo))
    }
}

/// The compensated sum of all values.
pub fn sum(values: &[f64]) -> f64 {
    let (mut s, mut c) = (0.0, 0.0);
    for x in values {
        (s, c) = add(*x, s, c);
    }
    if s.is_infinite() { s } else { s + c }
}

/// The mean: compensated, and incremental from where the plain sum would overflow.
pub fn mean(values: &[f64]) -> f64 {
    let (mut s, mut c) = (0.0, 0.0);
    for (i, x) in values.iter().enumerate() {
        let (t, tc) = add(*x, s, c);
        if t.is_infinite() && i > 0 {
            return incremental_mean(values, i, s / i as f64, c / i as f64);
        }
        (s, c) = (t, tc);
    }
    let n = values.len() as f64;
    s / n + c / n
}

fn incremental_mean(values: &[f64], from: usize, mut mean: f64, mut c: f64) -> f64 {
    for (i, x) in values.iter().enumerate().skip(from) {
        let count = (i + 1) as f64;
        (mean, c) = mean_step(*x, count, mean, c);
    }
    mean + c
}

/// Folds the `count`-th value into a running mean.
#[inline]
pub fn mean_step(x: f64, count: f64, mean: f64, c: f64) -> (f64, f64) {
    if mean.is_infinite() {
        // An infinite mean stays what it is unless a NaN or the opposite infinity arrives;
        // subtracting it from itself would make a NaN.
        if (x.is_infinite() && (mean > 0.0) == (x > 0.0)) || x.is_finite() {
            return (mean, c);
        }
    }
    let keep = (count - 1.0) / count;
    add(x / count, keep * mean, keep * c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cancellation_keeps_the_small_terms() {
        assert_eq!(sum(&[1e100, 1.0, -1e100]), 1.0);
        assert_eq!(sum(&[f64::INFINITY, 1.0]), f64::INFINITY);
        assert!(sum(&[f64::INFINITY, f64::NEG_INFINITY]).is_nan());
    }

    #[test]
    fn means_do_not_overflow() {
        assert_eq!(mean(&[f64::MAX, f64::MAX]), f64::MAX);
        assert_eq!(mean(&[2.0, 4.0]), 3.0);
        assert_eq!(mean(&[f64::INFINITY, 4.0]), f64::INFINITY);
        assert!(mean(&[f64::INFINITY, f64::NEG_INFINITY]).is_nan());
    }

    #[test]
    fn double_prefixes_subtract_without_cancellation() {
        let a = Double::default().plus(1e16).plus(1.0);
        let b = a.plus(0.25).plus(1e-9);
        assert!((b.minus(a) - (0.25 + 1e-9)).abs() < 1e-15);
    }
}
