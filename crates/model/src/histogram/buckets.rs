//! Buckets with their bounds.

use super::bounds::upper_bound;
use super::side::indexed;
use super::{CUSTOM_BUCKETS_SCHEMA, FloatHistogram, Span};

/// One bucket: how many observations lie between its bounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bucket {
    pub lower: f64,
    pub upper: f64,
    pub lower_inclusive: bool,
    pub upper_inclusive: bool,
    pub count: f64,
    /// The index within its schema and side; 0 for the zero bucket.
    pub index: i32,
}

impl FloatHistogram {
    /// Positive buckets, from the one next to the zero bucket up. Empty ones that the spans name are included.
    pub fn positive_buckets(&self) -> impl Iterator<Item = Bucket> + Clone + '_ {
        self.buckets_of(&self.positive_spans, &self.positive_buckets, true)
    }

    /// Negative buckets, from the one next to the zero bucket down.
    pub fn negative_buckets(&self) -> impl Iterator<Item = Bucket> + Clone + '_ {
        self.buckets_of(&self.negative_spans, &self.negative_buckets, false)
    }

    /// The zero bucket, empty or not. Custom buckets have none: theirs is empty and without width.
    pub fn zero_bucket(&self) -> Bucket {
        Bucket {
            lower: -self.zero_threshold,
            upper: self.zero_threshold,
            lower_inclusive: true,
            upper_inclusive: true,
            count: self.zero_count,
            index: 0,
        }
    }

    /// All buckets in ascending order of their bounds, the zero bucket only if it is populated. A bucket that reaches
    /// into the zero bucket begins (ends) at the zero threshold.
    pub fn all_buckets(&self) -> Vec<Bucket> {
        let mut all: Vec<Bucket> = self.negative_buckets().collect();
        all.reverse();
        if self.zero_count > 0.0 {
            all.push(self.zero_bucket());
        }
        all.extend(self.positive_buckets());
        for bucket in &mut all {
            if bucket.upper < 0.0 && bucket.upper > -self.zero_threshold {
                bucket.upper = -self.zero_threshold;
            }
            if bucket.lower > 0.0 && bucket.lower < self.zero_threshold {
                bucket.lower = self.zero_threshold;
            }
        }
        all
    }

    fn buckets_of<'a>(
        &'a self,
        spans: &'a [Span],
        counts: &'a [f64],
        positive: bool,
    ) -> impl Iterator<Item = Bucket> + Clone + 'a {
        indexed(spans, counts).map(move |(index, count)| self.bucket(index, count, positive))
    }

    fn bucket(&self, index: i32, count: f64, positive: bool) -> Bucket {
        let outer = upper_bound(index, self.schema, &self.custom_values);
        let inner = upper_bound(index.wrapping_sub(1), self.schema, &self.custom_values);
        let (lower, upper) = if positive { (inner, outer) } else { (-outer, -inner) };
        let custom = self.schema == CUSTOM_BUCKETS_SCHEMA;
        Bucket {
            lower,
            upper,
            lower_inclusive: if custom { index == 0 } else { lower < 0.0 },
            upper_inclusive: custom || upper > 0.0,
            count,
            index,
        }
    }
}
