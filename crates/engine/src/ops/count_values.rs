//! `count_values`: a group per value, which becomes a label.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion_common::Result;
use datafusion_execution::memory_pool::MemoryReservation;
use model::Labels;
use promql::kernels::format::{histogram_text, plain};
use promql::kernels::interrupt::Interrupt;
use promql::kernels::mixed::histogram_units;
use promql::kernels::native::Operand;

use super::groups::{GROUPING_UNITS, Grouping, group_rows};
use super::map::relabel;
use crate::batch::{RowStream, Rows};
use crate::context::Check;
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
            let query = &inputs.query;
            query.work(|interrupt| {
                let (groups, members) = group_rows(query, &self.grouping, &rows, interrupt)?;
                let mut counts = ValueCounts::of(&self, &inputs, &memory);
                for group in groups.sorted(interrupt) {
                    counts.row_of_value.clear();
                    for row in &members[group] {
                        counts.add(&groups.labels[group], &rows, *row, interrupt)?;
                    }
                }
                relabel(query, &mut counts.rows, counts.labels);
                Ok(counts.rows)
            })
        }))
    }
}

/// The result as it grows.
struct ValueCounts<'a> {
    operator: &'a CountValues,
    inputs: &'a Inputs,
    memory: &'a MemoryReservation,
    rows: Rows,
    labels: Vec<Labels>,
    row_of_labels: HashMap<Labels, usize>,
    /// The row of each value in the group that is being counted.
    row_of_value: HashMap<String, usize>,
}

impl<'a> ValueCounts<'a> {
    fn of(
        operator: &'a CountValues,
        inputs: &'a Inputs,
        memory: &'a MemoryReservation,
    ) -> ValueCounts<'a> {
        let (row_of_labels, row_of_value) = (HashMap::new(), HashMap::new());
        ValueCounts {
            operator,
            inputs,
            memory,
            rows: Rows::new(operator.steps),
            labels: Vec::new(),
            row_of_labels,
            row_of_value,
        }
    }

    /// Counts the values of a row of a group.
    fn add(
        &mut self,
        group: &Labels,
        rows: &Rows,
        row: usize,
        interrupt: &Interrupt<'_>,
    ) -> Result<()> {
        for step in rows.present(row) {
            let value = match rows.sample(row, step) {
                Operand::Float(value) => plain(value),
                Operand::Histogram(histogram) => {
                    interrupt.check(64 * histogram_units(histogram))?;
                    histogram_text(histogram)
                }
            };
            interrupt.check(GROUPING_UNITS)?;
            let at = self.row_of(group, value)?;
            let mut counted = self.rows.row_mut(at);
            counted.set(step, counted.values[step] + 1.0);
        }
        Ok(())
    }

    fn row_of(&mut self, group: &Labels, value: String) -> Result<usize> {
        if let Some(row) = self.row_of_value.get(&value) {
            return Ok(*row);
        }
        self.inputs.charge_labels(group.as_packed().len() + 3 * value.len())?;
        let labels = self.operator.labels_of(group, &value);
        let row = match self.row_of_labels.get(&labels) {
            Some(row) => *row,
            None => {
                self.memory.try_grow(self.operator.steps * 8)?;
                self.labels.push(labels.clone());
                self.rows.push_empty(0, false);
                self.row_of_labels.insert(labels, self.rows.len() - 1);
                self.rows.len() - 1
            }
        };
        self.row_of_value.insert(value, row);
        Ok(row)
    }
}
