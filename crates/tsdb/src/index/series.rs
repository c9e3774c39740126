//! Series entries.

use std::sync::Arc;

use model::{Labels, LabelsPacker, TimeRange};

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

/// What a span of time needs of a series.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TouchingEntry {
    /// The series, with those of its chunks that touch the span.
    pub entry: SeriesEntry,
    /// Where other chunks of the series lie, as far as they say how long a chunk that touches it,
    /// or one of another series, may be.
    pub neighbours: Vec<u64>,
    /// The entry names a chunk more than once.
    pub repeats: bool,
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
        let mut content = self.content(id, bytes)?;
        let (labels, has_doubles) = self.parse_labels(&mut content)?;
        let mut chunks = Vec::new();
        for_each_chunk(&mut content, |chunk| chunks.push(chunk))?;
        let span = |chunk: &ChunkMeta| (chunk.min_time, chunk.max_time);
        if !chunks.is_sorted_by_key(span) {
            chunks.sort_by_key(span);
        }
        Ok(SeriesEntry { labels, chunks, has_doubles })
    }

    /// As [`parse`](SeriesParser::parse), but only the chunks that touch a span of time: an entry
    /// of weeks has hundreds, of which an hour needs one.
    ///
    /// # Errors
    /// As [`parse`](SeriesParser::parse).
    pub fn parse_touching(
        &mut self,
        id: u32,
        bytes: &[u8],
        range: TimeRange,
    ) -> Result<TouchingEntry, Error> {
        let mut content = self.content(id, bytes)?;
        let (labels, has_doubles) = self.parse_labels(&mut content)?;
        let mut touching = Touching::new(range);
        for_each_chunk(&mut content, |chunk| touching.add(chunk))?;
        if touching.in_order {
            let Touching { chunks, neighbours, .. } = touching;
            let entry = SeriesEntry { labels, chunks, has_doubles };
            return Ok(TouchingEntry { entry, neighbours, repeats: false });
        }
        let mut entry = self.parse(id, bytes)?;
        let mut neighbours: Vec<u64> = entry.chunks.iter().map(|c| c.reference).collect();
        neighbours.sort_unstable();
        let repeats = neighbours.windows(2).any(|pair| pair[0] == pair[1]);
        entry.chunks.retain(|chunk| range.overlaps_closed(chunk.min_time, chunk.max_time));
        Ok(TouchingEntry { entry, neighbours, repeats })
    }

    /// The content of an entry, whose checksum is right.
    fn content<'a>(&self, id: u32, bytes: &'a [u8]) -> Result<Cursor<'a>, Error> {
        let offset = self.header.series_offset(id);
        let mut cursor = Cursor::new(WHAT, bytes, offset);
        let len = cursor.uvarint()?;
        let content_at = cursor.offset();
        let content = cursor.take(len)?;
        let stored = cursor.u32()?;
        cursor::check(WHAT, offset, content, stored)?;
        Ok(Cursor::new(WHAT, content, content_at))
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

/// Collects the chunks of an entry that touch a span of time.
struct Touching {
    range: TimeRange,
    chunks: Vec<ChunkMeta>,
    neighbours: Vec<u64>,
    last: Option<ChunkMeta>,
    /// Times and references ascend, as writers leave them.
    in_order: bool,
}

impl Touching {
    fn new(range: TimeRange) -> Touching {
        Touching { range, chunks: Vec::new(), neighbours: Vec::new(), last: None, in_order: true }
    }

    fn add(&mut self, chunk: ChunkMeta) {
        let ChunkMeta { reference, min_time, max_time } = chunk;
        let touches = self.range.overlaps_closed(min_time, max_time);
        // the first says where the series before it ends
        let is_neighbour = match self.last {
            None => true,
            Some(last) => {
                self.in_order &= last.reference < reference
                    && (last.min_time, last.max_time) <= (min_time, max_time);
                self.range.overlaps_closed(last.min_time, last.max_time)
            }
        };
        if touches {
            self.chunks.push(chunk);
        } else if is_neighbour {
            self.neighbours.push(reference);
        }
        self.last = Some(chunk);
    }
}

/// Gives the chunks of an entry in its order.
fn for_each_chunk(content: &mut Cursor<'_>, mut each: impl FnMut(ChunkMeta)) -> Result<(), Error> {
    let count = content.uvarint()?;
    let mut last: Option<ChunkMeta> = None;
    for i in 0..count {
        let (min_time, span, reference);
        match last {
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
        let chunk = ChunkMeta { reference, min_time, max_time };
        each(chunk);
        last = Some(chunk);
    }
    Ok(())
}
