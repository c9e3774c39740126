//! Functions of one row at a time: arithmetic with scalars, mathematics, labels.

use std::sync::Arc;

use datafusion_common::{DataFusionError, Result};
use futures::{StreamExt, TryStreamExt};
use model::FloatHistogram;
use promql::ast::{BinaryOp, Span};
use promql::kernels::binary::{arithmetic, changes_metric, compare, is_trim};
use promql::kernels::interrupt::Interrupt;
use promql::kernels::mixed::histogram_units;
use promql::kernels::native::{self, ComputedValue, Operand};
use promql::kernels::notes::Notes;
use promql::kernels::steps::WORD_STEPS;
use promql::kernels::window::Steps;
use promql::kernels::{FloatColumn, labels, math};
use tokio::sync::OnceCell;

use super::groups::{GROUPING_UNITS, grouping_units};
use crate::batch::{RowStream, Rows};
use crate::context::{Check, QueryContext};
use crate::error::execution;
use crate::exec::{Inputs, Operator};

/// This many values are changed before the interrupt is asked.
const VALUES_AT_ONCE: usize = 4096;

/// What happens to a row. Scalars come as further inputs.
#[derive(Clone, Debug)]
pub(crate) enum MapFunction {
    /// A function of a float.
    Each(Named<fn(f64) -> f64>),
    /// A function of a native histogram; floats have no result.
    Histogram(Named<fn(&FloatHistogram) -> f64>),
    Negate,
    /// Leaves histograms out.
    FloatsOnly,
    /// The time of evaluation in seconds.
    EvaluationTime,
    /// Rounds to the nearest multiple of the scalar.
    Round,
    /// Limits to what is between the two scalars.
    Clamp,
    ClampMin,
    ClampMax,
    /// A binary operator with a scalar on one side.
    Binary(ScalarBinary),
    Replace(labels::LabelReplace),
    Join(labels::LabelJoin),
}

/// A function and its name in the query.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Named<F> {
    pub(crate) name: &'static str,
    pub(crate) function: F,
}

/// A binary operator one of whose sides is a scalar.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ScalarBinary {
    pub(crate) op: BinaryOp,
    pub(crate) return_bool: bool,
    pub(crate) scalar_left: bool,
    pub(crate) span: Span,
}

impl MapFunction {
    /// Whether the metric name is dropped.
    fn drops_name(&self) -> bool {
        match self {
            MapFunction::Binary(binary) => binary.return_bool || changes_metric(binary.op),
            MapFunction::Replace(_) | MapFunction::Join(_) | MapFunction::FloatsOnly => false,
            _ => true,
        }
    }
}

/// Applies a function to every row.
#[derive(Debug)]
pub(crate) struct Map {
    pub(crate) function: MapFunction,
    pub(crate) steps: Steps,
    params: OnceCell<Vec<Vec<f64>>>,
}

impl Map {
    pub(crate) fn new(function: MapFunction, steps: Steps) -> Map {
        Map { function, steps, params: OnceCell::new() }
    }

    fn apply(&self, inputs: &Inputs, rows: Rows, params: &[Vec<f64>]) -> Result<Rows> {
        let query = &inputs.query;
        query.work(|interrupt| {
            let mut rows = without_empty(self.values(query, rows, params, interrupt));
            match &self.function {
                MapFunction::Replace(_) | MapFunction::Join(_) => {
                    self.labels(inputs, &mut rows, interrupt)?;
                }
                function if function.drops_name() => drop_names(inputs, &mut rows, interrupt)?,
                _ => {}
            }
            Ok(rows)
        })
    }

