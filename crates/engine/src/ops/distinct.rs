//! No two series of a vector have the same labels at the same step.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::common::Result;
use model::Labels;
use promql::kernels::aggregate::for_each_bit;

use crate::batch::Rows;
use crate::context::{METADATA_LABELS, execution};
use crate::exec::{Inputs, Operator, RowStream, once};

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
    /// Carry out the dropping of names that was put off.
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
        Ok(once(async move {
            let memory = inputs.reserve("series");
            let rows = inputs.collect(0, self.steps, &memory).await?;
            let mut labels = inputs.query.labels_of(&rows);
            if self.drop_names {
                for (_, labels) in labels.iter_mut().enumerate().filter(|(row, _)| rows.drop_name[*row]) {
                    *labels = labels.without(&METADATA_LABELS);
                }
            }
            let mut rows = merge_equal(rows, &labels, self.equal)?;
            if self.drop_names {
                let kept = std::mem::take(&mut rows.1);
                super::map::relabel(&inputs.query, &mut rows.0, kept.iter().map(|r| labels[*r].clone()).collect());
                rows.0.drop_name.fill(false);
            }
            Ok(rows.0)
        }))
    }
}

/// Merges rows with equal labels; also says which input row each output row began as.
fn merge_equal(rows: Rows, labels: &[Labels], equal: Equal) -> Result<(Rows, Vec<usize>)> {
    let mut first_of: HashMap<&Labels, usize> = HashMap::with_capacity(labels.len());
    let mut target = Vec::with_capacity(labels.len());
    for (row, labels) in labels.iter().enumerate() {
        target.push(*first_of.entry(labels).or_insert(row));
    }
    if target.iter().enumerate().all(|(row, to)| row == *to) {
        let all = (0..rows.len()).collect();
        return Ok((rows, all));
    }
    if equal == Equal::Never {
        return Err(execution(SAME_LABELSET));
    }
    let mut out = Rows::new(rows.steps);
    let mut kept = Vec::new();
    let mut place = vec![0; rows.len()];
    for (row, to) in target.iter().enumerate() {
        if row == *to {
            place[row] = out.len();
            out.push_row(&rows, row);
            kept.push(row);
            continue;
        }
        // whether the name goes is decided by what comes first
        if first_step(&rows, row) < first_step(&out, place[*to]) {
            out.drop_name[place[*to]] = rows.drop_name[row];
        }
        for (word, bits) in rows.present(row).iter().enumerate() {
            if out.present(place[*to])[word] & bits != 0 {
                return Err(execution(SAME_LABELSET));
            }
            for_each_bit(*bits, |k| out.copy_step(place[*to], &rows, row, word * 64 + k));
        }
    }
    Ok((out, kept))
}

fn first_step(rows: &Rows, row: usize) -> Option<usize> {
    let present = rows.present(row);
    let word = present.iter().position(|bits| *bits != 0)?;
    Some(word * 64 + present[word].trailing_zeros() as usize)
}
