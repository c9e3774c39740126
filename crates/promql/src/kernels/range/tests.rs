use proptest::prelude::*;

use super::*;
use crate::kernels::kahan;
use crate::kernels::steps::StepSet;
use crate::kernels::window::bounds;

const FUNCTIONS: [&str; 26] = [
    "rate",
    "increase",
    "delta",
    "irate",
    "idelta",
    "deriv",
    "predict_linear",
    "double_exponential_smoothing",
    "changes",
    "resets",
    "sum_over_time",
    "avg_over_time",
    "min_over_time",
    "max_over_time",
    "count_over_time",
    "last_over_time",
    "first_over_time",
    "present_over_time",
    "stddev_over_time",
    "stdvar_over_time",
    "mad_over_time",
    "quantile_over_time",
    "ts_of_min_over_time",
    "ts_of_max_over_time",
    "ts_of_last_over_time",
    "ts_of_first_over_time",
];

/// Parameters of the functions that take some: seconds ahead, smoothing and trend, φ.
const AHEAD: f64 = 60.0;
const SMOOTHING: f64 = 0.3;
const TREND: f64 = 0.6;

fn phi(step: usize) -> f64 {
    (step as f64 * 0.17) % 1.2 - 0.1
}

/// The line with the least squares through the samples: slope per second, and value at a time.
fn line(s: Samples<'_>, at: i64) -> (f64, f64) {
    if s.v.iter().all(|v| *v == s.v[0]) {
        return if s.v[0].is_finite() { (0.0, s.v[0]) } else { (f64::NAN, f64::NAN) };
    }
    let n = s.v.len() as f64;
    let x: Vec<f64> = s.t.iter().map(|t| (t - at) as f64 / 1000.0).collect();
    let (mean_x, mean_y) = (x.iter().sum::<f64>() / n, s.v.iter().map(|v| v / n).sum::<f64>());
    let covariance: f64 = x.iter().zip(s.v).map(|(x, y)| (x - mean_x) * (y - mean_y)).sum();
    let slope = covariance / x.iter().map(|x| (x - mean_x).powi(2)).sum::<f64>();
    (slope, mean_y - slope * mean_x)
}

/// The level of Holt's double exponential smoothing after the last value.
fn holt(v: &[f64]) -> f64 {
    let (mut level, mut trend) = (v[0], v[1] - v[0]);
    for v in &v[1..] {
        let before = level;
        level = SMOOTHING * v + (1.0 - SMOOTHING) * (level + trend);
        trend = TREND * (level - before) + (1.0 - TREND) * trend;
    }
    level
}

/// Weighs both neighbours, even by zero: next to an infinity the result is NaN.
fn quantile(q: f64, values: &[f64]) -> f64 {
    if !(0.0..=1.0).contains(&q) {
        return if q < 0.0 { f64::NEG_INFINITY } else { f64::INFINITY };
    }
    let mut v = values.to_vec();
    // NaN is below everything
    v.sort_by(|a, b| {
        b.is_nan().cmp(&a.is_nan()).then(a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal))
    });
    let at = q * (v.len() - 1) as f64;
    let (low, high) = (v[at as usize], v[(at as usize + 1).min(v.len() - 1)]);
    low * (1.0 - at.fract()) + high * at.fract()
}

/// The mean square of the distances to the mean.
fn variance(values: &[f64]) -> f64 {
    let n = values.len() as f64;
    let mean = kahan::mean(values);
    values.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / n
}