    fn values(
        &self,
        query: &QueryContext,
        mut rows: Rows,
        params: &[Vec<f64>],
        interrupt: &Interrupt<'_>,
    ) -> Rows {
        match &self.function {
            MapFunction::Replace(_) | MapFunction::Join(_) => return rows,
            MapFunction::Histogram(f) => return of_histograms(rows, f.function, interrupt),
            MapFunction::Binary(binary) => return binary.apply(query, rows, &params[0], interrupt),
            MapFunction::EvaluationTime => {
                rows.forget_histograms();
                for row in 0..rows.len() {
                    let values = rows.row_mut(row).values;
                    values
                        .iter_mut()
                        .enumerate()
                        .for_each(|(k, v)| *v = self.steps.eval(k) as f64 / 1000.0);
                }
                return rows;
            }
            MapFunction::Negate => {
                rows.values.iter_mut().for_each(|v| *v = -*v);
                rows.map_histograms(|h| {
                    // no row is looked at after a stop
                    interrupt.after(histogram_units(h));
                    Arc::new(native::negate(h))
                });
                return rows;
            }
            _ => {}
        }
        rows.drop_histograms();
        match &self.function {
            MapFunction::Each(Named { function, .. }) => {
                for values in rows.values.chunks_mut(VALUES_AT_ONCE) {
                    if interrupt.after(8 * values.len()) {
                        break;
                    }
                    values.iter_mut().for_each(|v| *v = function(*v));
                }
            }
            MapFunction::Round => each(&mut rows, |k, v| math::round(v, params[0][k])),
            MapFunction::ClampMin => each(&mut rows, |k, v| math::max(params[0][k], v)),
            MapFunction::ClampMax => each(&mut rows, |k, v| math::min(params[0][k], v)),
            MapFunction::Clamp => {
                each(&mut rows, |k, v| math::max(params[0][k], math::min(params[1][k], v)));
                // A range without numbers holds nothing.
                retain(&mut rows, |k, _| {
                    let is_empty = params[1][k] < params[0][k];
                    !is_empty
                });
            }
            _ => {}
        }
        rows
    }

    fn labels(&self, inputs: &Inputs, rows: &mut Rows, interrupt: &Interrupt<'_>) -> Result<()> {
        let mut fresh = Vec::with_capacity(rows.len());
        for (row, labels) in inputs.query.labels_of(rows).into_iter().enumerate() {
            // the value is looked at, perhaps by a regex
            interrupt.check(GROUPING_UNITS + 32 * labels.as_packed().len())?;
            let (changed, writes_name) = match &self.function {
                MapFunction::Replace(replace) => {
                    (replace.apply(&labels).map_err(execution)?, replace.writes_name())
                }
                MapFunction::Join(join) => (Some(join.apply(&labels)), join.writes_name()),
                _ => (None, false),
            };
            let Some(changed) = changed else {
                fresh.push(labels.clone());
                continue;
            };
            inputs.charge_labels(changed.bytes())?;
            interrupt.check(changed.bytes())?;
            if writes_name {
                // The name was given on purpose and is not dropped at the end.
                rows.drop_name[row] = false;
            }
            fresh.push(changed.build());
        }
        relabel(&inputs.query, rows, fresh);
        Ok(())
    }
}

/// Gives the rows new labels.
pub(crate) fn relabel(query: &QueryContext, rows: &mut Rows, labels: Vec<model::Labels>) {
    let first = query.add_labels(labels);
    for (i, id) in rows.series.iter_mut().enumerate() {
        *id = first + i as u32;
    }
}

fn drop_names(inputs: &Inputs, rows: &mut Rows, interrupt: &Interrupt<'_>) -> Result<()> {
    let query = &inputs.query;
    if query.delayed_name_removal {
        rows.drop_name.fill(true);
        return Ok(());
    }
    let mut fresh = Vec::with_capacity(rows.len());
    for labels in query.labels_of(rows) {
        interrupt.check(grouping_units(&labels))?;
        inputs.charge_labels(labels.as_packed().len())?;
        fresh.push(query.drop_name(&labels).0);
    }
    relabel(query, rows, fresh);
    Ok(())
}

fn each(rows: &mut Rows, f: impl Fn(usize, f64) -> f64) {
    for row in 0..rows.len() {
        let values = rows.row_mut(row).values;
        values.iter_mut().enumerate().for_each(|(k, v)| *v = f(k, *v));
    }
}

/// Removes the steps for which `keep` is false.
fn retain(rows: &mut Rows, keep: impl Fn(usize, f64) -> bool) {
    for row in 0..rows.len() {
        let FloatColumn { values, mut present } = rows.row_mut(row);
        present.retain_by_word(|from| {
            let mut kept = 0;
            for (k, v) in values[from..].iter().take(WORD_STEPS).enumerate() {
                kept |= u64::from(keep(from + k, *v)) << k;
            }
            kept
        });
    }
}

/// The floats that a function computes from histograms.
fn of_histograms(rows: Rows, f: fn(&FloatHistogram) -> f64, interrupt: &Interrupt<'_>) -> Rows {
    let mut out = Rows::new(rows.steps);
    for row in (0..rows.len()).filter(|row| rows.histograms(*row).is_some()) {
        out.push_empty(rows.series[row], rows.drop_name[row]);
        let mut column = out.row_mut(out.len() - 1);
        rows.for_each_histogram(row, |k, histogram| {
            if !interrupt.after(histogram_units(histogram)) {
                column.set(k, f(histogram));
            }
        });
    }
    out
}

