//! Float windows: the columns, and the pass from raw samples to them.

use std::ops::Range;

use tsdb::chunk::Aggregate;

use super::aggregate::{AggregateColumns, columns, encode_xor};
use super::{
    ASSUMED_RAW_INTERVAL_MS, ChunkSelection, Extent, batch_count, times_of_rows, window_end,
};
use crate::column::Floats;
use crate::error::{Case, Error};
use crate::series::{ChunkContent, SeriesChunk};

/// In place of the time of a window's first or last sample, where that is not known.
pub const NO_TIME: i64 = i64::MIN;

/// Where a batch begins, and the raw samples at its borders.
#[derive(Clone, Copy, Debug)]
pub struct Batch {
    /// The row of its first window.
    pub start: usize,
    /// The first raw sample: time in milliseconds and value. If the value is the stale NaN, no
    /// window has a counter.
    pub first_t: i64,
    pub first_v: f64,
    /// The last raw value.
    pub last_v: f64,
}

impl PartialEq for Batch {
    /// Bit by bit: a border may be NaN.
    fn eq(&self, other: &Batch) -> bool {
        let key = |b: &Batch| (b.start, b.first_t, b.first_v.to_bits(), b.last_v.to_bits());
        key(self) == key(other)
    }
}

/// The windows of a float series in order of time, column by column, cut into batches.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Windows {
    /// The last millisecond of the window, or the last sample of the batch.
    pub t: Vec<i64>,
    /// When the first and the last sample that the window counts were taken; [`NO_TIME`] where that
    /// is not known.
    pub first_t: Vec<i64>,
    pub last_t: Vec<i64>,
    pub count: Vec<u32>,
    pub sum: Vec<f64>,
    pub min: Vec<f64>,
    pub max: Vec<f64>,
    /// The running total since the batch began, with resets added; the stale NaN where there is
    /// none.
    pub counter: Vec<f64>,
    pub batches: Vec<Batch>,
}

impl Windows {
    pub fn len(&self) -> usize {
        self.t.len()
    }

    pub fn is_empty(&self) -> bool {
        self.t.is_empty()
    }

    pub fn clear(&mut self) {
        let Windows { t, first_t, last_t, count, sum, min, max, counter, batches } = self;
        [t, first_t, last_t].into_iter().for_each(Vec::clear);
        count.clear();
        batches.clear();
        [sum, min, max, counter].into_iter().for_each(Vec::clear);
    }

    /// The rows of batch `b`.
    pub fn batch_rows(&self, b: usize) -> Range<usize> {
        let end = self.batches.get(b + 1).map_or(self.len(), |next| next.start);
        self.batches[b].start..end
    }

    /// The time of the first window of batch `b`.
    pub(super) fn batch_start(&self, b: usize) -> i64 {
        self.t[self.batches[b].start]
    }

    /// The AggrChunk of batch `b`, as far as it is wanted.
    pub(super) fn encode_batch(&self, b: usize, wanted: ChunkSelection<'_>) -> SeriesChunk {
        let (rows, batch) = (self.batch_rows(b), self.batches[b]);
        let ts = &self.t[rows.clone()];
        let mut parts = [const { None }; 5];
        for aggregate in wanted.aggregates {
            parts[*aggregate as usize] = match aggregate {
                Aggregate::Count => {
                    let counts = self.count[rows.clone()].iter().map(|c| f64::from(*c));
                    Some(encode_xor(ts.iter().copied().zip(counts)))
                }
                Aggregate::Sum => Some(encode_xor(columns(ts, &self.sum[rows.clone()]))),
                Aggregate::Min => Some(encode_xor(columns(ts, &self.min[rows.clone()]))),
                Aggregate::Max => Some(encode_xor(columns(ts, &self.max[rows.clone()]))),
                Aggregate::Counter if model::is_stale_nan(batch.first_v) => None,
                Aggregate::Counter => {
                    let totals = || {
                        columns(ts, &self.counter[rows.clone()])
                            .filter(|(_, v)| !model::is_stale_nan(*v))
                    };
                    let last_t = totals().last().map_or(batch.first_t, |(t, _)| t);
                    let ends = ((batch.first_t, batch.first_v), (last_t, batch.last_v));
                    Some(encode_xor(
                        std::iter::once(ends.0).chain(totals()).chain(std::iter::once(ends.1)),
                    ))
                }
            };
        }
        let (min_time, max_time) = (ts[0], ts[ts.len() - 1]);
        let times =
            wanted.times.then(|| times_of_rows(&self.first_t, &self.last_t, rows)).flatten();
        SeriesChunk::new(min_time, max_time, ChunkContent::Aggregates(Box::new(parts)))
            .with_times(times)
    }

    /// Batch `b` as the five columns of an AggrChunk.
    pub(super) fn batch_columns(&self, b: usize) -> AggregateColumns {
        let (rows, batch) = (self.batch_rows(b), self.batches[b]);
        let ts = &self.t[rows.clone()];
        let column = |values: Vec<f64>| Some(Floats { ts: ts.to_vec(), values });
        let counts = self.count[rows.clone()].iter().map(|c| f64::from(*c)).collect();
        let [sum, min, max] =
            [&self.sum, &self.min, &self.max].map(|c| column(c[rows.clone()].to_vec()));
        let counter = (!model::is_stale_nan(batch.first_v)).then(|| {
            let mut counter = Floats::default();
            counter.push(batch.first_t, batch.first_v);
            for (&t, &v) in ts.iter().zip(&self.counter[rows.clone()]) {
                if !model::is_stale_nan(v) {
                    counter.push(t, v);
                }
            }
            counter.push(counter.ts[counter.len() - 1], batch.last_v);
            counter
        });
        AggregateColumns {
            columns: [column(counts), sum, min, max, counter],
            first_t: self.first_t[rows.clone()].to_vec(),
            last_t: self.last_t[rows].to_vec(),
        }
    }

