//! Series after series into rows: one value per step.

use std::collections::BTreeSet;
use std::sync::Arc;

use datafusion_common::Result;
use model::Labels;
use promql::kernels::extended;
use promql::kernels::interrupt::Interrupt;
use promql::kernels::mixed::{self, MixedInput};
use promql::kernels::notes::Notes;
use promql::kernels::range::{self, Buffers, FloatInput, RangeFunction};
use promql::kernels::window::{Bounds, HistogramSamples, bounds};
use promql::kernels::xrate::{self, Reaching};
use promql::kernels::{MixedColumn, Param};

use super::spec::{WindowFunction, WindowSpec};
use crate::batch::Rows;
use crate::context::{Charge, Check, QueryContext, metric_name};
use crate::error::execution;
use crate::exec::Inputs;
use crate::histograms::histogram_bytes;
use crate::read::{Coarse, SeriesSamples};
use crate::samples::Tally;

/// A series to evaluate.
pub(super) struct EvaluatedSeries<'a> {
    pub(super) labels: Labels,
    pub(super) drop_name: bool,
    pub(super) samples: SeriesSamples<'a>,
    /// Its downsampled part.
    pub(super) coarse: Option<Coarse<'a>>,
    pub(super) interrupt: &'a Interrupt<'a>,
}

/// Samples that are evaluated into a row, and the labels of their series.
#[derive(Clone, Copy)]
pub(super) struct RowInput<'a> {
    pub(super) row: usize,
    pub(super) labels: &'a Labels,
    pub(super) samples: SeriesSamples<'a>,
    pub(super) interrupt: &'a Interrupt<'a>,
}

/// Evaluates a window function on series that a worker gives it, into a batch.
pub(super) struct Evaluator {
    pub(super) spec: Arc<WindowSpec>,
    pub(super) query: Arc<QueryContext>,
    inputs: Inputs,
    tally: Option<Tally>,
    params: Vec<Vec<f64>>,
    /// What the rows of the batch that is being made are charged to.
    memory: Charge,
    pub(super) buffers: Buffers,
    pub(super) bounds: Vec<Bounds>,
    pub(super) histogram_bounds: Vec<Bounds>,
    pub(super) out: Rows,
    labels: Vec<Labels>,
    /// Names already found not to be counters.
    not_counters: BTreeSet<Vec<u8>>,
    checked: bool,
    /// The bytes that the histograms of the batch hold.
    histogram_bytes: usize,
    /// The values of the samples are counts of samples.
    counts: bool,
}

/// The least number of bytes of histograms a batch holds before it is passed on, so that their
/// memory is used again while it is in the cache.
const TARGET_HISTOGRAM_BYTES: usize = 1 << 20;

impl Evaluator {
    pub(super) fn new(
        spec: Arc<WindowSpec>,
        inputs: &Inputs,
        params: Vec<Vec<f64>>,
        of_subquery: bool,
    ) -> Evaluator {
        Evaluator {
            query: Arc::clone(&inputs.query),
            inputs: inputs.clone(),
            tally: inputs.query.samples.as_ref().map(|_| Tally::new(spec.steps.count, of_subquery)),
            params,
            memory: Charge::new(inputs.reserve("window")),
            buffers: Buffers::default(),
            bounds: Vec::new(),
            histogram_bounds: Vec::new(),
            out: Rows::new(spec.steps.count),
            labels: Vec::new(),
            not_counters: BTreeSet::new(),
            checked: false,
            histogram_bytes: 0,
            counts: false,
            spec,
        }
    }

    /// Evaluates one series of floats, histograms or both.
    pub(super) fn series(&mut self, series: EvaluatedSeries<'_>) -> Result<()> {
        let EvaluatedSeries { labels, drop_name, samples, coarse, interrupt } = series;
        if samples.is_empty() {
            return Ok(());
        }
        self.out.push_empty(0, drop_name);
        let row = self.out.len() - 1;
        self.counts = coarse.is_some();
        let input = RowInput { row, labels: &labels, samples, interrupt };
        self.evaluate(input)?;
        if let Some(coarse) = coarse {
            self.fill(input, coarse)?;
        }
        if self.out.present(row).is_empty() {
            self.out.pop();
            return Ok(());
        }
        if self.out.has_floats(row) {
            self.note_counter(&labels);
        }
        // messages about histograms name what is left of a series
        let keeps_name =
            self.spec.keeps_name() || (!self.spec.names_matter && samples.histograms.t.is_empty());
        if keeps_name {
            self.labels.push(labels);
        } else {
            let (labels, flag) = self.query.drop_name(&labels);
            self.out.drop_name[row] |= flag;
            self.labels.push(labels);
        }
        Ok(())
    }

