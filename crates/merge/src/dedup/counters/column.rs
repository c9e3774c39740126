//! What makes a column a counter.

use model::histogram::ResetHint;
use model::{Sample, SampleValue};

use crate::column::{Floats, SampleColumn, with_hint};

/// A column whose samples may be those of a counter.
pub trait CounterColumn: SampleColumn {
    /// A value, or the difference of two.
    type Value: Clone;

    fn value(&self, i: usize) -> Self::Value;

    /// Whether the counter was reset between sample `i` and the one before it, which there must be.
    fn is_reset(&self, i: usize) -> bool;

    /// Whether `now` is less than `before`, as a counter is only after a reset.
    fn fell(now: &Self::Value, before: &Self::Value) -> bool;

    /// What turns `from` into `to`; `None` where nothing can.
    fn height(from: &Self::Value, to: &Self::Value) -> Option<Self::Value>;

    fn lifted(value: Self::Value, height: &Self::Value) -> Self::Value;

    /// The value at this share of the way between two values; `from` where there is none.
    fn between(from: Self::Value, to: &Self::Value, share: f64) -> Self::Value;

    /// Appends a value, whose hint, if it has one, says what is known about a reset before it.
    fn push_value(&mut self, t: i64, value: &Self::Value, hint: ResetHint);

    fn leave_out_nan(&mut self);
}

impl CounterColumn for Floats {
    type Value = f64;

    #[inline]
    fn value(&self, i: usize) -> f64 {
        self.values[i]
    }

    #[inline]
    fn is_reset(&self, i: usize) -> bool {
        self.values[i] < self.values[i - 1]
    }

    #[inline]
    fn fell(now: &f64, before: &f64) -> bool {
        now < before
    }

    fn height(from: &f64, to: &f64) -> Option<f64> {
        Some(to - from)
    }

    #[inline]
    fn lifted(value: f64, height: &f64) -> f64 {
        value + height
    }

    fn between(from: f64, to: &f64, share: f64) -> f64 {
        from + (to - from) * share
    }

    #[inline]
    fn push_value(&mut self, t: i64, value: &f64, _hint: ResetHint) {
        self.push(t, *value);
    }

    fn leave_out_nan(&mut self) {
        if self.values.iter().any(|v| v.is_nan()) {
            let (ts, values) = (std::mem::take(&mut self.ts), std::mem::take(&mut self.values));
            ts.into_iter()
                .zip(values)
                .filter(|(_, v)| !v.is_nan())
                .for_each(|(t, v)| self.push(t, v));
        }
    }
}

impl CounterColumn for Vec<Sample> {
    type Value = SampleValue;

    fn value(&self, i: usize) -> SampleValue {
        self[i].value.clone()
    }

    fn is_reset(&self, i: usize) -> bool {
        match (&self[i].value, &self[i - 1].value) {
            (SampleValue::Float(now), SampleValue::Float(before)) => now < before,
            (SampleValue::Histogram(now), SampleValue::Histogram(before)) => {
                now.hint != ResetHint::Gauge && now.detect_reset(before)
            }
            _ => false,
        }
    }

    fn fell(now: &SampleValue, before: &SampleValue) -> bool {
        match (now, before) {
            (SampleValue::Float(now), SampleValue::Float(before)) => now < before,
            (SampleValue::Histogram(now), SampleValue::Histogram(before)) => {
                now.hint != ResetHint::Gauge && now.is_below(before)
            }
            _ => false,
        }
    }

    fn height(from: &SampleValue, to: &SampleValue) -> Option<SampleValue> {
        match (from, to) {
            (SampleValue::Float(from), SampleValue::Float(to)) => {
                Some(SampleValue::Float(to - from))
            }
            (SampleValue::Histogram(from), SampleValue::Histogram(to)) => {
                let mut height = (**to).clone();
                height.sub(from).ok()?;
                Some(SampleValue::Histogram(height.into()))
            }
            _ => None,
        }
    }

    fn lifted(value: SampleValue, height: &SampleValue) -> SampleValue {
        match (&value, height) {
            (SampleValue::Float(v), SampleValue::Float(height)) => SampleValue::Float(v + height),
            (SampleValue::Histogram(h), SampleValue::Histogram(height)) => {
                let mut lifted = (**h).clone();
                match lifted.add(height) {
                    Ok(_) => SampleValue::Histogram(lifted.into()),
                    Err(_) => value,
                }
            }
            _ => value,
        }
    }

    fn between(from: SampleValue, to: &SampleValue, share: f64) -> SampleValue {
        let height = match Self::height(&from, to) {
            Some(SampleValue::Float(height)) => SampleValue::Float(height * share),
            Some(SampleValue::Histogram(height)) => {
                let mut height = (*height).clone();
                height.mul(share);
                SampleValue::Histogram(height.into())
            }
            None => return from,
        };
        Self::lifted(from, &height)
    }

    fn push_value(&mut self, t: i64, value: &SampleValue, hint: ResetHint) {
        self.push(Sample { t, value: with_hint(value, hint) });
    }

    fn leave_out_nan(&mut self) {
        self.retain(|sample| match &sample.value {
            SampleValue::Float(v) => !v.is_nan(),
            SampleValue::Histogram(h) => !h.is_stale(),
        });
    }
}
