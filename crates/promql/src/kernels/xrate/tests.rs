use proptest::prelude::*;

use super::*;
use crate::kernels::steps::StepSet;
use crate::kernels::window::bounds;

fn run(function: ExtendedRate, t: &[i64], v: &[f64], end: i64, range: i64) -> Option<f64> {
    let steps = Steps { start: end, step: 1, count: 1, offset: 0, fixed: None };
    let mut windows = Vec::new();
    bounds(t, &steps, range + REACH_MS, &mut windows);
    let (mut values, mut present) = ([0.0], StepSet::none(1));
    let (samples, interrupt) = (Samples { t, v }, &Interrupt::never());
    let input = Reaching { samples, bounds: &windows, steps: &steps, range, interrupt };
    let mut out = FloatColumn { values: &mut values, present: present.view_mut() };
    evaluate(function, input, &mut Resets::default(), &mut out);
    present.contains(0).then_some(values[0])
}

/// One sample every five seconds.
fn every_5s(v: &[f64]) -> Vec<i64> {
    (0..v.len() as i64).map(|i| i * 5000).collect()
}

#[test]
fn the_sample_before_the_range_counts() {
    let v: Vec<f64> = (0..=10).map(|i| f64::from(i * 10)).collect();
    let t = every_5s(&v);
    assert_eq!(run(ExtendedRate::Increase, &t, &v, 50_000, 5000), Some(10.0));
    assert_eq!(run(ExtendedRate::Increase, &t, &v, 50_000, 3000), Some(10.0));
    assert_eq!(run(ExtendedRate::Increase, &t, &v, 17_000, 10_000), Some(20.0));
    assert_eq!(run(ExtendedRate::Rate, &t, &v, 50_000, 3000), Some(2.0));
    // The samples do not cover the range: nothing is extrapolated.
    assert_eq!(run(ExtendedRate::Rate, &t, &v, 50_000, 100_000), Some(1.0));
    assert_eq!(
        run(ExtendedRate::Rate, &t, &v, 50_000, 1500),
        Some(2.0),
        "the half second is not counted"
    );
}

#[test]
fn deltas_are_extrapolated_to_the_range_and_counters_corrected() {
    let v = [0.0, 50.0, 300.0, 150.0, 200.0];
    let t: Vec<i64> = (0..5).map(|i| i * 300_000).collect();
    assert_eq!(run(ExtendedRate::Delta, &t, &v, 1_200_000, 1_140_000), Some(190.0));
    assert_eq!(run(ExtendedRate::Delta, &t, &v, 1_200_000, 60_000), Some(10.0));
    assert_eq!(run(ExtendedRate::Increase, &t, &v, 1_200_000, 1_200_000), Some(500.0));
}

#[test]
fn a_counter_that_appears_began_at_zero() {
    assert_eq!(run(ExtendedRate::Increase, &[900_000], &[5.0], 900_000, 60_000), Some(5.0));
    assert_eq!(
        run(ExtendedRate::Increase, &[900_000], &[5.0], 960_001, 60_000),
        Some(0.0),
        "later it stands still"
    );
    assert_eq!(run(ExtendedRate::Rate, &[900_000], &[5.0], 900_000, 60_000), Some(0.0));
    assert_eq!(
        run(ExtendedRate::Increase, &[0], &[5.0], REACH_MS + 60_000, 60_000),
        None,
        "out of reach"
    );
}

#[test]
fn a_beginning_far_from_the_range_is_left_out() {
    let (t, v) = ([0, 100_000, 105_000, 110_000], [1.0, 2.0, 4.0, 6.0]);
    // The samples after it are 5 s apart and begin inside the range, so that nothing is
    // extrapolated either.
    assert_eq!(run(ExtendedRate::Delta, &t, &v, 110_000, 20_000), Some(4.0));
    assert_eq!(run(ExtendedRate::Increase, &t, &v, 110_000, 20_000), Some(5.0));
    assert_eq!(run(ExtendedRate::Delta, &t[..2], &v[..2], 201_000, 100_500), Some(0.0));
}

/// The definition over the samples of one window, the one before the range included.
fn naive(
    function: ExtendedRate,
    samples: &[(i64, f64)],
    appeared: i64,
    (end, range): (i64, i64),
) -> Option<f64> {
    let (start, seconds) = (end - range, (range / 1000) as f64);
    let before = samples.iter().rposition(|s| s.0 <= start && s.0 > start - REACH_MS);
    let inside = samples.iter().filter(|s| s.0 > start && s.0 <= end);
    let mut used: Vec<(i64, f64)> =
        before.map(|i| samples[i]).into_iter().chain(inside.copied()).collect();
    let (first, last) = (*used.first()?, *used.last()?);
    if function == ExtendedRate::Increase
        && used.iter().all(|s| s.1 == first.1)
        && end - range <= appeared
    {
        return Some(first.1);
    }
    let gap = |used: &[(i64, f64)]| (last.0 - used[0].0) as f64 / (used.len() as f64 - 1.0);
    if function != ExtendedRate::Increase && used.len() > 1 && (start - first.0) as f64 > gap(&used)
    {
        if used.len() == 2 {
            return Some(0.0);
        }
        used.remove(0);
    }
    let mut value = last.1 - used[0].1;
    if function != ExtendedRate::Delta {
        value += used.windows(2).filter(|w| w[1].1 < w[0].1).map(|w| w[0].1).sum::<f64>();
    }
    let covered = used.len() > 1 && used[0].0 <= start && ((end - last.0) as f64) < gap(&used);
    if function != ExtendedRate::Increase && covered {
        value *= seconds / ((last.0 - used[0].0) as f64 / 1000.0);
    }
    Some(if function == ExtendedRate::Rate { value / seconds } else { value })
}

proptest! {
    #[test]
    fn values_equal_the_definition(
        gaps in prop::collection::vec((1i64..60, 0u8..9), 1..50),
        end in 0i64..1500, range in 1i64..400,
    ) {
        let mut t = 0;
        let samples: Vec<(i64, f64)> = gaps.iter().map(|(gap, v)| { t += gap * 1000; (t, f64::from(*v)) }).collect();
        let (times, values): (Vec<i64>, Vec<f64>) = samples.iter().copied().unzip();
        for function in [ExtendedRate::Rate, ExtendedRate::Increase, ExtendedRate::Delta] {
            let got = run(function, &times, &values, end * 1000, range * 1000);
            let expected = naive(function, &samples, times[0], (end * 1000, range * 1000));
            let same = match (got, expected) {
                (Some(a), Some(b)) => (a - b).abs() <= 1e-9 * b.abs().max(1.0),
                (a, b) => a.is_none() && b.is_none(),
            };
            prop_assert!(same, "{function:?}: {got:?}, not {expected:?}");
        }
    }
}
