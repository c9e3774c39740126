//! Arrow columns while they are gathered, and their parts when they are read.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::cast::AsArray;
use arrow::array::{
    Array, ArrayRef, Float64Array, Int32Array, Int64Array, RecordBatch, TimestampMillisecondArray,
};
use arrow::buffer::{NullBuffer, ScalarBuffer};
use arrow::datatypes::{Float64Type, Int32Type, Int64Type, TimestampMillisecondType};
use arrow::error::ArrowError;

use super::decimal::{Scale, with_ulps};
use crate::labels::wrong_type;

/// A column of values, some of which are NULL.
#[derive(Debug, Default)]
pub(super) struct Nullable<T> {
    values: Vec<T>,
    present: Vec<bool>,
}

impl<T: Default> Nullable<T> {
    pub(super) fn push(&mut self, value: Option<T>) {
        self.present.push(value.is_some());
        self.values.push(value.unwrap_or_default());
    }

    fn into_parts(self) -> (Vec<T>, Option<NullBuffer>) {
        (self.values, Some(NullBuffer::from(self.present)))
    }
}

impl Nullable<f64> {
    pub(super) fn into_array(self) -> ArrayRef {
        let (values, nulls) = self.into_parts();
        Arc::new(Float64Array::new(ScalarBuffer::from(values), nulls))
    }
}

impl Nullable<i64> {
    pub(super) fn into_array(self) -> ArrayRef {
        let (values, nulls) = self.into_parts();
        Arc::new(Int64Array::new(ScalarBuffer::from(values), nulls))
    }

    pub(super) fn into_times(self) -> ArrayRef {
        let (values, nulls) = self.into_parts();
        Arc::new(
            TimestampMillisecondArray::new(ScalarBuffer::from(values), nulls).with_timezone("UTC"),
        )
    }
}

impl Nullable<i32> {
    pub(super) fn into_array(self) -> ArrayRef {
        let (values, nulls) = self.into_parts();
        Arc::new(Int32Array::new(ScalarBuffer::from(values), nulls))
    }
}

pub(super) fn times(values: Vec<i64>) -> ArrayRef {
    Arc::new(TimestampMillisecondArray::from(values).with_timezone("UTC"))
}

/// A number as it is stored: a float, an integer of the series' scale with what rounding errors
/// added, or nothing.
#[derive(Debug, Default)]
pub(super) struct Number {
    pub(super) double: Nullable<f64>,
    pub(super) mantissa: Nullable<i64>,
}

impl Number {
    /// Adds a value, as an integer where that gives its bits; returns the integer.
    pub(super) fn push(&mut self, value: f64, scale: Option<Scale>) -> Option<i64> {
        let mantissa = scale.and_then(|scale| scale.mantissa(value));
        self.mantissa.push(mantissa);
        self.double.push(mantissa.is_none().then_some(value));
        mantissa
    }
}

/// Columns of a batch that was read.
#[derive(Clone, Copy)]
pub(super) struct Columns<'a>(pub(super) &'a RecordBatch);

impl<'a> Columns<'a> {
    pub(super) fn doubles(self, name: &str) -> Result<Option<&'a Float64Array>, ArrowError> {
        let column = self.0.column_by_name(name);
        column
            .map(|c| c.as_primitive_opt::<Float64Type>().ok_or_else(|| wrong_type(name)))
            .transpose()
    }

    pub(super) fn integers(self, name: &str) -> Result<Option<&'a Int64Array>, ArrowError> {
        let column = self.0.column_by_name(name);
        column
            .map(|c| c.as_primitive_opt::<Int64Type>().ok_or_else(|| wrong_type(name)))
            .transpose()
    }

    pub(super) fn small(self, name: &str) -> Result<Option<&'a Int32Array>, ArrowError> {
        let column = self.0.column_by_name(name);
        column
            .map(|c| c.as_primitive_opt::<Int32Type>().ok_or_else(|| wrong_type(name)))
            .transpose()
    }

    pub(super) fn times(
        self,
        name: &str,
    ) -> Result<Option<&'a TimestampMillisecondArray>, ArrowError> {
        let column = self.0.column_by_name(name);
        let typed = |c: &'a ArrayRef| {
            c.as_primitive_opt::<TimestampMillisecondType>().ok_or_else(|| wrong_type(name))
        };
        column.map(typed).transpose()
    }

    pub(super) fn required<T>(found: Option<T>, name: &str) -> Result<T, ArrowError> {
        found.ok_or_else(|| wrong_type(name))
    }
}

/// How many of the rows are not NULL; of a column that was left out, all are.
pub(super) fn present<A: Array>(array: Option<&A>, rows: &Range<usize>) -> usize {
    let Some(array) = array else { return 0 };
    match array.nulls() {
        Some(nulls) => rows.len() - nulls.slice(rows.start, rows.len()).null_count(),
        None => rows.len(),
    }
}

/// A value column and its integers, each `None` where all of it is NULL.
#[derive(Clone, Copy)]
pub(super) struct NumberColumns<'a> {
    pub(super) double: Option<&'a Float64Array>,
    pub(super) mantissa: Option<&'a Int64Array>,
    pub(super) ulps: Option<&'a Int32Array>,
}

/// Names of the columns of a number.
#[derive(Clone, Copy)]
pub(super) struct NumberNames {
    pub(super) double: &'static str,
    pub(super) mantissa: &'static str,
    pub(super) ulps: Option<&'static str>,
}

impl<'a> NumberColumns<'a> {
    pub(super) fn find(
        columns: Columns<'a>,
        names: NumberNames,
    ) -> Result<NumberColumns<'a>, ArrowError> {
        Ok(NumberColumns {
            double: columns.doubles(names.double)?,
            mantissa: columns.integers(names.mantissa)?,
            ulps: names.ulps.map(|name| columns.small(name)).transpose()?.flatten(),
        })
    }

    /// Writes the values of these rows, which are one series'; rows that have none are left as
    /// `out` has them.
    pub(super) fn overwrite(&self, rows: &Range<usize>, scale: Option<Scale>, out: &mut [f64]) {
        if let Some(doubles) = self.double {
            each(doubles, rows, out, |array, row| array.value(row));
        }
        if let Some((mantissas, scale)) = self.mantissa.zip(scale) {
            each(mantissas, rows, out, |array, row| scale.value(array.value(row)));
        }
    }

    /// Adds what rounding errors added to the values of these rows.
    pub(super) fn add_ulps(&self, rows: &Range<usize>, out: &mut [f64]) {
        let Some(ulps) = self.ulps.filter(|ulps| present(Some(*ulps), rows) > 0) else { return };
        for (row, slot) in rows.clone().zip(out.iter_mut()).filter(|(row, _)| ulps.is_valid(*row)) {
            *slot = with_ulps(*slot, ulps.value(row));
        }
    }
}

/// Writes the value of each row that is not NULL.
fn each<A: Array>(
    array: &A,
    rows: &Range<usize>,
    out: &mut [f64],
    value: impl Fn(&A, usize) -> f64,
) {
    let slots = rows.clone().zip(out.iter_mut());
    match present(Some(array), rows) {
        0 => {}
        all if all == rows.len() => slots.for_each(|(row, slot)| *slot = value(array, row)),
        _ => slots
            .filter(|(row, _)| array.is_valid(*row))
            .for_each(|(row, slot)| *slot = value(array, row)),
    }
}
