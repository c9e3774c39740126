//! Function calls.

use model::FloatHistogram;
use promql::ast::{Call, Expr, ExprKind};
use promql::kernels::labels::{Join, Replace};
use promql::kernels::range::RangeFunction;
use promql::kernels::xrate::ExtendedRate;
use promql::kernels::{calendar, math, native};

use super::{Above, Lowering, Result, absent_labels, distinct, string};
use crate::error::QueryError;
use crate::grid::StepGrid;
use crate::ops::distinct::Equal;
use crate::ops::histogram::Statistic;
use crate::ops::map::MapFunction;
use crate::ops::window::WindowFunction;
use crate::plan::{Kind, PromNode, PromOp};

impl Lowering {
    pub(super) fn call(&self, call: &Call, grid: StepGrid, above: &Above) -> Result<PromNode> {
        let args = &call.args[..];
        if let Some(function) = RangeFunction::from_name(call.func) {
            return self.range_call(WindowFunction::Range(function), call, grid);
        }
        if let Some(function) = ExtendedRate::from_name(call.func) {
            return self.range_call(WindowFunction::Reaching(function), call, grid);
        }
        if let Some(function) = math::by_name(call.func) {
            let input = self.arg(call, 0, grid)?;
            return Ok(self.map(MapFunction::Each(function), input, Vec::new()));
        }
        if let Some(function) = calendar::by_name(call.func) {
            let input = match args.is_empty() {
                true => PromNode::vector(PromOp::Time, Vec::new(), grid),
                false => self.arg(call, 0, grid)?,
            };
            return Ok(self.map(MapFunction::Each(function), input, Vec::new()));
        }
        match call.func {
            "time" => Ok(PromNode::scalar(PromOp::Time, Vec::new(), grid)),
            "pi" => Ok(PromNode::scalar(PromOp::Number(std::f64::consts::PI), Vec::new(), grid)),
            "vector" => {
                let scalar = self.arg(call, 0, grid)?;
                Ok(PromNode { kind: Kind::Vector, ..scalar })
            }
            "scalar" => {
                let vector = self.arg(call, 0, grid)?;
                Ok(PromNode::scalar(PromOp::Scalar, vec![vector], grid))
            }
            "absent" => {
                let vector = self.arg(call, 0, grid)?;
                Ok(PromNode::vector(PromOp::Absent(absent_labels(&args[0])), vec![vector], grid))
            }
            "absent_over_time" => {
                let input = self.range_input(&args[0], grid, &Above::function(call.func))?;
                // Names stay, because that there are several does not matter.
                let present = WindowFunction::Range(RangeFunction::Last);
                let present = self.window(present, input, call, Vec::new());
                Ok(PromNode::vector(PromOp::Absent(absent_labels(&args[0])), vec![present], grid))
            }
            "timestamp" => self.timestamp(&args[0], grid),
            "round" => self.rounded(call, grid),
            "clamp" => {
                let params = vec![self.arg(call, 1, grid)?, self.arg(call, 2, grid)?];
                Ok(self.map(MapFunction::Clamp, self.arg(call, 0, grid)?, params))
            }
            "clamp_min" => {
                Ok(self.map(MapFunction::ClampMin, self.arg(call, 0, grid)?, vec![self.arg(call, 1, grid)?]))
            }
            "clamp_max" => {
                Ok(self.map(MapFunction::ClampMax, self.arg(call, 0, grid)?, vec![self.arg(call, 1, grid)?]))
            }
            "label_replace" | "label_join" => self.label_call(call, grid),
            // Order is of the result alone.
            "sort_by_label" | "sort_by_label_desc" => self.lower(&args[0], grid, &Above::function(call.func)),
            "sort" | "sort_desc" => {
                let input = self.lower(&args[0], grid, &Above::function(call.func))?;
                let one_name = input.one_name;
                let op = PromOp::Map(MapFunction::FloatsOnly);
                Ok(PromNode::vector(op, vec![input], grid).with_one_name(one_name))
            }
            "histogram_count" => self.of_histogram(native::count, call, grid),
            "histogram_sum" => self.of_histogram(native::sum, call, grid),
            "histogram_avg" => self.of_histogram(native::average, call, grid),
            "histogram_stddev" => self.of_histogram(native::stddev, call, grid),
            "histogram_stdvar" => self.of_histogram(native::stdvar, call, grid),
            "histogram_quantile" => self.histogram_statistic(Statistic::Quantile, call, (1, &[0]), grid),
            "histogram_fraction" => self.histogram_statistic(Statistic::Fraction, call, (2, &[0, 1]), grid),
            "histogram_quantiles" => {
                let label = string(&args[1])?.to_vec();
                let quantiles: Vec<usize> = (2..args.len()).collect();
                self.histogram_statistic(Statistic::Quantiles { label }, call, (0, &quantiles), grid)
            }
            "info" => self.info(call, grid),
            "start" | "end" | "step" | "range" | "min_of" | "max_of" => self.query_time(call, grid, above),
            "start_timestamp" => {
                let text = "start_timestamp() is not supported: start timestamps of samples are not kept";
                Err(QueryError::Execution(text.to_owned()))
            }
            other => Err(QueryError::Internal(format!("{other}() has no evaluation"))),
        }
    }

