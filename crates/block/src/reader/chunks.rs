//! Chunks.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::try_join_all;
use model::Reservation;
use tsdb::chunk::{Transcoded, cut, forget_reset, stored_samples};
use tsdb::segment::{ChunkRef, parse_record, record_len};

use super::{
    BlockChunk, BlockEntry, BlockReader, BlockSeries, ChunkSpan, Claim, MAX_LONG_CHUNKS,
    SeriesBatch, count, offload,
};
use crate::{Error, Result};

/// Chunks as they lie in a segment, those one behind another in one piece.
#[derive(Default)]
struct FetchedRecords {
    pieces: Vec<Bytes>,
    /// One for each chunk.
    places: Vec<RecordPlace>,
    /// The memory for chunks that are longer than guessed.
    long: Option<Arc<Reservation>>,
}

/// Where the record of a chunk is.
#[derive(Clone, Copy)]
struct RecordPlace {
    piece: usize,
    at: usize,
    len: usize,
}

/// A part of a segment.
struct SegmentRange {
    segment: u32,
    range: Range<u64>,
}

impl FetchedRecords {
    /// The piece with a chunk's record, and the record, which is shorter where the segment ended.
    fn record(&self, place: RecordPlace) -> (&Bytes, &[u8]) {
        let piece = &self.pieces[place.piece];
        let end = place.at.saturating_add(place.len).min(piece.len());
        (piece, piece.get(place.at..end).unwrap_or_default())
    }
}

impl BlockReader {
    /// Fetches the chunks of these series, all at once; a series with a broken chunk becomes an
    /// error of the batch.
    pub async fn read_chunks(&self, entries: Vec<BlockEntry>) -> Result<SeriesBatch> {
        let spans: Vec<ChunkSpan> = entries.iter().flat_map(|e| e.chunks.iter().copied()).collect();
        let fetched = self.fetch_records(&spans).await?;
        let bytes = fetched.pieces.iter().map(Bytes::len).sum::<usize>();
        count(&self.stats.chunk_bytes, bytes as u64);
        count(&self.stats.chunks, spans.len() as u64);
        let reader = self.clone();
        offload(bytes, move || reader.assemble(entries, fetched)).await
    }

    /// The records of these chunks, in the order asked for.
    async fn fetch_records(&self, spans: &[ChunkSpan]) -> Result<FetchedRecords> {
        let (runs, places) = runs(spans);
        let pieces = self.fetch_parts(&runs).await?;
        let mut fetched = FetchedRecords { pieces, places, long: None };
        // chunks longer than guessed
        let mut long = Vec::new();
        for (at, span) in spans.iter().enumerate().filter(|(_, span)| span.len < span.room) {
            let (_, record) = fetched.record(fetched.places[at]);
            // if it ended before the length asked for, that is the end of the segment
            if record.len() as u64 == u64::from(span.len)
                && let Ok(whole) = record_len(record)
                && whole > record.len()
                && whole as u64 <= u64::from(span.room)
            {
                long.push((at, span.part(whole as u64)));
            }
        }
        let (long, again): (Vec<usize>, Vec<SegmentRange>) = long.into_iter().unzip();
        let bytes = again.iter().map(|part| part.range.end - part.range.start).sum();
        let held =
            self.claim(Claim { what: "long chunks", bytes, most: MAX_LONG_CHUNKS, copies: 1 })?;
        for (at, piece) in long.into_iter().zip(self.fetch_parts(&again).await?) {
            let place = RecordPlace { piece: fetched.pieces.len(), at: 0, len: piece.len() };
            fetched.places[at] = place;
            fetched.pieces.push(piece);
        }
        fetched.long = held.filter(|held| held.bytes() > 0).map(Arc::new);
        Ok(fetched)
    }

    /// Parts of segments, in the order asked for; one call per segment.
    async fn fetch_parts(&self, wanted: &[SegmentRange]) -> Result<Vec<Bytes>> {
        let mut by_segment: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
        for (at, part) in wanted.iter().enumerate() {
            by_segment.entry(part.segment).or_default().push(at);
        }
        let segments = by_segment.into_iter().map(|(segment, places)| async move {
            let path = self.inner.location.segment(u64::from(segment) + 1);
            let ranges: Vec<Range<u64>> =
                places.iter().map(|at| wanted[*at].range.clone()).collect();
            Ok::<_, Error>((places, self.fetch(&path, &ranges).await?))
        });
        let mut fetched = vec![Bytes::new(); wanted.len()];
        for (places, parts) in try_join_all(segments).await? {
            for (at, bytes) in places.into_iter().zip(parts) {
                fetched[at] = bytes;
            }
        }
        Ok(fetched)
    }

