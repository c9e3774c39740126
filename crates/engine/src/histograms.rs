//! The native histograms of rows: few rows have any, so they stand beside the floats.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use model::FloatHistogram;

/// The native histograms of a row, by step.
pub(crate) type Histograms = Box<[Option<Arc<FloatHistogram>>]>;

/// Histograms on their way from one operator to the next, which Arrow's batches name by id.
#[derive(Debug, Default)]
pub(crate) struct HistogramTable(Mutex<Vec<Option<Histograms>>>);

impl HistogramTable {
    /// Keeps the histograms of a row until they are taken by this id.
    pub(crate) fn put(&self, row: Histograms) -> u32 {
        let mut table = self.lock();
        table.push(Some(row));
        table.len() as u32 - 1
    }

    pub(crate) fn take(&self, id: u32) -> Option<Histograms> {
        self.lock().get_mut(id as usize)?.take()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Option<Histograms>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Roughly the bytes that the histograms of a row hold; those shared with other rows count in each.
pub(crate) fn histogram_bytes(row: &[Option<Arc<FloatHistogram>>]) -> usize {
    let buckets = |h: &Arc<FloatHistogram>| {
        let spans = h.positive_spans.len() + h.negative_spans.len();
        let counts = h.positive_buckets.len() + h.negative_buckets.len() + h.custom_values.len();
        size_of::<FloatHistogram>() + (spans + counts) * 8
    };
    size_of_val(row) + row.iter().flatten().map(buckets).sum::<usize>()
}
