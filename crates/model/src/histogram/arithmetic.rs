//! Sums, differences and scaling, with the reconciliation of layouts that they need.

use std::ops::AddAssign;

use super::bounds::exponential_bound;
use super::layout::combine_contained;
use super::side::{SideBuilder, bucket_indices, indexed, reduced_index};
use super::{BucketSpan, FloatHistogram, HistogramError, ResetHint};

/// What had to be reconciled to add or subtract two histograms; PromQL warns about each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reconciled {
    /// One histogram said that its counter was reset, the other that it was not.
    pub reset_hints_collided: bool,
    /// Custom bounds differed: the result has the bounds both have.
    pub custom_bounds_intersected: bool,
}

impl FloatHistogram {
    /// Scales all counts and the sum. A negative factor makes it a gauge.
    pub fn mul(&mut self, factor: f64) {
        self.scale(|value| value * factor);
        if factor < 0.0 {
            self.hint = ResetHint::Gauge;
        }
    }

    /// As [`mul`](Self::mul), dividing. Division by zero leaves no buckets, only infinite (or NaN)
    /// totals.
    pub fn div(&mut self, divisor: f64) {
        self.scale(|value| value / divisor);
        if divisor == 0.0 {
            self.positive_spans.clear();
            self.negative_spans.clear();
            self.positive_buckets.clear();
            self.negative_buckets.clear();
        } else if divisor < 0.0 {
            self.hint = ResetHint::Gauge;
        }
    }

    fn scale(&mut self, by: impl Fn(f64) -> f64) {
        for counts in [&mut self.positive_buckets, &mut self.negative_buckets] {
            counts.iter_mut().for_each(|count| *count = by(*count));
        }
        for value in [&mut self.zero_count, &mut self.count, &mut self.sum] {
            *value = by(*value);
        }
    }

    /// Adds `other`. The result has the coarser schema, a zero bucket that covers both, and the
    /// buckets of both; empty buckets may remain until it is [compacted](Self::compact).
    ///
    /// # Errors
    /// When one has custom buckets and the other exponential ones.
    pub fn add(&mut self, other: &FloatHistogram) -> Result<Reconciled, HistogramError> {
        self.combine(other, 1.0)
    }

    /// As [`add`](Self::add), subtracting; the hint is treated alike, so that means can be taken
    /// incrementally. PromQL's operator `-` also makes the result a gauge.
    pub fn sub(&mut self, other: &FloatHistogram) -> Result<Reconciled, HistogramError> {
        self.combine(other, -1.0)
    }

    /// A copy minus `other`, with the same hint, if both have the same buckets: the result of
    /// [`sub`](Self::sub) on a copy, in one pass. `None` if they differ.
    pub fn minus_alike(&self, other: &FloatHistogram) -> Option<FloatHistogram> {
        if !self.same_layout(other) || !other.clear_of_zero_bucket(self.zero_threshold) {
            return None;
        }
        let less = |own: &[f64], other: &[f64]| {
            own.iter().zip(other).map(|(own, other)| own - other).collect()
        };
        Some(FloatHistogram {
            schema: self.schema,
            hint: self.hint,
            zero_threshold: self.zero_threshold,
            zero_count: self.zero_count - other.zero_count,
            count: self.count - other.count,
            sum: self.sum - other.sum,
            positive_spans: self.positive_spans.clone(),
            negative_spans: self.negative_spans.clone(),
            positive_buckets: less(&self.positive_buckets, &other.positive_buckets),
            negative_buckets: less(&self.negative_buckets, &other.negative_buckets),
            custom_values: self.custom_values.clone(),
        })
    }

    fn combine(&mut self, other: &FloatHistogram, sign: f64) -> Result<Reconciled, HistogramError> {
        if self.uses_custom_buckets() != other.uses_custom_buckets() {
            return Err(HistogramError::IncompatibleSchemas);
        }
        let mut done = Reconciled {
            reset_hints_collided: self.merge_hint(other.hint),
            ..Reconciled::default()
        };
        if self.uses_custom_buckets() {
            if self.custom_values == other.custom_values {
                combine_side(
                    &mut self.positive_spans,
                    &mut self.positive_buckets,
                    other.positive(),
                    sign,
                );
            } else {
                done.custom_bounds_intersected = true;
                self.combine_intersected(other, sign);
            }
        } else {
            self.zero_count += sign * self.reconcile_zero_bucket(other);
            self.combine_exponential(other, sign);
        }
        self.count += sign * other.count;
        self.sum += sign * other.sum;
        Ok(done)
    }

