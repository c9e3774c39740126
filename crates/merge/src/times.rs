//! When the samples were taken for which windows stand.
//!
//! A downsampled chunk may come with them ([`SeriesChunk::times`]). Two varints for each window:
//! how far its last sample is after that of the window before, less how far that one was after its
//! own; and how long its samples span, less the span before. Of regular scrapes, both are 0.
//! Windows without an entry are those whose times are not known.

use bytes::Bytes;
use model::TimeRange;
use tsdb::varint::{put_varint, read_varint};

use crate::chunks::{overlap, split};
use crate::column::{Column, Floats};
use crate::cut::covered_span;
use crate::dedup::{CounterColumn, Dedup, SeriesReplica, picks};
use crate::downsample::NO_TIME;
use crate::error::Error;
use crate::read::{ValueOf, read_run_while};
use crate::replicas::{GoesOn, ReplicaReading, coarse_spans, joints};
use crate::series::SeriesChunk;

#[cfg(test)]
mod tests;

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
pub(crate) fn encode_times(first_t: &[i64], last_t: &[i64]) -> Option<Bytes> {
    let known = first_t.iter().chain(last_t).all(|t| *t != NO_TIME);
    let spans =
        first_t.iter().zip(last_t).map(|(first, last)| TimeRange::from_closed(*first, *last));
    if known { encode_spans(spans) } else { None }
}

/// The entry before.
#[derive(Default)]
struct Entry {
    last: i64,
    step: i64,
    length: i64,
}

fn encode_spans(spans: impl Iterator<Item = TimeRange>) -> Option<Bytes> {
    let (mut out, mut before) = (Vec::new(), Entry::default());
    for span in spans {
        let last = span.last();
        let step = last.wrapping_sub(before.last);
        let length = last.wrapping_sub(span.start);
        put_varint(&mut out, step.wrapping_sub(before.step));
        put_varint(&mut out, length.wrapping_sub(before.length));
        before = Entry { last, step, length };
    }
    (!out.is_empty()).then(|| Bytes::from(out))
}

/// The spans from the first to the last sample of windows, in order; none where what the bytes
/// say is impossible.
fn decode_spans(mut bytes: &[u8]) -> Vec<TimeRange> {
    // most entries are of two to six bytes
    let mut spans: Vec<TimeRange> = Vec::with_capacity(bytes.len() / 4);
    let mut before = Entry::default();
    let mut end_before = i64::MIN;
    while !bytes.is_empty() {
        let Some((step, length)) = take_varint(&mut bytes).zip(take_varint(&mut bytes)) else {
            return Vec::new();
        };
        let step = before.step.wrapping_add(step);
        let length = before.length.wrapping_add(length);
        let last = before.last.wrapping_add(step);
        let first = last.checked_sub(length).filter(|_| length >= 0 && last < i64::MAX);
        let Some(first) = first.filter(|first| *first > end_before) else { return Vec::new() };
        spans.push(TimeRange::from_closed(first, last));
        end_before = last;
        before = Entry { last, step, length };
    }
    spans
}

fn take_varint(bytes: &mut &[u8]) -> Option<i64> {
    let (value, length) = read_varint(bytes)?;
    *bytes = bytes.get(length..)?;
    Some(value)
}

/// The entries of the windows whose samples all lie inside `range`.
pub(crate) fn cut_times(bytes: &[u8], range: TimeRange) -> Option<Bytes> {
    let inside = |span: &TimeRange| range.start <= span.start && span.last() <= range.last();
    encode_spans(decode_spans(bytes).into_iter().filter(inside))
}

/// The times of the first and the last sample of a chunk's windows, which are at `ts`; nothing
/// where the chunk does not say.
pub(crate) fn window_times(
    chunk: &SeriesChunk,
    ts: &[i64],
    resolution_ms: i64,
) -> Vec<Option<TimeRange>> {
    let Some(bytes) = &chunk.times else { return vec![None; ts.len()] };
    let spans = decode_spans(bytes);
    ts.iter().map(|t| span_at(&spans, *t, resolution_ms)).collect()
}

/// The span of the window that ends at `t`, or with its last sample before it.
fn span_at(spans: &[TimeRange], t: i64, resolution_ms: i64) -> Option<TimeRange> {
    let window = |t: i64| t.div_euclid(resolution_ms.max(1));
    let before = spans.partition_point(|span| span.last() <= t).checked_sub(1)?;
    Some(spans[before])
        .filter(|span| window(span.start) == window(t) && window(span.last()) == window(t))
}

