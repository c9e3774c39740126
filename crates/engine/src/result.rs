//! From the last batches to the answer: what kind of value it is, and the order of its series.

use std::cmp::Ordering;
use std::sync::Arc;

use arrow::array::{AsArray, ListArray, RecordBatch};
use arrow::datatypes::{Float64Type, Int64Type};
use datafusion_execution::memory_pool::MemoryReservation;
use model::Labels;
use promql::ast::{AggregateOp, Expr, ExprKind, Span, ValueType};
use promql::value::{Grid, PointValue, Points, PointsView, ResultSeries, StepRows, Value};

use crate::batch::Rows;
use crate::context::{LabelMemory, QueryContext, apart};
use crate::error::{Error, Kind};
use crate::histograms::Histograms;
use crate::lower::sorts::is_sort;
use crate::ops::range_vector::{RawColumns, raw_columns};

/// What a plan gave, with the memory it is charged to.
pub(crate) type Collected = Vec<(CollectedPart, MemoryReservation)>;

pub(crate) enum CollectedPart {
    Rows(Rows),
    /// The samples of a range vector.
    Raw(RecordBatch),
}

impl CollectedPart {
    pub(crate) fn bytes(&self) -> usize {
        match self {
            CollectedPart::Rows(rows) => rows.bytes(),
            CollectedPart::Raw(batch) => batch.get_array_memory_size(),
        }
    }
}

/// Rows of a result, charged to their query until the last of their series is dropped.
struct ResultRows {
    rows: Rows,
    grid: Grid,
    _memory: MemoryReservation,
    _labels: Option<LabelMemory>,
}

impl StepRows for ResultRows {
    fn view(&self, row: usize) -> PointsView<'_> {
        PointsView::Steps {
            grid: self.grid,
            values: self.rows.values(row),
            present: self.rows.present(row),
            histograms: self.rows.histograms(row),
        }
    }
}

/// The samples of a range vector, charged likewise.
struct ResultSamples {
    t: ListArray,
    v: ListArray,
    histograms: Vec<Option<Histograms>>,
    _memory: MemoryReservation,
    _labels: Option<LabelMemory>,
}

impl StepRows for ResultSamples {
    fn view(&self, row: usize) -> PointsView<'_> {
        let offsets = self.t.value_offsets();
        let samples = offsets[row] as usize..offsets[row + 1] as usize;
        PointsView::Samples {
            t: &self.t.values().as_primitive::<Int64Type>().values()[samples.clone()],
            v: &self.v.values().as_primitive::<Float64Type>().values()[samples],
            histograms: self.histograms[row].as_deref(),
        }
    }
}

/// More series than this may take long to put in order.
const MANY_SERIES: usize = 20_000;

/// The order of the series in the answer.
#[derive(Clone, Debug, PartialEq)]
enum Order {
    Labels,
    AsEvaluated,
    Value { descending: bool },
    ByLabels { names: Vec<Vec<u8>>, descending: bool },
}

/// What the answer looks like.
#[derive(Clone, Debug)]
pub(crate) struct AnswerShape {
    value: ValueType,
    order: Order,
    /// A sort of something that is evaluated at many steps.
    pointless_sort: Option<Span>,
}

impl AnswerShape {
    /// The shape of the answer to a query with this root.
    pub(crate) fn of(
        expr: &Expr,
        grid: Grid,
        pointless_sort: Option<Span>,
    ) -> Result<AnswerShape, Error> {
        let value = expr.value_type();
        if !grid.is_instant() && matches!(value, ValueType::Matrix | ValueType::String) {
            return Err(Error::new(
                Kind::BadData,
                format!(
                    "invalid expression type {:?} for range query, must be Scalar or instant \
                     Vector",
                    value.documented()
                ),
            ));
        }
        let mut shape = AnswerShape { value, order: Order::Labels, pointless_sort };
        if grid.is_instant() {
            shape.order = order(expr.unwrap_parens());
        }
        Ok(shape)
    }

    /// Whether samples are asked for, not values at steps.
    pub(crate) fn is_raw(&self) -> bool {
        self.value == ValueType::Matrix
    }

    pub(crate) fn annotate(&self, context: &QueryContext) {
        if let Some(span) = self.pointless_sort {
            let message =
                "sort is ineffective for range queries since results are always ordered by labels";
            context.annotate().warn(span, message);
        }
    }
}

fn order(expr: &Expr) -> Order {
    match &expr.kind {
        ExprKind::Call(call) if is_sort(call.func) => {
            let descending = call.func.ends_with("_desc");
            if !call.func.starts_with("sort_by_label") {
                return Order::Value { descending };
            }
            let names = call.args[1..].iter().filter_map(|a| match &a.unwrap_parens().kind {
                ExprKind::String(literal) => Some(literal.value.clone()),
                _ => None,
            });
            Order::ByLabels { names: names.collect(), descending }
        }
        ExprKind::Aggregate(a) if matches!(a.op, AggregateOp::Topk | AggregateOp::Bottomk) => {
            Order::AsEvaluated
        }
        _ => Order::Labels,
    }
}