    /// The hint of a result of both; true when they contradict each other.
    pub(super) fn merge_hint(&mut self, other: ResetHint) -> bool {
        use ResetHint::*;
        let (hint, collided) = match (self.hint, other) {
            (a, b) if a == b => (a, false),
            (Gauge, _) | (_, Gauge) => (Gauge, false),
            (Unknown, _) | (_, Unknown) => (Unknown, false),
            _ => (Unknown, true),
        };
        self.hint = hint;
        collided
    }

    fn combine_exponential(&mut self, other: &FloatHistogram, sign: f64) {
        self.reduce_resolution(other.schema);
        if self.schema == other.schema && other.clear_of_zero_bucket(self.zero_threshold) {
            combine_side(
                &mut self.positive_spans,
                &mut self.positive_buckets,
                other.positive(),
                sign,
            );
            combine_side(
                &mut self.negative_spans,
                &mut self.negative_buckets,
                other.negative(),
                sign,
            );
            return;
        }
        let (positive, negative) = other.outside_zero_bucket(self.schema, self.zero_threshold);
        let side = merge(self.positive().iter(), signed(positive.into_iter(), sign));
        (self.positive_spans, self.positive_buckets) = (side.spans, side.counts);
        let side = merge(self.negative().iter(), signed(negative.into_iter(), sign));
        (self.negative_spans, self.negative_buckets) = (side.spans, side.counts);
    }

