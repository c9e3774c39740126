//! The window operator: chunks → samples → one value per step, fused series by series.

use std::sync::Arc;

use datafusion_common::{DataFusionError, Result};
use datafusion_execution::memory_pool::MemoryReservation;
use futures::{StreamExt, TryStreamExt};
use promql::kernels::interrupt::Interrupt;
use tokio::sync::OnceCell;

use self::evaluator::{EvaluatedSeries, Evaluator};
pub(crate) use self::row_points::RowPoints;
pub(crate) use self::spec::{WindowFunction, WindowSpec};
use super::series_scan::SeriesScan;
use crate::batch::{RowStream, Rows};
use crate::context::Check;
use crate::error::fail;
use crate::exec::{Inputs, Operator};
use crate::grid::StepGrid;
use crate::read::{SampleReader, SelectorReading};

mod evaluator;
mod fill;
mod row_points;
mod spec;

/// Windows over a selector.
#[derive(Debug)]
pub(crate) struct SelectorWindow {
    spec: Arc<WindowSpec>,
    scan: SeriesScan,
    reading: SelectorReading,
    workers: usize,
    params: OnceCell<Vec<Vec<f64>>>,
}

impl SelectorWindow {
    pub(crate) fn new(
        spec: WindowSpec,
        scan: SeriesScan,
        reading: SelectorReading,
        workers: usize,
    ) -> SelectorWindow {
        SelectorWindow { spec: Arc::new(spec), scan, reading, workers, params: OnceCell::new() }
    }
}

/// After decoding this many samples, less than a millisecond of work, other queries get a turn.
const SAMPLES_A_TURN: usize = 1 << 16;

struct SelectorWorker {
    operator: Arc<SelectorWindow>,
    evaluator: Evaluator,
    reader: SampleReader,
    /// What is still to be read of the last batch of the scan.
    pending: std::vec::IntoIter<merge::Series>,
}

impl SelectorWorker {
    async fn next(mut self) -> Result<Option<(Rows, SelectorWorker)>> {
        let query = Arc::clone(&self.evaluator.query);
        let mut decoded = 0;
        while !self.evaluator.is_full() {
            if let Some(series) = self.pending.next() {
                decoded += self.series(series)?;
                if decoded >= SAMPLES_A_TURN {
                    decoded = 0;
                    tokio::task::yield_now().await;
                }
                continue;
            }
            match self.operator.scan.next(&query).await? {
                Some(batch) => self.pending = batch.into_iter(),
                None => break,
            }
        }
        let rows = self.evaluator.take()?;
        Ok(if rows.is_empty() { None } else { Some((rows, self)) })
    }

    /// Evaluates a series; returns how many samples were decoded for it.
    fn series(&mut self, series: merge::Series) -> Result<usize> {
        let query = Arc::clone(&self.evaluator.query);
        query.work(|interrupt| self.evaluate(series, interrupt))
    }

    fn evaluate(&mut self, series: merge::Series, interrupt: &Interrupt<'_>) -> Result<usize> {
        let merge::Series { labels, chunks } = series;
        self.reader.read(&labels, chunks, interrupt).map_err(fail)?;
        let decoded = self.reader.samples().len();
        self.evaluator.query.count_decoded(decoded);
        if !self.operator.spec.reads_stale() {
            self.reader.drop_stale();
        }
        let (samples, coarse) = (self.reader.samples(), self.reader.coarse());
        let drop_name = false;
        let series = EvaluatedSeries { labels, drop_name, samples, coarse, interrupt };
        self.evaluator.series(series)?;
        Ok(decoded)
    }
}

impl Operator for SelectorWindow {
    fn name(&self) -> &'static str {
        "Window"
    }

    fn detail(&self) -> String {
        format!("{} over {:?}", self.spec.detail(), self.scan.select.matchers)
    }

    fn steps(&self) -> usize {
        self.spec.steps.count
    }

    fn partitions(&self, _: &[usize]) -> usize {
        self.workers
    }

    fn run(self: Arc<Self>, _: usize, inputs: Inputs) -> Result<RowStream> {
        let start = async move {
            let params = inputs.scalars(0, &self.params).await?;
            let evaluator = Evaluator::new(Arc::clone(&self.spec), &inputs, params, false);
            let reader = SampleReader::new(self.reading.clone(), inputs.reserve("decoded samples"));
            let worker = SelectorWorker {
                operator: self,
                evaluator,
                reader,
                pending: Vec::new().into_iter(),
            };
            Ok::<_, DataFusionError>(futures::stream::try_unfold(worker, SelectorWorker::next))
        };
        Ok(futures::stream::once(start).try_flatten().boxed())
    }
}

/// Windows over the steps of an inner query.
#[derive(Debug)]
pub(crate) struct SubqueryWindow {
    spec: Arc<WindowSpec>,
    /// The steps of the inner query.
    inner: StepGrid,
    params: OnceCell<Vec<Vec<f64>>>,
}

impl SubqueryWindow {
    pub(crate) fn new(spec: WindowSpec, inner: StepGrid) -> SubqueryWindow {
        SubqueryWindow { spec: Arc::new(spec), inner, params: OnceCell::new() }
    }

    fn batch(&self, rows: &Rows, evaluator: &mut Evaluator) -> Result<()> {
        let query = Arc::clone(&evaluator.query);
        let mut points = RowPoints::default();
        query.work(|interrupt| {
            for (row, labels) in query.labels_of(rows).into_iter().enumerate() {
                interrupt.check(rows.steps)?;
                points.read(rows, row, self.inner);
                let (drop_name, samples) = (rows.drop_name[row], points.samples());
                let coarse = None;
                evaluator.series(EvaluatedSeries {
                    labels,
                    drop_name,
                    samples,
                    coarse,
                    interrupt,
                })?;
            }
            Ok(())
        })
    }
}

impl Operator for SubqueryWindow {
    fn name(&self) -> &'static str {
        "SubqueryWindow"
    }

    fn detail(&self) -> String {
        self.spec.detail()
    }

    fn steps(&self) -> usize {
        self.spec.steps.count
    }

    fn partitions(&self, inputs: &[usize]) -> usize {
        inputs[0]
    }

    fn run(self: Arc<Self>, partition: usize, inputs: Inputs) -> Result<RowStream> {
        let points = inputs.reserve("points of a subquery");
        points.try_grow(RowPoints::bytes(self.inner.count))?;
        let input = inputs.rows(0, partition)?;
        let start = async move {
            let params = inputs.scalars(1, &self.params).await?;
            let evaluator = Evaluator::new(Arc::clone(&self.spec), &inputs, params, true);
            let worker = SubqueryWorker { operator: self, evaluator, input, _points: points };
            Ok::<_, DataFusionError>(futures::stream::try_unfold(worker, SubqueryWorker::next))
        };
        Ok(futures::stream::once(start).try_flatten().boxed())
    }
}

struct SubqueryWorker {
    operator: Arc<SubqueryWindow>,
    evaluator: Evaluator,
    input: RowStream,
    /// For the points of one row.
    _points: MemoryReservation,
}

impl SubqueryWorker {
    async fn next(mut self) -> Result<Option<(Rows, SubqueryWorker)>> {
        while !self.evaluator.is_full() {
            match self.input.try_next().await? {
                Some(rows) => self.operator.batch(&rows, &mut self.evaluator)?,
                None => break,
            }
        }
        let rows = self.evaluator.take()?;
        Ok(if rows.is_empty() { None } else { Some((rows, self)) })
    }
}