impl ScalarBinary {
    fn apply(
        self,
        query: &QueryContext,
        mut rows: Rows,
        scalar: &[f64],
        interrupt: &Interrupt<'_>,
    ) -> Rows {
        if rows.has_histograms() || is_trim(self.op) {
            let notes = self.mixed(&mut rows, scalar, interrupt);
            query.note(&notes, self.span, "");
        } else {
            self.floats(&mut rows, scalar);
        }
        rows
    }

    fn floats(self, rows: &mut Rows, scalar: &[f64]) {
        let ScalarBinary { op, return_bool, scalar_left, .. } = self;
        let sides = |k: usize, v: f64| if scalar_left { (scalar[k], v) } else { (v, scalar[k]) };
        if compare(op, 0.0, 0.0).is_none() {
            return match (op, scalar_left) {
                (BinaryOp::Add, _) => each(rows, |k, v| v + scalar[k]),
                (BinaryOp::Mul, _) => each(rows, |k, v| v * scalar[k]),
                (BinaryOp::Sub, false) => each(rows, |k, v| v - scalar[k]),
                (BinaryOp::Div, false) => each(rows, |k, v| v / scalar[k]),
                _ => each(rows, |k, v| {
                    let (a, b) = sides(k, v);
                    arithmetic(op, a, b)
                }),
            };
        }
        let holds = |k: usize, v: f64| {
            let (a, b) = sides(k, v);
            compare(op, a, b).unwrap_or(false)
        };
        if return_bool {
            each(rows, |k, v| f64::from(u8::from(holds(k, v))))
        } else {
            retain(rows, holds)
        }
    }

    /// Step by step, for rows that may hold histograms.
    fn mixed(self, rows: &mut Rows, scalar: &[f64], interrupt: &Interrupt<'_>) -> Notes {
        let mut notes = Notes::default();
        for row in 0..rows.len() {
            for step in rows.present(row).to_set().view() {
                let vector = rows.sample(row, step);
                let units = match vector {
                    Operand::Float(_) => 8,
                    Operand::Histogram(histogram) => histogram_units(histogram),
                };
                if interrupt.after(units) {
                    return notes;
                }
                let scalar = Operand::Float(scalar[step]);
                let (left, right) =
                    if self.scalar_left { (scalar, vector) } else { (vector, scalar) };
                let result = if compare(self.op, 0.0, 0.0).is_none() {
                    native::binary(self.op, left, right, &mut notes)
                } else {
                    match native::compare(self.op, left, right, &mut notes) {
                        Some(holds) if self.return_bool => {
                            Some(ComputedValue::Float(f64::from(u8::from(holds))))
                        }
                        // The vector's value stays, whichever side it is on.
                        Some(true) => Some(vector.into()),
                        _ => None,
                    }
                };
                rows.set_sample(row, step, result);
            }
        }
        notes
    }
}

/// Drops rows that have no value left.
pub(crate) fn without_empty(rows: Rows) -> Rows {
    let empty = |row: usize| rows.present(row).is_empty();
    if !(0..rows.len()).any(empty) {
        return rows;
    }
    let mut kept = Rows::new(rows.steps);
    for row in (0..rows.len()).filter(|row| !empty(*row)) {
        kept.push_row(&rows, row);
    }
    kept
}

impl Operator for Map {
    fn name(&self) -> &'static str {
        "Map"
    }

    fn detail(&self) -> String {
        match &self.function {
            MapFunction::Each(Named { name, .. }) | MapFunction::Histogram(Named { name, .. }) => {
                (*name).to_owned()
            }
            other => format!("{other:?}"),
        }
    }

    fn steps(&self) -> usize {
        self.steps.count
    }

    fn partitions(&self, inputs: &[usize]) -> usize {
        inputs[0]
    }

    fn run(self: Arc<Self>, partition: usize, inputs: Inputs) -> Result<RowStream> {
        let input = inputs.rows(0, partition)?;
        let start = async move {
            let params = inputs.scalars(1, &self.params).await?;
            Ok::<_, DataFusionError>(
                input.and_then(move |rows| std::future::ready(self.apply(&inputs, rows, &params))),
            )
        };
        Ok(futures::stream::once(start).try_flatten().boxed())
    }
}
