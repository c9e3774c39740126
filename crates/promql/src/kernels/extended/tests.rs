use model::FloatHistogram;
use model::histogram::{BucketSpan, ResetHint};
use proptest::prelude::*;

use super::*;
use crate::kernels::interrupt::Interrupt;
use crate::kernels::steps::StepSet;
use crate::kernels::window::{HistogramSamples, bounds};

const LOOKBACK: i64 = 40;

/// Values by step of one function over one series.
fn run(
    function: ExtendedFunction,
    samples: (&[i64], &[f64]),
    steps: &Steps,
    range: i64,
) -> Vec<Option<f64>> {
    let (wide, length) = reach(function.extension(), steps, range, LOOKBACK);
    let (mut float_bounds, mut histogram_bounds) = (Vec::new(), Vec::new());
    bounds(samples.0, &wide, length, &mut float_bounds);
    bounds(&[], &wide, length, &mut histogram_bounds);
    let interrupt = Interrupt::never();
    let input = MixedInput {
        floats: Samples { t: samples.0, v: samples.1 },
        float_bounds: &float_bounds,
        histograms: HistogramSamples { t: &[], h: &[] },
        histogram_bounds: &histogram_bounds,
        steps,
        range,
        params: &[],
        interrupt: &interrupt,
    };
    let (mut values, mut present) = (vec![0.0; steps.count], StepSet::none(steps.count));
    let mut histograms = vec![None; steps.count];
    let mut out = MixedColumn {
        values: &mut values,
        present: present.view_mut(),
        histograms: &mut histograms,
    };
    evaluate(function, input, &mut Resets::default(), &mut Notes::default(), &mut out);
    (0..steps.count).map(|k| present.contains(k).then_some(values[k])).collect()
}

/// A counter's value at `t` when it grows evenly between samples and begins at zero after a reset.
fn between((t1, v1): (i64, f64), (t2, v2): (i64, f64), t: i64, counter: bool) -> f64 {
    let v1 = if counter && v2 < v1 { 0.0 } else { v1 };
    v1 + (v2 - v1) * (t - t1) as f64 / (t2 - t1) as f64
}

/// The samples a difference is taken over: the border values and what is strictly between.
fn naive_path(
    samples: &[(i64, f64)],
    (start, end): (i64, i64),
    smoothed: bool,
    counter: bool,
) -> Option<Vec<f64>> {
    let before = samples.iter().rposition(|s| s.0 <= start && s.0 > start - LOOKBACK);
    let inside: Vec<usize> =
        (0..samples.len()).filter(|i| samples[*i].0 > start && samples[*i].0 <= end).collect();
    let after =
        samples.iter().position(|s| s.0 > end && s.0 <= end + LOOKBACK).filter(|_| smoothed);
    let used: Vec<usize> = before.into_iter().chain(inside.iter().copied()).chain(after).collect();
    if inside.is_empty() && (before.is_none() || after.is_none()) {
        return None;
    }
    let at = |i: usize| samples[used[i]];
    let count = used.len();
    let left =
        if smoothed && before.is_some() { between(at(0), at(1), start, counter) } else { at(0).1 };
    let exact = inside.last().is_some_and(|i| samples[*i].0 == end);
    let last = if exact && after.is_some() { count - 2 } else { count - 1 };
    let right = match smoothed && at(last).0 > end && last > 0 {
        true => between(at(last - 1), at(last), end, counter),
        false => at(last).1,
    };
    let middle = (0..=last).map(at).filter(|s| s.0 > start && s.0 < end).map(|s| s.1);
    Some([left].into_iter().chain(middle).chain([right]).collect())
}

fn naive(
    kind: Extrapolation,
    smoothed: bool,
    samples: &[(i64, f64)],
    (start, end): (i64, i64),
) -> Option<f64> {
    let counter = kind != Extrapolation::Delta;
    let path = naive_path(samples, (start, end), smoothed, counter)?;
    let mut difference = path[path.len() - 1] - path[0];
    if counter {
        difference += path.windows(2).filter(|w| w[1] < w[0]).map(|w| w[0]).sum::<f64>();
    }
    Some(if kind == Extrapolation::Rate {
        difference / ((end - start) as f64 / 1000.0)
    } else {
        difference
    })
}

proptest! {
    #[test]
    fn differences_equal_the_definition(
        gaps in prop::collection::vec((1i64..25, 0u8..20), 1..60),
        start in -20i64..200, step in 1i64..40, range in 1i64..120, offset in -30i64..30,
    ) {
        let mut t = 0;
        let samples: Vec<(i64, f64)> = gaps.iter().map(|(gap, v)| { t += gap; (t, f64::from(*v)) }).collect();
        let times: Vec<i64> = samples.iter().map(|s| s.0).collect();
        let values: Vec<f64> = samples.iter().map(|s| s.1).collect();
        let steps = Steps { start, step, count: 12, offset, fixed: None };
        for kind in [Extrapolation::Rate, Extrapolation::Increase, Extrapolation::Delta] {
            for smoothed in [false, true] {
                let function = if smoothed { ExtendedFunction::Smoothed(kind) } else { ExtendedFunction::Anchored(kind) };
                for (k, got) in run(function, (&times, &values), &steps, range).into_iter().enumerate() {
                    let end = steps.end(k);
                    let expected = naive(kind, smoothed, &samples, (end - range, end));
                    let same = match (got, expected) {
                        (Some(a), Some(b)) => (a - b).abs() <= 1e-9 * b.abs().max(1.0),
                        (a, b) => a.is_none() && b.is_none(),
                    };
                    prop_assert!(same, "{function:?} at {end}: {got:?}, not {expected:?}");
                }
            }
        }
        let counted = run(ExtendedFunction::Resets, (&times, &values), &steps, range);
        for (k, got) in counted.into_iter().enumerate() {
            let end = steps.end(k);
            let anchor = samples.iter().rposition(|s| s.0 <= end - range && s.0 > end - range - LOOKBACK);
            let inside = (0..samples.len()).filter(|i| times[*i] > end - range && times[*i] <= end);
            let used: Vec<f64> = anchor.into_iter().chain(inside.clone()).map(|i| values[i]).collect();
            let expected = (inside.count() > 0).then(|| used.windows(2).filter(|w| w[1] < w[0]).count() as f64);
            prop_assert_eq!(got, expected, "resets at {}", end);
        }
    }
}

