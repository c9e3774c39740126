use std::collections::BTreeMap;

use proptest::prelude::*;

use crate::histogram::{
    BucketSpan, CUSTOM_BUCKETS_SCHEMA, FloatHistogram, Histogram, HistogramBucket, HistogramError,
    HistogramSum, Reconciled, ResetHint, spans_of,
};

type Buckets = BTreeMap<i32, f64>;

/// Counts are small integers, so that sums are exact in any order.
fn buckets() -> impl Strategy<Value = Buckets> {
    prop::collection::btree_map(-12..12i32, (0..5u8).prop_map(f64::from), 0..10)
}

fn exponential() -> impl Strategy<Value = FloatHistogram> {
    of_scale(-2..4i32, THRESHOLDS.to_vec())
}

const THRESHOLDS: [f64; 5] = [0.0, 0.25, 0.3, 1.0, 4.0];

/// Two histograms that differ in schema or in zero threshold. If they differed in both, a zero
/// bucket aligned to the finer schema might cut through a bucket of the coarser one, and Prometheus
/// would count what is below twice.
fn pair() -> impl Strategy<Value = (FloatHistogram, FloatHistogram)> {
    let schemas = || of_scale(-2..4i32, vec![0.0]);
    let thresholds = || of_scale(1..2i32, THRESHOLDS.to_vec());
    prop_oneof![(schemas(), schemas()), (thresholds(), thresholds())]
}

fn of_scale(
    schemas: std::ops::Range<i32>,
    thresholds: Vec<f64>,
) -> impl Strategy<Value = FloatHistogram> {
    let thresholds = prop::sample::select(thresholds);
    (schemas, thresholds, 0..5u8, buckets(), buckets()).prop_map(
        |(schema, zero_threshold, zero, positive, negative)| {
            let count = positive.values().chain(negative.values()).sum::<f64>() + f64::from(zero);
            let histogram = FloatHistogram {
                schema,
                zero_threshold,
                zero_count: f64::from(zero),
                count,
                sum: count * 2.0,
                positive_spans: spans_of(positive.keys().copied()),
                negative_spans: spans_of(negative.keys().copied()),
                positive_buckets: positive.into_values().collect(),
                negative_buckets: negative.into_values().collect(),
                ..FloatHistogram::default()
            };
            // buckets inside the zero bucket would be counted twice
            let mut clean = histogram.clone();
            clean.empty_buckets_in_zero_bucket();
            let lost = observations(&histogram) - observations(&clean);
            clean.count -= lost;
            clean
        },
    )
}

fn custom() -> impl Strategy<Value = FloatHistogram> {
    (prop::collection::btree_set(0..12i32, 1..8), prop::collection::vec(0..5u8, 9)).prop_map(
        |(bounds, counts)| {
            let custom_values: Vec<f64> = bounds.into_iter().map(f64::from).collect();
            let positive_buckets: Vec<f64> =
                counts[..=custom_values.len()].iter().map(|c| f64::from(*c)).collect();
            FloatHistogram {
                schema: CUSTOM_BUCKETS_SCHEMA,
                count: positive_buckets.iter().sum(),
                positive_spans: vec![BucketSpan {
                    offset: 0,
                    length: positive_buckets.len() as u32,
                }],
                positive_buckets,
                custom_values,
                ..FloatHistogram::default()
            }
        },
    )
}

fn populated(buckets: impl Iterator<Item = HistogramBucket>) -> Buckets {
    buckets.filter(|b| b.count != 0.0).map(|b| (b.index, b.count)).collect()
}

fn observations(histogram: &FloatHistogram) -> f64 {
    let buckets = histogram.positive_buckets.iter().chain(&histogram.negative_buckets);
    buckets.sum::<f64>() + histogram.zero_count
}

fn added(a: &FloatHistogram, b: &FloatHistogram) -> FloatHistogram {
    let mut sum = a.clone();
    sum.add(b).unwrap();
    sum
}

/// Observations at or below `at`, which must not lie inside a populated bucket.
fn at_or_below(histogram: &FloatHistogram, at: f64) -> f64 {
    histogram.all_buckets().iter().filter(|b| b.upper <= at).map(|b| b.count).sum()
}

