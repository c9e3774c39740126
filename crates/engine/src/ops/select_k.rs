//! `topk`, `bottomk`, `limitk` and `limit_ratio`: some rows of each group, with only the steps at
//! which they are taken.

use std::sync::Arc;

use datafusion_common::Result;
use datafusion_execution::memory_pool::MemoryReservation;
use model::Labels;
use promql::ast::Span;
use promql::format_float_general;
use promql::kernels::interrupt::{Interrupt, sort};
use promql::kernels::order::Best;
use promql::kernels::steps::StepSets;
use tokio::sync::OnceCell;

use super::groups::{Grouping, OfFloats, extremes, group_rows, ignore_histograms};
use super::map::without_empty;
use crate::batch::{RowStream, Rows};
use crate::context::{Check, QueryContext};
use crate::error::execution;
use crate::exec::{Inputs, Operator, once};

/// Which rows of a group are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RowChoice {
    Largest,
    Smallest,
    /// The first in order of labels.
    First,
    /// Those whose hash falls into a share of all hashes.
    Ratio,
}

/// Input 1 is k, or the ratio. At a single step `topk` and `bottomk` give rows best first within
/// their group.
#[derive(Debug)]
pub(crate) struct SelectK {
    pub(crate) choice: RowChoice,
    /// The whole aggregation.
    pub(crate) span: Span,
    pub(crate) param_span: Span,
    pub(crate) grouping: Grouping,
    pub(crate) steps: usize,
}

impl SelectK {
    fn select(&self, of: Selected<'_>) -> Result<Rows> {
        let Selected { rows, groups, k, memory, interrupt } = of;
        let mut present = StepSets::with_len(self.steps, rows.len());
        let mut order = Vec::new();
        let mut take = |row: usize, step: usize| {
            present.get_mut(row).insert(step);
            if self.steps == 1 {
                order.push(row);
            }
        };
        for members in groups {
            // row by row, because going from row to row at each step would miss the cache every
            // time
            if self.choice == RowChoice::First {
                let mut taken = vec![0; k.len()];
                for row in members {
                    interrupt.check(4 * self.steps)?;
                    rows.present(*row).for_each(|step| {
                        if taken[step] < k[step] {
                            taken[step] += 1;
                            take(*row, step);
                        }
                    });
                }
                continue;
            }
            let bottom = self.choice == RowChoice::Smallest;
            let mut best = vec![Best::default(); k.len()];
            for row in members {
                let (values, mut kept) = (rows.values(*row), 0);
                for step in rows.present(*row) {
                    // what is better than others moves those
                    interrupt.check(4 + best[step].count() / 16)?;
                    kept += usize::from(best[step].count() < k[step]);
                    best[step].offer(k[step], bottom, values[step], *row as u32);
                }
                memory.try_grow(kept * size_of::<(f64, u32)>())?;
            }
            for (step, best) in best.iter().enumerate() {
                interrupt.check(1 + 4 * best.count())?;
                best.rows().for_each(|row| take(row as usize, step));
            }
        }
        if self.steps > 1 {
            order = (0..rows.len()).filter(|row| !present.get(*row).is_empty()).collect();
        }
        masked(rows, &order, &present, interrupt)
    }

    /// The share of the series that a ratio selects; those of `r` and `r - 1` complement each
    /// other.
    fn sample(
        &self,
        query: &QueryContext,
        rows: &Rows,
        ratios: &[f64],
        interrupt: &Interrupt<'_>,
    ) -> Result<Rows> {
        let mut present = StepSets::with_len(self.steps, rows.len());
        let place: Vec<f64> = query
            .labels_of(rows)
            .iter()
            .map(|l| l.length_prefixed_hash64() as f64 / u64::MAX as f64)
            .collect();
        let (lowest, highest) = extremes(ratios);
        if ratios.iter().any(|ratio| ratio.is_nan()) {
            return Err(execution("Ratio value is NaN"));
        }
        for (bad, _) in [(lowest, lowest < -1.0), (highest, highest > 1.0)]
            .into_iter()
            .filter(|(_, is_bad)| *is_bad)
        {
            let (got, cap) = (format_float_general(bad), bad.signum());
            let message =
                format!("ratio value should be between -1 and 1, got {got}, capping to {cap}");
            query.annotate().warn(self.param_span, message);
        }
        for (step, ratio) in ratios.iter().enumerate() {
            let capped = ratio.clamp(-1.0, 1.0);
            interrupt.check(1 + 4 * rows.len())?;
            for (row, place) in place.iter().enumerate() {
                let taken = if capped >= 0.0 { *place < capped } else { *place >= 1.0 + capped };
                if taken && rows.is_present(row, step) {
                    present.get_mut(row).insert(step);
                }
            }
        }
        masked(rows, &(0..rows.len()).collect::<Vec<_>>(), &present, interrupt)
    }
}

