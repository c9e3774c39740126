//! Merging the chunk lists of one series before anything is decoded.

use std::cmp::Ordering;

use crate::replicas::GoesOn;
use crate::series::{ChunkBytes, ChunkContent, SeriesChunk};

/// The chunks that several sources hold of one series, one source after the other: identical ones
/// once, sorted by `(min_time, max_time)`.
///
/// Chunks of equal spans stand in the order in which Thanos' proxy puts them (`AggrChunk.Compare`),
/// because the penalty dedup after it prefers the first of two replicas.
pub fn merge_series_chunks(mut chunks: Vec<SeriesChunk>) -> Vec<SeriesChunk> {
    let strictly_sorted = chunks.windows(2).all(|w| compare_chunks(&w[0], &w[1]) == Ordering::Less);
    if !strictly_sorted {
        chunks.sort_by(compare_chunks);
        // keep what is known of equal chunks: their resolution, replica and times
        chunks.dedup_by(|next, kept| {
            let same = compare_chunks(next, kept) == Ordering::Equal;
            if same {
                kept.resolution = kept.resolution.or(next.resolution);
                kept.replica = kept.replica.or(next.replica);
                kept.times = kept.times.take().or(next.times.take());
            }
            same
        });
    }
    chunks
}

/// By span; then raw before downsampled, present before absent, lower encoding first, greater bytes
/// first.
pub(crate) fn compare_chunks(a: &SeriesChunk, b: &SeriesChunk) -> Ordering {
    (a.min_time, a.max_time).cmp(&(b.min_time, b.max_time)).then_with(|| {
        match (&a.content, &b.content) {
            (ChunkContent::Raw(a), ChunkContent::Raw(b)) => compare_bytes(a, b),
            (ChunkContent::Raw(_), ChunkContent::Aggregates(_)) => Ordering::Less,
            (ChunkContent::Aggregates(_), ChunkContent::Raw(_)) => Ordering::Greater,
            (ChunkContent::Aggregates(a), ChunkContent::Aggregates(b)) => a
                .iter()
                .zip(b.iter())
                .map(|pair| match pair {
                    (Some(a), Some(b)) => compare_bytes(a, b),
                    (a, b) => b.is_some().cmp(&a.is_some()),
                })
                .find(|o| o.is_ne())
                .unwrap_or(Ordering::Equal),
        }
    })
}

fn compare_bytes(a: &ChunkBytes, b: &ChunkBytes) -> Ordering {
    a.encoding.cmp(&b.encoding).then_with(|| b.data.cmp(&a.data))
}

/// Splits sorted, possibly overlapping chunks of one series into runs that then count as replicas,
/// as Thanos' `NewOverlapSplit` does: each chunk joins the first run that ends before it begins,
/// else it opens a new one.
///
/// Chunks that are known to be of one replica are not replicas of each other: where they overlap,
/// they join the same run, and are merged by time when it is read. Downsampled ones always do:
/// their samples are so far apart that a change from one run to another, which the penalty delays
/// by two of them, would be a gap.
pub fn overlap_split(chunks: Vec<SeriesChunk>) -> Vec<Vec<SeriesChunk>> {
    split(chunks, &|_| true)
}

/// Whether sorted chunks of one series are not just one after the other.
pub(crate) fn overlap(chunks: &[SeriesChunk]) -> bool {
    chunks.windows(2).any(|w| w[0].max_time >= w[1].min_time)
}

/// As [`overlap_split`]; some chunks are missing once `goes_on` does not say so.
pub(crate) fn split(chunks: Vec<SeriesChunk>, goes_on: GoesOn<'_>) -> Vec<Vec<SeriesChunk>> {
    if !overlap(&chunks) {
        return if chunks.is_empty() { Vec::new() } else { vec![chunks] };
    }
    let mut runs: Vec<ChunkRun> = Vec::new();
    for chunk in chunks {
        if !goes_on(1 + runs.len()) {
            break;
        }
        let at = runs.iter().position(|run| run.goes_on_with(&chunk));
        match at.or_else(|| runs.iter().position(|run| run.end < chunk.min_time)) {
            Some(at) => runs[at].push(chunk),
            None => runs.push(ChunkRun { end: chunk.max_time, chunks: vec![chunk] }),
        }
    }
    runs.into_iter().map(|run| run.chunks).collect()
}

struct ChunkRun {
    end: i64,
    chunks: Vec<SeriesChunk>,
}