    /// The positive and negative buckets in the coarser `schema`, without those inside a zero
    /// bucket of `threshold`, which includes them.
    pub(super) fn outside_zero_bucket(
        &self,
        schema: i32,
        threshold: f64,
    ) -> (IndexedCounts, IndexedCounts) {
        let steps = self.schema.abs_diff(schema.min(self.schema));
        let inside = |index: i32| exponential_bound(index, schema) <= threshold;
        let outside = |side: SignedBuckets<'_>| {
            let mut coarse = SideBuilder::with_capacity(side.counts.len());
            coarse.extend(side.iter().map(|(index, count)| (reduced_index(index, steps), count)));
            indexed(&coarse.spans, &coarse.counts).skip_while(|&(index, _)| inside(index)).collect()
        };
        (outside(self.positive()), outside(self.negative()))
    }

    /// Maps the custom buckets of both onto the bounds both have.
    fn combine_intersected(&mut self, other: &FloatHistogram, sign: f64) {
        let bounds = intersect(&self.custom_values, &other.custom_values);
        let mut counts = vec![0.0; bounds.len() + 1];
        self.onto_bounds(&bounds).for_each(|(index, count)| counts[index] += count);
        other.onto_bounds(&bounds).for_each(|(index, count)| counts[index] += sign * count);
        let mut side = SideBuilder::with_capacity(counts.len());
        side.extend(
            counts.iter().enumerate().filter(|(_, c)| **c != 0.0).map(|(i, c)| (i as i32, *c)),
        );
        (self.positive_spans, self.positive_buckets) = (side.spans, side.counts);
        self.custom_values = bounds;
    }

    /// The custom buckets with the index each has among `bounds`, which are some of its own.
    pub(super) fn onto_bounds<'a>(
        &'a self,
        bounds: &'a [f64],
    ) -> impl Iterator<Item = (usize, f64)> + 'a {
        self.positive().iter().map(|(index, count)| {
            let upper = usize::try_from(index).ok().and_then(|i| self.custom_values.get(i));
            (
                upper.map_or(bounds.len(), |upper| bounds.partition_point(|bound| bound < upper)),
                count,
            )
        })
    }

    /// Widens the zero bucket of `self` until it can hold that of `other` without cutting through a
    /// populated bucket of either. Returns the zero count of `other` at that width.
    pub(super) fn reconcile_zero_bucket(&mut self, other: &FloatHistogram) -> f64 {
        let (mut count, mut threshold) = (other.zero_count, other.zero_threshold);
        while threshold != self.zero_threshold {
            if self.zero_threshold > threshold {
                (count, threshold) = other.zero_count_within(self.zero_threshold);
            }
            if threshold > self.zero_threshold {
                (self.zero_count, self.zero_threshold) = self.zero_count_within(threshold);
                self.empty_buckets_in_zero_bucket();
            }
            if threshold.is_nan() || self.zero_threshold.is_nan() {
                break;
            }
        }
        count
    }

    /// The zero count for the wider `threshold`, which grows to the end of a populated bucket that
    /// it cuts through.
    pub(super) fn zero_count_within(&self, threshold: f64) -> (f64, f64) {
        if threshold == self.zero_threshold {
            return (self.zero_count, threshold);
        }
        let mut threshold = threshold;
        'wider: loop {
            let mut count = self.zero_count;
            for bucket in self.positive_buckets().take_while(|b| b.lower < threshold) {
                count += bucket.count;
                if bucket.upper > threshold {
                    if bucket.count != 0.0 {
                        threshold = bucket.upper;
                    }
                    break;
                }
            }
            for bucket in self.negative_buckets().take_while(|b| b.upper > -threshold) {
                count += bucket.count;
                if bucket.lower < -threshold {
                    if bucket.count != 0.0 {
                        // the positive side was summed for a narrower threshold
                        threshold = -bucket.lower;
                        continue 'wider;
                    }
                    break;
                }
            }
            return (count, threshold);
        }
    }

    pub(super) fn empty_buckets_in_zero_bucket(&mut self) {
        let within = self.positive_buckets().take_while(|b| b.lower < self.zero_threshold).count();
        self.positive_buckets[..within].fill(0.0);
        let within = self.negative_buckets().take_while(|b| b.upper > -self.zero_threshold).count();
        self.negative_buckets[..within].fill(0.0);
        self.compact(0);
    }

    /// Merges buckets so that the schema becomes `schema`. Does nothing where it is not finer, and
    /// to custom buckets.
    pub fn reduce_resolution(&mut self, schema: i32) {
        if self.uses_custom_buckets() || self.schema <= schema {
            return;
        }
        let steps = self.schema.abs_diff(schema);
        for (spans, counts) in [
            (&mut self.positive_spans, &mut self.positive_buckets),
            (&mut self.negative_spans, &mut self.negative_buckets),
        ] {
            let mut side = SideBuilder::with_capacity(counts.len());
            side.extend(
                indexed(spans, counts).map(|(index, count)| (reduced_index(index, steps), count)),
            );
            (*spans, *counts) = (side.spans, side.counts);
        }
        self.schema = schema;
    }

    /// A copy with the coarser `schema`; see [`reduce_resolution`](Self::reduce_resolution).
    pub fn copy_to_schema(&self, schema: i32) -> FloatHistogram {
        let mut copy = self.clone();
        copy.reduce_resolution(schema);
        copy
    }

    /// Drops empty buckets. Only gaps of at most `max_empty` buckets between populated ones are
    /// kept as empty buckets, so that two spans become one.
    pub fn compact(&mut self, max_empty: usize) {
        compact_side(&mut self.positive_spans, &mut self.positive_buckets, max_empty);
        compact_side(&mut self.negative_spans, &mut self.negative_buckets, max_empty);
    }

    /// Whether the sum, a count or a bucket is infinite.
    pub fn has_overflow(&self) -> bool {
        let totals = [self.zero_count, self.count, self.sum];
        let buckets = self.positive_buckets.iter().chain(&self.negative_buckets);
        buckets.chain(&totals).chain(&self.custom_values).any(|value| value.is_infinite())
    }

    pub(super) fn positive(&self) -> SignedBuckets<'_> {
        SignedBuckets { spans: &self.positive_spans, counts: &self.positive_buckets }
    }

    pub(super) fn negative(&self) -> SignedBuckets<'_> {
        SignedBuckets { spans: &self.negative_spans, counts: &self.negative_buckets }
    }
}

