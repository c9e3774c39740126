use proptest::prelude::*;

use super::*;
use crate::kernels::kahan;
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

/// Every function straight from its definition, over the samples of one window.
fn naive(name: &str, s: Samples<'_>, end: i64, eval: i64, range: i64) -> Option<f64> {
    let (first, last) = (*s.v.first()?, *s.v.last()?);
    let n = s.v.len();
    let pairs = || s.v.windows(2);
    let sorted = |values: &[f64]| {
        let mut v = values.to_vec();
        v.sort_by(over_time::order);
        v
    };
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
    let needs_two =
        ["rate", "increase", "delta", "irate", "idelta", "deriv", "predict_linear", "double_exponential_smoothing"];
    if n < 2 && needs_two.contains(&name) {
        return None;
    }
    let extreme = |best: f64| s.v.iter().rposition(|v| *v == best || (best.is_nan() && v.is_nan())).unwrap();
    let max = s.v.iter().copied().fold(f64::NAN, f64::max);
    let min = s.v.iter().copied().fold(f64::NAN, f64::min);
    Some(match name {
        "rate" => extrapolate(last - first, true) / (range as f64 / 1000.0),
        "increase" => extrapolate(last - first, true),
        "delta" => extrapolate(last - first, false),
        "irate" => (if last < s.v[n - 2] { last } else { last - s.v[n - 2] }) / (seconds(n - 1) - seconds(n - 2)),
        "idelta" => last - s.v[n - 2],
        "deriv" => regression::linear(s, s.t[0]).0,
        "predict_linear" => {
            let (slope, now) = regression::linear(s, eval);
            slope * 60.0 + now
        }
        "double_exponential_smoothing" => regression::smooth(s.v, 60.0, 0.3),
        "changes" => pairs().filter(|p| p[0] != p[1] && !(p[0].is_nan() && p[1].is_nan())).count() as f64,
        "resets" => pairs().filter(|p| p[1] < p[0]).count() as f64,
        "sum_over_time" => kahan::sum(s.v),
        "avg_over_time" => kahan::mean(s.v),
        "min_over_time" => min,
        "max_over_time" => max,
        "count_over_time" => n as f64,
        "last_over_time" => last,
        "first_over_time" => first,
        "present_over_time" => 1.0,
        "stddev_over_time" => over_time::variance_of(s.v).sqrt(),
        "stdvar_over_time" => over_time::variance_of(s.v),
        "mad_over_time" if s.v.iter().any(|v| v.is_nan()) => f64::NAN,
        "mad_over_time" => {
            let median = over_time::quantile_of_sorted(0.5, &sorted(s.v));
            let d: Vec<f64> = s.v.iter().map(|v| (v - median).abs()).collect();
            over_time::quantile_of_sorted(0.5, &sorted(&d))
        }
        "quantile_over_time" => over_time::quantile_of_sorted(60.0, &sorted(s.v)),
        "ts_of_min_over_time" => seconds(extreme(min)),
        "ts_of_max_over_time" => seconds(extreme(max)),
        "ts_of_last_over_time" => seconds(n - 1),
        "ts_of_first_over_time" => seconds(0),
        other => panic!("no definition of {other}"),
    })
}

fn close(a: f64, b: f64) -> bool {
    a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= 1e-9 * a.abs().max(b.abs()).max(1e-3)
}

fn check(t: &[i64], v: &[f64], steps: Steps, range: i64) {
    let samples = Samples { t, v };
    let mut windows = Vec::new();
    bounds(t, &steps, range, &mut windows);
    let mut buffers = Buffers::default();
    for name in FUNCTIONS {
        let (mut values, mut present) = (vec![0.0; steps.count], vec![0u64; steps.count.div_ceil(64)]);
        let mut out = Column { values: &mut values, present: &mut present };
        let params = [Param::One(60.0), Param::One(0.3)];
        let input = Input { samples, bounds: &windows, steps: &steps, range, params: &params };
        evaluate(RangeFunction::from_name(name).unwrap(), input, &mut buffers, &mut out);
        for (k, window) in windows.iter().enumerate() {
            let inside = Samples { t: &t[window.range()], v: &v[window.range()] };
            let expected = naive(name, inside, steps.end(k), steps.eval(k), range);
            let got = (present[k / 64] >> (k % 64) & 1 == 1).then_some(values[k]);
            let same = match (expected, got) {
                (Some(a), Some(b)) => close(a, b),
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
fn stale_markers_end_a_series() {
    let samples = Samples { t: &[0, 10, 20], v: &[1.0, model::STALE_NAN, f64::NAN] };
    let steps = Steps { start: 0, step: 10, count: 4, offset: 0, fixed: None };
    let mut windows = Vec::new();
    bounds(samples.t, &steps, 15, &mut windows);
    let (mut values, mut present) = (vec![0.0; 4], vec![0u64]);
    lookback::<false>(samples, &windows, &mut Column { values: &mut values, present: &mut present });
    assert_eq!(present[0], 0b1101);
    assert!(values[2].is_nan());
}
