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

impl BlockReader {
    /// Fetches the chunks of these series, all at once; a series with a broken chunk becomes an
    /// error of the batch.
    pub async fn read_chunks(&self, entries: Vec<BlockEntry>) -> Result<SeriesBatch> {
        let spans: Vec<ChunkSpan> = entries.iter().flat_map(|e| e.chunks.iter().copied()).collect();
        let (fetched, long) = self.fetch_records(&spans).await?;
        let bytes = fetched.iter().map(Bytes::len).sum::<usize>();
        count(&self.stats.chunk_bytes, bytes as u64);
        count(&self.stats.chunks, spans.len() as u64);
        let reader = self.clone();
        let assemble = move || SeriesBatch { long, ..reader.assemble(entries, fetched) };
        offload(bytes, assemble).await
    }

    /// The record of each chunk, in the order asked for, and the memory for those that are longer
    /// than guessed.
    async fn fetch_records(
        &self,
        spans: &[ChunkSpan],
    ) -> Result<(Vec<Bytes>, Option<Arc<Reservation>>)> {
        let wanted: Vec<(u64, u64)> =
            spans.iter().map(|s| (s.reference, u64::from(s.len))).collect();
        let mut fetched = self.fetch_by_reference(&wanted).await?;
        // chunks longer than guessed
        let mut long = Vec::new();
        for (at, (bytes, (reference, len))) in fetched.iter().zip(&wanted).enumerate() {
            // if it ended before the length asked for, that is the end of the segment
            if bytes.len() as u64 == *len
                && let Ok(whole) = record_len(bytes)
                && whole > bytes.len()
                && whole as u64 <= u64::from(spans[at].room)
            {
                long.push((at, (*reference, whole as u64)));
            }
        }
        let again: Vec<(u64, u64)> = long.iter().map(|(_, wanted)| *wanted).collect();
        let bytes = again.iter().map(|(_, len)| len).sum();
        let held =
            self.claim(Claim { what: "long chunks", bytes, most: MAX_LONG_CHUNKS, copies: 1 })?;
        for ((at, _), bytes) in long.iter().zip(self.fetch_by_reference(&again).await?) {
            fetched[*at] = bytes;
        }
        Ok((fetched, held.filter(|held| held.bytes() > 0).map(Arc::new)))
    }

    /// Bytes by reference and length, in the order asked for; one call per segment.
    async fn fetch_by_reference(&self, wanted: &[(u64, u64)]) -> Result<Vec<Bytes>> {
        let mut by_segment: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
        for (at, (reference, _)) in wanted.iter().enumerate() {
            by_segment.entry(ChunkRef::from_raw(*reference).segment).or_default().push(at);
        }
        let segments = by_segment.into_iter().map(|(segment, places)| async move {
            let path = self.inner.location.segment(u64::from(segment) + 1);
            let range = |at: &usize| -> Range<u64> {
                let (reference, len) = wanted[*at];
                let offset = u64::from(ChunkRef::from_raw(reference).offset);
                offset..offset + len
            };
            let ranges: Vec<Range<u64>> = places.iter().map(range).collect();
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

    fn assemble(&self, entries: Vec<BlockEntry>, fetched: Vec<Bytes>) -> SeriesBatch {
        let mut batch =
            SeriesBatch { series: Vec::with_capacity(entries.len()), ..SeriesBatch::default() };
        let mut records = fetched.into_iter();
        for entry in entries {
            let parts = records.by_ref().take(entry.chunks.len());
            match self.assemble_series(&entry, parts) {
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
    fn assemble_series(
        &self,
        entry: &BlockEntry,
        records: impl Iterator<Item = Bytes>,
    ) -> Result<(Vec<BlockChunk>, u64)> {
        let mut chunks = Vec::with_capacity(entry.chunks.len());
        let (mut samples, mut first_broken, mut after_gap) = (0, None, false);
        for (span, bytes) in entry.chunks.iter().zip(records) {
            let read = parse_record(&bytes).and_then(|record| {
                samples += stored_samples(record.encoding, record.data)? as u64;
                let data = bytes.slice_ref(record.data);
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
