//! Window aggregation for downsampling, sample by sample and bit by bit as Thanos' compactor does
//! it (`pkg/compact/ downsample`): raw to 5m, 5m to 1h.
//!
//! A series is cut into *batches* of at most about 140 windows; Thanos stores one AggrChunk per
//! batch. Inside a batch `counter` is the running total since the batch's first sample, resets
//! added; the first and the last raw sample of the batch are stored with it, so that readers see a
//! reset between two batches. Native histograms have no such samples: unlike Thanos', their batches
//! end at a reset, so that a total is the counter's value. A window's time is its last millisecond;
//! that of a batch's last window is the batch's last sample. When the first and the last sample of a
//! window were taken is kept besides; Thanos' chunks do not have these times.

mod aggregate;
mod histogram;
mod window;

use std::ops::Range;

use bytes::Bytes;
use model::{Resolution, TimeRange};
use tsdb::chunk::{Aggregate, decode_floats, decode_histograms, num_samples};

use crate::column::Floats;
use crate::error::{Case, Error};
use crate::series::{ChunkContent, SeriesChunk};
use crate::times::{encode_times, window_times};

pub use histogram::HistogramWindows;
pub use window::{Batch, NO_TIME, Windows};

use aggregate::AggregateColumns;
use histogram::HistogramRun;

#[cfg(test)]
mod tests;

/// Thanos assumes that raw samples are a minute apart when it sizes batches.
const ASSUMED_RAW_INTERVAL_MS: i64 = 60_000;

/// The most floats that a series may have in a block to be downsampled: how many batches there are
/// depends on all of them, so they are in memory at the same time, 16 bytes each. Those of two
/// weeks with four samples a second are more.
const MOST_FLOATS: usize = 4 << 20;

/// The most bytes of histograms likewise: 500,000 samples of a hundred buckets.
const MOST_HISTOGRAM_BYTES: usize = 512 << 20;

/// The windows of one downsampled series.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DownsampledSeries {
    pub floats: Windows,
    pub histograms: HistogramWindows,
}

impl DownsampledSeries {
    pub fn is_empty(&self) -> bool {
        self.floats.is_empty() && self.histograms.is_empty()
    }

    /// Removes the windows but keeps the memory.
    pub fn clear(&mut self) {
        self.floats.clear();
        self.histograms.clear();
    }

    /// The chunks that Thanos would store: one AggrChunk per batch, in order of time, sub-chunks
    /// encoded as XOR and float histogram.
    pub fn to_chunks(&self) -> Result<Vec<SeriesChunk>, Error> {
        self.chunks_within(ChunkSelection {
            range: TimeRange::ALL,
            aggregates: &Aggregate::ALL,
            times: false,
        })
    }

    /// As [`to_chunks`](Self::to_chunks), but only what is selected.
    pub fn chunks_within(&self, selection: ChunkSelection<'_>) -> Result<Vec<SeriesChunk>, Error> {
        let mut chunks = Vec::new();
        for b in 0..self.floats.batches.len() {
            let rows = self.floats.batch_rows(b);
            if overlaps(&self.floats.t[rows], selection.range) {
                chunks.push(self.floats.encode_batch(b, selection));
            }
        }
        for b in 0..self.histograms.batches.len() {
            let rows = self.histograms.batch_rows(b);
            if overlaps(&self.histograms.t[rows], selection.range) {
                self.histograms.encode_batch(b, selection, &mut chunks)?;
            }
        }
        chunks.sort_by_key(|c| (c.min_time, c.max_time));
        Ok(chunks)
    }

    /// The windows of stored chunks. Raw chunks, which real downsampled blocks sometimes hold, are
    /// downsampled to `resolution`.
    pub fn from_chunks(
        chunks: &[SeriesChunk],
        resolution: Resolution,
    ) -> Result<DownsampledSeries, Error> {
        let mut out = DownsampledSeries::default();
        for chunk in chunks {
            match &chunk.content {
                ChunkContent::Raw(_) => {
                    Downsampler::new(resolution)
                        .append_raw(std::slice::from_ref(chunk), &mut out)?;
                }
                ChunkContent::Aggregates(_) if histogram::is_histogram_chunk(chunk) => {
                    out.histograms.push_chunk(chunk, resolution.millis())?;
                }
                ChunkContent::Aggregates(_) => {
                    let columns = AggregateColumns::decode(chunk, resolution.millis())?;
                    out.floats.push_columns(&columns)?;
                }
            }
        }
        Ok(out)
    }
}

