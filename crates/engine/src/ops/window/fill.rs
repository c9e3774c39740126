//! Steps whose windows are shorter than those of the data; what becomes of them is said in
//! [`downsampled`](crate::downsampled).

use std::sync::Arc;

use datafusion_common::Result;
use model::{FloatHistogram, Labels};
use promql::format_duration;
use promql::kernels::MixedColumn;
use promql::kernels::coarse::{CoarseTimes, Filling, Window};
use promql::kernels::interrupt::Interrupt;
use promql::kernels::mixed::{self, MixedInput};
use promql::kernels::native::ComputedValue;
use promql::kernels::notes::Notes;
use promql::kernels::range::RangeFunction;
use promql::kernels::steps::StepsMut;
use promql::kernels::window::{Bounds, HistogramSamples, Samples, Steps};

use super::WindowFunction;
use super::evaluator::{Evaluator, RowInput};
use crate::context::metric_name;
use crate::downsampled::{Rise, Short, resolution_name};
use crate::read::{Coarse, SeriesSamples};

const NO_FLOATS: Samples<'static> = Samples { t: &[], v: &[] };

/// A series whose short windows are to be filled, and the row that they are filled in.
#[derive(Clone, Copy)]
struct ShortSeries<'a> {
    row: usize,
    labels: &'a Labels,
    floats: Samples<'a>,
    histograms: HistogramSamples<'a>,
    coarse: Coarse<'a>,
    interrupt: &'a Interrupt<'a>,
}

impl ShortSeries<'_> {
    /// Counts looking around a window; returns whether to stop.
    fn stops_after(&self, windows: [Window; 2]) -> bool {
        let samples: usize = windows.iter().map(|window| window.samples.len()).sum();
        self.interrupt.after(64 + 16 * samples)
    }

    fn float_times(&self) -> CoarseTimes<'_> {
        self.coarse.float_times(self.floats.t)
    }

    fn histogram_times(&self) -> CoarseTimes<'_> {
        self.coarse.histogram_times(self.histograms.t)
    }
}

impl Evaluator {
    /// Fills the steps of a row that was evaluated as asked, and adds a note where the data is not
    /// what was asked for.
    pub(super) fn fill(&mut self, input: RowInput<'_>, coarse: Coarse<'_>) -> Result<()> {
        self.out.push_empty(0, false);
        let RowInput { row, labels, samples: SeriesSamples { floats, histograms }, interrupt } =
            input;
        let series =
            ShortSeries { row: self.out.len() - 1, labels, floats, histograms, coarse, interrupt };
        match coarse.reading.treatment.short {
            Short::Fixed => {}
            Short::Filled(how) => self.fill_windows(series, how)?,
            Short::Rise(rise) => self.fill_rises(series, rise),
            Short::Share => self.fill_shares(series),
            Short::Mean => {
                let asked = self.bounds.clone();
                self.fill_windows(series, Filling::Around)?;
                self.fill_means(series, &asked);
            }
        }
        if let Some(asked) = TimeAsked::of(self.spec.function) {
            self.correct_times(row, series, asked);
        }
        let mut filled = false;
        for step in 0..self.spec.steps.count {
            if self.out.is_present(series.row, step) {
                filled = true;
                let value = self.out.sample(series.row, step).into();
                self.out.set_sample(row, step, Some(value));
            }
        }
        self.out.pop();
        let any = !self.out.present(row).is_empty();
        self.say(coarse, filled, any);
        Ok(())
    }

    /// Notes what of a row's values comes from data that was not asked for.
    fn say(&self, coarse: Coarse<'_>, filled: bool, any: bool) {
        let Some(resolution_ms) = coarse.unasked() else { return };
        let (spec, query, reading) = (&self.spec, &self.query, coarse.reading);
        let resolution = resolution_name(resolution_ms);
        if reading.treatment.needs_raw() && any {
            let function = &reading.function;
            let text = format!(
                "{function} needs raw samples where only data of {resolution} resolution exists: \
                 the answer is of its windows"
            );
            query.annotate().warn(spec.span, text);
        } else if filled && resolution_ms > reading.allowed_ms {
            let (asked, resolution_length) =
                (format_duration(spec.range), format_duration(resolution_ms));
            let what = match reading.treatment.short {
                Short::Share | Short::Rise(Rise::InRange) => {
                    format!(
                        "{} over {asked} scaled from windows of {resolution_length}",
                        reading.function
                    )
                }
                _ if spec.name.is_empty() => {
                    format!("lookback of {asked} widened to {resolution_length}")
                }
                _ => format!("range of {asked} widened to {resolution_length}"),
            };
            let text = format!("{what} where only data of {resolution} resolution exists");
            query.annotate().coarse(spec.span, text);
        }
    }

    /// The window of step `k` and the samples in it; `bounds` are those of all steps.
    fn window(&self, bounds: &[Bounds], k: usize) -> Window {
        let samples = bounds.get(k).copied().unwrap_or_default();
        Window { samples, end: self.spec.steps.end(k), range: self.spec.range }
    }

