//! The series-columnar batch: one row per series over all steps of its grid.
//!
//! As Arrow it is `series: UInt32, drop_name: Boolean, values: FixedSizeList<Float64, steps>`, where the validity of
//! the list's child says at which steps there is a value; NaN is data. `series` is an id in the query's label table.
//! Operators work on [`Rows`], whose bitmaps start every row at a word of their own.

use std::sync::Arc;

use datafusion::arrow::array::{AsArray, BooleanArray, FixedSizeListArray, Float64Array, RecordBatch, UInt32Array};
use datafusion::arrow::buffer::{BooleanBuffer, Buffer, NullBuffer, ScalarBuffer};
use datafusion::arrow::datatypes::{DataType, Field, Float64Type, Schema, SchemaRef, UInt32Type};
use datafusion::common::Result;

/// Values a batch holds at least before it is passed on, so that it stays in the cache.
const TARGET_VALUES: usize = 65_536;

/// Rows of series over the steps of one grid.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    pub(crate) steps: usize,
    pub(crate) series: Vec<u32>,
    pub(crate) drop_name: Vec<bool>,
    pub(crate) values: Vec<f64>,
    /// `words()` per row; bits from `steps` on are zero.
    pub(crate) present: Vec<u64>,
}

impl Rows {
    pub(crate) fn new(steps: usize) -> Rows {
        Rows { steps, ..Rows::default() }
    }

    pub(crate) fn len(&self) -> usize {
        self.series.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.series.is_empty()
    }

    pub(crate) fn words(&self) -> usize {
        self.steps.div_ceil(64)
    }

    /// Rows of a batch of the target size.
    pub(crate) fn target_rows(steps: usize) -> usize {
        (TARGET_VALUES / steps.max(1)).clamp(1, 8192)
    }

    pub(crate) fn values(&self, row: usize) -> &[f64] {
        &self.values[row * self.steps..(row + 1) * self.steps]
    }

    pub(crate) fn present(&self, row: usize) -> &[u64] {
        &self.present[row * self.words()..(row + 1) * self.words()]
    }

    /// Values and bitmap of a row, to change.
    pub(crate) fn row_mut(&mut self, row: usize) -> (&mut [f64], &mut [u64]) {
        let words = self.words();
        (&mut self.values[row * self.steps..(row + 1) * self.steps], &mut self.present[row * words..(row + 1) * words])
    }

    pub(crate) fn is_present(&self, row: usize, step: usize) -> bool {
        self.present(row)[step / 64] >> (step % 64) & 1 == 1
    }

    /// Appends a row without values.
    pub(crate) fn push_empty(&mut self, series: u32, drop_name: bool) {
        self.series.push(series);
        self.drop_name.push(drop_name);
        self.values.resize(self.values.len() + self.steps, 0.0);
        self.present.resize(self.present.len() + self.words(), 0);
    }

    /// Appends a copy of a row of `other`, which has the same steps.
    pub(crate) fn push_row(&mut self, other: &Rows, row: usize) {
        self.series.push(other.series[row]);
        self.drop_name.push(other.drop_name[row]);
        self.values.extend_from_slice(other.values(row));
        self.present.extend_from_slice(other.present(row));
    }

    /// Takes the last row away.
    pub(crate) fn pop(&mut self) {
        let rows = self.len().saturating_sub(1);
        self.series.truncate(rows);
        self.drop_name.truncate(rows);
        self.values.truncate(rows * self.steps);
        self.present.truncate(rows * self.words());
    }

    pub(crate) fn append(&mut self, mut other: Rows) {
        if self.is_empty() {
            *self = other;
            return;
        }
        self.series.append(&mut other.series);
        self.drop_name.append(&mut other.drop_name);
        self.values.append(&mut other.values);
        self.present.append(&mut other.present);
    }

    /// Points there are.
    pub(crate) fn points(&self) -> u64 {
        self.present.iter().map(|w| u64::from(w.count_ones())).sum()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.values.len() * 8 + self.present.len() * 8 + self.len() * 5
    }

    pub(crate) fn schema(steps: usize) -> SchemaRef {
        Arc::new(Schema::new(vec![
            Field::new("series", DataType::UInt32, false),
            Field::new("drop_name", DataType::Boolean, false),
            Field::new("values", DataType::FixedSizeList(value_field(), steps as i32), false),
        ]))
    }

