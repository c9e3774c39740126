//! Functions of one row at a time: arithmetic with scalars, mathematics, labels.

use std::sync::Arc;

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::{DataFusionError, Result};
use futures::{StreamExt, TryStreamExt};
use promql::ast::BinaryOp;
use promql::kernels::binary::{arithmetic, compare};
use promql::kernels::window::Steps;
use promql::kernels::{labels, math};
use tokio::sync::OnceCell;

use crate::batch::Rows;
use crate::context::QueryContext;
use crate::exec::{BatchStream, Inputs, Operator};

/// What happens to a row. Scalars come as further inputs.
#[derive(Clone, Debug)]
pub(crate) enum MapFunction {
    Each(fn(f64) -> f64),
    /// The time of evaluation in seconds.
    EvaluationTime,
    /// To the nearest multiple of the scalar.
    Round,
    /// Between the two scalars.
    Clamp,
    ClampMin,
    ClampMax,
    /// With a scalar on the right, or on the left.
    Binary {
        op: BinaryOp,
        return_bool: bool,
        scalar_left: bool,
    },
    Replace(labels::Replace),
    Join(labels::Join),
}

impl MapFunction {
    /// Whether the metric name goes away.
    fn drops_name(&self) -> bool {
        match self {
            MapFunction::Binary { op, return_bool, .. } => *return_bool || compare(*op, 0.0, 0.0).is_none(),
            MapFunction::Replace(_) | MapFunction::Join(_) => false,
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

    fn apply(&self, query: &QueryContext, rows: Rows, params: &[Vec<f64>]) -> Rows {
        let mut rows = self.values(rows, params);
        match &self.function {
            MapFunction::Replace(_) | MapFunction::Join(_) => self.labels(query, &mut rows),
            function if function.drops_name() => drop_names(query, &mut rows),
            _ => {}
        }
        rows
    }

    fn values(&self, mut rows: Rows, params: &[Vec<f64>]) -> Rows {
        match &self.function {
            MapFunction::Each(f) => rows.values.iter_mut().for_each(|v| *v = f(*v)),
            MapFunction::EvaluationTime => {
                for row in 0..rows.len() {
                    let (values, _) = rows.row_mut(row);
                    values.iter_mut().enumerate().for_each(|(k, v)| *v = self.steps.eval(k) as f64 / 1000.0);
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
            MapFunction::Binary { op, return_bool, scalar_left } => {
                binary((*op, *return_bool, *scalar_left), &mut rows, &params[0]);
            }
            MapFunction::Replace(_) | MapFunction::Join(_) => {}
        }
        without_empty(rows)
    }

    fn labels(&self, query: &QueryContext, rows: &mut Rows) {
        let mut fresh = Vec::with_capacity(rows.len());
        for (row, labels) in query.labels_of(rows).into_iter().enumerate() {
            let (changed, writes_name) = match &self.function {
                MapFunction::Replace(replace) => (replace.apply(&labels), replace.writes_name()),
                MapFunction::Join(join) => (Some(join.apply(&labels)), join.writes_name()),
                _ => (None, false),
            };
            if changed.is_some() && writes_name {
                // The name was given on purpose and is not dropped at the end.
                rows.drop_name[row] = false;
            }
            fresh.push(changed.unwrap_or(labels));
        }
        relabel(query, rows, fresh);
    }
}

/// Gives the rows new labels.
pub(crate) fn relabel(query: &QueryContext, rows: &mut Rows, labels: Vec<model::Labels>) {
    let first = query.add_labels(labels);
    for (i, id) in rows.series.iter_mut().enumerate() {
        *id = first + i as u32;
    }
}

pub(crate) fn drop_names(query: &QueryContext, rows: &mut Rows) {
    if query.delayed_name_removal {
        rows.drop_name.fill(true);
        return;
    }
    let old = query.labels_of(rows);
    relabel(query, rows, old.iter().map(|l| query.drop_name(l).0).collect());
}

fn each(rows: &mut Rows, f: impl Fn(usize, f64) -> f64) {
    for row in 0..rows.len() {
        let (values, _) = rows.row_mut(row);
        values.iter_mut().enumerate().for_each(|(k, v)| *v = f(k, *v));
    }
}

/// Takes the steps away where `keep` says no.
fn retain(rows: &mut Rows, keep: impl Fn(usize, f64) -> bool) {
    for row in 0..rows.len() {
        let (values, present) = rows.row_mut(row);
        for (word, bits) in present.iter_mut().enumerate() {
            let at = word * 64;
            let mut kept = 0;
            for (k, v) in values[at..].iter().take(64).enumerate() {
                kept |= u64::from(keep(at + k, *v)) << k;
            }
            *bits &= kept;
        }
    }
}

fn binary((op, return_bool, scalar_left): (BinaryOp, bool, bool), rows: &mut Rows, scalar: &[f64]) {
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
    if return_bool { each(rows, |k, v| f64::from(u8::from(holds(k, v)))) } else { retain(rows, holds) }
}

/// Drops rows that have no value left.
pub(crate) fn without_empty(rows: Rows) -> Rows {
    let words = rows.words();
    let empty = |row: usize| rows.present[row * words..(row + 1) * words].iter().all(|w| *w == 0);
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
            MapFunction::Each(_) => "function of a value".to_owned(),
            other => format!("{other:?}"),
        }
    }

    fn schema(&self) -> SchemaRef {
        Rows::schema(self.steps.count)
    }

    fn partitions(&self, inputs: &[usize]) -> usize {
        inputs[0]
    }

    fn run(self: Arc<Self>, partition: usize, inputs: Inputs) -> Result<BatchStream> {
        let schema = self.schema();
        let input = inputs.rows(0, partition)?;
        let start = async move {
            let params = inputs.scalars(1, &self.params).await?;
            Ok::<_, DataFusionError>(input.map_ok(move |rows| self.apply(&inputs.query, rows, &params)))
        };
        let rows = futures::stream::once(start).try_flatten();
        Ok(rows.map(move |rows| rows?.into_batch(Arc::clone(&schema))).boxed())
    }
}
