//! Range functions by name, and their evaluation over the windows of one series.

use super::interrupt::Interrupt;
use super::over_time::{self, OverTime, OverTimeScratch};
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
    pub interrupt: &'a Interrupt<'a>,
}

/// Evaluates `function` at every step; `out` must come without any value present.
pub fn evaluate(
    function: RangeFunction,
    input: FloatInput<'_>,
    buffers: &mut Buffers,
    out: &mut FloatColumn<'_>,
) {
    use RangeFunction::*;
    let FloatInput { samples, bounds, steps, range, params, interrupt } = input;
    let windowed = Windowed { samples, bounds, steps, range, interrupt };
    let over_time = OverTime { samples, bounds, interrupt };
    let scratch = &mut buffers.over_time;
    match function {
        Rate => rate::extrapolated(Extrapolation::Rate, windowed, &mut buffers.resets, out),
        Increase => rate::extrapolated(Extrapolation::Increase, windowed, &mut buffers.resets, out),
        Delta => rate::extrapolated(Extrapolation::Delta, windowed, &mut buffers.resets, out),
        Irate => rate::instant::<true>(samples, bounds, out),
        Idelta => rate::instant::<false>(samples, bounds, out),
        Changes => rate::count_events(samples, bounds, rate::is_change, out),
        Resets => rate::count_events(samples, bounds, rate::is_reset, out),
        Deriv => all(input, out, |_, s| regression::linear(s, s.t[0]).0),
        PredictLinear => all(input, out, |k, s| {
            let (slope, now) = regression::linear(s, steps.eval(k));
            slope * params[0].at(k) + now
        }),
        DoubleExponentialSmoothing => {
            all(input, out, |k, s| regression::smooth(s.v, params[0].at(k), params[1].at(k)));
        }
        Sum => over_time::sum(over_time, scratch, out),
        Avg => over_time::avg(over_time, scratch, out),
        Min => over_time::extreme::<false, false>(over_time, scratch, out),
        Max => over_time::extreme::<true, false>(over_time, scratch, out),
        TsOfMin => over_time::extreme::<false, true>(over_time, scratch, out),
        TsOfMax => over_time::extreme::<true, true>(over_time, scratch, out),
        Count => each(input, 1, out, |_, s| s.v.len() as f64),
        Last => each(input, 1, out, |_, s| s.v[s.v.len() - 1]),
        First => each(input, 1, out, |_, s| s.v[0]),
        Present => each(input, 1, out, |_, _| 1.0),
        TsOfLast => each(input, 1, out, |_, s| s.t[s.t.len() - 1] as f64 / 1000.0),
        TsOfFirst => each(input, 1, out, |_, s| s.t[0] as f64 / 1000.0),
        Stddev => over_time::variance(over_time, true, scratch, out),
        Stdvar => over_time::variance(over_time, false, scratch, out),
        Mad => over_time::mad(over_time, scratch, out),
        Quantile => over_time::quantile(over_time, params[0], scratch, out),
    }
}

/// Functions that look at all samples of a window, of which they need two.
fn all(input: FloatInput<'_>, out: &mut FloatColumn<'_>, f: impl Fn(usize, Samples<'_>) -> f64) {
    for (k, window) in input.bounds.iter().enumerate().filter(|(_, window)| window.len() >= 2) {
        if input.interrupt.after(4 * window.len()) {
            return;
        }
        out.set(k, f(k, input.samples.part(*window)));
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
            out.set(k, f(k, input.samples.part(*window)));
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
