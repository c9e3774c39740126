//! Stretches a case in time: what took a second takes several.

use promql::ParserOptions;
use promql::ast::{At, Duration, Expr, ExprKind, VectorSelector};

use crate::fuzz::generate::Case;

pub(super) const FACTOR: i64 = 8;

/// `None` where durations are computed.
pub(super) fn case(case: &Case) -> Option<Case> {
    let mut expr = ParserOptions::ALL.parse_expr(&case.text).ok()?;
    stretch(&mut expr)?;
    let text = expr.to_string();
    ParserOptions::ALL.parse_expr(&text).ok()?;
    let mut grid = case.grid;
    grid.start_ms *= FACTOR;
    grid.end_ms *= FACTOR;
    grid.step_ms *= FACTOR;
    Some(Case { text, grid })
}

fn stretch(expr: &mut Expr) -> Option<()> {
    match &mut expr.kind {
        ExprKind::Number(_) | ExprKind::String(_) => {}
        ExprKind::Vector(selector) => stretch_selector(selector)?,
        ExprKind::Matrix(matrix) => {
            stretch_selector(&mut matrix.selector)?;
            stretch_duration(&mut matrix.range)?;
        }
        ExprKind::Subquery(subquery) => {
            stretch(&mut subquery.expr)?;
            stretch_duration(&mut subquery.range)?;
            // without one it is a minute
            subquery.step.as_mut().map_or(Some(()), stretch_duration)?;
            subquery.offset.as_mut().map_or(Some(()), stretch_duration)?;
            stretch_at(&mut subquery.at);
        }
        ExprKind::Call(call) => call.args.iter_mut().try_for_each(stretch)?,
        ExprKind::Binary(binary) => {
            stretch(&mut binary.lhs)?;
            stretch(&mut binary.rhs)?;
        }
        ExprKind::Aggregate(aggregation) => {
            stretch(&mut aggregation.expr)?;
            aggregation.param.as_mut().map_or(Some(()), |param| stretch(param))?;
        }
        ExprKind::Unary(unary) => stretch(&mut unary.expr)?,
        ExprKind::Paren(inner) => stretch(inner)?,
    }
    Some(())
}

fn stretch_selector(selector: &mut VectorSelector) -> Option<()> {
    stretch_at(&mut selector.at);
    selector.offset.as_mut().map_or(Some(()), stretch_duration)
}

fn stretch_at(at: &mut Option<At>) {
    if let Some(At::Millis(t)) = at {
        *t *= FACTOR;
    }
}

fn stretch_duration(duration: &mut Duration) -> Option<()> {
    let millis = duration.millis.as_mut()?;
    *millis *= FACTOR;
    Some(())
}
