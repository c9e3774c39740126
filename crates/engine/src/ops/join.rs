//! Arithmetic and comparison between vectors.
//!
//! Series are matched by labels once, not per step; what Prometheus checks per step (that the "one" side is one) is
//! checked by intersecting bitmaps.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use datafusion::common::Result;
use model::{Labels, LabelsBuilder};
use promql::ast::{BinaryOp, Cardinality, Span, VectorMatching};
use promql::kernels::aggregate::for_each_bit;
use promql::kernels::binary::{arithmetic, changes_metric, compare, is_comparison, is_trim};
use promql::kernels::native::{self, Value};
use promql::kernels::notes::Notes;

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
    any: Vec<u64>,
}

impl Side {
    fn new(inputs: &Inputs, rows: Rows, signatures: &[u32], count: usize) -> Side {
        let mut members = vec![Vec::new(); count];
        let mut any = vec![0u64; rows.words()];
        for (row, signature) in signatures.iter().enumerate() {
            members[*signature as usize].push(row);
            any.iter_mut().zip(rows.present(row)).for_each(|(a, p)| *a |= p);
        }
        Side { labels: inputs.query.labels_of(&rows), rows, members, any }
    }

    fn union(&self, members: &[usize]) -> Vec<u64> {
        let mut union = vec![0u64; self.rows.words()];
        for row in members {
            union.iter_mut().zip(self.rows.present(*row)).for_each(|(u, p)| *u |= p);
        }
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
    mask: &'a [u64],
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
    taken: Vec<Vec<u64>>,
    /// The steps at which the signature at hand was matched.
    matched: Vec<u64>,
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
    fn fault(&mut self, mask: &[u64], check: Check, text: impl FnOnce() -> String) {
        let Some(word) = mask.iter().position(|w| *w != 0) else { return };
        let step = word * 64 + mask[word].trailing_zeros() as usize;
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
            matched: vec![0; many.rows.words()],
            last_notes: BTreeMap::new(),
            fault: None,
        };
        // Where one whole side is empty nothing is looked at, unless either is filled in.
        let fills = fill_many.is_some() || fill_one.is_some();
        let looked_at = if fills { either(&many.any, &one.any) } else { both(&many.any, &one.any) };
        for signature in 0..count {
            self.check_one(&mut out, &one, &one.members[signature], &looked_at);
            out.matched.fill(0);
            for row in &many.members[signature] {
                inputs.query.check_alive()?;
                for other in &one.members[signature] {
                    let mask = both(many.rows.present(*row), one.rows.present(*other));
                    self.pair(
                        &mut out,
                        Place { signature, mask: &mask },
                        (&many, Operand::Row(*row)),
                        (&one, Operand::Row(*other)),
                    );
                }
                if let Some(fill) = fill_one {
                    let mask = minus(many.rows.present(*row), &one.union(&one.members[signature]));
                    self.pair(
                        &mut out,
                        Place { signature, mask: &mask },
                        (&many, Operand::Row(*row)),
                        (&one, Operand::Fill(fill)),
                    );
                }
            }
            if let Some(fill) = fill_many {
                for other in &one.members[signature] {
                    let mask = minus(one.rows.present(*other), &out.matched);
                    self.pair(
                        &mut out,
                        Place { signature, mask: &mask },
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
    fn check_one(&self, out: &mut Output, one: &Side, members: &[usize], looked_at: &[u64]) {
        for (i, row) in members.iter().enumerate() {
            for earlier in &members[..i] {
                let overlap = both(one.rows.present(*row), one.rows.present(*earlier));
                out.fault(&both(&overlap, looked_at), Check::OneSide, || {
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
        if mask.iter().all(|w| *w == 0) {
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
            self.compute_mixed((&mut out.last_notes, order), left, right, mask)
        } else if is_comparison(self.op) {
            let (result, kept) = self.compare(values(left.0, left.1), values(right.0, right.1), mask);
            (result, kept, Cow::Borrowed(mask))
        } else {
            let operands = Computed::Arithmetic(values(left.0, left.1), values(right.0, right.1));
            (operands, Cow::Borrowed(mask), Cow::Borrowed(mask))
        };
        let one_to_one = self.matching.cardinality == Cardinality::OneToOne;
        let again = both(&out.matched, &valid);
        if one_to_one {
            out.fault(&again, Check::Matches, || MANY_TO_ONE.to_owned());
        }
        out.matched.iter_mut().zip(&*valid).for_each(|(m, v)| *m |= v);
        if valid.iter().all(|w| *w == 0) || (one_to_one && kept.iter().all(|w| *w == 0)) {
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
                out.taken.push(vec![0; valid.len()]);
                out.labels.len() - 1
            }
        };
        if out.signature[at] == signature {
            let twice = both(&out.taken[at], &valid);
            out.fault(&twice, Check::Matches, || GROUPED_TWICE.to_owned());
            out.taken[at].iter_mut().zip(&*valid).for_each(|(t, v)| *t |= v);
        } else {
            let twice = both(out.rows.present(at), &kept);
            out.fault(&twice, Check::Result, || SAME_LABELSET.to_owned());
        }
        match result {
            Computed::Arithmetic(left, right) => {
                let (values, present) = out.rows.row_mut(at);
                arithmetic_row(self.op, (left, right), &kept, values);
                present.iter_mut().zip(&*kept).for_each(|(present, bits)| *present |= bits);
            }
            Computed::Floats(result) => {
                let (values, present) = out.rows.row_mut(at);
                for (word, bits) in kept.iter().enumerate() {
                    present[word] |= bits;
                    for_each_bit(*bits, |k| values[word * 64 + k] = result[word * 64 + k]);
                }
            }
            Computed::Mixed(result) => {
                result.into_iter().for_each(|(step, value)| out.rows.set_sample(at, step, Some(value)));
            }
        }
    }

    /// Values of a comparison, and the steps of `mask` that stay.
    fn compare<'a>(&self, left: Values<'a>, right: Values<'a>, mask: &[u64]) -> (Computed<'a>, Cow<'a, [u64]>) {
        let mut result = vec![0.0; self.steps];
        let mut kept = mask.to_vec();
        for (word, bits) in kept.iter_mut().enumerate() {
            for_each_bit(*bits, |k| {
                let at = word * 64 + k;
                let (a, b) = (left.at(at), right.at(at));
                let holds = compare(self.op, a, b).unwrap_or(false);
                if self.return_bool {
                    result[at] = f64::from(u8::from(holds));
                } else {
                    result[at] = a;
                    *bits &= !(u64::from(!holds) << k);
                }
            });
        }
        (Computed::Floats(result), Cow::Owned(kept))
    }

    /// The same where a side may have histograms, and the steps at which the operator is defined. Notes go to `last`
    /// where no later pair, by the order of pairs, has some.
    fn compute_mixed(
        &self,
        (last, order): (&mut LastNotes, PairOrder),
        (left, a): (&Rows, Operand),
        (right, b): (&Rows, Operand),
        mask: &[u64],
    ) -> (Computed<'static>, Cow<'static, [u64]>, Cow<'static, [u64]>) {
        let mut result = Vec::new();
        let (mut kept, mut valid) = (vec![0u64; mask.len()], vec![0u64; mask.len()]);
        for (word, bits) in mask.iter().enumerate() {
            for_each_bit(*bits, |k| {
                let step = word * 64 + k;
                let (x, y) = (sample(left, a, step), sample(right, b, step));
                let mut notes = Notes::default();
                let value = if self.return_bool {
                    native::compare(self.op, x, y, &mut notes).map(|holds| Value::Float(f64::from(u8::from(holds))))
                } else {
                    native::binary(self.op, x, y, &mut notes)
                };
                if value.is_some() || notes.is_empty() {
                    valid[word] |= 1 << k;
                }
                if !notes.is_empty() && last.get(&step).is_none_or(|(known, _)| *known <= order) {
                    last.insert(step, (order, notes));
                }
                if let Some(value) = value {
                    kept[word] |= 1 << k;
                    result.push((step, value));
                }
            });
        }
        (Computed::Mixed(result), Cow::Owned(kept), Cow::Owned(valid))
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
fn arithmetic_row(op: BinaryOp, sides: (Values<'_>, Values<'_>), mask: &[u64], out: &mut [f64]) {
    match op {
        BinaryOp::Add => at_steps(sides, mask, out, |a, b| a + b),
        BinaryOp::Sub => at_steps(sides, mask, out, |a, b| a - b),
        BinaryOp::Mul => at_steps(sides, mask, out, |a, b| a * b),
        BinaryOp::Div => at_steps(sides, mask, out, |a, b| a / b),
        _ => at_steps(sides, mask, out, |a, b| arithmetic(op, a, b)),
    }
}

fn at_steps((left, right): (Values<'_>, Values<'_>), mask: &[u64], out: &mut [f64], f: impl Fn(f64, f64) -> f64) {
    for (word, bits) in mask.iter().enumerate().filter(|(_, bits)| **bits != 0) {
        let from = word * 64;
        let steps = from..(from + 64).min(out.len());
        match (left, right) {
            (Values::Row(a), Values::Row(b)) if bits.count_ones() as usize == steps.len() => {
                let (a, b) = (&a[steps.clone()], &b[steps.clone()]);
                out[steps].iter_mut().zip(a).zip(b).for_each(|((out, a), b)| *out = f(*a, *b));
            }
            _ => for_each_bit(*bits, |k| out[from + k] = f(left.at(from + k), right.at(from + k))),
        }
    }
}

fn either(a: &[u64], b: &[u64]) -> Vec<u64> {
    a.iter().zip(b).map(|(a, b)| a | b).collect()
}

fn both(a: &[u64], b: &[u64]) -> Vec<u64> {
    a.iter().zip(b).map(|(a, b)| a & b).collect()
}

fn minus(a: &[u64], b: &[u64]) -> Vec<u64> {
    a.iter().zip(b).map(|(a, b)| a & !b).collect()
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
