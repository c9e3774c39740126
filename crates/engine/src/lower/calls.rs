//! Function calls.

use model::FloatHistogram;
use promql::ast::{Call, Expr, ExprKind};
use promql::kernels::labels::{LabelJoin, LabelReplace};
use promql::kernels::range::RangeFunction;
use promql::kernels::xrate::ExtendedRate;
use promql::kernels::{calendar, math, native};

use super::{Above, ExprPlace, Lowering, Result, absent_labels, distinct, string};
use crate::error::{Error, Kind};
use crate::grid::StepGrid;
use crate::ops::distinct::Equal;
use crate::ops::histogram_statistic::Statistic;
use crate::ops::map::{MapFunction, Named};
use crate::ops::window::WindowFunction;
use crate::plan::{NodeKind, PromNode, PromOp};

/// A call that is lowered.
#[derive(Clone, Copy)]
pub(super) struct Site<'a> {
    pub(super) call: &'a Call,
    pub(super) grid: StepGrid,
    /// The surroundings of its arguments.
    pub(super) above: &'a Above,
}

/// Which arguments of a call are histograms and parameters.
struct Operands<'a> {
    histograms: usize,
    params: &'a [usize],
}

impl Lowering {
    pub(super) fn call(&self, call: &Call, grid: StepGrid, above: &Above) -> Result<PromNode> {
        let site = Site { call, grid, above: &above.function(call.func) };
        let args = &call.args[..];
        if let Some(function) = RangeFunction::from_name(call.func) {
            return self.range_call(WindowFunction::Range(function), site);
        }
        if let Some(function) = ExtendedRate::from_name(call.func) {
            return self.range_call(WindowFunction::Reaching(function), site);
        }
        if let Some(function) = math::by_name(call.func) {
            let input = self.arg(site, 0)?;
            return Ok(self.map(
                MapFunction::Each(Named { name: call.func, function }),
                input,
                Vec::new(),
            ));
        }
        if let Some(function) = calendar::by_name(call.func) {
            let input = match args.is_empty() {
                true => PromNode::vector(PromOp::Time, Vec::new(), grid),
                false => self.arg(site, 0)?,
            };
            return Ok(self.map(
                MapFunction::Each(Named { name: call.func, function }),
                input,
                Vec::new(),
            ));
        }
        match call.func {
            "time" => Ok(PromNode::scalar(PromOp::Time, Vec::new(), grid)),
            "pi" => Ok(PromNode::scalar(PromOp::Number(std::f64::consts::PI), Vec::new(), grid)),
            "vector" => {
                let scalar = self.arg(site, 0)?;
                Ok(PromNode { kind: NodeKind::Vector, ..scalar })
            }
            "scalar" => {
                let vector = self.arg(site, 0)?;
                Ok(PromNode::scalar(PromOp::Scalar, vec![vector], grid))
            }
            "absent" => {
                let vector = self.arg(site, 0)?;
                Ok(PromNode::vector(PromOp::Absent(absent_labels(&args[0])), vec![vector], grid))
            }
            "absent_over_time" => {
                let input = self.range_input(&args[0], grid, site.above)?;
                // Names stay, because that there are several does not matter.
                let present = WindowFunction::Range(RangeFunction::Last);
                let present = self.window(present, input, call, Vec::new());
                Ok(PromNode::vector(PromOp::Absent(absent_labels(&args[0])), vec![present], grid))
            }
            "timestamp" => self.timestamp(site),
            "round" => self.rounded(site),
            "clamp" => {
                let params = vec![self.arg(site, 1)?, self.arg(site, 2)?];
                Ok(self.map(MapFunction::Clamp, self.arg(site, 0)?, params))
            }
            "clamp_min" => {
                Ok(self.map(MapFunction::ClampMin, self.arg(site, 0)?, vec![self.arg(site, 1)?]))
            }
            "clamp_max" => {
                Ok(self.map(MapFunction::ClampMax, self.arg(site, 0)?, vec![self.arg(site, 1)?]))
            }
            "label_replace" | "label_join" => self.label_call(site),
            // Order matters for the result only.
            "sort_by_label" | "sort_by_label_desc" => self.arg(site, 0),
            "sort" | "sort_desc" => {
                let input = self.arg(site, 0)?;
                let one_name = input.one_name;
                let op = PromOp::Map(MapFunction::FloatsOnly);
                Ok(PromNode::vector(op, vec![input], grid).with_one_name(one_name))
            }
            "histogram_count" => self.of_histogram(native::count, site),
            "histogram_sum" => self.of_histogram(native::sum, site),
            "histogram_avg" => self.of_histogram(native::average, site),
            "histogram_stddev" => self.of_histogram(native::stddev, site),
            "histogram_stdvar" => self.of_histogram(native::stdvar, site),
            "histogram_quantile" => self.histogram_statistic(
                Statistic::Quantile,
                site,
                Operands { histograms: 1, params: &[0] },
            ),
            "histogram_fraction" => self.histogram_statistic(
                Statistic::Fraction,
                site,
                Operands { histograms: 2, params: &[0, 1] },
            ),
            "histogram_quantiles" => {
                let label = string(&args[1])?.to_vec();
                let quantiles: Vec<usize> = (2..args.len()).collect();
                self.histogram_statistic(
                    Statistic::Quantiles { label },
                    site,
                    Operands { histograms: 0, params: &quantiles },
                )
            }
            "info" => self.info(site),
            "start" | "end" | "step" | "range" | "min_of" | "max_of" => self.query_time(site),
            "start_timestamp" => {
                let text =
                    "start_timestamp() is not supported: start timestamps of samples are not kept";
                Err(Error::new(Kind::Execution, text))
            }
            other => Err(Error::new(Kind::Internal, format!("{other}() has no evaluation"))),
        }
    }

