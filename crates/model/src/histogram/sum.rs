//! Sums of many histograms that do not lose the small ones.

use std::ops::AddAssign;

use super::arithmetic::{self, Reconciled, intersect, merge};
use super::bounds::exponential_bound;
use super::layout::combine_contained;
use super::side::{SideBuilder, indexed, reduced_index};
use super::{BucketSpan, FloatHistogram, HistogramError};

/// A sum of histograms that keeps, for every count, what rounding lost (Kahan's algorithm with
/// Neumaier's change), as PromQL's `sum` and `avg` need it.
#[derive(Clone, Debug)]
pub struct HistogramSum {
    /// Its buckets are empty: they are in `positive` and `negative`.
    totals: FloatHistogram,
    lost_zero_count: f64,
    lost_count: f64,
    lost_sum: f64,
    positive: SummedBuckets,
    negative: SummedBuckets,
}

#[derive(Clone, Debug)]
struct SummedBuckets {
    spans: Vec<BucketSpan>,
    counts: Vec<Compensated>,
}

/// A running sum and what it lost to rounding.
#[derive(Clone, Copy, Debug, Default)]
struct Compensated {
    sum: f64,
    lost: f64,
}

impl From<f64> for Compensated {
    fn from(sum: f64) -> Compensated {
        Compensated { sum, lost: 0.0 }
    }
}

impl AddAssign for Compensated {
    fn add_assign(&mut self, other: Compensated) {
        add_to(&mut self.sum, &mut self.lost, other.sum);
        self.lost += other.lost;
    }
}

fn add_to(sum: &mut f64, lost: &mut f64, value: f64) {
    let rounded = *sum + value;
    if rounded.is_infinite() {
        *lost = 0.0;
    } else if sum.abs() >= value.abs() {
        *lost += (*sum - rounded) + value;
    } else {
        *lost += (value - rounded) + *sum;
    }
    *sum = rounded;
}

impl HistogramSum {
    pub fn new(first: FloatHistogram) -> HistogramSum {
        let mut totals = first;
        let positive =
            SummedBuckets::take(&mut totals.positive_spans, &mut totals.positive_buckets);
        let negative =
            SummedBuckets::take(&mut totals.negative_spans, &mut totals.negative_buckets);
        HistogramSum {
            totals,
            lost_zero_count: 0.0,
            lost_count: 0.0,
            lost_sum: 0.0,
            positive,
            negative,
        }
    }

    /// Adds a histogram; layouts are reconciled as [`FloatHistogram::add`] does.
    ///
    /// # Errors
    /// When one has custom buckets and the other exponential ones.
    pub fn add(&mut self, other: &FloatHistogram) -> Result<Reconciled, HistogramError> {
        if self.totals.uses_custom_buckets() != other.uses_custom_buckets() {
            return Err(HistogramError::IncompatibleSchemas);
        }
        let mut done = Reconciled {
            reset_hints_collided: self.totals.merge_hint(other.hint),
            ..Reconciled::default()
        };
        add_to(&mut self.totals.count, &mut self.lost_count, other.count);
        add_to(&mut self.totals.sum, &mut self.lost_sum, other.sum);
        if !self.totals.uses_custom_buckets() {
            self.add_exponential(other);
        } else if self.totals.custom_values == other.custom_values {
            self.positive.add_side(other.positive());
        } else {
            done.custom_bounds_intersected = true;
            self.add_intersected(other);
        }
        Ok(done)
    }

    /// Adds a sum, including what it lost.
    ///
    /// # Errors
    /// When one has custom buckets and the other exponential ones.
    pub fn merge(&mut self, other: HistogramSum) -> Result<Reconciled, HistogramError> {
        let (sum, lost) = other.into_parts();
        let done = self.add(&sum)?;
        self.add(&lost)?;
        Ok(done)
    }

    /// Scales the sum, for means that are taken step by step. A negative factor makes it a gauge.
    pub fn mul(&mut self, factor: f64) {
        self.totals.mul(factor);
        self.scale(|value| value * factor);
    }

    /// As [`mul`](Self::mul), dividing by a number that must not be zero.
    pub fn div(&mut self, divisor: f64) {
        self.totals.div(divisor);
        self.scale(|value| value / divisor);
    }

    /// Scales everything except `totals`.
    fn scale(&mut self, by: impl Fn(f64) -> f64) {
        for lost in [&mut self.lost_zero_count, &mut self.lost_count, &mut self.lost_sum] {
            *lost = by(*lost);
        }
        for count in self.positive.counts.iter_mut().chain(&mut self.negative.counts) {
            *count = Compensated { sum: by(count.sum), lost: by(count.lost) };
        }
    }

    /// Whether the sum or one of its counts is infinite, so that a mean must be taken step by step.
    pub fn has_overflow(&self) -> bool {
        let counts = self.positive.counts.iter().chain(&self.negative.counts);
        self.totals.has_overflow() || counts.into_iter().any(|count| count.sum.is_infinite())
    }

    pub fn finish(self) -> FloatHistogram {
        let whole = |counts: Vec<Compensated>| counts.into_iter().map(|c| c.sum + c.lost).collect();
        FloatHistogram {
            zero_count: self.totals.zero_count + self.lost_zero_count,
            count: self.totals.count + self.lost_count,
            sum: self.totals.sum + self.lost_sum,
            positive_spans: self.positive.spans,
            negative_spans: self.negative.spans,
            positive_buckets: whole(self.positive.counts),
            negative_buckets: whole(self.negative.counts),
            ..self.totals
        }
    }

