//! Windows of format 1 as Arrow arrays and back.

pub(crate) mod schema;

use std::ops::Range;
use std::sync::Arc;

use arrow::array::cast::AsArray;
use arrow::array::{
    Array, ArrayRef, BooleanArray, Float64Array, Int32Array, ListArray, RecordBatch, StructArray,
    TimestampMillisecondArray, UInt32Array,
};
use arrow::buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{
    DataType, Field, Float64Type, Int32Type, TimestampMillisecondType, UInt32Type,
};
use arrow::error::ArrowError;
use merge::{Batch, HistogramWindows, NO_TIME, Windows};
use model::FloatHistogram;
use model::histogram::BucketSpan;
use tsdb::chunk::Aggregate;

use crate::histogram_parts::{hint_number, hint_of, list_floats};
use crate::labels::wrong_type;
use crate::schema as names;

fn timestamps(values: Vec<i64>, nulls: Option<NullBuffer>) -> ArrayRef {
    Arc::new(TimestampMillisecondArray::new(ScalarBuffer::from(values), nulls).with_timezone("UTC"))
}

fn floats(values: Vec<f64>, nulls: Option<NullBuffer>) -> ArrayRef {
    Arc::new(Float64Array::new(ScalarBuffer::from(values), nulls))
}

fn counts(counts: Vec<u32>) -> ArrayRef {
    Arc::new(Int32Array::from_iter_values(
        counts.into_iter().map(|c| i32::try_from(c).unwrap_or(i32::MAX)),
    ))
}

/// Rows of the samples file that wait to be encoded.
#[derive(Default)]
pub(crate) struct SampleRows {
    series: Vec<u32>,
    windows: Windows,
}

impl SampleRows {
    pub(crate) fn len(&self) -> usize {
        self.series.len()
    }

    pub(crate) fn push(&mut self, series: u32, windows: &Windows) {
        let start = self.series.len();
        let own = &mut self.windows;
        self.series.resize(start + windows.len(), series);
        own.t.extend_from_slice(&windows.t);
        own.count.extend_from_slice(&windows.count);
        own.sum.extend_from_slice(&windows.sum);
        own.min.extend_from_slice(&windows.min);
        own.max.extend_from_slice(&windows.max);
        own.counter.extend_from_slice(&windows.counter);
        own.batches.extend(windows.batches.iter().map(|b| Batch { start: start + b.start, ..*b }));
    }

    pub(crate) fn into_batch(self) -> Result<RecordBatch, ArrowError> {
        let Windows { t, count, sum, min, max, counter, batches, .. } = self.windows;
        let rows = t.len();
        let (mut first_t, mut first_v, mut last_v) =
            (vec![0; rows], vec![0.0; rows], vec![0.0; rows]);
        let mut starts = vec![false; rows];
        for batch in &batches {
            starts[batch.start] = true;
            (first_t[batch.start], first_v[batch.start], last_v[batch.start]) =
                (batch.first_t, batch.first_v, batch.last_v);
        }
        let starts = NullBuffer::from(starts);
        let differs: Vec<bool> =
            counter.iter().zip(&max).map(|(c, m)| c.to_bits() != m.to_bits()).collect();
        let arrays = vec![
            Arc::new(UInt32Array::from(self.series)) as ArrayRef,
            timestamps(t, None),
            timestamps(first_t, Some(starts.clone())),
            floats(first_v, Some(starts.clone())),
            floats(last_v, Some(starts)),
            counts(count),
            floats(counter, Some(NullBuffer::from(differs))),
            floats(max, None),
            floats(sum, None),
            floats(min, None),
        ];
        RecordBatch::try_new(schema::samples(), arrays)
    }
}

/// Rows of the histograms file that wait to be encoded.
#[derive(Default)]
pub(crate) struct HistogramRows {
    series: Vec<u32>,
    starts: Vec<bool>,
    windows: HistogramWindows,
}

impl HistogramRows {
    pub(crate) fn len(&self) -> usize {
        self.series.len()
    }

