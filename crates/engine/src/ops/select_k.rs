//! `topk`, `bottomk`, `limitk` and `limit_ratio`: some rows of each group, with only the steps at
//! which they are taken.

use std::sync::Arc;

use datafusion_common::Result;
use promql::ast::Span;
use promql::format_float_general;
use promql::kernels::order::Best;
use promql::kernels::steps::StepSets;
use tokio::sync::OnceCell;

use super::groups::{Grouping, OfFloats, extremes, group_rows, ignore_histograms};
use super::map::without_empty;
use crate::batch::{RowStream, Rows};
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
    fn select(
        &self,
        inputs: &Inputs,
        rows: &Rows,
        groups: &[Vec<usize>],
        k: &[usize],
    ) -> Result<Rows> {
        let mut present = StepSets::with_len(self.steps, rows.len());
        let mut order = Vec::new();
        let mut take = |row: usize, step: usize| {
            present.get_mut(row).insert(step);
            order.push(row);
        };
        for members in groups {
            // row by row, because going from row to row at each step would miss the cache every
            // time
            if self.choice == RowChoice::First {
                let mut taken = vec![0; k.len()];
                for row in members {
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
                inputs.query.check_alive()?;
                let values = rows.values(*row);
                rows.present(*row).for_each(|step| {
                    best[step].offer(k[step], bottom, values[step], *row as u32);
                });
            }
            for (step, best) in best.iter().enumerate() {
                best.rows().for_each(|row| take(row as usize, step));
            }
        }
        if self.steps > 1 {
            order.sort_unstable();
            order.dedup();
        }
        Ok(masked(rows, &order, &present))
    }

    /// The share of the series that a ratio selects; those of `r` and `r - 1` complement each
    /// other.
    fn sample(&self, inputs: &Inputs, rows: &Rows, ratios: &[f64]) -> Result<Rows> {
        let mut present = StepSets::with_len(self.steps, rows.len());
        let place: Vec<f64> = inputs
            .query
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
            inputs.query.annotate().warn(&inputs.query.text, self.param_span, message);
        }
        for (step, ratio) in ratios.iter().enumerate() {
            let capped = ratio.clamp(-1.0, 1.0);
            for (row, place) in place.iter().enumerate() {
                let taken = if capped >= 0.0 { *place < capped } else { *place >= 1.0 + capped };
                if taken && rows.is_present(row, step) {
                    present.get_mut(row).insert(step);
                }
            }
        }
        Ok(masked(rows, &(0..rows.len()).collect::<Vec<_>>(), &present))
    }
}

/// The rows in this order with these steps; rows without any step are left out.
fn masked(rows: &Rows, order: &[usize], present: &StepSets) -> Rows {
    let mut out = Rows::new(rows.steps);
    for row in order {
        out.push_row(rows, *row);
        out.row_mut(out.len() - 1).present.copy_from(present.get(*row));
    }
    without_empty(out)
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
                let out = self.sample(&inputs, &rows, &k)?;
                return Ok(out);
            }
            let k = whole(&k)?;
            let name = if self.choice == RowChoice::Smallest { "bottomk" } else { "topk" };
            if self.choice != RowChoice::First && k.iter().any(|k| *k > 0) {
                ignore_histograms(&inputs.query, &mut rows, OfFloats { name, span: self.span });
            }
            let (_, mut members) = group_rows(&inputs.query, &self.grouping, &rows);
            in_label_order(&inputs, &rows, &mut members);
            self.select(&inputs, &rows, &members, &k)
        }))
    }
}

/// Sorts the rows of each group by labels, so that ties are always broken the same way, and the
/// groups by their first rows, which is the order in which Prometheus meets them.
fn in_label_order(inputs: &Inputs, rows: &Rows, members: &mut [Vec<usize>]) {
    let labels = inputs.query.labels_of(rows);
    for rows in members.iter_mut() {
        rows.sort_by(|a, b| labels[*a].cmp(&labels[*b]));
    }
    members.sort_by(|a, b| {
        a.first().map(|row| &labels[*row]).cmp(&b.first().map(|row| &labels[*row]))
    });
}
