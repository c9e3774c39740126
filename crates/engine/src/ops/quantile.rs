//! `quantile`, which needs all values of a group at a step.

use std::sync::Arc;

use datafusion_common::Result;
use datafusion_execution::memory_pool::MemoryReservation;
use promql::ast::Span;
use promql::kernels::interrupt::{Interrupt, sort};
use promql::kernels::over_time::{order, quantile_of_sorted};
use tokio::sync::OnceCell;

use super::groups::{Grouping, OfFloats, extremes, group_rows, ignore_histograms};
use super::map::without_empty;
use crate::batch::{RowStream, Rows};
use crate::context::{Check, QueryContext};
use crate::exec::{Inputs, Operator, once};

/// `quantile`: input 1 is φ.
#[derive(Debug)]
pub(crate) struct Quantile {
    pub(crate) grouping: Grouping,
    pub(crate) steps: usize,
    /// What is aggregated.
    pub(crate) span: Span,
    pub(crate) param_span: Span,
}

impl Operator for Quantile {
    fn name(&self) -> &'static str {
        "Quantile"
    }

    fn steps(&self) -> usize {
        self.steps
    }

    fn run(self: Arc<Self>, _: usize, inputs: Inputs) -> Result<RowStream> {
        Ok(once(async move {
            let memory = inputs.reserve("quantile");
            let mut rows = inputs.collect(0, self.steps, &memory).await?;
            ignore_histograms(
                &inputs.query,
                &mut rows,
                OfFloats { name: "quantile", span: self.span },
            );
            let rows = without_empty(rows);
            let q = inputs.scalars(1, &OnceCell::new()).await?.swap_remove(0);
            let (lowest, highest) = extremes(&q);
            let judged = [
                (f64::NAN, q.iter().any(|q| q.is_nan())),
                (lowest, lowest < 0.0),
                (highest, highest > 1.0),
            ];
            for (bad, _) in judged.into_iter().filter(|(_, is_bad)| *is_bad) {
                inputs.query.annotate().bad_quantile(self.param_span, bad);
            }
            inputs.query.work(|interrupt| {
                let of = QuantileInput { rows: &rows, q: &q, memory: &memory };
                self.evaluate(of, &inputs.query, interrupt)
            })
        }))
    }
}

/// The rows whose quantiles are wanted, and φ by step.
struct QuantileInput<'a> {
    rows: &'a Rows,
    q: &'a [f64],
    memory: &'a MemoryReservation,
}

impl Quantile {
    fn evaluate(
        &self,
        of: QuantileInput<'_>,
        query: &QueryContext,
        interrupt: &Interrupt<'_>,
    ) -> Result<Rows> {
        let QuantileInput { rows, q, memory } = of;
        let (groups, members) = group_rows(query, &self.grouping, rows, interrupt)?;
        let order_of_groups = groups.sorted(interrupt);
        let first = query.add_labels(order_of_groups.iter().map(|g| groups.labels[*g].clone()));
        let mut out = Rows::new(self.steps);
        let mut sorted = Vec::new();
        for (i, group) in order_of_groups.iter().enumerate() {
            memory.try_grow(self.steps * 8)?;
            out.push_empty(first + i as u32, groups.drop_name[*group]);
            for (k, q) in q.iter().enumerate() {
                // each of them lies in a line of the cache that is not there yet
                interrupt.check(1 + 8 * members[*group].len())?;
                sorted.clear();
                let there = members[*group].iter().filter(|row| rows.is_present(**row, k));
                sorted.extend(there.map(|row| rows.values(*row)[k]));
                if !sorted.is_empty() {
                    sort(&mut sorted, order, interrupt);
                    out.row_mut(i).set(k, quantile_of_sorted(*q, &sorted));
                }
            }
        }
        Ok(out)
    }
}