/// Every function straight from its definition, over the samples of one window.
fn naive(
    name: &str,
    s: Samples<'_>,
    step: usize,
    (end, eval, range): (i64, i64, i64),
) -> Option<f64> {
    let (first, last) = (*s.v.first()?, *s.v.last()?);
    let n = s.v.len();
    let pairs = || s.v.windows(2);
    let seconds = |at: usize| s.t[at] as f64 / 1000.0;
    let extrapolate = |mut increase: f64, counter: bool| {
        if counter {
            increase += pairs().filter(|p| p[1] < p[0]).map(|p| p[0]).sum::<f64>();
        }
        let sampled = (s.t[n - 1] - s.t[0]) as f64 / 1000.0;
        let mut start = (s.t[0] - (end - range)) as f64 / 1000.0;
        let mut stop = (end - s.t[n - 1]) as f64 / 1000.0;
        let mean = sampled / (n - 1) as f64;
        if start >= mean * 1.1 {
            start = mean / 2.0;
        }
        if counter && increase > 0.0 && first >= 0.0 {
            start = start.min(sampled * (first / increase));
        }
        if stop >= mean * 1.1 {
            stop = mean / 2.0;
        }
        increase * ((sampled + start + stop) / sampled)
    };
    let needs_two = [
        "rate",
        "increase",
        "delta",
        "irate",
        "idelta",
        "deriv",
        "predict_linear",
        "double_exponential_smoothing",
    ];
    if n < 2 && needs_two.contains(&name) {
        return None;
    }
    let extreme =
        |best: f64| s.v.iter().rposition(|v| *v == best || (best.is_nan() && v.is_nan())).unwrap();
    let max = s.v.iter().copied().fold(f64::NAN, f64::max);
    let min = s.v.iter().copied().fold(f64::NAN, f64::min);
    Some(match name {
        "rate" => extrapolate(last - first, true) / (range as f64 / 1000.0),
        "increase" => extrapolate(last - first, true),
        "delta" => extrapolate(last - first, false),
        "irate" => {
            (if last < s.v[n - 2] { last } else { last - s.v[n - 2] })
                / (seconds(n - 1) - seconds(n - 2))
        }
        "idelta" => last - s.v[n - 2],
        "deriv" => line(s, eval).0,
        "predict_linear" => {
            let (slope, now) = line(s, eval);
            slope * AHEAD + now
        }
        "double_exponential_smoothing" => holt(s.v),
        "changes" => {
            pairs().filter(|p| p[0] != p[1] && !(p[0].is_nan() && p[1].is_nan())).count() as f64
        }
        "resets" => pairs().filter(|p| p[1] < p[0]).count() as f64,
        "sum_over_time" => kahan::sum(s.v),
        "avg_over_time" => kahan::mean(s.v),
        "min_over_time" => min,
        "max_over_time" => max,
        "count_over_time" => n as f64,
        "last_over_time" => last,
        "first_over_time" => first,
        "present_over_time" => 1.0,
        "stddev_over_time" => variance(s.v).sqrt(),
        "stdvar_over_time" => variance(s.v),
        "mad_over_time" if s.v.iter().any(|v| v.is_nan()) => f64::NAN,
        "mad_over_time" => {
            let median = quantile(0.5, s.v);
            let distances: Vec<f64> = s.v.iter().map(|v| (v - median).abs()).collect();
            quantile(0.5, &distances)
        }
        "quantile_over_time" => quantile(phi(step), s.v),
        "ts_of_min_over_time" => seconds(extreme(min)),
        "ts_of_max_over_time" => seconds(extreme(max)),
        "ts_of_last_over_time" => seconds(n - 1),
        "ts_of_first_over_time" => seconds(0),
        other => panic!("no definition of {other}"),
    })
}

/// `size` is how large the values that cancelled out may have been.
fn close(a: f64, b: f64, size: f64) -> bool {
    a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= 1e-9 * a.abs().max(b.abs()).max(size)
}

/// How large the values that cancel out in a function's result may be.
fn size(name: &str, s: Samples<'_>, eval: i64) -> f64 {
    let largest = s.v.iter().fold(0.0f64, |largest, v| largest.max(v.abs()));
    let (first, last) = (s.t[0], s.t[s.t.len() - 1]);
    match name {
        "deriv" => largest / (last - first) as f64 * 1e3,
        // Prometheus, too, squares the distance to the time of evaluation, and then subtracts what
        // that adds
        "predict_linear" => {
            let far = (eval - first).abs() as f64 / (last - first) as f64;
            largest * (1.0 + far).powi(3) * 1e-2
        }
        "double_exponential_smoothing" => largest * 1e2,
        "stddev_over_time" => largest * 1e-3,
        "stdvar_over_time" => largest * largest * 1e-3,
        _ => 1e-3,
    }
}

