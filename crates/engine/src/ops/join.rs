//! Arithmetic and comparison between vectors.
//!
//! Series are matched by labels once, not per step; what Prometheus checks per step (that the "one" side is one) is
//! checked by intersecting bitmaps.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use datafusion::common::Result;
use model::{Labels, LabelsBuilder};
use promql::ast::{BinaryOp, Cardinality, Span, VectorMatching};
use promql::kernels::Column;
use promql::kernels::binary::{arithmetic, changes_metric, compare, is_comparison, is_trim};
use promql::kernels::native::{self, Value};
use promql::kernels::notes::Notes;
use promql::kernels::steps::{StepSet, StepsView, WORD_STEPS, for_each_bit};

use super::distinct::SAME_LABELSET;
use super::groups::Grouping;
use super::map::{relabel, without_empty};
use super::set::Signatures;
use crate::batch::{RowStream, Rows};
use crate::context::METADATA_LABELS;
use crate::error::execution;
use crate::exec::{Inputs, Operator, once};

const MANY_TO_ONE: &str = "multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)";

const GROUPED_TWICE: &str = "multiple matches for labels: grouping labels must ensure unique matches";

/// A binary operator between two vectors.
#[derive(Debug)]
pub(crate) struct Join {
    pub(crate) op: BinaryOp,
    pub(crate) return_bool: bool,
    pub(crate) matching: VectorMatching,
    pub(crate) span: Span,
    pub(crate) steps: usize,
    /// Names that go away do so at the end of the query.
    pub(crate) keep_names: bool,
}

/// One side of the join.
struct Side {
    rows: Rows,
    labels: Vec<Labels>,
    /// The rows of each signature.
    members: Vec<Vec<usize>>,
    /// The steps at which any row has a value.
    any: StepSet,
}

impl Side {
    fn new(inputs: &Inputs, rows: Rows, signatures: &[u32], count: usize) -> Side {
        let mut members = vec![Vec::new(); count];
        let mut any = StepSet::none(rows.steps);
        for (row, signature) in signatures.iter().enumerate() {
            members[*signature as usize].push(row);
            any.add(rows.present(row));
        }
        Side { labels: inputs.query.labels_of(&rows), rows, members, any }
    }

    fn union(&self, members: &[usize]) -> StepSet {
        let mut union = StepSet::none(self.rows.steps);
        members.iter().for_each(|row| union.add(self.rows.present(*row)));
        union
    }
}

/// One operand of a pair: a row, or a number that fills in for a missing one.
#[derive(Clone, Copy)]
enum Operand {
    Row(usize),
    Fill(f64),
}

/// Where a pair of operands is combined.
#[derive(Clone, Copy)]
struct Place<'a> {
    signature: usize,
    mask: StepsView<'a>,
}

/// The order of pairs at a step: by the series of the "many" side, and those that fill in for one behind them.
type PairOrder = (bool, usize);

/// By step, and which pair they are of.
type LastNotes = BTreeMap<usize, (PairOrder, Notes)>;

/// The join's output as it grows.
struct Output {
    rows: Rows,
    labels: Vec<Labels>,
    by_labels: HashMap<Labels, usize>,
    /// The signature that made the row; a second one at the same step is a plain duplicate.
    signature: Vec<usize>,
    /// The steps at which that signature gave the row a value, or a comparison that does not hold.
    taken: Vec<StepSet>,
    /// The steps at which the signature at hand was matched.
    matched: StepSet,
    /// What the last pair of each step had to note: Prometheus forgets those before it.
    last_notes: LastNotes,
    fault: Option<Fault>,
}

/// Why there is no result. Prometheus goes step by step and stops at the first fault: of two that one is told.
#[derive(Debug)]
struct Fault {
    step: usize,
    check: Check,
    text: String,
}

/// The checks in the order in which they are made at a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Check {
    OneSide,
    Matches,
    Result,
}

impl Output {
    /// Notes a fault at the first step of a mask, if there is one.
    fn fault(&mut self, mask: &StepSet, check: Check, text: impl FnOnce() -> String) {
        let Some(step) = mask.first() else { return };
        if self.fault.as_ref().is_none_or(|known| (step, check) < (known.step, known.check)) {
            self.fault = Some(Fault { step, check, text: text() });
        }
    }
}

