//! The series-columnar batch: one row per series over all steps of its grid.
//!
//! Operators work on [`Rows`], whose sets of steps start every row at a word of their own. As
//! Arrow, for other operators and for measuring, it is `series: UInt32, drop_name: Boolean, values:
//! FixedSizeList<Float64, steps>, histograms: UInt32`, where the validity of the list's child says
//! at which steps there is a sample; NaN is data. `series` is an id in the query's label table,
//! `histograms` one in its table of histograms, null for rows of floats, which nearly all rows are.

use std::sync::{Arc, LazyLock};

use arrow::array::{
    Array, AsArray, BooleanArray, FixedSizeListArray, Float64Array, RecordBatch, UInt32Array,
};
use arrow::buffer::{BooleanBuffer, Buffer, NullBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, Field, FieldRef, Float64Type, Schema, SchemaRef, UInt32Type};
use datafusion_common::Result;
use futures::stream::BoxStream;
use model::FloatHistogram;
use promql::kernels::native::{ComputedValue, Operand};
use promql::kernels::steps::{self, StepSet, StepSets, StepsView, WORD_STEPS};
use promql::kernels::{FloatColumn, MixedColumn};

use crate::histograms::{HistogramTable, Histograms, histogram_bytes};

/// The least number of values a batch holds before it is passed on, so that it stays in the cache.
pub(crate) const TARGET_VALUES: usize = 65_536;

pub(crate) type BatchStream = BoxStream<'static, Result<RecordBatch>>;
pub(crate) type RowStream = BoxStream<'static, Result<Rows>>;

/// Rows of series over the steps of one grid. A present step is a histogram where the row has one
/// for it, else a float.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    pub(crate) steps: usize,
    pub(crate) series: Vec<u32>,
    pub(crate) drop_name: Vec<bool>,
    pub(crate) values: Vec<f64>,
    /// The steps at which each row has a sample.
    pub(crate) present: StepSets,
    /// One entry per row; empty while no row has histograms.
    histograms: Vec<Option<Histograms>>,
}

impl Rows {
    pub(crate) fn new(steps: usize) -> Rows {
        Rows { steps, present: StepSets::new(steps), ..Rows::default() }
    }

    /// No rows, but room for this many.
    pub(crate) fn with_capacity(steps: usize, rows: usize) -> Rows {
        let mut empty = Rows::new(steps);
        empty.series.reserve_exact(rows);
        empty.drop_name.reserve_exact(rows);
        empty.values.reserve_exact(rows * steps);
        empty.present.reserve_exact(rows);
        empty
    }

    pub(crate) fn len(&self) -> usize {
        self.series.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.series.is_empty()
    }

    /// The bytes of a row of floats.
    pub(crate) fn row_bytes(steps: usize) -> usize {
        steps * size_of::<f64>() + steps.div_ceil(8)
    }

    /// Rows of a batch of the target size.
    pub(crate) fn target_rows(steps: usize) -> usize {
        (TARGET_VALUES / steps.max(1)).clamp(1, 8192)
    }

    pub(crate) fn values(&self, row: usize) -> &[f64] {
        &self.values[row * self.steps..(row + 1) * self.steps]
    }

