//! Aggregations that need one cell per group and step, and those that need all values of a group.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::Result;
use futures::TryStreamExt;
use model::Labels;
use promql::ast::Span;
use promql::kernels::aggregate::{self, Cells, for_each_bit};
use promql::kernels::format::plain;
use promql::kernels::over_time::{order, quantile_of_sorted};
use tokio::sync::OnceCell;

use super::groups::{Grouping, Groups};
use crate::batch::Rows;
use crate::exec::{BatchStream, Inputs, Operator, RowStream, once};

/// Aggregates every partition of the input by itself into dense cells, then adds those up.
#[derive(Debug)]
pub(crate) struct Aggregate {
    pub(crate) kind: aggregate::Aggregate,
    pub(crate) grouping: Grouping,
    pub(crate) steps: usize,
}

struct Partial {
    groups: Groups,
    cells: Cells,
}

impl Aggregate {
    async fn partial(self: Arc<Self>, inputs: Inputs, mut rows: RowStream) -> Result<Partial> {
        let memory = inputs.reserve("aggregation");
        let mut partial = Partial { groups: Groups::default(), cells: Cells::new(self.kind, self.steps) };
        let mut ids = Vec::new();
        while let Some(batch) = rows.try_next().await? {
            ids.clear();
            for (row, labels) in inputs.query.labels_of(&batch).iter().enumerate() {
                ids.push(partial.groups.of(&self.grouping, labels, batch.drop_name[row]));
            }
            if partial.groups.len() > partial.cells.groups() {
                let new = partial.groups.len() - partial.cells.groups();
                memory.try_grow(new * Cells::bytes_per_group(self.kind, self.steps))?;
                partial.cells.grow(partial.groups.len());
            }
            for (row, group) in ids.iter().enumerate() {
                partial.cells.add(*group, batch.values(row), batch.present(row));
            }
        }
        Ok(partial)
    }

    fn finish(&self, inputs: &Inputs, partials: Vec<Partial>) -> Rows {
        let mut partials = partials.into_iter();
        let Some(mut whole) = partials.next() else { return Rows::new(self.steps) };
        for part in partials {
            for (from, labels) in part.groups.labels.iter().enumerate() {
                // Grouping the labels of a group again finds that group.
                let group = whole.groups.of(&self.grouping, labels, part.groups.drop_name[from]);
                whole.cells.grow(whole.groups.len());
                whole.cells.merge(group, &part.cells, from);
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
        }
        out
    }
}

impl Operator for Aggregate {
    fn name(&self) -> &'static str {
        "Aggregate"
    }

    fn detail(&self) -> String {
        format!("{:?} {} {:?}", self.kind, if self.grouping.without { "without" } else { "by" }, self.grouping.labels)
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
            let partials = inputs.on_partitions(0, |rows| Arc::clone(&self).partial(inputs.clone(), rows)).await?;
            let rows = self.finish(&inputs, partials);
            Ok(if rows.is_empty() { Vec::new() } else { vec![rows] })
        }))
    }
}

/// `quantile`: input 1 is φ.
#[derive(Debug)]
pub(crate) struct Quantile {
    pub(crate) grouping: Grouping,
    pub(crate) steps: usize,
    pub(crate) param_span: Span,
}

impl Operator for Quantile {
    fn name(&self) -> &'static str {
        "Quantile"
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
            let memory = inputs.reserve("quantile");
            let rows = inputs.collect(0, self.steps, &memory).await?;
            let q = inputs.scalars(1, &OnceCell::new()).await?.swap_remove(0);
            if !rows.is_empty() {
                for bad in q.iter().filter(|q| !(0.0..=1.0).contains(*q)) {
                    inputs.query.annotate().bad_quantile(&inputs.query.text, self.param_span, *bad);
                }
            }
            let (groups, members) = group_rows(&inputs, &self.grouping, &rows);
            let order_of_groups = groups.sorted();
            let first = inputs.query.add_labels(order_of_groups.iter().map(|g| groups.labels[*g].clone()));
            let mut out = Rows::new(self.steps);
            let mut sorted = Vec::new();
            for (i, group) in order_of_groups.iter().enumerate() {
                out.push_empty(first + i as u32, groups.drop_name[*group]);
                for (k, q) in q.iter().enumerate() {
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
            Ok(if out.is_empty() { Vec::new() } else { vec![out] })
        }))
    }
}

/// The groups of collected rows, and the rows of each.
pub(crate) fn group_rows(inputs: &Inputs, grouping: &Grouping, rows: &Rows) -> (Groups, Vec<Vec<usize>>) {
    let mut groups = Groups::default();
    let mut members: Vec<Vec<usize>> = Vec::new();
    for (row, labels) in inputs.query.labels_of(rows).iter().enumerate() {
        let group = groups.of(grouping, labels, rows.drop_name[row]);
        members.resize_with(groups.len(), Vec::new);
        members[group].push(row);
    }
    (groups, members)
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

    fn schema(&self) -> SchemaRef {
        Rows::schema(self.steps)
    }

    fn partitions(&self, _: &[usize]) -> usize {
        1
    }

    fn run(self: Arc<Self>, _: usize, inputs: Inputs) -> Result<BatchStream> {
        let schema = self.schema();
        Ok(once(schema, async move {
            let memory = inputs.reserve("count_values");
            let rows = inputs.collect(0, self.steps, &memory).await?;
            let (groups, members) = group_rows(&inputs, &self.grouping, &rows);
            let mut out = Rows::new(self.steps);
            let mut labels = Vec::new();
            // The value's label may be one of the grouping's, which it then replaces: groups become one.
            let mut by_labels: HashMap<Labels, usize> = HashMap::new();
            for group in groups.sorted() {
                let mut row_of: HashMap<String, usize> = HashMap::new();
                for row in &members[group] {
                    for (word, bits) in rows.present(*row).iter().enumerate() {
                        for_each_bit(*bits, |k| {
                            let k = word * 64 + k;
                            let text = plain(rows.values(*row)[k]);
                            let at = *row_of.entry(text).or_insert_with_key(|text| {
                                let fresh = groups.labels[group].with(&self.label, text);
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
            Ok(if out.is_empty() { Vec::new() } else { vec![out] })
        }))
    }
}