impl Join {
    fn grouping(&self) -> Grouping {
        Grouping { labels: self.matching.labels.clone(), without: !self.matching.on }
    }

    fn one_is_left(&self) -> bool {
        self.matching.cardinality == Cardinality::OneToMany
    }

    fn evaluate(&self, inputs: &Inputs, left: Rows, right: Rows) -> Result<Rows> {
        let mut signatures = Signatures::new();
        let of_left = signatures.of(inputs, &self.grouping(), &left);
        let of_right = signatures.of(inputs, &self.grouping(), &right);
        let count = signatures.len();
        let left = Side::new(inputs, left, &of_left, count);
        let right = Side::new(inputs, right, &of_right, count);
        let (many, one) = if self.one_is_left() { (right, left) } else { (left, right) };
        // With the sides swapped for `group_right` Prometheus leaves the fill values where they were.
        let (fill_many, fill_one) = (self.matching.fill_left, self.matching.fill_right);
        let mut out = Output {
            // mostly a row per series of this side; what grows by doubling is copied and paged in more than once
            rows: Rows::with_capacity(self.steps, many.rows.len()),
            labels: Vec::new(),
            by_labels: HashMap::new(),
            signature: Vec::new(),
            taken: Vec::new(),
            matched: StepSet::none(self.steps),
            last_notes: BTreeMap::new(),
            fault: None,
        };
        // Where one whole side is empty nothing is looked at, unless either is filled in.
        let fills = fill_many.is_some() || fill_one.is_some();
        let looked_at = if fills { many.any.or(one.any.view()) } else { many.any.and(one.any.view()) };
        for signature in 0..count {
            self.check_one(&mut out, &one, &one.members[signature], &looked_at);
            out.matched.clear();
            for row in &many.members[signature] {
                inputs.query.check_alive()?;
                for other in &one.members[signature] {
                    let mask = many.rows.present(*row).and(one.rows.present(*other));
                    self.pair(
                        &mut out,
                        Place { signature, mask: mask.view() },
                        (&many, Operand::Row(*row)),
                        (&one, Operand::Row(*other)),
                    );
                }
                if let Some(fill) = fill_one {
                    let mask = many.rows.present(*row).minus(one.union(&one.members[signature]).view());
                    self.pair(
                        &mut out,
                        Place { signature, mask: mask.view() },
                        (&many, Operand::Row(*row)),
                        (&one, Operand::Fill(fill)),
                    );
                }
            }
            if let Some(fill) = fill_many {
                for other in &one.members[signature] {
                    let mask = one.rows.present(*other).minus(out.matched.view());
                    self.pair(
                        &mut out,
                        Place { signature, mask: mask.view() },
                        (&many, Operand::Fill(fill)),
                        (&one, Operand::Row(*other)),
                    );
                }
            }
        }
        if let Some(fault) = out.fault {
            return Err(execution(fault.text));
        }
        let mut notes = Notes::default();
        out.last_notes.into_values().for_each(|(_, last)| notes.append(last));
        inputs.query.note(&notes, self.span, "");
        relabel(&inputs.query, &mut out.rows, out.labels);
        Ok(without_empty(out.rows))
    }

