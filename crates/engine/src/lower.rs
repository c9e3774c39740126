//! From the syntax tree to the logical plan.
//!
//! Every node gets the steps it is evaluated at: subqueries have steps of their own, and what `@`
//! pins to one time is evaluated once and repeated. Offsets and `@` are resolved here; operators
//! see only absolute times.

use merge::Dedup;
use model::{Labels, LabelsBuilder, METRIC_NAME, MatchOp, Resolution, TimeRange};
use promql::ast::{
    AggregateOp, Aggregation, At, Binary, BinaryOp, Call, Cardinality, Duration, Expr, ExprKind,
    Extension, MatrixSelector, Span, Subquery, Unary, VectorSelector,
};
use promql::functions;
use promql::kernels::aggregate::CellKind;
use promql::kernels::binary::{arithmetic, changes_metric, compare, is_comparison, is_set};
use promql::kernels::labels::check_count_values_label;
use promql::kernels::window::Steps;
use promql::value::Grid;

use crate::context::METADATA_LABELS;
use crate::downsampled::Treatment;
use crate::error::{Error, Kind};
use crate::grid::StepGrid;
use crate::ops::distinct::Equal;
use crate::ops::groups::Grouping;
use crate::ops::map::{MapFunction, ScalarBinary};
use crate::ops::range_vector::RangeBorders;
use crate::ops::select_k::RowChoice;
use crate::ops::window::{WindowFunction, WindowSpec};
use crate::plan::{NodeKind, PromNode, PromOp};
use crate::read::SelectorReading;
use crate::samples::Attribution;
use crate::source::Select;

use self::above::Above;

type Result<T> = std::result::Result<T, Error>;

mod above;
mod calls;
mod extended;
mod info;
pub(crate) mod sorts;

/// The parts of a query that decide its plan.
#[derive(Clone, Debug)]
pub(crate) struct Lowering {
    pub(crate) grid: Grid,
    pub(crate) lookback_ms: i64,
    pub(crate) dedup: Option<Dedup>,
    pub(crate) default_subquery_step_ms: i64,
    pub(crate) delayed_name_removal: bool,
    /// The most steps a subquery may have.
    pub(crate) max_steps: u64,
    /// The times that selectors here are evaluated for, as wide as Prometheus asks its storage:
    /// which samples a replica begins with decides how replicas are merged.
    pub(crate) asked: Times,
    /// The coarsest resolution the user allows.
    pub(crate) max_resolution_ms: i64,
    /// Lookback bridges windows of downsampled data even where there is finer data.
    pub(crate) dynamic_lookback: bool,
    /// Which steps of the query the samples count for that are read here.
    pub(crate) counted: Attribution,
    /// Set inside the parameter of an aggregation, where Prometheus does not resolve `@`: `start()`
    /// and `end()` are not seen there, and the time of an instant selector advances from its `@`
    /// with the steps.
    pub(crate) in_param: bool,
}

/// Times from the first to the last, both included, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    pub(crate) first: i64,
    pub(crate) last: i64,
}

impl Times {
    fn at(t: i64) -> Times {
        Times { first: t, last: t }
    }
}

/// How far windows reach before and after the times they are for, in milliseconds. They are open at
/// their start.
#[derive(Clone, Copy, Debug)]
struct Reach {
    before: i64,
    after: i64,
}

/// Where an expression stands.
#[derive(Clone, Copy)]
struct ExprPlace<'a> {
    /// In the query's text.
    span: Span,
    /// When it is evaluated.
    grid: StepGrid,
    above: &'a Above,
}

/// The operands of a binary operator.
struct OperandNodes {
    left: PromNode,
    right: PromNode,
}

/// A range of samples: a matrix selector or a subquery.
struct RangeInput {
    range: i64,
    steps: Steps,
    grid: StepGrid,
    node: RangeSource,
    one_name: bool,
    extension: Option<Extension>,
}

enum RangeSource {
    Selector { select: Box<Select>, reading: SelectorReading },
    Subquery { inner: Option<Box<PromNode>> },
}

