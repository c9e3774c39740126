//! The logical plan: one node type, [`PromNode`], and its translation to execution plans.

use std::sync::Arc;

use datafusion_physical_plan::ExecutionPlan;
use model::Labels;
use promql::ast::{BinaryOp, Span, VectorMatching};
use promql::kernels::aggregate::CellKind;

use crate::context::QueryContext;
use crate::exec::{BatchOperator, PromExec};
use crate::grid::StepGrid;
use crate::ops::absent::Absent;
use crate::ops::aggregate::AggregateGroups;
use crate::ops::count_values::CountValues;
use crate::ops::distinct::{Distinct, Equal};
use crate::ops::groups::Grouping;
use crate::ops::histogram_statistic::{HistogramStatistic, Statistic};
use crate::ops::info::{Info, InfoSpec};
use crate::ops::join::Join;
use crate::ops::map::{Map, MapFunction};
use crate::ops::quantile::Quantile;
use crate::ops::range_vector::{RangeBorders, RawSelector, RawSubquery};
use crate::ops::scalar::{Empty, Repeat, Scalar, ScalarSource};
use crate::ops::select_k::{RowChoice, SelectK};
use crate::ops::series_scan::SeriesScan;
use crate::ops::set_operation::SetOperation;
use crate::ops::window::{SelectorWindow, SubqueryWindow, WindowSpec};
use crate::read::SelectorReading;
use crate::samples::Attribution;
use crate::source::Select;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NodeKind {
    Scalar,
    Vector,
}

/// What a node does.
#[derive(Debug)]
pub(crate) enum PromOp {
    Number(f64),
    Time,
    Empty,
    Selector {
        spec: WindowSpec,
        select: Select,
        reading: SelectorReading,
    },
    Subquery {
        spec: WindowSpec,
        inner: StepGrid,
    },
    RawSelector {
        select: Select,
        reading: SelectorReading,
        frame: Option<RangeBorders>,
        counted: Attribution,
    },
    RawSubquery {
        inner: StepGrid,
    },
    Map(MapFunction),
    Aggregate {
        kind: CellKind,
        grouping: Grouping,
        span: Span,
    },
    Quantile {
        grouping: Grouping,
        span: Span,
        param_span: Span,
    },
    CountValues {
        grouping: Grouping,
        label: Vec<u8>,
    },
    SelectK {
        choice: RowChoice,
        grouping: Grouping,
        span: Span,
        param_span: Span,
    },
    Histogram {
        statistic: Statistic,
        span: Span,
        param_spans: Vec<Span>,
    },
    Join {
        op: BinaryOp,
        return_bool: bool,
        matching: VectorMatching,
        span: Span,
    },
    Set {
        op: BinaryOp,
        matching: Grouping,
    },
    Info(Box<InfoSpec>),
    Absent(Labels),
    Scalar,
    Repeat,
    Distinct {
        drop_names: bool,
        equal: Equal,
    },
}

/// A node of the logical plan.
#[derive(Debug)]
pub(crate) struct PromNode {
    pub(crate) op: PromOp,
    pub(crate) inputs: Vec<PromNode>,
    pub(crate) grid: StepGrid,
    pub(crate) kind: NodeKind,
    /// Dropping the metric name cannot make two of its series equal.
    pub(crate) one_name: bool,
}

impl PromNode {
    pub(crate) fn vector(op: PromOp, inputs: Vec<PromNode>, grid: StepGrid) -> PromNode {
        PromNode { op, inputs, grid, kind: NodeKind::Vector, one_name: true }
    }

    pub(crate) fn scalar(op: PromOp, inputs: Vec<PromNode>, grid: StepGrid) -> PromNode {
        PromNode { op, inputs, grid, kind: NodeKind::Scalar, one_name: true }
    }

    pub(crate) fn with_one_name(mut self, one_name: bool) -> PromNode {
        self.one_name = one_name;
        self
    }