    /// The Arrow form; values are moved, bitmaps packed.
    pub(crate) fn into_batch(self, schema: SchemaRef) -> Result<RecordBatch> {
        let cells = self.len() * self.steps;
        let packed = pack(&self.present, self.steps, self.len());
        let validity = NullBuffer::new(BooleanBuffer::new(Buffer::from_vec(packed), 0, cells));
        let values = Float64Array::try_new(ScalarBuffer::from(self.values), Some(validity))?;
        let list = FixedSizeListArray::try_new(value_field(), self.steps as i32, Arc::new(values), None)?;
        let series = UInt32Array::from(self.series);
        let drop_name = BooleanArray::from(self.drop_name);
        Ok(RecordBatch::try_new(schema, vec![Arc::new(series), Arc::new(drop_name), Arc::new(list)])?)
    }

    /// From the Arrow form; values are moved when nobody else holds them.
    pub(crate) fn from_batch(batch: RecordBatch) -> Rows {
        let series = batch.column(0).as_primitive::<UInt32Type>().values().to_vec();
        let drop_name: Vec<bool> = batch.column(1).as_boolean().values().iter().collect();
        let list = batch.column(2).as_fixed_size_list();
        let steps = list.value_length() as usize;
        let array = list.values().as_primitive::<Float64Type>().clone();
        drop(batch);
        let (_, values, validity) = array.into_parts();
        let present = match &validity {
            Some(validity) => unpack(validity.inner(), steps, series.len()),
            None => unpack(&BooleanBuffer::new_set(series.len() * steps), steps, series.len()),
        };
        let values = values.into_inner().into_vec::<f64>().unwrap_or_else(|b| b.typed_data::<f64>().to_vec());
        Rows { steps, series, drop_name, values, present }
    }
}

fn value_field() -> Arc<Field> {
    Arc::new(Field::new_list_field(DataType::Float64, true))
}

/// Bitmaps that start at words → one bitmap without gaps.
fn pack(present: &[u64], steps: usize, rows: usize) -> Vec<u64> {
    let words = steps.div_ceil(64);
    if steps.is_multiple_of(64) || rows <= 1 {
        return present[..rows * words].to_vec();
    }
    let mut packed = vec![0u64; (rows * steps).div_ceil(64) + 1];
    for row in 0..rows {
        for word in 0..words {
            let bits = present[row * words + word];
            let at = row * steps + word * 64;
            packed[at / 64] |= bits << (at % 64);
            if !at.is_multiple_of(64) {
                packed[at / 64 + 1] |= bits >> (64 - at % 64);
            }
        }
    }
    packed
}

/// The inverse of [`pack`].
fn unpack(bits: &BooleanBuffer, steps: usize, rows: usize) -> Vec<u64> {
    let words = steps.div_ceil(64);
    let mut present = vec![0u64; rows * words];
    let chunks = |row: usize| bits.slice(row * steps, steps);
    for row in 0..rows {
        let slice = chunks(row);
        for (to, from) in present[row * words..(row + 1) * words].iter_mut().zip(slice.bit_chunks().iter_padded()) {
            *to = from;
        }
    }
    present
}

/// Sets the bits of all steps.
pub(crate) fn fill_bits(present: &mut [u64], steps: usize) {
    for (word, bits) in present.iter_mut().enumerate() {
        let left = steps - word * 64;
        *bits = if left >= 64 { u64::MAX } else { (1 << left) - 1 };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn arrow_and_back(steps in 1usize..200, bits in prop::collection::vec(any::<u64>(), 0..12), seed in any::<u64>()) {
            let mut rows = Rows::new(steps);
            for (i, b) in bits.iter().enumerate() {
                rows.push_empty(i as u32, b % 2 == 0);
                let (values, present) = rows.row_mut(i);
                fill_bits(present, steps);
                for w in present.iter_mut() {
                    *w &= b.rotate_left(i as u32) ^ seed;
                }
                values.iter_mut().enumerate().for_each(|(k, v)| *v = (i * 1000 + k) as f64);
            }
            let (series, drop_name) = (rows.series.clone(), rows.drop_name.clone());
            let (values, present) = (rows.values.clone(), rows.present.clone());
            let back = Rows::from_batch(rows.into_batch(Rows::schema(steps)).unwrap());
            prop_assert_eq!(back.series, series);
            prop_assert_eq!(back.drop_name, drop_name);
            prop_assert_eq!(back.values, values);
            prop_assert_eq!(back.present, present);
        }
    }
}
