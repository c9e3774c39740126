//! When the samples were taken for which windows stand.
//!
//! A downsampled chunk may come with another one ([`SeriesChunk::times`]): a sample for each
//! window, at the time of the window's last sample, whose value is how many milliseconds before it
//! the first one was taken. Windows without an entry are those whose times are not known.

use bytes::Bytes;
use model::TimeRange;
use tsdb::chunk::{Encoding, XorEncoder, decode_floats};

use crate::chunks::overlap_split;
use crate::column::{Column, Floats};
use crate::cut::covered_span;
use crate::dedup::{CounterColumn, Dedup, SeriesReplica, picks};
use crate::downsample::NO_TIME;
use crate::error::Error;
use crate::read::{ValueOf, read_run};
use crate::replicas::{ReplicaReading, coarse_spans, joints};
use crate::series::{ChunkBytes, SeriesChunk};

#[cfg(test)]
mod tests;

/// Longer spans are no longer exact as floats.
const MOST_MS: f64 = (1u64 << 53) as f64;

/// When the samples were taken for which a sample stands that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SampleTime {
    /// That of the last of them in the replica that was read, whose value a counter has.
    pub t: i64,
    /// From the first to the last of them in any replica.
    pub span: TimeRange,
}

/// The entries for windows with these times of their first and last samples; none unless all are
/// known.
pub(crate) fn encode_times(first_t: &[i64], last_t: &[i64]) -> Option<ChunkBytes> {
    let known = first_t.iter().chain(last_t).all(|t| *t != NO_TIME);
    let spans =
        first_t.iter().zip(last_t).map(|(first, last)| TimeRange::from_closed(*first, *last));
    if known { encode_spans(spans) } else { None }
}

fn encode_spans(spans: impl Iterator<Item = TimeRange>) -> Option<ChunkBytes> {
    let mut spans = spans.peekable();
    spans.peek()?;
    let mut encoder = XorEncoder::new();
    spans.for_each(|span| {
        encoder.push(span.last(), span.last().saturating_sub(span.start) as f64);
    });
    Some(ChunkBytes { encoding: Encoding::Xor, data: Bytes::from(encoder.finish()) })
}

/// The spans from the first to the last sample of windows, in order; none where what the chunk
/// says is impossible.
fn decode_spans(bytes: &ChunkBytes) -> Result<Vec<TimeRange>, Error> {
    let mut floats = Floats::default();
    decode_floats(bytes.encoding, &bytes.data, &mut floats.ts, &mut floats.values)?;
    let mut spans: Vec<TimeRange> = Vec::with_capacity(floats.len());
    for (&last, &length) in floats.ts.iter().zip(&floats.values) {
        let possible = length.fract() == 0.0 && (0.0..=MOST_MS).contains(&length);
        let first = last.checked_sub(length as i64).filter(|_| possible && last < i64::MAX);
        let Some(first) = first else { return Ok(Vec::new()) };
        if spans.last().is_some_and(|before| first <= before.last()) {
            return Ok(Vec::new());
        }
        spans.push(TimeRange::from_closed(first, last));
    }
    Ok(spans)
}

/// The entries of the windows whose samples all lie inside `range`.
pub(crate) fn cut_times(bytes: &ChunkBytes, range: TimeRange) -> Result<Option<ChunkBytes>, Error> {
    let inside = |span: &TimeRange| range.start <= span.start && span.last() <= range.last();
    Ok(encode_spans(decode_spans(bytes)?.into_iter().filter(inside)))
}

/// The times of the first and the last sample of a chunk's windows, which are at `ts`; nothing
/// where the chunk does not say.
pub(crate) fn window_times(
    chunk: &SeriesChunk,
    ts: &[i64],
    resolution_ms: i64,
) -> Result<Vec<Option<TimeRange>>, Error> {
    let Some(bytes) = &chunk.times else { return Ok(vec![None; ts.len()]) };
    let spans = decode_spans(bytes)?;
    Ok(ts.iter().map(|t| span_at(&spans, *t, resolution_ms)).collect())
}

/// The span of the window that ends at `t`, or with its last sample before it.
fn span_at(spans: &[TimeRange], t: i64, resolution_ms: i64) -> Option<TimeRange> {
    let window = |t: i64| t.div_euclid(resolution_ms.max(1));
    let before = spans.partition_point(|span| span.last() <= t).checked_sub(1)?;
    Some(spans[before]).filter(|span| window(span.last()) == window(t))
}

