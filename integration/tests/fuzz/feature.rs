//! Which parts of the language an expression uses, and how often each was seen to work.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use promql::ast::{AggregateOp, BinaryOp, Expr, ExprKind};
use promql::functions::{FUNCTIONS, FeatureGate, Function};
use promql::testlang::{MODIFIERS, modifiers_of};

/// A part of the language.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Feature {
    Function(&'static str),
    Aggregation(&'static str),
    Operator(&'static str),
    Modifier(&'static str),
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Feature::Function(name) => write!(f, "{name}()"),
            Feature::Aggregation(name) | Feature::Operator(name) | Feature::Modifier(name) => {
                f.write_str(name)
            }
        }
    }
}

/// The functions that are generated: without those that only Thanos has, and without the one for
/// start timestamps, which our engine leaves out.
pub(super) fn functions() -> impl Iterator<Item = &'static Function> {
    FUNCTIONS.iter().filter(|f| f.gate != FeatureGate::ExtendedRate && f.name != "start_timestamp")
}

/// The operator as a feature; set operators and arithmetic ones have names of their own.
pub(super) fn operator(op: BinaryOp) -> Feature {
    Feature::Operator(op.as_str())
}

/// The operator of that name.
pub(super) fn operator_named(name: &str) -> BinaryOp {
    BinaryOp::ALL.into_iter().find(|op| op.as_str() == name).expect("an operator of the table")
}

/// Everything that has to occur.
pub(super) fn all() -> Vec<Feature> {
    let mut all: Vec<Feature> = functions().map(|f| Feature::Function(f.name)).collect();
    all.extend(AggregateOp::ALL.map(|op| Feature::Aggregation(op.as_str())));
    all.extend(BinaryOp::ALL.map(operator));
    all.extend(MODIFIERS.map(Feature::Modifier));
    all
}

/// The features of an expression.
pub(super) fn used_by(expr: &Expr) -> BTreeSet<Feature> {
    let mut used = BTreeSet::new();
    expr.walk(&mut |e| {
        own(e, &mut used);
        true
    });
    used
}

fn own(expr: &Expr, used: &mut BTreeSet<Feature>) {
    used.extend(modifiers_of(expr).into_iter().map(Feature::Modifier));
    match &expr.kind {
        ExprKind::Call(call) => _ = used.insert(Feature::Function(call.func)),
        ExprKind::Aggregate(aggregation) => {
            _ = used.insert(Feature::Aggregation(aggregation.op.as_str()))
        }
        ExprKind::Binary(binary) => _ = used.insert(operator(binary.op)),
        _ => {}
    }
}

/// How often each feature was in an expression, and in one with a result on both sides.
#[derive(Clone, Debug, Default)]
pub(super) struct Coverage {
    seen: BTreeMap<Feature, (usize, usize)>,
}

impl Coverage {
    pub(super) fn add(&mut self, expr: &Expr, non_empty: bool) {
        for feature in used_by(expr) {
            let (asked, answered) = self.seen.entry(feature).or_default();
            *asked += 1;
            *answered += usize::from(non_empty);
        }
    }

    /// The features that no expression with a non-empty answer has.
    pub(super) fn missing(&self) -> Vec<Feature> {
        let answered =
            |feature: &Feature| self.seen.get(feature).map_or(0, |(_, answered)| *answered);
        all().into_iter().filter(|feature| answered(feature) == 0).collect()
    }
}

impl fmt::Display for Coverage {
    /// A table: non-empty successes of all expressions with the feature.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for row in all().chunks(4) {
            for feature in row {
                let (asked, answered) = self.seen.get(feature).copied().unwrap_or_default();
                write!(f, "{:<32}{:<14}", feature.to_string(), format!("{answered}/{asked}"))?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}
