//! Chunks cut to a span of time, where the time of a stream is shared between resolutions.
//!
//! A window of downsampled data is a span, not a point: at time `t` it stands for the samples since
//! the last multiple of its length. Where a cut falls into it, the window becomes shorter: its
//! count and sum shrink with its length, its minimum and maximum stay as bounds. Counters are
//! totals at points in time; those inside stay as they are. For a counter to grow over a cut by
//! exactly as much as it did, its raw value there is needed. A chunk gives it for all windows after
//! its last reset, because what resets have subtracted overall is the total at the last of them,
//! and for chunks without a reset; otherwise the samples on the other side of the cut give it.

use bytes::Bytes;
use model::histogram::ResetHint;
use model::{Resolution, TimeRange};
use tsdb::chunk::{
    self, Aggregate, Encoding, FloatHistogramEncoder, Pushed, XorEncoder, decode_floats,
    decode_histograms,
};
use tsdb::tombstones::Interval;

use crate::chunks::overlap_split;
use crate::column::Floats;
use crate::counter::CounterStitch;
use crate::error::{Case, Error};
use crate::series::{ChunkBytes, ChunkContent, SeriesChunk};
use crate::times::cut_times;

/// Less than this share of a window whose count is not known is not worth keeping as a sample.
const LEAST_SHARE: f64 = 1.0 / 60.0;

/// The relative error of sums of floats is less than this.
const ROUNDING: f64 = 1e-9;

/// The closed span of the samples that a chunk stands for: for a downsampled one it begins where
/// its first window does.
pub fn covered_span(chunk: &SeriesChunk) -> (i64, i64) {
    let start = window_start(chunk.min_time, chunk.resolution());
    // only a chunk that was cut begins elsewhere than at the end of a window, unless that window is
    // its last
    let ends_window =
        window_start(chunk.min_time.saturating_add(1), chunk.resolution()) > chunk.min_time;
    let whole = ends_window || chunk.min_time == chunk.max_time;
    (if whole { start } else { chunk.min_time }, chunk.max_time)
}

/// The part of a chunk inside `range`: nothing, one chunk, or, for raw histograms, sometimes
/// several. `beside` are the chunks of the series, in order, that answer for other times.
///
/// # Errors
/// Corrupt data.
pub fn cut(
    chunk: &SeriesChunk,
    range: TimeRange,
    beside: &[SeriesChunk],
) -> Result<Vec<SeriesChunk>, Error> {
    let (from, to) = covered_span(chunk);
    if range.start <= from && to <= range.last() {
        return Ok(vec![chunk.clone()]);
    }
    match &chunk.content {
        ChunkContent::Raw(raw) => cut_raw(chunk, raw, range),
        ChunkContent::Aggregates(_) => {
            Ok(cut_aggregates(chunk, range, beside)?.into_iter().collect())
        }
    }
}

fn window_start(t: i64, resolution: Resolution) -> i64 {
    match resolution.millis() {
        0 => t,
        length => t.saturating_sub(t.rem_euclid(length)),
    }
}

fn cut_raw(
    chunk: &SeriesChunk,
    raw: &ChunkBytes,
    range: TimeRange,
) -> Result<Vec<SeriesChunk>, Error> {
    let mut outside = Vec::with_capacity(2);
    if range.start > i64::MIN {
        outside.push(Interval { min_time: i64::MIN, max_time: range.start - 1 });
    }
    if range.last() < i64::MAX {
        outside.push(Interval { min_time: range.last() + 1, max_time: i64::MAX });
    }
    let Some(left) = chunk::cut(raw.encoding, &raw.data, &outside)? else {
        return Ok(vec![chunk.clone()]);
    };
    let made = |part: chunk::Transcoded| {
        let content =
            ChunkContent::Raw(ChunkBytes { encoding: part.encoding, data: Bytes::from(part.data) });
        SeriesChunk::new(part.min_time, part.max_time, content).with_replica(chunk.replica)
    };
    Ok(left.into_iter().map(made).collect())
}