    pub(crate) fn push(&mut self, series: u32, windows: &HistogramWindows) {
        let start = self.series.len();
        self.series.resize(start + windows.len(), series);
        self.starts.resize(start + windows.len(), false);
        windows.batches.iter().for_each(|b| self.starts[start + b] = true);
        self.windows.t.extend_from_slice(&windows.t);
        self.windows.count.extend_from_slice(&windows.count);
        self.windows.sum.extend_from_slice(&windows.sum);
        self.windows.counter.extend_from_slice(&windows.counter);
    }

    pub(crate) fn into_batch(self) -> Result<RecordBatch, ArrowError> {
        let HistogramWindows { t, count, sum, counter, .. } = self.windows;
        let arrays = vec![
            Arc::new(UInt32Array::from(self.series)) as ArrayRef,
            timestamps(t, None),
            Arc::new(BooleanArray::from(self.starts)),
            counts(count),
            Arc::new(histogram_array(&counter)?),
            Arc::new(histogram_array(&sum)?),
        ];
        RecordBatch::try_new(schema::histograms(), arrays)
    }
}

fn histogram_array(histograms: &[FloatHistogram]) -> Result<StructArray, ArrowError> {
    let integers = |value: fn(&FloatHistogram) -> i32| -> ArrayRef {
        Arc::new(Int32Array::from_iter_values(histograms.iter().map(value)))
    };
    let values =
        |value: fn(&FloatHistogram) -> f64| floats(histograms.iter().map(value).collect(), None);
    let arrays = vec![
        integers(|h| h.schema),
        integers(|h| hint_number(h.hint)),
        values(|h| h.zero_threshold),
        values(|h| h.zero_count),
        values(|h| h.count),
        values(|h| h.sum),
        span_lists(histograms, |h| &h.positive_spans)?,
        span_lists(histograms, |h| &h.negative_spans)?,
        float_lists(histograms, |h| &h.positive_buckets)?,
        float_lists(histograms, |h| &h.negative_buckets)?,
        float_lists(histograms, |h| &h.custom_values)?,
    ];
    StructArray::try_new(schema::histogram_fields(), arrays, None)
}

fn float_lists(
    histograms: &[FloatHistogram],
    value: fn(&FloatHistogram) -> &Vec<f64>,
) -> Result<ArrayRef, ArrowError> {
    let offsets = OffsetBuffer::from_lengths(histograms.iter().map(|h| value(h).len()));
    let items = histograms.iter().flat_map(|h| value(h).iter().copied()).collect();
    let field = Arc::new(Field::new("item", DataType::Float64, false));
    Ok(Arc::new(ListArray::try_new(field, offsets, floats(items, None), None)?))
}

fn span_lists(
    histograms: &[FloatHistogram],
    value: fn(&FloatHistogram) -> &Vec<BucketSpan>,
) -> Result<ArrayRef, ArrowError> {
    let offsets = OffsetBuffer::from_lengths(histograms.iter().map(|h| value(h).len()));
    let spans = || histograms.iter().flat_map(|h| value(h).iter());
    let arrays: Vec<ArrayRef> = vec![
        Arc::new(Int32Array::from_iter_values(spans().map(|s| s.offset))),
        Arc::new(UInt32Array::from_iter_values(spans().map(|s| s.length))),
    ];
    let items = StructArray::try_new(schema::span_fields(), arrays, None)?;
    let field = Arc::new(Field::new("item", items.data_type().clone(), false));
    Ok(Arc::new(ListArray::try_new(field, offsets, Arc::new(items), None)?))
}

/// The columns of the histograms file that readers need.
pub(crate) const HISTOGRAM_COLUMNS: &[&str] =
    &[names::T, names::BATCH_START, names::COUNT, names::COUNTER, names::SUM];