    fn assemble(&self, entries: Vec<BlockEntry>, fetched: FetchedRecords) -> SeriesBatch {
        let series = Vec::with_capacity(entries.len());
        let long = fetched.long.clone();
        let mut batch = SeriesBatch { series, long, ..SeriesBatch::default() };
        let mut places = &fetched.places[..];
        for entry in entries {
            let (own, rest) = places.split_at(entry.chunks.len().min(places.len()));
            places = rest;
            let records = own.iter().map(|place| fetched.record(*place));
            match self.assemble_series(&entry, records) {
                Ok((chunks, samples)) => {
                    batch.stored.series += 1;
                    batch.stored.samples += samples;
                    if !chunks.is_empty() {
                        batch.series.push(BlockSeries { labels: entry.labels, chunks });
                    }
                }
                Err(e) => batch.errors.push(e),
            }
        }
        batch
    }

    /// The chunks of a series without what is deleted, and how many samples are stored.
    fn assemble_series<'a>(
        &self,
        entry: &BlockEntry,
        records: impl Iterator<Item = (&'a Bytes, &'a [u8])>,
    ) -> Result<(Vec<BlockChunk>, u64)> {
        let mut chunks = Vec::with_capacity(entry.chunks.len());
        let (mut samples, mut first_broken, mut after_gap) = (0, None, false);
        for (span, (piece, record)) in entry.chunks.iter().zip(records) {
            let read = parse_record(record).and_then(|record| {
                samples += stored_samples(record.encoding, record.data)? as u64;
                let data = piece.slice_ref(record.data);
                let ChunkSpan { min_time, max_time, .. } = *span;
                Ok(BlockChunk { min_time, max_time, encoding: record.encoding, data })
            });
            let left = match read {
                Ok(chunk) if entry.deleted().is_empty() => {
                    chunks.push(chunk);
                    continue;
                }
                Ok(chunk) => left_of(chunk, entry, span),
                Err(e) => Err(e),
            };
            match left {
                Ok(left) if left.is_empty() => after_gap = true,
                Ok(mut left) => {
                    if std::mem::take(&mut after_gap)
                        && let Some(data) = forget_reset(left[0].encoding, &left[0].data)
                    {
                        left[0].data = data.into();
                    }
                    chunks.append(&mut left);
                }
                Err(e) => first_broken = first_broken.or(Some(self.chunk_error(entry, span, e))),
            }
        }
        match first_broken {
            None => Ok((chunks, samples)),
            Some(e) => Err(e),
        }
    }

    fn chunk_error(&self, entry: &BlockEntry, span: &ChunkSpan, error: tsdb::Error) -> Error {
        let ChunkRef { segment, offset } = ChunkRef::from_raw(span.reference);
        let place = format_args!(
            "block={} series {} chunk at {offset} of segment {:06}",
            self.inner.meta.ulid,
            entry.labels,
            u64::from(segment) + 1
        );
        Error::format(place, error)
    }
}

/// What to fetch of the segments for these chunks, and where each of them is in that.
fn runs(spans: &[ChunkSpan]) -> (Vec<SegmentRange>, Vec<RecordPlace>) {
    let mut runs: Vec<SegmentRange> = Vec::new();
    let mut places = Vec::with_capacity(spans.len());
    for span in spans {
        let part = span.part(u64::from(span.len));
        let last = runs.last_mut().filter(|run| run.segment == part.segment);
        match last.filter(|run| run.range.end == part.range.start) {
            Some(run) => run.range.end = part.range.end,
            None => runs.push(SegmentRange { segment: part.segment, range: part.range.clone() }),
        }
        let piece = runs.len() - 1;
        let at = (part.range.start - runs[piece].range.start) as usize;
        places.push(RecordPlace { piece, at, len: span.len as usize });
    }
    (runs, places)
}

impl ChunkSpan {
    /// So many bytes of its segment.
    fn part(&self, len: u64) -> SegmentRange {
        let ChunkRef { segment, offset } = ChunkRef::from_raw(self.reference);
        let start = u64::from(offset);
        SegmentRange { segment, range: start..start + len }
    }
}

/// What tombstones leave of a chunk; from most, nothing is deleted.
fn left_of(
    chunk: BlockChunk,
    entry: &BlockEntry,
    span: &ChunkSpan,
) -> std::result::Result<Vec<BlockChunk>, tsdb::Error> {
    if entry.is_deleted(span) {
        return Ok(Vec::new());
    }
    let Some(left) = cut(chunk.encoding, &chunk.data, entry.deleted())? else {
        return Ok(vec![chunk]);
    };
    let chunk = |c: Transcoded| BlockChunk {
        min_time: c.min_time,
        max_time: c.max_time,
        encoding: c.encoding,
        data: c.data.into(),
    };
    Ok(left.into_iter().map(chunk).collect())
}
