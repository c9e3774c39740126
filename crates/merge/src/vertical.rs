//! Vertical merge: the chunks that several blocks hold of one series become one run without
//! overlap, as Prometheus' compacting merger makes it. What does not overlap passes through as
//! bytes.

use std::cmp::Ordering;

use model::histogram::Histogram;
use model::{FloatHistogram, Sample, SampleValue};
use tsdb::chunk::Encoding;

use crate::chunks::overlap_split;
use crate::column::{Column, Floats};
use crate::cutter::{ChunkCutter, SampleRef};
use crate::dedup::{Dedup, chain, penalty};
use crate::error::{Case, Error};
use crate::loser_tree::LoserTree;
use crate::read::{ValueOf, read_run};
use crate::series::{ChunkContent, SeriesChunk};

#[cfg(test)]
mod tests;

/// Merges one list of chunks per block. Lists may be in any order and may contain chunks that
/// overlap; the result is sorted, without overlap, and the same for the same lists in the same
/// order. What overlaps within a list is not a replica of itself: all its samples stay, however the
/// lists are merged.
///
/// [`Dedup::Chain`] is for data that exists twice: it would mix the gauges and counters of
/// replicas. [`Dedup::Penalty`] does not raise counters here. Overlapping chunks are first sorted
/// into runs as at query time, so that both ways give the same samples.
///
/// A chunk that overlaps no other passes as bytes: its span is trusted. Where decoded chunks turn
/// out to hold samples beyond their spans, what these overlap is merged with them.
///
/// # Errors
/// Damaged chunks, and downsampled chunks that overlap without being identical: batches cannot be
/// mixed sample by sample without losing the raw values at their borders.
pub fn merge_vertically(
    lists: Vec<Vec<SeriesChunk>>,
    how: Dedup,
) -> Result<Vec<SeriesChunk>, Error> {
    let mut merged: Vec<SeriesChunk> = Vec::with_capacity(lists.iter().map(Vec::len).sum());
    let lists = lists.into_iter().map(|list| settled(list, how)).collect::<Result<_, Error>>()?;
    let mut sources = ChunkLists::new(lists);
    while let Some(first) = sources.pop(i64::MAX) {
        let mut end = first.max_time;
        let mut overlapping = vec![first];
        loop {
            while let Some(next) = sources.pop(end) {
                if overlapping.last() != Some(&next) {
                    end = end.max(next.max_time);
                    overlapping.push(next);
                }
            }
            if overlapping.len() == 1 {
                merged.append(&mut overlapping);
                break;
            }
            let mut one = merge_overlapping(overlapping.clone(), how)?;
            let (Some(head), Some(tail)) = (one.first(), one.last()) else { break };
            let reaches_on = sources.next_begin().is_some_and(|begin| begin <= tail.max_time);
            let reaches_back = merged.pop_if(|before| before.max_time >= head.min_time);
            end = end.max(tail.max_time);
            if reaches_back.is_none() && !reaches_on {
                merged.append(&mut one);
                break;
            }
            overlapping.splice(0..0, reaches_back);
        }
    }
    Ok(merged)
}

fn by_span(a: &SeriesChunk, b: &SeriesChunk) -> Ordering {
    (a.min_time, a.max_time).cmp(&(b.min_time, b.max_time))
}

/// A list in order, and without overlap if it is to be deduplicated against others.
fn settled(mut list: Vec<SeriesChunk>, how: Dedup) -> Result<Vec<SeriesChunk>, Error> {
    if !list.is_sorted_by(|a, b| by_span(a, b).is_le()) {
        list.sort_by(by_span);
    }
    let overlaps = || list.windows(2).any(|pair| pair[0].max_time >= pair[1].min_time);
    match how {
        Dedup::Penalty if overlaps() => merge_vertically(vec![list], Dedup::Chain),
        _ => Ok(list),
    }
}

/// Lists of chunks in order, read together in order of their spans.
struct ChunkLists {
    rest: Vec<std::vec::IntoIter<SeriesChunk>>,
    tree: LoserTree<SeriesChunk, fn(&SeriesChunk, &SeriesChunk) -> Ordering>,
}

