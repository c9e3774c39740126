//! Native histogram windows of format 2 as Arrow arrays and back: a row per window with everything
//! but the buckets, and a row per bucket and window, bucket after bucket, because a bucket changes
//! little from one window to the next.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::cast::AsArray;
use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, BooleanArray, Float64Array, Int32Array, Int64Array,
    ListArray, PrimitiveArray, RecordBatch, StructArray,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Fields, Float64Type, Int32Type, Int64Type};
use arrow::error::ArrowError;
use merge::HistogramWindows;
use model::FloatHistogram;
use model::histogram::BucketSpan;

use super::columns::{Columns, Nullable, times};
use super::decimal::Scale;
use super::schema::{COUNT_M, COUNTER_M, FIRST_T, LAST_RAW_T, LAST_T, NEGATIVE, SUM_R, WINDOW};
use super::times::{SeriesTimes, TimeRows, cut_last_window, times_of};
use crate::histogram_parts::{hint_number, hint_of, list_floats};
use crate::labels::wrong_type;
use crate::schema::{BATCH_START, COUNT, COUNTER, SUM, T};

/// Counts of observations are whole numbers, except in some gauges.
fn whole(value: f64) -> Option<i64> {
    Scale::stored(0)?.mantissa(value)
}

/// The columns of the histograms file that readers need.
pub(crate) const HISTOGRAM_COLUMNS: &[&str] =
    &[T, FIRST_T, LAST_T, BATCH_START, LAST_RAW_T, COUNT, COUNTER, SUM];

/// The columns of the buckets file that readers need.
pub(crate) const BUCKET_COLUMNS: &[&str] = &[NEGATIVE, WINDOW, COUNTER, COUNTER_M, SUM, SUM_R];

/// Rows of the histograms file that wait to be encoded.
#[derive(Default)]
pub(crate) struct HistogramRows {
    series: Vec<i32>,
    window: Vec<i32>,
    times: TimeRows,
    count: Vec<i32>,
    counter: Vec<FloatHistogram>,
    sum: Vec<FloatHistogram>,
}

impl HistogramRows {
    pub(crate) fn len(&self) -> usize {
        self.series.len()
    }

    /// Adds the windows of a series, each `resolution_ms` long.
    pub(crate) fn push(&mut self, series: i32, windows: &HistogramWindows, resolution_ms: i64) {
        self.series.resize(self.series.len() + windows.len(), series);
        self.window.extend(0..windows.len() as i32);
        let HistogramWindows { t, first_t, last_t, .. } = windows;
        let times = SeriesTimes { t, first_t, last_t, resolution_ms };
        (0..windows.batches.len())
            .for_each(|b| self.times.push_batch(times, windows.batch_rows(b)));
        self.count.extend(windows.count.iter().map(|c| i32::try_from(*c).unwrap_or(i32::MAX)));
        let bare = |h: &FloatHistogram| FloatHistogram {
            positive_buckets: Vec::new(),
            negative_buckets: Vec::new(),
            ..h.clone()
        };
        self.counter.extend(windows.counter.iter().map(bare));
        self.sum.extend(windows.sum.iter().map(bare));
    }

    pub(crate) fn into_batch(self) -> Result<RecordBatch, ArrowError> {
        let arrays: Vec<ArrayRef> = vec![
            Arc::new(Int32Array::from(self.series)),
            Arc::new(Int32Array::from(self.window)),
            times(self.times.t),
            self.times.first_t.into_times(),
            self.times.last_t.into_times(),
            Arc::new(BooleanArray::from(self.times.batch_start)),
            self.times.last_raw_t.into_times(),
            Arc::new(Int32Array::from(self.count)),
            Arc::new(histogram_array(&self.counter, super::schema::histogram_fields(COUNTER))?),
            Arc::new(histogram_array(&self.sum, super::schema::histogram_fields(SUM))?),
        ];
        RecordBatch::try_new(super::schema::histograms(), arrays)
    }
}

fn histogram_array(all: &[FloatHistogram], fields: Fields) -> Result<StructArray, ArrowError> {
    let integers = |value: fn(&FloatHistogram) -> i32| -> ArrayRef {
        Arc::new(Int32Array::from_iter_values(all.iter().map(value)))
    };
    let floats = |value: fn(&FloatHistogram) -> f64| -> ArrayRef {
        Arc::new(Float64Array::from_iter_values(all.iter().map(value)))
    };
    let counts: Vec<Option<i64>> = all.iter().map(|h| whole(h.count)).collect();
    let other: Float64Array =
        all.iter().zip(&counts).map(|(h, whole)| whole.is_none().then_some(h.count)).collect();
    let item = |i: usize| fields[i].data_type().clone();
    let arrays = vec![
        integers(|h| h.schema),
        integers(|h| hint_number(h.hint)),
        floats(|h| h.zero_threshold),
        floats(|h| h.zero_count),
        Arc::new(other),
        Arc::new(Int64Array::from(counts)),
        floats(|h| h.sum),
        span_lists(all, &item(7), |h| &h.positive_spans)?,
        span_lists(all, &item(8), |h| &h.negative_spans)?,
        float_lists(all, &item(9), |h| &h.custom_values)?,
    ];
    StructArray::try_new(fields, arrays, None)
}

