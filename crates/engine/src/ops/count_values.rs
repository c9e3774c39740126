//! `count_values`: a group per value, which becomes a label.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion_common::Result;
use model::Labels;
use promql::kernels::format::{histogram_text, plain};
use promql::kernels::native::Operand;

use super::groups::{Grouping, group_rows};
use super::map::relabel;
use crate::batch::{RowStream, Rows};
use crate::exec::{Inputs, Operator, once};

#[derive(Debug)]
pub(crate) struct CountValues {
    pub(crate) grouping: Grouping,
    /// The label that holds the value.
    pub(crate) label: Vec<u8>,
    pub(crate) steps: usize,
}

impl CountValues {
    /// The labels of a value in a group. The value's label may be one of the grouping's: then it
    /// replaces that, or is dropped by `without`, and groups become one.
    fn labels_of(&self, group: &Labels, value: &str) -> Labels {
        let labels = group.with(&self.label, value);
        if self.grouping.without { self.grouping.labels_of(&labels) } else { labels }
    }
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
            let mut counts = ValueCounts::of(&self);
            for group in groups.sorted() {
                counts.row_of_value.clear();
                for row in &members[group] {
                    inputs.query.check_alive()?;
                    counts.add(&groups.labels[group], &rows, *row);
                }
                memory.try_grow(counts.row_of_value.len() * self.steps * 8)?;
            }
            relabel(&inputs.query, &mut counts.rows, counts.labels);
            Ok(counts.rows)
        }))
    }
}

/// The result as it grows.
struct ValueCounts<'a> {
    operator: &'a CountValues,
    rows: Rows,
    labels: Vec<Labels>,
    row_of_labels: HashMap<Labels, usize>,
    /// The row of each value in the group that is being counted.
    row_of_value: HashMap<String, usize>,
}

impl ValueCounts<'_> {
    fn of(operator: &CountValues) -> ValueCounts<'_> {
        let (row_of_labels, row_of_value) = (HashMap::new(), HashMap::new());
        ValueCounts {
            operator,
            rows: Rows::new(operator.steps),
            labels: Vec::new(),
            row_of_labels,
            row_of_value,
        }
    }

    /// Counts the values of a row of a group.
    fn add(&mut self, group: &Labels, rows: &Rows, row: usize) {
        rows.present(row).for_each(|step| {
            let value = match rows.sample(row, step) {
                Operand::Float(value) => plain(value),
                Operand::Histogram(histogram) => histogram_text(histogram),
            };
            let at = self.row_of(group, value);
            let mut counted = self.rows.row_mut(at);
            counted.set(step, counted.values[step] + 1.0);
        });
    }

    fn row_of(&mut self, group: &Labels, value: String) -> usize {
        *self.row_of_value.entry(value).or_insert_with_key(|value| {
            let labels = self.operator.labels_of(group, value);
            *self.row_of_labels.entry(labels).or_insert_with_key(|labels| {
                self.labels.push(labels.clone());
                self.rows.push_empty(0, false);
                self.rows.len() - 1
            })
        })
    }
}
