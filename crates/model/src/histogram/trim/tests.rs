use proptest::prelude::*;

use crate::histogram::{BucketSpan, CUSTOM_BUCKETS_SCHEMA, FloatHistogram};

fn close(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-9 * a.abs().max(b.abs()).max(1.0)
}

/// Schema 0: (1,2]: 4, (2,4]: 8, and the zero bucket.
fn exponential(zero_threshold: f64, zero_count: f64) -> FloatHistogram {
    FloatHistogram {
        zero_threshold,
        zero_count,
        count: 12.0 + zero_count,
        sum: 33.0,
        positive_spans: vec![BucketSpan { offset: 1, length: 2 }],
        positive_buckets: vec![4.0, 8.0],
        ..FloatHistogram::default()
    }
}

fn mirrored(mut histogram: FloatHistogram) -> FloatHistogram {
    histogram.sum = -histogram.sum;
    std::mem::swap(&mut histogram.positive_spans, &mut histogram.negative_spans);
    std::mem::swap(&mut histogram.positive_buckets, &mut histogram.negative_buckets);
    histogram
}

fn custom(bounds: &[f64], counts: &[f64]) -> FloatHistogram {
    FloatHistogram {
        schema: CUSTOM_BUCKETS_SCHEMA,
        count: counts.iter().sum(),
        sum: 100.0,
        positive_spans: vec![BucketSpan { offset: 0, length: counts.len() as u32 }],
        positive_buckets: counts.to_vec(),
        custom_values: bounds.to_vec(),
        ..FloatHistogram::default()
    }
}

fn upper(mut histogram: FloatHistogram, bound: f64) -> FloatHistogram {
    histogram.trim_upper(bound);
    histogram
}

fn lower(mut histogram: FloatHistogram, bound: f64) -> FloatHistogram {
    histogram.trim_lower(bound);
    histogram
}

#[test]
fn a_bound_that_cuts_nothing_leaves_the_sum_as_observed() {
    let whole = exponential(0.5, 2.0);
    assert_eq!(upper(whole.clone(), 4.0), whole);
    assert_eq!(lower(whole.clone(), -0.5), whole);
    assert_eq!(upper(whole.clone(), f64::INFINITY), whole);
    assert_eq!(lower(whole.clone(), f64::NEG_INFINITY), whole);
}

#[test]
fn buckets_go_whole_at_their_bounds() {
    let cut = upper(exponential(0.5, 2.0), 2.0);
    assert_eq!((cut.positive_buckets.as_slice(), cut.count), (&[4.0][..], 6.0));
    // 4 observations around the geometric middle of (1,2], 2 in the middle of [0,0.5]
    assert!(close(cut.sum, 4.0 * 2f64.sqrt() + 2.0 * 0.25));
    let cut = lower(exponential(0.5, 2.0), 2.0);
    assert_eq!(
        (cut.positive_buckets.as_slice(), cut.count, cut.zero_count),
        (&[8.0][..], 8.0, 0.0)
    );
    assert_eq!(cut.positive_spans, [BucketSpan { offset: 2, length: 1 }]);
    assert!(close(cut.sum, 8.0 * 8f64.sqrt()));
}

#[test]
fn exponential_buckets_are_cut_on_a_logarithmic_scale() {
    let bound = 2.0 * 2f64.sqrt();
    let below = upper(exponential(0.0, 0.0), bound);
    assert!(close(below.positive_buckets[1], 4.0) && close(below.count, 8.0));
    assert!(close(below.sum, 4.0 * 2f64.sqrt() + 4.0 * (2.0 * bound).sqrt()));
    let above = lower(exponential(0.0, 0.0), bound);
    assert!(close(above.count, 4.0) && close(above.sum, 4.0 * (4.0 * bound).sqrt()));
    let mirrored = lower(mirrored(exponential(0.0, 0.0)), -bound);
    assert!(close(mirrored.negative_buckets[1], 4.0) && close(mirrored.sum, -below.sum));
}

#[test]
fn the_zero_bucket_is_cut_on_a_linear_scale_and_ends_at_zero_beside_one_side() {
    assert!(close(upper(exponential(0.5, 2.0), 0.25).count, 1.0));
    assert!(close(upper(exponential(0.5, 2.0), 0.25).sum, 0.125));
    assert!(close(lower(exponential(0.5, 2.0), 0.125).zero_count, 1.5));
    assert!(close(lower(mirrored(exponential(0.5, 2.0)), -0.125).zero_count, 0.5));
    let mut both = exponential(0.5, 2.0);
    both.negative_spans = vec![BucketSpan { offset: 1, length: 1 }];
    both.negative_buckets = vec![1.0];
    both.count += 1.0;
    assert!(close(lower(both.clone(), 0.0).zero_count, 1.0));
    assert!(close(upper(both, 0.0).count, 2.0));
}