fn cut_aggregates(
    chunk: &SeriesChunk,
    range: TimeRange,
    beside: &[SeriesChunk],
) -> Result<Option<SeriesChunk>, Error> {
    let resolution = chunk.resolution();
    let counts = chunk.aggregate(Aggregate::Count).map(floats).transpose()?;
    let from = covered_span(chunk).0;
    let windows = ChunkWindows { resolution, from, range, counts };
    let mut parts = Box::<[Option<ChunkBytes>; 5]>::default();
    let mut span: Option<(i64, i64)> = None;
    for aggregate in Aggregate::ALL {
        let Some(bytes) = chunk.aggregate(aggregate) else { continue };
        let part = match (aggregate, bytes.encoding.is_histogram()) {
            (_, true) => cut_histograms(aggregate, bytes, &windows)?,
            (Aggregate::Counter, false) => {
                Counter::of(resolution, floats(bytes)?).cut(range, beside)?
            }
            (_, false) => cut_floats(aggregate, bytes, &windows)?,
        };
        parts[aggregate as usize] = Some(part.bytes);
        let Some(part) = part.span else { continue };
        let (first, last) = span.unwrap_or(part);
        span = Some((first.min(part.0), last.max(part.1)));
    }
    let times = chunk.times.as_ref().and_then(|times| cut_times(times, range));
    let cut = |(first, last): (i64, i64)| {
        // where the first window begins if it is shorter than its resolution
        let first = if window_start(first, resolution).max(from) < range.start {
            range.start
        } else {
            first
        };
        let cut = SeriesChunk::new(first, last, ChunkContent::Aggregates(parts))
            .with_resolution(resolution);
        cut.with_replica(chunk.replica).with_times(times)
    };
    Ok(span.map(cut))
}

/// What is left of one aggregate, and the times of its first and last window. Where nothing is
/// left, an empty chunk stays: readers of an aggregate fail if it is missing.
struct CutAggregate {
    bytes: ChunkBytes,
    span: Option<(i64, i64)>,
}

fn cut_floats(
    aggregate: Aggregate,
    bytes: &ChunkBytes,
    windows: &ChunkWindows,
) -> Result<CutAggregate, Error> {
    let all = floats(bytes)?;
    let mut left = Floats::default();
    for (&t, &value) in all.ts.iter().zip(&all.values) {
        let Some(window) = windows.left_of(t) else { continue };
        let value = match aggregate {
            Aggregate::Count => (value * window.share).round(),
            Aggregate::Sum => value * window.share,
            Aggregate::Min | Aggregate::Max | Aggregate::Counter => value,
        };
        left.push(window.t, value);
    }
    Ok(encoded(&left))
}

fn cut_histograms(
    aggregate: Aggregate,
    bytes: &ChunkBytes,
    windows: &ChunkWindows,
) -> Result<CutAggregate, Error> {
    let (mut ts, mut histograms) = (Vec::new(), Vec::new());
    decode_histograms(bytes.encoding, &bytes.data, &mut ts, &mut histograms)?;
    let counter = aggregate == Aggregate::Counter;
    let mut span: Option<(i64, i64)> = None;
    let mut encoder = None;
    for (i, (t, mut histogram)) in ts.into_iter().zip(histograms).enumerate() {
        let left = if counter { windows.point(t) } else { windows.left_of(t) };
        let Some(CutWindow { t, share }) = left else { continue };
        if share < 1.0 {
            histogram.mul(share);
        }
        let header = || -> Result<ResetHint, Error> {
            let hint = chunk::reset_hint(bytes.encoding, &bytes.data)?;
            // what was known about a reset before the first one is not known for another
            Ok(if i == 0 || hint == ResetHint::Gauge { hint } else { ResetHint::Unknown })
        };
        let encoder = match &mut encoder {
            Some(encoder) => encoder,
            none => none.insert(FloatHistogramEncoder::new(header()?)),
        };
        if matches!(encoder.push(t, &histogram)?, Pushed::NewChunk(_)) {
            return Err(Error(Case::Downsample(
                "histograms of one downsampled chunk that fit into no chunk".into(),
            )));
        }
        span = Some((span.map_or(t, |(first, _)| first), t));
    }
    let Some(encoder) = encoder else { return Ok(encoded(&Floats::default())) };
    let bytes =
        ChunkBytes { encoding: Encoding::FloatHistogram, data: Bytes::from(encoder.finish()) };
    Ok(CutAggregate { bytes, span })
}

fn floats(bytes: &ChunkBytes) -> Result<Floats, Error> {
    let mut floats = Floats::default();
    decode_floats(bytes.encoding, &bytes.data, &mut floats.ts, &mut floats.values)?;
    Ok(floats)
}

fn encoded(floats: &Floats) -> CutAggregate {
    let span = floats.ts.first().copied().zip(floats.ts.last().copied());
    let mut encoder = XorEncoder::new();
    floats.ts.iter().zip(&floats.values).for_each(|(t, v)| encoder.push(*t, *v));
    let bytes = ChunkBytes { encoding: Encoding::Xor, data: Bytes::from(encoder.finish()) };
    CutAggregate { bytes, span }
}

/// The windows of a chunk and the span they are cut to.
struct ChunkWindows {
    resolution: Resolution,
    /// Where the first window begins.
    from: i64,
    range: TimeRange,
    /// Samples per window, where they are known.
    counts: Option<Floats>,
}