proptest! {
    #[test]
    fn sums_hold_the_observations_of_both((a, b) in pair()) {
        let sum = added(&a, &b);
        prop_assert_eq!(sum.schema, a.schema.min(b.schema));
        prop_assert!(sum.zero_threshold >= a.zero_threshold.max(b.zero_threshold));
        prop_assert_eq!(sum.count, a.count + b.count);
        prop_assert_eq!(observations(&sum), a.count + b.count);
        prop_assert!(sum.validate().is_ok());
        // beyond the zero bucket, every bound of the result splits the observations of both alike
        for bucket in sum.all_buckets().iter().filter(|b| b.upper <= -sum.zero_threshold || b.lower >= sum.zero_threshold) {
            for bound in [bucket.lower, bucket.upper] {
                prop_assert_eq!(at_or_below(&sum, bound), at_or_below(&a, bound) + at_or_below(&b, bound));
            }
        }
        let mut same = added(&b, &a);
        let mut sum = sum;
        sum.compact(0);
        same.compact(0);
        prop_assert_eq!(sum, same);
    }

    #[test]
    fn what_is_added_can_be_subtracted((a, b) in pair()) {
        let mut back = added(&a, &b);
        back.sub(&b).unwrap();
        back.compact(0);
        let mut coarse = a.copy_to_schema(back.schema);
        (coarse.zero_count, coarse.zero_threshold) = coarse.zero_count_within(back.zero_threshold);
        coarse.empty_buckets_in_zero_bucket();
        coarse.compact(0);
        prop_assert_eq!(back, coarse);
    }

    #[test]
    fn histograms_alike_are_subtracted_in_one_pass(
        (a, b) in pair(),
        c in prop_oneof![exponential(), custom()],
        counts in prop::collection::vec(0..5u8, 24),
    ) {
        let mut alike = c.clone();
        let buckets = alike.positive_buckets.iter_mut().chain(&mut alike.negative_buckets);
        buckets.zip(&counts).for_each(|(count, other)| *count = f64::from(*other));
        for (a, b) in [(a, b), (c, alike)] {
            if let Some(difference) = a.minus_alike(&b) {
                let mut subtracted = a.clone();
                subtracted.sub(&b).unwrap();
                prop_assert_eq!(difference, FloatHistogram { hint: a.hint, ..subtracted });
            } else {
                prop_assert!(!a.same_layout(&b) || !b.clear_of_zero_bucket(a.zero_threshold));
            }
        }
    }

    #[test]
    fn with_one_layout_sums_go_bucket_by_bucket(a in buckets(), b in buckets()) {
        let histogram = |buckets: &Buckets| FloatHistogram {
            schema: 1,
            positive_spans: spans_of(buckets.keys().copied()),
            positive_buckets: buckets.values().copied().collect(),
            ..FloatHistogram::default()
        };
        let mut naive = a.clone();
        b.iter().for_each(|(index, count)| *naive.entry(*index).or_default() += count);
        naive.retain(|_, count| *count != 0.0);
        prop_assert_eq!(populated(added(&histogram(&a), &histogram(&b)).positive_buckets()), naive);
    }

    #[test]
    fn compaction_keeps_what_is_populated(histogram in exponential(), max_empty in 0..4usize) {
        let mut compact = histogram.clone();
        compact.compact(max_empty);
        prop_assert_eq!(populated(compact.positive_buckets()), populated(histogram.positive_buckets()));
        prop_assert_eq!(populated(compact.negative_buckets()), populated(histogram.negative_buckets()));
        prop_assert!(compact.positive_spans.iter().skip(1).all(|span| span.offset as usize > max_empty));
        prop_assert!(compact.positive_buckets.first() != Some(&0.0) && compact.positive_buckets.last() != Some(&0.0));
        let longest = compact.positive_buckets.split(|count| *count != 0.0).map(<[f64]>::len).max();
        prop_assert!(longest.unwrap_or(0) <= max_empty);
        prop_assert!(compact.validate().is_ok());
        let mut again = compact.clone();
        again.compact(max_empty);
        prop_assert_eq!(again, compact);
    }

    #[test]
    fn coarser_buckets_hold_the_finer_ones(histogram in exponential(), steps in 1..4i32) {
        let coarse = histogram.copy_to_schema(histogram.schema - steps);
        prop_assert_eq!(observations(&coarse), observations(&histogram));
        for bucket in coarse.positive_buckets() {
            let inside = histogram.positive_buckets().filter(|b| b.lower >= bucket.lower && b.upper <= bucket.upper);
            prop_assert_eq!(inside.map(|b| b.count).sum::<f64>(), bucket.count);
        }
    }

    #[test]
    fn growth_is_no_reset_and_shrinking_is((a, b) in pair()) {
        let mut grown = added(&a, &b);
        grown.hint = ResetHint::Unknown;
        prop_assert!(!a.detect_reset(&a));
        prop_assert!(!grown.detect_reset(&a));
        prop_assert_eq!(a.detect_reset(&grown), !(b.count == 0.0 && grown.schema == a.schema
            && grown.zero_threshold == a.zero_threshold));
        let told = |hint| FloatHistogram { hint, ..a.clone() };
        prop_assert!(!told(ResetHint::NotReset).detect_reset(&grown));
        prop_assert!(told(ResetHint::Reset).detect_reset(&a));
    }

    #[test]
    fn sums_of_custom_buckets_have_the_bounds_of_both(a in custom(), b in custom()) {
        let mut sum = a.clone();
        let reconciled = sum.add(&b).unwrap();
        prop_assert_eq!(reconciled.custom_bounds_intersected, a.custom_values != b.custom_values);
        prop_assert!(sum.validate().is_ok());
        prop_assert_eq!(observations(&sum), a.count + b.count);
        for bound in &sum.custom_values {
            prop_assert!(a.custom_values.contains(bound) && b.custom_values.contains(bound));
            prop_assert_eq!(at_or_below(&sum, *bound), at_or_below(&a, *bound) + at_or_below(&b, *bound));
        }
        prop_assert!(!sum.detect_reset(&a) && !sum.detect_reset(&b));
        if observations(&b) > 0.0 {
            prop_assert!(a.detect_reset(&sum));
        }
    }

    #[test]
    fn compensated_sums_of_exact_counts_are_plain_sums(
        mixed in prop::collection::vec(exponential(), 1..6),
        customs in prop::collection::vec(custom(), 1..4),
    ) {
        for histograms in [mixed, customs] {
            let mut plain = histograms[0].clone();
            let mut sum = HistogramSum::new(plain.clone());
            for other in &histograms[1..] {
                prop_assert_eq!(sum.add(other).unwrap(), plain.add(other).unwrap());
            }
            sum.mul(2.0);
            plain.mul(2.0);
            let mut sum = sum.finish();
            sum.compact(0);
            plain.compact(0);
            prop_assert_eq!(sum, plain);
        }
    }

    #[test]
    fn integer_histograms_reduce_as_float_ones(counts in prop::collection::vec(-3..9i64, 1..12), first in -5..5i32) {
        let mut integer = Histogram {
            schema: 4,
            positive_spans: vec![BucketSpan { offset: first, length: counts.len() as u32 }],
            positive_buckets: counts,
            ..Histogram::default()
        };
        let mut float = integer.to_float();
        integer.reduce_resolution(2);
        float.reduce_resolution(2);
        prop_assert_eq!(integer.to_float(), float);
    }
}

