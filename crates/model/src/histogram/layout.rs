//! Combines, in place, counts of histograms with the same buckets, or some of the same.

use super::arithmetic::SignedBuckets;
use super::bounds::exponential_bound;
use super::side::{bucket_count, bucket_indices};
use super::{BucketSpan, CUSTOM_BUCKETS_SCHEMA, FloatHistogram};

impl FloatHistogram {
    /// Whether both have the same buckets, including the zero bucket, so that counts can be
    /// compared one by one.
    pub(super) fn same_layout(&self, other: &FloatHistogram) -> bool {
        self.schema == other.schema
            && self.zero_threshold == other.zero_threshold
            && self.positive_spans == other.positive_spans
            && self.negative_spans == other.negative_spans
            && self.positive_buckets.len() == other.positive_buckets.len()
            && self.negative_buckets.len() == other.negative_buckets.len()
            && (!self.uses_custom_buckets() || self.custom_values == other.custom_values)
    }

    /// Whether no bucket of this schema ends inside a zero bucket of `threshold`.
    pub(super) fn clear_of_zero_bucket(&self, threshold: f64) -> bool {
        let clear = |spans: &[BucketSpan]| {
            bucket_indices(spans)
                .next()
                .is_none_or(|first| exponential_bound(first, self.schema) > threshold)
        };
        self.schema == CUSTOM_BUCKETS_SCHEMA
            || (clear(&self.positive_spans) && clear(&self.negative_spans))
    }
}

/// Combines every count of `other` with the count of the same bucket in `counts`. Returns false,
/// with nothing changed, if `other` has a bucket that `spans` do not cover in one run with its
/// neighbours.
pub(super) fn combine_contained<T>(
    spans: &[BucketSpan],
    counts: &mut [T],
    other: SignedBuckets<'_>,
    combine: impl Fn(&mut T, f64),
) -> bool {
    if bucket_count(spans) != counts.len() || bucket_count(other.spans) != other.counts.len() {
        return false;
    }
    if spans == other.spans {
        counts.iter_mut().zip(other.counts).for_each(|(count, value)| combine(count, *value));
        return true;
    }
    if !place(spans, other.spans, |_, _, _| {}) {
        return false;
    }
    place(spans, other.spans, |at, from, length| {
        let (counts, values) = (&mut counts[at..at + length], &other.counts[from..from + length]);
        counts.iter_mut().zip(values).for_each(|(count, value)| combine(count, *value));
    })
}

/// A span with its first bucket index, and where its counts begin.
#[derive(Clone, Copy)]
struct BucketRun {
    first: i64,
    length: usize,
    at: usize,
}

impl BucketRun {
    fn end(self) -> i64 {
        self.first + self.length as i64
    }
}

fn runs(spans: &[BucketSpan]) -> impl Iterator<Item = BucketRun> + '_ {
    let (mut index, mut at) = (0i64, 0usize);
    spans.iter().map(move |span| {
        let run =
            BucketRun { first: index + i64::from(span.offset), length: span.length as usize, at };
        (index, at) = (run.end(), at + run.length);
        run
    })
}

/// Calls `each(at, from, length)` for every run of `other` that lies within one run of `spans`,
/// with where its counts begin in both. Stops with false at the first that does not.
fn place(
    spans: &[BucketSpan],
    other: &[BucketSpan],
    mut each: impl FnMut(usize, usize, usize),
) -> bool {
    let mut own = runs(spans);
    let mut within = own.next();
    for run in runs(other).filter(|run| run.length > 0) {
        while within.is_some_and(|within| within.end() <= run.first) {
            within = own.next();
        }
        match within {
            Some(within) if within.first <= run.first && run.end() <= within.end() => {
                each(within.at + (run.first - within.first) as usize, run.at, run.length);
            }
            _ => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::super::spans_of;
    use super::*;

    proptest! {
        #[test]
        fn contained_buckets_are_added_in_place(
            own in prop::collection::btree_map(-20..20i32, 1..9u8, 0..25),
            other in prop::collection::btree_map(-20..20i32, 1..9u8, 0..6),
        ) {
            let spans = spans_of(own.keys().copied());
            let mut counts: Vec<f64> = own.values().map(|c| f64::from(*c)).collect();
            let before = counts.clone();
            let other_counts: Vec<f64> = other.values().map(|c| f64::from(*c)).collect();
            let other_spans = spans_of(other.keys().copied());
            let side = SignedBuckets { spans: &other_spans, counts: &other_counts };
            let contained = other.keys().all(|index| own.contains_key(index));
            prop_assert_eq!(combine_contained(&spans, &mut counts, side, |count, value| *count += value), contained);
            let mut expected: BTreeMap<i32, f64> = own.into_iter().map(|(i, c)| (i, f64::from(c))).collect();
            if contained {
                other.iter().for_each(|(index, count)| *expected.entry(*index).or_default() += f64::from(*count));
                prop_assert_eq!(counts, expected.into_values().collect::<Vec<_>>());
            } else {
                prop_assert_eq!(counts, before);
            }
        }
    }

    #[test]
    fn spans_that_disagree_with_their_counts_are_refused() {
        let spans = [BucketSpan { offset: 0, length: 3 }];
        let side = SignedBuckets { spans: &spans, counts: &[1.0] };
        assert!(!combine_contained(&spans, &mut [1.0; 3], side, |count, value| *count += value));
    }
}