impl Lowering {
    /// The plan of a whole query.
    pub(crate) fn root(&self, expr: &Expr) -> Result<PromNode> {
        let step = if self.grid.step_ms == 0 { 1 } else { self.grid.step_ms };
        let grid = StepGrid { start: self.grid.start_ms, step, count: self.grid.steps() };
        if matches!(expr.unwrap_parens().kind, ExprKind::Matrix(_) | ExprKind::Subquery(_)) {
            let range = Lowering { counted: Attribution::VALUE, ..self.clone() };
            return range.raw(expr.unwrap_parens(), grid);
        }
        let node = self.lower(expr, grid, &Above::default())?;
        if node.kind == NodeKind::Scalar {
            return Ok(node);
        }
        Ok(self.at_the_end(node))
    }

    /// Drops the names that were marked to be dropped.
    fn at_the_end(&self, node: PromNode) -> PromNode {
        let (grid, drop_names) = (node.grid, self.delayed_name_removal);
        PromNode::vector(
            PromOp::Distinct { drop_names, equal: Equal::AtOtherSteps },
            vec![node],
            grid,
        )
    }

    fn raw(&self, expr: &Expr, grid: StepGrid) -> Result<PromNode> {
        let input = self.range_input(expr, grid, &Above::default())?;
        Ok(match input.node {
            RangeSource::Selector { select, reading } => {
                // samples are returned as they are
                let reading = SelectorReading { treatment: reading.treatment.fixed(), ..reading };
                let frame = input
                    .extension
                    .map(|extension| RangeBorders::new(extension, &input.steps, input.range));
                let counted = self.counted.clone();
                PromNode::vector(
                    PromOp::RawSelector { select: *select, reading, frame, counted },
                    Vec::new(),
                    grid,
                )
            }
            RangeSource::Subquery { inner: Some(inner) } => {
                let inner_grid = inner.grid;
                PromNode::vector(
                    PromOp::RawSubquery { inner: inner_grid },
                    vec![self.at_the_end(*inner)],
                    grid,
                )
            }
            RangeSource::Subquery { inner: None } => {
                PromNode::vector(PromOp::Empty, Vec::new(), grid)
            }
        })
    }

    fn lower(&self, expr: &Expr, grid: StepGrid, above: &Above) -> Result<PromNode> {
        let literal =
            matches!(expr.unwrap_parens().kind, ExprKind::Number(_) | ExprKind::String(_));
        if grid.count > 1 && !literal && self.is_invariant(expr) {
            let once = Lowering { counted: self.counted.repeated(grid.count), ..self.clone() };
            let once = once.lower_at(expr, StepGrid::at(grid.start), above)?;
            let (kind, one_name) = (once.kind, once.one_name);
            let op = match once.op {
                PromOp::Number(value) => {
                    return Ok(PromNode {
                        op: PromOp::Number(value),
                        inputs: Vec::new(),
                        grid,
                        kind,
                        one_name,
                    });
                }
                _ => PromOp::Repeat,
            };
            return Ok(PromNode { op, inputs: vec![once], grid, kind, one_name });
        }
        self.lower_at(expr, grid, above)
    }

    fn lower_at(&self, expr: &Expr, grid: StepGrid, above: &Above) -> Result<PromNode> {
        let place = ExprPlace { span: expr.span, grid, above };
        match &expr.kind {
            ExprKind::Number(number) => {
                Ok(PromNode::scalar(PromOp::Number(number.value), Vec::new(), grid))
            }
            ExprKind::Paren(inner) => self.lower(inner, grid, above),
            ExprKind::Vector(selector) => {
                let function = match selector.extension {
                    Some(Extension::Smoothed) => {
                        WindowFunction::Smoothed { lookback: self.lookback_ms }
                    }
                    _ => WindowFunction::Instant,
                };
                self.selector(selector, function, place)
            }
            ExprKind::Unary(unary) => self.unary(unary, grid, above),
            ExprKind::Binary(binary) => self.binary(binary, place),
            ExprKind::Aggregate(aggregation) => self.aggregation(aggregation, place),
            ExprKind::Call(call) => self.call(call, grid, above),
            ExprKind::String(_) | ExprKind::Matrix(_) | ExprKind::Subquery(_) => Err(Error::new(
                Kind::Internal,
                "a range vector or string stands where a value is needed",
            )),
        }
    }

    fn duration(&self, duration: &Duration, positive: bool) -> Result<i64> {
        let range = self.grid.end_ms.saturating_sub(self.grid.start_ms);
        let resolved = match positive {
            true => duration.resolve_positive(self.grid.step_ms, range),
            false => duration.resolve(self.grid.step_ms, range),
        };
        resolved.map_err(|e| Error::passed(Kind::BadData, e))
    }

