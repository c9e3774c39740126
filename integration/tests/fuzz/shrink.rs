//! Makes a failing case small, distinguishes faults from chance, and writes what is left as a
//! `.test` case.

use std::fmt::Write as _;

use promql::ast::{AggregateOp, At, BinaryOp, Expr, ExprKind, ValueType};
use promql::value::Grid;
use promql::{ParserOptions, QueryTimes, needed_time_range, visit_selectors};

use super::data::{Series, load_command};
use super::generate::Case;
use super::outcome::{Exactness, Outcome, Point};
use super::sides::Sides;

/// Evaluations that shrinking one case may take.
const MAX_TRIALS: usize = 400;
/// Steps that a subquery's own expression is tried at.
const MAX_STEPS: usize = 10_000;

pub(super) enum Verdict {
    Wrong(Case),
    /// The operands are the same on both sides up to rounding, but what is done with them is not
    /// continuous.
    Chance(&'static str, Case),
}

/// Replaces parts of the expression by smaller ones for as long as the two sides still differ.
pub(super) fn shrink(sides: &Sides, case: &Case) -> Verdict {
    let mut small = case.clone();
    let mut trials = 0;
    'smaller: loop {
        for candidate in candidates(&small) {
            trials += 1;
            if trials > MAX_TRIALS {
                break 'smaller;
            }
            if differs(sides, &candidate) {
                small = candidate;
                continue 'smaller;
            }
        }
        break;
    }
    match chance(sides, &small) {
        Some(why) => Verdict::Chance(why, small),
        None => Verdict::Wrong(small),
    }
}

fn difference(sides: &Sides, case: &Case) -> Option<String> {
    let (want, got) = sides.evaluate(&case.text, case.grid);
    if got.not_supported().is_some() || want.is_peer_bug() {
        return None;
    }
    want.difference(&got, Exactness::Close)
        .or_else(|| sides.wrong_order(&case.text, case.grid, &want, &got))
}

fn differs(sides: &Sides, case: &Case) -> bool {
    difference(sides, case).is_some()
}

fn parse(text: &str) -> Option<Expr> {
    ParserOptions::ALL.parse_expr(text).ok()
}

/// Cases that are one step smaller, the smallest first.
fn candidates(case: &Case) -> Vec<Case> {
    let mut all = Vec::new();
    let Some(expr) = parse(&case.text) else { return all };
    let with_text = |text: String| Case { text, grid: case.grid };
    let mut subqueries = Vec::new();
    each_subquery(&expr, &mut |subquery| {
        let grid = subquery_grid(subquery, case.grid).filter(|grid| grid.steps() <= MAX_STEPS);
        subqueries.extend(
            grid.map(|grid| Case { text: subquery.expr.unwrap_parens().to_string(), grid }),
        );
    });
    all.append(&mut subqueries);
    let mut inner = Vec::new();
    expr.for_each_child(|child| inner.push(child));
    for part in inner {
        if case.grid.is_instant()
            || matches!(part.value_type(), ValueType::Vector | ValueType::Scalar)
        {
            all.push(with_text(part.unwrap_parens().to_string()));
        }
    }
    let mut smaller = Vec::new();
    replacements(&expr, &mut |changed| smaller.push(changed.to_string()));
    all.extend(smaller.into_iter().filter(|text| *text != case.text).map(with_text));
    if !case.grid.is_instant() {
        let steps = case.grid.steps() as i64;
        let at = |step: i64| case.grid.start_ms + step * case.grid.step_ms;
        all.extend(
            (0..steps).map(|step| Case { text: case.text.clone(), grid: Grid::instant(at(step)) }),
        );
        for (first, last) in
            [(0, steps / 2), (steps / 2, steps - 1), (1, steps - 1), (0, steps - 2)]
        {
            let grid = Grid { start_ms: at(first), end_ms: at(last), step_ms: case.grid.step_ms };
            if first <= last && grid.steps() < steps as usize {
                all.push(Case { text: case.text.clone(), grid });
            }
        }
    }
    all
}

/// Calls `f` with the subqueries that are inside no other subquery.
fn each_subquery(expr: &Expr, f: &mut dyn FnMut(&promql::ast::Subquery)) {
    match &expr.kind {
        ExprKind::Subquery(subquery) => f(subquery),
        _ => expr.for_each_child(|child| each_subquery(child, f)),
    }
}