impl ChunkRun {
    /// Whether the chunk is of the replica that the run ends with, so that it must not be taken for
    /// another replica's.
    fn goes_on_with(&self, chunk: &SeriesChunk) -> bool {
        let goes_on =
            self.end >= chunk.min_time || matches!(chunk.content, ChunkContent::Aggregates(_));
        goes_on && self.chunks.last().is_some_and(|last| last.is_of_replica_of(chunk))
    }

    fn push(&mut self, chunk: SeriesChunk) {
        self.end = self.end.max(chunk.max_time);
        self.chunks.push(chunk);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tsdb::chunk::Encoding;

    use super::*;

    fn chunk(min_time: i64, max_time: i64, data: &'static [u8]) -> SeriesChunk {
        let bytes = ChunkBytes { encoding: Encoding::Xor, data: Bytes::from_static(data) };
        SeriesChunk::new(min_time, max_time, ChunkContent::Raw(bytes))
    }

    #[test]
    fn identical_chunks_are_kept_once_and_sorted() {
        let sources = [
            [chunk(0, 9, b"a"), chunk(10, 19, b"b")],
            [chunk(0, 9, b"a"), chunk(5, 14, b"c")],
            [chunk(0, 9, b"z"), chunk(0, 8, b"a")],
        ];
        let merged = merge_series_chunks(sources.concat());
        let expected = vec![
            chunk(0, 8, b"a"),
            chunk(0, 9, b"z"),
            chunk(0, 9, b"a"),
            chunk(5, 14, b"c"),
            chunk(10, 19, b"b"),
        ];
        assert_eq!(merged, expected);
    }

    #[test]
    fn aggregates_differ_by_any_of_them() {
        let part =
            |data| Some(ChunkBytes { encoding: Encoding::Xor, data: Bytes::from_static(data) });
        let aggregates = |parts| SeriesChunk::new(0, 1, ChunkContent::Aggregates(Box::new(parts)));
        let a = aggregates([part(b"c"), part(b"s"), None, None, None]);
        let b = aggregates([part(b"c"), None, None, None, None]);
        assert_eq!(merge_series_chunks(vec![b.clone(), a.clone(), b.clone()]), vec![a, b]);
    }

    #[test]
    fn overlapping_chunks_spread_over_the_first_free_run() {
        let chunks = vec![
            chunk(0, 10, b"a"),
            chunk(1, 11, b"b"),
            chunk(11, 20, b"c"),
            chunk(12, 30, b"d"),
            chunk(13, 14, b"e"),
        ];
        let runs = overlap_split(chunks.clone());
        let expected = vec![
            vec![chunks[0].clone(), chunks[2].clone()],
            vec![chunks[1].clone(), chunks[3].clone()],
            vec![chunks[4].clone()],
        ];
        assert_eq!(runs, expected);
    }

    #[test]
    fn overlapping_chunks_of_one_replica_are_no_replicas_of_each_other() {
        let of = |replica: u64, min_time, max_time, data| {
            chunk(min_time, max_time, data).with_replica(Some(replica))
        };
        let chunks = vec![
            of(1, 0, 10, b"a"),
            of(2, 1, 12, b"b"),
            of(1, 5, 30, b"c"),
            of(2, 12, 14, b"d"),
            of(1, 31, 40, b"e"),
        ];
        let split = |places: [&[usize]; 2]| {
            places.map(|run| run.iter().map(|i| chunks[*i].clone()).collect::<Vec<_>>())
        };
        assert_eq!(overlap_split(chunks.clone()), split([&[0, 2, 4], &[1, 3]]));
        // where it is not known, they may be replicas
        let mut unknown = chunks.clone();
        unknown[2].replica = None;
        assert_eq!(overlap_split(unknown).len(), 3);
    }

    #[test]
    fn downsampled_chunks_of_a_replica_stay_in_its_run() {
        let of = |replica: u64, min_time, max_time| {
            let data = ChunkBytes { encoding: Encoding::Xor, data: Bytes::from_static(b"a") };
            let content = ChunkContent::Aggregates(Box::new([Some(data), None, None, None, None]));
            SeriesChunk::new(min_time, max_time, content).with_replica(Some(replica))
        };
        // the first run has ended before the third begins
        let chunks = [of(1, 0, 10), of(2, 1, 20), of(2, 21, 30), of(3, 31, 40)];
        let [a, b, c, d] = chunks.clone();
        assert_eq!(overlap_split(chunks.to_vec()), [vec![a, d], vec![b, c]]);
    }

    #[test]
    fn chunks_without_overlap_stay_one_run() {
        let chunks = vec![chunk(0, 10, b"a"), chunk(11, 20, b"b")];
        assert_eq!(overlap_split(chunks.clone()), vec![chunks]);
        assert!(overlap_split(vec![]).is_empty());
    }
}