/// The columns of the samples file that the aggregates need.
pub(crate) fn wanted_columns(aggregates: &[Aggregate]) -> Vec<&'static str> {
    let mut columns = vec![names::T, names::FIRST_T];
    for aggregate in aggregates {
        columns.extend_from_slice(match aggregate {
            Aggregate::Count => &[names::COUNT],
            Aggregate::Sum => &[names::SUM],
            Aggregate::Min => &[names::MIN],
            Aggregate::Max => &[names::MAX],
            // Where the counter equals the maximum, it is stored there.
            Aggregate::Counter => &[names::FIRST_V, names::LAST_V, names::COUNTER, names::MAX],
        });
    }
    columns
}

/// Columns of a batch of the samples file, as far as they were read.
pub(crate) struct SampleColumns<'a> {
    t: &'a [i64],
    first_t: &'a TimestampMillisecondArray,
    borders: Option<(&'a [f64], &'a [f64])>,
    count: Option<&'a [i32]>,
    counter: Option<&'a Float64Array>,
    max: Option<&'a [f64]>,
    sum: Option<&'a [f64]>,
    min: Option<&'a [f64]>,
}

impl<'a> SampleColumns<'a> {
    pub(crate) fn new(batch: &'a RecordBatch) -> Result<SampleColumns<'a>, ArrowError> {
        let float_array = |name: &str| -> Result<Option<&'a Float64Array>, ArrowError> {
            let column = batch.column_by_name(name);
            column
                .map(|c| c.as_primitive_opt::<Float64Type>().ok_or_else(|| wrong_type(name)))
                .transpose()
        };
        let values = |name| Ok::<_, ArrowError>(float_array(name)?.map(|a| &a.values()[..]));
        let times = |name: &str| {
            let column = batch
                .column_by_name(name)
                .and_then(|c| c.as_primitive_opt::<TimestampMillisecondType>());
            column.ok_or_else(|| wrong_type(name))
        };
        let count = batch.column_by_name(names::COUNT);
        Ok(SampleColumns {
            t: times(names::T)?.values(),
            first_t: times(names::FIRST_T)?,
            borders: values(names::FIRST_V)?.zip(values(names::LAST_V)?),
            count: match count {
                Some(c) => Some(
                    c.as_primitive_opt::<Int32Type>()
                        .ok_or_else(|| wrong_type(names::COUNT))?
                        .values(),
                ),
                None => None,
            },
            counter: float_array(names::COUNTER)?,
            max: values(names::MAX)?,
            sum: values(names::SUM)?,
            min: values(names::MIN)?,
        })
    }

    /// The windows of these rows, which are one series'. Columns that were not read are left empty.
    pub(crate) fn windows(&self, rows: Range<usize>) -> Windows {
        let slice =
            |column: Option<&[f64]>| column.map_or_else(Vec::new, |c| c[rows.clone()].to_vec());
        let counter = match (self.counter, self.max) {
            (Some(counter), Some(max)) => rows
                .clone()
                .map(|row| if counter.is_null(row) { max[row] } else { counter.value(row) })
                .collect(),
            _ => Vec::new(),
        };
        let batch = |row: usize| {
            let (first_v, last_v) = self
                .borders
                .map_or((model::STALE_NAN, model::STALE_NAN), |(f, l)| (f[row], l[row]));
            Batch { start: row - rows.start, first_t: self.first_t.value(row), first_v, last_v }
        };
        Windows {
            t: self.t[rows.clone()].to_vec(),
            first_t: vec![NO_TIME; rows.len()],
            last_t: vec![NO_TIME; rows.len()],
            count: self.count.map_or_else(Vec::new, |c| {
                c[rows.clone()].iter().map(|c| c.unsigned_abs()).collect()
            }),
            sum: slice(self.sum),
            min: slice(self.min),
            max: slice(self.max),
            counter,
            batches: rows.clone().filter(|row| self.first_t.is_valid(*row)).map(batch).collect(),
        }
    }
}