    /// Evaluates windows into an empty row.
    fn evaluate(&mut self, input: RowInput<'_>) -> Result<()> {
        let SeriesSamples { floats, histograms } = input.samples;
        let (steps, reach) = self.spec.windows();
        bounds(floats.t, &steps, reach, &mut self.bounds);
        self.histogram_bounds.clear();
        if !histograms.t.is_empty() {
            bounds(histograms.t, &steps, reach, &mut self.histogram_bounds);
        }
        if self.bounds.iter().chain(&self.histogram_bounds).all(|b| b.is_empty()) {
            return Ok(());
        }
        if let Some(tally) = self.tally.as_mut().filter(|_| self.spec.looks_at_windows()) {
            tally.windows(&self.bounds);
            tally.histogram_windows(&self.histogram_bounds, histograms.h);
        }
        self.apply(input)
    }

    /// Applies the function to the samples that the bounds name.
    pub(super) fn apply(&mut self, input: RowInput<'_>) -> Result<()> {
        self.check_params(input.interrupt)?;
        self.memory.hold(self.spec.steps.count * 8)?;
        match input.samples.histograms.t.is_empty() {
            true => self.floats(input),
            false => self.mixed(input)?,
        }
        Ok(())
    }

    fn floats(&mut self, input: RowInput<'_>) {
        let RowInput { row, samples: SeriesSamples { floats: samples, .. }, interrupt, .. } = input;
        let (spec, counts) = (&self.spec, self.counts);
        let mut column = self.out.row_mut(row);
        match spec.function {
            WindowFunction::Instant => range::lookback::<false>(samples, &self.bounds, &mut column),
            WindowFunction::Timestamp | WindowFunction::Seen => {
                range::lookback::<true>(samples, &self.bounds, &mut column);
            }
            WindowFunction::Range(function) => {
                let params: Vec<Param<'_>> =
                    self.params.iter().map(|p| Param::PerStep(p)).collect();
                let input = FloatInput {
                    samples,
                    bounds: &self.bounds,
                    steps: &spec.steps,
                    range: spec.range,
                    params: &params,
                    interrupt,
                };
                range::evaluate(counting(function, counts), input, &mut self.buffers, &mut column);
            }
            WindowFunction::Reaching(function) => {
                let input = Reaching {
                    samples,
                    bounds: &self.bounds,
                    steps: &spec.steps,
                    range: spec.range,
                    interrupt,
                };
                xrate::evaluate(function, input, self.buffers.resets(), &mut column);
            }
            WindowFunction::Extended { .. } | WindowFunction::Smoothed { .. } => {
                self.histogram_bounds.resize(spec.steps.count, Bounds::default());
                let input = MixedInput {
                    floats: samples,
                    float_bounds: &self.bounds,
                    histograms: HistogramSamples { t: &[], h: &[] },
                    histogram_bounds: &self.histogram_bounds,
                    steps: &spec.steps,
                    range: spec.range,
                    params: &[],
                    interrupt,
                };
                let mut out = MixedColumn {
                    values: column.values,
                    present: column.present,
                    histograms: &mut [],
                };
                // Only histograms cause notes.
                let notes = &mut Notes::default();
                match spec.function {
                    WindowFunction::Extended { function, .. } => {
                        extended::evaluate(function, input, self.buffers.resets(), notes, &mut out);
                    }
                    _ => extended::smoothed_instant(input, notes, &mut out),
                }
            }
        }
    }

    /// Evaluates a series that has histograms.
    fn mixed(&mut self, input: RowInput<'_>) -> Result<()> {
        let RowInput { row, labels, samples, interrupt } = input;
        let spec = &self.spec;
        self.bounds.resize(spec.steps.count, Bounds::default());
        let params: Vec<Param<'_>> = self.params.iter().map(|p| Param::PerStep(p)).collect();
        let input = MixedInput {
            floats: samples.floats,
            float_bounds: &self.bounds,
            histograms: samples.histograms,
            histogram_bounds: &self.histogram_bounds,
            steps: &spec.steps,
            range: spec.range,
            params: &params,
            interrupt,
        };
        let mut column = self.out.mixed_mut(row);
        let mut notes = Notes::default();
        match spec.function {
            WindowFunction::Instant => mixed::lookback::<false>(input, &mut column),
            WindowFunction::Timestamp => mixed::lookback::<true>(input, &mut column),
            WindowFunction::Range(function) => {
                mixed::evaluate(function, input, &mut self.buffers, &mut notes, &mut column);
            }
            WindowFunction::Extended { function, .. } => {
                extended::evaluate(function, input, self.buffers.resets(), &mut notes, &mut column);
            }
            WindowFunction::Smoothed { .. } => {
                extended::smoothed_instant(input, &mut notes, &mut column)
            }
            WindowFunction::Seen => {
                if has_latest_histogram(input) {
                    return Err(execution(format!(
                        "this should be an info metric, with float samples: {labels}"
                    )));
                }
                mixed::lookback::<true>(input, &mut column);
            }
            WindowFunction::Reaching(_) => {
                return Err(execution(
                    "native histograms are not supported in extended range functions",
                ));
            }
        }
        let held = histogram_bytes(column.histograms);
        self.histogram_bytes += held;
        self.query.note(&notes, spec.span, &metric_name(labels));
        self.memory.hold(held)
    }