    /// Appends a batch that comes as the columns of an AggrChunk.
    pub(super) fn push_columns(&mut self, chunk: &AggregateColumns) -> Result<(), Error> {
        let wrong = |what: &str| Error(Case::Downsample(format!("a downsampled chunk {what}")));
        let [Some(count), Some(sum), Some(min), Some(max), counter] = &chunk.columns else {
            return Err(wrong("lacks count, sum, min or max"));
        };
        if [sum, min, max].iter().any(|c| c.ts != count.ts) {
            return Err(wrong("has count, sum, min and max at different times"));
        }
        if count.is_empty() {
            return Ok(());
        }
        let mut batch = Batch {
            start: self.len(),
            first_t: count.ts[0],
            first_v: model::STALE_NAN,
            last_v: model::STALE_NAN,
        };
        let mut totals: &[f64] = &[];
        let mut times: &[i64] = &[];
        if let Some(Floats { ts, values }) = counter.as_ref().filter(|c| !c.is_empty()) {
            if ts.len() < 3 {
                return Err(wrong("has a counter without first and last sample"));
            }
            batch =
                Batch { first_t: ts[0], first_v: values[0], last_v: values[ts.len() - 1], ..batch };
            (times, totals) = (&ts[1..ts.len() - 1], &values[1..ts.len() - 1]);
        }
        for (i, &t) in count.ts.iter().enumerate() {
            // The counter's last window may end earlier when the counter became NaN before it.
            let has_total =
                times.first().is_some_and(|first| *first == t || (times.len() == 1 && *first < t));
            let value = if has_total { totals[0] } else { model::STALE_NAN };
            if has_total {
                (times, totals) = (&times[1..], &totals[1..]);
            }
            let samples = count.values[i];
            if !(samples >= 0.0 && samples <= f64::from(u32::MAX) && samples.fract() == 0.0) {
                return Err(wrong("has a count that is no number of samples"));
            }
            self.t.push(t);
            self.count.push(samples as u32);
            self.counter.push(value);
        }
        if !times.is_empty() {
            self.t.truncate(batch.start);
            self.count.truncate(batch.start);
            self.counter.truncate(batch.start);
            return Err(wrong("has a counter where it has no count"));
        }
        self.first_t.extend_from_slice(&chunk.first_t);
        self.last_t.extend_from_slice(&chunk.last_t);
        self.sum.extend_from_slice(&sum.values);
        self.min.extend_from_slice(&min.values);
        self.max.extend_from_slice(&max.values);
        self.batches.push(batch);
        Ok(())
    }
}

/// Appends the windows of raw samples without stale markers; other NaN is left out here, after the
/// batches are cut.
pub(super) fn downsample_raw(floats: &Floats, resolution_ms: i64, out: &mut Windows) {
    let Floats { ts, values } = floats;
    let (Some(&first), Some(&last)) = (ts.first(), ts.last()) else { return };
    let input = Extent { first, last, step_ms: ASSUMED_RAW_INTERVAL_MS, count: ts.len() };
    let batches = batch_count(input, resolution_ms);
    let batch_size = ts.len() / batches + 1;
    let mut clean = Floats::default();
    let mut start = 0;
    while start < ts.len() {
        let mut end = (start + batch_size).min(ts.len());
        // A batch that ends inside a window includes the rest of it.
        let window = window_end(ts[end - 1], resolution_ms);
        while end < ts.len() && ts[end] <= window {
            end += 1;
        }
        let (batch_ts, batch_values) = (&ts[start..end], &values[start..end]);
        start = end;
        if batch_values.iter().any(|v| v.is_nan()) {
            clean.clear();
            batch_ts
                .iter()
                .zip(batch_values)
                .filter(|(_, v)| !v.is_nan())
                .for_each(|(t, v)| clean.push(*t, *v));
            downsample_batch(&clean.ts, &clean.values, resolution_ms, out);
        } else {
            downsample_batch(batch_ts, batch_values, resolution_ms, out);
        }
    }
}

/// One batch of samples, none of them NaN.
fn downsample_batch(ts: &[i64], values: &[f64], resolution_ms: i64, out: &mut Windows) {
    let ([first_t, ..], [first_v, .., last_v] | [first_v @ last_v]) = (ts, values) else { return };
    out.batches.push(Batch {
        start: out.len(),
        first_t: *first_t,
        first_v: *first_v,
        last_v: *last_v,
    });
    let (mut counter, mut last) = (*first_v, *first_v);
    super::for_each_window(ts, resolution_ms, |t, rows| {
        out.first_t.push(ts[rows.start]);
        out.last_t.push(ts[rows.end - 1]);
        let values = &values[rows.clone()];
        // Thanos' starting points: infinite minima and maxima come out as these.
        let (mut sum, mut min, mut max) = (0.0, f64::MAX, f64::MIN);
        for &v in values {
            sum += v;
            min = if v < min { v } else { min };
            max = if v > max { v } else { max };
        }
        // The batch's first sample is the total it starts from.
        let skip = usize::from(rows.start == 0);
        for &v in &values[skip..] {
            counter += if v < last { v } else { v - last };
            last = v;
        }
        out.t.push(t);
        out.count.push(values.len() as u32);
        out.sum.push(sum);
        out.min.push(min);
        out.max.push(max);
        out.counter.push(counter);
    });
}
