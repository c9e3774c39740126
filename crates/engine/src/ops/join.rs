//! Arithmetic and comparison between vectors.
//!
//! Series are matched by labels once, not per step; what Prometheus checks per step (that the "one"
//! side is one) is checked by intersecting bitmaps.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion_common::Result;
use model::{Labels, LabelsBuilder};
use promql::ast::{BinaryOp, Cardinality, Span, VectorMatching};
use promql::kernels::binary::changes_metric;
use promql::kernels::interrupt::Interrupt;
use promql::kernels::steps::StepSet;

use self::pair::{Combining, LastNotes, OperandPair, PairOperand};
use super::distinct::SAME_LABELSET;
use super::groups::{GROUPING_UNITS, Grouping};
use super::map::{relabel, without_empty};
use super::set_operation::Signatures;
use crate::batch::{RowStream, Rows};
use crate::context::{Charge, Check, METADATA_LABELS};
use crate::error::execution;
use crate::exec::{Inputs, Operator, once};

mod pair;

const MANY_TO_ONE: &str =
    "multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)";

const GROUPED_TWICE: &str =
    "multiple matches for labels: grouping labels must ensure unique matches";

/// A binary operator between two vectors.
#[derive(Debug)]
pub(crate) struct Join {
    pub(crate) op: BinaryOp,
    pub(crate) return_bool: bool,
    pub(crate) matching: VectorMatching,
    pub(crate) span: Span,
    pub(crate) steps: usize,
    /// Names are dropped at the end of the query.
    pub(crate) keep_names: bool,
}

/// One side of the join.
struct JoinSide {
    rows: Rows,
    labels: Vec<Labels>,
    /// The rows of each signature.
    members: Vec<Vec<usize>>,
    /// The steps at which any row has a value.
    any: StepSet,
}

impl JoinSide {
    fn new(inputs: &Inputs, rows: Rows, signatures: &[u32], count: usize) -> JoinSide {
        let mut members = vec![Vec::new(); count];
        let mut any = StepSet::none(rows.steps);
        for (row, signature) in signatures.iter().enumerate() {
            members[*signature as usize].push(row);
            any.add(rows.present(row));
        }
        JoinSide { labels: inputs.query.labels_of(&rows), rows, members, any }
    }

    fn operand(&self, row: usize) -> PairOperand<'_> {
        PairOperand::Row { rows: &self.rows, row, labels: &self.labels[row] }
    }

    fn union(&self, members: &[usize]) -> StepSet {
        let mut union = StepSet::none(self.rows.steps);
        members.iter().for_each(|row| union.add(self.rows.present(*row)));
        union
    }
}

/// The join's output as it grows.
struct JoinOutput<'a> {
    inputs: &'a Inputs,
    interrupt: &'a Interrupt<'a>,
    rows: Rows,
    labels: Vec<Labels>,
    by_labels: HashMap<Labels, usize>,
    /// The signature that made the row; a second one at the same step is a plain duplicate.
    signature: Vec<usize>,
    /// The steps at which that signature gave the row a value, or a comparison that does not hold.
    taken: Vec<StepSet>,
    /// The steps at which the signature at hand was matched.
    matched: StepSet,
    last_notes: LastNotes,
    fault: Option<JoinFault>,
}

/// Why there is no result. Prometheus goes step by step and stops at the first fault, so the first
/// one is reported.
#[derive(Debug)]
struct JoinFault {
    step: usize,
    check: JoinCheck,
    text: String,
}

/// The checks in the order in which they are made at a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum JoinCheck {
    OneSide,
    Matches,
    Result,
}

impl JoinOutput<'_> {
    /// The row for these labels. A comparison keeps even a name that an operand was about to lose.
    fn row(&mut self, labels: Labels, signature: usize, of_comparison: bool) -> Result<usize> {
        if let Some(row) = self.by_labels.get(&labels) {
            return Ok(*row);
        }
        self.inputs.charge_labels(labels.as_packed().len())?;
        let row = self.labels.len();
        self.rows.push_empty(0, of_comparison && labels.metric_name().is_some());
        self.by_labels.insert(labels.clone(), row);
        self.labels.push(labels);
        self.signature.push(signature);
        self.taken.push(StepSet::none(self.rows.steps));
        Ok(row)
    }

    /// Notes a fault at the first step of a mask, if there is one.
    fn fault(&mut self, mask: &StepSet, check: JoinCheck, text: impl FnOnce() -> String) {
        let Some(step) = mask.first() else { return };
        if self.fault.as_ref().is_none_or(|known| (step, check) < (known.step, known.check)) {
            self.fault = Some(JoinFault { step, check, text: text() });
        }
    }
}

