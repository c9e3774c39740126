//! Float windows of format 2 as Arrow arrays and back.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::cast::AsArray;
use arrow::array::{
    Array, ArrayRef, BooleanArray, Float64Array, Int32Array, Int64Array, RecordBatch,
    TimestampMillisecondArray,
};
use arrow::error::ArrowError;
use merge::{Batch, Windows};
use tsdb::chunk::Aggregate;

use super::columns::{Columns, Nullable, Number, NumberColumns, NumberNames, present, times};
use super::decimal::{NearDecimal, Scale};
use super::schema::{
    COUNTER_M, COUNTER_ULPS, FIRST_RAW_T, FIRST_T, LAST_RAW_T, LAST_T, MAX_M, MIN_M, SUM_M, SUM_R,
    SUM_ULPS,
};
use super::times::{SeriesTimes, TimeRows, cut_last_window, time_of, times_of};
use crate::labels::wrong_type;
use crate::schema::{BATCH_START, COUNT, COUNTER, FIRST_V, LAST_V, MAX, MIN, SUM, T};

/// Bits per window that leaving out what is known of a sum must save, because it takes more columns
/// to read it.
const WORTHWHILE_BITS: u64 = 8;

/// How the numbers of a series are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct NumberForm {
    /// `None` where all numbers are floats.
    pub(crate) scale: Option<Scale>,
    /// Sums are stored as `sum_r`, what they are apart from the middle between minimum and maximum.
    pub(crate) sum_by_range: bool,
}

/// Rows of the samples file that wait to be encoded.
#[derive(Default)]
pub(crate) struct FloatRows {
    series: Vec<i32>,
    count: Vec<i32>,
    times: TimeRows,
    first_raw_t: Nullable<i64>,
    first_v: Nullable<f64>,
    last_v: Nullable<f64>,
    counter: Number,
    counter_ulps: Nullable<i32>,
    max: Number,
    min: Number,
    sum: Number,
    sum_r: Nullable<i64>,
    sum_ulps: Nullable<i32>,
}

impl FloatRows {
    pub(crate) fn len(&self) -> usize {
        self.series.len()
    }

    /// Adds the windows of a series, each `resolution_ms` long.
    pub(crate) fn push(
        &mut self,
        series: i32,
        windows: &Windows,
        resolution_ms: i64,
    ) -> NumberForm {
        self.series.resize(self.series.len() + windows.len(), series);
        self.count.extend(windows.count.iter().map(|c| i32::try_from(*c).unwrap_or(i32::MAX)));
        let Windows { t, first_t, last_t, .. } = windows;
        let times = SeriesTimes { t, first_t, last_t, resolution_ms };
        for b in 0..windows.batches.len() {
            self.times.push_batch(times, windows.batch_rows(b));
            self.push_borders(windows, b);
        }
        self.push_numbers(windows)
    }

    fn push_borders(&mut self, windows: &Windows, b: usize) {
        let (rows, batch) = (windows.batch_rows(b), windows.batches[b]);
        for row in rows.clone() {
            let starts = row == rows.start;
            self.first_raw_t.push(starts.then_some(batch.first_t));
            self.first_v.push(starts.then_some(batch.first_v));
            self.last_v.push(starts.then_some(batch.last_v));
        }
    }

    fn push_numbers(&mut self, windows: &Windows) -> NumberForm {
        let scale = Scale::of(&windows.max);
        for (row, counter) in windows.counter.iter().enumerate() {
            // where it equals the maximum, nothing is stored
            let other = Some(*counter).filter(|c| c.to_bits() != windows.max[row].to_bits());
            let near = other.and_then(|counter| scale?.near(counter));
            self.counter.double.push(other.filter(|_| near.is_none()));
            self.counter.mantissa.push(near.map(|near| near.mantissa));
            self.counter_ulps.push(ulps_of(near));
        }
        let first = self.len() - windows.len();
        let mut sums = Vec::with_capacity(windows.len());
        for (row, sum) in windows.sum.iter().enumerate() {
            let max = self.max.push(windows.max[row], scale);
            let min = self.min.push(windows.min[row], scale);
            let near = scale.and_then(|scale| scale.near(*sum));
            let range = SumRange { count: self.count[first + row], min, max };
            sums.push(StoredSum { near, rest: near.and_then(|near| range.rest(near.mantissa)) });
        }
        let sum_by_range = is_shorter_by_range(&sums);
        for (stored, value) in sums.iter().zip(&windows.sum) {
            let (near, rest) = (stored.near, stored.rest.filter(|_| sum_by_range));
            self.sum.double.push(near.is_none().then_some(*value));
            self.sum.mantissa.push(near.filter(|_| rest.is_none()).map(|near| near.mantissa));
            self.sum_r.push(rest);
            self.sum_ulps.push(ulps_of(near));
        }
        NumberForm { scale, sum_by_range }
    }