/// When the samples behind those of a column were taken: an entry for each, or none at all where
/// no chunk says anything. The column was read from the chunks with
/// [`read_replicas`](crate::read_replicas).
///
/// # Errors
/// As for reading.
pub fn sample_times(
    chunks: Vec<SeriesChunk>,
    column: &Column,
    reading: ReplicaReading,
) -> Result<Vec<Option<SampleTime>>, Error> {
    if chunks.iter().all(|chunk| chunk.times.is_none()) {
        return Ok(Vec::new());
    }
    let runs = match reading.dedup {
        Some(_) => overlap_split(chunks),
        None => vec![chunks],
    };
    if let [run] = &runs[..] {
        let replica = ReplicaTimes::new(run, column.times())?;
        let count = replica.samples.len();
        return Ok((0..count).map(|i| time_of(std::slice::from_ref(&replica), 0, i)).collect());
    }
    let mut replicas = Vec::with_capacity(runs.len());
    let mut columns = Vec::with_capacity(runs.len());
    for run in &runs {
        let ts = read_run_times(run, reading)?;
        replicas.push(ReplicaTimes::new(run, ts.clone())?);
        let column = Floats { values: vec![0.0; ts.len()], ts };
        columns.push(SeriesReplica { column, joints: joints(run), coarse: coarse_spans(run) });
    }
    let mut chosen = picks(&columns, reading.dedup.unwrap_or(Dedup::Chain)).into_iter().peekable();
    let found = column.times().into_iter().map(|t| {
        while chosen.next_if(|pick| pick.t < t).is_some() {}
        // a counter repeats samples around resets that were not chosen
        let pick = chosen.peek().filter(|pick| pick.t == t)?;
        time_of(&replicas, pick.replica, pick.index)
    });
    Ok(found.collect())
}

/// The times of the samples of a run, as they are before replicas are merged.
fn read_run_times(run: &[SeriesChunk], reading: ReplicaReading) -> Result<Vec<i64>, Error> {
    let mut column = read_run(run, reading.value)?;
    column.trim(reading.range);
    if reading.value == ValueOf::Counter {
        match &mut column {
            Column::Floats(floats) => floats.leave_out_nan(),
            Column::Mixed(samples) => samples.leave_out_nan(),
        }
    }
    Ok(column.times())
}

/// What a replica says of its samples, in order of time.
struct ReplicaTimes {
    samples: Vec<OwnTime>,
}

/// A downsampled chunk, from where its first window begins.
struct CoarseChunk {
    first: i64,
    last: i64,
    resolution: i64,
}

impl CoarseChunk {
    fn of(chunk: &SeriesChunk) -> Option<CoarseChunk> {
        let resolution = chunk.resolution().millis();
        let (first, last) = covered_span(chunk);
        (resolution > 0).then_some(CoarseChunk { first, last, resolution })
    }
}

/// A sample of a replica.
struct OwnTime {
    t: i64,
    /// The window that it stands for; `None` for a raw one.
    window: Option<TimeRange>,
    /// From the first to the last sample in the window.
    span: Option<TimeRange>,
}

impl ReplicaTimes {
    /// Of the samples at `ts`, which were read from the run.
    fn new(run: &[SeriesChunk], ts: Vec<i64>) -> Result<ReplicaTimes, Error> {
        let mut spans = Vec::new();
        for times in run.iter().filter_map(|chunk| chunk.times.as_ref()) {
            spans.append(&mut decode_spans(times)?);
        }
        spans.sort_by_key(|span| span.last());
        let chunks: Vec<CoarseChunk> = run.iter().filter_map(CoarseChunk::of).collect();
        let own = |t: i64| {
            let after = chunks.partition_point(|chunk| chunk.first <= t);
            let Some(chunk) = chunks[..after].iter().rev().find(|chunk| t <= chunk.last) else {
                return OwnTime { t, window: None, span: Some(TimeRange::from_closed(t, t)) };
            };
            let start = t.div_euclid(chunk.resolution).saturating_mul(chunk.resolution);
            let window = TimeRange::new(start, start.saturating_add(chunk.resolution));
            let next = spans.partition_point(|span| span.last() <= t);
            // a batch of a counter begins with its first sample, before the end of its window
            let begins = spans.get(next).is_some_and(|span| span.start == t);
            let span = if begins {
                Some(TimeRange::from_closed(t, t))
            } else {
                span_at(&spans, t, chunk.resolution)
            };
            OwnTime { t, window: Some(window), span }
        };
        Ok(ReplicaTimes { samples: ts.into_iter().map(own).collect() })
    }

    /// The samples inside a window.
    fn inside(&self, window: TimeRange) -> &[OwnTime] {
        let from = self.samples.partition_point(|sample| sample.t < window.start);
        let to = self.samples.partition_point(|sample| sample.t <= window.last());
        self.samples.get(from..to).unwrap_or_default()
    }
}

/// The times of one sample; nothing where a replica has the same window and does not say when it
/// has its samples.
fn time_of(replicas: &[ReplicaTimes], replica: usize, index: usize) -> Option<SampleTime> {
    let own = &replicas[replica].samples[index];
    let mut span = own.span?;
    let t = span.last();
    if let Some(window) = own.window {
        for other in replicas.iter().flat_map(|replica| replica.inside(window)) {
            let other = other.span?;
            span = TimeRange::new(span.start.min(other.start), span.end.max(other.end));
        }
    }
    Some(SampleTime { t, span })
}