/// The windows of these rows of a batch of the histograms file, which are one series'.
pub(crate) fn read_histograms(
    batch: &RecordBatch,
    rows: Range<usize>,
) -> Result<HistogramWindows, ArrowError> {
    let column = |name: &str| batch.column_by_name(name).ok_or_else(|| wrong_type(name));
    let t = column(names::T)?
        .as_primitive_opt::<TimestampMillisecondType>()
        .ok_or_else(|| wrong_type(names::T))?;
    let starts = column(names::BATCH_START)?
        .as_boolean_opt()
        .ok_or_else(|| wrong_type(names::BATCH_START))?;
    let count = column(names::COUNT)?
        .as_primitive_opt::<Int32Type>()
        .ok_or_else(|| wrong_type(names::COUNT))?;
    Ok(HistogramWindows {
        t: t.values()[rows.clone()].to_vec(),
        first_t: vec![NO_TIME; rows.len()],
        last_t: vec![NO_TIME; rows.len()],
        count: count.values()[rows.clone()].iter().map(|c| c.unsigned_abs()).collect(),
        sum: read_histogram_column(column(names::SUM)?, rows.clone())?,
        counter: read_histogram_column(column(names::COUNTER)?, rows.clone())?,
        batches: rows
            .clone()
            .filter(|row| starts.value(*row))
            .map(|row| row - rows.start)
            .collect(),
    })
}

fn read_histogram_column(
    array: &ArrayRef,
    rows: Range<usize>,
) -> Result<Vec<FloatHistogram>, ArrowError> {
    let all = array.as_struct_opt().ok_or_else(|| wrong_type("of histograms"))?;
    let column = |name: &str| all.column_by_name(name).ok_or_else(|| wrong_type(name));
    let integers =
        |name: &str| column(name)?.as_primitive_opt::<Int32Type>().ok_or_else(|| wrong_type(name));
    let values = |name: &str| {
        column(name)?.as_primitive_opt::<Float64Type>().ok_or_else(|| wrong_type(name))
    };
    let list = |name: &str| column(name)?.as_list_opt::<i32>().ok_or_else(|| wrong_type(name));
    let (schemas, hints) = (integers("schema")?, integers("hint")?);
    let (zero_threshold, zero_count) = (values("zero_threshold")?, values("zero_count")?);
    let (count, sum) = (values("count")?, values("sum")?);
    let lists = [list("positive_buckets")?, list("negative_buckets")?, list("custom_values")?];
    let spans = [list("positive_spans")?, list("negative_spans")?];
    let read = |row: usize| -> Result<FloatHistogram, ArrowError> {
        let [positive_buckets, negative_buckets, custom_values] =
            [0, 1, 2].map(|i| list_floats(lists[i], row));
        let [positive_spans, negative_spans] = [0, 1].map(|i| list_spans(spans[i], row));
        Ok(FloatHistogram {
            schema: schemas.value(row),
            hint: hint_of(hints.value(row)),
            zero_threshold: zero_threshold.value(row),
            zero_count: zero_count.value(row),
            count: count.value(row),
            sum: sum.value(row),
            positive_spans: positive_spans?,
            negative_spans: negative_spans?,
            positive_buckets: positive_buckets?,
            negative_buckets: negative_buckets?,
            custom_values: custom_values?,
        })
    };
    rows.map(read).collect()
}

fn list_spans(list: &ListArray, row: usize) -> Result<Vec<BucketSpan>, ArrowError> {
    let items = list.value(row);
    let spans = items.as_struct_opt().ok_or_else(|| wrong_type("of spans"))?;
    let offsets = spans.column_by_name("offset").and_then(|c| c.as_primitive_opt::<Int32Type>());
    let lengths = spans.column_by_name("length").and_then(|c| c.as_primitive_opt::<UInt32Type>());
    let (Some(offsets), Some(lengths)) = (offsets, lengths) else {
        return Err(wrong_type("of spans"));
    };
    Ok(offsets
        .values()
        .iter()
        .zip(lengths.values())
        .map(|(offset, length)| BucketSpan { offset: *offset, length: *length })
        .collect())
}
