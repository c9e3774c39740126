//! Range functions over series that have histograms, alone or beside floats.
//!
//! A window of one kind has the result of that kind, a window of both the result that Prometheus
//! defines: some functions count both, some take only the floats, some have no result. Notes refer
//! to the call's first argument (also for `quantile_over_time`, whose range vector is the second)
//! and name the metric of the series.

mod events;
mod rate;

use std::sync::Arc;

use model::histogram::FloatHistogram;

use super::aggregate_histogram::HistogramAggregate;
use super::interrupt::Interrupt;
use super::notes::{Note, Notes};
use super::range::{self, Buffers, FloatInput, RangeFunction};
use super::window::{Bounds, HistogramSamples, Samples, Steps};
use super::{MixedColumn, Param};

/// One series, its windows and the parameters of the function, in order of the call's arguments.
/// There are as many bounds of floats and of histograms as steps.
#[derive(Clone, Copy, Debug)]
pub struct MixedInput<'a> {
    pub floats: Samples<'a>,
    pub float_bounds: &'a [Bounds],
    pub histograms: HistogramSamples<'a>,
    pub histogram_bounds: &'a [Bounds],
    pub steps: &'a Steps,
    pub range: i64,
    pub params: &'a [Param<'a>],
    pub interrupt: &'a Interrupt<'a>,
}

/// Buffers reused from series to series.
#[derive(Debug, Default)]
pub(super) struct MixedScratch {
    /// The windows that hold floats only.
    float_bounds: Vec<Bounds>,
    rate: rate::Prepared,
    events: events::EventScratch,
}

/// Evaluates `function` at every step; `out` must come without any value present. Stale markers are
/// not in the input.
pub fn evaluate(
    function: RangeFunction,
    input: MixedInput<'_>,
    buffers: &mut Buffers,
    notes: &mut Notes,
    out: &mut MixedColumn<'_>,
) {
    use RangeFunction::*;
    if input.histograms.t.is_empty() {
        return range::evaluate(
            function,
            input.floats_in(input.float_bounds),
            buffers,
            &mut out.floats(),
        );
    }
    match function {
        Rate | Increase | Delta | Sum | Avg => one_kind(function, input, buffers, notes, out),
        Irate => rate::instant::<true>(&input, notes, out),
        Idelta => rate::instant::<false>(&input, notes, out),
        Changes => events::changes(&input, &mut buffers.mixed.events, out),
        Resets => events::resets(&input, &mut buffers.mixed.events, out),
        Count => each(&input, out, |window, out, k| {
            out.set_float(k, (window.f.len() + window.h.len()) as f64)
        }),
        Present => each(&input, out, |_, out, k| out.set_float(k, 1.0)),
        First => each(&input, out, |window, out, k| input.set(out, k, input.first(window))),
        Last => each(&input, out, |window, out, k| input.set(out, k, input.last(window))),
        TsOfFirst => each(&input, out, |window, out, k| {
            out.set_float(k, seconds(input.time(input.first(window))))
        }),
        TsOfLast => each(&input, out, |window, out, k| {
            out.set_float(k, seconds(input.time(input.last(window))))
        }),
        Deriv
        | PredictLinear
        | DoubleExponentialSmoothing
        | Min
        | Max
        | Stddev
        | Stdvar
        | Mad
        | Quantile
        | TsOfMin
        | TsOfMax => {
            let windows = input.float_bounds.iter().zip(input.histogram_bounds);
            if windows
                .clone()
                .any(|(floats, histograms)| !floats.is_empty() && !histograms.is_empty())
            {
                notes.push(Note::IgnoredInMixedRange);
            }
            range::evaluate(
                function,
                input.floats_in(input.float_bounds),
                buffers,
                &mut out.floats(),
            );
        }
    }
}

/// The instant value at every step: the latest sample of its lookback window, unless that is a
/// stale marker. With `TIME` the second of that sample instead.
pub fn lookback<const TIME: bool>(input: MixedInput<'_>, out: &mut MixedColumn<'_>) {
    each(&input, out, |window, out, k| {
        let last = input.last(window);
        let stale = match last {
            SampleIndex::Float(at) => model::is_stale_nan(input.floats.v[at]),
            SampleIndex::Histogram(at) => input.histograms.h[at].is_stale(),
        };
        if stale {
            return;
        }
        if TIME {
            out.set_float(k, seconds(input.time(last)));
        } else {
            input.set(out, k, last);
        }
    });
}

/// Functions whose result has the kind of the window, which must be of one kind.
fn one_kind(
    function: RangeFunction,
    input: MixedInput<'_>,
    buffers: &mut Buffers,
    notes: &mut Notes,
    out: &mut MixedColumn<'_>,
) {
    if !input.floats.t.is_empty() {
        let mut float_bounds = std::mem::take(&mut buffers.mixed.float_bounds);
        float_bounds.clear();
        for (floats, histograms) in input.float_bounds.iter().zip(input.histogram_bounds) {
            let mixed = !floats.is_empty() && !histograms.is_empty();
            if mixed {
                notes.push(Note::MixedFloatsAndHistograms);
            }
            float_bounds.push(if mixed {
                Bounds { lo: floats.lo, hi: floats.lo }
            } else {
                *floats
            });
        }
        range::evaluate(function, input.floats_in(&float_bounds), buffers, &mut out.floats());
        buffers.mixed.float_bounds = float_bounds;
    }
    match function {
        RangeFunction::Sum => over_time(&input, false, notes, out),
        RangeFunction::Avg => over_time(&input, true, notes, out),
        _ => rate::extrapolated(function, &input, &mut buffers.mixed.rate, notes, out),
    }
}

