//! Walks over the tree, and which samples its selectors need.

use model::TimeRange;

use crate::ast::*;
use crate::durations::DurationError;

impl Expr {
    /// Calls `f` with every direct operand, in the order of evaluation: the expression of an
    /// aggregation before its parameter.
    pub fn for_each_child<'a>(&'a self, mut f: impl FnMut(&'a Expr)) {
        match &self.kind {
            ExprKind::Number(_)
            | ExprKind::String(_)
            | ExprKind::Vector(_)
            | ExprKind::Matrix(_) => {}
            ExprKind::Subquery(subquery) => f(&subquery.expr),
            ExprKind::Call(call) => call.args.iter().for_each(f),
            ExprKind::Aggregate(aggregation) => {
                f(&aggregation.expr);
                aggregation.param.as_deref().into_iter().for_each(f);
            }
            ExprKind::Binary(binary) => {
                f(&binary.lhs);
                f(&binary.rhs);
            }
            ExprKind::Unary(unary) => f(&unary.expr),
            ExprKind::Paren(inner) => f(inner),
        }
    }

    /// As [`Expr::for_each_child`], with operands that may be changed.
    pub fn for_each_child_mut(&mut self, mut f: impl FnMut(&mut Expr)) {
        match &mut self.kind {
            ExprKind::Number(_)
            | ExprKind::String(_)
            | ExprKind::Vector(_)
            | ExprKind::Matrix(_) => {}
            ExprKind::Subquery(subquery) => f(&mut subquery.expr),
            ExprKind::Call(call) => call.args.iter_mut().for_each(f),
            ExprKind::Aggregate(aggregation) => {
                f(&mut aggregation.expr);
                aggregation.param.as_deref_mut().into_iter().for_each(f);
            }
            ExprKind::Binary(binary) => {
                f(&mut binary.lhs);
                f(&mut binary.rhs);
            }
            ExprKind::Unary(unary) => f(&mut unary.expr),
            ExprKind::Paren(inner) => f(inner),
        }
    }

    /// Visits every expression, parents first; below one for which `f` gives `false` nothing is
    /// visited.
    pub fn walk<'a>(&'a self, f: &mut impl FnMut(&'a Expr) -> bool) {
        if f(self) {
            self.for_each_child(|child| child.walk(f));
        }
    }

    /// As [`Expr::walk`], with expressions that may be changed.
    pub fn walk_mut(&mut self, f: &mut impl FnMut(&mut Expr) -> bool) {
        if f(self) {
            self.for_each_child_mut(|child| child.walk_mut(f));
        }
    }
}

/// A selector and where in the tree it stands.
#[derive(Clone, Copy, Debug)]
pub struct SelectorVisit<'a> {
    pub selector: &'a VectorSelector,
    pub span: Span,
    /// The range of a range vector selector.
    pub range: Option<&'a Duration>,
    /// The expressions around it, outermost first.
    pub path: &'a [&'a Expr],
}

/// Calls `f` with every selector of the expression, from left to right.
pub fn visit_selectors<'a>(expr: &'a Expr, f: &mut dyn FnMut(SelectorVisit<'_>)) {
    fn visit<'a>(expr: &'a Expr, path: &mut Vec<&'a Expr>, f: &mut dyn FnMut(SelectorVisit<'_>)) {
        match &expr.kind {
            ExprKind::Vector(selector) => {
                f(SelectorVisit { selector, span: expr.span, range: None, path })
            }
            ExprKind::Matrix(matrix) => {
                let range = Some(&matrix.range);
                f(SelectorVisit {
                    selector: &matrix.selector,
                    span: matrix.selector_span,
                    range,
                    path,
                });
            }
            _ => {
                path.push(expr);
                expr.for_each_child(|child| visit(child, path, f));
                path.pop();
            }
        }
    }
    visit(expr, &mut Vec::new(), f);
}

/// When a query is evaluated, in milliseconds; an instant query has `start == end` and `step == 0`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueryTimes {
    pub start: i64,
    pub end: i64,
    pub step: i64,
    /// How far back an instant vector selector looks for a sample.
    pub lookback: i64,
}

impl QueryTimes {
    fn range(&self) -> i64 {
        self.end.saturating_sub(self.start)
    }

    /// The fixed time of an `@` modifier.
    pub fn resolve_at(&self, at: At) -> i64 {
        match at {
            At::Millis(ms) => ms,
            At::Start => self.start,
            At::End => self.end,
        }
    }

    fn offset(&self, offset: &Option<Duration>) -> Result<i64, DurationError> {
        offset.as_ref().map_or(Ok(0), |d| d.resolve(self.step, self.range()))
    }
}