#[test]
fn custom_buckets_are_cut_on_a_linear_scale() {
    let histogram = custom(&[10.0, 20.0], &[4.0, 8.0, 2.0]);
    let below = upper(histogram.clone(), 15.0);
    assert_eq!((below.positive_buckets.as_slice(), below.count), (&[4.0, 4.0][..], 8.0));
    assert!(close(below.sum, 4.0 * 5.0 + 4.0 * 12.5));
    // the first bucket begins at 0, and what is above the last bound is assumed to be at the cut
    assert_eq!(upper(histogram.clone(), 5.0).positive_buckets, [2.0]);
    assert_eq!(lower(histogram.clone(), 5.0).positive_buckets, [2.0, 8.0, 2.0]);
    let last = lower(histogram.clone(), 25.0);
    assert_eq!((last.count, last.sum), (2.0, 50.0));
    assert_eq!(upper(histogram, 25.0).count, 12.0);
}

#[test]
fn a_lowest_custom_bucket_below_zero_is_not_divided() {
    let histogram = custom(&[-10.0, 0.0], &[4.0, 8.0]);
    let below = upper(histogram.clone(), -20.0);
    assert_eq!((below.count, below.sum), (4.0, -80.0));
    assert_eq!(lower(histogram.clone(), -20.0).positive_buckets, [8.0]);
    assert_eq!(upper(custom(&[10.0], &[4.0]), -1.0).count, 0.0);
    assert_eq!(lower(custom(&[10.0], &[4.0]), -1.0).count, 0.0);
    let boundless = custom(&[], &[4.0]);
    assert_eq!((upper(boundless.clone(), 1.0).count, lower(boundless, 1.0).count), (0.0, 0.0));
}

fn histograms() -> impl Strategy<Value = FloatHistogram> {
    let side = || prop::collection::vec(0..5u8, 0..6);
    (-1..3i32, side(), side(), 0..4u8).prop_map(|(schema, positive, negative, zero)| {
        let counts = |counts: Vec<u8>| counts.into_iter().map(f64::from).collect::<Vec<_>>();
        let spans = |counts: &[f64]| vec![BucketSpan { offset: -1, length: counts.len() as u32 }];
        let (positive, negative) = (counts(positive), counts(negative));
        FloatHistogram {
            schema,
            zero_threshold: 0.001,
            zero_count: f64::from(zero),
            count: positive.iter().chain(&negative).sum::<f64>() + f64::from(zero),
            sum: 1.0,
            positive_spans: spans(&positive),
            negative_spans: spans(&negative),
            positive_buckets: positive,
            negative_buckets: negative,
            ..FloatHistogram::default()
        }
    })
}

proptest! {
    #[test]
    fn what_is_below_and_what_is_above_make_the_whole(histogram in histograms(), bound in -20.0..20.0f64) {
        let (below, above) = (upper(histogram.clone(), bound), lower(histogram.clone(), bound));
        prop_assert!(close(below.count + above.count, histogram.count));
        prop_assert!(below.all_buckets().iter().all(|b| b.lower < bound && b.count > 0.0) || below == histogram);
        prop_assert!(above.all_buckets().iter().all(|b| b.upper > bound && b.count > 0.0) || above == histogram);
    }

    #[test]
    fn trimming_the_mirror_image_gives_the_mirror_image(histogram in histograms(), bound in -20.0..20.0f64) {
        let (one, other) = (mirrored(upper(histogram.clone(), bound)), lower(mirrored(histogram), -bound));
        prop_assert!(close(one.count, other.count) && close(one.sum, other.sum));
        prop_assert_eq!((one.positive_spans, one.negative_spans), (other.positive_spans, other.negative_spans));
    }

    #[test]
    fn buckets_come_in_the_opposite_order_from_the_other_end(histogram in histograms()) {
        let mut descending: Vec<_> = histogram.descending().map(|bucket| histogram.bounded(bucket)).collect();
        descending.reverse();
        let ascending = histogram.all_buckets();
        prop_assert!(ascending.windows(2).all(|pair| pair[0].upper <= pair[1].lower));
        prop_assert_eq!(descending, ascending);
    }
}