    fn offset(&self, offset: &Option<Duration>) -> Result<i64> {
        offset.as_ref().map_or(Ok(0), |d| self.duration(d, false))
    }

    fn fixed(&self, at: Option<At>) -> Option<i64> {
        Some(match at? {
            At::Millis(t) => t,
            At::Start | At::End if self.in_param => return None,
            At::Start => self.grid.start_ms,
            At::End => self.grid.end_ms,
        })
    }

    /// The samples that windows of this reach may hold.
    fn samples(&self, at: Option<At>, offset: i64, reach: Reach) -> TimeRange {
        let Times { first, last } = self.fixed(at).map_or(self.asked, Times::at);
        let start = first.saturating_sub(offset).saturating_sub(reach.before).saturating_add(1);
        TimeRange::from_closed(start, last.saturating_sub(offset).saturating_add(reach.after))
    }

    /// Where windows end over a grid, and the closed span of those ends.
    fn windows(&self, grid: StepGrid, at: Option<At>, offset: i64) -> (Steps, i64, i64) {
        let steps = Steps { offset, fixed: self.fixed(at), ..grid.steps() };
        (steps, steps.end(0), steps.end(grid.count - 1))
    }

    /// Lookback bridges windows that are longer than this, in milliseconds.
    fn fill_above_ms(&self) -> i64 {
        if self.dynamic_lookback { 0 } else { self.max_resolution_ms }
    }

    /// The [`Select`] of a selector, and how its samples are read; `range_ms` is 0 for instant
    /// selectors.
    fn select(
        &self,
        selector: &VectorSelector,
        range: TimeRange,
        above: &Above,
        range_ms: i64,
    ) -> (Select, SelectorReading) {
        let treatment = Treatment::of(&above.function, !above.indirectly);
        let treatment = if selector.extension.is_some() { treatment.fixed() } else { treatment };
        let max_resolution_ms = treatment.max_resolution_ms(self.max_resolution_ms, range_ms);
        let reading = SelectorReading {
            function: above.function.clone(),
            treatment,
            range,
            dedup: self.dedup,
            totals_only: above.wants_totals_only(),
            fill_above_ms: if range_ms == 0 { self.fill_above_ms() } else { 0 },
            max_resolution_ms,
            allowed_ms: self.max_resolution_ms,
            lookback_ms: self.lookback_ms,
            range_ms,
            buffered: None,
            edges_only: false,
            query: None,
        };
        // windows may be this far apart: what continues is seen by the next one
        let apart = Resolution::coarsest_within(max_resolution_ms).millis();
        let (start, end) = (range.start.saturating_sub(apart), range.end.saturating_add(apart));
        let range = TimeRange { start, end };
        let select = Select {
            matchers: selector.matchers.clone(),
            range,
            max_resolution_ms,
            aggregates: treatment.aggregates(),
            times_from_ms: treatment.times_from_ms(range_ms),
            // the share is known once the query runs
            memory: model::Budget::unlimited(),
        };
        (select, reading)
    }

    fn selector(
        &self,
        selector: &VectorSelector,
        function: WindowFunction,
        place: ExprPlace<'_>,
    ) -> Result<PromNode> {
        let ExprPlace { span, grid, above } = place;
        let offset = self.offset(&selector.offset)?;
        let steps = self.instants(selector, &function, grid, offset);
        let smoothed = selector.extension == Some(Extension::Smoothed);
        let after = if smoothed { self.lookback_ms } else { 0 };
        let range = self.samples(selector.at, offset, Reach { before: self.lookback_ms, after });
        let (select, reading) = self.select(selector, range, above, 0);
        // for smoothed selectors Prometheus buffers all samples
        let buffered = (!smoothed).then_some((steps, self.lookback_ms));
        let edges_only = function == WindowFunction::Instant;
        let reading = SelectorReading { buffered, edges_only, ..reading };
        let spec = WindowSpec {
            function,
            name: String::new(),
            steps,
            range: self.lookback_ms,
            span,
            param_span: Span::default(),
            counted: self.counted.clone(),
            names_matter: true,
        };
        let node = PromNode::vector(PromOp::Selector { spec, select, reading }, Vec::new(), grid);
        Ok(node.with_one_name(names_one_metric(selector)))
    }

