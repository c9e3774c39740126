//! The operators of a query as EXPLAIN shows them, and what each did when the query is analyzed.
//!
//! Time is what tasks spent in an operator, all workers together, with the operators below it that
//! run in the same task. Without analysis nothing is measured.

use std::pin::Pin;
use std::task::{Context, Poll};

use arrow::array::{Array, RecordBatch};
use datafusion_common::Result;
use datafusion_physical_plan::metrics::{Count, ExecutionPlanMetricsSet, MetricBuilder, Time};
use datafusion_physical_plan::{DisplayFormatType, ExecutionPlan};
use futures::{FutureExt, Stream, StreamExt};

use crate::batch::BatchStream;

const BUSY: &str = "busy";
const SERIES: &str = "series";
const POINTS: &str = "points";
const BYTES: &str = "bytes";
const SAMPLES: &str = "samples";

/// An operator in a list of them, which is a tree: after each come its inputs, each followed by its
/// own. Trees of nodes are as high as queries nest, and whoever drops or prints one needs the stack
/// for that.
#[derive(Clone, Debug, PartialEq)]
pub struct ExplainedOperator {
    pub name: String,
    /// Only if the query was analyzed.
    pub measured: Option<OperatorMeasurement>,
    /// How many inputs it has.
    pub inputs: usize,
}

/// What an operator did.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct OperatorMeasurement {
    pub seconds: f64,
    /// The series, points and bytes it gave.
    pub series: u64,
    pub points: u64,
    pub bytes: u64,
    /// Samples it looked at itself, as Prometheus counts them.
    pub samples: u64,
}

impl ExplainedOperator {
    /// The operators of a plan.
    pub(crate) fn all_of(plan: &dyn ExecutionPlan, analyzed: bool) -> Vec<ExplainedOperator> {
        let (mut operators, mut rest) = (Vec::new(), vec![plan]);
        while let Some(plan) = rest.pop() {
            let inputs = plan.children();
            operators.push(ExplainedOperator {
                name: Name(plan).to_string(),
                measured: analyzed.then(|| measured(plan)),
                inputs: inputs.len(),
            });
            rest.extend(inputs.into_iter().rev().map(|input| input.as_ref()));
        }
        operators
    }
}

struct Name<'a>(&'a dyn ExecutionPlan);

impl std::fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt_as(DisplayFormatType::Default, f)
    }
}

fn measured(plan: &dyn ExecutionPlan) -> OperatorMeasurement {
    let metrics = plan.metrics().unwrap_or_default();
    let sum = |name| metrics.sum_by_name(name).map_or(0, |value| value.as_usize() as u64);
    OperatorMeasurement {
        seconds: sum(BUSY) as f64 / 1e9,
        series: sum(SERIES),
        points: sum(POINTS),
        bytes: sum(BYTES),
        samples: sum(SAMPLES),
    }
}

/// Measures one stream of an operator, and the tasks behind it.
#[derive(Clone, Debug)]
pub(crate) struct Meter {
    busy: Time,
    series: Count,
    points: Count,
    bytes: Count,
    samples: Count,
}

impl Meter {
    pub(crate) fn new(metrics: &ExecutionPlanMetricsSet, partition: usize) -> Meter {
        let counter = |name| MetricBuilder::new(metrics).counter(name, partition);
        Meter {
            busy: MetricBuilder::new(metrics).subset_time(BUSY, partition),
            series: counter(SERIES),
            points: counter(POINTS),
            bytes: counter(BYTES),
            samples: counter(SAMPLES),
        }
    }

    pub(crate) fn count_samples(&self, samples: u64) {
        self.samples.add(usize::try_from(samples).unwrap_or(usize::MAX));
    }

    pub(crate) fn stream(self, inner: BatchStream) -> BatchStream {
        Metered { inner, meter: self }.boxed()
    }

    /// A task of the operator.
    pub(crate) fn future<F: Future + Unpin>(
        &self,
        mut task: F,
    ) -> impl Future<Output = F::Output> + use<F> {
        let busy = self.busy.clone();
        std::future::poll_fn(move |context| {
            let _timer = busy.timer();
            task.poll_unpin(context)
        })
    }

    fn record(&self, batch: &RecordBatch) {
        self.series.add(batch.num_rows());
        self.bytes.add(batch.get_array_memory_size());
        // samples lie in the last list of a batch
        let points = batch.columns().iter().rev().find_map(|column| {
            let any = column.as_any();
            let steps =
                any.downcast_ref::<arrow::array::FixedSizeListArray>().map(|list| list.values());
            steps
                .or_else(|| any.downcast_ref::<arrow::array::ListArray>().map(|list| list.values()))
        });
        self.points.add(points.map_or(0, |values| values.len() - values.null_count()));
    }
}

struct Metered {
    inner: BatchStream,
    meter: Meter,
}

impl Stream for Metered {
    type Item = Result<RecordBatch>;

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<RecordBatch>>> {
        let this = &mut *self;
        let timer = this.meter.busy.timer();
        let polled = this.inner.poll_next_unpin(context);
        drop(timer);
        if let Poll::Ready(Some(Ok(batch))) = &polled {
            this.meter.record(batch);
        }
        polled
    }
}