fn check(t: &[i64], v: &[f64], steps: Steps, range: i64) {
    let samples = Samples { t, v };
    let mut windows = Vec::new();
    bounds(t, &steps, range, &mut windows);
    let mut buffers = Buffers::default();
    for name in FUNCTIONS {
        let (mut values, mut present) = (vec![0.0; steps.count], StepSet::none(steps.count));
        let mut out = FloatColumn { values: &mut values, present: present.view_mut() };
        let phis: Vec<f64> = (0..steps.count).map(phi).collect();
        let params = match name {
            "quantile_over_time" => [Param::PerStep(&phis), Param::One(0.0)],
            "predict_linear" => [Param::One(AHEAD), Param::One(0.0)],
            _ => [Param::One(SMOOTHING), Param::One(TREND)],
        };
        let input = FloatInput {
            samples,
            bounds: &windows,
            steps: &steps,
            range,
            params: &params,
            interrupt: &Interrupt::never(),
        };
        evaluate(RangeFunction::from_name(name).unwrap(), input, &mut buffers, &mut out);
        for (k, window) in windows.iter().enumerate() {
            let inside = Samples { t: &t[window.range()], v: &v[window.range()] };
            let expected = naive(name, inside, k, (steps.end(k), steps.eval(k), range));
            let got = present.contains(k).then_some(values[k]);
            let same = match (expected, got) {
                (Some(a), Some(b)) => close(a, b, size(name, inside, steps.eval(k))),
                (None, None) => true,
                _ => false,
            };
            assert!(same, "{name} at step {k}: expected {expected:?}, got {got:?} of {inside:?}");
        }
    }
}

fn value() -> impl Strategy<Value = f64> {
    prop_oneof![
        20 => (-1000i32..100_000).prop_map(|v| f64::from(v) / 8.0),
        2 => Just(0.0),
        1 => Just(1e15),
    ]
}

fn odd_value() -> impl Strategy<Value = f64> {
    prop_oneof![8 => value(), 1 => Just(f64::NAN), 1 => Just(f64::INFINITY), 1 => Just(f64::NEG_INFINITY)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn every_function_equals_its_definition(
        samples in prop::collection::vec((1i64..30_000, value()), 0..120),
        range in 1_000i64..400_000, step in 1_000i64..200_000, offset in -20_000i64..20_000,
    ) {
        let t: Vec<i64> = samples.iter().scan(0, |at, (gap, _)| { *at += gap; Some(*at) }).collect();
        let v: Vec<f64> = samples.iter().map(|s| s.1).collect();
        check(&t, &v, Steps { start: 0, step, count: 70, offset, fixed: None }, range);
    }

    #[test]
    fn odd_numbers_too(
        samples in prop::collection::vec((1i64..30_000, odd_value()), 0..60),
        range in 1_000i64..400_000, step in 1_000i64..100_000,
    ) {
        let t: Vec<i64> = samples.iter().scan(0, |at, (gap, _)| { *at += gap; Some(*at) }).collect();
        let v: Vec<f64> = samples.iter().map(|s| s.1).collect();
        check(&t, &v, Steps { start: 0, step, count: 20, offset: 0, fixed: None }, range);
    }
}

#[test]
fn many_resets_sum_the_same() {
    let t: Vec<i64> = (0..1000).map(|i| i * 1000).collect();
    let v: Vec<f64> = (0..1000).map(|i| f64::from(i % 3)).collect();
    check(&t, &v, Steps { start: 0, step: 10_000, count: 100, offset: 0, fixed: None }, 600_000);
}

#[test]
fn many_values_may_enter_and_leave_a_window_at_once() {
    let t: Vec<i64> = (0..600).map(|i| i * 1000).collect();
    let odd = |i: i32| match i % 7 {
        0 => f64::NAN,
        1 => -0.0,
        _ => f64::from(i * 7919 % 101 - 50),
    };
    let v: Vec<f64> = (0..600).map(odd).collect();
    check(&t, &v, Steps { start: 0, step: 13_000, count: 60, offset: 0, fixed: None }, 200_000);
}

#[test]
fn stale_markers_end_a_series() {
    let samples = Samples { t: &[0, 10, 20], v: &[1.0, model::STALE_NAN, f64::NAN] };
    let steps = Steps { start: 0, step: 10, count: 4, offset: 0, fixed: None };
    let mut windows = Vec::new();
    bounds(samples.t, &steps, 15, &mut windows);
    let (mut values, mut present) = (vec![0.0; 4], StepSet::none(4));
    lookback::<false>(
        samples,
        &windows,
        &mut FloatColumn { values: &mut values, present: present.view_mut() },
    );
    assert!(present.view().into_iter().eq([0, 2, 3]));
    assert!(values[2].is_nan());
}