fn float_lists(
    all: &[FloatHistogram],
    list: &DataType,
    value: fn(&FloatHistogram) -> &Vec<f64>,
) -> Result<ArrayRef, ArrowError> {
    let DataType::List(item) = list else { return Err(wrong_type("of bounds")) };
    let offsets = OffsetBuffer::from_lengths(all.iter().map(|h| value(h).len()));
    let items = Float64Array::from_iter_values(all.iter().flat_map(|h| value(h).iter().copied()));
    Ok(Arc::new(ListArray::try_new(Arc::clone(item), offsets, Arc::new(items), None)?))
}

fn span_lists(
    all: &[FloatHistogram],
    list: &DataType,
    value: fn(&FloatHistogram) -> &Vec<BucketSpan>,
) -> Result<ArrayRef, ArrowError> {
    let DataType::List(item) = list else { return Err(wrong_type("of spans")) };
    let DataType::Struct(fields) = item.data_type() else { return Err(wrong_type("of spans")) };
    let offsets = OffsetBuffer::from_lengths(all.iter().map(|h| value(h).len()));
    let spans = || all.iter().flat_map(|h| value(h).iter());
    let length = |s: &BucketSpan| i32::try_from(s.length).unwrap_or(i32::MAX);
    let arrays: Vec<ArrayRef> = vec![
        Arc::new(Int32Array::from_iter_values(spans().map(|s| s.offset))),
        Arc::new(Int32Array::from_iter_values(spans().map(length))),
    ];
    let items = StructArray::try_new(fields.clone(), arrays, None)?;
    Ok(Arc::new(ListArray::try_new(Arc::clone(item), offsets, Arc::new(items), None)?))
}

/// Rows of the buckets file that wait to be encoded.
#[derive(Default)]
pub(crate) struct BucketRows {
    series: Vec<i32>,
    negative: Vec<bool>,
    index: Vec<i32>,
    window: Vec<i32>,
    counter: Nullable<f64>,
    counter_m: Nullable<i64>,
    sum: Nullable<f64>,
    sum_r: Nullable<i64>,
}

/// Which bucket, in the order of rows.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct BucketKey {
    negative: bool,
    index: i32,
}

/// A bucket in one window.
#[derive(Clone, Copy, Default)]
struct BucketCell {
    window: i32,
    samples: i32,
    counter: Option<f64>,
    sum: Option<f64>,
}

/// A histogram of which spans and buckets do not agree.
pub(crate) struct BrokenSpans;

impl BucketRows {
    pub(crate) fn len(&self) -> usize {
        self.series.len()
    }

    /// Adds the buckets of a series' windows; returns how many rows they take.
    pub(crate) fn push(
        &mut self,
        series: i32,
        windows: &HistogramWindows,
    ) -> Result<usize, BrokenSpans> {
        let mut cells: BTreeMap<BucketKey, Vec<BucketCell>> = BTreeMap::new();
        for (window, count) in windows.count.iter().enumerate() {
            let samples = i32::try_from(*count).unwrap_or(i32::MAX);
            let new = BucketCell { window: window as i32, samples, ..BucketCell::default() };
            let mut cell = |key: BucketKey| {
                let run = cells.entry(key).or_default();
                if run.last().is_none_or(|last| last.window != new.window) {
                    run.push(new);
                }
                run.len() - 1
            };
            let mut place =
                |histogram: &FloatHistogram| -> Result<Vec<(BucketKey, usize)>, BrokenSpans> {
                    Ok(keys(histogram)?.into_iter().map(|key| (key, cell(key))).collect())
                };
            let (counter, sum) = (&windows.counter[window], &windows.sum[window]);
            let (counter_at, sum_at) = (place(counter)?, place(sum)?);
            for ((key, at), value) in counter_at.into_iter().zip(values(counter)) {
                if let Some(run) = cells.get_mut(&key) {
                    run[at].counter = Some(value);
                }
            }
            for ((key, at), value) in sum_at.into_iter().zip(values(sum)) {
                if let Some(run) = cells.get_mut(&key) {
                    run[at].sum = Some(value);
                }
            }
        }
        let before = self.len();
        for (key, run) in cells {
            run.iter().for_each(|cell| self.push_cell(series, key, cell));
        }
        Ok(self.len() - before)
    }