    /// Applies the function to the samples around short windows.
    fn fill_windows(&mut self, series: ShortSeries<'_>, how: Filling) -> Result<()> {
        let ShortSeries { row, labels, floats, histograms, interrupt, .. } = series;
        let count = self.spec.steps.count;
        // with windows of one kind of samples those of the other are no reason to fill
        let both = !floats.t.is_empty() && !histograms.t.is_empty();
        let enough = if how == Filling::Pair { 2 } else { 1 };
        self.bounds.resize(count, Bounds::default());
        if !histograms.t.is_empty() {
            self.histogram_bounds.resize(count, Bounds::default());
        }
        let mut any = false;
        for k in 0..count {
            let (of_floats, of_histograms) =
                (self.window(&self.bounds, k), self.window(&self.histogram_bounds, k));
            if series.stops_after([of_floats, of_histograms]) {
                return Ok(());
            }
            let fill = |times: CoarseTimes<'_>, window: Window| {
                let is_enough =
                    both && of_floats.samples.len() + of_histograms.samples.len() >= enough;
                if is_enough { None } else { times.fill(window, how) }.unwrap_or_default()
            };
            self.bounds[k] = fill(series.float_times(), of_floats);
            if let Some(bounds) = self.histogram_bounds.get_mut(k) {
                *bounds = fill(series.histogram_times(), of_histograms);
                any |= !bounds.is_empty();
            }
            any |= !self.bounds[k].is_empty();
        }
        let samples = SeriesSamples { floats, histograms };
        if any { self.apply(RowInput { row, labels, samples, interrupt }) } else { Ok(()) }
    }

    /// Where a function gives times, and a step or a range begins or ends between the first and the
    /// last sample of a window, there is a sample near it.
    fn correct_times(&mut self, row: usize, series: ShortSeries<'_>, asked: TimeAsked) {
        let times = [series.float_times(), series.histogram_times()];
        for k in 0..self.spec.steps.count {
            let found = [series.row, row].into_iter().find(|row| self.out.is_present(*row, k));
            let Some(found) = found else { continue };
            let window = self.window(&[], k);
            if series.stops_after([window; 2]) {
                return;
            }
            let is_inside = times.iter().any(|times| times.is_inside(window.end));
            let first = || times.iter().filter_map(|times| times.first_after(window.start())).min();
            let ms = match asked {
                TimeAsked::Last if is_inside => Some(window.end),
                TimeAsked::First => first(),
                TimeAsked::Last | TimeAsked::Any => None,
            };
            let value = self.out.values(found)[k];
            let mut corrected = ms.map_or(value, |ms| ms as f64 / 1000.0);
            if is_inside {
                corrected = corrected.min(window.end as f64 / 1000.0);
            }
            if corrected != value {
                self.out.set_sample(series.row, k, Some(ComputedValue::Float(corrected)));
            }
        }
    }

    /// Sets short windows to how much the series rises in them.
    fn fill_rises(&mut self, series: ShortSeries<'_>, rise: Rise) {
        let ShortSeries { row, labels, floats, histograms, coarse, interrupt } = series;
        let range = self.spec.range;
        let at = coarse.reading.treatment.value_at();
        let (float_times, histogram_times) = (series.float_times(), series.histogram_times());
        for k in 0..self.spec.steps.count {
            let (of_floats, of_histograms) =
                (self.window(&self.bounds, k), self.window(&self.histogram_bounds, k));
            if series.stops_after([of_floats, of_histograms]) {
                return;
            }
            if float_times.is_short(of_floats, range / 2)
                || float_times.is_uneven(of_floats)
                || float_times.is_at_an_end(of_floats)
            {
                let scale = if rise == Rise::PerSecond { 1000.0 / range as f64 } else { 1.0 };
                let value = float_times
                    .rise_of(floats.v, of_floats, at)
                    .map(|v| ComputedValue::Float(v * scale));
                self.out.set_sample(row, k, value);
            } else if let Some(pair) = histogram_times.fill(of_histograms, Filling::Pair) {
                let apart = histogram_times.apart(pair.lo as usize, pair.hi as usize - 1, at);
                let of = HistogramPair { histograms, pair, rise, apart, interrupt };
                if let Some(histogram) = self.histogram_rise(of, labels) {
                    self.out.set_sample(row, k, Some(ComputedValue::Histogram(histogram)));
                }
            }
        }
    }

    /// The rise between two histograms, with resets taken into account.
    fn histogram_rise(
        &mut self,
        of: HistogramPair<'_>,
        labels: &Labels,
    ) -> Option<Arc<FloatHistogram>> {
        let HistogramPair { histograms, pair, rise, apart, interrupt } = of;
        let WindowFunction::Range(function) = self.spec.function else { return None };
        let (first, last) = (histograms.t[pair.lo as usize], histograms.t[pair.hi as usize - 1]);
        // just long enough to hold both, so that nothing is extrapolated
        let window = Window { samples: pair, end: last, range: last - first + 1 };
        let rise_between =
            self.at_once(function, WindowOf { histograms, window, interrupt }, labels)?;
        if rise == Rise::PerSecond {
            return Some(rise_between);
        }
        let mut scaled = (*rise_between).clone();
        scaled.mul(self.spec.range as f64 / apart as f64);
        Some(Arc::new(scaled))
    }

    /// Applies a function to histograms in a single window.
    fn at_once(
        &mut self,
        function: RangeFunction,
        of: WindowOf<'_>,
        labels: &Labels,
    ) -> Option<Arc<FloatHistogram>> {
        let WindowOf { histograms, window, interrupt } = of;
        let steps = Steps { start: window.end, step: 1, count: 1, offset: 0, fixed: None };
        let input = MixedInput {
            floats: NO_FLOATS,
            float_bounds: &[Bounds::default()],
            histograms,
            histogram_bounds: &[window.samples],
            steps: &steps,
            range: window.range,
            params: &[],
            interrupt,
        };
        let (mut value, mut present, mut histogram) = ([0.0], [0], [None]);
        let present = StepsMut::of(&mut present);
        let mut column = MixedColumn { values: &mut value, present, histograms: &mut histogram };
        let mut notes = Notes::default();
        mixed::evaluate(function, input, &mut self.buffers, &mut notes, &mut column);
        self.query.note(&notes, self.spec.span, &metric_name(labels));
        let [histogram] = histogram;
        histogram
    }

    /// Takes the mean of the windows around, each weighted by its share of samples. `asked` are the
    /// bounds of the windows as asked.
    fn fill_means(&mut self, series: ShortSeries<'_>, asked: &[Bounds]) {
        let ShortSeries { row, floats, coarse: Coarse { weights, .. }, .. } = series;
        // histograms have none, and are counted beside the floats of a series that has both
        if weights.len() != floats.t.len() {
            return;
        }
        let times = series.float_times();
        let weighted: Vec<f64> =
            floats.v.iter().zip(weights).map(|(value, weight)| value * weight).collect();
        for k in 0..self.spec.steps.count {
            let window = self.window(asked, k);
            if series.stops_after([window; 2]) {
                return;
            }
            if times.is_short(window, 0)
                && let (Some(sum), Some(count)) =
                    (times.share_of(&weighted, window), times.share_of(weights, window))
            {
                self.out.set_sample(row, k, Some(ComputedValue::Float(sum / count)));
            }
        }
    }

    /// Adds up the shares of windows, including those in which a range begins or ends.
    fn fill_shares(&mut self, series: ShortSeries<'_>) {
        let ShortSeries { row, labels, floats, histograms, interrupt, .. } = series;
        let (float_times, histogram_times) = (series.float_times(), series.histogram_times());
        for k in 0..self.spec.steps.count {
            let (of_floats, of_histograms) =
                (self.window(&self.bounds, k), self.window(&self.histogram_bounds, k));
            if series.stops_after([of_floats, of_histograms]) {
                return;
            }
            if float_times.is_short(of_floats, 0) {
                let value = float_times.share_of(floats.v, of_floats).map(ComputedValue::Float);
                self.out.set_sample(row, k, value);
            } else if histogram_times.is_short(of_histograms, 0) {
                let (mut t, mut h) = (Vec::new(), Vec::new());
                for (i, share) in histogram_times.shares(of_histograms) {
                    let mut part = (*histograms.h[i]).clone();
                    part.mul(share);
                    t.push(histograms.t[i]);
                    h.push(Arc::new(part));
                }
                let window =
                    Window { samples: Bounds { lo: 0, hi: h.len() as u32 }, ..of_histograms };
                let parts = HistogramSamples { t: &t, h: &h };
                let sum = match h.is_empty() {
                    true => None,
                    false => {
                        let of = WindowOf { histograms: parts, window, interrupt };
                        self.at_once(RangeFunction::Sum, of, labels)
                    }
                };
                self.out.set_sample(row, k, sum.map(ComputedValue::Histogram));
            }
        }
    }
}

/// Which sample's time a function gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TimeAsked {
    First,
    Last,
    Any,
}

impl TimeAsked {
    fn of(function: WindowFunction) -> Option<TimeAsked> {
        match function {
            WindowFunction::Timestamp
            | WindowFunction::Seen
            | WindowFunction::Range(RangeFunction::TsOfLast) => Some(TimeAsked::Last),
            WindowFunction::Range(RangeFunction::TsOfFirst) => Some(TimeAsked::First),
            WindowFunction::Range(RangeFunction::TsOfMin | RangeFunction::TsOfMax) => {
                Some(TimeAsked::Any)
            }
            _ => None,
        }
    }
}

/// Two histograms and what is asked about them.
struct HistogramPair<'a> {
    histograms: HistogramSamples<'a>,
    pair: Bounds,
    rise: Rise,
    /// The time between them, in milliseconds.
    apart: i64,
    interrupt: &'a Interrupt<'a>,
}

/// Histograms and the window over them.
struct WindowOf<'a> {
    histograms: HistogramSamples<'a>,
    window: Window,
    interrupt: &'a Interrupt<'a>,
}