/// What is left of a window.
struct CutWindow {
    t: i64,
    /// The share of its samples; 1 means all.
    share: f64,
}

impl ChunkWindows {
    /// What is left of the window at `t`.
    fn left_of(&self, t: i64) -> Option<CutWindow> {
        let start = window_start(t, self.resolution).max(self.from);
        let (from, to) = (start.max(self.range.start), t.min(self.range.last()));
        if from > to {
            return None;
        }
        let length = |from: i64, to: i64| to.saturating_sub(from) as f64 + 1.0;
        let share = length(from, to) / length(start, t);
        if share >= 1.0 {
            return Some(CutWindow { t, share: 1.0 });
        }
        let count =
            self.counts.as_ref().and_then(|c| c.ts.binary_search(&t).ok().map(|at| c.values[at]));
        let share = match count.filter(|count| *count >= 1.0) {
            // whole samples, so that averages stay
            Some(count) => (count * share).round() / count,
            None if share < LEAST_SHARE => 0.0,
            None => share,
        };
        (share > 0.0).then_some(CutWindow { t: to, share })
    }

    /// What is left of a total at `t`.
    fn point(&self, t: i64) -> Option<CutWindow> {
        self.range.contains(t).then_some(CutWindow { t, share: 1.0 })
    }
}

/// A counter of floats: its first raw sample, totals at the ends of windows, the last raw value.
struct Counter {
    resolution: Resolution,
    front: Option<(i64, f64)>,
    totals: Floats,
    last_raw: Option<f64>,
    /// What resets have subtracted from the raw values of the windows after the last reset.
    lost: f64,
}

impl Counter {
    fn of(resolution: Resolution, mut all: Floats) -> Counter {
        if !matches!(all.ts[..], [.., a, b] if a == b) {
            return Counter { resolution, front: None, totals: all, last_raw: None, lost: 0.0 };
        }
        all.ts.pop();
        let last_raw = all.values.pop();
        let front = Some((all.ts.remove(0), all.values.remove(0)));
        let total = all.values.last().copied().unwrap_or_default();
        let lost = last_raw.map_or(0.0, |raw| total - raw);
        let lost = if lost > total.abs() * ROUNDING { lost } else { 0.0 };
        Counter { resolution, front, totals: all, last_raw, lost }
    }

    /// The raw value at the end of window `i`, if the chunk gives it.
    fn raw(&self, i: usize) -> Option<f64> {
        let total = self.totals.values[i];
        if self.lost == 0.0 {
            return Some(total);
        }
        (total > self.lost * (1.0 + ROUNDING)).then_some(total - self.lost)
    }

    fn cut(&self, range: TimeRange, beside: &[SeriesChunk]) -> Result<CutAggregate, Error> {
        let Floats { ts, values } = &self.totals;
        let (from, to) =
            (ts.partition_point(|t| *t < range.start), ts.partition_point(|t| *t <= range.last()));
        let front = self.front.filter(|(t, _)| range.contains(*t));
        let windows = from..to.max(from);
        let mut left = Floats::default();
        let mut shift = 0.0;
        if let Some((t, value)) = front {
            left.push(t, value);
        } else if self.front.is_some() && !windows.is_empty() {
            let value = self.begin(from, range.start, beside)?;
            shift = value - values[from];
            left.push(ts[from], value);
        }
        for i in windows.clone() {
            left.push(ts[i], values[i] + shift);
        }
        if let (Some(last_raw), Some(&last_t)) = (self.last_raw, left.ts.last()) {
            let end = match to == ts.len() {
                true => End { more: 0.0, raw: last_raw },
                false => self.end(windows.end, range.end, beside)?,
            };
            let t = if end.more > 0.0 { range.last() } else { last_t };
            if end.more > 0.0 {
                left.push(t, left.values[left.len() - 1] + end.more);
            }
            left.push(t, end.raw);
        }
        let part = encoded(&left);
        let first = ts[windows].first().copied();
        Ok(CutAggregate {
            span: part.span.map(|(front, last)| (first.unwrap_or(front), last)),
            ..part
        })
    }

