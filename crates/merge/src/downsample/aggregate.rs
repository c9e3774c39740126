//! AggrChunks as columns, and the pass from finer aggregates to coarser ones.

use bytes::Bytes;
use tsdb::chunk::{Aggregate, Encoding, XorEncoder, decode_floats};

use super::{Extent, NO_TIME, WindowTimes, batch_count, for_each_window};
use crate::column::Floats;
use crate::counter::CounterStitch;
use crate::error::Error;
use crate::series::{ChunkBytes, SeriesChunk};

/// The decoded float sub-chunks of one AggrChunk, indexed by [`Aggregate`]. The counter has its
/// first raw sample in front and its last time twice, the second time with the last raw value.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct AggregateColumns {
    pub(super) columns: [Option<Floats>; 5],
    /// The times of the first and the last sample of each window of `count`, or [`NO_TIME`].
    pub(super) first_t: Vec<i64>,
    pub(super) last_t: Vec<i64>,
}

impl AggregateColumns {
    /// Decodes a chunk of windows of `resolution_ms`.
    pub(super) fn decode(
        chunk: &SeriesChunk,
        resolution_ms: i64,
    ) -> Result<AggregateColumns, Error> {
        let mut columns = AggregateColumns::default();
        for aggregate in Aggregate::ALL {
            if let Some(bytes) = chunk.aggregate(aggregate) {
                let mut floats = Floats::default();
                decode_floats(bytes.encoding, &bytes.data, &mut floats.ts, &mut floats.values)?;
                columns.columns[aggregate as usize] = Some(floats);
            }
        }
        columns.take_times(chunk, resolution_ms)?;
        Ok(columns)
    }

    /// Takes the times of samples from the chunk, and where it has none, what the borders of a
    /// batch tell: the counter begins with the first sample.
    fn take_times(&mut self, chunk: &SeriesChunk, resolution_ms: i64) -> Result<(), Error> {
        let column = |aggregate: Aggregate| self.columns[aggregate as usize].as_ref();
        let ts = column(Aggregate::Count).map_or(&[][..], |count| &count.ts);
        let counter = column(Aggregate::Counter).and_then(|counter| counter.ts.first().copied());
        let mut times = WindowTimes::of(chunk, ts, resolution_ms)?;
        if let Some((first, known)) = times.first_t.first_mut().zip(counter)
            && *first == NO_TIME
        {
            *first = known;
        }
        (self.first_t, self.last_t) = (times.first_t, times.last_t);
        Ok(())
    }

    /// The times of the first and the last window. The counter's first raw sample is not a window.
    pub(super) fn span(&self) -> Option<(i64, i64)> {
        let windows = self.columns.iter().enumerate().filter_map(|(i, column)| {
            let skip = usize::from(i == Aggregate::Counter as usize);
            let ts = column.as_ref()?.ts.get(skip..)?;
            Some((*ts.first()?, *ts.last()?))
        });
        windows.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))
    }

    /// How many windows Thanos counts in the chunk: those of `count`.
    fn windows(&self) -> usize {
        self.columns[Aggregate::Count as usize].as_ref().map_or(0, Floats::len)
    }
}

pub(super) fn encode_xor(samples: impl Iterator<Item = (i64, f64)>) -> ChunkBytes {
    let mut encoder = XorEncoder::new();
    samples.for_each(|(t, v)| encoder.push(t, v));
    ChunkBytes { encoding: Encoding::Xor, data: Bytes::from(encoder.finish()) }
}

/// The samples of two columns.
pub(super) fn columns(ts: &[i64], values: &[f64]) -> impl Iterator<Item = (i64, f64)> {
    ts.iter().copied().zip(values.iter().copied())
}

