//! Sorts that do nothing, because what they sort is evaluated at many steps.

use promql::ast::{Expr, ExprKind, Span, Subquery};

use super::{Lowering, Times, first_inside};

pub(crate) fn is_sort(name: &str) -> bool {
    matches!(name, "sort" | "sort_desc" | "sort_by_label" | "sort_by_label_desc")
}

impl Lowering {
    /// The last sort, in the order of evaluation, with more than one step. What `@` pins has a
    /// single step; what is inside a subquery has the subquery's steps, in an instant query too.
    pub(crate) fn pointless_sort(&self, expr: &Expr) -> Option<Span> {
        self.last_sort(expr, self.asked)
    }

    fn last_sort(&self, expr: &Expr, times: Times) -> Option<Span> {
        let mut found = None;
        match &expr.kind {
            ExprKind::Subquery(subquery) => {
                let inside = self.times_inside(subquery, times);
                found = inside.and_then(|times| self.last_sort(&subquery.expr, times));
            }
            _ => expr.for_each_child(|child| found = self.last_sort(child, times).or(found)),
        }
        match &expr.kind {
            ExprKind::Call(call)
                if is_sort(call.func) && times.first != times.last && !self.is_invariant(expr) =>
            {
                Some(expr.span)
            }
            _ => found,
        }
    }

    /// The first time at which a subquery's expression is evaluated, and the end of its evaluation;
    /// `None` if it never is, because no multiple of its step lies inside.
    fn times_inside(&self, subquery: &Subquery, around: Times) -> Option<Times> {
        let around = self.fixed(subquery.at).map_or(around, Times::at);
        let offset = self.offset(&subquery.offset).ok()?;
        let begin = around
            .first
            .saturating_sub(offset)
            .saturating_sub(self.duration(&subquery.range, true).ok()?);
        let first = first_inside(begin, self.subquery_step(subquery).ok()?);
        let last = around.last.saturating_sub(offset);
        (first <= last).then_some(Times { first, last })
    }
}