    fn of_histogram(
        &self,
        function: fn(&FloatHistogram) -> f64,
        site: Site<'_>,
    ) -> Result<PromNode> {
        Ok(self.map(
            MapFunction::Histogram(Named { name: site.call.func, function }),
            self.arg(site, 0)?,
            Vec::new(),
        ))
    }

    /// A statistic of the histograms that one argument gives, with others as parameters.
    fn histogram_statistic(
        &self,
        statistic: Statistic,
        site: Site<'_>,
        operands: Operands<'_>,
    ) -> Result<PromNode> {
        let Operands { histograms, params } = operands;
        let mut inputs = vec![self.arg(site, histograms)?];
        let one_name = inputs[0].one_name;
        for param in params {
            inputs.push(self.arg(site, *param)?);
        }
        let span = |arg: usize| site.call.args[arg].unwrap_parens().span;
        let param_spans = params.iter().map(|param| span(*param)).collect();
        let op = PromOp::Histogram { statistic, span: span(histograms), param_spans };
        Ok(self.named(PromNode::vector(op, inputs, site.grid).with_one_name(one_name)))
    }

    pub(super) fn arg(&self, site: Site<'_>, index: usize) -> Result<PromNode> {
        match site.call.args.get(index) {
            Some(arg) => self.lower(arg, site.grid, site.above),
            None => Err(Error::new(
                Kind::Internal,
                format!("an argument of {}() is missing", site.call.func),
            )),
        }
    }

    fn range_call(&self, function: WindowFunction, site: Site<'_>) -> Result<PromNode> {
        let Site { call, grid, above } = site;
        let is_range = |e: &&Expr| {
            matches!(e.unwrap_parens().kind, ExprKind::Matrix(_) | ExprKind::Subquery(_))
        };
        let Some(range) = call.args.iter().find(is_range) else {
            return Err(Error::new(
                Kind::Internal,
                format!("{}() needs a range vector", call.func),
            ));
        };
        let input = self.range_input(range, grid, above)?;
        let mut params = Vec::new();
        for arg in call.args.iter().filter(|a| !is_range(a)) {
            params.push(self.lower(arg, grid, &above.parameter())?);
        }
        let function = self.of_range(function, &input, call.func)?;
        Ok(self.window(function, input, call, params))
    }

    fn timestamp(&self, site: Site<'_>) -> Result<PromNode> {
        let arg = &site.call.args[0];
        if let ExprKind::Vector(selector) = &arg.unwrap_parens().kind {
            let place = ExprPlace { span: arg.span, grid: site.grid, above: site.above };
            return Ok(self.named(self.selector(selector, WindowFunction::Timestamp, place)?));
        }
        let input = self.arg(site, 0)?;
        Ok(self.map(MapFunction::EvaluationTime, input, Vec::new()))
    }

    fn rounded(&self, site: Site<'_>) -> Result<PromNode> {
        let to = match site.call.args.len() {
            0 | 1 => PromNode::scalar(PromOp::Number(1.0), Vec::new(), site.grid),
            _ => self.arg(site, 1)?,
        };
        Ok(self.map(MapFunction::Round, self.arg(site, 0)?, vec![to]))
    }

    fn label_call(&self, site: Site<'_>) -> Result<PromNode> {
        let Site { call, grid, .. } = site;
        let texts = call.args[1..].iter().map(string).collect::<Result<Vec<&[u8]>>>()?;
        let function = match (call.func, &texts[..]) {
            ("label_replace", [destination, replacement, source, regex]) => {
                LabelReplace::new([destination, replacement, source, regex])
                    .map(MapFunction::Replace)
            }
            ("label_join", [destination, separator, sources @ ..]) => {
                LabelJoin::new(destination, separator, sources.iter().map(|s| s.to_vec()).collect())
                    .map(MapFunction::Join)
            }
            _ => {
                return Err(Error::new(
                    Kind::Internal,
                    format!("an argument of {}() is missing", call.func),
                ));
            }
        };
        let function = function.map_err(|text| Error::new(Kind::Execution, text))?;
        let input = self.arg(site, 0)?;
        let node = PromNode::vector(PromOp::Map(function), vec![input], grid);
        Ok(distinct(node, Equal::AtOtherSteps).with_one_name(false))
    }

    /// Functions of the query's own times and of two numbers.
    fn query_time(&self, site: Site<'_>) -> Result<PromNode> {
        let Site { call, grid, .. } = site;
        let seconds =
            |ms: i64| Ok(PromNode::scalar(PromOp::Number(ms as f64 / 1000.0), Vec::new(), grid));
        match call.func {
            "start" => seconds(self.grid.start_ms),
            "end" => seconds(self.grid.end_ms),
            "step" if self.grid.start_ms == self.grid.end_ms => seconds(0),
            "step" => seconds(self.grid.step_ms),
            "range" => seconds(self.grid.end_ms.saturating_sub(self.grid.start_ms)),
            name => {
                let (a, b) = (self.arg(site, 0)?, self.arg(site, 1)?);
                let function =
                    if name == "min_of" { MapFunction::ClampMax } else { MapFunction::ClampMin };
                Ok(self.map(function, a, vec![b]))
            }
        }
    }
}
