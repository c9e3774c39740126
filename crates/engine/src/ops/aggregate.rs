//! Aggregations that need one cell per group and step, and those that need all values of a group.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::common::Result;
use futures::TryStreamExt;
use model::Labels;
use promql::ast::Span;
use promql::kernels::aggregate::{self, Cells, for_each_bit};
use promql::kernels::aggregate_histogram::HistogramAggregate;
use promql::kernels::format::{histogram_text, plain};
use promql::kernels::native::{Operand, Value};
use promql::kernels::notes::{Note, Notes};
use promql::kernels::over_time::{order, quantile_of_sorted};
use tokio::sync::OnceCell;

use super::groups::{Grouping, Groups, extremes, group_rows, ignore_histograms};
use super::map::without_empty;
use crate::batch::{RowStream, Rows};
use crate::context::metric_name;
use crate::exec::{Inputs, Operator, once};
use crate::histograms::histogram_bytes;

/// Aggregates every partition of the input by itself into dense cells, then adds those up.
#[derive(Debug)]
pub(crate) struct Aggregate {
    pub(crate) kind: aggregate::Aggregate,
    pub(crate) grouping: Grouping,
    /// What is aggregated.
    pub(crate) span: Span,
    pub(crate) steps: usize,
}

struct Partial {
    groups: Groups,
    cells: Cells,
    /// Of groups that have any, by step.
    histograms: HashMap<usize, HistogramCells>,
}

type HistogramCells = Vec<Option<Box<HistogramAggregate>>>;

impl Aggregate {
    async fn partial(self: Arc<Self>, inputs: Inputs, mut rows: RowStream) -> Result<Partial> {
        let memory = inputs.reserve("aggregation");
        let cells = Cells::new(self.kind, self.steps);
        let mut partial = Partial { groups: Groups::default(), cells, histograms: HashMap::new() };
        let mut ids = Vec::new();
        while let Some(mut batch) = rows.try_next().await? {
            if let Some(name) = self.of_floats_only() {
                ignore_histograms(&inputs.query, &mut batch, (name, self.span));
            }
            ids.clear();
            inputs.query.for_each_labels(&batch, |row, labels| {
                let is_empty = batch.present(row).iter().all(|w| *w == 0);
                ids.push((!is_empty).then(|| partial.groups.of(&self.grouping, labels, batch.drop_name[row])));
            });
            if partial.groups.len() > partial.cells.groups() {
                let new = partial.groups.len() - partial.cells.groups();
                memory.try_grow(new * Cells::bytes_per_group(self.kind, self.steps))?;
                partial.cells.grow(partial.groups.len());
            }
            for (row, group) in ids.iter().enumerate() {
                let Some(group) = group else { continue };
                if batch.histograms(row).is_none() || !self.adds_histograms() {
                    partial.cells.add(*group, batch.values(row), batch.present(row));
                    continue;
                }
                partial.cells.add(*group, batch.values(row), &batch.float_bits(row));
                let cells = partial.histograms.entry(*group).or_insert_with(|| {
                    let mut cells = Vec::new();
                    cells.resize_with(self.steps, || None);
                    cells
                });
                memory.try_grow(self.add_histograms(&inputs, (&batch, row), cells))?;
            }
        }
        Ok(partial)
    }

    /// The name of an aggregation that leaves histograms out.
    fn of_floats_only(&self) -> Option<&'static str> {
        use aggregate::Aggregate::*;
        match self.kind {
            Min => Some("min"),
            Max => Some("max"),
            Stddev => Some("stddev"),
            Stdvar => Some("stdvar"),
            Sum | Avg | Count | Group => None,
        }
    }

    fn adds_histograms(&self) -> bool {
        matches!(self.kind, aggregate::Aggregate::Sum | aggregate::Aggregate::Avg)
    }

    /// Adds the histograms of a row to its group's; returns roughly the bytes this took.
    fn add_histograms(&self, inputs: &Inputs, (rows, row): (&Rows, usize), cells: &mut HistogramCells) -> usize {
        let (mut notes, mut bytes) = (Notes::default(), 0);
        rows.for_each_histogram(row, |step, histogram| {
            let cell = cells[step].get_or_insert_with(|| {
                bytes += 2 * histogram_bytes(&[Some(Arc::clone(histogram))]);
                Box::new(HistogramAggregate::new(self.kind == aggregate::Aggregate::Avg))
            });
            cell.add(histogram, &mut notes);
        });
        if !notes.is_empty() {
            inputs.query.note(&notes, self.span, &metric_name(&inputs.query.label(rows.series[row])));
        }
        bytes
    }

    fn finish(&self, inputs: &Inputs, partials: Vec<Partial>) -> Rows {
        let mut partials = partials.into_iter();
        let Some(mut whole) = partials.next() else { return Rows::new(self.steps) };
        let mut notes = Notes::default();
        for mut part in partials {
            for (from, labels) in part.groups.labels.iter().enumerate() {
                // Grouping the labels of a group again finds that group.
                let group = whole.groups.of(&self.grouping, labels, part.groups.drop_name[from]);
                whole.cells.grow(whole.groups.len());
                whole.cells.merge(group, &part.cells, from);
                if let Some(cells) = part.histograms.remove(&from) {
                    merge_histograms(whole.histograms.entry(group).or_default(), cells, &mut notes);
                }
            }
        }
        let order = whole.groups.sorted();
        let first = inputs.query.add_labels(order.iter().map(|g| whole.groups.labels[*g].clone()));
        let mut out = Rows::new(self.steps);
        for (i, group) in order.iter().enumerate() {
            out.push_empty(first + i as u32, whole.groups.drop_name[*group]);
            let (values, present) = out.row_mut(i);
            whole.cells.finish(*group, values);
            present.copy_from_slice(whole.cells.present(*group));
            for (step, cell) in whole.histograms.remove(group).into_iter().flatten().enumerate() {
                let Some(cell) = cell else { continue };
                let value = if out.is_present(i, step) {
                    notes.push(Note::MixedFloatsAndHistogramsInAggregation);
                    None
                } else {
                    cell.finish(&mut notes).map(|histogram| Value::Histogram(Arc::new(histogram)))
                };
                out.set_sample(i, step, value);
            }
        }
        inputs.query.note(&notes, self.span, "");
        without_empty(out)
    }
}