    /// The times at which an instant selector is looked at.
    fn instants(
        &self,
        selector: &VectorSelector,
        function: &WindowFunction,
        grid: StepGrid,
        offset: i64,
    ) -> Steps {
        let (steps, first, _) = self.windows(grid, selector.at, offset);
        match (steps.fixed, function) {
            // Beside `@`, Prometheus' `timestamp` forgets the offset, though not to read samples by
            // it.
            (Some(_), WindowFunction::Timestamp) => Steps { offset: 0, ..steps },
            (Some(_), _) if self.in_param => {
                Steps { offset: grid.start.saturating_sub(first), fixed: None, ..steps }
            }
            _ => steps,
        }
    }

    /// Lowers a matrix selector or a subquery to where its samples come from.
    fn range_input(&self, expr: &Expr, grid: StepGrid, above: &Above) -> Result<RangeInput> {
        match &expr.unwrap_parens().kind {
            ExprKind::Matrix(matrix) => self.matrix(matrix, grid, above),
            ExprKind::Subquery(subquery) => self.subquery(subquery, grid, above),
            _ => Err(Error::new(Kind::Internal, "a range vector is needed here")),
        }
    }

    fn matrix(&self, matrix: &MatrixSelector, grid: StepGrid, above: &Above) -> Result<RangeInput> {
        let range = self.duration(&matrix.range, true)?;
        let offset = self.offset(&matrix.selector.offset)?;
        let (steps, ..) = self.windows(grid, matrix.selector.at, offset);
        let Reach { before, after } = self.reach(matrix.selector.extension, &above.function)?;
        let reach = Reach { before: range.saturating_add(before), after };
        let samples = self.samples(matrix.selector.at, offset, reach);
        let (select, reading) = self.select(&matrix.selector, samples, above, range);
        let ends = Steps { offset: offset.saturating_sub(after), ..steps };
        let length = range.saturating_add(before).saturating_add(after);
        let reading = SelectorReading { buffered: Some((ends, length)), ..reading };
        let node = RangeSource::Selector { select: Box::new(select), reading };
        let (one_name, extension) = (names_one_metric(&matrix.selector), matrix.selector.extension);
        Ok(RangeInput { range, steps, grid, node, one_name, extension })
    }

    fn subquery(&self, subquery: &Subquery, grid: StepGrid, above: &Above) -> Result<RangeInput> {
        let range = self.duration(&subquery.range, true)?;
        let step = self.subquery_step(subquery)?;
        let offset = self.offset(&subquery.offset)?;
        let (steps, first, mut last) = self.windows(grid, subquery.at, offset);
        if self.fixed(subquery.at).is_some() {
            // The window is the same at all steps. Where the call over it is not, Prometheus
            // evaluates the subquery as far beyond the window as the last step is after the first,
            // and reports what it finds there.
            let steps_after_first = i64::try_from(grid.count - 1).unwrap_or(i64::MAX);
            last = last.saturating_add(grid.step.saturating_mul(steps_after_first));
        }
        let begin = first.saturating_sub(range);
        let start = first_inside(begin, step);
        let mut inner = None;
        let mut one_name = true;
        if last >= start {
            let count = last.saturating_sub(start) as u64 / step as u64 + 1;
            if count > self.max_steps {
                let text =
                    "query processing would load too many samples into memory in query execution";
                return Err(Error::new(Kind::Execution, text));
            }
            let around = self.fixed(subquery.at).map_or(self.asked, Times::at);
            let first = around.first.saturating_sub(offset).saturating_sub(range);
            let asked = Times { first, last: around.last.saturating_sub(offset) };
            let (outer, grid) = (grid, StepGrid { start, step, count: count as usize });
            let counted = self.counted.subquery(grid, outer, offset, range);
            let inside = Lowering { asked, counted, ..self.clone() };
            let node = inside.lower(&subquery.expr, grid, &above.subquery())?;
            one_name = node.one_name;
            inner = Some(Box::new(node));
        }
        let node = RangeSource::Subquery { inner };
        Ok(RangeInput { range, steps, grid, node, one_name, extension: None })
    }

    fn subquery_step(&self, subquery: &Subquery) -> Result<i64> {
        let step = match &subquery.step {
            Some(step) => self.duration(step, true)?,
            None => 0,
        };
        Ok(if step == 0 { self.default_subquery_step_ms } else { step }.max(1))
    }