    pub(crate) fn present(&self, row: usize) -> StepsView<'_> {
        self.present.get(row)
    }

    /// A row to change; for rows without histograms.
    pub(crate) fn row_mut(&mut self, row: usize) -> FloatColumn<'_> {
        let steps = row * self.steps..(row + 1) * self.steps;
        FloatColumn { values: &mut self.values[steps], present: self.present.get_mut(row) }
    }

    /// A row that may get histograms.
    pub(crate) fn mixed_mut(&mut self, row: usize) -> MixedColumn<'_> {
        let steps = self.steps;
        self.histograms.resize(self.series.len(), None);
        MixedColumn {
            values: &mut self.values[row * steps..(row + 1) * steps],
            present: self.present.get_mut(row),
            histograms: self.histograms[row].get_or_insert_with(|| vec![None; steps].into()),
        }
    }

    pub(crate) fn is_present(&self, row: usize, step: usize) -> bool {
        self.present(row).contains(step)
    }

    /// Whether any row may have histograms.
    pub(crate) fn has_histograms(&self) -> bool {
        self.histograms.iter().any(Option::is_some)
    }

    /// The histograms of a row that may have some; those at steps that are not present do not
    /// count.
    pub(crate) fn histograms(&self, row: usize) -> Option<&[Option<Arc<FloatHistogram>>]> {
        self.histograms.get(row)?.as_deref()
    }

    /// The histogram of a present step.
    pub(crate) fn histogram(&self, row: usize, step: usize) -> Option<&Arc<FloatHistogram>> {
        self.histograms(row)?[step].as_ref().filter(|_| self.is_present(row, step))
    }

    /// Calls `f` with every present step of a row that is a histogram.
    pub(crate) fn for_each_histogram<'a>(
        &'a self,
        row: usize,
        mut f: impl FnMut(usize, &'a Arc<FloatHistogram>),
    ) {
        let Some(histograms) = self.histograms(row) else { return };
        self.present(row).for_each(|step| {
            if let Some(histogram) = &histograms[step] {
                f(step, histogram);
            }
        });
    }

    /// The sample of a present step.
    pub(crate) fn sample(&self, row: usize, step: usize) -> Operand<'_> {
        match self.histograms(row).and_then(|h| h[step].as_ref()) {
            Some(histogram) => Operand::Histogram(histogram),
            None => Operand::Float(self.values(row)[step]),
        }
    }

    /// Sets a step of a row, or removes its sample.
    pub(crate) fn set_sample(&mut self, row: usize, step: usize, value: Option<ComputedValue>) {
        if let Some(ComputedValue::Histogram(histogram)) = value {
            return self.mixed_mut(row).set_histogram(step, histogram);
        }
        if let Some(Some(histograms)) = self.histograms.get_mut(row) {
            histograms[step] = None;
        }
        let mut column = self.row_mut(row);
        match value {
            Some(ComputedValue::Float(value)) => column.set(step, value),
            _ => column.present.remove(step),
        }
    }

    /// Changes every histogram.
    pub(crate) fn map_histograms(&mut self, f: impl Fn(&FloatHistogram) -> Arc<FloatHistogram>) {
        for histogram in
            self.histograms.iter_mut().flatten().flat_map(|row| row.iter_mut()).flatten()
        {
            *histogram = f(histogram);
        }
    }

    /// Turns all histograms into floats of any value.
    pub(crate) fn forget_histograms(&mut self) {
        self.histograms.clear();
    }

    /// The steps of a row that are floats.
    pub(crate) fn floats(&self, row: usize) -> StepSet {
        let mut floats = self.present(row).to_set();
        self.for_each_histogram(row, |step, _| floats.remove(step));
        floats
    }

    /// Whether any present step of a row is a float.
    pub(crate) fn has_floats(&self, row: usize) -> bool {
        match self.histograms(row) {
            None => !self.present(row).is_empty(),
            Some(_) => !self.floats(row).is_empty(),
        }
    }

    /// Removes the histograms and leaves the floats; returns whether there were any histograms.
    pub(crate) fn drop_histograms(&mut self) -> bool {
        let mut any = false;
        for (row, histograms) in std::mem::take(&mut self.histograms).into_iter().enumerate() {
            let Some(histograms) = histograms else { continue };
            let mut present = self.present.get_mut(row);
            for (step, _) in histograms.iter().enumerate().filter(|(_, h)| h.is_some()) {
                any |= present.contains(step);
                present.remove(step);
            }
        }
        any
    }

    /// Appends a row without values.
    pub(crate) fn push_empty(&mut self, series: u32, drop_name: bool) {
        self.series.push(series);
        self.drop_name.push(drop_name);
        self.values.resize(self.values.len() + self.steps, 0.0);
        self.present.resize(self.series.len());
        if !self.histograms.is_empty() {
            self.histograms.push(None);
        }
    }

    /// Appends a copy of a row of `other`, which has the same steps.
    pub(crate) fn push_row(&mut self, other: &Rows, row: usize) {
        let rows = self.len();
        self.series.push(other.series[row]);
        self.drop_name.push(other.drop_name[row]);
        self.values.extend_from_slice(other.values(row));
        self.present.push(other.present(row));
        let histograms = other.histograms(row);
        if histograms.is_some() || !self.histograms.is_empty() {
            self.histograms.resize(rows, None);
            self.histograms.push(histograms.map(Into::into));
        }
    }

    /// Sets a step of a row to that of a row of `other`.
    pub(crate) fn copy_step(&mut self, row: usize, other: &Rows, from: usize, step: usize) {
        self.set_sample(row, step, Some(other.sample(from, step).into()));
    }

    /// Removes the last row.
    pub(crate) fn pop(&mut self) {
        let rows = self.len().saturating_sub(1);
        self.series.truncate(rows);
        self.drop_name.truncate(rows);
        self.values.truncate(rows * self.steps);
        self.present.resize(rows);
        self.histograms.truncate(rows);
    }

    /// Rows of batches, one after the other.
    pub(crate) fn concat(steps: usize, mut batches: Vec<Rows>) -> Rows {
        if batches.len() == 1 {
            return batches.swap_remove(0);
        }
        // what grows by doubling is copied and paged in more than once
        let mut all = Rows::with_capacity(steps, batches.iter().map(Rows::len).sum());
        batches.into_iter().for_each(|batch| all.append(batch));
        all
    }

    pub(crate) fn append(&mut self, mut other: Rows) {
        if self.is_empty() && self.values.capacity() < other.values.len() {
            *self = other;
            return;
        }
        if !self.histograms.is_empty() || !other.histograms.is_empty() {
            self.histograms.resize(self.len(), None);
            other.histograms.resize(other.len(), None);
            self.histograms.append(&mut other.histograms);
        }
        self.series.append(&mut other.series);
        self.drop_name.append(&mut other.drop_name);
        self.values.append(&mut other.values);
        self.present.append(&mut other.present);
    }

    /// The number of points.
    pub(crate) fn points(&self) -> u64 {
        self.present.words().iter().map(|bits| u64::from(bits.count_ones())).sum()
    }

    pub(crate) fn bytes(&self) -> usize {
        let histograms: usize =
            self.histograms.iter().flatten().map(|row| histogram_bytes(row)).sum();
        size_of_val(&self.values[..])
            + size_of_val(self.present.words())
            + self.len() * 5
            + histograms
    }

    pub(crate) fn schema(steps: usize) -> SchemaRef {
        let values =
            Field::new("values", DataType::FixedSizeList(value_field(), steps as i32), false);
        let [series, drop_name, histograms] = FIELDS.each_ref().map(Arc::clone);
        Arc::new(Schema::new(vec![series, drop_name, Arc::new(values), histograms]))
    }

    /// The Arrow form; values are moved, bitmaps packed, histograms left in the table.
    pub(crate) fn into_batch(
        self,
        schema: SchemaRef,
        table: &HistogramTable,
    ) -> Result<RecordBatch> {
        let cells = self.len() * self.steps;
        let packed = pack(&self.present, self.steps, self.len());
        let validity = NullBuffer::new(BooleanBuffer::new(Buffer::from_vec(packed), 0, cells));
        let values = Float64Array::try_new(ScalarBuffer::from(self.values), Some(validity))?;
        let list =
            FixedSizeListArray::try_new(value_field(), self.steps as i32, Arc::new(values), None)?;
        let series = UInt32Array::from(self.series);
        let drop_name = BooleanArray::from(self.drop_name);
        let histograms = match self.histograms.is_empty() {
            true => UInt32Array::new_null(series.len()),
            false => self.histograms.into_iter().map(|row| row.map(|row| table.put(row))).collect(),
        };
        let columns: [Arc<dyn Array>; 4] =
            [Arc::new(series), Arc::new(drop_name), Arc::new(list), Arc::new(histograms)];
        Ok(RecordBatch::try_new(schema, columns.into())?)
    }

    /// From the Arrow form; values are moved when nobody else holds them.
    pub(crate) fn from_batch(batch: RecordBatch, table: &HistogramTable) -> Rows {
        let series = batch.column(0).as_primitive::<UInt32Type>().values().to_vec();
        let drop_name: Vec<bool> = batch.column(1).as_boolean().values().iter().collect();
        let list = batch.column(2).as_fixed_size_list();
        let steps = list.value_length() as usize;
        let ids = batch.column(3).as_primitive::<UInt32Type>();
        let histograms = match ids.null_count() == ids.len() {
            true => Vec::new(),
            false => ids.iter().map(|id| table.take(id?)).collect(),
        };
        let array = list.values().as_primitive::<Float64Type>().clone();
        drop(batch);
        let (_, values, validity) = array.into_parts();
        let present = match &validity {
            Some(validity) => unpack(validity.inner(), steps, series.len()),
            None => unpack(&BooleanBuffer::new_set(series.len() * steps), steps, series.len()),
        };
        let present = StepSets::from_words(steps, present);
        let values = values
            .into_inner()
            .into_vec::<f64>()
            .unwrap_or_else(|b| b.typed_data::<f64>().to_vec());
        Rows { steps, series, drop_name, values, present, histograms }
    }
}