/// Joins neighbouring chunks of windows of `input_ms` into fewer ones of windows of `output_ms`.
/// Chunks are never cut: only at their borders are the raw values of the counter known.
pub(super) fn coarser(
    chunks: &[AggregateColumns],
    input_ms: i64,
    output_ms: i64,
) -> Vec<AggregateColumns> {
    let spans: Vec<_> = chunks.iter().filter_map(AggregateColumns::span).collect();
    let (Some(first), Some(last)) = (spans.first(), spans.last()) else { return Vec::new() };
    let count = chunks.iter().map(AggregateColumns::windows).sum();
    let input = Extent { first: first.0, last: last.1, step_ms: input_ms, count };
    let batches = batch_count(input, output_ms);
    chunks.chunks((chunks.len() / batches).max(1)).map(|part| join(part, output_ms)).collect()
}

fn join(part: &[AggregateColumns], resolution_ms: i64) -> AggregateColumns {
    use Aggregate::{Count, Counter, Max, Min, Sum};
    let mut joined = AggregateColumns::default();
    let mut all = Floats::default();
    for aggregate in [Count, Sum, Min, Max] {
        all.clear();
        for column in part.iter().filter_map(|c| c.columns[aggregate as usize].as_ref()) {
            let before = all.len();
            all.ts.extend_from_slice(&column.ts);
            all.values.extend_from_slice(&column.values);
            super::drop_stale(&mut all, before);
        }
        if all.is_empty() {
            continue;
        }
        let mut out = Floats::default();
        for_each_window(&all.ts, resolution_ms, |t, rows| {
            let values = all.values[rows].iter();
            out.push(
                t,
                match aggregate {
                    Min => values.fold(f64::MAX, |min, v| if *v < min { *v } else { min }),
                    Max => values.fold(f64::MIN, |max, v| if *v > max { *v } else { max }),
                    Count | Sum | Counter => values.fold(0.0, |sum, v| sum + v),
                },
            );
        });
        joined.columns[aggregate as usize] = Some(out);
    }
    joined.columns[Counter as usize] = join_counters(part, resolution_ms);
    (joined.first_t, joined.last_t) = join_times(part, resolution_ms);
    joined
}

/// The times of the first and of the last sample of the windows that `count` has.
fn join_times(part: &[AggregateColumns], resolution_ms: i64) -> (Vec<i64>, Vec<i64>) {
    let (mut ts, mut first_t, mut last_t) = (Vec::new(), Vec::new(), Vec::new());
    for chunk in part {
        let Some(count) = &chunk.columns[Aggregate::Count as usize] else { continue };
        let mut kept = count.clone();
        super::drop_stale(&mut kept, 0);
        if kept.len() == count.len() {
            first_t.extend_from_slice(&chunk.first_t);
            last_t.extend_from_slice(&chunk.last_t);
        } else {
            first_t.resize(ts.len() + kept.len(), NO_TIME);
            last_t.resize(ts.len() + kept.len(), NO_TIME);
        }
        ts.append(&mut kept.ts);
    }
    let (mut firsts, mut lasts) = (Vec::new(), Vec::new());
    for_each_window(&ts, resolution_ms, |_, rows| {
        firsts.push(first_t[rows.start]);
        lasts.push(last_t[rows.end - 1]);
    });
    (firsts, lasts)
}

fn join_counters(part: &[AggregateColumns], resolution_ms: i64) -> Option<Floats> {
    let (mut stitch, mut all) = (CounterStitch::new(), Floats::default());
    for counter in part.iter().filter_map(|c| c.columns[Aggregate::Counter as usize].as_ref()) {
        stitch.push_chunk(&counter.ts, &counter.values, &mut all);
    }
    let first = *all.values.first()?;
    let mut out = Floats::default();
    out.push(all.ts[0], first);
    let (mut total, mut last) = (first, first);
    for_each_window(&all.ts, resolution_ms, |t, rows| {
        let skip = usize::from(rows.start == 0);
        for &v in &all.values[rows][skip..] {
            total += if v < last { v } else { v - last };
            last = v;
        }
        out.push(t, total);
    });
    out.push(out.ts[out.len() - 1], stitch.last_value()?);
    Some(out)
}