impl SelectorVisit<'_> {
    /// The span of time whose samples evaluation may look at. Windows are open to the left: a
    /// sample exactly a range or lookback before the first step is not needed.
    ///
    /// # Errors
    /// Duration arithmetic without a value.
    pub fn time_range(&self, times: &QueryTimes) -> Result<TimeRange, DurationError> {
        let (mut start, mut end) = (times.start, times.end);
        let (mut offset, mut range) = (0i64, 0i64);
        for expr in self.path {
            let ExprKind::Subquery(subquery) = &expr.kind else { continue };
            if let Some(at) = subquery.at {
                // A fixed time makes everything further out irrelevant.
                start = times.resolve_at(at);
                (end, offset, range) = (start, 0, 0);
            }
            offset = offset.saturating_add(times.offset(&subquery.offset)?);
            range =
                range.saturating_add(subquery.range.resolve_positive(times.step, times.range())?);
        }
        if let Some(at) = self.selector.at {
            start = times.resolve_at(at);
            end = start;
        } else {
            start = start.saturating_sub(offset).saturating_sub(range);
            end = end.saturating_sub(offset);
        }
        let window = match self.range {
            None => times.lookback,
            Some(range) => {
                let beyond = if self.selector.extension.is_some() { times.lookback } else { 0 };
                range.resolve_positive(times.step, times.range())?.saturating_add(beyond)
            }
        };
        start = start.saturating_sub(window.saturating_sub(1));
        if self.selector.extension == Some(Extension::Smoothed) {
            end = end.saturating_add(times.lookback);
        }
        let own_offset = times.offset(&self.selector.offset)?;
        Ok(TimeRange::from_closed(start.saturating_sub(own_offset), end.saturating_sub(own_offset)))
    }
}

/// The span of time that holds all samples that evaluation may look at; `None` without selectors.
///
/// # Errors
/// Duration arithmetic without a value.
pub fn needed_time_range(
    expr: &Expr,
    times: &QueryTimes,
) -> Result<Option<TimeRange>, DurationError> {
    let mut needed: Result<Option<TimeRange>, DurationError> = Ok(None);
    visit_selectors(expr, &mut |visit| {
        let Ok(so_far) = needed else { return };
        needed =
            visit.time_range(times).map(|own| {
                Some(so_far.map_or(own, |all| {
                    TimeRange::new(all.start.min(own.start), all.end.max(own.end))
                }))
            });
    });
    needed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ParserOptions;

    const TIMES: QueryTimes =
        QueryTimes { start: 1_000_000, end: 2_000_000, step: 10_000, lookback: 300_000 };

    fn needed(text: &str) -> (i64, i64) {
        let expr = ParserOptions::ALL.parse_expr(text).unwrap();
        let range = needed_time_range(&expr, &TIMES).unwrap().unwrap();
        (range.start, range.end - 1)
    }

    #[test]
    fn windows_reach_back_and_are_open_to_the_left() {
        for (text, start, end) in [
            ("foo", 700_001, 2_000_000),
            ("foo[1m]", 940_001, 2_000_000),
            ("foo[step()] offset -10s", 1_000_001, 2_010_000),
            ("foo @ 50", -249_999, 50_000),
            ("foo[10s] @ end()", 1_990_001, 2_000_000),
            ("rate(foo[1m])[5m:10s] offset 1m", 580_001, 1_940_000),
            ("(foo[1m:10s] @ 100 offset 1m)", -319_999, 40_000),
            ("max_over_time((max_over_time(foo[1m:10s] @ 100))[1m:])", -259_999, 100_000),
            ("foo[1m] anchored", 640_001, 2_000_000),
            ("foo smoothed", 700_001, 2_300_000),
            ("foo + bar offset 10s", 690_001, 2_000_000),
        ] {
            assert_eq!(needed(text), (start, end), "{text}");
        }
    }

    #[test]
    fn without_selectors_nothing_is_needed() {
        let expr = ParserOptions::ALL.parse_expr("1 + time()").unwrap();
        assert_eq!(needed_time_range(&expr, &TIMES), Ok(None));
    }

    #[test]
    fn arithmetic_without_a_value_is_told_with_its_place() {
        let expr = ParserOptions::ALL.parse_expr("foo[10s - 1m]").unwrap();
        let error = needed_time_range(&expr, &TIMES).unwrap_err();
        assert_eq!(error.to_string(), "4:12: duration must be greater than 0");
        let expr = ParserOptions::ALL.parse_expr("foo offset (1m / (step() - 10s))").unwrap();
        assert_eq!(
            needed_time_range(&expr, &TIMES).unwrap_err().to_string(),
            "12:30: division by zero"
        );
    }

    #[test]
    fn selectors_know_what_stands_around_them() {
        let expr = ParserOptions::ALL.parse_expr("sum(rate(foo[1m])) / bar").unwrap();
        let mut seen = Vec::new();
        visit_selectors(&expr, &mut |v| seen.push((v.span.start, v.range.is_some(), v.path.len())));
        assert_eq!(seen, [(9, true, 3), (21, false, 1)]);
    }

    #[test]
    fn a_walk_may_change_what_it_meets() {
        let mut expr = ParserOptions::ALL.parse_expr("foo + sum_over_time(bar[5m:1m])").unwrap();
        expr.walk_mut(&mut |e| {
            match &mut e.kind {
                ExprKind::Vector(selector) => selector.at = Some(At::Millis(1500)),
                ExprKind::Subquery(subquery) => subquery.at = Some(At::Millis(-500)),
                _ => {}
            }
            !matches!(e.kind, ExprKind::Subquery(_))
        });
        assert_eq!(expr.to_string(), "foo @ 1.500 + sum_over_time(bar[5m:1m] @ -0.500)");
    }
}
