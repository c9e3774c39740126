//! Scalars: numbers, the time, the value of a vector of one row, and what is the same at every
//! step.

use std::sync::Arc;

use datafusion_common::Result;
use futures::{StreamExt, TryStreamExt};
use model::Labels;
use promql::kernels::FloatColumn;
use promql::kernels::window::Steps;

use crate::batch::{RowStream, Rows};
use crate::context::Check;
use crate::exec::{Inputs, Operator, once};

/// One row without labels: a number, or the time in seconds.
#[derive(Debug)]
pub(crate) struct ScalarSource {
    pub(crate) steps: Steps,
    /// `None` is `time()`.
    pub(crate) value: Option<f64>,
}

impl Operator for ScalarSource {
    fn name(&self) -> &'static str {
        "Source"
    }

    fn detail(&self) -> String {
        self.value.map_or_else(|| "time".to_owned(), |v| v.to_string())
    }

    fn steps(&self) -> usize {
        self.steps.count
    }

    fn run(self: Arc<Self>, _: usize, inputs: Inputs) -> Result<RowStream> {
        Ok(once(async move {
            // a subquery may have millions of steps
            let memory = inputs.reserve("numbers");
            memory.try_grow(self.steps.count * 8)?;
            let mut rows = Rows::new(self.steps.count);
            rows.push_empty(inputs.query.add_labels([Labels::empty()]), false);
            let FloatColumn { values, mut present } = rows.row_mut(0);
            present.fill(self.steps.count);
            inputs.query.work(|interrupt| {
                for (k, value) in values.iter_mut().enumerate() {
                    interrupt.check(1)?;
                    *value = self.value.unwrap_or_else(|| self.steps.eval(k) as f64 / 1000.0);
                }
                Ok(())
            })?;
            Ok(rows)
        }))
    }
}

/// No rows.
#[derive(Debug)]
pub(crate) struct Empty {
    pub(crate) steps: usize,
}

impl Operator for Empty {
    fn name(&self) -> &'static str {
        "Empty"
    }

    fn steps(&self) -> usize {
        self.steps
    }

    fn run(self: Arc<Self>, _: usize, _: Inputs) -> Result<RowStream> {
        Ok(futures::stream::empty().boxed())
    }
}

/// `scalar`: the value of the only row at a step, else NaN.
#[derive(Debug)]
pub(crate) struct Scalar {
    pub(crate) steps: usize,
}

impl Operator for Scalar {
    fn name(&self) -> &'static str {
        "Scalar"
    }

    fn steps(&self) -> usize {
        self.steps
    }

    fn run(self: Arc<Self>, _: usize, inputs: Inputs) -> Result<RowStream> {
        Ok(once(async move {
            let memory = inputs.reserve("scalar");
            let mut input = inputs.collect(0, self.steps, &memory).await?;
            input.drop_histograms();
            let mut rows = Rows::new(self.steps);
            rows.push_empty(inputs.query.add_labels([Labels::empty()]), false);
            let FloatColumn { values, mut present } = rows.row_mut(0);
            present.fill(self.steps);
            inputs.query.work(|interrupt| {
                for (k, value) in values.iter_mut().enumerate() {
                    interrupt.check(1 + 4 * input.len())?;
                    let mut there = (0..input.len()).filter(|row| input.is_present(*row, k));
                    *value = match (there.next(), there.next()) {
                        (Some(row), None) => input.values(row)[k],
                        _ => f64::NAN,
                    };
                }
                Ok(())
            })?;
            Ok(rows)
        }))
    }
}

/// What does not depend on the step is computed at one step and repeated.
#[derive(Debug)]
pub(crate) struct Repeat {
    pub(crate) steps: usize,
}

impl Operator for Repeat {
    fn name(&self) -> &'static str {
        "Repeat"
    }

    fn steps(&self) -> usize {
        self.steps
    }

    fn partitions(&self, inputs: &[usize]) -> usize {
        inputs[0]
    }

    fn run(self: Arc<Self>, partition: usize, inputs: Inputs) -> Result<RowStream> {
        let input = inputs.rows(0, partition)?;
        let repeated = input.map_ok(move |rows| {
            let (operator, inputs) = (Arc::clone(&self), inputs.clone());
            // a batch of one step has as many rows as many batches of all steps
            let parts =
                futures::stream::iter((0..rows.len()).step_by(Rows::target_rows(self.steps)));
            parts.map(move |from| operator.part(&rows, from, &inputs))
        });
        Ok(repeated.try_flatten().boxed())
    }
}

impl Repeat {
    /// As many rows as a batch has, from this one on.
    fn part(&self, rows: &Rows, from: usize, inputs: &Inputs) -> Result<Rows> {
        let memory = inputs.reserve("repeated values");
        inputs.query.work(|interrupt| {
            let mut out = Rows::new(self.steps);
            let end = rows.len().min(from + Rows::target_rows(self.steps));
            for row in (from..end).filter(|row| rows.is_present(*row, 0)) {
                interrupt.check(self.steps)?;
                memory.try_grow(self.steps * 8)?;
                out.push_empty(rows.series[row], rows.drop_name[row]);
                let at = out.len() - 1;
                let FloatColumn { values, mut present } = out.row_mut(at);
                values.fill(rows.values(row)[0]);
                present.fill(self.steps);
                if let Some(histogram) = rows.histogram(row, 0) {
                    out.mixed_mut(at).histograms.fill(Some(Arc::clone(histogram)));
                }
            }
            Ok(out)
        })
    }
}
