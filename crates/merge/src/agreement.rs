//! How far sources that should hold the same data agree: the samples they share and those that
//! differ.

use std::sync::Arc;

use model::{FloatHistogram, SampleValue};
use tsdb::chunk::{Aggregate, num_samples};

use crate::chunks::compare_chunks;
use crate::column::Column;
use crate::error::{Case, Error};
use crate::read::{ValueOf, read_chunk};
use crate::series::{ChunkContent, SeriesChunk};

#[cfg(test)]
mod tests;

/// The samples of one series that two or more sources hold at equal timestamps. Sums over many
/// series add up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Agreement {
    /// Timestamps at which two or more sources have a sample.
    pub shared: u64,
    /// The number of those at which the samples are not all the same.
    pub differing: u64,
}

/// Compares what several sources (a list of chunks per block, in any order) hold of one series.
///
/// Floats are the same bit by bit, histograms by content; a float is never the same as a histogram.
/// In downsampled chunks, a window is a sample, and its sum is the value. Where the chunks of one
/// list overlap, the list has the sample of the one that begins first. Only what overlaps is
/// decoded, and identical chunks are not.
///
/// # Errors
/// Damaged chunks, and downsampled ones without a sum.
pub fn agreement(lists: &[Vec<SeriesChunk>]) -> Result<Agreement, Error> {
    let mut held = Vec::with_capacity(lists.iter().map(Vec::len).sum());
    for (list, chunks) in lists.iter().enumerate() {
        held.extend(chunks.iter().map(|chunk| ListedChunk { list, chunk }));
    }
    held.sort_by(|a, b| compare_chunks(a.chunk, b.chunk).then(a.list.cmp(&b.list)));
    let mut agreement = Agreement::default();
    let mut start = 0;
    while start < held.len() {
        let mut until = held[start].chunk.max_time;
        let mut end = start + 1;
        while end < held.len() && held[end].chunk.min_time <= until {
            until = until.max(held[end].chunk.max_time);
            end += 1;
        }
        agreement.add_overlapping(&held[start..end])?;
        start = end;
    }
    Ok(agreement)
}

/// A chunk and the number of the list that holds it.
#[derive(Clone, Copy)]
struct ListedChunk<'a> {
    list: usize,
    chunk: &'a SeriesChunk,
}

/// A sample and the number of the list that holds it.
struct HeldSample {
    t: i64,
    list: usize,
    value: ExactValue,
}

#[derive(Clone)]
enum ExactValue {
    /// The bits of a float: a NaN is the same as itself.
    Float(u64),
    Histogram(Arc<FloatHistogram>),
}

impl ExactValue {
    fn is_same(&self, other: &ExactValue) -> bool {
        match (self, other) {
            (ExactValue::Float(a), ExactValue::Float(b)) => a == b,
            (ExactValue::Histogram(a), ExactValue::Histogram(b)) => {
                Arc::ptr_eq(a, b) || a.same_data(b)
            }
            (ExactValue::Float(_), ExactValue::Histogram(_))
            | (ExactValue::Histogram(_), ExactValue::Float(_)) => false,
        }
    }
}

impl Agreement {
    /// Adds chunks that overlap, in order.
    fn add_overlapping(&mut self, held: &[ListedChunk<'_>]) -> Result<(), Error> {
        let [first, rest @ ..] = held else { return Ok(()) };
        if rest.iter().all(|h| h.list == first.list) {
            return Ok(());
        }
        if rest.iter().all(|h| h.chunk == first.chunk) {
            self.shared += samples_of(first.chunk)?;
            return Ok(());
        }
        // Stable: among equal times in one list, the first chunk's sample stays in front.
        let mut samples = decode(held)?;
        samples.sort_by_key(|s| (s.t, s.list));
        samples.dedup_by_key(|s| (s.t, s.list));
        for same_time in samples.chunk_by(|a, b| a.t == b.t) {
            if let [first, others @ ..] = same_time
                && !others.is_empty()
            {
                self.shared += 1;
                self.differing += u64::from(others.iter().any(|s| !s.value.is_same(&first.value)));
            }
        }
        Ok(())
    }
}

fn samples_of(chunk: &SeriesChunk) -> Result<u64, Error> {
    let bytes = match &chunk.content {
        ChunkContent::Raw(raw) => raw,
        ChunkContent::Aggregates(_) => chunk
            .aggregate(Aggregate::Sum)
            .ok_or(Error(Case::MissingAggregate { aggregate: "sum" }))?,
    };
    Ok(num_samples(bytes.encoding, &bytes.data)? as u64)
}

/// The samples of all chunks. Identical ones, which stand next to each other, are decoded once.
fn decode(held: &[ListedChunk<'_>]) -> Result<Vec<HeldSample>, Error> {
    let mut samples = Vec::new();
    for same in held.chunk_by(|a, b| a.chunk == b.chunk) {
        let mut column = Column::default();
        read_chunk(same[0].chunk, ValueOf::Sum, &mut column)?;
        for ListedChunk { list, .. } in same {
            append(&column, *list, &mut samples);
        }
    }
    Ok(samples)
}

fn append(column: &Column, list: usize, samples: &mut Vec<HeldSample>) {
    match column {
        Column::Floats(floats) => {
            let floats = floats.ts.iter().zip(&floats.values);
            samples.extend(floats.map(|(t, v)| HeldSample {
                t: *t,
                list,
                value: ExactValue::Float(v.to_bits()),
            }));
        }
        Column::Mixed(mixed) => samples.extend(mixed.iter().map(|sample| {
            let value = match &sample.value {
                SampleValue::Float(v) => ExactValue::Float(v.to_bits()),
                SampleValue::Histogram(h) => ExactValue::Histogram(Arc::clone(h)),
            };
            HeldSample { t: sample.t, list, value }
        })),
    }
}