    pub(crate) fn into_batch(self) -> Result<RecordBatch, ArrowError> {
        let arrays: Vec<ArrayRef> = vec![
            Arc::new(Int32Array::from(self.series)),
            Arc::new(Int32Array::from(self.count)),
            times(self.times.t),
            Arc::new(BooleanArray::from(self.times.batch_start)),
            self.times.last_raw_t.into_times(),
            self.first_raw_t.into_times(),
            self.first_v.into_array(),
            self.last_v.into_array(),
            self.max.double.into_array(),
            self.counter.double.into_array(),
            self.counter_ulps.into_array(),
            self.counter.mantissa.into_array(),
            self.max.mantissa.into_array(),
            self.times.last_t.into_times(),
            self.times.first_t.into_times(),
            self.min.double.into_array(),
            self.min.mantissa.into_array(),
            self.sum_r.into_array(),
            self.sum.double.into_array(),
            self.sum_ulps.into_array(),
            self.sum.mantissa.into_array(),
        ];
        RecordBatch::try_new(super::schema::samples(), arrays)
    }
}

fn ulps_of(near: Option<NearDecimal>) -> Option<i32> {
    near.map(|near| near.ulps).filter(|ulps| *ulps != 0)
}

/// A sum as an integer, and as what it is apart from the middle of its window.
struct StoredSum {
    near: Option<NearDecimal>,
    rest: Option<i64>,
}

/// What else is known of the samples of a window.
struct SumRange {
    count: i32,
    min: Option<i64>,
    max: Option<i64>,
}

impl SumRange {
    /// `2 * sum - count * (min + max)`.
    fn rest(&self, sum: i64) -> Option<i64> {
        let middle = self.min?.checked_add(self.max?)?.checked_mul(i64::from(self.count))?;
        sum.checked_mul(2)?.checked_sub(middle)
    }
}

/// Whether sums, or the differences from one to the next, are shorter as what they are apart from
/// the middle of their windows.
fn is_shorter_by_range(sums: &[StoredSum]) -> bool {
    let both = |stored: &StoredSum| Some((stored.near?.mantissa, stored.rest?));
    let (mut plain, mut by_range) = (SizeEstimate::default(), SizeEstimate::default());
    for (sum, rest) in sums.iter().filter_map(both) {
        plain.push(sum);
        by_range.push(rest);
    }
    plain.count > 0 && plain.bits() >= by_range.bits() + WORTHWHILE_BITS * plain.count
}

/// About how long integers become, whatever encoding suits them.
#[derive(Default)]
struct SizeEstimate {
    count: u64,
    of_values: u64,
    of_differences: u64,
    last: i64,
}

impl SizeEstimate {
    fn push(&mut self, value: i64) {
        let bits = |distance: u64| u64::from(u64::BITS - distance.leading_zeros());
        self.of_values += bits(value.unsigned_abs());
        self.of_differences += bits(value.abs_diff(self.last));
        self.last = value;
        self.count += 1;
    }

    fn bits(&self) -> u64 {
        self.of_values.min(self.of_differences)
    }
}

/// What is wanted of the windows of some series.
#[derive(Clone, Copy)]
pub(crate) struct WantedFloats<'a> {
    pub(crate) aggregates: &'a [Aggregate],
    /// The times of first and last samples.
    pub(crate) times: bool,
    /// Whether sums of some of the series are stored so.
    pub(crate) sums_by_range: bool,
}

