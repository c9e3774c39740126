//! `topk` and `bottomk`: rows that are among the best of their group, with only the steps at which they are.

use std::sync::Arc;

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::Result;
use promql::kernels::order::Best;
use tokio::sync::OnceCell;

use super::aggregate::group_rows;
use super::groups::Grouping;
use super::map::without_empty;
use crate::batch::Rows;
use crate::context::execution;
use crate::exec::{BatchStream, Inputs, Operator, once};

/// Input 1 is k. At a single step rows come out best first within their group.
#[derive(Debug)]
pub(crate) struct SelectK {
    pub(crate) bottom: bool,
    pub(crate) grouping: Grouping,
    pub(crate) steps: usize,
}

impl SelectK {
    fn select(&self, rows: &Rows, groups: &[Vec<usize>], k: &[usize]) -> Rows {
        let mut present = vec![0u64; rows.present.len()];
        let mut order = Vec::new();
        for members in groups {
            for (step, k) in k.iter().enumerate() {
                let mut best = Best::default();
                for row in members.iter().filter(|row| rows.is_present(**row, step)) {
                    best.offer(*k, self.bottom, rows.values(*row)[step], *row as u32);
                }
                for row in best.rows() {
                    present[row as usize * rows.words() + step / 64] |= 1 << (step % 64);
                    if self.steps == 1 {
                        order.push(row as usize);
                    }
                }
            }
        }
        if self.steps > 1 {
            order.extend(0..rows.len());
        }
        let mut out = Rows::new(self.steps);
        for row in order {
            out.push_row(rows, row);
            let (at, words) = (out.len() - 1, rows.words());
            out.row_mut(at).1.copy_from_slice(&present[row * words..(row + 1) * words]);
        }
        without_empty(out)
    }
}

/// k as a whole number; what is below 1 selects nothing.
fn whole(k: f64) -> Result<usize> {
    if k.is_nan() {
        return Err(execution("Parameter value is NaN"));
    }
    if k <= i64::MIN as f64 {
        return Err(execution(format!("Scalar value {k} underflows int64")));
    }
    if k >= i64::MAX as f64 {
        return Err(execution(format!("Scalar value {k} overflows int64")));
    }
    Ok((k as i64).max(0) as usize)
}

impl Operator for SelectK {
    fn name(&self) -> &'static str {
        "SelectK"
    }

    fn detail(&self) -> String {
        if self.bottom { "bottomk" } else { "topk" }.to_owned()
    }

    fn schema(&self) -> SchemaRef {
        Rows::schema(self.steps)
    }

    fn partitions(&self, _: &[usize]) -> usize {
        1
    }

    fn run(self: Arc<Self>, _: usize, inputs: Inputs) -> Result<BatchStream> {
        let schema = self.schema();
        Ok(once(schema, async move {
            let memory = inputs.reserve("topk");
            let rows = inputs.collect(0, self.steps, &memory).await?;
            let k = inputs.scalars(1, &OnceCell::new()).await?.swap_remove(0);
            let k: Vec<usize> = k.into_iter().map(whole).collect::<Result<_>>()?;
            let rows = in_label_order(&inputs, &rows);
            let (groups, members) = group_rows(&inputs, &self.grouping, &rows);
            let ordered: Vec<Vec<usize>> = groups.sorted().into_iter().map(|g| members[g].clone()).collect();
            let out = self.select(&rows, &ordered, &k);
            Ok(if out.is_empty() { Vec::new() } else { vec![out] })
        }))
    }
}

/// Rows sorted by labels, so that ties fall the same way every time.
fn in_label_order(inputs: &Inputs, rows: &Rows) -> Rows {
    let labels = inputs.query.labels_of(rows);
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.sort_by(|a, b| labels[*a].cmp(&labels[*b]));
    let mut sorted = Rows::new(rows.steps);
    for row in order {
        sorted.push_row(rows, row);
    }
    sorted
}
