//! Buckets with their bounds.

use super::bounds::upper_bound;
use super::side::{indexed, rev_indexed};
use super::{BucketSpan, CUSTOM_BUCKETS_SCHEMA, FloatHistogram};

/// One bucket: how many observations lie between its bounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HistogramBucket {
    pub lower: f64,
    pub upper: f64,
    pub lower_inclusive: bool,
    pub upper_inclusive: bool,
    pub count: f64,
    /// The index within its schema and side; 0 for the zero bucket.
    pub index: i32,
}

impl HistogramBucket {
    /// The share of the bucket's width at or below `v`, which lies strictly between its finite
    /// bounds: on a linear scale, or on the logarithmic one of exponential buckets.
    pub fn fraction_below(&self, v: f64, linear: bool) -> f64 {
        if linear {
            return (v - self.lower) / (self.upper - self.lower);
        }
        let (lower, upper, v_log) =
            (self.lower.abs().log2(), self.upper.abs().log2(), v.abs().log2());
        if v > 0.0 {
            (v_log - lower) / (upper - lower)
        } else {
            1.0 - (v_log - upper) / (lower - upper)
        }
    }
}

/// A bucket whose bounds are not computed yet; [`FloatHistogram::bounded`] does it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct UnboundedBucket {
    pub count: f64,
    part: BucketSign,
    index: i32,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum BucketSign {
    Negative,
    Zero,
    Positive,
}

impl UnboundedBucket {
    fn positive(index: i32, count: f64) -> UnboundedBucket {
        UnboundedBucket { count, part: BucketSign::Positive, index }
    }

    fn negative(index: i32, count: f64) -> UnboundedBucket {
        UnboundedBucket { count, part: BucketSign::Negative, index }
    }
}

impl FloatHistogram {
    /// Positive buckets, from the one next to the zero bucket up. Empty ones that the spans cover
    /// are included.
    pub fn positive_buckets(&self) -> impl Iterator<Item = HistogramBucket> + Clone + '_ {
        self.buckets_of(&self.positive_spans, &self.positive_buckets, true)
    }

    /// Negative buckets, from the one next to the zero bucket down.
    pub fn negative_buckets(&self) -> impl Iterator<Item = HistogramBucket> + Clone + '_ {
        self.buckets_of(&self.negative_spans, &self.negative_buckets, false)
    }

    /// The zero bucket, empty or not. Custom buckets have none: theirs is empty and without width.
    pub fn zero_bucket(&self) -> HistogramBucket {
        HistogramBucket {
            lower: -self.zero_threshold,
            upper: self.zero_threshold,
            lower_inclusive: true,
            upper_inclusive: true,
            count: self.zero_count,
            index: 0,
        }
    }

    /// All buckets in ascending order of their bounds, the zero bucket only if it is populated. A
    /// bucket that reaches into the zero bucket begins (ends) at the zero threshold.
    pub fn all_buckets(&self) -> Vec<HistogramBucket> {
        self.ascending().map(|unbounded| self.bounded(unbounded)).collect()
    }

    /// All buckets as [`all_buckets`](Self::all_buckets) gives them, without the cost of their
    /// bounds.
    pub fn ascending(&self) -> impl Iterator<Item = UnboundedBucket> + Clone + '_ {
        let negative = rev_indexed(&self.negative_spans, &self.negative_buckets)
            .map(|(index, count)| UnboundedBucket::negative(index, count));
        let positive = indexed(&self.positive_spans, &self.positive_buckets)
            .map(|(index, count)| UnboundedBucket::positive(index, count));
        negative.chain(self.populated_zero_bucket()).chain(positive)
    }

    /// As [`ascending`](Self::ascending), from the highest bucket down.
    pub fn descending(&self) -> impl Iterator<Item = UnboundedBucket> + Clone + '_ {
        let negative = indexed(&self.negative_spans, &self.negative_buckets)
            .map(|(index, count)| UnboundedBucket::negative(index, count));
        let positive = rev_indexed(&self.positive_spans, &self.positive_buckets)
            .map(|(index, count)| UnboundedBucket::positive(index, count));
        positive.chain(self.populated_zero_bucket()).chain(negative)
    }

    /// The bucket with the bounds it has in [`all_buckets`](Self::all_buckets).
    pub fn bounded(&self, unbounded: UnboundedBucket) -> HistogramBucket {
        let UnboundedBucket { count, part, index } = unbounded;
        let mut bucket = match part {
            BucketSign::Zero => self.zero_bucket(),
            BucketSign::Positive => self.bucket(index, count, true),
            BucketSign::Negative => self.bucket(index, count, false),
        };
        if bucket.upper < 0.0 && bucket.upper > -self.zero_threshold {
            bucket.upper = -self.zero_threshold;
        }
        if bucket.lower > 0.0 && bucket.lower < self.zero_threshold {
            bucket.lower = self.zero_threshold;
        }
        bucket
    }

    fn populated_zero_bucket(&self) -> Option<UnboundedBucket> {
        (self.zero_count > 0.0).then_some(UnboundedBucket {
            count: self.zero_count,
            part: BucketSign::Zero,
            index: 0,
        })
    }

    fn buckets_of<'a>(
        &'a self,
        spans: &'a [BucketSpan],
        counts: &'a [f64],
        positive: bool,
    ) -> impl Iterator<Item = HistogramBucket> + Clone + 'a {
        indexed(spans, counts).map(move |(index, count)| self.bucket(index, count, positive))
    }

    fn bucket(&self, index: i32, count: f64, positive: bool) -> HistogramBucket {
        let outer = upper_bound(index, self.schema, &self.custom_values);
        let inner = upper_bound(index.wrapping_sub(1), self.schema, &self.custom_values);
        let (lower, upper) = if positive { (inner, outer) } else { (-outer, -inner) };
        let custom = self.schema == CUSTOM_BUCKETS_SCHEMA;
        HistogramBucket {
            lower,
            upper,
            lower_inclusive: if custom { index == 0 } else { lower < 0.0 },
            upper_inclusive: custom || upper > 0.0,
            count,
            index,
        }
    }
}