    fn push_cell(&mut self, series: i32, key: BucketKey, cell: &BucketCell) {
        self.series.push(series);
        self.negative.push(key.negative);
        self.index.push(key.index);
        self.window.push(cell.window);
        let counter = cell.counter.and_then(whole);
        let all = counter.and_then(|counter| counter.checked_mul(i64::from(cell.samples)));
        let rest = all.zip(cell.sum.and_then(whole)).and_then(|(all, sum)| all.checked_sub(sum));
        self.counter_m.push(counter);
        self.counter.push(cell.counter.filter(|_| counter.is_none()));
        self.sum_r.push(rest);
        self.sum.push(cell.sum.filter(|_| rest.is_none()));
    }

    pub(crate) fn into_batch(self) -> Result<RecordBatch, ArrowError> {
        let arrays: Vec<ArrayRef> = vec![
            Arc::new(Int32Array::from(self.series)),
            Arc::new(BooleanArray::from(self.negative)),
            Arc::new(Int32Array::from(self.index)),
            Arc::new(Int32Array::from(self.window)),
            self.counter.into_array(),
            self.counter_m.into_array(),
            self.sum.into_array(),
            self.sum_r.into_array(),
        ];
        RecordBatch::try_new(super::schema::buckets(), arrays)
    }
}

/// The buckets of a histogram in order of their values.
fn keys(histogram: &FloatHistogram) -> Result<Vec<BucketKey>, BrokenSpans> {
    let mut keys = Vec::new();
    let sides = [
        (true, &histogram.negative_spans, histogram.negative_buckets.len()),
        (false, &histogram.positive_spans, histogram.positive_buckets.len()),
    ];
    for (negative, spans, buckets) in sides {
        let (mut next, mut found) = (0i64, 0usize);
        for (i, span) in spans.iter().enumerate() {
            if i > 0 && span.offset < 0 {
                return Err(BrokenSpans);
            }
            next += i64::from(span.offset);
            found = found.saturating_add(span.length as usize);
            if found > buckets {
                return Err(BrokenSpans);
            }
            for _ in 0..span.length {
                let index = i32::try_from(next).map_err(|_| BrokenSpans)?;
                keys.push(BucketKey { negative, index });
                next += 1;
            }
        }
        if found != buckets {
            return Err(BrokenSpans);
        }
    }
    Ok(keys)
}

/// The values of the buckets, in the order of [`keys`].
fn values(histogram: &FloatHistogram) -> impl Iterator<Item = f64> + '_ {
    histogram.negative_buckets.iter().chain(&histogram.positive_buckets).copied()
}

/// Rows of the histograms file and of the buckets file that hold one series.
pub(crate) struct HistogramPlace {
    pub(crate) windows: Range<usize>,
    pub(crate) buckets: Range<usize>,
}

/// What was read of the two files.
pub(crate) struct HistogramBatches<'a> {
    pub(crate) windows: &'a RecordBatch,
    pub(crate) buckets: Option<&'a RecordBatch>,
}

impl HistogramBatches<'_> {
    /// The windows of a series.
    pub(crate) fn read(&self, place: &HistogramPlace) -> Result<HistogramWindows, ArrowError> {
        let rows = &place.windows;
        let columns = Columns(self.windows);
        let required = |name: &str| Columns::required(columns.times(name)?, name);
        let t = required(T)?;
        let (first_t, last_t) = (columns.times(FIRST_T)?, columns.times(LAST_T)?);
        let last_raw_t = columns.times(LAST_RAW_T)?;
        let starts = self.windows.column_by_name(BATCH_START).and_then(|c| c.as_boolean_opt());
        let starts = starts.ok_or_else(|| wrong_type(BATCH_START))?;
        let count = Columns::required(columns.small(COUNT)?, COUNT)?;
        let struct_of = |name: &str| {
            let column = self.windows.column_by_name(name).and_then(|c| c.as_struct_opt());
            column.ok_or_else(|| wrong_type(name))
        };
        let mut windows = HistogramWindows {
            t: t.values()[rows.clone()].to_vec(),
            first_t: times_of(first_t, rows),
            last_t: times_of(last_t, rows),
            count: count.values()[rows.clone()].iter().map(|c| c.unsigned_abs()).collect(),
            sum: read_histograms(struct_of(SUM)?, rows)?,
            counter: read_histograms(struct_of(COUNTER)?, rows)?,
            batches: rows.clone().filter(|r| starts.value(*r)).map(|r| r - rows.start).collect(),
        };
        for b in 0..windows.batches.len() {
            let batch = windows.batch_rows(b);
            let start = rows.start + batch.start;
            cut_last_window(&mut windows.t[batch], last_raw_t, start);
        }
        if let Some(buckets) = self.buckets {
            fill_buckets(&mut windows, buckets, &place.buckets)?;
        }
        let whole = |h: &FloatHistogram| keys(h).is_ok();
        if windows.counter.iter().chain(&windows.sum).all(whole) {
            Ok(windows)
        } else {
            Err(ArrowError::ParseError("spans and buckets of a histogram do not agree".into()))
        }
    }
}