    /// Adds Prometheus' info for `rate` and `increase` of a metric whose name is not that of a
    /// counter.
    fn note_counter(&mut self, labels: &Labels) {
        use WindowFunction::{Extended, Range};
        let rate = matches!(self.spec.function, Range(_) | Extended { .. });
        if !rate || !matches!(self.spec.name.as_str(), "rate" | "increase") {
            return;
        }
        let Some(name) = labels.metric_name() else { return };
        let is_counter =
            ["_total", "_sum", "_count", "_bucket"].iter().any(|s| name.ends_with(s.as_bytes()));
        if !is_counter && self.not_counters.insert(name.to_vec()) {
            let name = String::from_utf8_lossy(name);
            let message = format!(
                "metric might not be a counter, name does not end in _total/_sum/_count/_bucket: \
                 {name:?}"
            );
            self.query.annotate().info(self.spec.span, message);
        }
    }

    /// Parameters are checked once there is something to apply them to.
    fn check_params(&mut self, interrupt: &Interrupt<'_>) -> Result<()> {
        let of_floats = self.spec.function == WindowFunction::Range(RangeFunction::Quantile);
        if of_floats && self.bounds.iter().all(|b| b.is_empty()) {
            return Ok(());
        }
        if std::mem::replace(&mut self.checked, true) {
            return Ok(());
        }
        match self.spec.function {
            WindowFunction::Range(RangeFunction::DoubleExponentialSmoothing) => {
                for (which, values) in ["smoothing", "trend"].iter().zip(&self.params) {
                    if let Some(bad) = values.iter().find(|v| !(**v > 0.0 && **v < 1.0)) {
                        let short = if *which == "smoothing" { "sf" } else { "tf" };
                        let text = format!(
                            "invalid {which} factor. Expected: 0 < {short} < 1, got: {bad:.6}"
                        );
                        return Err(execution(text));
                    }
                }
            }
            WindowFunction::Range(RangeFunction::Quantile) => {
                for q in self.params[0].iter().filter(|q| !(0.0..=1.0).contains(*q)) {
                    interrupt.check(512)?;
                    self.query.annotate().bad_quantile(self.spec.param_span, *q);
                }
            }
            _ => {}
        }
        Ok(())
    }

    pub(super) fn is_full(&self) -> bool {
        self.out.len() >= Rows::target_rows(self.spec.steps.count)
            || self.histogram_bytes >= TARGET_HISTOGRAM_BYTES
    }

    fn count(&mut self, rows: &Rows) {
        let (Some(tally), Some(counter)) = (&mut self.tally, &self.query.samples) else { return };
        if !self.spec.looks_at_windows() {
            tally.instants(rows);
        }
        self.inputs.count_samples(tally.flush(counter, &self.spec.counted));
    }

    /// The batch so far.
    pub(super) fn take(&mut self) -> Result<Rows> {
        let steps = self.spec.steps.count;
        // after a full batch another one is likely
        let next = if self.is_full() {
            Rows::with_capacity(steps, self.out.len())
        } else {
            Rows::new(steps)
        };
        let mut rows = std::mem::replace(&mut self.out, next);
        let labels: usize = self.labels.iter().map(|labels| labels.as_packed().len()).sum();
        self.inputs.charge_labels(labels)?;
        let first = self.query.add_labels(self.labels.drain(..));
        for (i, id) in rows.series.iter_mut().enumerate() {
            *id = first + i as u32;
        }
        self.memory.release();
        self.histogram_bytes = 0;
        self.query.hold(rows.points())?;
        self.count(&rows);
        Ok(rows)
    }
}

/// A function that counts samples adds up the counts instead, where windows hold counts.
fn counting(function: RangeFunction, counts: bool) -> RangeFunction {
    if counts && function == RangeFunction::Count { RangeFunction::Sum } else { function }
}

/// Whether the latest sample of any window is a histogram.
fn has_latest_histogram(input: MixedInput<'_>) -> bool {
    input.float_bounds.iter().zip(input.histogram_bounds).any(|(floats, histograms)| {
        let latest = floats.range().last().map(|at| input.floats.t[at]);
        let histogram = histograms.range().last().filter(|at| !input.histograms.h[*at].is_stale());
        histogram.is_some_and(|at| latest.is_none_or(|t| input.histograms.t[at] > t))
    })
}
