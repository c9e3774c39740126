//! Range vectors as a result: samples, not steps.
//!
//! As Arrow: `series: UInt32, t: List<Int64>, v: List<Float64>, histograms: UInt32`, the last as in
//! [`Rows`](crate::batch::Rows), with an entry per sample.

use std::sync::Arc;

use arrow::array::{Array, AsArray, Float64Array, Int64Array, ListArray, RecordBatch, UInt32Array};
use arrow::buffer::{OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, UInt32Type};
use datafusion_common::Result;
use futures::{StreamExt, TryStreamExt};
use merge::Series;
use model::Labels;
use promql::ast::Extension;
use promql::kernels::extended::{Range, framed};
use promql::kernels::interrupt::Interrupt;
use promql::kernels::window::{HistogramSamples, Samples, Steps};

use super::series_scan::SeriesScan;
use super::window::RowPoints;
use crate::batch::BatchStream;
use crate::context::{Charge, Check, QueryContext};
use crate::error::{execution, fail};
use crate::exec::{BatchOperator, Inputs};
use crate::grid::StepGrid;
use crate::histograms::Histograms;
use crate::read::{SampleReader, SelectorReading, SeriesSamples};
use crate::samples::{Attribution, Tally};

const NO_HISTOGRAMS: HistogramSamples<'static> = HistogramSamples { t: &[], h: &[] };

fn schema() -> SchemaRef {
    let list = |ty| DataType::List(Arc::new(Field::new_list_field(ty, false)));
    Arc::new(Schema::new(vec![
        Field::new("series", DataType::UInt32, false),
        Field::new("t", list(DataType::Int64), false),
        Field::new("v", list(DataType::Float64), false),
        Field::new("histograms", DataType::UInt32, true),
    ]))
}

/// Bytes that a sample takes in a column for times and one for values, while they grow.
const COLLECTED_BYTES: usize = 32;

/// Series with their samples, as they are collected.
#[derive(Debug)]
struct RawRows {
    memory: Charge,
    labels: Vec<Labels>,
    lengths: Vec<usize>,
    t: Vec<i64>,
    v: Vec<f64>,
    histograms: Vec<Option<Histograms>>,
}

impl RawRows {
    fn new(inputs: &Inputs) -> RawRows {
        let memory = Charge::new(inputs.reserve("samples"));
        let (labels, lengths, histograms) = (Vec::new(), Vec::new(), Vec::new());
        RawRows { memory, labels, lengths, t: Vec::new(), v: Vec::new(), histograms }
    }

    fn push(&mut self, labels: Labels, samples: SeriesSamples<'_>) -> Result<()> {
        let SeriesSamples { floats, histograms } = samples;
        self.memory.hold(labels.as_packed().len() + samples.len() * COLLECTED_BYTES)?;
        let begin = self.t.len();
        self.t.extend_from_slice(floats.t);
        self.v.extend_from_slice(floats.v);
        if !histograms.t.is_empty() {
            let row = self.merge(begin, histograms);
            self.histograms.push(Some(row));
        } else if !floats.t.is_empty() {
            self.histograms.push(None);
        } else {
            return Ok(());
        }
        self.labels.push(labels);
        self.lengths.push(self.t.len() - begin);
        Ok(())
    }

    /// Merges histograms into the floats from `begin` on, in order of time.
    fn merge(&mut self, begin: usize, histograms: HistogramSamples<'_>) -> Histograms {
        let floats = self.t.drain(begin..).zip(self.v.drain(begin..)).map(|(t, v)| (t, v, None));
        let histograms =
            histograms.t.iter().zip(histograms.h).map(|(t, h)| (*t, 0.0, Some(Arc::clone(h))));
        let mut all: Vec<_> = floats.chain(histograms).collect();
        all.sort_by_key(|(t, ..)| *t);
        self.t.extend(all.iter().map(|(t, ..)| *t));
        self.v.extend(all.iter().map(|(_, v, _)| *v));
        all.into_iter().map(|(.., h)| h).collect()
    }

    fn into_batch(self, query: &QueryContext) -> Result<RecordBatch> {
        query.hold(self.t.len() as u64)?;
        let first = query.add_labels(self.labels);
        let ids = UInt32Array::from_iter_values((0..self.lengths.len()).map(|i| first + i as u32));
        let offsets = || OffsetBuffer::from_lengths(self.lengths.iter().copied());
        let item = |ty| Arc::new(Field::new_list_field(ty, false));
        let t = Arc::new(Int64Array::new(ScalarBuffer::from(self.t), None));
        let v = Arc::new(Float64Array::new(ScalarBuffer::from(self.v), None));
        let t = ListArray::try_new(item(DataType::Int64), offsets(), t, None)?;
        let v = ListArray::try_new(item(DataType::Float64), offsets(), v, None)?;
        let histograms =
            self.histograms.into_iter().map(|row| row.map(|row| query.histograms.put(row)));
        let columns: [Arc<dyn Array>; 4] = [
            Arc::new(ids),
            Arc::new(t),
            Arc::new(v),
            Arc::new(histograms.collect::<UInt32Array>()),
        ];
        Ok(RecordBatch::try_new(schema(), columns.into())?)
    }
}

/// The columns of a raw batch.
pub(crate) struct RawColumns {
    pub(crate) series: ScalarBuffer<u32>,
    pub(crate) t: ListArray,
    pub(crate) v: ListArray,
    /// An entry per series.
    pub(crate) histograms: Vec<Option<Histograms>>,
}