/// Which chunks of a series are encoded, and what of each.
#[derive(Clone, Copy, Debug)]
pub struct ChunkSelection<'a> {
    /// Only those that overlap it.
    pub range: TimeRange,
    /// The columns of the other aggregates may be empty.
    pub aggregates: &'a [Aggregate],
    /// [`SeriesChunk::times`] too, of chunks that know those of all their windows; otherwise the
    /// columns of the times may be empty.
    pub times: bool,
}

/// Downsamples series after series, reusing its buffers.
#[derive(Debug)]
pub struct Downsampler {
    resolution_ms: i64,
    floats: Floats,
    histograms: HistogramRun,
}

impl Downsampler {
    /// Downsamples to windows of `resolution`, which must not be [`Resolution::Raw`].
    pub fn new(resolution: Resolution) -> Downsampler {
        assert!(resolution != Resolution::Raw, "downsampling needs a window");
        Downsampler {
            resolution_ms: resolution.millis(),
            floats: Floats::default(),
            histograms: HistogramRun::default(),
        }
    }

    /// Replaces `out` by the windows of a series' raw chunks, which must be sorted and must not
    /// overlap. Stale markers and NaN are left out.
    ///
    /// # Errors
    /// The chunks are damaged or overlap, or they have [too many samples](Error::is_too_long).
    pub fn raw(
        &mut self,
        chunks: &[SeriesChunk],
        out: &mut DownsampledSeries,
    ) -> Result<(), Error> {
        out.clear();
        self.append_raw(chunks, out)
    }

    /// Replaces `out` by the windows made from the finer windows `input`, which have resolution
    /// `from`. Batches are joined, never cut.
    pub fn coarser(
        &mut self,
        from: Resolution,
        input: &DownsampledSeries,
        out: &mut DownsampledSeries,
    ) -> Result<(), Error> {
        out.clear();
        let floats =
            (0..input.floats.batches.len()).map(|b| (input.floats.batch_start(b), false, b));
        let histograms =
            (0..input.histograms.batches.len()).map(|b| (input.histograms.batch_start(b), true, b));
        let mut order: Vec<_> = floats.chain(histograms).collect();
        order.sort_unstable();
        // Floats and histograms alternate as runs, each batched on its own.
        for run in order.chunk_by(|a, b| a.1 == b.1) {
            let batches = run[0].2..run[run.len() - 1].2 + 1;
            if run[0].1 {
                histogram::coarser(
                    &input.histograms,
                    batches,
                    from.millis(),
                    self.resolution_ms,
                    &mut out.histograms,
                )?;
            } else {
                let columns: Vec<_> = batches.map(|b| input.floats.batch_columns(b)).collect();
                for joined in aggregate::coarser(&columns, from.millis(), self.resolution_ms) {
                    out.floats.push_columns(&joined)?;
                }
            }
        }
        Ok(())
    }

    fn append_raw(
        &mut self,
        chunks: &[SeriesChunk],
        out: &mut DownsampledSeries,
    ) -> Result<(), Error> {
        let mut last_max = None::<i64>;
        for chunk in chunks {
            if let Some(end) = last_max.filter(|end| *end >= chunk.min_time) {
                return Err(Error(Case::OverlappingInput { end, start: chunk.min_time }));
            }
            last_max = Some(chunk.max_time);
            let ChunkContent::Raw(bytes) = &chunk.content else {
                return Err(Error(Case::Downsample(
                    "a chunk of the raw series is downsampled already".into(),
                )));
            };
            if bytes.encoding.is_histogram() {
                self.flush_floats(out);
                let (mut ts, mut histograms) = (Vec::new(), Vec::new());
                decode_histograms(bytes.encoding, &bytes.data, &mut ts, &mut histograms)?;
                if self.histograms.bytes() > MOST_HISTOGRAM_BYTES {
                    let (what, most) = ("bytes of histograms", MOST_HISTOGRAM_BYTES);
                    return Err(Error(Case::TooLong { what, most }));
                }
                self.histograms.extend(ts, histograms, self.resolution_ms, &mut out.histograms)?;
            } else {
                self.histograms.flush(self.resolution_ms, &mut out.histograms)?;
                let before = self.floats.len();
                if before + num_samples(bytes.encoding, &bytes.data)? > MOST_FLOATS {
                    return Err(Error(Case::TooLong { what: "floats", most: MOST_FLOATS }));
                }
                decode_floats(
                    bytes.encoding,
                    &bytes.data,
                    &mut self.floats.ts,
                    &mut self.floats.values,
                )?;
                drop_stale(&mut self.floats, before);
            }
        }
        self.flush_floats(out);
        self.histograms.flush(self.resolution_ms, &mut out.histograms)
    }