impl ChunkLists {
    fn new(lists: Vec<Vec<SeriesChunk>>) -> ChunkLists {
        let mut rest: Vec<_> = lists.into_iter().map(Vec::into_iter).collect();
        let heads = rest.iter_mut().map(Iterator::next).collect();
        ChunkLists { rest, tree: LoserTree::with_order(heads, by_span) }
    }

    /// Where the next chunk begins.
    fn next_begin(&self) -> Option<i64> {
        self.tree.peek().map(|(_, head)| head.min_time)
    }

    /// The next chunk, if it begins at `until` or before.
    fn pop(&mut self, until: i64) -> Option<SeriesChunk> {
        let (source, head) = self.tree.peek()?;
        if head.min_time > until {
            return None;
        }
        self.tree.replace(self.rest[source].next())
    }
}

fn merge_overlapping(mut chunks: Vec<SeriesChunk>, how: Dedup) -> Result<Vec<SeriesChunk>, Error> {
    let mut integers = true;
    for chunk in &chunks {
        match &chunk.content {
            ChunkContent::Aggregates(_) => return Err(Error(Case::OverlappingAggregates)),
            ChunkContent::Raw(raw) => {
                integers &=
                    !matches!(raw.encoding, Encoding::FloatHistogram | Encoding::FloatHistogramSt);
            }
        }
    }
    let runs: Vec<Vec<SeriesChunk>> = match how {
        // Prometheus passes the first chunk last.
        Dedup::Chain => {
            chunks.rotate_left(1);
            chunks.into_iter().map(|c| vec![c]).collect()
        }
        Dedup::Penalty => overlap_split(chunks),
    };
    let columns = runs
        .iter()
        .map(|run| read_run(run, ValueOf::Sum))
        .collect::<Result<Vec<Column>, Error>>()?;
    let all_floats = columns.iter().all(|c| matches!(c, Column::Floats(_)));
    if all_floats {
        let columns = columns.into_iter().map(Column::into_floats);
        return cut_floats(&merge_columns(columns.collect(), how));
    }
    let samples = merge_columns(columns.into_iter().map(Column::into_samples).collect(), how);
    cut_samples(&samples, integers)
}

fn merge_columns<C: crate::SampleColumn>(columns: Vec<C>, how: Dedup) -> C {
    match how {
        Dedup::Chain => chain(columns),
        Dedup::Penalty => penalty(columns),
    }
}

fn cut_floats(floats: &Floats) -> Result<Vec<SeriesChunk>, Error> {
    let mut cutter = ChunkCutter::new();
    for (t, value) in floats.ts.iter().zip(&floats.values) {
        cutter.push(*t, SampleRef::Float(*value))?;
    }
    Ok(cutter.finish())
}

fn cut_samples(samples: &[Sample], integers: bool) -> Result<Vec<SeriesChunk>, Error> {
    let mut cutter = ChunkCutter::new();
    for sample in samples {
        match &sample.value {
            SampleValue::Float(value) => cutter.push(sample.t, SampleRef::Float(*value))?,
            SampleValue::Histogram(h) if integers => {
                cutter.push(sample.t, SampleRef::Histogram(&to_integers(h)))?;
            }
            SampleValue::Histogram(h) => cutter.push(sample.t, SampleRef::FloatHistogram(h))?,
        }
    }
    Ok(cutter.finish())
}

/// Exact for values that were decoded from a chunk of integer histograms, unless a count is beyond
/// 2^53.
fn to_integers(histogram: &FloatHistogram) -> Histogram {
    let deltas = |counts: &[f64]| {
        let mut last = 0i64;
        let delta = |count: &f64| {
            let (count, before) = (*count as i64, last);
            last = count;
            count.wrapping_sub(before)
        };
        counts.iter().map(delta).collect()
    };
    Histogram {
        schema: histogram.schema,
        hint: histogram.hint,
        zero_threshold: histogram.zero_threshold,
        zero_count: histogram.zero_count as u64,
        count: histogram.count as u64,
        sum: histogram.sum,
        positive_spans: histogram.positive_spans.clone(),
        negative_spans: histogram.negative_spans.clone(),
        positive_buckets: deltas(&histogram.positive_buckets),
        negative_buckets: deltas(&histogram.negative_buckets),
        custom_values: histogram.custom_values.clone(),
    }
}
