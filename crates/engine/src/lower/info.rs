//! `info()`: which info metrics are read, and as of when.

use model::{Budget, METRIC_NAME, MatchOp, Matcher};
use promql::ast::{At, Expr, ExprKind, Span, Subquery, ValueType};
use promql::kernels::window::Steps;

use super::calls::Site;
use super::{Lowering, Reach, Result};
use crate::downsampled::Treatment;
use crate::error::{Error, Kind};
use crate::ops::info::InfoSpec;
use crate::ops::window::{WindowFunction, WindowSpec};
use crate::plan::{PromNode, PromOp};
use crate::read::SelectorReading;
use crate::source::Select;

const TARGET_INFO: &str = "target_info";

/// When a selector reads its samples: a fixed time if `@` pins it, and the offset from it or from
/// the step.
#[derive(Clone, Copy, Debug)]
pub(super) struct ReadTimes {
    fixed: Option<i64>,
    offset: i64,
}

impl ReadTimes {
    fn same(self, other: ReadTimes) -> bool {
        match (self.fixed, other.fixed) {
            (None, None) => self.offset == other.offset,
            (Some(a), Some(b)) => a.saturating_sub(self.offset) == b.saturating_sub(other.offset),
            _ => false,
        }
    }
}

/// What the selectors of an expression say about when they read.
#[derive(Default)]
struct Seen {
    first: Option<ReadTimes>,
    /// Some read at other times, or a vector comes from no selector.
    differ: bool,
}

impl Lowering {
    pub(super) fn info(&self, site: Site<'_>) -> Result<PromNode> {
        let Site { call, grid, .. } = site;
        let base = self.arg(site, 0)?;
        let matchers = match call.args.get(1).map(|arg| &arg.kind) {
            Some(ExprKind::Vector(selector)) => selector.matchers.clone(),
            _ => Vec::new(),
        };
        let (names, data): (Vec<_>, Vec<_>) =
            matchers.into_iter().partition(|m| m.name == METRIC_NAME);
        let times = self.info_times(&call.args[0])?.unwrap_or(ReadTimes { fixed: None, offset: 0 });
        let reach = Reach { before: self.lookback_ms, after: 0 };
        let range = self.samples(times.fixed.map(At::Millis), times.offset, reach);
        let treatment = Treatment::of("info", true);
        let window = WindowSpec {
            function: WindowFunction::Seen,
            name: "info".to_owned(),
            steps: Steps { offset: times.offset, fixed: times.fixed, ..grid.steps() },
            range: self.lookback_ms,
            span: Span::default(),
            param_span: Span::default(),
            counted: self.counted.clone(),
            names_matter: true,
        };
        let spec = InfoSpec {
            names: info_names(names)?,
            data,
            select: Select {
                matchers: Vec::new(),
                range,
                max_resolution_ms: self.max_resolution_ms,
                aggregates: treatment.aggregates(),
                times_from_ms: treatment.times_from_ms(0),
                memory: Budget::unlimited(),
            },
            reading: SelectorReading {
                function: "info".to_owned(),
                treatment,
                range,
                dedup: self.dedup,
                totals_only: false,
                fill_above_ms: self.fill_above_ms(),
                max_resolution_ms: self.max_resolution_ms,
                allowed_ms: self.max_resolution_ms,
                lookback_ms: self.lookback_ms,
                range_ms: 0,
                buffered: None,
                edges_only: false,
                query: None,
            },
            window,
        };
        let one_name = base.one_name;
        Ok(PromNode::vector(PromOp::Info(Box::new(spec)), vec![base], grid).with_one_name(one_name))
    }

    /// When the selectors that a vector comes from read, if it is the same for all of them: info
    /// metrics are then read at that time too.
    pub(super) fn info_times(&self, expr: &Expr) -> Result<Option<ReadTimes>> {
        let mut seen = Seen::default();
        self.collect_times(expr, &mut Vec::new(), &mut seen)?;
        Ok(seen.first.filter(|_| !seen.differ))
    }

    /// Returns whether there is a selector.
    fn collect_times<'a>(
        &self,
        expr: &'a Expr,
        around: &mut Vec<&'a Subquery>,
        seen: &mut Seen,
    ) -> Result<bool> {
        if !matches!(expr.value_type(), ValueType::Vector | ValueType::Matrix) {
            return Ok(false);
        }
        let selector = match &expr.kind {
            ExprKind::Vector(selector) => Some(selector),
            ExprKind::Matrix(matrix) => Some(&matrix.selector),
            _ => None,
        };
        if let Some(selector) = selector {
            let mut times = ReadTimes {
                fixed: self.fixed(selector.at),
                offset: self.offset(&selector.offset)?,
            };
            for subquery in around.iter().rev() {
                if times.fixed.is_none() {
                    times.offset = times.offset.saturating_add(self.offset(&subquery.offset)?);
                    times.fixed = self.fixed(subquery.at);
                }
            }
            seen.differ |= !seen.first.get_or_insert(times).same(times);
            return Ok(true);
        }
        if let ExprKind::Call(call) = &expr.kind
            && call.func == "info"
        {
            return self.collect_times(&call.args[0], around, seen);
        }
        if let ExprKind::Subquery(subquery) = &expr.kind {
            around.push(subquery);
        }
        let (mut any, mut result) = (false, Ok(()));
        expr.for_each_child(|child| match (self.collect_times(child, around, seen), &result) {
            (Ok(found), _) => any |= found,
            (Err(e), Ok(())) => result = Err(e),
            (Err(_), Err(_)) => {}
        });
        if matches!(expr.kind, ExprKind::Subquery(_)) {
            around.pop();
        }
        seen.differ |= !any;
        result.map(|()| any)
    }
}

/// What the names of info metrics must match. Where the matchers only exclude names, they end in
/// `_info`.
fn info_names(matchers: Vec<Matcher>) -> Result<Vec<Matcher>> {
    if matchers.is_empty() {
        return Ok(vec![Matcher::equal(METRIC_NAME, TARGET_INFO)]);
    }
    if matchers.iter().any(|m| !m.op().is_negative()) {
        return Ok(matchers);
    }
    let any = Matcher::new(MatchOp::Regex, METRIC_NAME, ".+_info")
        .map_err(|e| Error::passed(Kind::Internal, e))?;
    Ok(std::iter::once(any).chain(matchers).collect())
}
