//! The index of a block: which series there are, where their chunks lie, and which series have
//! which label.
//!
//! ```text
//! ┌──────────────────────────────┐
//! │ magic 0xBAAAD700 │ version u8│  1, 2 or 3; 3 is read as 2
//! │ symbols                      │  len u32 │ count u32 │ (uvarint len, bytes)* │ crc
//! │ series                       │  16-byte aligned: uvarint len │ labels, chunks │ crc
//! │ label indices                │  only written by older Prometheus; not read here
//! │ postings                     │  4-byte aligned: len u32 │ count u32 │ id u32* │ crc
//! │ label offset table           │  not read here
//! │ postings offset table        │  len u32 │ count u32 │ (2, name, value, uvarint offset)* │ crc
//! │ table of contents            │  6 × u64 │ crc
//! └──────────────────────────────┘
//! ```
//! Integers are big endian, checksums CRC-32C over the bytes between length and checksum. A series'
//! id is its offset divided by 16; in version 1 it is the offset itself, and symbols are referred
//! to by offset instead of by ordinal. Source: Prometheus' `tsdb/docs/format/index.md`.
//!
//! Reading works by ranges: a [`HeaderLoader`] says what it needs and makes an [`IndexHeader`],
//! which knows where postings lie; [`IndexHeader::plan`] turns matchers into ranges of postings and
//! then into ids; a [`SeriesParser`] reads entries. [`Index`] does all that on a whole file in
//! memory. [`IndexWriter`] writes version 2.

mod cursor;
mod header;
mod plan;
mod series;
mod symbol_table;
mod symbol_union;
mod symbols;
mod table;
mod toc;
mod whole;
mod writer;

pub use header::{HeaderLoader, IndexHeader};
pub use plan::PostingsPlan;
pub use series::{ChunkMeta, SeriesEntry, SeriesParser, TouchingEntry};
pub use symbol_table::SymbolTable;
pub use symbol_union::SymbolUnion;
pub use symbols::Symbols;
pub use toc::Toc;
pub use whole::{Index, SeriesReader};
pub use writer::{IndexTail, IndexWriter};

use std::ops::Range;

use crate::error::{Case, Error};

/// The first four bytes of an index.
pub const MAGIC: u32 = 0xbaaa_d700;

/// Series entries start at multiples of this many bytes, which is also the unit of their ids (not
/// in version 1).
pub const SERIES_ALIGNMENT: u64 = 16;

/// Reads a long postings list piece by piece: while [`need`](PostingsPieces::need) names a range,
/// fetch and [`feed`](PostingsPieces::feed) it. What it returns is valid only once everything is
/// read: the checksum comes last.
#[derive(Debug)]
pub struct PostingsPieces {
    /// What is left of the list with its length and checksum; until the length is known, the end is
    /// that of the index's table.
    rest: Range<u64>,
    offset: u64,
    is_open: bool,
    ids_left: u64,
    last: Option<u32>,
    crc: u32,
}

impl PostingsPieces {
    /// The list that lies in `range` of the index.
    pub fn new(range: Range<u64>) -> PostingsPieces {
        let offset = range.start;
        PostingsPieces { rest: range, offset, is_open: false, ids_left: 0, last: None, crc: 0 }
    }

    /// What to fetch next, not much more than `bytes`; `None` at the end.
    pub fn need(&self, bytes: u64) -> Option<Range<u64>> {
        /// Length and count come with the first piece, the checksum with the last.
        const LEAST: u64 = 16;
        let bytes = (bytes.max(LEAST) / 4) * 4;
        let left = self.rest.end.saturating_sub(self.rest.start);
        let take = if left <= bytes + 4 { left } else { bytes };
        (take > 0).then(|| self.rest.start..self.rest.start + take)
    }

    /// The ids in the range that was named last.
    ///
    /// # Errors
    /// Truncated bytes, ids that descend, a wrong checksum.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<Vec<u32>, Error> {
        let mut piece = cursor::Cursor::new(POSTINGS, bytes, self.rest.start);
        if !self.is_open {
            let len = u64::from(piece.u32()?);
            let count = piece.u32()?;
            if len != 4 + 4 * u64::from(count) {
                return Err(
                    piece.corrupt(format!("{count} ids in {} bytes", len.saturating_sub(4)))
                );
            }
            let end = self.offset.saturating_add(4 + len + 4);
            if end > self.rest.end {
                return Err(piece.truncated());
            }
            (self.rest.end, self.ids_left, self.is_open) = (end, u64::from(count), true);
            self.crc = crc32c::crc32c(&count.to_be_bytes());
        }
        let whole = (piece.rest().len() as u64 / 4).min(self.ids_left);
        let raw = piece.take(whole * 4)?;
        self.crc = crc32c::crc32c_append(self.crc, raw);
        self.ids_left -= whole;
        let mut ids: Vec<u32> =
            raw.chunks_exact(4).map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]])).collect();
        if !self.last.into_iter().chain(ids.iter().copied()).is_sorted() {
            return Err(piece.corrupt("ids are not sorted"));
        }
        // a writer may have listed a series twice
        ids.dedup();
        if ids.first().copied() == self.last {
            ids.drain(..self.last.map_or(0, |_| 1));
        }
        self.last = ids.last().copied().or(self.last);
        self.rest.start = piece.offset();
        match piece.u32() {
            Ok(stored) if self.ids_left == 0 => {
                if stored != self.crc {
                    return Err(Error(Case::Checksum {
                        what: POSTINGS,
                        offset: self.offset,
                        stored,
                        computed: self.crc,
                    }));
                }
                self.rest.start = self.rest.end;
            }
            Err(e) if whole == 0 => return Err(e),
            _ => {}
        }
        Ok(ids)
    }
}

/// Reads one postings list that lies at `offset` of the index; `bytes` may extend beyond it. Its
/// ids come sorted and once each: where a series has a name twice, the writer may have listed it
/// twice.
pub fn parse_postings(bytes: &[u8], offset: u64) -> Result<Vec<u32>, Error> {
    let mut list = cursor::section(POSTINGS, bytes, offset)?;
    let count = list.u32()?;
    let ids = list.rest();
    if ids.len() as u64 != u64::from(count) * 4 {
        return Err(list.corrupt(format!("{count} ids in {} bytes", ids.len())));
    }
    let mut ids: Vec<u32> =
        ids.chunks_exact(4).map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]])).collect();
    if ids.windows(2).any(|w| w[0] >= w[1]) {
        ids.sort_unstable();
        ids.dedup();
    }
    Ok(ids)
}

const POSTINGS: &str = "index postings";

#[cfg(test)]
mod tests;
