//! Sorts that do nothing, because what they sort is evaluated at many steps.

use promql::ast::{Expr, ExprKind, Span, Subquery};

use super::{Lowering, first_inside};

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

    /// The first time at which a subquery's expression is evaluated, and the end of its evaluation; `None` if it never
    /// is, because no multiple of its step lies inside.
    fn times_inside(&self, subquery: &Subquery, (start, end): (i64, i64)) -> Option<(i64, i64)> {
        let (start, end) = self.fixed(subquery.at).map_or((start, end), |pinned| (pinned, pinned));
        let offset = self.offset(&subquery.offset).ok()?;
        let begin = start.saturating_sub(offset).saturating_sub(self.duration(&subquery.range, true).ok()?);
        let first = first_inside(begin, self.subquery_step(subquery).ok()?);
        let last = end.saturating_sub(offset);
        (first <= last).then_some((first, last))
    }
}