impl WantedFloats<'_> {
    /// The columns of the samples file that hold it.
    pub(crate) fn columns(self) -> Vec<&'static str> {
        let mut columns = vec![T, BATCH_START, LAST_RAW_T];
        if self.times {
            columns.extend([FIRST_T, LAST_T]);
        }
        for aggregate in self.aggregates {
            columns.extend_from_slice(match aggregate {
                Aggregate::Count => &[COUNT],
                Aggregate::Sum if self.sums_by_range => {
                    &[SUM, SUM_M, SUM_ULPS, SUM_R, COUNT, MIN, MIN_M, MAX, MAX_M]
                }
                Aggregate::Sum => &[SUM, SUM_M, SUM_ULPS],
                Aggregate::Min => &[MIN, MIN_M],
                Aggregate::Max => &[MAX, MAX_M],
                // where the counter equals the maximum, it is stored there
                Aggregate::Counter => {
                    &[FIRST_RAW_T, FIRST_V, LAST_V, COUNTER, COUNTER_M, COUNTER_ULPS, MAX, MAX_M]
                }
            });
        }
        columns
    }
}

/// Columns of a batch of the samples file, as far as they are wanted. What is `None` beside that is
/// NULL in all rows.
pub(crate) struct FloatColumns<'a> {
    t: &'a [i64],
    /// Whether the times of samples are wanted.
    times: bool,
    first_t: Option<&'a TimestampMillisecondArray>,
    last_t: Option<&'a TimestampMillisecondArray>,
    batch_start: &'a BooleanArray,
    last_raw_t: Option<&'a TimestampMillisecondArray>,
    borders: Option<BatchBorders<'a>>,
    count: Option<&'a Int32Array>,
    counter: Option<NumberColumns<'a>>,
    max: Option<NumberColumns<'a>>,
    min: Option<NumberColumns<'a>>,
    sum: Option<NumberColumns<'a>>,
    sum_r: Option<&'a Int64Array>,
}

/// The raw samples at the borders of batches.
struct BatchBorders<'a> {
    first_raw_t: Option<&'a TimestampMillisecondArray>,
    first_v: &'a Float64Array,
    last_v: &'a Float64Array,
}

const COUNTER_NAMES: NumberNames =
    NumberNames { double: COUNTER, mantissa: COUNTER_M, ulps: Some(COUNTER_ULPS) };
const MAX_NAMES: NumberNames = NumberNames { double: MAX, mantissa: MAX_M, ulps: None };
const MIN_NAMES: NumberNames = NumberNames { double: MIN, mantissa: MIN_M, ulps: None };
const SUM_NAMES: NumberNames = NumberNames { double: SUM, mantissa: SUM_M, ulps: Some(SUM_ULPS) };

