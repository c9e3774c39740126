//! Range vectors as a result: samples, not steps.
//!
//! As Arrow: `series: UInt32, t: List<Int64>, v: List<Float64>`.

use std::sync::Arc;

use datafusion::arrow::array::{AsArray, Float64Array, Int64Array, ListArray, RecordBatch, UInt32Array};
use datafusion::arrow::buffer::{OffsetBuffer, ScalarBuffer};
use datafusion::arrow::datatypes::{DataType, Field, Float64Type, Int64Type, Schema, SchemaRef, UInt32Type};
use datafusion::common::Result;
use futures::{StreamExt, TryStreamExt};
use model::Labels;
use promql::kernels::window::Samples;

use super::scan::SeriesScan;
use super::window::points;
use crate::context::{METADATA_LABELS, QueryContext, fail};
use crate::exec::{BatchStream, Inputs, Operator};
use crate::read::{Reader, Reading};

fn schema() -> SchemaRef {
    let list = |ty| DataType::List(Arc::new(Field::new_list_field(ty, false)));
    Arc::new(Schema::new(vec![
        Field::new("series", DataType::UInt32, false),
        Field::new("t", list(DataType::Int64), false),
        Field::new("v", list(DataType::Float64), false),
    ]))
}

/// Series with their samples, as they are collected.
#[derive(Debug, Default)]
struct RawRows {
    labels: Vec<Labels>,
    lengths: Vec<usize>,
    t: Vec<i64>,
    v: Vec<f64>,
}

impl RawRows {
    fn push(&mut self, labels: Labels, samples: Samples<'_>) {
        if !samples.t.is_empty() {
            self.labels.push(labels);
            self.lengths.push(samples.t.len());
            self.t.extend_from_slice(samples.t);
            self.v.extend_from_slice(samples.v);
        }
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
        Ok(RecordBatch::try_new(schema(), vec![Arc::new(ids), Arc::new(t), Arc::new(v)])?)
    }
}

/// One series of a raw batch: its id and samples.
pub(crate) struct RawSeries {
    pub(crate) series: u32,
    pub(crate) t: Vec<i64>,
    pub(crate) v: Vec<f64>,
}

/// Reads a raw batch back.
pub(crate) fn raw_series(batch: &RecordBatch) -> Vec<RawSeries> {
    let ids = batch.column(0).as_primitive::<UInt32Type>();
    let (t, v) = (batch.column(1).as_list::<i32>(), batch.column(2).as_list::<i32>());
    let row = |(i, id): (usize, &u32)| RawSeries {
        series: *id,
        t: t.value(i).as_primitive::<Int64Type>().values().to_vec(),
        v: v.value(i).as_primitive::<Float64Type>().values().to_vec(),
    };
    ids.values().iter().enumerate().map(row).collect()
}

/// `m[5m]` at the top of a query.
#[derive(Debug)]
pub(crate) struct RawSelector {
    pub(crate) scan: SeriesScan,
    pub(crate) reading: Reading,
}

impl Operator for RawSelector {
    fn name(&self) -> &'static str {
        "RawSelector"
    }

    fn schema(&self) -> SchemaRef {
        schema()
    }

    fn partitions(&self, _: &[usize]) -> usize {
        1
    }

    fn run(self: Arc<Self>, _: usize, inputs: Inputs) -> Result<BatchStream> {
        let reader = Reader::new(self.reading.clone());
        let state = (self, inputs, reader);
        let batches = futures::stream::try_unfold(state, |(operator, inputs, mut reader)| async move {
            let Some(batch) = operator.scan.next(&inputs.query).await? else { return Ok(None) };
            let mut rows = RawRows::default();
            for series in batch {
                let labels = series.labels.clone();
                reader.read(series).map_err(fail)?;
                inputs.query.count_decoded(reader.times.len());
                reader.drop_stale();
                rows.push(labels, Samples { t: &reader.times, v: &reader.values });
            }
            Ok(Some((rows.into_batch(&inputs.query)?, (operator, inputs, reader))))
        });
        Ok(batches.boxed())
    }
}

/// A subquery at the top of a query.
#[derive(Debug)]
pub(crate) struct RawSubquery {
    pub(crate) inner_start: i64,
    pub(crate) inner_step: i64,
}

impl Operator for RawSubquery {
    fn name(&self) -> &'static str {
        "RawSubquery"
    }

    fn schema(&self) -> SchemaRef {
        schema()
    }

    fn partitions(&self, inputs: &[usize]) -> usize {
        inputs[0]
    }

    fn run(self: Arc<Self>, partition: usize, inputs: Inputs) -> Result<BatchStream> {
        let input = inputs.rows(0, partition)?;
        let batches = input.and_then(move |rows| {
            let mut raw = RawRows::default();
            let (mut t, mut v) = (Vec::new(), Vec::new());
            for (row, labels) in inputs.query.labels_of(&rows).into_iter().enumerate() {
                points(&rows, row, (self.inner_start, self.inner_step), (&mut t, &mut v));
                let labels = if rows.drop_name[row] { labels.without(&METADATA_LABELS) } else { labels };
                raw.push(labels, Samples { t: &t, v: &v });
            }
            std::future::ready(raw.into_batch(&inputs.query))
        });
        Ok(batches.boxed())
    }
}