/// Reads a raw batch back, without a copy of its samples.
pub(crate) fn raw_columns(batch: &RecordBatch, query: &QueryContext) -> RawColumns {
    let histograms = batch.column(3).as_primitive::<UInt32Type>();
    RawColumns {
        series: batch.column(0).as_primitive::<UInt32Type>().values().clone(),
        t: batch.column(1).as_list().clone(),
        v: batch.column(2).as_list().clone(),
        histograms: histograms.iter().map(|id| query.histograms.take(id?)).collect(),
    }
}

/// `m[5m]` at the top of a query.
#[derive(Debug)]
pub(crate) struct RawSelector {
    pub(crate) scan: SeriesScan,
    pub(crate) reading: SelectorReading,
    pub(crate) frame: Option<RangeBorders>,
    pub(crate) counted: Attribution,
}

/// The borders of an anchored or smoothed range, at which it gets values.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RangeBorders {
    extension: Extension,
    range: Range,
}

impl RangeBorders {
    /// The borders of a range of this length at the first step.
    pub(crate) fn new(extension: Extension, steps: &Steps, range: i64) -> RangeBorders {
        let end = steps.end(0);
        RangeBorders { extension, range: Range { start: end.saturating_sub(range), end } }
    }

    fn apply(self, samples: SeriesSamples<'_>) -> Result<(Vec<i64>, Vec<f64>)> {
        let smoothed = self.extension == Extension::Smoothed;
        if !samples.histograms.t.is_empty() {
            let name = if smoothed { "smoothed" } else { "anchored" };
            return Err(execution(format!("{name} modifier is not supported with histograms")));
        }
        Ok(framed(samples.floats, self.range, smoothed))
    }
}

/// What the series of a raw selector are read for.
struct RawInputs<'a> {
    inputs: &'a Inputs,
    interrupt: &'a Interrupt<'a>,
}

impl RawSelector {
    fn read(
        &self,
        batch: Vec<Series>,
        reader: &mut SampleReader,
        of: RawInputs<'_>,
    ) -> Result<RawRows> {
        let RawInputs { inputs, interrupt } = of;
        let mut rows = RawRows::new(inputs);
        let mut tally = Tally::new(1, false);
        for Series { labels, chunks } in batch {
            reader.read(&labels, chunks, interrupt).map_err(fail)?;
            interrupt.check(reader.samples().len())?;
            inputs.query.count_decoded(reader.samples().len());
            reader.drop_stale();
            let framed = self.frame.map(|frame| frame.apply(reader.samples())).transpose()?;
            let samples = match &framed {
                None => reader.samples(),
                Some((t, v)) => {
                    SeriesSamples { floats: Samples { t, v }, histograms: NO_HISTOGRAMS }
                }
            };
            tally.range(samples.floats.t.len(), samples.histograms.h);
            rows.push(labels, samples)?;
        }
        if let Some(counter) = &inputs.query.samples {
            inputs.count_samples(tally.flush(counter, &self.counted));
        }
        Ok(rows)
    }
}

impl BatchOperator for RawSelector {
    fn name(&self) -> &'static str {
        "RawSelector"
    }

    fn detail(&self) -> String {
        format!("{:?}", self.scan.select.matchers)
    }

    fn schema(&self) -> SchemaRef {
        schema()
    }

    fn partitions(&self, _: &[usize]) -> usize {
        1
    }

    fn batches(self: Arc<Self>, _: usize, inputs: Inputs) -> Result<BatchStream> {
        let reader = SampleReader::new(self.reading.clone(), inputs.reserve("decoded samples"));
        let state = (self, inputs, reader);
        let batches =
            futures::stream::try_unfold(state, |(operator, inputs, mut reader)| async move {
                let Some(batch) = operator.scan.next(&inputs.query).await? else { return Ok(None) };
                let rows = inputs.query.work(|interrupt| {
                    operator.read(batch, &mut reader, RawInputs { inputs: &inputs, interrupt })
                })?;
                tokio::task::yield_now().await;
                Ok(Some((rows.into_batch(&inputs.query)?, (operator, inputs, reader))))
            });
        Ok(batches.boxed())
    }
}

/// A subquery at the top of a query.
#[derive(Debug)]
pub(crate) struct RawSubquery {
    /// Its steps.
    pub(crate) inner: StepGrid,
}

impl BatchOperator for RawSubquery {
    fn name(&self) -> &'static str {
        "RawSubquery"
    }

    fn detail(&self) -> String {
        String::new()
    }

    fn schema(&self) -> SchemaRef {
        schema()
    }

    fn partitions(&self, inputs: &[usize]) -> usize {
        inputs[0]
    }

    fn batches(self: Arc<Self>, partition: usize, inputs: Inputs) -> Result<BatchStream> {
        let input = inputs.rows(0, partition)?;
        let batches = input.and_then(move |rows| {
            let raw = inputs.query.work(|interrupt| {
                let (mut raw, mut points) = (RawRows::new(&inputs), RowPoints::default());
                raw.memory.hold(rows.steps * COLLECTED_BYTES)?;
                for (row, labels) in inputs.query.labels_of(&rows).into_iter().enumerate() {
                    interrupt.check(4 * rows.steps)?;
                    points.read(&rows, row, self.inner);
                    raw.push(labels, points.samples())?;
                }
                Ok(raw)
            });
            std::future::ready(raw.and_then(|raw| raw.into_batch(&inputs.query)))
        });
        Ok(batches.boxed())
    }
}