#[test]
fn a_frame_has_values_at_both_borders() {
    let samples = Samples { t: &[0, 10, 20, 30], v: &[1.0, 2.0, 4.0, 8.0] };
    assert_eq!(
        framed(samples, Range { start: 5, end: 25 }, false),
        (vec![5, 10, 20, 25], vec![1.0, 2.0, 4.0, 8.0])
    );
    assert_eq!(
        framed(samples, Range { start: 5, end: 25 }, true),
        (vec![5, 10, 20, 25], vec![1.5, 2.0, 4.0, 6.0])
    );
    assert_eq!(framed(samples, Range { start: 10, end: 20 }, true), (vec![10, 20], vec![2.0, 4.0]));
    assert_eq!(framed(samples, Range { start: 30, end: 40 }, false), (vec![], vec![]));
    assert_eq!(
        framed(Samples { t: &[], v: &[] }, Range { start: 0, end: 10 }, true),
        (vec![], vec![])
    );
}

fn histogram(count: f64, hint: ResetHint) -> Arc<FloatHistogram> {
    Arc::new(FloatHistogram {
        hint,
        count,
        sum: count,
        positive_spans: vec![BucketSpan { offset: 0, length: 1 }],
        positive_buckets: vec![count],
        ..FloatHistogram::default()
    })
}

/// The count of a function's histogram at one time, with what was noticed.
fn of_histograms(
    function: ExtendedFunction,
    samples: &[(i64, f64, ResetHint)],
    (end, range): (i64, i64),
) -> (Option<f64>, Notes) {
    let t: Vec<i64> = samples.iter().map(|s| s.0).collect();
    let h: Vec<Arc<FloatHistogram>> = samples.iter().map(|s| histogram(s.1, s.2)).collect();
    let steps = Steps { start: end, step: 1, count: 1, offset: 0, fixed: None };
    let (wide, length) = reach(function.extension(), &steps, range, LOOKBACK);
    let (mut float_bounds, mut histogram_bounds) = (Vec::new(), Vec::new());
    bounds(&[], &wide, length, &mut float_bounds);
    bounds(&t, &wide, length, &mut histogram_bounds);
    let interrupt = Interrupt::never();
    let input = MixedInput {
        floats: Samples { t: &[], v: &[] },
        float_bounds: &float_bounds,
        histograms: HistogramSamples { t: &t, h: &h },
        histogram_bounds: &histogram_bounds,
        steps: &steps,
        range,
        params: &[],
        interrupt: &interrupt,
    };
    let (mut values, mut present, mut histograms) = ([0.0], StepSet::none(1), [None]);
    let mut notes = Notes::default();
    let mut out = MixedColumn {
        values: &mut values,
        present: present.view_mut(),
        histograms: &mut histograms,
    };
    evaluate(function, input, &mut Resets::default(), &mut notes, &mut out);
    let count = match &histograms[0] {
        Some(h) => Some(h.count),
        None => present.contains(0).then_some(values[0]),
    };
    (count, notes)
}

#[test]
fn histograms_are_interpolated_and_corrected() {
    use ResetHint::{Reset, Unknown};
    let increase = ExtendedFunction::Smoothed(Extrapolation::Increase);
    let grown = [(0, 1.0, Unknown), (10, 2.0, Unknown), (20, 4.0, Unknown)];
    assert_eq!(of_histograms(increase, &grown, (15, 10)).0, Some(1.5));
    let twice = [(0, 10.0, Unknown), (10, 5.0, Reset), (20, 2.0, Reset), (30, 4.0, Unknown)];
    // 0.5 at 1, 5, reset to 1 at 15: 4.5 + 1.
    assert_eq!(of_histograms(increase, &twice, (15, 14)).0, Some(5.5));
    let anchored = ExtendedFunction::Anchored(Extrapolation::Increase);
    let end = [(0, 5.0, Unknown), (30, 10.0, Unknown), (39, 3.0, Reset)];
    assert_eq!(of_histograms(anchored, &end, (39, 39)).0, Some(8.0));
    assert_eq!(of_histograms(ExtendedFunction::Resets, &end, (39, 39)).0, Some(1.0));
    assert_eq!(of_histograms(ExtendedFunction::Changes, &end, (39, 39)).0, Some(2.0));
    let (delta, notes) =
        of_histograms(ExtendedFunction::Anchored(Extrapolation::Delta), &grown, (20, 20));
    assert_eq!((delta, notes.contains(Note::NotAGaugeHistogram)), (Some(3.0), true));
}
