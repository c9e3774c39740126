//! Binary operators where a side may be a histogram.

use std::sync::Arc;

use model::FloatHistogram;
use model::histogram::{HistogramError, Reconciled, ResetHint};

use crate::ast::BinaryOp;
use crate::kernels::binary as floats;
use crate::kernels::notes::{HistogramOperation, Note, Notes, SampleKind};

/// One side of an operator.
#[derive(Clone, Copy, Debug)]
pub enum Operand<'a> {
    Float(f64),
    Histogram(&'a Arc<FloatHistogram>),
}

/// The result of an operator or function on samples.
#[derive(Clone, Debug, PartialEq)]
pub enum ComputedValue {
    Float(f64),
    Histogram(Arc<FloatHistogram>),
}

impl Operand<'_> {
    fn kind(self) -> SampleKind {
        match self {
            Operand::Float(_) => SampleKind::Float,
            Operand::Histogram(_) => SampleKind::Histogram,
        }
    }
}

impl From<Operand<'_>> for ComputedValue {
    fn from(operand: Operand<'_>) -> ComputedValue {
        match operand {
            Operand::Float(v) => ComputedValue::Float(v),
            Operand::Histogram(h) => ComputedValue::Histogram(h.clone()),
        }
    }
}

impl From<FloatHistogram> for ComputedValue {
    fn from(h: FloatHistogram) -> ComputedValue {
        ComputedValue::Histogram(Arc::new(h))
    }
}

/// Evaluates any operator except set operators. Comparisons are filters here: they give the left
/// side where they hold. There is no result where they do not, and where the operator is not
/// defined on the two sides, which is noted.
pub fn binary(
    op: BinaryOp,
    left: Operand<'_>,
    right: Operand<'_>,
    notes: &mut Notes,
) -> Option<ComputedValue> {
    use BinaryOp::*;
    if op.is_comparison() {
        return compare(op, left, right, notes)?.then(|| left.into());
    }
    Some(match (left, op, right) {
        (Operand::Float(_), TrimUpper | TrimLower, Operand::Float(_)) => {
            return incompatible(op, left, right, notes);
        }
        (Operand::Float(a), _, Operand::Float(b)) => {
            ComputedValue::Float(floats::arithmetic(op, a, b))
        }
        (Operand::Histogram(h), Mul, Operand::Float(factor))
        | (Operand::Float(factor), Mul, Operand::Histogram(h)) => {
            compacted(h, |result| result.mul(factor))
        }
        (Operand::Histogram(h), Div, Operand::Float(divisor)) => {
            compacted(h, |result| result.div(divisor))
        }
        (Operand::Histogram(h), TrimUpper, Operand::Float(bound)) => {
            changed(h, |result| result.trim_upper(bound))
        }
        (Operand::Histogram(h), TrimLower, Operand::Float(bound)) => {
            changed(h, |result| result.trim_lower(bound))
        }
        (Operand::Histogram(a), Add, Operand::Histogram(b)) => {
            return combine(op, HistogramOperation::Addition, a, |result| result.add(b), notes);
        }
        (Operand::Histogram(a), Sub, Operand::Histogram(b)) => {
            return combine(op, HistogramOperation::Subtraction, a, |result| result.sub(b), notes);
        }
        _ => return incompatible(op, left, right, notes),
    })
}

/// The truth of a comparison; `None`, with a note, where it is not defined on the two sides.
/// Histograms are equal when they hold the same data.
pub fn compare(
    op: BinaryOp,
    left: Operand<'_>,
    right: Operand<'_>,
    notes: &mut Notes,
) -> Option<bool> {
    match (left, op, right) {
        (Operand::Float(a), _, Operand::Float(b)) => floats::compare(op, a, b),
        (Operand::Histogram(a), BinaryOp::Eq, Operand::Histogram(b)) => Some(a.same_data(b)),
        (Operand::Histogram(a), BinaryOp::Ne, Operand::Histogram(b)) => Some(!a.same_data(b)),
        _ => incompatible(op, left, right, notes),
    }
}

/// Unary minus: a gauge.
pub fn negate(h: &FloatHistogram) -> FloatHistogram {
    let mut negated = h.clone();
    negated.mul(-1.0);
    negated
}

fn incompatible<T>(
    op: BinaryOp,
    left: Operand<'_>,
    right: Operand<'_>,
    notes: &mut Notes,
) -> Option<T> {
    notes.push(Note::IncompatibleTypes(left.kind(), op, right.kind()));
    None
}

fn changed(h: &FloatHistogram, change: impl FnOnce(&mut FloatHistogram)) -> ComputedValue {
    let mut result = h.clone();
    change(&mut result);
    result.into()
}

fn compacted(h: &FloatHistogram, change: impl FnOnce(&mut FloatHistogram)) -> ComputedValue {
    changed(h, |result| {
        change(result);
        result.compact(0);
    })
}

/// A sum or difference. There is no result where the kinds of buckets differ or what is known about
/// resets is contradictory.
fn combine(
    op: BinaryOp,
    operation: HistogramOperation,
    left: &FloatHistogram,
    with: impl FnOnce(&mut FloatHistogram) -> Result<Reconciled, HistogramError>,
    notes: &mut Notes,
) -> Option<ComputedValue> {
    let mut result = left.clone();
    let Ok(done) = with(&mut result) else {
        notes.push(Note::IncompatibleBucketLayout(op));
        return None;
    };
    if done.reset_hints_collided {
        notes.push(Note::CounterResetCollision(operation));
        return None;
    }
    if done.custom_bounds_intersected {
        notes.push(Note::MismatchedCustomBuckets(operation));
    }
    if operation == HistogramOperation::Subtraction {
        result.hint = ResetHint::Gauge;
    }
    result.compact(0);
    Some(result.into())
}
