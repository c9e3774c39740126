//! The modifiers of the language by name, for tests that must cover each of them.

use crate::ast::{At, Binary, Cardinality, Duration, Expr, ExprKind, Extension, VectorSelector};

/// Everything in the language that is not a function, aggregation, operator or literal.
pub const MODIFIERS: [&str; 26] = [
    "offset",
    "offset -",
    "offset expression",
    "range expression",
    "@ time",
    "@ start()",
    "@ end()",
    "anchored",
    "smoothed",
    "subquery",
    "subquery without step",
    "subquery offset",
    "subquery @",
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
    "unary +",
];

/// Those of [`MODIFIERS`] that the outermost node of an expression has.
pub fn modifiers_of(expr: &Expr) -> Vec<&'static str> {
    let mut found = Vec::new();
    let mut add = |name, there| {
        if there {
            found.push(name);
        }
    };
    match &expr.kind {
        ExprKind::Number(_) | ExprKind::String(_) | ExprKind::Paren(_) | ExprKind::Call(_) => {}
        ExprKind::Vector(selector) => of_selector(selector, &mut add),
        ExprKind::Matrix(matrix) => {
            of_selector(&matrix.selector, &mut add);
            add("range expression", matrix.range.expr.is_some());
        }
        ExprKind::Subquery(subquery) => {
            let computed = |duration: &Duration| duration.expr.is_some();
            add(
                "range expression",
                computed(&subquery.range) || subquery.step.as_ref().is_some_and(computed),
            );
            add("subquery", subquery.step.is_some());
            add("subquery without step", subquery.step.is_none());
            add("subquery offset", subquery.offset.is_some());
            add("subquery @", subquery.at.is_some());
        }
        ExprKind::Aggregate(aggregation) => {
            add("without", aggregation.without);
            add("by", !aggregation.without && !aggregation.grouping.is_empty());
        }
        ExprKind::Binary(binary) => of_binary(binary, &mut add),
        ExprKind::Unary(unary) => add(if unary.negate { "unary -" } else { "unary +" }, true),
    }
    found
}

fn of_selector(selector: &VectorSelector, add: &mut impl FnMut(&'static str, bool)) {
    if let Some(offset) = &selector.offset {
        let computed = offset.expr.is_some();
        let negative = offset.millis.is_some_and(|ms| ms < 0);
        add(if negative { "offset -" } else { "offset" }, !computed);
        add("offset expression", computed);
    }
    add("@ time", matches!(selector.at, Some(At::Millis(_))));
    add("@ start()", selector.at == Some(At::Start));
    add("@ end()", selector.at == Some(At::End));
    add("anchored", selector.extension == Some(Extension::Anchored));
    add("smoothed", selector.extension == Some(Extension::Smoothed));
}

fn of_binary(binary: &Binary, add: &mut impl FnMut(&'static str, bool)) {
    add("bool", binary.return_bool);
    let Some(matching) = &binary.matching else { return };
    add("on", matching.on);
    add("ignoring", !matching.on && !matching.labels.is_empty());
    add("group_left", matching.cardinality == Cardinality::ManyToOne);
    add("group_right", matching.cardinality == Cardinality::OneToMany);
    add("group_x with labels", !matching.include.is_empty());
    let (left, right) = (matching.fill_left.is_some(), matching.fill_right.is_some());
    add("fill", left && right);
    add("fill_left", left && !right);
    add("fill_right", right && !left);
}