/// The columns that are the same for all grids.
static FIELDS: LazyLock<[FieldRef; 3]> = LazyLock::new(|| {
    [
        ("series", DataType::UInt32, false),
        ("drop_name", DataType::Boolean, false),
        ("histograms", DataType::UInt32, true),
    ]
    .map(|(name, kind, nullable)| Arc::new(Field::new(name, kind, nullable)))
});

fn value_field() -> FieldRef {
    static VALUE: LazyLock<FieldRef> =
        LazyLock::new(|| Arc::new(Field::new_list_field(DataType::Float64, true)));
    Arc::clone(&VALUE)
}

/// Sets that start at words → one bitmap without gaps.
fn pack(present: &StepSets, steps: usize, rows: usize) -> Vec<u64> {
    if steps.is_multiple_of(WORD_STEPS) || rows <= 1 {
        return present.words().to_vec();
    }
    let mut packed = vec![0u64; steps::words(rows * steps) + 1];
    for row in 0..rows {
        for (from, bits) in present.get(row).by_word() {
            let at = row * steps + from;
            let (word, shift) = (at / WORD_STEPS, at % WORD_STEPS);
            packed[word] |= bits << shift;
            if shift > 0 {
                packed[word + 1] |= bits >> (WORD_STEPS - shift);
            }
        }
    }
    packed
}

