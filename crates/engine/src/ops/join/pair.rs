//! The result of two series at the steps at which both exist.

use std::collections::BTreeMap;

use model::Labels;
use promql::ast::BinaryOp;
use promql::kernels::FloatColumn;
use promql::kernels::binary::{arithmetic, compare, is_comparison, is_trim};
use promql::kernels::interrupt::Interrupt;
use promql::kernels::mixed::histogram_units;
use promql::kernels::native::{self, ComputedValue};
use promql::kernels::notes::Notes;
use promql::kernels::steps::{StepSet, StepsView, WORD_STEPS, for_each_bit};

use crate::batch::Rows;

/// One operand of a pair: a row, or a number that fills in for a missing one.
#[derive(Clone, Copy)]
pub(super) enum PairOperand<'a> {
    Row { rows: &'a Rows, row: usize, labels: &'a Labels },
    Fill(f64),
}

impl<'a> PairOperand<'a> {
    pub(super) fn labels(self) -> Option<&'a Labels> {
        match self {
            PairOperand::Row { labels, .. } => Some(labels),
            PairOperand::Fill(_) => None,
        }
    }

    fn has_histograms(self) -> bool {
        matches!(self, PairOperand::Row { rows, row, .. } if rows.histograms(row).is_some())
    }

    fn sample(self, step: usize) -> native::Operand<'a> {
        match self {
            PairOperand::Row { rows, row, .. } => rows.sample(row, step),
            PairOperand::Fill(value) => native::Operand::Float(value),
        }
    }

    fn values(self) -> OperandValues<'a> {
        match self {
            PairOperand::Row { rows, row, .. } => OperandValues::Row(rows.values(row)),
            PairOperand::Fill(value) => OperandValues::Same(value),
        }
    }
}

/// The values of an operand.
#[derive(Clone, Copy)]
enum OperandValues<'a> {
    Row(&'a [f64]),
    Same(f64),
}

impl OperandValues<'_> {
    #[inline(always)]
    fn at(&self, k: usize) -> f64 {
        match self {
            OperandValues::Row(values) => values[k],
            OperandValues::Same(value) => *value,
        }
    }
}

/// The values left and right of the operator.
#[derive(Clone, Copy)]
struct PairValues<'a> {
    left: OperandValues<'a>,
    right: OperandValues<'a>,
}

/// Two operands, and the steps at which they are combined.
#[derive(Clone, Copy)]
pub(super) struct OperandPair<'a> {
    pub(super) many: PairOperand<'a>,
    pub(super) one: PairOperand<'a>,
    pub(super) mask: StepsView<'a>,
}

/// The order of pairs at a step: by the series of the "many" side, and those that fill in for a
/// missing one last.
type PairOrder = (bool, usize);

impl OperandPair<'_> {
    fn order(self) -> PairOrder {
        match (self.many, self.one) {
            (PairOperand::Row { row, .. }, _) => (false, row),
            (_, PairOperand::Row { row, .. }) => (true, row),
            (PairOperand::Fill(_), PairOperand::Fill(_)) => (true, usize::MAX),
        }
    }
}

/// What the last pair of each step had to note: Prometheus forgets those before it.
#[derive(Default)]
pub(super) struct LastNotes(BTreeMap<usize, (PairOrder, Notes)>);

impl LastNotes {
    fn keep(&mut self, step: usize, order: PairOrder, notes: Notes) {
        if !notes.is_empty() && self.0.get(&step).is_none_or(|(known, _)| *known <= order) {
            self.0.insert(step, (order, notes));
        }
    }

    /// The notes of all steps.
    pub(super) fn all(self) -> Notes {
        let mut all = Notes::default();
        self.0.into_values().for_each(|(_, last)| all.append(last));
        all
    }
}

/// Some steps of a pair's mask: all of them, or these.
pub(super) enum Mask<'a> {
    Whole(StepsView<'a>),
    Own(StepSet),
}

impl Mask<'_> {
    pub(super) fn view(&self) -> StepsView<'_> {
        match self {
            Mask::Whole(mask) => *mask,
            Mask::Own(steps) => steps.view(),
        }
    }
}

/// What a pair gives.
pub(super) struct Combined<'a> {
    values: Computed<'a>,
    /// The steps at which there is a value.
    pub(super) kept: Mask<'a>,
    /// The steps at which the operator is defined; a comparison that does not hold gives no value
    /// there.
    pub(super) valid: Mask<'a>,
}

/// The values of a pair: yet to be computed, at all steps, or only the existing ones.
enum Computed<'a> {
    Arithmetic(BinaryOp, PairValues<'a>),
    Floats(Vec<f64>),
    Mixed(Vec<(usize, ComputedValue)>),
}

impl Combined<'_> {
    /// Sets the steps of a row that there are values for.
    pub(super) fn write(self, rows: &mut Rows, row: usize) {
        let kept = self.kept.view();
        match self.values {
            Computed::Arithmetic(op, sides) => {
                let FloatColumn { values, mut present } = rows.row_mut(row);
                compute(op, sides, kept, values);
                present.add(kept);
            }
            Computed::Floats(result) => {
                let FloatColumn { values, mut present } = rows.row_mut(row);
                kept.for_each(|step| values[step] = result[step]);
                present.add(kept);
            }
            Computed::Mixed(result) => {
                result
                    .into_iter()
                    .for_each(|(step, value)| rows.set_sample(row, step, Some(value)));
            }
        }
    }
}

