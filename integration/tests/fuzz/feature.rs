//! What of the language an expression uses, and how often each part was seen to work.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use promql::ast::{
    AggregateOp, At, Binary, BinaryOp, Cardinality, Duration, Expr, ExprKind, Extension, VectorSelector,
};
use promql::functions::{FUNCTIONS, Function, Gate};

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
            Feature::Aggregation(name) | Feature::Operator(name) | Feature::Modifier(name) => f.write_str(name),
        }
    }
}

/// The functions that are generated: not those of Thanos alone, and not the one of start timestamps, which our engine
/// leaves out.
pub(super) fn functions() -> impl Iterator<Item = &'static Function> {
    FUNCTIONS.iter().filter(|f| f.gate != Gate::ExtendedRate && f.name != "start_timestamp")
}

const MODIFIERS: [&str; 22] = [
    "offset",
    "offset -",
    "@ time",
    "@ start()",
    "@ end()",
    "anchored",
    "smoothed",
    "duration expression",
    "subquery",
    "subquery without step",
    "by",
    "without",
    "bool",
    "on",
    "ignoring",
    "group_left",
    "group_right",
    "group_x with labels",
    "fill",
    "fill_left",
    "fill_right",
    "unary -",
];

/// The operator in the table of features; those of sets and of arithmetic have names of their own.
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
    let mut modifier = |name| _ = used.insert(Feature::Modifier(name));
    match &expr.kind {
        ExprKind::Vector(selector) => selector_modifiers(selector, &mut modifier),
        ExprKind::Matrix(matrix) => {
            selector_modifiers(&matrix.selector, &mut modifier);
            duration(Some(&matrix.range), &mut modifier);
        }
        ExprKind::Subquery(subquery) => {
            modifier(if subquery.step.is_some() { "subquery" } else { "subquery without step" });
            time_modifiers(subquery.offset.as_ref(), subquery.at, &mut modifier);
            duration(Some(&subquery.range), &mut modifier);
            duration(subquery.step.as_ref(), &mut modifier);
        }
        ExprKind::Call(call) => _ = used.insert(Feature::Function(call.func)),
        ExprKind::Aggregate(aggregation) => {
            if aggregation.without {
                modifier("without");
            } else if !aggregation.grouping.is_empty() {
                modifier("by");
            }
            used.insert(Feature::Aggregation(aggregation.op.as_str()));
        }
        ExprKind::Binary(binary) => {
            binary_modifiers(binary, &mut modifier);
            used.insert(operator(binary.op));
        }
        ExprKind::Unary(unary) if unary.negate => modifier("unary -"),
        _ => {}
    }
}

fn selector_modifiers(selector: &VectorSelector, modifier: &mut impl FnMut(&'static str)) {
    time_modifiers(selector.offset.as_ref(), selector.at, modifier);
    match selector.extension {
        Some(Extension::Anchored) => modifier("anchored"),
        Some(Extension::Smoothed) => modifier("smoothed"),
        None => {}
    }
}

fn time_modifiers(offset: Option<&Duration>, at: Option<At>, modifier: &mut impl FnMut(&'static str)) {
    duration(offset, modifier);
    if let Some(offset) = offset {
        modifier(if offset.millis.is_some_and(|ms| ms < 0) { "offset -" } else { "offset" });
    }
    match at {
        Some(At::Millis(_)) => modifier("@ time"),
        Some(At::Start) => modifier("@ start()"),
        Some(At::End) => modifier("@ end()"),
        None => {}
    }
}

fn duration(duration: Option<&Duration>, modifier: &mut impl FnMut(&'static str)) {
    if duration.is_some_and(|d| d.expr.is_some()) {
        modifier("duration expression");
    }
}

fn binary_modifiers(binary: &Binary, modifier: &mut impl FnMut(&'static str)) {
    if binary.return_bool {
        modifier("bool");
    }
    let Some(matching) = &binary.matching else { return };
    if matching.on {
        modifier("on");
    } else if !matching.labels.is_empty() {
        modifier("ignoring");
    }
    match matching.cardinality {
        Cardinality::ManyToOne => modifier("group_left"),
        Cardinality::OneToMany => modifier("group_right"),
        Cardinality::OneToOne | Cardinality::ManyToMany => {}
    }
    if !matching.include.is_empty() {
        modifier("group_x with labels");
    }
    match (matching.fill_left.is_some(), matching.fill_right.is_some()) {
        (true, true) => modifier("fill"),
        (true, false) => modifier("fill_left"),
        (false, true) => modifier("fill_right"),
        (false, false) => {}
    }
}

/// How often each feature was in an expression, and in one that gave something on both sides.
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
        let answered = |feature: &Feature| self.seen.get(feature).map_or(0, |(_, answered)| *answered);
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