impl Join {
    fn grouping(&self) -> Grouping {
        Grouping { labels: self.matching.labels.clone(), without: !self.matching.on }
    }

    fn combining(&self) -> Combining {
        Combining {
            op: self.op,
            return_bool: self.return_bool,
            one_is_left: self.one_is_left(),
            steps: self.steps,
        }
    }

    fn one_is_left(&self) -> bool {
        self.matching.cardinality == Cardinality::OneToMany
    }

    fn evaluate(
        &self,
        inputs: &Inputs,
        [left, right]: [Rows; 2],
        interrupt: &Interrupt<'_>,
    ) -> Result<Rows> {
        let mut signatures = Signatures::new(Charge::new(inputs.reserve("matching labels")));
        let of_left = signatures.of(&inputs.query, &self.grouping(), &left, interrupt)?;
        let of_right = signatures.of(&inputs.query, &self.grouping(), &right, interrupt)?;
        let count = signatures.len();
        let left = JoinSide::new(inputs, left, &of_left, count);
        let right = JoinSide::new(inputs, right, &of_right, count);
        let (many, one) = if self.one_is_left() { (right, left) } else { (left, right) };
        // With the sides swapped for `group_right` Prometheus leaves the fill values where they
        // were.
        let (fill_many, fill_one) = (self.matching.fill_left, self.matching.fill_right);
        let mut out = JoinOutput {
            inputs,
            interrupt,
            // mostly a row per series of this side; what grows by doubling is copied and paged in
            // more than once
            rows: Rows::with_capacity(self.steps, many.rows.len()),
            labels: Vec::new(),
            by_labels: HashMap::new(),
            signature: Vec::new(),
            taken: Vec::new(),
            matched: StepSet::none(self.steps),
            last_notes: LastNotes::default(),
            fault: None,
        };
        // Where one whole side is empty nothing is looked at, unless a side is filled in.
        let fills = fill_many.is_some() || fill_one.is_some();
        let looked_at =
            if fills { many.any.or(one.any.view()) } else { many.any.and(one.any.view()) };
        for signature in 0..count {
            self.check_one(&mut out, &one, &one.members[signature], &looked_at)?;
            out.matched.clear();
            let any_of_one = fill_one.map(|fill| (fill, one.union(&one.members[signature])));
            for row in &many.members[signature] {
                for other in &one.members[signature] {
                    let mask = many.rows.present(*row).and(one.rows.present(*other));
                    let pair = OperandPair {
                        many: many.operand(*row),
                        one: one.operand(*other),
                        mask: mask.view(),
                    };
                    self.add(&mut out, signature, pair)?;
                }
                if let Some((fill, any_of_one)) = &any_of_one {
                    let mask = many.rows.present(*row).minus(any_of_one.view());
                    let pair = OperandPair {
                        many: many.operand(*row),
                        one: PairOperand::Fill(*fill),
                        mask: mask.view(),
                    };
                    self.add(&mut out, signature, pair)?;
                }
            }
            if let Some(fill) = fill_many {
                for other in &one.members[signature] {
                    let mask = one.rows.present(*other).minus(out.matched.view());
                    let pair = OperandPair {
                        many: PairOperand::Fill(fill),
                        one: one.operand(*other),
                        mask: mask.view(),
                    };
                    self.add(&mut out, signature, pair)?;
                }
            }
        }
        if let Some(fault) = out.fault {
            return Err(execution(fault.text));
        }
        inputs.query.note(&out.last_notes.all(), self.span, "");
        relabel(&inputs.query, &mut out.rows, out.labels);
        Ok(without_empty(out.rows))
    }

