//! No two series of a vector have the same labels at the same step.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion_common::Result;
use futures::{StreamExt, TryStreamExt};
use model::Labels;
use promql::kernels::interrupt::Interrupt;

use super::groups::grouping_units;
use crate::batch::{RowStream, Rows};
use crate::context::{Check, METADATA_LABELS};
use crate::error::execution;
use crate::exec::{Inputs, Operator};

pub(crate) const SAME_LABELSET: &str = "vector cannot contain metrics with the same labelset";

/// When two series may have the same labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Equal {
    /// As long as they have no value at the same step; they become one.
    AtOtherSteps,
    /// Never, as for functions over ranges.
    Never,
}

/// Makes one row of rows with the same labels; an error where they may not have them.
#[derive(Debug)]
pub(crate) struct Distinct {
    pub(crate) steps: usize,
    /// Drop the names that were marked to be dropped.
    pub(crate) drop_names: bool,
    pub(crate) equal: Equal,
}

impl Operator for Distinct {
    fn name(&self) -> &'static str {
        "Distinct"
    }

    fn steps(&self) -> usize {
        self.steps
    }

    fn run(self: Arc<Self>, _: usize, inputs: Inputs) -> Result<RowStream> {
        let batches = futures::stream::once(async move { self.batches(inputs).await });
        Ok(batches
            .map_ok(|batches| futures::stream::iter(batches.into_iter().map(Ok)))
            .try_flatten()
            .boxed())
    }
}

impl Distinct {
    /// All rows, in the batches they came in where no two have the same labels.
    async fn batches(&self, inputs: Inputs) -> Result<Vec<Rows>> {
        let memory = inputs.reserve("series");
        let batches = inputs.collect_batches(0, &memory).await?;
        inputs.query.work(|interrupt| self.distinct(batches, &inputs, interrupt))
    }

    fn distinct(
        &self,
        mut batches: Vec<Rows>,
        inputs: &Inputs,
        interrupt: &Interrupt<'_>,
    ) -> Result<Vec<Rows>> {
        let query = &inputs.query;
        let mut labels: Vec<Labels> =
            batches.iter().flat_map(|rows| query.labels_of(rows)).collect();
        if self.drop_names {
            let dropped = batches.iter().flat_map(|rows| &rows.drop_name);
            for (labels, _) in labels.iter_mut().zip(dropped).filter(|(_, dropped)| **dropped) {
                interrupt.check(grouping_units(labels))?;
                inputs.charge_labels(labels.as_packed().len())?;
                *labels = labels.without(&METADATA_LABELS);
            }
        }
        let target = first_of_equal(&labels, interrupt)?;
        if target.iter().enumerate().any(|(row, to)| row != *to) {
            let rows = Rows::concat(self.steps, batches);
            let targets = EqualRows { first: &target, equal: self.equal };
            let (rows, kept) = merge_equal(rows, targets, interrupt)?;
            labels = kept.into_iter().map(|row| labels[row].clone()).collect();
            batches = vec![rows];
        }
        if self.drop_names {
            let mut labels = labels.into_iter();
            for rows in &mut batches {
                super::map::relabel(query, rows, labels.by_ref().take(rows.len()).collect());
                rows.drop_name.fill(false);
            }
        }
        Ok(batches)
    }
}

/// For each row, the first one that has the same labels.
fn first_of_equal(labels: &[Labels], interrupt: &Interrupt<'_>) -> Result<Vec<usize>> {
    let mut first_of: HashMap<&Labels, usize> = HashMap::with_capacity(labels.len());
    let mut first = Vec::with_capacity(labels.len());
    for (row, labels) in labels.iter().enumerate() {
        interrupt.check(64 + labels.as_packed().len())?;
        first.push(*first_of.entry(labels).or_insert(row));
    }
    Ok(first)
}

/// For each row, the first one that has the same labels, and when that may be.
struct EqualRows<'a> {
    first: &'a [usize],
    equal: Equal,
}

/// Merges rows with equal labels; also returns which input row each output row began as.
fn merge_equal(
    rows: Rows,
    equal: EqualRows<'_>,
    interrupt: &Interrupt<'_>,
) -> Result<(Rows, Vec<usize>)> {
    let EqualRows { first: target, equal } = equal;
    if equal == Equal::Never {
        return Err(execution(SAME_LABELSET));
    }
    let mut out = Rows::new(rows.steps);
    let mut kept = Vec::new();
    let mut place = vec![0; rows.len()];
    for (row, to) in target.iter().enumerate() {
        interrupt.check(4 * rows.steps)?;
        if row == *to {
            place[row] = out.len();
            out.push_row(&rows, row);
            kept.push(row);
            continue;
        }
        // the earliest value decides whether the name is dropped
        if rows.present(row).first() < out.present(place[*to]).first() {
            out.drop_name[place[*to]] = rows.drop_name[row];
        }
        if out.present(place[*to]).overlaps(rows.present(row)) {
            return Err(execution(SAME_LABELSET));
        }
        rows.present(row).for_each(|step| out.copy_step(place[*to], &rows, row, step));
    }
    Ok((out, kept))
}