#[test]
fn hints_merge_and_collide() {
    use ResetHint::*;
    let merged = |a, b| {
        let mut sum = FloatHistogram { hint: a, ..FloatHistogram::default() };
        let reconciled = sum.add(&FloatHistogram { hint: b, ..FloatHistogram::default() }).unwrap();
        (sum.hint, reconciled.reset_hints_collided)
    };
    assert_eq!(merged(NotReset, NotReset), (NotReset, false));
    assert_eq!(merged(Gauge, Reset), (Gauge, false));
    assert_eq!(merged(Unknown, Gauge), (Gauge, false));
    assert_eq!(merged(Reset, Unknown), (Unknown, false));
    assert_eq!(merged(Reset, NotReset), (Unknown, true));
}

#[test]
fn scaling_touches_every_count() {
    let mut histogram = FloatHistogram {
        zero_count: 2.0,
        count: 6.0,
        sum: 3.0,
        positive_spans: vec![BucketSpan { offset: 0, length: 1 }],
        positive_buckets: vec![4.0],
        ..FloatHistogram::default()
    };
    histogram.mul(0.5);
    assert_eq!((histogram.zero_count, histogram.count, histogram.sum), (1.0, 3.0, 1.5));
    assert_eq!((histogram.positive_buckets[0], histogram.hint), (2.0, ResetHint::Unknown));
    histogram.div(-1.0);
    assert_eq!((histogram.positive_buckets[0], histogram.hint), (-2.0, ResetHint::Gauge));
    histogram.div(0.0);
    assert!(histogram.positive_buckets.is_empty() && histogram.has_overflow());
}