/// Calls `f` with every expression that has one node or one modifier less.
fn replacements(expr: &Expr, f: &mut dyn FnMut(&Expr)) {
    for changed in simpler(expr) {
        f(&changed);
    }
    let mut count = 0;
    expr.for_each_child(|_| count += 1);
    for index in 0..count {
        let mut child = None;
        let mut at = 0;
        expr.for_each_child(|c| {
            if at == index {
                child = Some(c);
            }
            at += 1;
        });
        let Some(child) = child else { continue };
        let mut put = |new: &Expr| {
            let mut whole = expr.clone();
            let mut at = 0;
            whole.for_each_child_mut(|c| {
                if at == index {
                    *c = new.clone();
                }
                at += 1;
            });
            f(&whole);
        };
        let mut grandchildren = Vec::new();
        child.for_each_child(|g| grandchildren.push(g));
        for grandchild in grandchildren {
            if grandchild.value_type() == child.value_type() {
                put(grandchild);
            }
        }
        replacements(child, &mut put);
    }
}

/// The node with one modifier, matcher or grouping label less.
fn simpler(expr: &Expr) -> Vec<Expr> {
    let mut all = Vec::new();
    let mut with = |change: &dyn Fn(&mut ExprKind)| {
        let mut changed = expr.clone();
        change(&mut changed.kind);
        if changed != *expr {
            all.push(changed);
        }
    };
    with(&|kind| match kind {
        ExprKind::Vector(selector) => selector.offset = None,
        ExprKind::Matrix(matrix) => matrix.selector.offset = None,
        ExprKind::Subquery(subquery) => subquery.offset = None,
        ExprKind::Binary(binary) => binary.return_bool = false,
        ExprKind::Aggregate(aggregation) => _ = aggregation.grouping.pop(),
        _ => {}
    });
    with(&|kind| match kind {
        ExprKind::Vector(selector) => selector.at = None,
        ExprKind::Matrix(matrix) => matrix.selector.at = None,
        ExprKind::Subquery(subquery) => subquery.at = None,
        ExprKind::Binary(binary) => {
            if let Some(matching) = &mut binary.matching {
                (matching.fill_left, matching.fill_right) = (None, None);
            }
        }
        ExprKind::Aggregate(aggregation) => {
            (aggregation.without, aggregation.grouping) = (false, Vec::new());
        }
        _ => {}
    });
    with(&|kind| match kind {
        ExprKind::Vector(selector) if selector.matchers.len() > 1 => {
            _ = selector.matchers.remove(0)
        }
        ExprKind::Matrix(matrix) if matrix.selector.matchers.len() > 1 => {
            _ = matrix.selector.matchers.remove(0)
        }
        _ => {}
    });
    all
}

/// Why the two may differ without a fault, judged by their results for the operands.
fn chance(sides: &Sides, case: &Case) -> Option<&'static str> {
    let expr = parse(&case.text)?;
    let expr = expr.unwrap_parens();
    let mut operands = Vec::new();
    expr.for_each_child(|child| operands.push(child.unwrap_parens()));
    let mut rounded = false;
    let mut tied = false;
    let mut unclear = false;
    for operand in operands {
        let (text, grid) = match &operand.kind {
            ExprKind::Subquery(subquery) => {
                (subquery.expr.to_string(), subquery_grid(subquery, case.grid).unwrap_or(case.grid))
            }
            ExprKind::String(_) | ExprKind::Number(_) | ExprKind::Matrix(_) => continue,
            _ => (operand.to_string(), case.grid),
        };
        let (want, got) = sides.evaluate(&text, grid);
        if want.difference(&got, Exactness::Close).is_some() {
            return None;
        }
        rounded |= want.difference(&got, Exactness::Values).is_some();
        tied |= want.success().is_some_and(|success| success.has_ties());
        unclear |= want.success().is_some_and(|success| success.has_unclear_histograms());
    }
    // Prometheus compares NaNs in histograms bit by bit, and the sign of one depends on how its
    // code was compiled.
    if unclear && compares_histograms(expr) {
        return Some("signs of NaNs in histograms");
    }
    if let ExprKind::Aggregate(aggregation) = &expr.kind
        && matches!(aggregation.op, AggregateOp::Topk | AggregateOp::Bottomk)
        && tied
    {
        return Some("which of tied series is taken");
    }
    (rounded && is_steep(expr)).then_some("rounding in the last digit of an operand")
}