    fn of_histogram(&self, function: fn(&FloatHistogram) -> f64, call: &Call, grid: StepGrid) -> Result<PromNode> {
        Ok(self.map(MapFunction::Histogram(function), self.arg(call, 0, grid)?, Vec::new()))
    }

    /// A statistic of the histograms that one argument gives, with others as parameters.
    fn histogram_statistic(
        &self,
        statistic: Statistic,
        call: &Call,
        (histograms, params): (usize, &[usize]),
        grid: StepGrid,
    ) -> Result<PromNode> {
        let mut inputs = vec![self.arg(call, histograms, grid)?];
        let one_name = inputs[0].one_name;
        for param in params {
            inputs.push(self.arg(call, *param, grid)?);
        }
        let param_spans = params.iter().map(|p| call.args[*p].unwrap_parens().span).collect();
        let op = PromOp::Histogram { statistic, span: call.args[histograms].unwrap_parens().span, param_spans };
        Ok(self.named(PromNode::vector(op, inputs, grid).with_one_name(one_name)))
    }

    fn arg(&self, call: &Call, index: usize, grid: StepGrid) -> Result<PromNode> {
        match call.args.get(index) {
            Some(arg) => self.lower(arg, grid, &Above::function(call.func)),
            None => Err(QueryError::Internal(format!("an argument of {}() is missing", call.func))),
        }
    }

    fn range_call(&self, function: WindowFunction, call: &Call, grid: StepGrid) -> Result<PromNode> {
        let is_range = |e: &&Expr| matches!(e.unwrap_parens().kind, ExprKind::Matrix(_) | ExprKind::Subquery(_));
        let Some(range) = call.args.iter().find(is_range) else {
            return Err(QueryError::Internal(format!("{}() needs a range vector", call.func)));
        };
        let input = self.range_input(range, grid, &Above::function(call.func))?;
        let mut params = Vec::new();
        for arg in call.args.iter().filter(|a| !is_range(a)) {
            params.push(self.lower(arg, grid, &Above::default())?);
        }
        let function = self.of_range(function, &input, call.func)?;
        Ok(self.window(function, input, call, params))
    }

    fn timestamp(&self, arg: &Expr, grid: StepGrid) -> Result<PromNode> {
        if let ExprKind::Vector(selector) = &arg.unwrap_parens().kind {
            let above = Above::function("timestamp");
            let selector = (selector, arg.span);
            return Ok(self.named(self.selector(selector, WindowFunction::Timestamp, grid, &above)?));
        }
        let input = self.lower(arg, grid, &Above::function("timestamp"))?;
        Ok(self.map(MapFunction::EvaluationTime, input, Vec::new()))
    }

    fn rounded(&self, call: &Call, grid: StepGrid) -> Result<PromNode> {
        let to = match call.args.len() {
            0 | 1 => PromNode::scalar(PromOp::Number(1.0), Vec::new(), grid),
            _ => self.arg(call, 1, grid)?,
        };
        Ok(self.map(MapFunction::Round, self.arg(call, 0, grid)?, vec![to]))
    }

    fn label_call(&self, call: &Call, grid: StepGrid) -> Result<PromNode> {
        let texts = call.args[1..].iter().map(string).collect::<Result<Vec<&[u8]>>>()?;
        let function = match (call.func, &texts[..]) {
            ("label_replace", [destination, replacement, source, regex]) => {
                Replace::new([destination, replacement, source, regex]).map(MapFunction::Replace)
            }
            ("label_join", [destination, separator, sources @ ..]) => {
                Join::new(destination, separator, sources.iter().map(|s| s.to_vec()).collect()).map(MapFunction::Join)
            }
            _ => return Err(QueryError::Internal(format!("an argument of {}() is missing", call.func))),
        };
        let function = function.map_err(QueryError::Execution)?;
        let input = self.arg(call, 0, grid)?;
        let node = PromNode::vector(PromOp::Map(function), vec![input], grid);
        Ok(distinct(node, Equal::AtOtherSteps).with_one_name(false))
    }

    /// Functions of the query's own times, and of two numbers.
    fn query_time(&self, call: &Call, grid: StepGrid, above: &Above) -> Result<PromNode> {
        let seconds = |ms: i64| Ok(PromNode::scalar(PromOp::Number(ms as f64 / 1000.0), Vec::new(), grid));
        match call.func {
            "start" => seconds(self.grid.start_ms),
            "end" => seconds(self.grid.end_ms),
            "step" if self.grid.start_ms == self.grid.end_ms => seconds(0),
            "step" => seconds(self.grid.step_ms),
            "range" => seconds(self.grid.end_ms.saturating_sub(self.grid.start_ms)),
            name => {
                let (a, b) = (self.lower(&call.args[0], grid, above)?, self.lower(&call.args[1], grid, above)?);
                let function = if name == "min_of" { MapFunction::ClampMax } else { MapFunction::ClampMin };
                Ok(self.map(function, a, vec![b]))
            }
        }
    }
}