    fn flush_floats(&mut self, out: &mut DownsampledSeries) {
        window::downsample_raw(&self.floats, self.resolution_ms, &mut out.floats);
        self.floats.clear();
    }
}

/// Whether a batch with windows at these times touches `range`.
fn overlaps(ts: &[i64], range: TimeRange) -> bool {
    ts.first().zip(ts.last()).is_some_and(|(first, last)| range.overlaps_closed(*first, *last))
}

/// Removes stale markers and samples that go back in time from index `from` on.
fn drop_stale(floats: &mut Floats, from: usize) {
    let (ts, values) = (&floats.ts[from..], &floats.values[from..]);
    let clean =
        ts.windows(2).all(|w| w[0] <= w[1]) && !values.iter().any(|v| model::is_stale_nan(*v));
    if clean {
        return;
    }
    let (mut kept, mut last_t) = (from, i64::MIN);
    for i in from..floats.len() {
        let (t, v) = (floats.ts[i], floats.values[i]);
        if !model::is_stale_nan(v) && t >= last_t {
            (floats.ts[kept], floats.values[kept]) = (t, v);
            (kept, last_t) = (kept + 1, t);
        }
    }
    floats.ts.truncate(kept);
    floats.values.truncate(kept);
}

/// The last millisecond of the window that `t` falls into.
pub fn window_end(t: i64, resolution_ms: i64) -> i64 {
    t.saturating_sub(t.rem_euclid(resolution_ms)).saturating_add(resolution_ms - 1)
}

/// The times of the first and the last sample of a chunk's windows, or [`NO_TIME`].
struct WindowTimes {
    first_t: Vec<i64>,
    last_t: Vec<i64>,
}

impl WindowTimes {
    /// Of the windows at `ts`, which are all that the chunk has.
    fn of(chunk: &SeriesChunk, ts: &[i64], resolution_ms: i64) -> Result<WindowTimes, Error> {
        let spans = window_times(chunk, ts, resolution_ms);
        let first = |span: &Option<TimeRange>| span.map_or(NO_TIME, |span| span.start);
        let last = |span: &Option<TimeRange>| span.map_or(NO_TIME, TimeRange::last);
        let mut last_t: Vec<i64> = spans.iter().map(last).collect();
        // a last window that is cut short ends with the last sample
        if let (Some(last), Some(&t)) = (last_t.last_mut(), ts.last())
            && *last == NO_TIME
            && is_cut_short(t, resolution_ms)
        {
            *last = t;
        }
        Ok(WindowTimes { first_t: spans.iter().map(first).collect(), last_t })
    }
}

/// The times of the windows in these rows, if all are known.
fn times_of_rows(first_t: &[i64], last_t: &[i64], rows: Range<usize>) -> Option<Bytes> {
    encode_times(first_t.get(rows.clone())?, last_t.get(rows)?)
}

/// Whether a window at `t` ends earlier than its resolution demands: with its last sample.
fn is_cut_short(t: i64, resolution_ms: i64) -> bool {
    t < window_end(t, resolution_ms)
}

/// Calls `each` with the time and the index range of every window of the sorted, non-empty `ts`.
/// The last window's time is cut to the last sample, so that batches never overlap.
fn for_each_window(
    ts: &[i64],
    resolution_ms: i64,
    mut each: impl FnMut(i64, std::ops::Range<usize>),
) {
    let Some(&last_t) = ts.last() else { return };
    let mut start = 0;
    while start < ts.len() {
        let t = window_end(ts[start], resolution_ms).min(last_t);
        let len = ts[start..].iter().position(|x| *x > t).unwrap_or(ts.len() - start);
        each(t, start..start + len);
        start += len;
    }
}

/// The samples of a series, or its finer windows.
struct Extent {
    /// When the first and the last of them are.
    first: i64,
    last: i64,
    /// How far apart they are where none is missing.
    step_ms: i64,
    count: usize,
}

/// How many batches a series is cut into: the fewest that keep the windows its samples can fill at
/// 140 or less each.
fn batch_count(input: Extent, output_ms: i64) -> usize {
    let width = input.last.saturating_sub(input.first);
    let full = (input.count as f64 / (width as f64 / input.step_ms as f64)).min(1.0);
    let expected = ((width / output_ms) as f64 * full) as usize + 1;
    expected / 141 + 1
}