fn compares_histograms(expr: &Expr) -> bool {
    match &expr.kind {
        ExprKind::Call(call) => call.func == "changes",
        ExprKind::Binary(binary) => matches!(binary.op, BinaryOp::Eq | BinaryOp::Ne),
        _ => false,
    }
}

/// Whether a change in the last digit of an operand may change much.
fn is_steep(expr: &Expr) -> bool {
    match &expr.kind {
        ExprKind::Binary(binary) => {
            use BinaryOp::{Add, And, Atan2, Div, Mod, Mul, Or, Pow, Sub, Unless};
            match binary.op {
                Mul | Div | Atan2 | And | Or | Unless => false,
                Add | Sub | Mod | Pow => true,
                _ => true,
            }
        }
        ExprKind::Aggregate(aggregation) => {
            use AggregateOp::{Avg, Bottomk, CountValues, Stddev, Stdvar, Sum, Topk};
            matches!(aggregation.op, Sum | Avg | Stddev | Stdvar | CountValues | Topk | Bottomk)
        }
        ExprKind::Call(_) => true,
        _ => false,
    }
}

/// The steps at which a subquery evaluates its expression.
fn subquery_grid(subquery: &promql::ast::Subquery, outer: Grid) -> Option<Grid> {
    let range = outer.end_ms - outer.start_ms;
    let millis = |d: &promql::ast::Duration| d.resolve(outer.step_ms, range).ok();
    let step_ms = match &subquery.step {
        Some(step) => millis(step)?,
        None => 60_000,
    };
    let shift = subquery.offset.as_ref().map_or(Some(0), millis)?;
    let (first, last) = match subquery.at {
        None => (outer.start_ms, outer.end_ms),
        Some(At::Start) => (outer.start_ms, outer.start_ms),
        Some(At::End) => (outer.end_ms, outer.end_ms),
        Some(At::Millis(t)) => (t, t),
    };
    let start = first - shift - millis(&subquery.range)?;
    let start_ms = (start.div_euclid(step_ms) + 1) * step_ms;
    Some(Grid { start_ms, end_ms: (last - shift).max(start_ms), step_ms })
}

/// The case as a part of a `.test` file, with the data it needs and what Prometheus answers.
pub(super) fn report(sides: &Sides, case: &Case, series: &[Series]) -> String {
    let (want, got) = sides.evaluate(&case.text, case.grid);
    let why = difference(sides, case).unwrap_or_else(|| format!("not seen again: {got:?}"));
    let mut text = format!("smallest: {} {:?}\n  {why}\n\n", case.text, case.grid);
    text.push_str(&needed_data(case, series));
    let grid = case.grid;
    let _ = match grid.is_instant() {
        true => writeln!(text, "\neval instant at {}ms {}", grid.start_ms, case.text),
        false => writeln!(
            text,
            "\neval range from {}ms to {}ms step {}ms {}",
            grid.start_ms, grid.end_ms, grid.step_ms, case.text
        ),
    };
    match &want {
        Outcome::Failed { text: error, .. } => _ = writeln!(text, "  expect fail msg:{error}"),
        Outcome::Success(success) => {
            for (labels, points) in &success.series {
                let points: Vec<String> =
                    points.iter().map(|(_, point)| point_text(point)).collect();
                let _ = writeln!(text, "  {labels} {}", points.join(" "));
            }
        }
    }
    text
}

fn point_text(point: &Point) -> String {
    match point {
        Point::Float(value) => value.to_string(),
        Point::Text(text) => format!("{text:?}"),
        Point::Histogram { totals, buckets } => {
            format!("<count {}, sum {}, {buckets:?}>", totals[0], totals[1])
        }
    }
}

/// The series and samples that the selectors of the case need.
fn needed_data(case: &Case, series: &[Series]) -> String {
    let Some(expr) = parse(&case.text) else { return String::new() };
    let times = QueryTimes {
        start: case.grid.start_ms,
        end: case.grid.end_ms,
        step: case.grid.step_ms,
        lookback: 300_000,
    };
    let Ok(Some(range)) = needed_time_range(&expr, &times) else { return String::new() };
    let mut wanted = Vec::new();
    for series in series {
        let mut selected = false;
        visit_selectors(&expr, &mut |visit| {
            let matches =
                |m: &model::Matcher| m.matches(series.labels.get(&m.name).unwrap_or_default());
            selected |= visit.selector.matchers.iter().all(matches);
        });
        let needed = series.within(range);
        if selected && !needed.samples.is_empty() {
            wanted.push(needed);
        }
    }
    load_command(wanted.iter())
}
