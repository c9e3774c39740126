use model::histogram::{BucketSpan, CUSTOM_BUCKETS_SCHEMA};
use proptest::prelude::*;

use super::*;

fn of(counts: &[f64], schema: i32) -> FloatHistogram {
    let count = counts.iter().sum();
    FloatHistogram {
        schema,
        count,
        sum: count * 2.0,
        positive_spans: vec![BucketSpan { offset: 0, length: counts.len() as u32 }],
        positive_buckets: counts.to_vec(),
        ..FloatHistogram::default()
    }
}

fn custom(counts: &[f64], bounds: &[f64]) -> FloatHistogram {
    FloatHistogram { custom_values: bounds.to_vec(), ..of(counts, CUSTOM_BUCKETS_SCHEMA) }
}

fn aggregate(
    avg: bool,
    histograms: &[FloatHistogram],
    notes: &mut Notes,
) -> Option<FloatHistogram> {
    let mut aggregate = HistogramAggregate::new(avg);
    histograms.iter().for_each(|histogram| aggregate.add(histogram, notes));
    aggregate.finish(notes)
}

fn close(a: &FloatHistogram, b: &FloatHistogram) -> bool {
    let close = |a: &[f64], b: &[f64]| {
        a.len() == b.len()
            && a.iter().zip(b).all(|(a, b)| a == b || (a - b).abs() <= 1e-12 * a.abs().max(b.abs()))
    };
    (a.schema, a.hint, &a.positive_spans) == (b.schema, b.hint, &b.positive_spans)
        && close(&[a.count, a.sum], &[b.count, b.sum])
        && close(&a.positive_buckets, &b.positive_buckets)
}

fn histograms() -> impl Strategy<Value = Vec<FloatHistogram>> {
    let histogram = (0..3i32, prop::collection::vec(0..9u8, 1..8));
    let histogram = histogram.prop_map(|(schema, counts)| {
        of(&counts.into_iter().map(f64::from).collect::<Vec<_>>(), schema)
    });
    prop::collection::vec(histogram, 1..12)
}

proptest! {
    #[test]
    fn sums_and_means_are_those_of_plain_addition(histograms in histograms(), split in 0..12usize, huge: bool) {
        let mut histograms = histograms;
        let scale = if huge { f64::MAX / 400.0 } else { 1.0 };
        histograms.iter_mut().for_each(|histogram| histogram.mul(scale));
        for avg in [false, true] {
            let mut expected = histograms[0].clone();
            expected.div(scale);
            for histogram in &histograms[1..] {
                let mut histogram = histogram.clone();
                histogram.div(scale);
                expected.add(&histogram).unwrap();
            }
            if avg {
                expected.div(histograms.len() as f64);
            }
            expected.mul(scale);
            expected.compact(0);
            if expected.has_overflow() {
                continue;
            }
            let mut notes = Notes::default();
            let whole = aggregate(avg, &histograms, &mut notes).unwrap();
            prop_assert!(close(&whole, &expected), "{:?} is not {:?}", whole, expected);
            let (left, right) = histograms.split_at(split.min(histograms.len()));
            let [mut left, right] = [left, right].map(|part| {
                let mut aggregate = HistogramAggregate::new(avg);
                part.iter().for_each(|histogram| aggregate.add(histogram, &mut notes));
                aggregate
            });
            left.merge(right, &mut notes);
            let merged = left.finish(&mut notes).unwrap();
            prop_assert!(close(&merged, &expected), "{:?} is not {:?}", merged, expected);
            prop_assert!(notes.is_empty());
        }
    }
}

#[test]
fn small_counts_survive_huge_ones() {
    let histograms = [3.0, 1e100, -1e100].map(|count| of(&[count, 1.0], 1));
    let sum = aggregate(false, &histograms, &mut Notes::default()).unwrap();
    assert_eq!((sum.count, sum.positive_buckets[0]), (4.0, 3.0));
    let mut parts = histograms.map(|histogram| {
        let mut aggregate = HistogramAggregate::new(false);
        aggregate.add(&histogram, &mut Notes::default());
        aggregate
    });
    let [first, second, third] = &mut parts;
    first.merge(second.clone(), &mut Notes::default());
    first.merge(third.clone(), &mut Notes::default());
    assert_eq!(first.clone().finish(&mut Notes::default()).unwrap().positive_buckets[0], 3.0);
}

#[test]
fn contradicting_hints_are_noted_once_there_is_a_result() {
    let hinted = |hint| FloatHistogram { hint, ..of(&[1.0], 1) };
    let mut notes = Notes::default();
    let hints = [ResetHint::Reset, ResetHint::Gauge, ResetHint::NotReset];
    let sum = aggregate(false, &hints.map(hinted), &mut notes).unwrap();
    assert_eq!(sum.hint, ResetHint::Gauge);
    assert_eq!(
        notes.iter().copied().collect::<Vec<_>>(),
        [Note::CounterResetCollision(HistogramOperation::Aggregation)]
    );
    let mut left = HistogramAggregate::new(true);
    left.add(&hinted(ResetHint::Reset), &mut Notes::default());
    let mut right = HistogramAggregate::new(true);
    right.add(&hinted(ResetHint::NotReset), &mut Notes::default());
    left.merge(right, &mut Notes::default());
    let mut notes = Notes::default();
    assert!(left.finish(&mut notes).is_some() && !notes.is_empty());
}

#[test]
fn custom_bounds_are_intersected_and_not_mixed_with_exponential_ones() {
    let (a, b) = (custom(&[1.0, 2.0, 3.0], &[1.0, 2.0]), custom(&[1.0, 4.0], &[2.0]));
    for avg in [false, true] {
        let mut notes = Notes::default();
        let result = aggregate(avg, &[a.clone(), b.clone()], &mut notes).unwrap();
        let counts: &[f64] = if avg { &[2.0, 3.5] } else { &[4.0, 7.0] };
        assert_eq!((&result.positive_buckets[..], &result.custom_values[..]), (counts, &[2.0][..]));
        assert_eq!(
            notes.iter().copied().collect::<Vec<_>>(),
            [Note::MismatchedCustomBuckets(HistogramOperation::Aggregation)]
        );
        let mut notes = Notes::default();
        assert_eq!(aggregate(avg, &[a.clone(), of(&[1.0], 1), b.clone()], &mut notes), None);
        assert_eq!(notes.iter().copied().collect::<Vec<_>>(), [Note::MixedExponentialAndCustom]);
    }
}

#[test]
fn nothing_added_has_no_result() {
    let mut empty = HistogramAggregate::new(false);
    empty.merge(HistogramAggregate::new(false), &mut Notes::default());
    let mut one = HistogramAggregate::new(false);
    one.add(&of(&[0.0, 2.0], 1), &mut Notes::default());
    empty.clone().merge(one.clone(), &mut Notes::default());
    assert_eq!(empty.clone().finish(&mut Notes::default()), None);
    empty.merge(one, &mut Notes::default());
    let result = empty.finish(&mut Notes::default()).unwrap();
    assert_eq!((result.positive_spans[0].offset, &result.positive_buckets[..]), (1, &[2.0][..]));
}