    /// Whether a value is the same at every step because `@` pins all its selectors.
    fn is_invariant(&self, expr: &Expr) -> bool {
        match &expr.kind {
            ExprKind::Number(_) | ExprKind::String(_) => true,
            _ if self.in_param => false,
            ExprKind::Vector(selector) => selector.at.is_some(),
            ExprKind::Matrix(matrix) => matrix.selector.at.is_some(),
            ExprKind::Subquery(subquery) => subquery.at.is_some(),
            // The second argument of `info` is not evaluated.
            ExprKind::Call(call) if call.func == "info" => {
                self.is_invariant(&call.args[0])
                    && self.info_times(&call.args[0]).is_ok_and(|times| times.is_some())
            }
            // For a selector it gives the samples' own times, for anything else those of
            // evaluation.
            ExprKind::Call(call) if call.func == "timestamp" => {
                matches!(call.args[0].unwrap_parens().kind, ExprKind::Vector(_))
                    && self.is_invariant(&call.args[0])
            }
            ExprKind::Call(call) => {
                // to this function, what depends on the query alone is a number
                let constant = matches!(call.func, "start" | "end" | "range" | "step");
                let safe = constant
                    || functions::lookup(call.func).is_some_and(|f| !f.is_at_modifier_unsafe());
                safe && call.args.iter().all(|a| self.is_invariant(a))
            }
            // whatever its parameter is, which then counts at the first step only
            ExprKind::Aggregate(a) => self.is_invariant(&a.expr),
            ExprKind::Binary(b) => self.is_invariant(&b.lhs) && self.is_invariant(&b.rhs),
            ExprKind::Unary(u) => self.is_invariant(&u.expr),
            ExprKind::Paren(inner) => self.is_invariant(inner),
        }
    }

    fn unary(&self, unary: &Unary, grid: StepGrid, above: &Above) -> Result<PromNode> {
        let node = self.lower(&unary.expr, grid, &above.indirect())?;
        if !unary.negate {
            return Ok(node);
        }
        if let PromOp::Number(value) = node.op {
            return Ok(PromNode::scalar(PromOp::Number(-value), Vec::new(), grid));
        }
        Ok(self.map(MapFunction::Negate, node, Vec::new()))
    }

    /// A function of each row that drops the name.
    fn map(&self, function: MapFunction, node: PromNode, params: Vec<PromNode>) -> PromNode {
        let (grid, kind, one_name) = (node.grid, node.kind, node.one_name);
        let mut inputs = vec![node];
        inputs.extend(params);
        self.named(PromNode { op: PromOp::Map(function), inputs, grid, kind, one_name })
    }

    /// A node that has dropped names: series of several names may have become equal.
    fn named(&self, node: PromNode) -> PromNode {
        self.named_if(node, Equal::AtOtherSteps)
    }

    fn named_if(&self, node: PromNode, equal: Equal) -> PromNode {
        if node.one_name || node.kind == NodeKind::Scalar || self.delayed_name_removal {
            node
        } else {
            distinct(node, equal)
        }
    }

    fn binary(&self, binary: &Binary, place: ExprPlace<'_>) -> Result<PromNode> {
        let ExprPlace { span, grid, above } = place;
        let op = binary.op;
        let side = above.side(op);
        let left = self.lower(&binary.lhs, grid, &side)?;
        let right = self.lower(&binary.rhs, grid, &side)?;
        let function =
            ScalarBinary { op, return_bool: binary.return_bool, scalar_left: false, span };
        match (left.kind, right.kind) {
            (NodeKind::Scalar, NodeKind::Scalar) => {
                if let (PromOp::Number(a), PromOp::Number(b)) = (&left.op, &right.op) {
                    let value = match compare(op, *a, *b) {
                        Some(holds) => f64::from(u8::from(holds)),
                        None => arithmetic(op, *a, *b),
                    };
                    return Ok(PromNode::scalar(PromOp::Number(value), Vec::new(), grid));
                }
                let function = MapFunction::Binary(ScalarBinary {
                    return_bool: is_comparison(op),
                    ..function
                });
                Ok(self.map(function, left, vec![right]))
            }
            (NodeKind::Vector, NodeKind::Scalar) => Ok(self.with_scalar(function, left, right)),
            (NodeKind::Scalar, NodeKind::Vector) => {
                Ok(self.with_scalar(ScalarBinary { scalar_left: true, ..function }, right, left))
            }
            (NodeKind::Vector, NodeKind::Vector) => {
                Ok(self.between_vectors(binary, span, OperandNodes { left, right }))
            }
        }
    }

