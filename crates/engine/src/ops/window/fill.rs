//! Steps whose windows tell too little of data that is coarser than they are; what becomes of them is said in
//! [`downsampled`](crate::downsampled).

use std::sync::Arc;

use datafusion::common::Result;
use model::{FloatHistogram, Labels};
use promql::format_duration;
use promql::kernels::MixedColumn;
use promql::kernels::coarse::{CoarseTimes, Filling};
use promql::kernels::mixed::{self, MixedInput};
use promql::kernels::native::Value;
use promql::kernels::notes::Notes;
use promql::kernels::range::RangeFunction;
use promql::kernels::window::{Bounds, HistogramSamples, Samples, Steps};

use super::evaluator::Evaluator;
use crate::context::metric_name;
use crate::downsampled::{Rise, Short, resolution_name};
use crate::read::Coarse;

const NO_FLOATS: Samples<'static> = Samples { t: &[], v: &[] };

impl Evaluator {
    /// Fills the steps of a row that was evaluated as asked, and says so where the data is not what was asked for.
    pub(super) fn fill(
        &mut self,
        row: usize,
        labels: &Labels,
        samples: (Samples<'_>, HistogramSamples<'_>),
        coarse: Coarse<'_>,
    ) -> Result<()> {
        self.out.push_empty(0, false);
        let filling = self.out.len() - 1;
        match coarse.reading.treatment.short {
            Short::Fixed => {}
            Short::Filled(how) => self.fill_windows(filling, labels, samples, (coarse, how))?,
            Short::Rise(rise) => self.fill_rises(filling, labels, samples, (coarse, rise))?,
            Short::Share => self.fill_shares(filling, labels, samples, coarse)?,
            Short::Mean => {
                self.fill_windows(filling, labels, samples, (coarse, Filling::Around))?;
                self.fill_means(filling, samples.0, coarse);
            }
        }
        let mut filled = false;
        for step in 0..self.spec.steps.count {
            if self.out.is_present(filling, step) {
                filled = true;
                let value = self.out.sample(filling, step).into();
                self.out.set_sample(row, step, Some(value));
            }
        }
        self.out.pop();
        let any = self.out.present(row).iter().any(|word| *word != 0);
        self.say(coarse, filled, any);
        Ok(())
    }

    /// What the value of a row owes to data that was not asked for.
    fn say(&self, coarse: Coarse<'_>, filled: bool, any: bool) {
        let Some(resolution_ms) = coarse.unasked() else { return };
        let (spec, query, reading) = (&self.spec, &self.query, coarse.reading);
        let resolution = resolution_name(resolution_ms);
        if reading.treatment.needs_raw() && any {
            let function = &reading.function;
            let text = format!(
                "{function} needs raw samples where only data of {resolution} resolution exists: the answer is of its \
                 windows"
            );
            query.annotate().warn(&query.text, spec.span, text);
        } else if filled {
            let (asked, resolution_length) = (format_duration(spec.range), format_duration(resolution_ms));
            let what = match reading.treatment.short {
                Short::Share | Short::Rise(Rise::InRange) => {
                    format!("{} over {asked} scaled from windows of {resolution_length}", reading.function)
                }
                _ if spec.name.is_empty() => format!("lookback of {asked} widened to {resolution_length}"),
                _ => format!("range of {asked} widened to {resolution_length}"),
            };
            let text = format!("{what} where only data of {resolution} resolution exists");
            query.annotate().info(&query.text, spec.span, text);
        }
    }

    /// Applies the function to the samples around short windows.
    fn fill_windows(
        &mut self,
        row: usize,
        labels: &Labels,
        (floats, histograms): (Samples<'_>, HistogramSamples<'_>),
        (coarse, how): (Coarse<'_>, Filling),
    ) -> Result<()> {
        let (float_times, histogram_times) = (coarse.times(floats.t), coarse.times(histograms.t));
        let (steps, range) = (self.spec.steps, self.spec.range);
        // with windows of one kind of samples those of the other are no reason to fill
        let both = !floats.t.is_empty() && !histograms.t.is_empty();
        let enough = if how == Filling::Pair { 2 } else { 1 };
        self.bounds.resize(steps.count, Bounds::default());
        if !histograms.t.is_empty() {
            self.histogram_bounds.resize(steps.count, Bounds::default());
        }
        let mut any = false;
        for k in 0..steps.count {
            let inside = self.bounds[k].len() + self.histogram_bounds.get(k).map_or(0, |b| b.len());
            let end = steps.end(k);
            let fill = |times: CoarseTimes<'_>| {
                if both && inside >= enough { None } else { times.fill(end, range, how) }.unwrap_or_default()
            };
            self.bounds[k] = fill(float_times);
            if let Some(bounds) = self.histogram_bounds.get_mut(k) {
                *bounds = fill(histogram_times);
                any |= !bounds.is_empty();
            }
            any |= !self.bounds[k].is_empty();
        }
        if any { self.apply(row, labels, (floats, histograms)) } else { Ok(()) }
    }