    /// Two series of the "one" side with the same matching labels at the same step are an error.
    fn check_one(
        &self,
        out: &mut JoinOutput<'_>,
        one: &JoinSide,
        members: &[usize],
        looked_at: &StepSet,
    ) -> Result<()> {
        for (i, row) in members.iter().enumerate() {
            for earlier in &members[..i] {
                out.interrupt.check(16 + self.steps / 16)?;
                let mut overlap = one.rows.present(*row).and(one.rows.present(*earlier));
                overlap.keep(looked_at.view());
                out.fault(&overlap, JoinCheck::OneSide, || {
                    let (a, b) = (&one.labels[*earlier], &one.labels[*row]);
                    let (first, second) = if a < b { (a, b) } else { (b, a) };
                    let group = self.match_group(first);
                    let side = if self.one_is_left() { "left" } else { "right" };
                    format!(
                        "found duplicate series for the match group {group} on the {side} \
                         hand-side of the operation: [{first}, {second}];many-to-many matching not \
                         allowed: matching labels must be unique on one side"
                    )
                });
            }
        }
        Ok(())
    }

    /// The labels by which a series is matched.
    fn match_group(&self, labels: &Labels) -> Labels {
        self.grouping().labels_of(labels)
    }

    fn result_labels(&self, many: Option<&Labels>, one: Option<&Labels>) -> Labels {
        let group;
        let base = match (many, one) {
            (Some(labels), _) => labels,
            (None, one) => {
                group = one.map_or_else(Labels::empty, |l| self.match_group(l));
                &group
            }
        };
        let mut builder = LabelsBuilder::from(base);
        if changes_metric(self.op) || (self.return_bool && !self.keep_names) {
            METADATA_LABELS.iter().for_each(|l| {
                builder.remove(l);
            });
        }
        if self.matching.cardinality == Cardinality::OneToOne {
            for (name, _) in base.iter() {
                let listed = self.matching.labels.iter().any(|l| l.as_bytes() == name);
                if listed != self.matching.on {
                    builder.remove(name);
                }
            }
        }
        for name in &self.matching.include {
            builder.set(name, one.and_then(|l| l.get(name)).unwrap_or_default());
        }
        builder.build()
    }

    /// Combines the operands of a pair into the output row of their labels.
    fn add(&self, out: &mut JoinOutput<'_>, signature: usize, pair: OperandPair<'_>) -> Result<()> {
        out.interrupt.check(16 + self.steps / 16)?;
        if pair.mask.is_empty() {
            return Ok(());
        }
        out.interrupt.check(GROUPING_UNITS + 4 * self.steps)?;
        let combined = self.combining().combine(pair, &mut out.last_notes, out.interrupt);
        let (kept, valid) = (combined.kept.view(), combined.valid.view());
        let one_to_one = self.matching.cardinality == Cardinality::OneToOne;
        if one_to_one {
            let again = out.matched.and(valid);
            out.fault(&again, JoinCheck::Matches, || MANY_TO_ONE.to_owned());
        }
        out.matched.add(valid);
        if valid.is_empty() || (one_to_one && kept.is_empty()) {
            return Ok(());
        }
        let labels = self.result_labels(pair.many.labels(), pair.one.labels());
        let row = out.row(labels, signature, self.return_bool)?;
        if out.signature[row] == signature {
            let twice = out.taken[row].and(valid);
            out.fault(&twice, JoinCheck::Matches, || GROUPED_TWICE.to_owned());
            out.taken[row].add(valid);
        } else {
            let twice = out.rows.present(row).and(kept);
            out.fault(&twice, JoinCheck::Result, || SAME_LABELSET.to_owned());
        }
        combined.write(&mut out.rows, row);
        Ok(())
    }
}

impl Operator for Join {
    fn name(&self) -> &'static str {
        "Join"
    }

    fn detail(&self) -> String {
        let word = if self.matching.on { "on" } else { "ignoring" };
        format!("{:?} {word} {:?}", self.op, self.matching.labels)
    }

    fn steps(&self) -> usize {
        self.steps
    }

    fn run(self: Arc<Self>, _: usize, inputs: Inputs) -> Result<RowStream> {
        Ok(once(async move {
            let memory = inputs.reserve("join");
            let (left, right) = inputs.collect_sides(self.steps, &memory).await?;
            let sides = [left, right];
            inputs.query.work(|interrupt| self.evaluate(&inputs, sides, interrupt))
        }))
    }
}
