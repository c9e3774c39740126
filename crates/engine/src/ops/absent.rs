//! `absent` and `absent_over_time`.

use std::sync::Arc;

use datafusion_common::Result;
use futures::TryStreamExt;
use model::Labels;
use promql::kernels::FloatColumn;
use promql::kernels::steps::StepSet;

use crate::batch::{RowStream, Rows};
use crate::exec::{Inputs, Operator, once};

/// `absent`: 1 at the steps where the input has nothing.
#[derive(Debug)]
pub(crate) struct Absent {
    pub(crate) steps: usize,
    pub(crate) labels: Labels,
}

impl Operator for Absent {
    fn name(&self) -> &'static str {
        "Absent"
    }

    fn steps(&self) -> usize {
        self.steps
    }

    fn run(self: Arc<Self>, _: usize, inputs: Inputs) -> Result<RowStream> {
        Ok(once(async move {
            let steps = self.steps;
            let seen = inputs
                .on_partitions(0, |mut input| async move {
                    let mut seen = StepSet::none(steps);
                    while let Some(rows) = input.try_next().await? {
                        for row in 0..rows.len() {
                            seen.add(rows.present(row));
                        }
                    }
                    Ok(seen)
                })
                .await?;
            let mut rows = Rows::new(self.steps);
            rows.push_empty(inputs.query.add_labels([self.labels.clone()]), false);
            let FloatColumn { values, mut present } = rows.row_mut(0);
            values.fill(1.0);
            present.fill(steps);
            seen.iter().for_each(|seen| present.subtract(seen.view()));
            if present.is_empty() {
                rows.pop();
            }
            Ok(rows)
        }))
    }
}