impl<'a> FloatColumns<'a> {
    pub(crate) fn new(
        batch: &'a RecordBatch,
        wanted: WantedFloats<'_>,
    ) -> Result<FloatColumns<'a>, ArrowError> {
        let columns = Columns(batch);
        let names = wanted.columns();
        let find = |of: NumberNames| -> Result<Option<NumberColumns<'a>>, ArrowError> {
            let is_wanted = names.contains(&of.mantissa);
            is_wanted.then(|| NumberColumns::find(columns, of)).transpose()
        };
        let starts = batch.column_by_name(BATCH_START).and_then(|c| c.as_boolean_opt());
        let borders = match names.contains(&FIRST_V) {
            true => Some(BatchBorders {
                first_raw_t: columns.times(FIRST_RAW_T)?,
                first_v: Columns::required(columns.doubles(FIRST_V)?, FIRST_V)?,
                last_v: Columns::required(columns.doubles(LAST_V)?, LAST_V)?,
            }),
            false => None,
        };
        let count = match names.contains(&COUNT) {
            true => Some(Columns::required(columns.small(COUNT)?, COUNT)?),
            false => None,
        };
        Ok(FloatColumns {
            t: Columns::required(columns.times(T)?, T)?.values(),
            times: wanted.times,
            first_t: columns.times(FIRST_T)?,
            last_t: columns.times(LAST_T)?,
            batch_start: starts.ok_or_else(|| wrong_type(BATCH_START))?,
            last_raw_t: columns.times(LAST_RAW_T)?,
            borders,
            count,
            counter: find(COUNTER_NAMES)?,
            max: find(MAX_NAMES)?,
            min: find(MIN_NAMES)?,
            sum: find(SUM_NAMES)?,
            sum_r: columns.integers(SUM_R)?,
        })
    }

    /// The windows of these rows, which are one series'. Columns that were not read are left empty.
    pub(crate) fn windows(&self, rows: &Range<usize>, form: NumberForm) -> Windows {
        let numbers = |columns: Option<NumberColumns<'_>>| {
            let Some(columns) = columns else { return Vec::new() };
            let mut out = vec![0.0; rows.len()];
            columns.overwrite(rows, form.scale, &mut out);
            out
        };
        let times = |column| if self.times { times_of(column, rows) } else { Vec::new() };
        let max = numbers(self.max);
        let counter = match self.counter {
            Some(columns) => {
                let mut out = max.clone();
                columns.overwrite(rows, form.scale, &mut out);
                columns.add_ulps(rows, &mut out);
                out
            }
            None => Vec::new(),
        };
        let count = self.count.map_or_else(Vec::new, |c| {
            c.values()[rows.clone()].iter().map(|c| c.unsigned_abs()).collect()
        });
        let mut windows = Windows {
            t: self.t[rows.clone()].to_vec(),
            first_t: times(self.first_t),
            last_t: times(self.last_t),
            count,
            sum: self.sums(rows, form),
            min: numbers(self.min),
            max,
            counter,
            batches: self.batches(rows),
        };
        for b in 0..windows.batches.len() {
            let batch = windows.batch_rows(b);
            let start = rows.start + batch.start;
            cut_last_window(&mut windows.t[batch], self.last_raw_t, start);
        }
        windows
    }

    fn batches(&self, rows: &Range<usize>) -> Vec<Batch> {
        let batch = |row: usize| {
            let (first_t, first_v, last_v) = match &self.borders {
                Some(borders) => (
                    time_of(borders.first_raw_t, row),
                    borders.first_v.value(row),
                    borders.last_v.value(row),
                ),
                None => (None, model::STALE_NAN, model::STALE_NAN),
            };
            let first_t = first_t.unwrap_or(self.t[row]);
            Batch { start: row - rows.start, first_t, first_v, last_v }
        };
        let starts = self.batch_start.values().slice(rows.start, rows.len());
        starts.set_indices().map(|at| batch(rows.start + at)).collect()
    }

    fn sums(&self, rows: &Range<usize>, form: NumberForm) -> Vec<f64> {
        let Some(columns) = self.sum else { return Vec::new() };
        let mut out = vec![0.0; rows.len()];
        let mantissa = |columns: Option<NumberColumns<'a>>| columns?.mantissa;
        let rests = self.sum_r.filter(|rests| present(Some(*rests), rows) > 0);
        if let (Some(rests), Some(scale)) = (rests, form.scale)
            && let (Some(min), Some(max)) = (mantissa(self.min), mantissa(self.max))
            && let Some(count) = self.count
        {
            let slots = rows.clone().zip(out.iter_mut());
            for (row, slot) in slots.filter(|(row, _)| rests.is_valid(*row)) {
                let middle = min.value(row).wrapping_add(max.value(row));
                let middle = middle.wrapping_mul(i64::from(count.value(row)));
                *slot = scale.value(rests.value(row).wrapping_add(middle) / 2);
            }
        }
        columns.overwrite(rows, form.scale, &mut out);
        columns.add_ulps(rows, &mut out);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A footer may say of a column that all of it is NULL, so that it is not read.
    #[test]
    fn windows_without_a_count_are_refused() {
        let batch = FloatRows::default().into_batch().unwrap();
        let wanted =
            WantedFloats { aggregates: &Aggregate::ALL, times: true, sums_by_range: false };
        assert!(FloatColumns::new(&batch, wanted).is_ok());
        let others = (0..batch.num_columns()).filter(|i| batch.schema().field(*i).name() != COUNT);
        let lacking = batch.project(&others.collect::<Vec<_>>()).unwrap();
        assert!(FloatColumns::new(&lacking, wanted).is_err());
    }
}
