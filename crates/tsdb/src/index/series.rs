//! Series entries.

use std::sync::Arc;

use model::{Labels, LabelsPacker};

use super::cursor::{self, Cursor};
use super::{IndexHeader, Symbols};
use crate::error::Error;

const WHAT: &str = "index series";

/// A chunk of a series: where it lies (`segment << 32 | offset`) and the closed span of its samples
/// in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkMeta {
    pub reference: u64,
    pub min_time: i64,
    pub max_time: i64,
}

/// One series of the index.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SeriesEntry {
    pub labels: Labels,
    /// Its chunks, in order of time.
    pub chunks: Vec<ChunkMeta>,
    /// A name occurs twice in the index. The first of its values counts, but the postings of each
    /// hold the series.
    pub has_doubles: bool,
}

/// The length in bytes of the entry at the front of `bytes`, which must be enough of them to tell.
pub(super) fn entry_len(bytes: &[u8], offset: u64) -> Result<u64, Error> {
    let mut cursor = Cursor::new(WHAT, bytes, offset);
    let len = cursor.uvarint()?;
    Ok((cursor.position() as u64).saturating_add(len).saturating_add(4))
}

/// Reads series entries, best in their order: see [`LabelsPacker`].
#[derive(Debug)]
pub struct SeriesParser {
    header: Arc<IndexHeader>,
    labels: LabelsPacker,
}

impl SeriesParser {
    pub fn new(header: Arc<IndexHeader>) -> SeriesParser {
        SeriesParser { header, labels: LabelsPacker::default() }
    }

    pub fn header(&self) -> &IndexHeader {
        &self.header
    }

    /// Reads the entry of series `id`; `bytes` start at its offset and may extend beyond it. Labels
    /// and chunks come sorted, whatever their order in the index, although the readers of
    /// Prometheus and Thanos take them as they are.
    ///
    /// # Errors
    /// Truncated bytes, a wrong checksum, labels that have no symbol, chunks out of range.
    pub fn parse(&mut self, id: u32, bytes: &[u8]) -> Result<SeriesEntry, Error> {
        let offset = self.header.series_offset(id);
        let mut cursor = Cursor::new(WHAT, bytes, offset);
        let len = cursor.uvarint()?;
        let content_at = cursor.offset();
        let content = cursor.take(len)?;
        let stored = cursor.u32()?;
        cursor::check(WHAT, offset, content, stored)?;
        let mut content = Cursor::new(WHAT, content, content_at);
        let (labels, has_doubles) = self.parse_labels(&mut content)?;
        let chunks = parse_chunks(&mut content)?;
        Ok(SeriesEntry { labels, chunks, has_doubles })
    }

    /// The labels, and whether a name occurs twice.
    fn parse_labels(&mut self, content: &mut Cursor<'_>) -> Result<(Labels, bool), Error> {
        let symbols = self.header.symbols();
        let count = content.uvarint()?;
        let begin = content.clone();
        let references = (0..count).map(|_| Ok((content.uvarint()?, content.uvarint()?)));
        match self.labels.pack(references, |reference| symbols.get(reference))? {
            Some(labels) => Ok((labels, false)),
            None => sort_labels(begin, count, symbols),
        }
    }
}

/// Labels that are not in order, or not distinct: if a name occurs twice, the first value counts,
/// as for Go's `labels.Get`.
fn sort_labels(
    mut content: Cursor<'_>,
    count: u64,
    symbols: &Symbols,
) -> Result<(Labels, bool), Error> {
    let mut pairs = Vec::new();
    for _ in 0..count {
        let (name, value) = (symbols.get(content.uvarint()?)?, symbols.get(content.uvarint()?)?);
        // the same as no label
        if !value.is_empty() {
            pairs.push((name, value));
        }
    }
    // stable, so that the first of a name stays the first
    pairs.sort_by_key(|(name, _)| *name);
    let before = pairs.len();
    pairs.dedup_by_key(|(name, _)| *name);
    let has_doubles = pairs.len() < before;
    Ok((Labels::from_sorted(pairs), has_doubles))
}

fn parse_chunks(content: &mut Cursor<'_>) -> Result<Vec<ChunkMeta>, Error> {
    let count = content.uvarint()?;
    // at least three bytes per chunk
    let mut chunks: Vec<ChunkMeta> =
        Vec::with_capacity((count as usize).min(content.rest().len() / 3));
    for i in 0..count {
        let (min_time, span, reference);
        match chunks.last() {
            None => {
                min_time = content.varint()?;
                span = content.uvarint()?;
                reference = Some(content.uvarint()?);
            }
            Some(last) => {
                // chunks that overlap make the difference negative; the writer lets it wrap
                min_time = last.max_time.wrapping_add(content.uvarint()?.cast_signed());
                span = content.uvarint()?;
                reference = last.reference.checked_add_signed(content.varint()?);
            }
        }
        let (Some(max_time), Some(reference)) = (min_time.checked_add_unsigned(span), reference)
        else {
            return Err(content.corrupt(format!("chunk {i}: time or reference out of range")));
        };
        chunks.push(ChunkMeta { reference, min_time, max_time });
    }
    let span = |chunk: &ChunkMeta| (chunk.min_time, chunk.max_time);
    if !chunks.is_sorted_by_key(span) {
        chunks.sort_by_key(span);
    }
    Ok(chunks)
}