#[test]
fn compensated_sums_keep_small_counts_beside_huge_ones() {
    let histogram = |value: f64, zero_threshold: f64| FloatHistogram {
        schema: 1,
        zero_threshold,
        zero_count: value,
        count: value,
        sum: value,
        positive_spans: vec![BucketSpan { offset: 5, length: 2 }],
        positive_buckets: vec![value, value],
        ..FloatHistogram::default()
    };
    let mut sum = HistogramSum::new(histogram(3.0, 0.0));
    sum.add(&histogram(1e100, 0.5)).unwrap();
    sum.add(&histogram(-1e100, 0.5)).unwrap();
    assert!(!sum.has_overflow());
    let mut overflown = HistogramSum::new(histogram(f64::MAX, 0.0));
    overflown.add(&histogram(f64::MAX, 0.0)).unwrap();
    assert!(overflown.has_overflow());
    let sum = sum.finish();
    assert_eq!((sum.zero_count, sum.count, sum.sum, sum.zero_threshold), (3.0, 3.0, 3.0, 0.5));
    assert_eq!(sum.positive_buckets, [3.0, 3.0]);
}

#[test]
fn merged_sums_keep_what_each_had_lost() {
    let histogram = |value: f64, offset| FloatHistogram {
        schema: 1,
        count: value,
        positive_spans: vec![BucketSpan { offset, length: 1 }],
        positive_buckets: vec![value],
        ..FloatHistogram::default()
    };
    let mut left = HistogramSum::new(histogram(1e100, 0));
    left.add(&histogram(3.0, 0)).unwrap();
    left.add(&histogram(5.0, 2)).unwrap();
    let mut right = HistogramSum::new(histogram(-1e100, 0));
    right.add(&histogram(6.0, 0)).unwrap();
    left.merge(right).unwrap();
    left.div(2.0);
    let sum = left.finish();
    assert_eq!((sum.count, &sum.positive_buckets[..]), (7.0, &[4.5, 2.5][..]));
    let custom = FloatHistogram { schema: CUSTOM_BUCKETS_SCHEMA, ..FloatHistogram::default() };
    let mut sum = HistogramSum::new(histogram(1.0, 0));
    assert_eq!(sum.merge(HistogramSum::new(custom)), Err(HistogramError::IncompatibleSchemas));
}

#[test]
fn mixed_kinds_of_buckets_do_not_add() {
    let custom = FloatHistogram { schema: CUSTOM_BUCKETS_SCHEMA, ..FloatHistogram::default() };
    let mut exponential = FloatHistogram::default();
    assert_eq!(exponential.add(&custom), Err(HistogramError::IncompatibleSchemas));
    assert_eq!(exponential.sub(&FloatHistogram::default()), Ok(Reconciled::default()));
}

