//! Aggregations that need one cell per group and step.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion_common::Result;
use datafusion_execution::memory_pool::MemoryReservation;
use futures::TryStreamExt;
use promql::ast::Span;
use promql::kernels::FloatColumn;
use promql::kernels::aggregate::{CellKind, Cells};
use promql::kernels::aggregate_histogram::HistogramAggregate;
use promql::kernels::interrupt::Interrupt;
use promql::kernels::mixed::histogram_units;
use promql::kernels::native::ComputedValue;
use promql::kernels::notes::{Note, Notes};

use super::groups::{Grouping, Groups, OfFloats, grouping_units, ignore_histograms};
use super::map::without_empty;
use crate::batch::{RowStream, Rows};
use crate::context::{Check, QueryContext, metric_name};
use crate::exec::{Inputs, Operator, once};
use crate::histograms::histogram_bytes;

/// Aggregates each partition of the input into dense cells of its own, then adds those up.
#[derive(Debug)]
pub(crate) struct AggregateGroups {
    pub(crate) kind: CellKind,
    pub(crate) grouping: Grouping,
    /// What is aggregated.
    pub(crate) span: Span,
    pub(crate) steps: usize,
}

struct PartitionCells {
    groups: Groups,
    cells: Cells,
    /// The histograms of each group that has any, by step.
    histograms: HashMap<usize, HistogramCells>,
    memory: MemoryReservation,
}

type HistogramCells = Vec<Option<Box<HistogramAggregate>>>;

/// What adding histograms led to.
struct Added {
    /// The memory it took, roughly.
    bytes: usize,
    notes: Notes,
}

impl AggregateGroups {
    async fn partial(
        self: Arc<Self>,
        inputs: Inputs,
        mut rows: RowStream,
    ) -> Result<PartitionCells> {
        let mut partial = PartitionCells {
            groups: Groups::default(),
            cells: Cells::new(self.kind, self.steps),
            histograms: HashMap::new(),
            memory: inputs.reserve("aggregation"),
        };
        while let Some(batch) = rows.try_next().await? {
            let query = &inputs.query;
            query.work(|interrupt| self.add_rows(&mut partial, batch, query, interrupt))?;
        }
        Ok(partial)
    }

    fn add_rows(
        &self,
        partial: &mut PartitionCells,
        mut batch: Rows,
        query: &QueryContext,
        interrupt: &Interrupt<'_>,
    ) -> Result<()> {
        if let Some(name) = self.of_floats_only() {
            ignore_histograms(query, &mut batch, OfFloats { name, span: self.span });
        }
        let mut ids = Vec::with_capacity(batch.len());
        query.for_each_labels(&batch, |row, labels| {
            let is_empty = batch.present(row).is_empty();
            ids.push(
                (!is_empty)
                    .then(|| partial.groups.of(&self.grouping, labels, batch.drop_name[row])),
            );
            interrupt.check(grouping_units(labels))
        })?;
        if partial.groups.len() > partial.cells.groups() {
            let new = partial.groups.len() - partial.cells.groups();
            partial.memory.try_grow(new * Cells::bytes_per_group(self.kind, self.steps))?;
            partial.cells.grow(partial.groups.len());
        }
        for (row, group) in ids.iter().enumerate() {
            let Some(group) = group else { continue };
            interrupt.check(2 * self.steps)?;
            if batch.histograms(row).is_none() || !self.adds_histograms() {
                partial.cells.add(*group, batch.values(row), batch.present(row));
                continue;
            }
            partial.cells.add(*group, batch.values(row), batch.floats(row).view());
            let cells = partial.histograms.entry(*group).or_insert_with(|| {
                let mut cells = Vec::new();
                cells.resize_with(self.steps, || None);
                cells
            });
            let Added { bytes, notes } = self.add_histograms(&batch, row, cells, interrupt);
            partial.memory.try_grow(bytes)?;
            if !notes.is_empty() {
                query.note(&notes, self.span, &metric_name(&query.label(batch.series[row])));
            }
        }
        Ok(())
    }