/// `sum_over_time` or `avg_over_time`.
fn over_time(input: &MixedInput<'_>, avg: bool, notes: &mut Notes, out: &mut MixedColumn<'_>) {
    for (k, window) in input.histogram_windows() {
        let mut aggregate = HistogramAggregate::new(avg);
        let mut found = Notes::default();
        for histogram in &input.histograms.h[window.range()] {
            if input.interrupt.after(histogram_units(histogram)) {
                return;
            }
            aggregate.add(histogram, &mut found);
        }
        match aggregate.finish_as_is(&mut found) {
            Some(result) => {
                notes.append(found);
                out.set_histogram(k, Arc::new(result));
            }
            // other notes are dropped for a window without a result
            None => notes.push(Note::MixedExponentialAndCustom),
        }
    }
}

/// The samples of one step.
#[derive(Clone, Copy)]
struct StepSamples {
    f: Bounds,
    h: Bounds,
}

/// A sample by its index.
#[derive(Clone, Copy)]
enum SampleIndex {
    Float(usize),
    Histogram(usize),
}

/// Calls `f` for every window that has a sample.
fn each<'o>(
    input: &MixedInput<'_>,
    out: &mut MixedColumn<'o>,
    mut f: impl FnMut(StepSamples, &mut MixedColumn<'o>, usize),
) {
    for (k, (floats, histograms)) in
        input.float_bounds.iter().zip(input.histogram_bounds).enumerate()
    {
        if !floats.is_empty() || !histograms.is_empty() {
            if input.interrupt.after(1) {
                return;
            }
            f(StepSamples { f: *floats, h: *histograms }, out, k);
        }
    }
}

/// About what adding a histogram takes, in additions of numbers.
pub fn histogram_units(histogram: &FloatHistogram) -> usize {
    let buckets = histogram.positive_buckets.len() + histogram.negative_buckets.len();
    64 + 4 * (buckets + histogram.custom_values.len())
}

fn seconds(t: i64) -> f64 {
    t as f64 / 1000.0
}

impl<'a> MixedInput<'a> {
    fn floats_in(&self, bounds: &'a [Bounds]) -> FloatInput<'a> {
        FloatInput {
            samples: self.floats,
            bounds,
            steps: self.steps,
            range: self.range,
            params: self.params,
            interrupt: self.interrupt,
        }
    }

    /// What looking at every histogram of a window takes, if all are as large as its last one.
    pub(super) fn histogram_work(&self, window: Bounds) -> usize {
        let last = self.histograms.h[window.range()].last();
        last.map_or(0, |last| window.len() * histogram_units(last))
    }

    /// The windows that hold histograms only, with their steps.
    fn histogram_windows(&self) -> impl Iterator<Item = (usize, Bounds)> + 'a {
        let windows = self.float_bounds.iter().zip(self.histogram_bounds).enumerate();
        windows
            .filter(|(_, (floats, histograms))| floats.is_empty() && !histograms.is_empty())
            .map(|(k, (_, h))| (k, *h))
    }

    fn time(&self, place: SampleIndex) -> i64 {
        match place {
            SampleIndex::Float(at) => self.floats.t[at],
            SampleIndex::Histogram(at) => self.histograms.t[at],
        }
    }

    /// The earliest sample of a window that is not empty.
    fn first(&self, window: StepSamples) -> SampleIndex {
        let (float, histogram) = (window.f.lo as usize, window.h.lo as usize);
        if window.h.is_empty()
            || (!window.f.is_empty() && self.floats.t[float] < self.histograms.t[histogram])
        {
            return SampleIndex::Float(float);
        }
        SampleIndex::Histogram(histogram)
    }

    /// The latest sample of a window that is not empty.
    fn last(&self, window: StepSamples) -> SampleIndex {
        if window.h.is_empty() {
            return SampleIndex::Float(window.f.hi as usize - 1);
        }
        let histogram = window.h.hi as usize - 1;
        if !window.f.is_empty()
            && self.histograms.t[histogram] < self.floats.t[window.f.hi as usize - 1]
        {
            return SampleIndex::Float(window.f.hi as usize - 1);
        }
        SampleIndex::Histogram(histogram)
    }

    /// The sample as the value of a step.
    fn set(&self, out: &mut MixedColumn<'_>, k: usize, place: SampleIndex) {
        match place {
            SampleIndex::Float(at) => out.set_float(k, self.floats.v[at]),
            SampleIndex::Histogram(at) => out.set_histogram(k, Arc::clone(&self.histograms.h[at])),
        }
    }

    fn histogram(&self, at: usize) -> &'a FloatHistogram {
        &self.histograms.h[at]
    }
}

#[cfg(test)]
#[path = "mixed/tests.rs"]
mod tests;