    /// The least number of bytes that running this node and those below it takes: a row per worker,
    /// or per group, of which at least one is assumed.
    pub(crate) fn least_bytes(&self, workers: usize) -> u64 {
        let row = self.grid.count as u64 * 8;
        let workers = workers as u64;
        let own = match &self.op {
            PromOp::Selector { .. } => workers.saturating_mul(row),
            PromOp::Aggregate { .. } => workers.saturating_mul(row * 2),
            PromOp::Subquery { .. }
            | PromOp::Quantile { .. }
            | PromOp::CountValues { .. }
            | PromOp::SelectK { .. }
            | PromOp::Histogram { .. }
            | PromOp::Join { .. }
            | PromOp::Set { .. }
            | PromOp::Distinct { .. } => row,
            _ => 0,
        };
        self.inputs
            .iter()
            .fold(own, |sum, input| sum.saturating_add(input.least_bytes(workers as usize)))
    }

    /// The sum of the steps of this node and all nodes below it.
    pub(crate) fn steps_in_all(&self) -> usize {
        self.inputs
            .iter()
            .fold(self.grid.count, |sum, input| sum.saturating_add(input.steps_in_all()))
    }

    /// The execution plan of this node and what is below it.
    pub(crate) fn build(self, query: &Arc<QueryContext>) -> Arc<dyn ExecutionPlan> {
        let operator = operator(self.op, self.grid, query);
        let inputs = self.inputs.into_iter().map(|input| input.build(query)).collect();
        PromExec::plan(operator, inputs, Arc::clone(query))
    }
}

fn operator(op: PromOp, grid: StepGrid, query: &Arc<QueryContext>) -> Arc<dyn BatchOperator> {
    let (steps, count) = (grid.steps(), grid.count);
    match op {
        PromOp::Number(value) => Arc::new(ScalarSource { steps, value: Some(value) }),
        PromOp::Time => Arc::new(ScalarSource { steps, value: None }),
        PromOp::Empty => Arc::new(Empty { steps: count }),
        PromOp::Selector { spec, select, reading } => {
            let reading = SelectorReading { query: Some(Arc::clone(query)), ..reading };
            Arc::new(SelectorWindow::new(spec, SeriesScan::new(select), reading, query.workers))
        }
        PromOp::Subquery { spec, inner } => Arc::new(SubqueryWindow::new(spec, inner)),
        PromOp::RawSelector { select, reading, frame, counted } => {
            let reading = SelectorReading { query: Some(Arc::clone(query)), ..reading };
            Arc::new(RawSelector { scan: SeriesScan::new(select), reading, frame, counted })
        }
        PromOp::RawSubquery { inner } => Arc::new(RawSubquery { inner }),
        PromOp::Map(function) => Arc::new(Map::new(function, steps)),
        PromOp::Aggregate { kind, grouping, span } => {
            Arc::new(AggregateGroups { kind, grouping, span, steps: count })
        }
        PromOp::Quantile { grouping, span, param_span } => {
            Arc::new(Quantile { grouping, steps: count, span, param_span })
        }
        PromOp::CountValues { grouping, label } => {
            Arc::new(CountValues { grouping, label, steps: count })
        }
        PromOp::SelectK { choice, grouping, span, param_span } => {
            Arc::new(SelectK { choice, span, param_span, grouping, steps: count })
        }
        PromOp::Histogram { statistic, span, param_spans } => {
            Arc::new(HistogramStatistic { steps, statistic, span, param_spans })
        }
        PromOp::Join { op, return_bool, matching, span } => Arc::new(Join {
            op,
            return_bool,
            matching,
            span,
            steps: count,
            keep_names: query.delayed_name_removal,
        }),
        PromOp::Set { op, matching } => Arc::new(SetOperation { op, matching, steps: count }),
        PromOp::Info(spec) => Arc::new(Info { spec: *spec }),
        PromOp::Absent(labels) => Arc::new(Absent { steps: count, labels }),
        PromOp::Scalar => Arc::new(Scalar { steps: count }),
        PromOp::Repeat => Arc::new(Repeat { steps: count }),
        PromOp::Distinct { drop_names, equal } => {
            Arc::new(Distinct { steps: count, drop_names, equal })
        }
    }
}