fn merge_histograms(whole: &mut HistogramCells, part: HistogramCells, notes: &mut Notes) {
    if whole.is_empty() {
        *whole = part;
        return;
    }
    for (whole, part) in whole.iter_mut().zip(part) {
        match (whole, part) {
            (_, None) => {}
            (Some(whole), Some(part)) => whole.merge(*part, notes),
            (whole @ None, part) => *whole = part,
        }
    }
}

impl Operator for Aggregate {
    fn name(&self) -> &'static str {
        "Aggregate"
    }

    fn detail(&self) -> String {
        format!("{:?} {} {:?}", self.kind, if self.grouping.without { "without" } else { "by" }, self.grouping.labels)
    }

    fn steps(&self) -> usize {
        self.steps
    }

    fn run(self: Arc<Self>, _: usize, inputs: Inputs) -> Result<RowStream> {
        Ok(once(async move {
            let partials = inputs.on_partitions(0, |rows| Arc::clone(&self).partial(inputs.clone(), rows)).await?;
            let rows = self.finish(&inputs, partials);
            Ok(rows)
        }))
    }
}

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
            ignore_histograms(&inputs.query, &mut rows, ("quantile", self.span));
            let rows = without_empty(rows);
            let q = inputs.scalars(1, &OnceCell::new()).await?.swap_remove(0);
            let (lowest, highest) = extremes(&q);
            let judged = [(f64::NAN, q.iter().any(|q| q.is_nan())), (lowest, lowest < 0.0), (highest, highest > 1.0)];
            for (bad, _) in judged.into_iter().filter(|(_, is_bad)| *is_bad) {
                inputs.query.annotate().bad_quantile(&inputs.query.text, self.param_span, bad);
            }
            let (groups, members) = group_rows(&inputs.query, &self.grouping, &rows);
            let order_of_groups = groups.sorted();
            let first = inputs.query.add_labels(order_of_groups.iter().map(|g| groups.labels[*g].clone()));
            let mut out = Rows::new(self.steps);
            let mut sorted = Vec::new();
            for (i, group) in order_of_groups.iter().enumerate() {
                out.push_empty(first + i as u32, groups.drop_name[*group]);
                for (k, q) in q.iter().enumerate() {
                    inputs.query.check_alive()?;
                    sorted.clear();
                    let there = members[*group].iter().filter(|row| rows.is_present(**row, k));
                    sorted.extend(there.map(|row| rows.values(*row)[k]));
                    if !sorted.is_empty() {
                        sorted.sort_unstable_by(order);
                        let (values, present) = out.row_mut(i);
                        values[k] = quantile_of_sorted(*q, &sorted);
                        present[k / 64] |= 1 << (k % 64);
                    }
                }
            }
            Ok(out)
        }))
    }
}

/// `count_values`: a group per value, which becomes a label.
#[derive(Debug)]
pub(crate) struct CountValues {
    pub(crate) grouping: Grouping,
    pub(crate) label: Vec<u8>,
    pub(crate) steps: usize,
}

impl Operator for CountValues {
    fn name(&self) -> &'static str {
        "CountValues"
    }

    fn steps(&self) -> usize {
        self.steps
    }

    fn run(self: Arc<Self>, _: usize, inputs: Inputs) -> Result<RowStream> {
        Ok(once(async move {
            let memory = inputs.reserve("count_values");
            let rows = inputs.collect(0, self.steps, &memory).await?;
            let (groups, members) = group_rows(&inputs.query, &self.grouping, &rows);
            let mut out = Rows::new(self.steps);
            let mut labels = Vec::new();
            // The value's label may be one of the grouping's: it replaces that, or goes `without` it, and groups become
            // one.
            let mut by_labels: HashMap<Labels, usize> = HashMap::new();
            for group in groups.sorted() {
                let mut row_of: HashMap<String, usize> = HashMap::new();
                for row in &members[group] {
                    inputs.query.check_alive()?;
                    for (word, bits) in rows.present(*row).iter().enumerate() {
                        for_each_bit(*bits, |k| {
                            let k = word * 64 + k;
                            let text = match rows.sample(*row, k) {
                                Operand::Float(value) => plain(value),
                                Operand::Histogram(histogram) => histogram_text(histogram),
                            };
                            let at = *row_of.entry(text).or_insert_with_key(|text| {
                                let fresh = groups.labels[group].with(&self.label, text);
                                let without = self.grouping.without;
                                let fresh = if without { self.grouping.labels_of(&fresh) } else { fresh };
                                *by_labels.entry(fresh).or_insert_with_key(|fresh| {
                                    labels.push(fresh.clone());
                                    out.push_empty(0, false);
                                    out.len() - 1
                                })
                            });
                            let (values, present) = out.row_mut(at);
                            values[k] += 1.0;
                            present[k / 64] |= 1 << (k % 64);
                        });
                    }
                }
                memory.try_grow(row_of.len() * self.steps * 8)?;
            }
            super::map::relabel(&inputs.query, &mut out, labels);
            Ok(out)
        }))
    }
}