/// What the best rows are chosen from.
struct Selected<'a> {
    rows: &'a Rows,
    /// The rows of each group, in order of their labels.
    groups: &'a [Vec<usize>],
    k: &'a [usize],
    memory: &'a MemoryReservation,
    interrupt: &'a Interrupt<'a>,
}

/// The rows in this order with these steps; rows without any step are left out.
fn masked(
    rows: &Rows,
    order: &[usize],
    present: &StepSets,
    interrupt: &Interrupt<'_>,
) -> Result<Rows> {
    let mut out = Rows::new(rows.steps);
    for row in order {
        interrupt.check(1 + rows.steps)?;
        out.push_row(rows, *row);
        out.row_mut(out.len() - 1).present.copy_from(present.get(*row));
    }
    Ok(without_empty(out))
}

/// The k of every step as a whole number, 0 where it selects nothing. One that is out of range
/// matters only if any selects something.
fn whole(ks: &[f64]) -> Result<Vec<usize>> {
    let (min, max) = extremes(ks);
    if max < 1.0 {
        return Ok(vec![0; ks.len()]);
    }
    if ks.iter().any(|k| k.is_nan()) {
        return Err(execution("Parameter value is NaN"));
    }
    if min <= i64::MIN as f64 {
        return Err(execution(format!(
            "Scalar value {} underflows int64",
            format_float_general(min)
        )));
    }
    // the largest float below 2^63
    if max >= 9_223_372_036_854_774_784.0 {
        return Err(execution(format!(
            "Scalar value {} overflows int64",
            format_float_general(max)
        )));
    }
    Ok(ks.iter().map(|k| (*k as i64).max(0) as usize).collect())
}

impl Operator for SelectK {
    fn name(&self) -> &'static str {
        "SelectK"
    }

    fn detail(&self) -> String {
        format!("{:?}", self.choice)
    }

    fn steps(&self) -> usize {
        self.steps
    }

    fn run(self: Arc<Self>, _: usize, inputs: Inputs) -> Result<RowStream> {
        Ok(once(async move {
            let memory = inputs.reserve("topk");
            let mut rows = inputs.collect(0, self.steps, &memory).await?;
            let k = inputs.scalars(1, &OnceCell::new()).await?.swap_remove(0);
            if self.choice == RowChoice::Ratio {
                let query = &inputs.query;
                return query.work(|interrupt| self.sample(query, &rows, &k, interrupt));
            }
            let k = whole(&k)?;
            let name = if self.choice == RowChoice::Smallest { "bottomk" } else { "topk" };
            if self.choice != RowChoice::First && k.iter().any(|k| *k > 0) {
                ignore_histograms(&inputs.query, &mut rows, OfFloats { name, span: self.span });
            }
            let query = &inputs.query;
            query.work(|interrupt| {
                let (_, groups) = group_rows(query, &self.grouping, &rows, interrupt)?;
                let groups = &in_label_order(groups, &query.labels_of(&rows), interrupt);
                self.select(Selected { rows: &rows, groups, k: &k, memory: &memory, interrupt })
            })
        }))
    }
}

/// Sorts the rows of each group by labels, so that ties are always broken the same way, and the
/// groups by their first rows, which is the order in which Prometheus meets them.
fn in_label_order(
    mut groups: Vec<Vec<usize>>,
    labels: &[Labels],
    interrupt: &Interrupt<'_>,
) -> Vec<Vec<usize>> {
    for rows in &mut groups {
        sort(rows, |a, b| labels[*a].cmp(&labels[*b]), interrupt);
    }
    let first = |group: usize| groups[group].first().map(|row| &labels[*row]);
    let mut order: Vec<usize> = (0..groups.len()).collect();
    sort(&mut order, |a, b| first(*a).cmp(&first(*b)), interrupt);
    order.into_iter().map(|group| std::mem::take(&mut groups[group])).collect()
}