    /// The value to continue from at the end of window `i`, the first that is left after a cut at
    /// `start`: above the last sample before the cut by as much as the counter grew, because a
    /// reset between the two need not show.
    fn begin(&self, i: usize, start: i64, beside: &[SeriesChunk]) -> Result<f64, Error> {
        let total = self.totals.values[i];
        if self.lost == 0.0 {
            return Ok(total);
        }
        let unknown = Ok(self.raw(i).unwrap_or(total));
        let base = match i.checked_sub(1) {
            Some(before) => Some((self.totals.ts[before], self.totals.values[before])),
            None => self.front,
        };
        let Some((base_t, base_total)) = base else { return unknown };
        let before = Beside { range: TimeRange::new(base_t, start), reach_back: true };
        let (column, last_raw) = before.stitched(beside.iter())?;
        let at_base = column.ts.partition_point(|t| *t <= base_t).checked_sub(1);
        let (Some(at_base), Some(last_raw)) = (at_base, last_raw) else { return unknown };
        let grown = column.values[column.len() - 1] - column.values[at_base];
        Ok(last_raw + (total - base_total - grown).max(0.0))
    }

    /// How the part that is left before window `next` ends; a cut at `end` falls into that window.
    fn end(&self, next: usize, end: i64, beside: &[SeriesChunk]) -> Result<End, Error> {
        let (total, raw) = match (next.checked_sub(1), self.front) {
            (Some(last), _) => (self.totals.values[last], self.raw(last)),
            (None, Some((_, front))) => (front, (self.lost == 0.0).then_some(front)),
            (None, None) => return Ok(End { more: 0.0, raw: 0.0 }),
        };
        if let Some(raw) = raw {
            return Ok(End { more: 0.0, raw });
        }
        let after =
            Beside { range: TimeRange::from_closed(end, self.totals.ts[next]), reach_back: false };
        let (column, _) =
            after.stitched(beside.iter().filter(|c| c.resolution() < self.resolution))?;
        let (Some(first), Some(last)) = (column.values.first(), column.values.last()) else {
            // the first raw sample of a chunk whose windows are not finer; how much it grew until
            // then is unknown
            let (coarse, _) = after.stitched(beside.iter())?;
            return Ok(End { more: 0.0, raw: coarse.values.first().copied().unwrap_or(total) });
        };
        let grown = (self.totals.values[next] - total - (last - first)).max(0.0);
        Ok(match grown <= *first {
            true => End { more: 0.0, raw: first - grown },
            // a reset before the first sample, which then counts from zero; what came before the
            // reset is added
            false => End { more: grown - first, raw: grown },
        })
    }
}

/// The end of a counter that is cut.
struct End {
    /// What it grew after its last whole window and before a reset.
    more: f64,
    /// The raw value that the next sample continues from.
    raw: f64,
}

/// The time on the other side of a cut that shows how much a counter grew.
struct Beside {
    range: TimeRange,
    /// Together with what came last before it.
    reach_back: bool,
}

impl Beside {
    /// The counter of one of the replicas, stitched, and its last raw value.
    fn stitched<'a>(
        &self,
        chunks: impl Iterator<Item = &'a SeriesChunk> + Clone,
    ) -> Result<(Floats, Option<f64>), Error> {
        let Beside { range, reach_back } = *self;
        let touches = |c: &&SeriesChunk| {
            let (from, to) = covered_span(c);
            range.overlaps_closed(from, to)
        };
        let runs = overlap_split(chunks.clone().filter(touches).cloned().collect());
        // the replica that comes closest to the cut
        let nearest = match reach_back {
            true => runs.into_iter().max_by_key(|run| run.last().map(|c| c.max_time)),
            false => runs.into_iter().next(),
        };
        let mut run = nearest.unwrap_or_default();
        let begins = run.first().map_or(i64::MAX, |c| c.min_time);
        if reach_back && begins > range.start {
            let before = chunks.filter(|c| c.max_time < range.start).max_by_key(|c| c.max_time);
            run.splice(0..0, before.cloned());
        }
        let (mut stitch, mut column) = (CounterStitch::new(), Floats::default());
        for chunk in &run {
            let bytes = match &chunk.content {
                ChunkContent::Raw(raw) => raw,
                ChunkContent::Aggregates(_) => match chunk.aggregate(Aggregate::Counter) {
                    Some(bytes) => bytes,
                    None => continue,
                },
            };
            if bytes.encoding.is_histogram() {
                continue;
            }
            let Floats { ts, values } = floats(bytes)?;
            // including the window that the end of the range falls into: a longer chunk ends with
            // its last sample
            let begins = |t: i64| window_start(t, chunk.resolution()).max(range.start);
            let inside = |t: &i64| (reach_back || *t >= range.start) && begins(*t) <= range.last();
            let (from, to) = (ts.iter().position(inside), ts.iter().rposition(inside));
            if let (Some(from), Some(to)) = (from, to) {
                stitch.push_chunk(&ts[from..=to], &values[from..=to], &mut column);
            }
        }
        let last_raw = stitch.last_value();
        Ok((column, last_raw))
    }
}

#[cfg(test)]
mod tests;