    /// The name of the aggregation, if it leaves histograms out.
    fn of_floats_only(&self) -> Option<&'static str> {
        use CellKind::*;
        match self.kind {
            Min => Some("min"),
            Max => Some("max"),
            Stddev => Some("stddev"),
            Stdvar => Some("stdvar"),
            Sum | Avg | Count | Group => None,
        }
    }

    fn adds_histograms(&self) -> bool {
        matches!(self.kind, CellKind::Sum | CellKind::Avg)
    }

    /// Adds the histograms of a row to its group's.
    fn add_histograms(
        &self,
        rows: &Rows,
        row: usize,
        cells: &mut HistogramCells,
        interrupt: &Interrupt<'_>,
    ) -> Added {
        let (mut notes, mut bytes) = (Notes::default(), 0);
        rows.for_each_histogram(row, |step, histogram| {
            if interrupt.after(histogram_units(histogram)) {
                return;
            }
            let cell = cells[step].get_or_insert_with(|| {
                bytes += 2 * histogram_bytes(&[Some(Arc::clone(histogram))]);
                Box::new(HistogramAggregate::new(self.kind == CellKind::Avg))
            });
            cell.add(histogram, &mut notes);
        });
        Added { bytes, notes }
    }

    fn finish(
        &self,
        query: &QueryContext,
        partials: Vec<PartitionCells>,
        interrupt: &Interrupt<'_>,
    ) -> Result<Rows> {
        let mut partials = partials.into_iter();
        let Some(mut whole) = partials.next() else { return Ok(Rows::new(self.steps)) };
        let mut notes = Notes::default();
        for mut part in partials {
            for (from, labels) in part.groups.labels.iter().enumerate() {
                interrupt.check(grouping_units(labels) + 2 * self.steps)?;
                // Grouping the labels of a group again finds that group.
                let group = whole.groups.of(&self.grouping, labels, part.groups.drop_name[from]);
                whole.cells.grow(whole.groups.len());
                whole.cells.merge(group, &part.cells, from);
                if let Some(cells) = part.histograms.remove(&from) {
                    let of_group = whole.histograms.entry(group).or_default();
                    merge_histograms(of_group, cells, &mut notes, interrupt);
                }
            }
        }
        let order = whole.groups.sorted(interrupt);
        let first = query.add_labels(order.iter().map(|g| whole.groups.labels[*g].clone()));
        let mut out = Rows::new(self.steps);
        for (i, group) in order.iter().enumerate() {
            interrupt.check(2 * self.steps)?;
            out.push_empty(first + i as u32, whole.groups.drop_name[*group]);
            let FloatColumn { values, mut present } = out.row_mut(i);
            whole.cells.finish(*group, values);
            present.copy_from(whole.cells.present(*group));
            for (step, cell) in whole.histograms.remove(group).into_iter().flatten().enumerate() {
                let Some(cell) = cell else { continue };
                interrupt.check(64)?;
                let value = if out.is_present(i, step) {
                    notes.push(Note::MixedFloatsAndHistogramsInAggregation);
                    None
                } else {
                    cell.finish(&mut notes)
                        .map(|histogram| ComputedValue::Histogram(Arc::new(histogram)))
                };
                out.set_sample(i, step, value);
            }
        }
        query.note(&notes, self.span, "");
        Ok(without_empty(out))
    }
}

fn merge_histograms(
    whole: &mut HistogramCells,
    part: HistogramCells,
    notes: &mut Notes,
    interrupt: &Interrupt<'_>,
) {
    if whole.is_empty() {
        *whole = part;
        return;
    }
    for (whole, part) in whole.iter_mut().zip(part) {
        if interrupt.after(1024) {
            return;
        }
        match (whole, part) {
            (_, None) => {}
            (Some(whole), Some(part)) => whole.merge(*part, notes),
            (whole @ None, part) => *whole = part,
        }
    }
}

impl Operator for AggregateGroups {
    fn name(&self) -> &'static str {
        "Aggregate"
    }

    fn detail(&self) -> String {
        format!(
            "{:?} {} {:?}",
            self.kind,
            if self.grouping.without { "without" } else { "by" },
            self.grouping.labels
        )
    }

    fn steps(&self) -> usize {
        self.steps
    }

    fn run(self: Arc<Self>, _: usize, inputs: Inputs) -> Result<RowStream> {
        Ok(once(async move {
            let partials = inputs
                .on_partitions(0, |rows| Arc::clone(&self).partial(inputs.clone(), rows))
                .await?;
            inputs.query.work(|interrupt| self.finish(&inputs.query, partials, interrupt))
        }))
    }
}