    /// Takes what a series rises by in short windows.
    fn fill_rises(
        &mut self,
        row: usize,
        labels: &Labels,
        (floats, histograms): (Samples<'_>, HistogramSamples<'_>),
        (coarse, rise): (Coarse<'_>, Rise),
    ) -> Result<()> {
        let (steps, range) = (self.spec.steps, self.spec.range);
        let (float_times, histogram_times) = (coarse.times(floats.t), coarse.times(histograms.t));
        for k in 0..steps.count {
            let end = steps.end(k);
            if float_times.is_short(end, range, range / 2) || float_times.is_uneven(end, range) {
                let scale = if rise == Rise::PerSecond { 1000.0 / range as f64 } else { 1.0 };
                let value = float_times.rise_of(floats.v, end, range).map(|v| Value::Float(v * scale));
                self.out.set_sample(row, k, value);
            } else if let Some(pair) = histogram_times.fill(end, range, Filling::Pair) {
                let of = HistogramPair { histograms, pair, rise };
                if let Some(histogram) = self.histogram_rise(of, labels) {
                    self.out.set_sample(row, k, Some(Value::Histogram(histogram)));
                }
            }
        }
        Ok(())
    }

    /// The rise between two histograms, resets seen.
    fn histogram_rise(&mut self, of: HistogramPair<'_>, labels: &Labels) -> Option<Arc<FloatHistogram>> {
        let HistogramPair { histograms, pair, rise } = of;
        let super::WindowFunction::Range(function) = self.spec.function else { return None };
        let (first, last) = (histograms.t[pair.lo as usize], histograms.t[pair.hi as usize - 1]);
        // just long enough to hold both, so that nothing is extrapolated
        let apart = last - first + 1;
        let at = At { end: last, range: apart };
        let rise_between = self.at_once(function, histograms, (pair, at), labels)?;
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
        histograms: HistogramSamples<'_>,
        (bounds, at): (Bounds, At),
        labels: &Labels,
    ) -> Option<Arc<FloatHistogram>> {
        let steps = Steps { start: at.end, step: 1, count: 1, offset: 0, fixed: None };
        let input = MixedInput {
            floats: NO_FLOATS,
            float_bounds: &[Bounds::default()],
            histograms,
            histogram_bounds: &[bounds],
            steps: &steps,
            range: at.range,
            params: &[],
        };
        let (mut value, mut present, mut histogram) = ([0.0], [0], [None]);
        let mut column = MixedColumn { values: &mut value, present: &mut present, histograms: &mut histogram };
        let mut notes = Notes::default();
        mixed::evaluate(function, input, &mut self.buffers, &mut notes, &mut column);
        self.query.note(&notes, self.spec.span, &metric_name(labels));
        let [histogram] = histogram;
        histogram
    }

    /// Takes means of the windows around, each by its share of samples.
    fn fill_means(&mut self, row: usize, floats: Samples<'_>, coarse: Coarse<'_>) {
        let (steps, range, weights) = (self.spec.steps, self.spec.range, coarse.weights);
        // histograms have none, and are counted beside the floats of a series that has both
        if weights.len() != floats.t.len() {
            return;
        }
        let times = coarse.times(floats.t);
        let weighted: Vec<f64> = floats.v.iter().zip(weights).map(|(value, weight)| value * weight).collect();
        for k in 0..steps.count {
            let end = steps.end(k);
            if times.is_short(end, range, 0)
                && let (Some(sum), Some(count)) =
                    (times.share_of(&weighted, end, range), times.share_of(weights, end, range))
            {
                self.out.set_sample(row, k, Some(Value::Float(sum / count)));
            }
        }
    }

    /// Adds up the shares of windows, those that a range begins or ends in included.
    fn fill_shares(
        &mut self,
        row: usize,
        labels: &Labels,
        (floats, histograms): (Samples<'_>, HistogramSamples<'_>),
        coarse: Coarse<'_>,
    ) -> Result<()> {
        let (steps, range) = (self.spec.steps, self.spec.range);
        let (float_times, histogram_times) = (coarse.times(floats.t), coarse.times(histograms.t));
        for k in 0..steps.count {
            let end = steps.end(k);
            if float_times.is_short(end, range, 0) {
                let value = float_times.share_of(floats.v, end, range).map(Value::Float);
                self.out.set_sample(row, k, value);
            } else if histogram_times.is_short(end, range, 0) {
                let shares = histogram_times.shares(end, range).filter(|(_, share)| *share > 0.0);
                let (mut t, mut h) = (Vec::new(), Vec::new());
                for (i, share) in shares {
                    let mut part = (*histograms.h[i]).clone();
                    part.mul(share);
                    t.push(histograms.t[i]);
                    h.push(Arc::new(part));
                }
                let bounds = Bounds { lo: 0, hi: h.len() as u32 };
                let parts = HistogramSamples { t: &t, h: &h };
                let sum = match h.is_empty() {
                    true => None,
                    false => self.at_once(RangeFunction::Sum, parts, (bounds, At { end, range }), labels),
                };
                self.out.set_sample(row, k, sum.map(Value::Histogram));
            }
        }
        Ok(())
    }
}

/// Two histograms and what is asked of them.
struct HistogramPair<'a> {
    histograms: HistogramSamples<'a>,
    pair: Bounds,
    rise: Rise,
}

/// A single window, in milliseconds.
#[derive(Clone, Copy)]
struct At {
    end: i64,
    range: i64,
}
