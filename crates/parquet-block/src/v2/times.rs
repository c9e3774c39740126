//! When windows are, and where batches begin: the columns that windows of floats and of histograms
//! share.

use std::ops::Range;

use arrow::array::{Array, TimestampMillisecondArray};
use merge::NO_TIME;

use super::columns::{Nullable, present};

/// The times of rows that wait to be encoded.
#[derive(Default)]
pub(super) struct TimeRows {
    pub(super) t: Vec<i64>,
    pub(super) first_t: Nullable<i64>,
    pub(super) last_t: Nullable<i64>,
    pub(super) batch_start: Vec<bool>,
}

/// The times of the windows of a series, each `resolution_ms` long.
#[derive(Clone, Copy)]
pub(super) struct SeriesTimes<'a> {
    pub(super) t: &'a [i64],
    pub(super) first_t: &'a [i64],
    pub(super) last_t: &'a [i64],
    pub(super) resolution_ms: i64,
}

impl TimeRows {
    /// Adds the windows of a batch, which are these of the series.
    pub(super) fn push_batch(&mut self, series: SeriesTimes<'_>, rows: Range<usize>) {
        for row in rows.clone() {
            let (t, mut last_t) = (series.t[row], known(series.last_t[row]));
            let mut end = t;
            if row + 1 == rows.end {
                // the time of a batch's last window is that of its last sample, which readers take
                // from there
                match last_t {
                    Some(last) if last == t => end = merge::window_end(t, series.resolution_ms),
                    _ => last_t = None,
                }
            }
            self.t.push(end);
            self.first_t.push(known(series.first_t[row]));
            self.last_t.push(last_t);
            self.batch_start.push(row == rows.start);
        }
    }
}

/// A time that is not [`NO_TIME`].
pub(super) fn known(t: i64) -> Option<i64> {
    (t != NO_TIME).then_some(t)
}

/// Gives the last window of a batch the time of its last sample again.
pub(super) fn cut_last_window(t: &mut [i64], last_t: &[i64], batch: Range<usize>) {
    if let Some(last) = batch.last()
        && let Some(last_t) = known(last_t[last])
    {
        t[last] = t[last].min(last_t);
    }
}

/// The times of these rows, [`NO_TIME`] where there is none.
pub(super) fn times_of(times: Option<&TimestampMillisecondArray>, rows: &Range<usize>) -> Vec<i64> {
    let Some(times) = times else { return vec![NO_TIME; rows.len()] };
    let mut out = times.values()[rows.clone()].to_vec();
    if present(Some(times), rows) < rows.len() {
        for (_, slot) in rows.clone().zip(&mut out).filter(|(row, _)| times.is_null(*row)) {
            *slot = NO_TIME;
        }
    }
    out
}
