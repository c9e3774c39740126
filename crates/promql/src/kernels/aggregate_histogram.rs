//! `sum` and `avg` of the histograms of one group at one step; also of one window, for
//! `sum_over_time` and `avg_over_time`.

use model::histogram::{FloatHistogram, HistogramError, HistogramSum, Reconciled, ResetHint};

use super::notes::{HistogramOperation, Note, Notes};

/// Below this no sum of two can overflow.
const SAFE: f64 = f64::MAX / 4.0;

/// A compensated sum or mean of histograms. The mean is the sum divided by the number of
/// histograms, until the sum would overflow; from there on the mean itself is kept.
///
/// Floats of the group are left to the caller: a group that has both kinds has no result and is
/// noted as [`Note::MixedFloatsAndHistogramsInAggregation`], without a call of
/// [`finish`](Self::finish).
#[derive(Clone, Debug)]
pub struct HistogramAggregate {
    avg: bool,
    sum: Option<HistogramSum>,
    added: f64,
    /// `sum` is the mean so far.
    is_mean: bool,
    /// An upper bound of everything in `sum`.
    magnitude: f64,
    reset_seen: bool,
    not_reset_seen: bool,
    /// Exponential and custom buckets were mixed.
    incompatible: bool,
}

impl HistogramAggregate {
    /// A mean if `avg`, otherwise a sum.
    pub fn new(avg: bool) -> HistogramAggregate {
        HistogramAggregate {
            avg,
            sum: None,
            added: 0.0,
            is_mean: false,
            magnitude: 0.0,
            reset_seen: false,
            not_reset_seen: false,
            incompatible: false,
        }
    }

    /// Adds a histogram. Notes made here name the metric of the histogram's series.
    pub fn add(&mut self, histogram: &FloatHistogram, notes: &mut Notes) {
        if self.incompatible {
            return;
        }
        match histogram.hint {
            ResetHint::Reset => self.reset_seen = true,
            ResetHint::NotReset => self.not_reset_seen = true,
            ResetHint::Unknown | ResetHint::Gauge => {}
        }
        self.added += 1.0;
        let Some(sum) = &mut self.sum else {
            self.sum = Some(HistogramSum::new(histogram.clone()));
            if self.avg {
                self.magnitude = magnitude(histogram);
            }
            return;
        };
        let done = if self.avg {
            let mut mean = Mean {
                sum,
                added: self.added,
                is_mean: &mut self.is_mean,
                magnitude: &mut self.magnitude,
            };
            mean.add(histogram)
        } else {
            sum.add(histogram)
        };
        self.note(done, notes);
    }

    /// Adds what another worker gathered for the same group and step.
    pub fn merge(&mut self, mut other: HistogramAggregate, notes: &mut Notes) {
        if self.incompatible || other.incompatible {
            self.incompatible = true;
            return;
        }
        self.reset_seen |= other.reset_seen;
        self.not_reset_seen |= other.not_reset_seen;
        let Some(mut their) = other.sum.take() else { return };
        let Some(sum) = &mut self.sum else {
            let (reset_seen, not_reset_seen) = (self.reset_seen, self.not_reset_seen);
            *self = HistogramAggregate { sum: Some(their), reset_seen, not_reset_seen, ..other };
            return;
        };
        let added = self.added + other.added;
        self.magnitude += other.magnitude;
        let overflows = self.magnitude.is_nan() || self.magnitude >= SAFE;
        if self.avg && (self.is_mean || other.is_mean || overflows) {
            for (sum, is_mean, own) in
                [(&mut *sum, self.is_mean, self.added), (&mut their, other.is_mean, other.added)]
            {
                if !is_mean {
                    sum.div(own);
                }
                sum.mul(own / added);
            }
            self.is_mean = true;
        }
        self.added = added;
        let done = sum.merge(their);
        self.note(done, notes);
    }

    fn note(&mut self, done: Result<Reconciled, HistogramError>, notes: &mut Notes) {
        match done {
            Ok(done) if done.custom_bounds_intersected => {
                notes.push(Note::MismatchedCustomBuckets(HistogramOperation::Aggregation));
            }
            Ok(_) => {}
            Err(_) => {
                self.incompatible = true;
                notes.push(Note::MixedExponentialAndCustom);
            }
        }
    }

    /// The result without empty buckets; `None` where there was none to add, or where they did not
    /// fit together.
    pub fn finish(self, notes: &mut Notes) -> Option<FloatHistogram> {
        let mut result = self.finish_as_is(notes)?;
        result.compact(0);
        Some(result)
    }

    /// The result with any empty buckets it has.
    pub(super) fn finish_as_is(self, notes: &mut Notes) -> Option<FloatHistogram> {
        let mut sum = self.sum.filter(|_| !self.incompatible)?;
        if self.reset_seen && self.not_reset_seen {
            notes.push(Note::CounterResetCollision(HistogramOperation::Aggregation));
        }
        if self.avg && !self.is_mean {
            sum.div(self.added);
        }
        Some(sum.finish())
    }
}

/// The parts of an aggregate that a mean changes.
struct Mean<'a> {
    sum: &'a mut HistogramSum,
    /// The number of histograms, including the one to be added.
    added: f64,
    is_mean: &'a mut bool,
    magnitude: &'a mut f64,
}

impl Mean<'_> {
    fn add(&mut self, histogram: &FloatHistogram) -> Result<Reconciled, HistogramError> {
        if !*self.is_mean {
            *self.magnitude += magnitude(histogram);
            if *self.magnitude < SAFE {
                return self.sum.add(histogram);
            }
            let mut tentative = self.sum.clone();
            let done = tentative.add(histogram)?;
            if !tentative.has_overflow() {
                *self.sum = tentative;
                return Ok(done);
            }
            *self.is_mean = true;
            self.sum.div(self.added - 1.0);
        }
        self.sum.mul((self.added - 1.0) / self.added);
        let mut share = histogram.clone();
        share.div(self.added);
        self.sum.add(&share)
    }
}

/// A bound that no count of the histogram exceeds, however its buckets are merged.
fn magnitude(histogram: &FloatHistogram) -> f64 {
    if histogram.custom_values.iter().any(|bound| bound.is_infinite()) {
        return f64::INFINITY;
    }
    let buckets = histogram.positive_buckets.iter().chain(&histogram.negative_buckets);
    buckets
        .chain([&histogram.zero_count, &histogram.count, &histogram.sum])
        .map(|value| value.abs())
        .sum()
}

#[cfg(test)]
#[path = "aggregate_histogram/tests.rs"]
mod tests;
