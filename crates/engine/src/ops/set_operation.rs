//! `and`, `or`, `unless`: bitmaps of the series with the same matching labels.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion_common::Result;
use promql::ast::BinaryOp;
use promql::kernels::interrupt::Interrupt;
use promql::kernels::steps::StepSets;

use super::groups::{Grouping, grouping_units};
use super::map::without_empty;
use crate::batch::{RowStream, Rows};
use crate::context::{Charge, Check, QueryContext};
use crate::exec::{Inputs, Operator, once};

/// A set operator; the matching labels are a grouping: `on` is `by`, `ignoring` is `without`.
#[derive(Debug)]
pub(crate) struct SetOperation {
    pub(crate) op: BinaryOp,
    pub(crate) matching: Grouping,
    pub(crate) steps: usize,
}

/// Numbers the sets of matching labels; each row has one.
pub(crate) struct Signatures {
    ids: HashMap<Vec<u8>, u32>,
    /// What they are charged to.
    memory: Charge,
}

impl Signatures {
    pub(crate) fn new(memory: Charge) -> Signatures {
        Signatures { ids: HashMap::new(), memory }
    }

    pub(crate) fn len(&self) -> usize {
        self.ids.len()
    }

    pub(crate) fn of(
        &mut self,
        query: &QueryContext,
        matching: &Grouping,
        rows: &Rows,
        interrupt: &Interrupt<'_>,
    ) -> Result<Vec<u32>> {
        let mut key = Vec::new();
        let mut signatures = Vec::with_capacity(rows.len());
        for labels in query.labels_of(rows) {
            interrupt.check(grouping_units(&labels))?;
            if matching.without {
                key.clear();
                key.extend_from_slice(matching.labels_of(&labels).as_packed());
            } else {
                model::join_label_bytes(&labels, &matching.labels, &mut key);
            }
            let next = self.ids.len() as u32;
            signatures.push(match self.ids.get(&key) {
                Some(id) => *id,
                None => {
                    self.memory.hold(size_of::<(Vec<u8>, u32)>() + key.len())?;
                    *self.ids.entry(key.clone()).or_insert(next)
                }
            });
        }
        Ok(signatures)
    }
}

impl SetOperation {
    fn evaluate(
        &self,
        inputs: &Inputs,
        [left, right]: [Rows; 2],
        interrupt: &Interrupt<'_>,
    ) -> Result<Rows> {
        let query = &*inputs.query;
        let mut signatures = Signatures::new(Charge::new(inputs.reserve("matching labels")));
        let of_left = signatures.of(query, &self.matching, &left, interrupt)?;
        let of_right = signatures.of(query, &self.matching, &right, interrupt)?;
        // For `or` the right side is masked by the left, else the left by the right.
        let (mut masked, of_masked, other, of_other) = match self.op {
            BinaryOp::Or => (right, of_right, left, of_left),
            _ => (left, of_left, right, of_right),
        };
        let mut seen = StepSets::with_len(self.steps, signatures.len());
        for (row, signature) in of_other.iter().enumerate() {
            interrupt.check(1 + self.steps / 16)?;
            seen.get_mut(*signature as usize).add(other.present(row));
        }
        for (row, signature) in of_masked.iter().enumerate() {
            interrupt.check(1 + self.steps / 16)?;
            let (mut present, seen) = (masked.present.get_mut(row), seen.get(*signature as usize));
            if self.op == BinaryOp::And { present.keep(seen) } else { present.subtract(seen) }
        }
        if self.op == BinaryOp::Or {
            let mut all = other;
            all.append(masked);
            return Ok(without_empty(all));
        }
        Ok(without_empty(masked))
    }
}

impl Operator for SetOperation {
    fn name(&self) -> &'static str {
        "SetOperation"
    }

    fn detail(&self) -> String {
        format!("{:?}", self.op)
    }

    fn steps(&self) -> usize {
        self.steps
    }

    fn run(self: Arc<Self>, _: usize, inputs: Inputs) -> Result<RowStream> {
        Ok(once(async move {
            let memory = inputs.reserve("set operation");
            let (left, right) = inputs.collect_sides(self.steps, &memory).await?;
            inputs.query.work(|interrupt| self.evaluate(&inputs, [left, right], interrupt))
        }))
    }
}