    fn with_scalar(&self, binary: ScalarBinary, vector: PromNode, scalar: PromNode) -> PromNode {
        let function = MapFunction::Binary(binary);
        if !changes_metric(binary.op) && !binary.return_bool {
            let (grid, one_name) = (vector.grid, vector.one_name);
            return PromNode::vector(PromOp::Map(function), vec![vector, scalar], grid)
                .with_one_name(one_name);
        }
        self.map(function, vector, vec![scalar])
    }

    fn between_vectors(&self, binary: &Binary, span: Span, sides: OperandNodes) -> PromNode {
        let OperandNodes { left, right } = sides;
        let (op, grid) = (binary.op, left.grid);
        let matching = binary.matching.clone().unwrap_or(promql::ast::VectorMatching {
            cardinality: Cardinality::OneToOne,
            on: false,
            labels: Vec::new(),
            include: Vec::new(),
            fill_left: None,
            fill_right: None,
        });
        if is_set(op) {
            let is_or = op == BinaryOp::Or;
            let one_name = !is_or && left.one_name;
            let matching = Grouping { labels: matching.labels, without: !matching.on };
            let node = PromNode::vector(PromOp::Set { op, matching }, vec![left, right], grid);
            // Series of both sides may have the same labels. At a single step only names that are
            // dropped later can make them equal.
            let merged = is_or && !(self.delayed_name_removal && grid.count == 1);
            let node = if merged { distinct(node, Equal::AtOtherSteps) } else { node };
            return node.with_one_name(one_name);
        }
        let many = if matching.cardinality == Cardinality::OneToMany { &right } else { &left };
        let keeps_name = !changes_metric(op) && !binary.return_bool;
        let one_name =
            !matching.include.iter().any(|l| l == METRIC_NAME) && (!keeps_name || many.one_name);
        let op = PromOp::Join { op, return_bool: binary.return_bool, matching, span };
        PromNode::vector(op, vec![left, right], grid).with_one_name(one_name)
    }

    fn aggregation(&self, aggregation: &Aggregation, place: ExprPlace<'_>) -> Result<PromNode> {
        let ExprPlace { span, grid, above } = place;
        let grouping =
            Grouping { labels: aggregation.grouping.clone(), without: aggregation.without };
        let by_name = !grouping.without && grouping.labels.iter().any(|l| l == METRIC_NAME);
        let simple = match aggregation.op {
            AggregateOp::Sum => Some(CellKind::Sum),
            AggregateOp::Avg => Some(CellKind::Avg),
            AggregateOp::Min => Some(CellKind::Min),
            AggregateOp::Max => Some(CellKind::Max),
            AggregateOp::Count => Some(CellKind::Count),
            AggregateOp::Group => Some(CellKind::Group),
            AggregateOp::Stddev => Some(CellKind::Stddev),
            AggregateOp::Stdvar => Some(CellKind::Stdvar),
            _ => None,
        };
        let mut input =
            self.lower(&aggregation.expr, grid, &above.function(aggregation.op.as_str()))?;
        if let Some(kind) = simple {
            let by_metadata = grouping.labels.iter().any(|l| METADATA_LABELS.contains(&l.as_str()));
            if let PromOp::Selector { spec, .. } = &mut input.op {
                spec.names_matter = grouping.without || by_metadata;
            }
            let op =
                PromOp::Aggregate { kind, grouping, span: aggregation.expr.unwrap_parens().span };
            return Ok(PromNode::vector(op, vec![input], grid).with_one_name(!by_name));
        }
        let param = aggregation.param.as_deref();
        let Some(param) = param else {
            return Err(Error::new(Kind::Internal, "a parameter is missing"));
        };
        if aggregation.op == AggregateOp::CountValues {
            let label = string(param)?;
            check_count_values_label(label).map_err(|text| Error::new(Kind::Execution, text))?;
            let op = PromOp::CountValues { grouping, label: label.to_vec() };
            return Ok(PromNode::vector(op, vec![input], grid).with_one_name(false));
        }
        let param_span = param.unwrap_parens().span;
        let one_name = input.one_name;
        let inside = Lowering { in_param: true, ..self.clone() };
        let scalar = inside.lower(param, grid, &above.parameter())?;
        let (op, one_name) = match aggregation.op {
            AggregateOp::Quantile => (
                PromOp::Quantile {
                    grouping,
                    span: aggregation.expr.unwrap_parens().span,
                    param_span,
                },
                !by_name,
            ),
            other => {
                let choice = match other {
                    AggregateOp::Bottomk => RowChoice::Smallest,
                    AggregateOp::Limitk => RowChoice::First,
                    AggregateOp::LimitRatio => RowChoice::Ratio,
                    _ => RowChoice::Largest,
                };
                (PromOp::SelectK { choice, grouping, span, param_span }, one_name)
            }
        };
        Ok(PromNode::vector(op, vec![input, scalar], grid).with_one_name(one_name))
    }