/// When the samples behind those of a column were taken: an entry for each, or none at all where
/// no chunk says anything. The column was read from the chunks with
/// [`read_replicas`](crate::read_replicas).
///
/// # Errors
/// As for reading.
pub fn sample_times(
    chunks: &[SeriesChunk],
    column: &Column,
    reading: ReplicaReading,
    goes_on: GoesOn<'_>,
) -> Result<Vec<Option<SampleTime>>, Error> {
    if chunks.iter().all(|chunk| chunk.times.is_none()) {
        return Ok(Vec::new());
    }
    let of_run = |run: &[SeriesChunk]| match column {
        Column::Floats(floats) => times_of_run(run, &floats.ts),
        Column::Mixed(_) => times_of_run(run, &column.times()),
    };
    if reading.dedup.is_none() || !overlap(chunks) {
        return Ok(of_run(chunks));
    }
    let runs = split(chunks.to_vec(), goes_on);
    if let [run] = &runs[..] {
        return Ok(of_run(run));
    }
    let mut replicas = Vec::with_capacity(runs.len());
    let mut columns = Vec::with_capacity(runs.len());
    for run in &runs {
        let ts = read_run_times(run, reading, goes_on)?;
        replicas.push(ReplicaTimes::new(run, &ts));
        let column = Floats { values: vec![0.0; ts.len()], ts };
        columns.push(SeriesReplica { column, joints: joints(run), coarse: coarse_spans(run) });
    }
    let dedup = reading.dedup.unwrap_or(Dedup::Chain);
    let mut chosen = picks(&columns, dedup, goes_on).into_iter().peekable();
    let found = column.times().into_iter().map(|t| {
        while chosen.next_if(|pick| pick.t < t).is_some() {}
        // a counter repeats samples around resets that were not chosen
        let pick = chosen.peek().filter(|pick| pick.t == t)?;
        time_of(&replicas, pick.replica, pick.index)
    });
    Ok(found.collect())
}

/// The times of the samples of a run, as they are before replicas are merged.
fn read_run_times(
    run: &[SeriesChunk],
    reading: ReplicaReading,
    goes_on: GoesOn<'_>,
) -> Result<Vec<i64>, Error> {
    let mut column = read_run_while(run, reading.value, goes_on)?;
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

/// The times of the samples at `ts`, which ascend and were read from the run, where there is no
/// other replica.
fn times_of_run(run: &[SeriesChunk], ts: &[i64]) -> Vec<Option<SampleTime>> {
    let mut walk = TimesWalk::new(run);
    let mut out = Vec::with_capacity(ts.len());
    let (mut window, mut first) = (None, 0);
    for t in ts {
        let own = walk.at(*t);
        if own.window.is_none() || own.window != window {
            join(&mut out[first..]);
            (window, first) = (own.window, out.len());
        }
        out.push(own.span.map(|span| SampleTime { t: span.last(), span }));
    }
    join(&mut out[first..]);
    out
}

/// Gives the samples of one window the span of all of them; as with several replicas, nothing is
/// known of a window unless all of it is.
fn join(samples: &mut [Option<SampleTime>]) {
    if samples.len() < 2 {
        return;
    }
    let both = |a: TimeRange, b: TimeRange| TimeRange::new(a.start.min(b.start), a.end.max(b.end));
    let known: Option<Vec<TimeRange>> = samples.iter().map(|s| s.map(|s| s.span)).collect();
    let whole = known.into_iter().flatten().reduce(both);
    for sample in samples {
        *sample = sample.zip(whole).map(|(own, span)| SampleTime { span, ..own });
    }
}

/// Goes through the chunks and spans of a replica together with its samples.
struct TimesWalk {
    chunks: Vec<CoarseChunk>,
    spans: Vec<TimeRange>,
    /// The last chunk that begins at or before the sample, and one.
    chunk: usize,
    /// The first span that ends after the sample.
    next: usize,
}

impl TimesWalk {
    fn new(run: &[SeriesChunk]) -> TimesWalk {
        let mut spans = Vec::new();
        for times in run.iter().filter_map(|chunk| chunk.times.as_ref()) {
            spans.append(&mut decode_spans(times));
        }
        if !spans.is_sorted_by_key(|span| span.last()) {
            spans.sort_by_key(|span| span.last());
        }
        let chunks = run.iter().filter_map(CoarseChunk::of).collect();
        TimesWalk { chunks, spans, chunk: 0, next: 0 }
    }

    /// The sample at `t`, which is not before the one asked for before.
    fn at(&mut self, t: i64) -> OwnTime {
        while self.chunks.get(self.chunk).is_some_and(|chunk| chunk.first <= t) {
            self.chunk += 1;
        }
        while self.spans.get(self.next).is_some_and(|span| span.last() <= t) {
            self.next += 1;
        }
        let Some(chunk) = self.chunks[..self.chunk].iter().rev().find(|chunk| t <= chunk.last)
        else {
            return OwnTime { t, window: None, span: Some(TimeRange::from_closed(t, t)) };
        };
        let start = t.div_euclid(chunk.resolution).saturating_mul(chunk.resolution);
        let window = TimeRange::new(start, start.saturating_add(chunk.resolution));
        // a batch of a counter begins with its first sample, before the end of its window
        let begins = self.spans.get(self.next).is_some_and(|span| span.start == t);
        let span = match self.next.checked_sub(1) {
            _ if begins => Some(TimeRange::from_closed(t, t)),
            Some(before) => Some(self.spans[before]).filter(|span| span.start >= start),
            None => None,
        };
        OwnTime { t, window: Some(window), span }
    }
}

impl ReplicaTimes {
    /// Of the samples at `ts`, which ascend and were read from the run.
    fn new(run: &[SeriesChunk], ts: &[i64]) -> ReplicaTimes {
        let mut walk = TimesWalk::new(run);
        ReplicaTimes { samples: ts.iter().map(|t| walk.at(*t)).collect() }
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
