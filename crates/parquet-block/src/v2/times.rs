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
    pub(super) last_raw_t: Nullable<i64>,
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
        let last = rows.clone().last();
        for row in rows.clone() {
            let is_start = row == rows.start;
            let end = match Some(row) == last {
                // readers take the time of a batch's last window from its last sample
                true => merge::window_end(series.t[row], series.resolution_ms),
                false => series.t[row],
            };
            self.t.push(end);
            self.first_t.push(known(series.first_t[row]));
            self.last_t.push(known(series.last_t[row]));
            self.batch_start.push(is_start);
            self.last_raw_t.push(last.filter(|_| is_start).map(|last| series.t[last]));
        }
    }
}

/// A time that is not [`NO_TIME`].
pub(super) fn known(t: i64) -> Option<i64> {
    (t != NO_TIME).then_some(t)
}

/// Gives the last window of a batch, which begins at `start`, the time of its last sample again.
pub(super) fn cut_last_window(
    t: &mut [i64],
    last_raw_t: Option<&TimestampMillisecondArray>,
    start: usize,
) {
    if let (Some(last), Some(last_raw_t)) = (t.last_mut(), time_of(last_raw_t, start)) {
        *last = (*last).min(last_raw_t);
    }
}

pub(super) fn time_of(times: Option<&TimestampMillisecondArray>, row: usize) -> Option<i64> {
    let times = times?;
    times.is_valid(row).then(|| times.value(row))
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