    /// Two series of the "one" side with the same matching labels at the same step are an error.
    fn check_one(&self, out: &mut Output, one: &Side, members: &[usize], looked_at: &StepSet) {
        for (i, row) in members.iter().enumerate() {
            for earlier in &members[..i] {
                let mut overlap = one.rows.present(*row).and(one.rows.present(*earlier));
                overlap.keep(looked_at.view());
                out.fault(&overlap, Check::OneSide, || {
                    let (a, b) = (&one.labels[*earlier], &one.labels[*row]);
                    let (first, second) = if a < b { (a, b) } else { (b, a) };
                    let group = self.match_group(first);
                    let side = if self.one_is_left() { "left" } else { "right" };
                    format!(
                        "found duplicate series for the match group {group} on the {side} hand-side of the operation: [{first}, {second}];many-to-many matching not allowed: matching labels must be unique on one side"
                    )
                });
            }
        }
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

    /// Combines two operands at the steps of a mask into the output row of their labels.
    fn pair(&self, out: &mut Output, place: Place<'_>, (many, a): (&Side, Operand), (one, b): (&Side, Operand)) {
        let Place { signature, mask } = place;
        if mask.is_empty() {
            return;
        }
        fn labels(side: &Side, operand: Operand) -> Option<&Labels> {
            if let Operand::Row(row) = operand { Some(&side.labels[row]) } else { None }
        }
        let (x, y) = ((&many.rows, a), (&one.rows, b));
        let (left, right) = if self.one_is_left() { (y, x) } else { (x, y) };
        let (result, kept, valid) = if is_trim(self.op) || has_histograms(left) || has_histograms(right) {
            let order = match (a, b) {
                (Operand::Row(row), _) => (false, row),
                (_, Operand::Row(row)) => (true, row),
                (Operand::Fill(_), Operand::Fill(_)) => (true, usize::MAX),
            };
            let (result, kept, valid) = self.compute_mixed((&mut out.last_notes, order), left, right, mask);
            (result, Mask::Own(kept), Mask::Own(valid))
        } else if is_comparison(self.op) {
            let (result, kept) = self.compare(values(left.0, left.1), values(right.0, right.1), mask);
            (result, Mask::Own(kept), Mask::Whole(mask))
        } else {
            let operands = Computed::Arithmetic(values(left.0, left.1), values(right.0, right.1));
            (operands, Mask::Whole(mask), Mask::Whole(mask))
        };
        let one_to_one = self.matching.cardinality == Cardinality::OneToOne;
        if one_to_one {
            let again = out.matched.and(valid.view());
            out.fault(&again, Check::Matches, || MANY_TO_ONE.to_owned());
        }
        out.matched.add(valid.view());
        if valid.is_empty() || (one_to_one && kept.is_empty()) {
            return;
        }
        let mut result_labels = self.result_labels(labels(many, a), labels(one, b));
        // a comparison keeps even a name that an operand was about to lose
        let drop_name = self.return_bool && result_labels.metric_name().is_some();
        let at = match out.by_labels.get(&result_labels) {
            Some(at) => *at,
            None => {
                out.by_labels.insert(result_labels.clone(), out.labels.len());
                out.labels.push(std::mem::take(&mut result_labels));
                out.rows.push_empty(0, drop_name);
                out.signature.push(signature);
                out.taken.push(StepSet::none(self.steps));
                out.labels.len() - 1
            }
        };
        if out.signature[at] == signature {
            let twice = out.taken[at].and(valid.view());
            out.fault(&twice, Check::Matches, || GROUPED_TWICE.to_owned());
            out.taken[at].add(valid.view());
        } else {
            let twice = out.rows.present(at).and(kept.view());
            out.fault(&twice, Check::Result, || SAME_LABELSET.to_owned());
        }
        match result {
            Computed::Arithmetic(left, right) => {
                let Column { values, mut present } = out.rows.row_mut(at);
                arithmetic_row(self.op, (left, right), kept.view(), values);
                present.add(kept.view());
            }
            Computed::Floats(result) => {
                let Column { values, mut present } = out.rows.row_mut(at);
                kept.view().for_each(|step| values[step] = result[step]);
                present.add(kept.view());
            }
            Computed::Mixed(result) => {
                result.into_iter().for_each(|(step, value)| out.rows.set_sample(at, step, Some(value)));
            }
        }
    }

    /// Values of a comparison, and the steps of `mask` that stay.
    fn compare<'a>(&self, left: Values<'a>, right: Values<'a>, mask: StepsView<'_>) -> (Computed<'a>, StepSet) {
        let mut result = vec![0.0; self.steps];
        let mut kept = mask.to_set();
        kept.retain(|step| {
            let (a, b) = (left.at(step), right.at(step));
            let holds = compare(self.op, a, b).unwrap_or(false);
            result[step] = if self.return_bool { f64::from(u8::from(holds)) } else { a };
            holds || self.return_bool
        });
        (Computed::Floats(result), kept)
    }

