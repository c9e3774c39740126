//! `histogram_quantile`, `histogram_quantiles` and `histogram_fraction`, over classic buckets and
//! native histograms.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion_common::Result;
use datafusion_execution::memory_pool::MemoryReservation;
use model::{FloatHistogram, Labels};
use promql::ast::Span;
use promql::kernels::format::open_metrics;
use promql::kernels::histogram::{ClassicBucket, bucket_fraction, bucket_quantile};
use promql::kernels::interrupt::Interrupt;
use promql::kernels::mixed::histogram_units;
use promql::kernels::native;
use promql::kernels::notes::{Note, Notes};
use promql::kernels::window::Steps;
use tokio::sync::OnceCell;

use super::distinct::SAME_LABELSET;
use super::groups::GROUPING_UNITS;
use super::map::relabel;
use crate::annotations::bad_bucket_label;
use crate::batch::{RowStream, Rows};
use crate::context::{Check, QueryContext};
use crate::error::execution;
use crate::exec::{Inputs, Operator, once};

/// What is computed of each histogram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Statistic {
    /// One parameter, φ.
    Quantile,
    /// As many series as there are parameters; the label holds φ.
    Quantiles { label: Vec<u8> },
    /// Two parameters: the lower and the upper bound.
    Fraction,
}

/// Input 0 is the histograms, further ones are parameters.
#[derive(Debug)]
pub(crate) struct HistogramStatistic {
    pub(crate) steps: Steps,
    pub(crate) statistic: Statistic,
    /// The argument that holds the histograms.
    pub(crate) span: Span,
    pub(crate) param_spans: Vec<Span>,
}

/// A classic histogram: upper bound and row of its buckets, and the row of the native histogram
/// with its labels.
struct Classic {
    labels: Labels,
    buckets: Vec<(f64, usize)>,
    native: Option<usize>,
}

/// What is evaluated at one step.
enum HistogramInput<'a> {
    Native(&'a FloatHistogram),
    Classic(&'a mut Vec<ClassicBucket>),
}

/// A histogram at a step.
#[derive(Clone, Copy)]
struct HistogramAt<'a> {
    labels: &'a Labels,
    drop_name: bool,
    step: usize,
}

/// The parameter that a value is for.
#[derive(Clone, Copy)]
struct AskedStatistic<'a> {
    param: usize,
    /// The quantile and the label that holds it, where the result has a series for each.
    quantile: Option<(&'a [u8], f64)>,
}

/// A statistic of the histograms of some rows.
struct StatisticEvaluation<'a> {
    operator: &'a HistogramStatistic,
    query: &'a QueryContext,
    rows: &'a Rows,
    params: &'a [Vec<f64>],
    interrupt: &'a Interrupt<'a>,
    out: StatisticOutput<'a>,
}

/// What a statistic is computed from.
struct StatisticInput<'a> {
    inputs: &'a Inputs,
    rows: &'a Rows,
    params: &'a [Vec<f64>],
    interrupt: &'a Interrupt<'a>,
}

impl HistogramStatistic {
    fn evaluate(&self, of: StatisticInput<'_>) -> Result<Rows> {
        let StatisticInput { inputs, rows, params, interrupt } = of;
        let query = &*inputs.query;
        self.check_quantiles(query, params, interrupt)?;
        let out = StatisticOutput::new(inputs, self.steps.count);
        let mut evaluation =
            StatisticEvaluation { operator: self, query, rows, params, interrupt, out };
        let labels = query.labels_of(rows);
        let classics = evaluation.classics(&labels)?;
        evaluation.natives(&labels, &classics)?;
        evaluation.buckets(&classics)?;
        let mut out = evaluation.out;
        relabel(query, &mut out.rows, out.labels);
        Ok(out.rows)
    }

    fn check_quantiles(
        &self,
        query: &QueryContext,
        params: &[Vec<f64>],
        interrupt: &Interrupt<'_>,
    ) -> Result<()> {
        if self.statistic == Statistic::Fraction {
            return Ok(());
        }
        for (values, span) in params.iter().zip(&self.param_spans) {
            for bad in values.iter().filter(|q| !(0.0..=1.0).contains(*q)) {
                interrupt.check(512)?;
                query.annotate().bad_quantile(*span, *bad);
            }
        }
        Ok(())
    }
}