#[test]
fn buckets_have_the_bounds_of_their_schema() {
    let histogram = FloatHistogram {
        schema: 0,
        zero_threshold: 0.75,
        zero_count: 1.0,
        positive_spans: vec![
            BucketSpan { offset: 0, length: 2 },
            BucketSpan { offset: 1, length: 1 },
        ],
        positive_buckets: vec![1.0, 2.0, 3.0],
        negative_spans: vec![BucketSpan { offset: 1, length: 1 }],
        negative_buckets: vec![4.0],
        ..FloatHistogram::default()
    };
    let all: Vec<_> = histogram.all_buckets().iter().map(|b| (b.lower, b.upper, b.count)).collect();
    // the first positive bucket begins at 0.5, inside the zero bucket
    let expected =
        [(-2.0, -1.0, 4.0), (-0.75, 0.75, 1.0), (0.75, 1.0, 1.0), (1.0, 2.0, 2.0), (4.0, 8.0, 3.0)];
    assert_eq!(all, expected);
    assert!(histogram.negative_buckets().all(|b| b.lower_inclusive && !b.upper_inclusive));
    assert!(histogram.positive_buckets().all(|b| !b.lower_inclusive && b.upper_inclusive));

    let custom = FloatHistogram {
        schema: CUSTOM_BUCKETS_SCHEMA,
        positive_spans: vec![BucketSpan { offset: 0, length: 3 }],
        positive_buckets: vec![1.0, 2.0, 3.0],
        custom_values: vec![0.5, 2.0],
        ..FloatHistogram::default()
    };
    let all: Vec<_> =
        custom.all_buckets().iter().map(|b| (b.lower, b.upper, b.lower_inclusive)).collect();
    let infinity = f64::INFINITY;
    assert_eq!(all, [(-infinity, 0.5, true), (0.5, 2.0, false), (2.0, infinity, false)]);
}

#[test]
fn malformed_histograms_are_named() {
    let good = FloatHistogram {
        positive_spans: vec![
            BucketSpan { offset: 0, length: 1 },
            BucketSpan { offset: 0, length: 1 },
        ],
        positive_buckets: vec![1.0, 2.0],
        ..FloatHistogram::default()
    };
    let broken = |change: &dyn Fn(&mut FloatHistogram)| {
        let mut histogram = good.clone();
        change(&mut histogram);
        histogram.validate()
    };
    assert_eq!(good.validate(), Ok(()));
    assert_eq!(broken(&|h| h.schema = 9), Err(HistogramError::Schema(9)));
    assert!(matches!(
        broken(&|h| h.positive_buckets.push(1.0)),
        Err(HistogramError::BucketCount { .. })
    ));
    assert!(matches!(
        broken(&|h| h.positive_spans[1].offset = -1),
        Err(HistogramError::NegativeOffset { .. })
    ));
    assert!(matches!(
        broken(&|h| h.positive_buckets[1] = -1.0),
        Err(HistogramError::NegativeBucket { .. })
    ));
    assert!(matches!(broken(&|h| h.count = -1.0), Err(HistogramError::NegativeCount(_))));
    assert_eq!(broken(&|h| h.custom_values.push(1.0)), Err(HistogramError::UnexpectedBounds));
    let custom = |bounds: &[f64]| {
        broken(&|h| {
            h.schema = CUSTOM_BUCKETS_SCHEMA;
            h.custom_values = bounds.to_vec();
        })
    };
    assert_eq!(custom(&[1.0]), Ok(()));
    assert!(custom(&[]).is_err() && custom(&[2.0, 1.0]).is_err() && custom(&[f64::NAN]).is_err());
    assert!(custom(&[1.0, f64::INFINITY]).is_err());
}

#[test]
fn same_data_looks_at_bits_and_not_at_empty_spans() {
    let a = FloatHistogram {
        sum: f64::NAN,
        positive_spans: vec![BucketSpan { offset: 1, length: 2 }],
        positive_buckets: vec![1.0, 2.0],
        ..FloatHistogram::default()
    };
    let spans = vec![
        BucketSpan { offset: 0, length: 0 },
        BucketSpan { offset: 1, length: 1 },
        BucketSpan { offset: 0, length: 1 },
    ];
    let b = FloatHistogram { positive_spans: spans, hint: ResetHint::Gauge, ..a.clone() };
    assert!(a.same_data(&b));
    assert!(!a.same_data(&FloatHistogram { sum: 0.0, ..a.clone() }));
    assert!(!a.same_data(&FloatHistogram { positive_buckets: vec![1.0, 3.0], ..a.clone() }));
}