    /// The same where a side may have histograms, and the steps at which the operator is defined. Notes go to `last`
    /// where no later pair, by the order of pairs, has some.
    fn compute_mixed(
        &self,
        (last, order): (&mut LastNotes, PairOrder),
        (left, a): (&Rows, Operand),
        (right, b): (&Rows, Operand),
        mask: StepsView<'_>,
    ) -> (Computed<'static>, StepSet, StepSet) {
        let mut result = Vec::new();
        let (mut kept, mut valid) = (StepSet::none(self.steps), StepSet::none(self.steps));
        mask.for_each(|step| {
            let (x, y) = (sample(left, a, step), sample(right, b, step));
            let mut notes = Notes::default();
            let value = if self.return_bool {
                native::compare(self.op, x, y, &mut notes).map(|holds| Value::Float(f64::from(u8::from(holds))))
            } else {
                native::binary(self.op, x, y, &mut notes)
            };
            if value.is_some() || notes.is_empty() {
                valid.insert(step);
            }
            if !notes.is_empty() && last.get(&step).is_none_or(|(known, _)| *known <= order) {
                last.insert(step, (order, notes));
            }
            if let Some(value) = value {
                kept.insert(step);
                result.push((step, value));
            }
        });
        (Computed::Mixed(result), kept, valid)
    }
}

/// At which steps of its mask a pair has something: at all, or at these.
enum Mask<'a> {
    Whole(StepsView<'a>),
    Own(StepSet),
}

impl Mask<'_> {
    fn view(&self) -> StepsView<'_> {
        match self {
            Mask::Whole(mask) => *mask,
            Mask::Own(steps) => steps.view(),
        }
    }

    fn is_empty(&self) -> bool {
        self.view().is_empty()
    }
}

/// The results of a pair: yet to be computed, at all steps, or those that there are.
enum Computed<'a> {
    Arithmetic(Values<'a>, Values<'a>),
    Floats(Vec<f64>),
    Mixed(Vec<(usize, Value)>),
}

fn has_histograms((rows, operand): (&Rows, Operand)) -> bool {
    matches!(operand, Operand::Row(row) if rows.histograms(row).is_some())
}

fn sample(rows: &Rows, operand: Operand, step: usize) -> native::Operand<'_> {
    match operand {
        Operand::Row(row) => rows.sample(row, step),
        Operand::Fill(value) => native::Operand::Float(value),
    }
}

/// The values of an operand.
#[derive(Clone, Copy)]
enum Values<'a> {
    Row(&'a [f64]),
    Same(f64),
}

impl Values<'_> {
    #[inline(always)]
    fn at(&self, k: usize) -> f64 {
        match self {
            Values::Row(values) => values[k],
            Values::Same(value) => *value,
        }
    }
}

fn values(rows: &Rows, operand: Operand) -> Values<'_> {
    match operand {
        Operand::Row(row) => Values::Row(rows.values(row)),
        Operand::Fill(value) => Values::Same(value),
    }
}

/// Sets `out` at the steps of `mask`.
fn arithmetic_row(op: BinaryOp, sides: (Values<'_>, Values<'_>), mask: StepsView<'_>, out: &mut [f64]) {
    match op {
        BinaryOp::Add => at_steps(sides, mask, out, |a, b| a + b),
        BinaryOp::Sub => at_steps(sides, mask, out, |a, b| a - b),
        BinaryOp::Mul => at_steps(sides, mask, out, |a, b| a * b),
        BinaryOp::Div => at_steps(sides, mask, out, |a, b| a / b),
        _ => at_steps(sides, mask, out, |a, b| arithmetic(op, a, b)),
    }
}

fn at_steps(
    (left, right): (Values<'_>, Values<'_>),
    mask: StepsView<'_>,
    out: &mut [f64],
    f: impl Fn(f64, f64) -> f64,
) {
    for (from, bits) in mask.by_word().filter(|(_, bits)| *bits != 0) {
        let steps = from..(from + WORD_STEPS).min(out.len());
        match (left, right) {
            (Values::Row(a), Values::Row(b)) if bits.count_ones() as usize == steps.len() => {
                let (a, b) = (&a[steps.clone()], &b[steps.clone()]);
                out[steps].iter_mut().zip(a).zip(b).for_each(|((out, a), b)| *out = f(*a, *b));
            }
            _ => for_each_bit(bits, |k| out[from + k] = f(left.at(from + k), right.at(from + k))),
        }
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
            let out = self.evaluate(&inputs, left, right)?;
            Ok(out)
        }))
    }
}
