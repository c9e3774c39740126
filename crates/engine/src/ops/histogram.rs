//! `histogram_quantile`, `histogram_quantiles` and `histogram_fraction`, over classic buckets and native histograms.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::common::Result;
use model::{FloatHistogram, Labels};
use promql::ast::Span;
use promql::kernels::format::open_metrics;
use promql::kernels::histogram::{Bucket, bucket_fraction, bucket_quantile};
use promql::kernels::native;
use promql::kernels::notes::{Note, Notes};
use promql::kernels::window::Steps;
use tokio::sync::OnceCell;

use super::distinct::SAME_LABELSET;
use super::map::relabel;
use crate::batch::{RowStream, Rows};
use crate::error::execution;
use crate::exec::{Inputs, Operator, once};

/// What is computed of each histogram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Statistic {
    /// One parameter, φ.
    Quantile,
    /// As many series as there are parameters; the label says which φ.
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

/// A classic histogram: upper bound and row of its buckets, and the row of the native histogram with its labels.
struct Classic {
    labels: Labels,
    buckets: Vec<(f64, usize)>,
    native: Option<usize>,
}

/// What is evaluated at one step.
enum Input<'a> {
    Native(&'a FloatHistogram),
    Classic(&'a mut Vec<Bucket>),
}

/// The rows of the result, by the histogram's labels and the quantile as bits.
#[derive(Default)]
struct Output {
    rows: Rows,
    labels: Vec<Labels>,
    row_of: HashMap<(Labels, Option<u64>), usize>,
    /// Of the histogram being evaluated, for each parameter the quantile at the step before and its row.
    latest: Vec<(Option<u64>, usize)>,
}

impl HistogramStatistic {
    fn classics(&self, inputs: &Inputs, rows: &Rows, labels: &[Labels]) -> Vec<Classic> {
        let mut found: HashMap<Labels, usize> = HashMap::new();
        let mut classics: Vec<Classic> = Vec::new();
        for (row, labels) in labels.iter().enumerate() {
            if !rows.has_floats(row) {
                continue;
            }
            let le = String::from_utf8_lossy(labels.get("le").unwrap_or_default()).into_owned();
            let Ok(upper) = le.parse::<f64>() else {
                let name = inputs.query.late_name(labels);
                inputs.query.annotate().bad_bucket_label(&inputs.query.text, self.span, (&name, &le));
                continue;
            };
            let rest = labels.without(&["le"]);
            let at = *found.entry(rest).or_insert_with_key(|rest| {
                classics.push(Classic { labels: rest.clone(), buckets: Vec::new(), native: None });
                classics.len() - 1
            });
            classics[at].buckets.push((upper, row));
        }
        for (row, labels) in labels.iter().enumerate().filter(|(row, _)| rows.histograms(*row).is_some()) {
            if let Some(at) = found.get(labels) {
                classics[*at].native = Some(row);
            }
        }
        classics
    }

    fn evaluate(&self, inputs: &Inputs, rows: &Rows, params: &[Vec<f64>]) -> Result<Rows> {
        let labels = inputs.query.labels_of(rows);
        self.check_quantiles(inputs, params);
        let mut classics = self.classics(inputs, rows, &labels);
        let mut out = Output { rows: Rows::new(self.steps.count), ..Output::default() };
        let classic_of: HashMap<usize, usize> =
            classics.iter().enumerate().filter_map(|(i, classic)| Some((classic.native?, i))).collect();
        for (row, labels) in labels.iter().enumerate().filter(|(row, _)| rows.histograms(*row).is_some()) {
            inputs.query.check_alive()?;
            out.latest.clear();
            let beside = classic_of.get(&row).map(|i| &classics[*i]);
            let (mut notes, name) = (Notes::default(), inputs.query.late_name(labels));
            for k in rows.present(row) {
                let Some(histogram) = rows.histogram(row, k) else { continue };
                if beside.is_some_and(|c| c.buckets.iter().any(|(_, bucket)| is_float(rows, *bucket, k))) {
                    notes.push(Note::MixedClassicAndNative);
                    continue;
                }
                let at = (labels, k, rows.drop_name[row]);
                self.step(inputs, at, (Input::Native(histogram), params), (&mut notes, &mut out))?;
            }
            inputs.query.note(&notes, self.span, &name);
        }
        let mut buckets = Vec::new();
        for classic in &mut classics {
            inputs.query.check_alive()?;
            out.latest.clear();
            for k in 0..self.steps.count {
                if classic.native.is_some_and(|row| rows.histogram(row, k).is_some()) {
                    continue;
                }
                buckets.clear();
                let there = classic.buckets.iter().filter(|(_, row)| is_float(rows, *row, k));
                buckets.extend(there.map(|(upper, row)| Bucket { upper: *upper, count: rows.values(*row)[k] }));
                if !buckets.is_empty() {
                    let at = (&classic.labels, k, false);
                    let input = Input::Classic(&mut buckets);
                    self.step(inputs, at, (input, params), (&mut Notes::default(), &mut out))?;
                }
            }
        }
        relabel(&inputs.query, &mut out.rows, out.labels);
        Ok(out.rows)
    }

    fn check_quantiles(&self, inputs: &Inputs, params: &[Vec<f64>]) {
        if self.statistic == Statistic::Fraction {
            return;
        }
        for (values, span) in params.iter().zip(&self.param_spans) {
            for bad in values.iter().filter(|q| !(0.0..=1.0).contains(*q)) {
                inputs.query.annotate().bad_quantile(&inputs.query.text, *span, *bad);
            }
        }
    }

    /// Evaluates one histogram at one step into the rows of its labels.
    fn step(
        &self,
        inputs: &Inputs,
        (labels, k, drop_name): (&Labels, usize, bool),
        (mut input, params): (Input<'_>, &[Vec<f64>]),
        (notes, out): (&mut Notes, &mut Output),
    ) -> Result<()> {
        if self.statistic == Statistic::Fraction {
            let (lower, upper) = (params[0][k], params[1][k]);
            let value = match input {
                Input::Native(histogram) => native::fraction(lower, upper, histogram, notes),
                Input::Classic(buckets) => bucket_fraction(lower, upper, buckets),
            };
            return out.set(inputs, (labels, None, drop_name), (0, k), value);
        }
        for (param, q) in params.iter().map(|values| values[k]).enumerate() {
            let value = match &mut input {
                Input::Native(histogram) => native::quantile(q, histogram, notes),
                Input::Classic(buckets) => {
                    let (value, forced) = bucket_quantile(q, buckets);
                    if let Some(forced) = forced {
                        let (name, at_ms) = (inputs.query.late_name(labels), self.steps.eval(k));
                        inputs.query.annotate().forced_monotonicity(self.span, &name, at_ms, forced);
                    }
                    value
                }
            };
            let which = match &self.statistic {
                Statistic::Quantiles { label } => Some((label.as_slice(), q)),
                _ => None,
            };
            out.set(inputs, (labels, which, drop_name), (param, k), value)?;
        }
        Ok(())
    }
}

impl Output {
    /// The row of a histogram and a quantile.
    fn row(&mut self, inputs: &Inputs, labelled: (&Labels, Option<(&[u8], f64)>, bool)) -> usize {
        let key = (labelled.0.clone(), labelled.1.map(|(_, q)| bits(q)));
        match self.row_of.get(&key) {
            Some(row) => *row,
            None => {
                let row = self.fresh_row(inputs, labelled);
                self.row_of.insert(key, row);
                row
            }
        }
    }

    fn fresh_row(
        &mut self,
        inputs: &Inputs,
        (labels, which, drop_name): (&Labels, Option<(&[u8], f64)>, bool),
    ) -> usize {
        let (kept, flag) = inputs.query.drop_name(labels);
        self.labels.push(match which {
            Some((label, q)) => kept.with(label, open_metrics(q)),
            None => kept,
        });
        self.rows.push_empty(0, flag || drop_name);
        self.labels.len() - 1
    }

    fn set(
        &mut self,
        inputs: &Inputs,
        labelled: (&Labels, Option<(&[u8], f64)>, bool),
        (param, step): (usize, usize),
        value: f64,
    ) -> Result<()> {
        let quantile = labelled.1.map(|(_, q)| bits(q));
        let mut row = match self.latest.get(param) {
            Some((latest, row)) if *latest == quantile => *row,
            _ => {
                let row = self.row(inputs, labelled);
                self.latest.truncate(param);
                self.latest.push((quantile, row));
                row
            }
        };
        if self.rows.is_present(row, step) {
            // equal labels at a single step are found out about when names are dropped, if that is at the end
            if !(inputs.query.delayed_name_removal && self.rows.steps == 1) {
                return Err(execution(SAME_LABELSET));
            }
            row = self.fresh_row(inputs, labelled);
        }
        self.rows.row_mut(row).set(step, value);
        Ok(())
    }
}

/// A quantile as a key; both zeros print alike.
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
            self.evaluate(&inputs, &rows, &params)
        }))
    }
}