/// The value of a query from what its plan gave.
pub(crate) fn value(
    collected: Collected,
    shape: &AnswerShape,
    context: &QueryContext,
    grid: Grid,
) -> Value {
    let mut series = Vec::new();
    for (part, memory) in collected {
        let rows = match part {
            CollectedPart::Rows(rows) => rows,
            CollectedPart::Raw(batch) => {
                series.extend(samples(&batch, memory, context));
                continue;
            }
        };
        let labels = context.labels_of(&rows);
        let rows: Arc<dyn StepRows> =
            Arc::new(ResultRows { rows, grid, _memory: memory, _labels: context.label_memory() });
        let of_row =
            |(row, labels)| ResultSeries { labels, points: Points::of_row(Arc::clone(&rows), row) };
        series.extend(labels.into_iter().enumerate().map(of_row));
    }
    if shape.is_raw() {
        series.sort_by(|a, b| a.labels.cmp(&b.labels));
        return Value::Matrix(series);
    }
    if shape.value == ValueType::Scalar && grid.is_instant() {
        let value = series.first().map_or(f64::NAN, float);
        return Value::Scalar { t_ms: grid.start_ms, value };
    }
    series.retain(|s| !s.points.is_empty());
    if series.len() > MANY_SERIES {
        apart(|| sort(&mut series, &shape.order));
    } else {
        sort(&mut series, &shape.order);
    }
    if grid.is_instant() { Value::Vector(series) } else { Value::Matrix(series) }
}

/// The series of a batch of samples, without a copy.
fn samples(
    batch: &RecordBatch,
    memory: MemoryReservation,
    context: &QueryContext,
) -> Vec<ResultSeries> {
    let RawColumns { series, t, v, histograms } = raw_columns(batch, context);
    let rows: Arc<dyn StepRows> = Arc::new(ResultSamples {
        t,
        v,
        histograms,
        _memory: memory,
        _labels: context.label_memory(),
    });
    let of_row = |(row, id): (usize, &u32)| ResultSeries {
        labels: context.label(*id),
        points: Points::of_row(Arc::clone(&rows), row),
    };
    series.iter().enumerate().map(of_row).collect()
}

fn sort(series: &mut [ResultSeries], order: &Order) {
    match order {
        Order::AsEvaluated => {}
        Order::Labels => series.sort_by(|a, b| a.labels.cmp(&b.labels)),
        Order::Value { descending } => {
            series.sort_by(|a, b| a.labels.cmp(&b.labels));
            series.sort_by(|a, b| by_value(float(a), float(b), *descending));
        }
        Order::ByLabels { names, descending } => series.sort_by(|a, b| {
            let order = by_labels(&a.labels, &b.labels, names);
            if *descending { order.reverse() } else { order }
        }),
    }
}

fn float(series: &ResultSeries) -> f64 {
    match series.points.first().map(|p| p.value) {
        Some(PointValue::Float(value)) => value,
        _ => f64::NAN,
    }
}

/// NaN last in either direction.
fn by_value(a: f64, b: f64, descending: bool) -> Ordering {
    match (a.is_nan(), b.is_nan()) {
        (false, false) if descending => b.partial_cmp(&a).unwrap_or(Ordering::Equal),
        (false, false) => a.partial_cmp(&b).unwrap_or(Ordering::Equal),
        (x, y) => x.cmp(&y),
    }
}

fn by_labels(a: &Labels, b: &Labels, names: &[Vec<u8>]) -> Ordering {
    for name in names {
        let order = natural(a.get(name).unwrap_or_default(), b.get(name).unwrap_or_default());
        if order.is_ne() {
            return order;
        }
    }
    a.cmp(b)
}

/// Runs of digits compare as numbers, everything else as text.
fn natural(a: &[u8], b: &[u8]) -> Ordering {
    let (mut a, mut b) = (a, b);
    while !a.is_empty() && !b.is_empty() {
        let (x, rest_a) = chunk(a);
        let (y, rest_b) = chunk(b);
        let order = if x[0].is_ascii_digit() && y[0].is_ascii_digit() {
            let number =
                |digits: &[u8]| digits.iter().position(|d| *d != b'0').unwrap_or(digits.len());
            let (i, j) = (&x[number(x)..], &y[number(y)..]);
            i.len().cmp(&j.len()).then_with(|| i.cmp(j)).then_with(|| x.len().cmp(&y.len()))
        } else {
            x.cmp(y)
        };
        if order.is_ne() {
            return order;
        }
        (a, b) = (rest_a, rest_b);
    }
    a.len().cmp(&b.len())
}

fn chunk(text: &[u8]) -> (&[u8], &[u8]) {
    let digit = text[0].is_ascii_digit();
    text.split_at(text.iter().position(|c| c.is_ascii_digit() != digit).unwrap_or(text.len()))
}