impl StatisticEvaluation<'_> {
    fn classics(&self, labels: &[Labels]) -> Result<Vec<Classic>> {
        let (query, rows) = (self.query, self.rows);
        let mut found: HashMap<Labels, usize> = HashMap::new();
        let mut classics: Vec<Classic> = Vec::new();
        for (row, labels) in labels.iter().enumerate() {
            self.interrupt.check(GROUPING_UNITS + rows.steps / 16)?;
            if !rows.has_floats(row) {
                continue;
            }
            let le = String::from_utf8_lossy(labels.get("le").unwrap_or_default()).into_owned();
            let Ok(upper) = le.parse::<f64>() else {
                let message = bad_bucket_label(&query.late_name(labels), &le);
                query.annotate().warn(self.operator.span, message);
                continue;
            };
            let rest = labels.without(&["le"]);
            let at = *found.entry(rest).or_insert_with_key(|rest| {
                classics.push(Classic { labels: rest.clone(), buckets: Vec::new(), native: None });
                classics.len() - 1
            });
            classics[at].buckets.push((upper, row));
        }
        for (row, labels) in
            labels.iter().enumerate().filter(|(row, _)| rows.histograms(*row).is_some())
        {
            if let Some(at) = found.get(labels) {
                classics[*at].native = Some(row);
            }
        }
        Ok(classics)
    }

    /// Evaluates the native histograms.
    fn natives(&mut self, labels: &[Labels], classics: &[Classic]) -> Result<()> {
        let rows = self.rows;
        let classic_of: HashMap<usize, &Classic> =
            classics.iter().filter_map(|classic| Some((classic.native?, classic))).collect();
        for (row, labels) in
            labels.iter().enumerate().filter(|(row, _)| rows.histograms(*row).is_some())
        {
            self.out.latest.clear();
            let beside = classic_of.get(&row);
            let mut notes = Notes::default();
            for step in rows.present(row) {
                let Some(histogram) = rows.histogram(row, step) else { continue };
                self.interrupt.check(beside.map_or(0, |classic| classic.buckets.len()))?;
                if beside.is_some_and(|c| {
                    c.buckets.iter().any(|(_, bucket)| is_float(rows, *bucket, step))
                }) {
                    notes.push(Note::MixedClassicAndNative);
                    continue;
                }
                let at = HistogramAt { labels, drop_name: rows.drop_name[row], step };
                self.step(at, HistogramInput::Native(histogram), &mut notes)?;
            }
            self.query.note(&notes, self.operator.span, &self.query.late_name(labels));
        }
        Ok(())
    }

    /// Evaluates the classic histograms where no native one stands beside them.
    fn buckets(&mut self, classics: &[Classic]) -> Result<()> {
        let rows = self.rows;
        let mut buckets = Vec::new();
        for classic in classics {
            self.out.latest.clear();
            for step in 0..self.operator.steps.count {
                self.interrupt.check(4 * classic.buckets.len())?;
                if classic.native.is_some_and(|row| rows.histogram(row, step).is_some()) {
                    continue;
                }
                buckets.clear();
                let there = classic.buckets.iter().filter(|(_, row)| is_float(rows, *row, step));
                buckets.extend(there.map(|(upper, row)| ClassicBucket {
                    upper: *upper,
                    count: rows.values(*row)[step],
                }));
                if !buckets.is_empty() {
                    let at = HistogramAt { labels: &classic.labels, drop_name: false, step };
                    self.step(at, HistogramInput::Classic(&mut buckets), &mut Notes::default())?;
                }
            }
        }
        Ok(())
    }

    /// Evaluates one histogram at one step into the rows of its labels.
    fn step(
        &mut self,
        at: HistogramAt<'_>,
        mut input: HistogramInput<'_>,
        notes: &mut Notes,
    ) -> Result<()> {
        let (operator, params, step) = (self.operator, self.params, at.step);
        let units = match &input {
            HistogramInput::Native(histogram) => histogram_units(histogram),
            // they are sorted for every quantile, mostly after they have been
            HistogramInput::Classic(buckets) => 64 + 16 * buckets.len(),
        };
        if operator.statistic == Statistic::Fraction {
            let (lower, upper) = (params[0][step], params[1][step]);
            let value = match input {
                HistogramInput::Native(histogram) => {
                    native::fraction(lower, upper, histogram, notes)
                }
                HistogramInput::Classic(buckets) => bucket_fraction(lower, upper, buckets),
            };
            self.interrupt.check(units)?;
            return self.out.set(at, AskedStatistic { param: 0, quantile: None }, value);
        }
        for (param, q) in params.iter().map(|values| values[step]).enumerate() {
            self.interrupt.check(units)?;
            let value = match &mut input {
                HistogramInput::Native(histogram) => native::quantile(q, histogram, notes),
                HistogramInput::Classic(buckets) => {
                    let (value, forced) = bucket_quantile(q, buckets);
                    if let Some(forced) = forced {
                        let (name, at_ms) =
                            (self.query.late_name(at.labels), operator.steps.eval(step));
                        self.query.annotate().forced_monotonicity(
                            operator.span,
                            &name,
                            at_ms,
                            forced,
                        );
                    }
                    value
                }
            };
            let quantile = match &operator.statistic {
                Statistic::Quantiles { label } => Some((label.as_slice(), q)),
                _ => None,
            };
            self.out.set(at, AskedStatistic { param, quantile }, value)?;
        }
        Ok(())
    }
}

