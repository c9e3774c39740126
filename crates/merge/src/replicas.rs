//! Reads the chunks of a series with several replicas into one column.

use model::TimeRange;

use crate::chunks::{overlap, split};
use crate::column::Column;
use crate::dedup::{
    CoarseSpan, CounterColumn, Dedup, SeriesReplica, counters_while, deduplicated_while,
};
use crate::error::Error;
use crate::read::{ValueOf, read_run_while};
use crate::series::SeriesChunk;

#[cfg(test)]
mod tests;

/// Told how much work comes next, in samples, it says whether that is still wanted. Where it is
/// not, work stops and what it gives is of no use.
pub type GoesOn<'a> = &'a dyn Fn(usize) -> bool;

/// How the chunks of replicas become samples.
#[derive(Clone, Copy, Debug)]
pub struct ReplicaReading {
    pub value: ValueOf,
    /// The samples wanted; which of them are chosen depends on where it begins.
    pub range: TimeRange,
    /// How replicas are merged; `None` where all chunks are of one.
    pub dedup: Option<Dedup>,
}

/// Decodes sorted, possibly overlapping chunks of one series and merges its replicas, which
/// [`overlap_split`](crate::overlap_split) tells apart, while `goes_on` says so.
///
/// # Errors
/// Damaged chunks, and downsampled ones without the value.
pub fn read_replicas(
    chunks: &[SeriesChunk],
    reading: ReplicaReading,
    goes_on: GoesOn<'_>,
) -> Result<Column, Error> {
    let read = |run: &[SeriesChunk]| -> Result<Column, Error> {
        let mut column = read_run_while(run, reading.value, goes_on)?;
        column.trim(reading.range);
        Ok(column)
    };
    let Some(dedup) = reading.dedup.filter(|_| overlap(chunks)) else { return read(chunks) };
    let runs = split(chunks.to_vec(), goes_on);
    if let [run] = &runs[..] {
        return read(run);
    }
    let mut replicas = Vec::with_capacity(runs.len());
    for run in runs {
        let (joints, coarse) = (joints(&run), coarse_spans(&run));
        replicas.push(SeriesReplica { column: read(&run)?, joints, coarse });
    }
    if replicas.iter().all(|replica| matches!(replica.column, Column::Floats(_))) {
        let floats = replicas.into_iter().map(|replica| replica.map(Column::into_floats));
        return Ok(Column::Floats(merged(floats.collect(), reading.value, dedup, goes_on)));
    }
    let samples = replicas.into_iter().map(|replica| replica.map(Column::into_samples));
    Ok(Column::Mixed(merged(samples.collect(), reading.value, dedup, goes_on)))
}

fn merged<C: CounterColumn>(
    replicas: Vec<SeriesReplica<C>>,
    value: ValueOf,
    dedup: Dedup,
    goes_on: GoesOn<'_>,
) -> C {
    match value {
        ValueOf::Counter => counters_while(replicas, dedup, goes_on),
        _ => deduplicated_while(replicas, dedup, goes_on),
    }
}

/// The downsampled chunks of a run.
pub(crate) fn coarse_spans(run: &[SeriesChunk]) -> Vec<CoarseSpan> {
    let spans = run.iter().filter_map(|chunk| {
        let resolution = chunk.resolution().millis();
        (resolution > 0).then_some(CoarseSpan {
            first: chunk.min_time,
            last: chunk.max_time,
            resolution,
        })
    });
    spans.collect()
}

/// The times at which a chunk follows one that may be of another replica.
pub(crate) fn joints(run: &[SeriesChunk]) -> Vec<i64> {
    let others = run.windows(2).filter(|pair| !pair[0].is_of_replica_of(&pair[1]));
    others.map(|pair| pair[1].min_time).collect()
}