/// Buckets as `(index, count)`, in ascending order.
pub(super) type IndexedCounts = Vec<(i32, f64)>;

#[derive(Clone, Copy)]
pub(super) struct SignedBuckets<'a> {
    pub(super) spans: &'a [BucketSpan],
    pub(super) counts: &'a [f64],
}

impl<'a> SignedBuckets<'a> {
    pub(super) fn iter(self) -> impl Iterator<Item = (i32, f64)> + Clone + 'a {
        indexed(self.spans, self.counts)
    }
}

fn combine_side(
    spans: &mut Vec<BucketSpan>,
    counts: &mut Vec<f64>,
    other: SignedBuckets<'_>,
    sign: f64,
) {
    if !combine_contained(spans, counts, other, |count, value| *count += sign * value) {
        let side = merge(indexed(spans, counts), signed(other.iter(), sign));
        (*spans, *counts) = (side.spans, side.counts);
    }
}

fn signed(
    buckets: impl Iterator<Item = (i32, f64)>,
    sign: f64,
) -> impl Iterator<Item = (i32, f64)> {
    buckets.map(move |(index, count)| (index, sign * count))
}

/// The sum of two sides, bucket by bucket.
pub(super) fn merge<T: Copy + AddAssign>(
    a: impl Iterator<Item = (i32, T)>,
    b: impl Iterator<Item = (i32, T)>,
) -> SideBuilder<T> {
    let (mut a, mut b) = (a.peekable(), b.peekable());
    let mut out = SideBuilder::with_capacity(a.size_hint().0.max(b.size_hint().0));
    loop {
        let next = match (a.peek(), b.peek()) {
            (Some(&(i, _)), other) if other.is_none_or(|&(j, _)| i <= j) => a.next(),
            _ => b.next(),
        };
        let Some((index, count)) = next else { return out };
        out.push(index, count);
    }
}

fn compact_side(spans: &mut Vec<BucketSpan>, counts: &mut Vec<f64>, max_empty: usize) {
    let gap_kept =
        |span: &BucketSpan| usize::try_from(span.offset).is_ok_and(|gap| gap <= max_empty);
    let joined = || !spans.iter().skip(1).any(gap_kept) && spans.iter().all(|span| span.length > 0);
    if counts.iter().all(|c| *c != 0.0) && joined() {
        return;
    }
    if max_empty == 0 {
        *spans = drop_empty(spans, counts);
        return;
    }
    let mut out = SideBuilder::with_capacity(counts.len());
    let mut before: Option<i32> = None;
    for (index, count) in indexed(spans, counts).filter(|(_, count)| *count != 0.0) {
        if let Some(before) = before {
            let gap = i64::from(index) - i64::from(before) - 1;
            if gap > 0 && gap as u64 <= max_empty as u64 {
                out.extend((before + 1..index).map(|empty| (empty, 0.0)));
            }
        }
        out.push(index, count);
        before = Some(index);
    }
    (*spans, *counts) = (out.spans, out.counts);
}

/// Drops empty buckets in place; returns the spans of those that are left.
fn drop_empty(spans: &[BucketSpan], counts: &mut Vec<f64>) -> Vec<BucketSpan> {
    let mut left: Vec<BucketSpan> = Vec::with_capacity(spans.len());
    let (mut kept, mut end) = (0, 0i32);
    for (at, index) in (0..counts.len()).zip(bucket_indices(spans)) {
        let count = counts[at];
        if count == 0.0 {
            continue;
        }
        counts[kept] = count;
        kept += 1;
        let offset = index.wrapping_sub(end);
        match left.last_mut() {
            Some(span) if offset == 0 => span.length += 1,
            _ => left.push(BucketSpan { offset, length: 1 }),
        }
        end = index.wrapping_add(1);
    }
    counts.truncate(kept);
    left
}

/// The bounds that both ascending lists have.
pub(super) fn intersect(a: &[f64], b: &[f64]) -> Vec<f64> {
    let mut rest = b;
    let mut common = Vec::new();
    for &bound in a {
        rest = &rest[rest.partition_point(|other| *other < bound)..];
        if rest.first() == Some(&bound) {
            common.push(bound);
        }
    }
    common
}

#[cfg(test)]
mod tests;