/// The rows of the result, by the histogram's labels and the quantile as bits.
struct StatisticOutput<'a> {
    inputs: &'a Inputs,
    memory: MemoryReservation,
    rows: Rows,
    labels: Vec<Labels>,
    row_of: HashMap<(Labels, Option<u64>), usize>,
    /// For the histogram being evaluated: per parameter, the quantile at the step before and its
    /// row.
    latest: Vec<(Option<u64>, usize)>,
}

impl StatisticOutput<'_> {
    fn new(inputs: &Inputs, steps: usize) -> StatisticOutput<'_> {
        let (labels, row_of, latest) = (Vec::new(), HashMap::new(), Vec::new());
        let memory = inputs.reserve("statistics of histograms");
        StatisticOutput { inputs, memory, rows: Rows::new(steps), labels, row_of, latest }
    }

    /// The row of a histogram and a quantile.
    fn row(&mut self, at: HistogramAt<'_>, asked: AskedStatistic<'_>) -> Result<usize> {
        let key = (at.labels.clone(), asked.quantile.map(|(_, q)| bits(q)));
        if let Some(row) = self.row_of.get(&key) {
            return Ok(*row);
        }
        let row = self.fresh_row(at, asked)?;
        self.row_of.insert(key, row);
        Ok(row)
    }

    fn fresh_row(&mut self, at: HistogramAt<'_>, asked: AskedStatistic<'_>) -> Result<usize> {
        self.memory.try_grow(self.rows.steps * 8)?;
        self.inputs.charge_labels(at.labels.as_packed().len())?;
        let (kept, flag) = self.inputs.query.drop_name(at.labels);
        self.labels.push(match asked.quantile {
            Some((label, q)) => kept.with(label, open_metrics(q)),
            None => kept,
        });
        self.rows.push_empty(0, flag || at.drop_name);
        Ok(self.labels.len() - 1)
    }

    fn set(&mut self, at: HistogramAt<'_>, asked: AskedStatistic<'_>, value: f64) -> Result<()> {
        let quantile = asked.quantile.map(|(_, q)| bits(q));
        let mut row = match self.latest.get(asked.param) {
            Some((latest, row)) if *latest == quantile => *row,
            _ => {
                let row = self.row(at, asked)?;
                self.latest.truncate(asked.param);
                self.latest.push((quantile, row));
                row
            }
        };
        if self.rows.is_present(row, at.step) {
            // equal labels at a single step are noticed when names are dropped, if that is at the
            // end
            if !(self.inputs.query.delayed_name_removal && self.rows.steps == 1) {
                return Err(execution(SAME_LABELSET));
            }
            row = self.fresh_row(at, asked)?;
        }
        self.rows.row_mut(row).set(at.step, value);
        Ok(())
    }
}

/// A quantile as a key; both zeros are printed alike.
fn bits(q: f64) -> u64 {
    (q + 0.0).to_bits()
}

/// Whether a step of a row is a float.
fn is_float(rows: &Rows, row: usize, step: usize) -> bool {
    rows.is_present(row, step) && rows.histogram(row, step).is_none()
}

impl Operator for HistogramStatistic {
    fn name(&self) -> &'static str {
        "HistogramStatistic"
    }

    fn detail(&self) -> String {
        format!("{:?}", self.statistic)
    }

    fn steps(&self) -> usize {
        self.steps.count
    }

    fn run(self: Arc<Self>, _: usize, inputs: Inputs) -> Result<RowStream> {
        Ok(once(async move {
            let memory = inputs.reserve("histogram statistic");
            let rows = inputs.collect(0, self.steps.count, &memory).await?;
            let params = inputs.scalars(1, &OnceCell::new()).await?;
            inputs.query.work(|interrupt| {
                self.evaluate(StatisticInput {
                    inputs: &inputs,
                    rows: &rows,
                    params: &params,
                    interrupt,
                })
            })
        }))
    }
}
