use super::*;
use crate::kernels::window::bounds;

fn run(function: ExtendedRate, t: &[i64], v: &[f64], end: i64, range: i64) -> Option<f64> {
    let steps = Steps { start: end, step: 1, count: 1, offset: 0, fixed: None };
    let mut windows = Vec::new();
    bounds(t, &steps, range + REACH_MS, &mut windows);
    let (mut values, mut present) = ([0.0], [0]);
    let input = Reaching { samples: Samples { t, v }, bounds: &windows, steps: &steps, range };
    let mut out = Column { values: &mut values, present: &mut present };
    evaluate(function, input, &mut Resets::default(), &mut out);
    (present[0] == 1).then_some(values[0])
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
    assert_eq!(run(ExtendedRate::Rate, &t, &v, 50_000, 1500), Some(2.0), "the half second is not counted");
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
    assert_eq!(run(ExtendedRate::Increase, &[900_000], &[5.0], 960_001, 60_000), Some(0.0), "later it stands still");
    assert_eq!(run(ExtendedRate::Rate, &[900_000], &[5.0], 900_000, 60_000), Some(0.0));
    assert_eq!(run(ExtendedRate::Increase, &[0], &[5.0], REACH_MS + 60_000, 60_000), None, "out of reach");
}

#[test]
fn a_beginning_far_from_the_range_is_left_out() {
    let (t, v) = ([0, 100_000, 105_000, 110_000], [1.0, 2.0, 4.0, 6.0]);
    // The samples after it are 5 s apart and begin inside the range, so that nothing is extrapolated either.
    assert_eq!(run(ExtendedRate::Delta, &t, &v, 110_000, 20_000), Some(4.0));
    assert_eq!(run(ExtendedRate::Increase, &t, &v, 110_000, 20_000), Some(5.0));
    assert_eq!(run(ExtendedRate::Delta, &t[..2], &v[..2], 201_000, 100_500), Some(0.0));
}