/// How pairs are combined.
#[derive(Clone, Copy, Debug)]
pub(super) struct Combining {
    pub(super) op: BinaryOp,
    pub(super) return_bool: bool,
    /// The "one" side stands left of the operator.
    pub(super) one_is_left: bool,
    pub(super) steps: usize,
}

impl Combining {
    /// Combines the operands of a pair; where they may be histograms, notes go to `last`.
    pub(super) fn combine<'a>(
        self,
        pair: OperandPair<'a>,
        last: &mut LastNotes,
        interrupt: &Interrupt<'_>,
    ) -> Combined<'a> {
        let OperandPair { many, one, mask } = pair;
        if is_trim(self.op) || many.has_histograms() || one.has_histograms() {
            return self.mixed(pair, last, interrupt);
        }
        let (left, right) = if self.one_is_left { (one, many) } else { (many, one) };
        let sides = PairValues { left: left.values(), right: right.values() };
        if is_comparison(self.op) {
            return self.compared(sides, mask);
        }
        let values = Computed::Arithmetic(self.op, sides);
        Combined { values, kept: Mask::Whole(mask), valid: Mask::Whole(mask) }
    }

    fn compared<'a>(self, sides: PairValues<'a>, mask: StepsView<'a>) -> Combined<'a> {
        let mut result = vec![0.0; self.steps];
        let mut kept = mask.to_set();
        kept.retain(|step| {
            let (a, b) = (sides.left.at(step), sides.right.at(step));
            let holds = compare(self.op, a, b).unwrap_or(false);
            result[step] = if self.return_bool { f64::from(u8::from(holds)) } else { a };
            holds || self.return_bool
        });
        Combined {
            values: Computed::Floats(result),
            kept: Mask::Own(kept),
            valid: Mask::Whole(mask),
        }
    }

    fn mixed<'a>(
        self,
        pair: OperandPair<'a>,
        last: &mut LastNotes,
        interrupt: &Interrupt<'_>,
    ) -> Combined<'a> {
        let OperandPair { many, one, mask } = pair;
        let (left, right) = if self.one_is_left { (one, many) } else { (many, one) };
        let order = pair.order();
        let mut result = Vec::new();
        let (mut kept, mut valid) = (StepSet::none(self.steps), StepSet::none(self.steps));
        mask.for_each(|step| {
            let (x, y) = (left.sample(step), right.sample(step));
            if interrupt.after(units(x) + units(y)) {
                return;
            }
            let mut notes = Notes::default();
            let value = if self.return_bool {
                native::compare(self.op, x, y, &mut notes)
                    .map(|holds| ComputedValue::Float(f64::from(u8::from(holds))))
            } else {
                native::binary(self.op, x, y, &mut notes)
            };
            if value.is_some() || notes.is_empty() {
                valid.insert(step);
            }
            last.keep(step, order, notes);
            if let Some(value) = value {
                kept.insert(step);
                result.push((step, value));
            }
        });
        Combined { values: Computed::Mixed(result), kept: Mask::Own(kept), valid: Mask::Own(valid) }
    }
}

/// What working with an operand takes, for an interrupt.
fn units(operand: native::Operand<'_>) -> usize {
    match operand {
        native::Operand::Float(_) => 8,
        native::Operand::Histogram(histogram) => histogram_units(histogram),
    }
}

/// Sets `out` at the steps of `mask`.
fn compute(op: BinaryOp, sides: PairValues<'_>, mask: StepsView<'_>, out: &mut [f64]) {
    match op {
        BinaryOp::Add => at_steps(sides, mask, out, |a, b| a + b),
        BinaryOp::Sub => at_steps(sides, mask, out, |a, b| a - b),
        BinaryOp::Mul => at_steps(sides, mask, out, |a, b| a * b),
        BinaryOp::Div => at_steps(sides, mask, out, |a, b| a / b),
        _ => at_steps(sides, mask, out, |a, b| arithmetic(op, a, b)),
    }
}

fn at_steps(
    sides: PairValues<'_>,
    mask: StepsView<'_>,
    out: &mut [f64],
    f: impl Fn(f64, f64) -> f64,
) {
    let PairValues { left, right } = sides;
    for (from, bits) in mask.by_word().filter(|(_, bits)| *bits != 0) {
        let steps = from..(from + WORD_STEPS).min(out.len());
        match (left, right) {
            (OperandValues::Row(a), OperandValues::Row(b))
                if bits.count_ones() as usize == steps.len() =>
            {
                let (a, b) = (&a[steps.clone()], &b[steps.clone()]);
                out[steps].iter_mut().zip(a).zip(b).for_each(|((out, a), b)| *out = f(*a, *b));
            }
            _ => for_each_bit(bits, |k| out[from + k] = f(left.at(from + k), right.at(from + k))),
        }
    }
}