fn fill_buckets(
    windows: &mut HistogramWindows,
    batch: &RecordBatch,
    rows: &Range<usize>,
) -> Result<(), ArrowError> {
    let columns = Columns(batch);
    let negative = batch.column_by_name(NEGATIVE).and_then(|c| c.as_boolean_opt());
    let negative = negative.ok_or_else(|| wrong_type(NEGATIVE))?;
    let window = Columns::required(columns.small(WINDOW)?, WINDOW)?;
    let (counter, counter_m) = (columns.doubles(COUNTER)?, columns.integers(COUNTER_M)?);
    let (sum, sum_r) = (columns.doubles(SUM)?, columns.integers(SUM_R)?);
    for row in rows.clone() {
        let at = usize::try_from(window.value(row)).ok().filter(|at| *at < windows.len());
        let at = at.ok_or_else(|| ArrowError::ParseError("a bucket of no window".into()))?;
        let count = i64::from(windows.count[at]);
        let (m, rest) = (value_of(counter_m, row), value_of(sum_r, row));
        let counter = m.map(|m| m as f64).or_else(|| value_of(counter, row));
        let by_count = |rest: i64| m.unwrap_or(0).wrapping_mul(count).wrapping_sub(rest) as f64;
        let sum = rest.map(by_count).or_else(|| value_of(sum, row));
        let side = |histogram: &mut FloatHistogram, value: Option<f64>| {
            let buckets = match negative.value(row) {
                true => &mut histogram.negative_buckets,
                false => &mut histogram.positive_buckets,
            };
            buckets.extend(value);
        };
        side(&mut windows.counter[at], counter);
        side(&mut windows.sum[at], sum);
    }
    Ok(())
}

/// The value of a row that is not NULL.
fn value_of<T: ArrowPrimitiveType>(
    array: Option<&PrimitiveArray<T>>,
    row: usize,
) -> Option<T::Native> {
    array.filter(|array| array.is_valid(row)).map(|array| array.value(row))
}

fn read_histograms(
    all: &StructArray,
    rows: &Range<usize>,
) -> Result<Vec<FloatHistogram>, ArrowError> {
    let column = |name: &str| all.column_by_name(name).ok_or_else(|| wrong_type(name));
    let integers =
        |name: &str| column(name)?.as_primitive_opt::<Int32Type>().ok_or_else(|| wrong_type(name));
    let floats = |name: &str| {
        column(name)?.as_primitive_opt::<Float64Type>().ok_or_else(|| wrong_type(name))
    };
    let list = |name: &str| column(name)?.as_list_opt::<i32>().ok_or_else(|| wrong_type(name));
    let (schema, hint) = (integers("schema")?, integers("hint")?);
    let (zero_threshold, zero_count) = (floats("zero_threshold")?, floats("zero_count")?);
    let (count, sum) = (floats(COUNT)?, floats(SUM)?);
    let count_m = column(COUNT_M)?.as_primitive_opt::<Int64Type>();
    let count_m = count_m.ok_or_else(|| wrong_type(COUNT_M))?;
    let (positive, negative) = (list("positive_spans")?, list("negative_spans")?);
    let bounds = list("custom_values")?;
    let read = |row: usize| -> Result<FloatHistogram, ArrowError> {
        Ok(FloatHistogram {
            schema: schema.value(row),
            hint: hint_of(hint.value(row)),
            zero_threshold: zero_threshold.value(row),
            zero_count: zero_count.value(row),
            count: match count_m.is_valid(row) {
                true => count_m.value(row) as f64,
                false => count.value(row),
            },
            sum: sum.value(row),
            positive_spans: list_spans(positive, row)?,
            negative_spans: list_spans(negative, row)?,
            positive_buckets: Vec::new(),
            negative_buckets: Vec::new(),
            custom_values: list_floats(bounds, row)?,
        })
    };
    rows.clone().map(read).collect()
}

fn list_spans(list: &ListArray, row: usize) -> Result<Vec<BucketSpan>, ArrowError> {
    let items = list.value(row);
    let spans = items.as_struct_opt().ok_or_else(|| wrong_type("of spans"))?;
    let part = |name: &str| {
        let column = spans.column_by_name(name).and_then(|c| c.as_primitive_opt::<Int32Type>());
        column.ok_or_else(|| wrong_type("of spans"))
    };
    let (offsets, lengths) = (part("offset")?, part("length")?);
    let span = |(offset, length): (&i32, &i32)| {
        let length = u32::try_from(*length).map_err(|_| wrong_type("of spans"))?;
        Ok(BucketSpan { offset: *offset, length })
    };
    offsets.values().iter().zip(lengths.values()).map(span).collect()
}