/// The inverse of [`pack`]: the words of all sets.
fn unpack(bits: &BooleanBuffer, steps: usize, rows: usize) -> Vec<u64> {
    let words = steps::words(steps);
    let mut packed: Vec<u64> = bits.bit_chunks().iter_padded().collect();
    if steps.is_multiple_of(WORD_STEPS) || rows <= 1 {
        packed.truncate(rows * words);
        return packed;
    }
    let bits_from = |at: usize| match (at / WORD_STEPS, at % WORD_STEPS) {
        (word, 0) => packed[word],
        (word, shift) => {
            let next = packed.get(word + 1).map_or(0, |next| next << (WORD_STEPS - shift));
            packed[word] >> shift | next
        }
    };
    let mut present = Vec::with_capacity(rows * words);
    for row in 0..rows {
        present.extend((0..words).map(|word| bits_from(row * steps + word * WORD_STEPS)));
        if let Some(last) = present.last_mut() {
            *last &= steps::full_word(0, steps % WORD_STEPS);
        }
    }
    present
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
                let FloatColumn { values, mut present } = rows.row_mut(i);
                present.fill(steps);
                present.retain_by_word(|_| b.rotate_left(i as u32) ^ seed);
                values.iter_mut().enumerate().for_each(|(k, v)| *v = (i * 1000 + k) as f64);
            }
            let (series, drop_name) = (rows.series.clone(), rows.drop_name.clone());
            let (values, present) = (rows.values.clone(), rows.present.clone());
            let table = HistogramTable::default();
            let back = Rows::from_batch(rows.into_batch(Rows::schema(steps), &table).unwrap(), &table);
            prop_assert_eq!(back.series, series);
            prop_assert_eq!(back.drop_name, drop_name);
            prop_assert_eq!(back.values, values);
            prop_assert_eq!(back.present, present);
        }
    }
}
