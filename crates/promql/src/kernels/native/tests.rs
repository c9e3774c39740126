use std::sync::Arc;

use model::FloatHistogram;
use model::histogram::{BucketSpan, CUSTOM_BUCKETS_SCHEMA, HistogramBucket, ResetHint};
use proptest::prelude::*;

use super::*;
use crate::ast::BinaryOp;
use crate::kernels::notes::{HistogramOperation, SampleKind};

const INF: f64 = f64::INFINITY;
const NAN: f64 = f64::NAN;

fn close(a: f64, b: f64) -> bool {
    a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= 1e-9 * a.abs().max(b.abs()).max(1.0)
}

/// Schema 0: (1,2]: 4, (2,4]: 8.
fn exponential() -> FloatHistogram {
    FloatHistogram {
        zero_threshold: 0.5,
        count: 12.0,
        sum: 30.0,
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

fn with_zero_bucket(mut histogram: FloatHistogram, count: f64) -> FloatHistogram {
    histogram.zero_count = count;
    histogram.count += count;
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

fn silent<T>(f: impl FnOnce(&mut Notes) -> T) -> T {
    let mut notes = Notes::default();
    let value = f(&mut notes);
    assert!(notes.is_empty(), "{notes:?}");
    value
}

fn noted<T>(note: Note, f: impl FnOnce(&mut Notes) -> T) -> T {
    let mut notes = Notes::default();
    let value = f(&mut notes);
    assert_eq!(notes.iter().collect::<Vec<_>>(), [&note]);
    value
}

fn q(q: f64, histogram: &FloatHistogram) -> f64 {
    silent(|notes| quantile(q, histogram, notes))
}

fn between(lower: f64, upper: f64, histogram: &FloatHistogram) -> f64 {
    silent(|notes| fraction(lower, upper, histogram, notes))
}

#[test]
fn quantiles_of_exponential_buckets_are_on_a_logarithmic_scale() {
    let h = exponential();
    assert!(close(q(2.0 / 12.0, &h), 2f64.sqrt()));
    assert!(close(q(8.0 / 12.0, &h), 8f64.sqrt()));
    assert!(close(q(0.0, &h), 1.0) && close(q(1.0, &h), 4.0));
    assert!(close(q(10.0 / 12.0, &mirrored(exponential())), -(2f64.sqrt())));
    assert_eq!((q(-0.1, &h), q(1.1, &h)), (-INF, INF));
    assert!(q(NAN, &h).is_nan() && q(0.5, &FloatHistogram::default()).is_nan());
}

#[test]
fn quantiles_in_the_zero_bucket_are_on_a_linear_scale_and_on_the_side_of_the_others() {
    assert!(close(q(0.25, &with_zero_bucket(exponential(), 12.0)), 0.25));
    assert!(close(q(0.75, &with_zero_bucket(mirrored(exponential()), 12.0)), -0.25));
    let only_zero =
        with_zero_bucket(FloatHistogram { zero_threshold: 0.5, ..FloatHistogram::default() }, 4.0);
    assert!(close(q(0.25, &only_zero), -0.25) && close(q(0.75, &only_zero), 0.25));
}

#[test]
fn quantiles_of_custom_buckets_are_on_a_linear_scale_between_finite_bounds() {
    let h = custom(&[10.0, 20.0], &[4.0, 8.0, 4.0]);
    assert!(close(q(0.125, &h), 5.0), "the first bucket begins at 0");
    assert!(close(q(0.5, &h), 15.0));
    assert_eq!(q(0.9, &h), 20.0, "nothing is known above the last bound");
    assert_eq!(
        q(0.1, &custom(&[-5.0, 20.0], &[4.0, 8.0])),
        -5.0,
        "nothing is known below the first"
    );
}

#[test]
fn buckets_that_hold_less_than_the_count_end_at_the_highest_or_lowest_bound() {
    let short = FloatHistogram { count: 24.0, ..exponential() };
    assert_eq!(q(0.49, &short), q(0.49, &FloatHistogram { sum: 0.0, ..short.clone() }));
    let shorter = FloatHistogram { count: 120.0, ..exponential() };
    assert_eq!(q(0.4, &shorter), 4.0);
    assert_eq!(q(0.6, &shorter), 2.0, "from above, the last bucket seen is the lowest");
    let empty = FloatHistogram { count: 5.0, ..FloatHistogram::default() };
    assert_eq!(q(0.3, &empty), 0.0);
    assert!(q(0.0, &empty).is_nan());
}

#[test]
fn observations_of_nan_are_above_all_others() {
    let h = FloatHistogram { sum: NAN, count: 16.0, ..exponential() };
    assert!(close(noted(Note::QuantileSkewedByNan, |notes| quantile(0.5, &h, notes)), 8f64.sqrt()));
    assert!(noted(Note::QuantileOfNanIsNan, |notes| quantile(0.9, &h, notes)).is_nan());
    assert!(close(noted(Note::FractionExcludesNan, |notes| fraction(-INF, INF, &h, notes)), 0.75));
    // Prometheus interpolates in the highest bucket, whatever the bucket of the rank
    assert!(close(
        noted(Note::QuantileSkewedByNan, |notes| quantile(0.125, &h, notes)),
        2f64.powf(1.25)
    ));
    let infinities = FloatHistogram { sum: NAN, ..exponential() };
    assert!(close(q(0.9, &infinities), q(0.9, &exponential())));
    assert!(close(between(-INF, 2.0, &infinities), 1.0 / 3.0));
}

#[test]
fn fractions_between_bounds() {
    let h = exponential();
    assert!(close(between(1.0, 2.0, &h), 4.0 / 12.0));
    assert!(close(between(2f64.sqrt(), 8f64.sqrt(), &h), 6.0 / 12.0));
    assert_eq!(
        (between(-INF, INF, &h), between(5.0, 6.0, &h), between(2.0, 1.0, &h)),
        (1.0, 0.0, 0.0)
    );
    assert!(
        between(NAN, 1.0, &h).is_nan() && between(0.0, 1.0, &FloatHistogram::default()).is_nan()
    );
    let custom = custom(&[10.0, 20.0], &[4.0, 8.0, 4.0]);
    assert!(close(between(5.0, 15.0, &custom), 6.0 / 16.0));
    assert!(close(between(20.0, 30.0, &custom), 0.0), "the last bucket is not divided");
    let zero = with_zero_bucket(exponential(), 12.0);
    assert!(close(between(-1.0, 0.25, &zero), 0.25));
    assert!(close(between(-0.25, 0.0, &with_zero_bucket(mirrored(exponential()), 12.0)), 0.25));
}

#[test]
fn custom_buckets_below_zero_are_divided_where_they_end_below_zero() {
    let h = custom(&[-5.0, -1.0, 20.0], &[4.0, 8.0, 12.0]);
    assert!(close(between(-INF, -10.0, &h), 4.0 / 24.0), "the lowest counts for any bound inside");
    assert!(close(between(-10.0, -3.0, &h), 4.0 / 24.0));
    assert!(close(between(-1.0, 0.0, &h), 0.0), "the one around zero begins at zero");
    assert!(close(between(0.0, 10.0, &h), 6.0 / 24.0));
}

#[test]
fn moments_take_observations_in_the_middle_of_their_bucket() {
    let h = exponential();
    assert_eq!((count(&h), sum(&h), average(&h)), (12.0, 30.0, 2.5));
    let spread = 4.0 * (2f64.sqrt() - 2.5).powi(2) + 8.0 * (8f64.sqrt() - 2.5).powi(2);
    assert!(close(stdvar(&h), spread / 12.0) && close(stddev(&h), (spread / 12.0).sqrt()));
    assert!(close(stdvar(&mirrored(exponential())), spread / 12.0));
    let h = custom(&[10.0, 20.0], &[4.0, 8.0]);
    let mean = 100.0 / 12.0;
    assert_eq!(stdvar(&h), INF, "the first bucket has no lower bound");
    let inner = FloatHistogram { positive_buckets: vec![0.0, 12.0], ..h };
    assert!(close(stdvar(&inner), (15.0 - mean) * (15.0 - mean)));
    let zero = with_zero_bucket(
        FloatHistogram { zero_threshold: 0.5, sum: 8.0, ..FloatHistogram::default() },
        4.0,
    );
    assert!(close(stdvar(&zero), 4.0));
}

fn operate(left: Operand<'_>, op: BinaryOp, right: Operand<'_>) -> Option<ComputedValue> {
    silent(|notes| binary(op, left, right, notes))
}

fn histogram(value: Option<ComputedValue>) -> FloatHistogram {
    match value {
        Some(ComputedValue::Histogram(h)) => h.as_ref().clone(),
        other => panic!("{other:?} is no histogram"),
    }
}

#[test]
fn histograms_scale() {
    let h = Arc::new(with_zero_bucket(exponential(), 2.0));
    let doubled = histogram(operate(Operand::Histogram(&h), BinaryOp::Mul, Operand::Float(2.0)));
    assert_eq!((doubled.count, doubled.sum, doubled.zero_count), (28.0, 60.0, 4.0));
    assert_eq!(
        (doubled.positive_buckets.as_slice(), doubled.hint),
        (&[8.0, 16.0][..], ResetHint::Unknown)
    );
    assert_eq!(
        histogram(operate(Operand::Float(2.0), BinaryOp::Mul, Operand::Histogram(&h))),
        doubled
    );
    assert_eq!(
        histogram(operate(Operand::Histogram(&h), BinaryOp::Div, Operand::Float(0.5))),
        doubled
    );
    let negative = histogram(operate(Operand::Histogram(&h), BinaryOp::Mul, Operand::Float(-1.0)));
    assert_eq!((negative.hint, &negative), (ResetHint::Gauge, &negate(&h)));
    let nothing = histogram(operate(Operand::Histogram(&h), BinaryOp::Mul, Operand::Float(0.0)));
    assert_eq!(
        (nothing.count, nothing.positive_buckets.len(), nothing.positive_spans.len()),
        (0.0, 0, 0)
    );
    let infinite = histogram(operate(Operand::Histogram(&h), BinaryOp::Div, Operand::Float(0.0)));
    assert_eq!(
        (infinite.count, infinite.zero_count, infinite.positive_buckets.len()),
        (INF, INF, 0)
    );
}

#[test]
fn histograms_add_and_subtract() {
    let a = Arc::new(FloatHistogram { hint: ResetHint::Reset, ..exponential() });
    let b =
        Arc::new(FloatHistogram { hint: ResetHint::Reset, ..with_zero_bucket(exponential(), 1.0) });
    let (left, right) = (Operand::Histogram(&a), Operand::Histogram(&b));
    let sum = histogram(operate(left, BinaryOp::Add, right));
    assert_eq!((sum.count, sum.sum, sum.zero_count, sum.hint), (25.0, 60.0, 1.0, ResetHint::Reset));
    assert_eq!(sum.positive_buckets, [8.0, 16.0]);
    let difference = histogram(operate(right, BinaryOp::Sub, left));
    assert_eq!((difference.count, difference.sum, difference.hint), (1.0, 0.0, ResetHint::Gauge));
    assert!(difference.positive_buckets.is_empty() && difference.positive_spans.is_empty());
}

#[test]
fn histograms_that_do_not_fit_together_are_noted() {
    let exponential = Arc::new(exponential());
    let (wide, narrow) =
        (Arc::new(custom(&[5.0, 10.0], &[1.0, 2.0])), Arc::new(custom(&[10.0], &[4.0])));
    let (e, w, n) =
        (Operand::Histogram(&exponential), Operand::Histogram(&wide), Operand::Histogram(&narrow));
    let none = noted(Note::IncompatibleBucketLayout(BinaryOp::Add), |notes| {
        binary(BinaryOp::Add, e, w, notes)
    });
    assert_eq!(none, None);
    let none = noted(Note::IncompatibleBucketLayout(BinaryOp::Sub), |notes| {
        binary(BinaryOp::Sub, w, e, notes)
    });
    assert_eq!(none, None);
    let added = Note::MismatchedCustomBuckets(HistogramOperation::Addition);
    let sum = histogram(noted(added, |notes| binary(BinaryOp::Add, w, n, notes)));
    assert_eq!(
        (sum.custom_values.as_slice(), sum.positive_buckets.as_slice()),
        (&[10.0][..], &[7.0][..])
    );
    let subtracted = Note::MismatchedCustomBuckets(HistogramOperation::Subtraction);
    assert_eq!(
        histogram(noted(subtracted, |notes| binary(BinaryOp::Sub, w, n, notes))).count,
        -1.0
    );
    let hinted = |hint| Arc::new(FloatHistogram { hint, ..exponential.as_ref().clone() });
    let (reset, not_reset) = (hinted(ResetHint::Reset), hinted(ResetHint::NotReset));
    let (r, m) = (Operand::Histogram(&reset), Operand::Histogram(&not_reset));
    let collision = Note::CounterResetCollision(HistogramOperation::Addition);
    assert_eq!(noted(collision, |notes| binary(BinaryOp::Add, r, m, notes)), None);
    let collision = Note::CounterResetCollision(HistogramOperation::Subtraction);
    assert_eq!(noted(collision, |notes| binary(BinaryOp::Sub, m, r, notes)), None);
}

#[test]
fn comparison_is_of_data() {
    let a = Arc::new(exponential());
    let same = Arc::new(FloatHistogram { hint: ResetHint::Gauge, ..exponential() });
    let other = Arc::new(FloatHistogram { sum: 31.0, ..exponential() });
    let (left, same, other) =
        (Operand::Histogram(&a), Operand::Histogram(&same), Operand::Histogram(&other));
    assert_eq!(operate(left, BinaryOp::Eq, same), Some(ComputedValue::Histogram(a.clone())));
    assert_eq!(operate(left, BinaryOp::Eq, other), None);
    assert_eq!(operate(left, BinaryOp::Ne, other), Some(ComputedValue::Histogram(a.clone())));
    assert_eq!(operate(left, BinaryOp::Ne, same), None);
    assert_eq!(
        operate(Operand::Float(1.0), BinaryOp::Lt, Operand::Float(2.0)),
        Some(ComputedValue::Float(1.0))
    );
    assert_eq!(operate(Operand::Float(3.0), BinaryOp::Lt, Operand::Float(2.0)), None);
    assert_eq!(
        operate(Operand::Float(3.0), BinaryOp::Sub, Operand::Float(2.0)),
        Some(ComputedValue::Float(1.0))
    );
}

#[test]
fn trimming_is_of_a_histogram_by_a_float() {
    let h = Arc::new(exponential());
    let below =
        histogram(operate(Operand::Histogram(&h), BinaryOp::TrimUpper, Operand::Float(2.0)));
    assert_eq!((below.count, below.positive_buckets.as_slice()), (4.0, &[4.0][..]));
    let above =
        histogram(operate(Operand::Histogram(&h), BinaryOp::TrimLower, Operand::Float(2.0)));
    assert_eq!((above.count, above.positive_buckets.as_slice()), (8.0, &[8.0][..]));
}

#[test]
fn every_operator_either_has_a_result_or_is_noted() {
    use BinaryOp::*;
    use SampleKind::{Float, Histogram};
    let h = Arc::new(exponential());
    let operand = |kind| if kind == Float { Operand::Float(2.0) } else { Operand::Histogram(&h) };
    let defined = [
        (Histogram, Float, &[Mul, Div, TrimUpper, TrimLower][..]),
        (Float, Histogram, &[Mul]),
        (Histogram, Histogram, &[Add, Sub, Eq, Ne]),
        (Float, Float, &[Add, Sub, Mul, Div, Mod, Pow, Atan2, Eq, Ne, Gt, Lt, Ge, Le]),
    ];
    for (left, right, defined) in defined {
        for op in BinaryOp::ALL.into_iter().filter(|op| !op.is_set_operator()) {
            let mut notes = Notes::default();
            let result = binary(op, operand(left), operand(right), &mut notes);
            let expected = [Note::IncompatibleTypes(left, op, right)];
            if defined.contains(&op) {
                assert!(notes.is_empty(), "{left:?} {op:?} {right:?}");
                assert!(result.is_some() || op.is_comparison(), "{left:?} {op:?} {right:?}");
            } else {
                assert_eq!(notes.iter().copied().collect::<Vec<_>>(), expected);
                assert_eq!(result, None);
            }
        }
    }
}

fn histograms() -> impl Strategy<Value = FloatHistogram> {
    let side = || prop::collection::vec(0..5u8, 0..6);
    let exponential =
        (-1..3i32, side(), side(), 0..4u8).prop_map(|(schema, positive, negative, zero)| {
            let counts = |counts: Vec<u8>| counts.into_iter().map(f64::from).collect::<Vec<_>>();
            let spans =
                |counts: &[f64]| vec![BucketSpan { offset: -1, length: counts.len() as u32 }];
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
        });
    let bounded = (prop::collection::btree_set(-20..20i32, 1..6), prop::collection::vec(0..5u8, 7))
        .prop_map(|(bounds, counts)| {
            let bounds: Vec<f64> = bounds.into_iter().map(f64::from).collect();
            let counts: Vec<f64> =
                counts.into_iter().take(bounds.len() + 1).map(f64::from).collect();
            custom(&bounds, &counts)
        });
    prop_oneof![exponential, bounded]
}

/// Populated buckets from below, with the bounds that quantiles assume; the last may be infinite.
fn assumed(h: &FloatHistogram) -> Vec<HistogramBucket> {
    let mut buckets: Vec<HistogramBucket> =
        h.all_buckets().into_iter().filter(|bucket| bucket.count > 0.0).collect();
    for bucket in &mut buckets {
        if bucket.lower == -INF && bucket.upper > 0.0
            || bucket.lower == -0.001
                && h.negative_buckets.is_empty()
                && !h.positive_buckets.is_empty()
        {
            bucket.lower = 0.0;
        }
        if bucket.upper == 0.001 && h.positive_buckets.is_empty() && !h.negative_buckets.is_empty()
        {
            bucket.upper = 0.0;
        }
    }
    buckets
}

proptest! {
    #[test]
    fn quantiles_lie_in_the_bucket_that_holds_their_rank(h in histograms(), q in 0.0..=1.0f64) {
        prop_assume!(h.count > 0.0);
        let value = silent(|notes| quantile(q, &h, notes));
        let rank = q * h.count;
        let mut below = 0.0;
        let holds = assumed(&h).into_iter().any(|bucket| {
            let inside = rank >= below - 1e-9 && rank <= below + bucket.count + 1e-9;
            below += bucket.count;
            let (lower, upper) = match (bucket.lower, bucket.upper) {
                (l, u) if l == -INF => (u, u),
                (l, u) if u == INF => (l, l),
                bounds => bounds,
            };
            let slack = 1e-9 * value.abs();
            inside && value >= lower - slack && value <= upper + slack
        });
        prop_assert!(holds, "{q} -> {value}");
    }

    #[test]
    fn fractions_invert_quantiles(h in histograms(), q in 0.01..0.99f64) {
        prop_assume!(h.count > 0.0);
        let value = silent(|notes| quantile(q, &h, notes));
        // fractions, unlike quantiles, assume that custom buckets around zero begin at zero, as
        // Prometheus does
        let invertible = |b: &HistogramBucket| {
            let bounded = b.lower.is_finite() && b.upper.is_finite();
            bounded && !(h.uses_custom_buckets() && b.lower < 0.0 && b.upper >= 0.0)
        };
        let bounded = assumed(&h).iter().any(|b| b.lower < value && value < b.upper && invertible(b));
        prop_assume!(bounded);
        let part = silent(|notes| fraction(-INF, value, &h, notes));
        prop_assert!((part - q).abs() < 1e-9, "{q} -> {value} -> {part}");
    }

    #[test]
    fn fractions_add_up(h in histograms(), a in -30.0..30.0f64, b in -30.0..30.0f64) {
        prop_assume!(h.count > 0.0);
        let (a, b) = (a.min(b), a.max(b));
        let part = |lower, upper| silent(|notes| fraction(lower, upper, &h, notes));
        prop_assert!(close(part(-INF, a) + part(a, b) + part(b, INF), 1.0));
    }
}