    /// A function over its windows.
    fn window(
        &self,
        function: WindowFunction,
        input: RangeInput,
        call: &Call,
        params: Vec<PromNode>,
    ) -> PromNode {
        let is_range = |e: &&Expr| matches!(e.kind, ExprKind::Matrix(_) | ExprKind::Subquery(_));
        let args = || call.args.iter().map(Expr::unwrap_parens);
        // Prometheus reports the first argument, whatever it is, and forgets the positions of
        // subqueries.
        let span = args().next().map_or(Span::default(), |first| match first.kind {
            ExprKind::Subquery(_) => Span { start: 0, end: first.span.end },
            _ => first.span,
        });
        let param_span = args().find(|arg| !is_range(arg)).map_or(Span::default(), |arg| arg.span);
        let spec = WindowSpec {
            function,
            name: call.func.to_owned(),
            steps: input.steps,
            range: input.range,
            span,
            param_span,
            counted: self.counted.clone(),
            names_matter: true,
        };
        let (grid, one_name, keeps_name) = (input.grid, input.one_name, spec.keeps_name());
        let node = match input.node {
            RangeSource::Selector { select, reading } => {
                let edges_only =
                    matches!(function, WindowFunction::Range(range) if range.looks_at_edges_only());
                let reading = SelectorReading { edges_only, ..reading };
                PromNode::vector(PromOp::Selector { spec, select: *select, reading }, params, grid)
            }
            RangeSource::Subquery { inner: Some(inner) } => {
                let inner_grid = inner.grid;
                let mut inputs = vec![*inner];
                inputs.extend(params);
                PromNode::vector(PromOp::Subquery { spec, inner: inner_grid }, inputs, grid)
            }
            RangeSource::Subquery { inner: None } => {
                PromNode::vector(PromOp::Empty, Vec::new(), grid)
            }
        };
        let node = node.with_one_name(one_name);
        if keeps_name { node } else { self.named_if(node, Equal::Never) }
    }
}

/// The first time a subquery is evaluated: its steps are multiples of the step since the epoch, and
/// this is the first one after the window's open start.
fn first_inside(begin: i64, step: i64) -> i64 {
    let first = begin / step * step;
    if first <= begin { first.saturating_add(step) } else { first }
}

fn distinct(node: PromNode, equal: Equal) -> PromNode {
    let grid = node.grid;
    PromNode::vector(PromOp::Distinct { drop_names: false, equal }, vec![node], grid)
}

fn string(expr: &Expr) -> Result<&[u8]> {
    match &expr.unwrap_parens().kind {
        ExprKind::String(literal) => Ok(&literal.value),
        _ => Err(Error::new(Kind::Internal, "a string literal is needed here")),
    }
}

fn names_one_metric(selector: &VectorSelector) -> bool {
    selector.matchers.iter().any(|m| m.name == METRIC_NAME && m.op() == MatchOp::Equal)
}

/// The labels that `absent` can know: those that an equality matcher, and no other, pins.
fn absent_labels(expr: &Expr) -> Labels {
    let matchers = match &expr.unwrap_parens().kind {
        ExprKind::Vector(selector) => &selector.matchers,
        ExprKind::Matrix(matrix) => &matrix.selector.matchers,
        _ => return Labels::empty(),
    };
    let mut builder = LabelsBuilder::default();
    let mut seen = Vec::new();
    let mut spoilt = Vec::new();
    for matcher in matchers.iter().filter(|m| m.name != METRIC_NAME) {
        if matcher.op() == MatchOp::Equal && !seen.contains(&&matcher.name) {
            builder.set(&matcher.name, &matcher.value);
            seen.push(&matcher.name);
        } else {
            spoilt.push(&matcher.name);
        }
    }
    for name in spoilt {
        builder.remove(name);
    }
    builder.build()
}
