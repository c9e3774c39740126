//! Range functions by name, and their evaluation over the windows of one series.

use super::over_time::{self, OverTimeScratch};
use super::rate::{self, Extrapolation, Resets, Windowed};
use super::window::{Bounds, Samples, Steps};
use super::{FloatColumn, Param, mixed, regression};

/// A function of the samples of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RangeFunction {
    Rate,
    Increase,
    Delta,
    Irate,
    Idelta,
    Deriv,
    PredictLinear,
    DoubleExponentialSmoothing,
    Changes,
    Resets,
    Sum,
    Avg,
    Min,
    Max,
    Count,
    Last,
    First,
    Present,
    Stddev,
    Stdvar,
    Mad,
    Quantile,
    TsOfMin,
    TsOfMax,
    TsOfLast,
    TsOfFirst,
}

impl RangeFunction {
    /// The function of that name in PromQL; `absent_over_time` is not a function of one series.
    pub fn from_name(name: &str) -> Option<RangeFunction> {
        use RangeFunction::*;
        Some(match name {
            "rate" => Rate,
            "increase" => Increase,
            "delta" => Delta,
            "irate" => Irate,
            "idelta" => Idelta,
            "deriv" => Deriv,
            "predict_linear" => PredictLinear,
            "double_exponential_smoothing" => DoubleExponentialSmoothing,
            "changes" => Changes,
            "resets" => Resets,
            "sum_over_time" => Sum,
            "avg_over_time" => Avg,
            "min_over_time" => Min,
            "max_over_time" => Max,
            "count_over_time" => Count,
            "last_over_time" => Last,
            "first_over_time" => First,
            "present_over_time" => Present,
            "stddev_over_time" => Stddev,
            "stdvar_over_time" => Stdvar,
            "mad_over_time" => Mad,
            "quantile_over_time" => Quantile,
            "ts_of_min_over_time" => TsOfMin,
            "ts_of_max_over_time" => TsOfMax,
            "ts_of_last_over_time" => TsOfLast,
            "ts_of_first_over_time" => TsOfFirst,
            _ => return None,
        })
    }

    /// Whether only the first and the last histograms of a window matter, and those before and
    /// after resets: those between may be anything that is marked as not following a reset.
    pub fn looks_at_edges_only(self) -> bool {
        matches!(self, RangeFunction::Rate | RangeFunction::Increase | RangeFunction::Delta)
    }

    /// Whether the result is still the metric, so that its name is kept.
    pub fn keeps_name(self) -> bool {
        matches!(self, RangeFunction::Last | RangeFunction::First)
    }
}

/// Buffers of one worker, reused from series to series.
#[derive(Debug, Default)]
pub struct Buffers {
    over_time: OverTimeScratch,
    resets: Resets,
    pub(super) mixed: mixed::MixedScratch,
}

impl Buffers {
    /// The buffer for the resets of a counter.
    pub fn resets(&mut self) -> &mut Resets {
        &mut self.resets
    }
}

/// One series, its windows and the parameters of the function, in order of the call's arguments.
#[derive(Clone, Copy, Debug)]
pub struct FloatInput<'a> {
    pub samples: Samples<'a>,
    pub bounds: &'a [Bounds],
    pub steps: &'a Steps,
    pub range: i64,
    pub params: &'a [Param<'a>],
}

/// Evaluates `function` at every step; `out` must come without any value present.
pub fn evaluate(
    function: RangeFunction,
    input: FloatInput<'_>,
    buffers: &mut Buffers,
    out: &mut FloatColumn<'_>,
) {
    use RangeFunction::*;
    let FloatInput { samples, bounds, steps, range, params } = input;
    let windowed = Windowed { samples, bounds, steps, range };
    let scratch = &mut buffers.over_time;
    match function {
        Rate => rate::extrapolated(Extrapolation::Rate, windowed, &mut buffers.resets, out),
        Increase => rate::extrapolated(Extrapolation::Increase, windowed, &mut buffers.resets, out),
        Delta => rate::extrapolated(Extrapolation::Delta, windowed, &mut buffers.resets, out),
        Irate => rate::instant::<true>(samples, bounds, out),
        Idelta => rate::instant::<false>(samples, bounds, out),
        Changes => rate::count_events(samples, bounds, rate::is_change, out),
        Resets => rate::count_events(samples, bounds, rate::is_reset, out),
        Deriv => each(input, 2, out, |_, s| regression::linear(s, s.t[0]).0),
        PredictLinear => each(input, 2, out, |k, s| {
            let (slope, now) = regression::linear(s, steps.eval(k));
            slope * params[0].at(k) + now
        }),
        DoubleExponentialSmoothing => {
            each(input, 2, out, |k, s| regression::smooth(s.v, params[0].at(k), params[1].at(k)));
        }
        Sum => over_time::sum(samples, bounds, scratch, out),
        Avg => over_time::avg(samples, bounds, scratch, out),
        Min => over_time::extreme::<false, false>(samples, bounds, scratch, out),
        Max => over_time::extreme::<true, false>(samples, bounds, scratch, out),
        TsOfMin => over_time::extreme::<false, true>(samples, bounds, scratch, out),
        TsOfMax => over_time::extreme::<true, true>(samples, bounds, scratch, out),
        Count => each(input, 1, out, |_, s| s.v.len() as f64),
        Last => each(input, 1, out, |_, s| s.v[s.v.len() - 1]),
        First => each(input, 1, out, |_, s| s.v[0]),
        Present => each(input, 1, out, |_, _| 1.0),
        TsOfLast => each(input, 1, out, |_, s| s.t[s.t.len() - 1] as f64 / 1000.0),
        TsOfFirst => each(input, 1, out, |_, s| s.t[0] as f64 / 1000.0),
        Stddev => over_time::variance(samples, bounds, true, scratch, out),
        Stdvar => over_time::variance(samples, bounds, false, scratch, out),
        Mad => over_time::mad(samples, bounds, scratch, out),
        Quantile => over_time::quantile(samples, bounds, params[0], scratch, out),
    }
}

#[inline(always)]
fn each(
    input: FloatInput<'_>,
    at_least: usize,
    out: &mut FloatColumn<'_>,
    f: impl Fn(usize, Samples<'_>) -> f64,
) {
    for (k, window) in input.bounds.iter().enumerate() {
        if window.len() >= at_least {
            let range = window.range();
            out.set(
                k,
                f(k, Samples { t: &input.samples.t[range.clone()], v: &input.samples.v[range] }),
            );
        }
    }
}

/// The instant value at every step: the latest sample of its lookback window, unless that is a
/// stale marker. With `TIME` the time of that sample in seconds instead.
pub fn lookback<const TIME: bool>(
    samples: Samples<'_>,
    bounds: &[Bounds],
    out: &mut FloatColumn<'_>,
) {
    for (k, window) in bounds.iter().enumerate() {
        if window.is_empty() {
            continue;
        }
        let at = window.hi as usize - 1;
        if !model::is_stale_nan(samples.v[at]) {
            out.set(k, if TIME { samples.t[at] as f64 / 1000.0 } else { samples.v[at] });
        }
    }
}

#[cfg(test)]
#[path = "range/tests.rs"]
mod tests;
