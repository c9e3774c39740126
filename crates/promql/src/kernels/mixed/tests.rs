use model::histogram::{BucketSpan, CUSTOM_BUCKETS_SCHEMA, Reconciled, ResetHint};
use proptest::prelude::*;

use super::*;
use crate::functions::FUNCTIONS;
use crate::kernels::notes::HistogramOperation;
use crate::kernels::steps::StepSet;
use crate::kernels::window::bounds;

/// All range functions of the language.
fn functions() -> impl Iterator<Item = RangeFunction> {
    FUNCTIONS.iter().filter_map(|f| RangeFunction::from_name(f.name))
}

#[derive(Clone, Debug)]
enum Value {
    Float(f64),
    Histogram(Arc<FloatHistogram>),
}

use Value::{Float, Histogram};

/// A series as it is written: times and values of either kind.
type Series = Vec<(i64, Value)>;

const PARAMS: [Param<'static>; 2] = [Param::One(0.4), Param::One(0.3)];

/// Evaluates over all steps and gives the values with the notes.
fn run(
    function: RangeFunction,
    series: &Series,
    steps: Steps,
    range: i64,
) -> (Vec<Option<Value>>, Notes) {
    with_input(series, steps, range, |input| {
        let mut notes = Notes::default();
        let got = columns(steps.count, |out| {
            evaluate(function, input, &mut Buffers::default(), &mut notes, out)
        });
        (got, notes)
    })
}

fn columns(steps: usize, fill: impl FnOnce(&mut MixedColumn<'_>)) -> Vec<Option<Value>> {
    let (mut values, mut present) = (vec![0.0; steps], StepSet::none(steps));
    let mut histograms = vec![None; steps];
    fill(&mut MixedColumn {
        values: &mut values,
        present: present.view_mut(),
        histograms: &mut histograms,
    });
    let value = |k: usize| histograms[k].clone().map_or(Float(values[k]), Histogram);
    (0..steps).map(|k| present.contains(k).then(|| value(k))).collect()
}

fn with_input<T>(
    series: &Series,
    steps: Steps,
    range: i64,
    f: impl FnOnce(MixedInput<'_>) -> T,
) -> T {
    let (mut ft, mut fv, mut ht, mut hv) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (t, value) in series {
        match value {
            Float(v) => (ft.push(*t), fv.push(*v)),
            Histogram(h) => (ht.push(*t), hv.push(Arc::clone(h))),
        };
    }
    let (mut float_bounds, mut histogram_bounds) = (Vec::new(), Vec::new());
    bounds(&ft, &steps, range, &mut float_bounds);
    bounds(&ht, &steps, range, &mut histogram_bounds);
    f(MixedInput {
        floats: Samples { t: &ft, v: &fv },
        float_bounds: &float_bounds,
        histograms: HistogramSamples { t: &ht, h: &hv },
        histogram_bounds: &histogram_bounds,
        steps: &steps,
        range,
        params: &PARAMS,
        interrupt: &Interrupt::never(),
    })
}

fn histograms_of(window: &[(i64, Value)]) -> Vec<&FloatHistogram> {
    window
        .iter()
        .filter_map(|(_, v)| if let Histogram(h) = v { Some(&**h) } else { None })
        .collect()
}

/// One window, each function from its definition.
fn naive(
    function: RangeFunction,
    window: &[(i64, Value)],
    steps: Steps,
    range: i64,
    notes: &mut Notes,
) -> Option<Value> {
    use RangeFunction::*;
    let floats: Vec<(i64, f64)> = window
        .iter()
        .filter_map(|(t, v)| if let Float(v) = v { Some((*t, *v)) } else { None })
        .collect();
    let histograms = histograms_of(window);
    let (first, last) = (window.first()?, window.last()?);
    let mixed = !floats.is_empty() && !histograms.is_empty();
    let pairs = |event: fn(&Value, &Value) -> bool| {
        Some(Float(window.windows(2).filter(|pair| event(&pair[0].1, &pair[1].1)).count() as f64))
    };
    match function {
        Count => Some(Float(window.len() as f64)),
        Present => Some(Float(1.0)),
        First => Some(first.1.clone()),
        Last => Some(last.1.clone()),
        TsOfFirst => Some(Float(first.0 as f64 / 1000.0)),
        TsOfLast => Some(Float(last.0 as f64 / 1000.0)),
        Changes => pairs(|before, now| match (before, now) {
            (Float(a), Float(b)) => a != b,
            (Histogram(a), Histogram(b)) => !a.same_data(b),
            _ => true,
        }),
        Resets => pairs(|before, now| match (before, now) {
            (Float(a), Float(b)) => b < a,
            (Histogram(a), Histogram(b)) => b.detect_reset(a),
            _ => true,
        }),
        Rate | Increase | Delta | Sum | Avg if mixed => {
            notes.push(Note::MixedFloatsAndHistograms);
            None
        }
        Irate | Idelta if window.len() < 2 => None,
        Irate | Idelta => naive_instant(function, &window[window.len() - 2..], steps, range, notes),
        Rate | Increase | Delta if !histograms.is_empty() => {
            naive_rate(function, window, steps, range, notes).map(|h| Histogram(Arc::new(h)))
        }
        Sum | Avg if !histograms.is_empty() => {
            naive_sum(&histograms, function == Avg, notes).map(|h| Histogram(Arc::new(h)))
        }
        _ => {
            if mixed {
                notes.push(Note::IgnoredInMixedRange);
            }
            float_result(function, &floats, steps, range)
        }
    }
}

/// The result of the kernel of floats, which has its own tests, for one window.
fn float_result(
    function: RangeFunction,
    floats: &[(i64, f64)],
    steps: Steps,
    range: i64,
) -> Option<Value> {
    let (t, v): (Vec<i64>, Vec<f64>) = floats.iter().copied().unzip();
    let bounds = [Bounds { lo: 0, hi: t.len() as u32 }];
    let samples = Samples { t: &t, v: &v };
    let input = FloatInput {
        samples,
        bounds: &bounds,
        steps: &steps,
        range,
        params: &PARAMS,
        interrupt: &Interrupt::never(),
    };
    columns(1, |out| range::evaluate(function, input, &mut Buffers::default(), &mut out.floats()))
        .remove(0)
}

fn naive_instant(
    function: RangeFunction,
    window: &[(i64, Value)],
    steps: Steps,
    range: i64,
    notes: &mut Notes,
) -> Option<Value> {
    let rate = function == RangeFunction::Irate;
    match (&window[0].1, &window[1].1) {
        (Float(a), Float(b)) => {
            float_result(function, &[(window[0].0, *a), (window[1].0, *b)], steps, range)
        }
        (Histogram(a), Histogram(b)) => {
            let gauges = [a, b].into_iter().filter(|h| h.hint == ResetHint::Gauge).count();
            if rate && gauges > 0 {
                notes.push(Note::NotACounterHistogram);
            }
            if !rate && gauges < 2 {
                notes.push(Note::NotAGaugeHistogram);
            }
            let mut result = (**b).clone();
            if !rate || !b.detect_reset(a) {
                match result.sub(a) {
                    Err(_) => {
                        notes.push(Note::MixedExponentialAndCustom);
                        return None;
                    }
                    Ok(done) if done.custom_bounds_intersected => {
                        notes.push(Note::MismatchedCustomBuckets(HistogramOperation::Subtraction));
                    }
                    Ok(_) => {}
                }
            }
            if rate {
                result.div((window[1].0 - window[0].0) as f64 / 1000.0);
            }
            result.hint = ResetHint::Gauge;
            Some(Histogram(Arc::new(result)))
        }
        _ => {
            notes.push(Note::MixedFloatsAndHistograms);
            None
        }
    }
}

fn naive_sum(
    histograms: &[&FloatHistogram],
    avg: bool,
    notes: &mut Notes,
) -> Option<FloatHistogram> {
    let mut sum = histograms[0].clone();
    let mut found = Notes::default();
    for histogram in &histograms[1..] {
        let Ok(done) = sum.add(histogram) else {
            notes.push(Note::MixedExponentialAndCustom);
            return None;
        };
        if done.custom_bounds_intersected {
            found.push(Note::MismatchedCustomBuckets(HistogramOperation::Aggregation));
        }
    }
    let seen = |hint| histograms.iter().any(|h| h.hint == hint);
    if seen(ResetHint::Reset) && seen(ResetHint::NotReset) {
        found.push(Note::CounterResetCollision(HistogramOperation::Aggregation));
    }
    notes.append(found);
    if avg {
        sum.div(histograms.len() as f64);
    }
    Some(sum)
}

/// The definition sample by sample, with the first one replaced by nothing where a reset follows
/// it.
fn naive_rate(
    function: RangeFunction,
    window: &[(i64, Value)],
    steps: Steps,
    range: i64,
    notes: &mut Notes,
) -> Option<FloatHistogram> {
    let histograms = histograms_of(window);
    let counter = function != RangeFunction::Delta;
    if histograms.len() < 2 {
        return None;
    }
    let (first, second, last) = (histograms[0], histograms[1], histograms[histograms.len() - 1]);
    let gauge = |h: &&&FloatHistogram| h.hint == ResetHint::Gauge;
    let mut from = first.clone();
    if counter && second.detect_reset(first) {
        let (schema, custom_values) = (second.schema, second.custom_values.clone());
        from = FloatHistogram { schema, custom_values, ..FloatHistogram::default() };
    }
    let custom = from.uses_custom_buckets();
    if last.uses_custom_buckets() != custom {
        if counter && (gauge(&&first) || gauge(&&last)) {
            notes.push(Note::NotACounterHistogram);
        }
        notes.push(Note::MixedExponentialAndCustom);
        return None;
    }
    if counter && histograms[1..].iter().any(|h| h.uses_custom_buckets() != custom) {
        notes.push(Note::MixedExponentialAndCustom);
        return None;
    }
    let between = if counter { &histograms[1..] } else { &histograms[..0] };
    let schema = between.iter().map(|h| h.schema).chain([from.schema, last.schema]).min()?;
    let mut result = last.copy_to_schema(schema);
    let mut done = |done: Reconciled, operation| {
        if done.custom_bounds_intersected {
            notes.push(Note::MismatchedCustomBuckets(operation));
        }
    };
    done(result.sub(&from).unwrap(), HistogramOperation::Subtraction);
    if counter {
        let mut before = &from;
        for now in &histograms[1..] {
            if now.detect_reset(before) {
                done(result.add(before).unwrap(), HistogramOperation::Addition);
            }
            before = now;
        }
    }
    if counter && histograms.iter().filter(gauge).count() > 0 {
        notes.push(Note::NotACounterHistogram);
    }
    let gauges = gauge(&&first) && gauge(&&last);
    if !counter && !gauges {
        notes.push(Note::NotAGaugeHistogram);
    }
    result.hint = ResetHint::Gauge;
    let (t0, t1, end) = (window[0].0, window[window.len() - 1].0, steps.end(0));
    let sampled = (t1 - t0) as f64 / 1000.0;
    let mean = sampled / (window.len() - 1) as f64;
    let near =
        |gap: i64| if gap as f64 / 1000.0 >= mean * 1.1 { mean / 2.0 } else { gap as f64 / 1000.0 };
    let mut start = near(t0 - (end - range));
    if counter && result.count > 0.0 && first.count >= 0.0 {
        start = start.min(sampled * (first.count / result.count));
    }
    result.mul((sampled + start + near(end - t1)) / sampled);
    if function == RangeFunction::Rate {
        result.div(range as f64 / 1000.0);
    }
    Some(result)
}

/// Equal up to rounding and empty buckets.
fn same(a: &Value, b: &Value) -> bool {
    let close = |a: f64, b: f64| {
        a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= 1e-10 * a.abs().max(b.abs())
    };
    match (a, b) {
        (Float(a), Float(b)) => close(*a, *b),
        (Histogram(a), Histogram(b)) => {
            let [a, b] = [a, b].map(|h| {
                let mut compact = (**h).clone();
                compact.compact(0);
                compact
            });
            let all = |a: &[f64], b: &[f64]| {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| close(*a, *b))
            };
            let totals = |h: &FloatHistogram| [h.zero_count, h.count, h.sum];
            (a.schema, a.hint, a.zero_threshold) == (b.schema, b.hint, b.zero_threshold)
                && (&a.positive_spans, &a.negative_spans) == (&b.positive_spans, &b.negative_spans)
                && a.custom_values == b.custom_values
                && all(&totals(&a), &totals(&b))
                && all(&a.positive_buckets, &b.positive_buckets)
                && all(&a.negative_buckets, &b.negative_buckets)
        }
        _ => false,
    }
}

fn check(series: &Series, steps: Steps, range: i64) {
    for function in functions() {
        let (got, notes) = run(function, series, steps, range);
        let mut expected_notes = Notes::default();
        for (k, got) in got.iter().enumerate() {
            let end = steps.end(k);
            let window: Series =
                series.iter().filter(|(t, _)| *t > end - range && *t <= end).cloned().collect();
            let at = Steps { start: steps.eval(k), count: 1, ..steps };
            let expected = naive(function, &window, at, range, &mut expected_notes);
            let equal = match (&expected, got) {
                (Some(a), Some(b)) => same(a, b),
                (None, None) => true,
                _ => false,
            };
            assert!(
                equal,
                "{function:?} at step {k}: expected {expected:?}, got {got:?} of {window:?}"
            );
        }
        assert_eq!(notes, expected_notes, "{function:?} of {series:?}");
    }
}

/// Histograms of small integer counts in one of four layouts.
fn histogram(layout: usize, counts: &[f64; 6], hint: ResetHint) -> FloatHistogram {
    let total: f64 = counts.iter().sum();
    let base = FloatHistogram { hint, count: total, sum: total * 3.0, ..FloatHistogram::default() };
    let span = |offset, length| BucketSpan { offset, length };
    let custom = |bounds: &[f64]| FloatHistogram {
        schema: CUSTOM_BUCKETS_SCHEMA,
        positive_spans: vec![span(0, bounds.len() as u32 + 1)],
        positive_buckets: counts[..=bounds.len()].to_vec(),
        custom_values: bounds.to_vec(),
        ..base.clone()
    };
    match layout {
        0 => FloatHistogram {
            schema: 2,
            zero_count: counts[5],
            positive_spans: vec![span(-1, 3), span(2, 2)],
            positive_buckets: counts[..5].to_vec(),
            ..base
        },
        1 => FloatHistogram {
            schema: 1,
            zero_threshold: 0.001,
            positive_spans: vec![span(0, 2)],
            negative_spans: vec![span(1, 4)],
            positive_buckets: counts[..2].to_vec(),
            negative_buckets: counts[2..].to_vec(),
            ..base
        },
        2 => custom(&[1.0, 2.0, 5.0, 10.0, 20.0]),
        _ => custom(&[1.0, 5.0, 7.0, 20.0]),
    }
}

#[derive(Clone, Debug)]
enum Change {
    Grow([u8; 6]),
    Anew([u8; 6]),
    Layout(usize),
    Float(u8),
}

fn change(floats: u32, layouts: std::ops::Range<usize>) -> impl Strategy<Value = Change> {
    prop_oneof![
        20 => prop::array::uniform6(0..3u8).prop_map(Change::Grow),
        2 => prop::array::uniform6(0..3u8).prop_map(Change::Anew),
        2 => layouts.prop_map(Change::Layout),
        floats => (0..20u8).prop_map(Change::Float),
    ]
}

fn hint(odd: u32) -> impl Strategy<Value = ResetHint> {
    use ResetHint::*;
    prop_oneof![30 => Just(Unknown), odd => prop::sample::select(vec![Reset, NotReset, Gauge])]
}

fn series(
    floats: u32,
    layouts: std::ops::Range<usize>,
    odd_hints: u32,
) -> impl Strategy<Value = Series> {
    let first = layouts.start;
    let sample = (1i64..30_000, change(floats, layouts), hint(odd_hints));
    prop::collection::vec(sample, 0..60).prop_map(move |samples| {
        let (mut t, mut layout, mut counts) = (0, first, [0.0; 6]);
        let mut series = Series::new();
        for (gap, change, hint) in samples {
            t += gap;
            match change {
                Change::Grow(by) => {
                    counts.iter_mut().zip(by).for_each(|(count, by)| *count += f64::from(by))
                }
                Change::Anew(to) => counts = to.map(f64::from),
                Change::Layout(to) => layout = to,
                Change::Float(value) => {
                    series.push((t, Float(f64::from(value))));
                    continue;
                }
            }
            series.push((t, Histogram(Arc::new(histogram(layout, &counts, hint)))));
        }
        series
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn counters_of_one_layout(
        series in series(0, 0..1, 0),
        range in 1_000i64..400_000, step in 1_000i64..100_000, offset in -20_000i64..20_000,
    ) {
        check(&series, Steps { start: 0, step, count: 40, offset, fixed: None }, range);
    }

    #[test]
    fn counters_of_many_layouts_beside_floats(
        series in series(2, 0..4, 3), range in 1_000i64..200_000, step in 1_000i64..60_000,
    ) {
        check(&series, Steps { start: 0, step, count: 40, offset: 0, fixed: None }, range);
    }

    #[test]
    fn exponential_or_custom_with_hints(
        exponential in series(1, 0..2, 10), custom in series(0, 2..4, 5),
        range in 1_000i64..200_000, step in 1_000i64..60_000,
    ) {
        for series in [exponential, custom] {
            check(&series, Steps { start: 0, step, count: 40, offset: 0, fixed: None }, range);
        }
    }
}

/// Samples every 10 s from 10 s on.
fn every_10s(values: Vec<Value>) -> Series {
    values.into_iter().enumerate().map(|(i, value)| (10_000 * (i as i64 + 1), value)).collect()
}

fn of(layout: usize, count: f64, hint: ResetHint) -> Value {
    Histogram(Arc::new(histogram(layout, &[count; 6], hint)))
}

/// The notes of one window that holds all values.
fn notes_of(function: RangeFunction, values: Vec<Value>) -> Vec<Note> {
    let end = 10_000 * values.len() as i64;
    let steps = Steps { start: end, step: 1, count: 1, offset: 0, fixed: None };
    run(function, &every_10s(values), steps, end).1.iter().copied().collect()
}

#[test]
fn each_note_has_its_cause() {
    use RangeFunction::*;
    use ResetHint::{Gauge, NotReset, Reset, Unknown};
    let counter = |layout| of(layout, 4.0, Unknown);
    for function in [Rate, Increase, Delta, Irate, Idelta, Sum, Avg] {
        let mixed = vec![Float(1.0), counter(0)];
        assert_eq!(notes_of(function, mixed), [Note::MixedFloatsAndHistograms], "{function:?}");
    }
    for function in [
        Deriv,
        PredictLinear,
        DoubleExponentialSmoothing,
        Min,
        Max,
        Stddev,
        Stdvar,
        Mad,
        Quantile,
        TsOfMin,
        TsOfMax,
    ] {
        assert_eq!(
            notes_of(function, vec![Float(1.0), counter(0)]),
            [Note::IgnoredInMixedRange],
            "{function:?}"
        );
        assert_eq!(notes_of(function, vec![counter(0), counter(0)]), [], "{function:?}");
    }
    for function in [Changes, Resets, Count, First, Last, Present, TsOfFirst, TsOfLast] {
        assert_eq!(notes_of(function, vec![Float(1.0), counter(0)]), [], "{function:?}");
    }
    for function in [Rate, Increase, Irate] {
        assert_eq!(notes_of(function, vec![counter(0), counter(0)]), []);
        assert_eq!(
            notes_of(function, vec![of(0, 1.0, Gauge), counter(0)]),
            [Note::NotACounterHistogram]
        );
    }
    assert_eq!(
        notes_of(Rate, vec![counter(0), of(0, 5.0, Gauge), of(0, 6.0, Unknown)]),
        [Note::NotACounterHistogram]
    );
    for function in [Delta, Idelta] {
        assert_eq!(
            notes_of(function, vec![of(0, 1.0, Gauge), counter(0)]),
            [Note::NotAGaugeHistogram]
        );
        assert_eq!(notes_of(function, vec![of(0, 1.0, Gauge), of(0, 2.0, Gauge)]), []);
        assert_eq!(
            notes_of(function, vec![counter(0), counter(2)]),
            match function {
                Delta => vec![Note::MixedExponentialAndCustom],
                _ => vec![Note::NotAGaugeHistogram, Note::MixedExponentialAndCustom],
            }
        );
    }
    for function in [Sum, Avg] {
        assert_eq!(
            notes_of(function, vec![counter(0), counter(2)]),
            [Note::MixedExponentialAndCustom]
        );
        let hints = vec![of(0, 1.0, Reset), of(0, 1.0, NotReset)];
        assert_eq!(
            notes_of(function, hints),
            [Note::CounterResetCollision(HistogramOperation::Aggregation)]
        );
        let bounds = vec![counter(2), counter(3)];
        assert_eq!(
            notes_of(function, bounds),
            [Note::MismatchedCustomBuckets(HistogramOperation::Aggregation)]
        );
    }
    // the middle one has other bounds than the result of the other two
    let bounds = vec![counter(2), of(3, 4.0, NotReset), of(2, 1.0, Reset)];
    assert_eq!(
        notes_of(Increase, bounds),
        [Note::MismatchedCustomBuckets(HistogramOperation::Addition)]
    );
    let bounds = vec![counter(2), of(3, 4.0, NotReset)];
    assert_eq!(
        notes_of(Increase, bounds),
        [Note::MismatchedCustomBuckets(HistogramOperation::Subtraction)]
    );
}

#[test]
fn a_reset_after_the_first_sample_hides_its_buckets() {
    let series = every_10s(vec![
        of(2, 9.0, ResetHint::Unknown),
        of(0, 1.0, ResetHint::Reset),
        of(0, 3.0, ResetHint::Unknown),
    ]);
    let steps = Steps { start: 30_000, step: 1, count: 1, offset: 0, fixed: None };
    let (got, notes) = run(RangeFunction::Increase, &series, steps, 20_001);
    assert_eq!(notes, Notes::default());
    let Some(Histogram(increase)) = &got[0] else { panic!("no histogram in {got:?}") };
    // from nothing to three in each of six buckets
    assert!((increase.count - 18.0).abs() < 1e-2, "{increase:?}");
}

#[test]
fn a_difference_is_taken_at_the_coarser_schema() {
    let first = FloatHistogram {
        schema: -1,
        zero_threshold: 0.5,
        hint: ResetHint::Gauge,
        ..FloatHistogram::default()
    };
    let last = FloatHistogram {
        schema: 1,
        hint: ResetHint::Gauge,
        count: 5.0,
        positive_spans: vec![BucketSpan { offset: 0, length: 2 }],
        positive_buckets: vec![3.0, 2.0],
        ..FloatHistogram::default()
    };
    let series = every_10s(vec![Histogram(Arc::new(first)), Histogram(Arc::new(last))]);
    let steps = Steps { start: 20_000, step: 1, count: 1, offset: 0, fixed: None };
    let (got, notes) = run(RangeFunction::Delta, &series, steps, 10_001);
    assert!(notes.is_empty());
    let Some(Histogram(delta)) = &got[0] else { panic!("no histogram in {got:?}") };
    // the zero bucket cuts through the bucket up to 1 of the coarser schema
    assert_eq!((delta.schema, delta.zero_threshold), (-1, 1.0));
    assert!(
        (delta.zero_count - 3.0).abs() < 1e-3 && (delta.positive_buckets[0] - 2.0).abs() < 1e-3,
        "{delta:?}"
    );
}

#[test]
fn stale_markers_end_a_series_of_either_kind() {
    let stale =
        Histogram(Arc::new(FloatHistogram { sum: model::STALE_NAN, ..FloatHistogram::default() }));
    let series = every_10s(vec![
        of(0, 1.0, ResetHint::Unknown),
        Float(2.0),
        Float(model::STALE_NAN),
        of(0, 3.0, ResetHint::Unknown),
        stale,
    ]);
    let steps = Steps { start: 0, step: 10_000, count: 8, offset: 0, fixed: None };
    let (values, times) = with_input(&series, steps, 25_000, |input| {
        (
            columns(8, |out| lookback::<false>(input, out)),
            columns(8, |out| lookback::<true>(input, out)),
        )
    });
    let present: Vec<bool> = values.iter().map(Option::is_some).collect();
    assert_eq!(present, [false, true, true, false, true, false, false, false]);
    assert!(
        same(values[1].as_ref().unwrap(), &series[0].1)
            && same(values[2].as_ref().unwrap(), &Float(2.0))
    );
    assert!(same(times[4].as_ref().unwrap(), &Float(40.0)));
}
