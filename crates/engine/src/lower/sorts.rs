//! Sorts that do nothing, because what they sort is evaluated at many steps.

use promql::ast::{Expr, ExprKind, Span, Subquery};

use super::Lowering;

pub(crate) fn is_sort(name: &str) -> bool {
    matches!(name, "sort" | "sort_desc" | "sort_by_label" | "sort_by_label_desc")
}

impl Lowering {
    /// The last sort, in the order of evaluation, with more than one step. What `@` pins has one step alone; what is
    /// inside a subquery has the subquery's steps, also in an instant query.
    pub(crate) fn pointless_sort(&self, expr: &Expr) -> Option<Span> {
        self.last_sort(expr, (self.grid.start_ms, self.grid.end_ms))
    }

    fn last_sort(&self, expr: &Expr, (start, end): (i64, i64)) -> Option<Span> {
        let mut found = None;
        match &expr.kind {
            ExprKind::Subquery(subquery) => {
                let times = self.times_inside(subquery, (start, end));
                found = times.and_then(|times| self.last_sort(&subquery.expr, times));
            }
            _ => expr.for_each_child(|child| found = self.last_sort(child, (start, end)).or(found)),
        }
        match &expr.kind {
            ExprKind::Call(call) if is_sort(call.func) && start != end && !self.is_invariant(expr) => Some(expr.span),
            _ => found,
        }
    }

    /// The first time at which a subquery's expression is evaluated, and the end of its evaluation.
    fn times_inside(&self, subquery: &Subquery, (start, end): (i64, i64)) -> Option<(i64, i64)> {
        let (start, end) = self.fixed(subquery.at).map_or((start, end), |pinned| (pinned, pinned));
        let offset = self.offset(&subquery.offset).ok()?;
        let begin = start.saturating_sub(offset).saturating_sub(self.duration(&subquery.range, true).ok()?);
        let step = match &subquery.step {
            Some(step) => self.duration(step, true).ok()?.max(1),
            None => self.default_subquery_step_ms.max(1),
        };
        let first = begin / step * step;
        let first = if first <= begin { first.saturating_add(step) } else { first };
        Some((first, end.saturating_sub(offset)))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::{Dedup, Grid};

    fn found(text: &str, end_ms: i64) -> Option<usize> {
        let lowering = Lowering {
            grid: Grid { start_ms: 600_000, end_ms, step_ms: 60_000 },
            lookback_ms: 300_000,
            dedup: Dedup::Off,
            default_subquery_step_ms: 60_000,
            delayed_name_removal: false,
            max_steps: 1000,
            asked: (600_000, end_ms),
            max_resolution_ms: 0,
            totals_only: HashSet::new(),
        };
        lowering.pointless_sort(&promql::ParserOptions::ALL.parse_expr(text).unwrap()).map(|span| span.start)
    }

    #[test]
    fn only_what_has_many_steps_is_pointless() {
        assert_eq!((found("sort(a)", 600_000), found("sort(a)", 600_001)), (None, Some(0)));
        assert_eq!(found("1 + sort(a @ 5)", 900_000), None);
        assert_eq!(found("sort(a) + sort_desc(b)", 900_000), Some(10));
        assert_eq!(found("sort(sort(a))", 900_000), Some(0));
    }

    #[test]
    fn subqueries_have_steps_of_their_own() {
        assert_eq!(found("sum_over_time(sort(a)[5m:1m])", 600_000), Some(14));
        assert_eq!(found("sum_over_time(sort(a)[5m:1m] @ 700)", 900_000), Some(14));
        assert_eq!(found("sum_over_time(sort(a @ 5)[5m:1m])", 600_000), None);
        assert_eq!(found("sum_over_time(sort(a)[1m:1m])", 600_000), None);
    }
}