    /// The sums, and what they lost.
    fn into_parts(self) -> (FloatHistogram, FloatHistogram) {
        let part =
            |of: fn(&Compensated) -> f64, zero_count: f64, count: f64, sum: f64| FloatHistogram {
                zero_count,
                count,
                sum,
                positive_spans: self.positive.spans.clone(),
                negative_spans: self.negative.spans.clone(),
                positive_buckets: self.positive.counts.iter().map(of).collect(),
                negative_buckets: self.negative.counts.iter().map(of).collect(),
                ..self.totals.clone()
            };
        let lost = part(|count| count.lost, self.lost_zero_count, self.lost_count, self.lost_sum);
        (part(|count| count.sum, self.totals.zero_count, self.totals.count, self.totals.sum), lost)
    }

    fn add_exponential(&mut self, other: &FloatHistogram) {
        let zero_count = if self.totals.zero_threshold == other.zero_threshold {
            other.zero_count
        } else {
            self.reconcile_zero_bucket(other)
        };
        add_to(&mut self.totals.zero_count, &mut self.lost_zero_count, zero_count);
        if other.schema < self.totals.schema {
            let steps = self.totals.schema.abs_diff(other.schema);
            self.positive.reduce(steps);
            self.negative.reduce(steps);
            self.totals.schema = other.schema;
        }
        if other.schema == self.totals.schema
            && other.clear_of_zero_bucket(self.totals.zero_threshold)
        {
            self.positive.add_side(other.positive());
            self.negative.add_side(other.negative());
            return;
        }
        let (positive, negative) =
            other.outside_zero_bucket(self.totals.schema, self.totals.zero_threshold);
        self.positive.add(positive.into_iter());
        self.negative.add(negative.into_iter());
    }

    /// Widens the zero bucket as far as both need; returns what the zero count of `other` is then.
    fn reconcile_zero_bucket(&mut self, other: &FloatHistogram) -> f64 {
        let sums = |side: &SummedBuckets| {
            (side.spans.clone(), side.counts.iter().map(|c| c.sum).collect())
        };
        let ((positive_spans, positive_buckets), (negative_spans, negative_buckets)) =
            (sums(&self.positive), sums(&self.negative));
        let mut widened = FloatHistogram {
            positive_spans,
            positive_buckets,
            negative_spans,
            negative_buckets,
            ..self.totals.clone()
        };
        let zero_count = widened.reconcile_zero_bucket(other);
        if widened.zero_threshold != self.totals.zero_threshold {
            let (schema, threshold) = (widened.schema, widened.zero_threshold);
            let inside = |index: i32| exponential_bound(index.wrapping_sub(1), schema) < threshold;
            for side in [&mut self.positive, &mut self.negative] {
                self.lost_zero_count += side.drop_first_while(inside);
            }
            (self.totals.zero_count, self.totals.zero_threshold) = (widened.zero_count, threshold);
        }
        zero_count
    }

    /// Maps the custom buckets of both onto the bounds both have.
    fn add_intersected(&mut self, other: &FloatHistogram) {
        let bounds = intersect(&self.totals.custom_values, &other.custom_values);
        let mut counts = vec![Compensated::default(); bounds.len() + 1];
        for (index, count) in indexed(&self.positive.spans, &self.positive.counts) {
            let upper = usize::try_from(index).ok().and_then(|i| self.totals.custom_values.get(i));
            counts[upper
                .map_or(bounds.len(), |upper| bounds.partition_point(|bound| bound < upper))] +=
                count;
        }
        other.onto_bounds(&bounds).for_each(|(index, count)| counts[index] += count.into());
        let populated = counts
            .into_iter()
            .enumerate()
            .filter(|(_, count)| count.sum != 0.0 || count.lost != 0.0);
        let mut side = SideBuilder::with_capacity(bounds.len() + 1);
        side.extend(populated.map(|(i, count)| (i as i32, count)));
        self.positive = SummedBuckets { spans: side.spans, counts: side.counts };
        self.totals.custom_values = bounds;
    }
}

impl SummedBuckets {
    fn take(spans: &mut Vec<BucketSpan>, counts: &mut Vec<f64>) -> SummedBuckets {
        let counts = std::mem::take(counts).into_iter().map(Compensated::from).collect();
        SummedBuckets { spans: std::mem::take(spans), counts }
    }

    fn replace(&mut self, with: SideBuilder<Compensated>) {
        *self = SummedBuckets { spans: with.spans, counts: with.counts };
    }

    fn add_side(&mut self, other: arithmetic::SignedBuckets<'_>) {
        let add =
            |count: &mut Compensated, value: f64| add_to(&mut count.sum, &mut count.lost, value);
        if !combine_contained(&self.spans, &mut self.counts, other, add) {
            self.add(other.iter());
        }
    }

    fn add(&mut self, other: impl Iterator<Item = (i32, f64)>) {
        self.replace(merge(
            indexed(&self.spans, &self.counts),
            other.map(|(index, count)| (index, count.into())),
        ));
    }

    fn reduce(&mut self, steps: u32) {
        let mut coarse = SideBuilder::with_capacity(self.counts.len());
        let buckets = indexed(&self.spans, &self.counts);
        coarse.extend(buckets.map(|(index, count)| (reduced_index(index, steps), count)));
        self.replace(coarse);
    }

    /// Drops the first buckets; returns what they had lost.
    fn drop_first_while(&mut self, inside: impl Fn(i32) -> bool) -> f64 {
        let buckets = indexed(&self.spans, &self.counts);
        let lost = buckets
            .clone()
            .take_while(|(index, _)| inside(*index))
            .map(|(_, count)| count.lost)
            .sum();
        let mut rest = SideBuilder::with_capacity(self.counts.len());
        rest.extend(buckets.skip_while(|(index, _)| inside(*index)));
        self.replace(rest);
        lost
    }
}
