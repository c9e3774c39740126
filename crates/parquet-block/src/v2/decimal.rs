//! Floats as integers, exact to the bit.
//!
//! Most series hold whole numbers or a few decimals. Their values are stored as the integer
//! `mantissa` of `mantissa / 10^scale`, with one scale for the whole series; a negative scale means
//! `mantissa * 10^scale`, which rounds otherwise and is what programs that multiply by `0.001`
//! give.
//! Sums and counters gather rounding errors while they are added up, so theirs come with the
//! distance in units in the last place.

/// The largest integer up to which a double holds all, so that any reader computes the same value.
const MAX_MANTISSA: f64 = 9_007_199_254_740_992.0;
/// The most decimals that are looked for: nanoseconds.
const MAX_SCALE: i32 = 9;
/// Further away than this, a float is not a decimal with rounding errors.
const MAX_ULPS: u64 = 1 << 16;
/// Values of a series that are looked at to find its scale.
const TRIED_VALUES: usize = 32;

const POWERS: [f64; 10] = [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9];
const FRACTIONS: [f64; 10] = [1e0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-9];

/// How the values of a series are made of integers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Scale(i32);

/// A float near a decimal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NearDecimal {
    pub(crate) mantissa: i64,
    /// How many floats lie between the decimal and the value; negative where the value's bits are
    /// the smaller ones.
    pub(crate) ulps: i32,
}

impl Scale {
    /// A scale as it is stored.
    pub(crate) fn stored(scale: i32) -> Option<Scale> {
        (-MAX_SCALE..=MAX_SCALE).contains(&scale).then_some(Scale(scale))
    }

    pub(crate) fn as_stored(self) -> i32 {
        self.0
    }

    /// The scale at which at least seven of eight values are integers, if there is one.
    pub(crate) fn of(values: &[f64]) -> Option<Scale> {
        let step = values.len().div_ceil(TRIED_VALUES).max(1);
        let tried = || values.iter().step_by(step);
        let most = tried().count() / 8;
        let fits = |scale: Scale| {
            let misses = tried().filter(|v| scale.mantissa(**v).is_none());
            misses.take(most + 1).count() <= most
        };
        let divided = 0..=MAX_SCALE;
        let multiplied = (1..=MAX_SCALE).map(|scale| -scale);
        (!values.is_empty())
            .then(|| divided.chain(multiplied).map(Scale).find(|scale| fits(*scale)))
            .flatten()
    }

    /// The value of an integer.
    pub(crate) fn value(self, mantissa: i64) -> f64 {
        let power = self.0.unsigned_abs() as usize;
        if self.0 >= 0 {
            mantissa as f64 / POWERS[power]
        } else {
            mantissa as f64 * FRACTIONS[power]
        }
    }

    fn nearest(self, value: f64) -> Option<i64> {
        let power = self.0.unsigned_abs() as usize;
        let scaled = (value * POWERS[power]).round_ties_even();
        (scaled.abs() <= MAX_MANTISSA).then_some(scaled as i64)
    }

    /// The integer that gives exactly this value.
    pub(crate) fn mantissa(self, value: f64) -> Option<i64> {
        self.nearest(value).filter(|m| self.value(*m).to_bits() == value.to_bits())
    }

    /// The integer that gives this value up to rounding errors.
    pub(crate) fn near(self, value: f64) -> Option<NearDecimal> {
        let mantissa = self.nearest(value)?;
        let exact = self.value(mantissa);
        let apart = value.to_bits().wrapping_sub(exact.to_bits()) as i64;
        let is_near =
            apart.unsigned_abs() < MAX_ULPS && exact.is_sign_positive() == value.is_sign_positive();
        is_near.then_some(NearDecimal { mantissa, ulps: apart as i32 })
    }
}

/// The float that is `ulps` floats away from a value.
pub(crate) fn with_ulps(value: f64, ulps: i32) -> f64 {
    f64::from_bits(value.to_bits().wrapping_add_signed(i64::from(ulps)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_scale_is_the_smallest_that_holds_the_values() {
        let scale = |values: &[f64]| Scale::of(values).map(Scale::as_stored);
        assert_eq!(scale(&[0.0, 1.0, 5e15, -3.0]), Some(0));
        assert_eq!(scale(&[0.25, 1.5, 3.0]), Some(2));
        assert_eq!(scale(&[0.001, 1234.567]), Some(3));
        let multiplied: Vec<f64> = (1..200).map(|i| f64::from(i * 7919) * 1e-6).collect();
        assert_eq!(scale(&multiplied), Some(-6));
        assert_eq!(scale(&[std::f64::consts::PI, std::f64::consts::E]), None);
        assert_eq!(scale(&[f64::NAN; 9]), None);
        assert_eq!(scale(&[]), None);
    }

    #[test]
    fn one_value_of_eight_may_be_another() {
        let mut values = vec![1.5; 16];
        values[3] = f64::INFINITY;
        assert_eq!(Scale::of(&values), Some(Scale(1)));
        values[4..8].fill(f64::NAN);
        assert_eq!(Scale::of(&values), None);
    }

    #[test]
    fn what_is_no_decimal_has_no_mantissa() {
        let scale = Scale(2);
        for value in [-0.0, f64::NAN, f64::INFINITY, f64::MAX, 1e300, 0.005, model::STALE_NAN] {
            assert_eq!(scale.mantissa(value), None, "{value}");
        }
        assert_eq!(scale.mantissa(-12.34), Some(-1234));
        assert_eq!(scale.near(-0.0), None, "its sign would be lost");
    }

    proptest! {
        #[test]
        fn mantissas_give_the_same_bits(
            bits in any::<u64>(),
            scale in -9i32..=9,
            small in any::<i32>(),
        ) {
            let scale = Scale::stored(scale).unwrap();
            let small_value = scale.value(i64::from(small));
            for value in [f64::from_bits(bits), small_value, f64::from(small) / 8.0] {
                if let Some(mantissa) = scale.mantissa(value) {
                    prop_assert_eq!(scale.value(mantissa).to_bits(), value.to_bits());
                }
                if let Some(near) = scale.near(value) {
                    let found = with_ulps(scale.value(near.mantissa), near.ulps);
                    prop_assert_eq!(found.to_bits(), value.to_bits());
                }
            }
            prop_assert!(scale.mantissa(small_value).is_some());
        }

        #[test]
        fn sums_of_decimals_are_near_a_decimal(
            values in prop::collection::vec(-10_000_000i32..10_000_000, 1..60),
        ) {
            let scale = Scale(2);
            let sum: f64 = values.iter().map(|v| scale.value(i64::from(*v))).sum();
            let exact: i64 = values.iter().map(|v| i64::from(*v)).sum();
            // near zero, the rest of what was cancelled is no decimal
            if exact.abs() > 100_000 {
                prop_assert_eq!(scale.near(sum).map(|near| near.mantissa), Some(exact));
            }
        }

        #[test]
        fn stored_numbers_never_panic(
            mantissa in any::<i64>(),
            ulps in any::<i32>(),
            scale in any::<i32>(),
        ) {
            if let Some(scale) = Scale::stored(scale) {
                with_ulps(scale.value(mantissa), ulps);
            }
        }
    }
}
