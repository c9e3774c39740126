//! The index of a block: which series there are, where their chunks lie, and which series have which label.
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
//! Integers are big endian, checksums CRC-32C over the bytes between length and checksum. A series' id is its offset
//! divided by 16; in version 1 it is the offset itself, and symbols are referred to by offset instead of by ordinal.
//! Source: Prometheus' `tsdb/docs/format/index.md`.
//!
//! Reading goes by ranges: a [`HeaderLoader`] says what it needs and makes a [`Header`], which knows where postings
//! lie; [`Header::plan`] turns matchers into ranges of postings and then into ids; a [`SeriesParser`] reads
//! entries. [`Index`] does all that on a whole file in memory. [`IndexWriter`] writes version 2.

mod cursor;
mod header;
mod plan;
mod series;
mod symbols;
mod table;
mod toc;
mod whole;
mod writer;

pub use header::{Header, HeaderLoader};
pub use plan::PostingsPlan;
pub use series::{ChunkMeta, SeriesEntry, SeriesParser};
pub use symbols::Symbols;
pub use toc::Toc;
pub use whole::{Index, SeriesReader};
pub use writer::{IndexTail, IndexWriter};

use crate::error::Error;

/// The first four bytes of an index.
pub const MAGIC: u32 = 0xbaaa_d700;

/// Series entries start at multiples of this many bytes, which is also the unit of their ids (not in version 1).
pub const SERIES_ALIGNMENT: u64 = 16;

/// Reads one postings list that lies at `offset` of the index; `bytes` may go on beyond it. Its ids come sorted and
/// once each: where a series has a name twice, the writer may have listed it twice.
pub fn parse_postings(bytes: &[u8], offset: u64) -> Result<Vec<u32>, Error> {
    let mut list = cursor::section(POSTINGS, bytes, offset)?;
    let count = list.u32()?;
    let ids = list.rest();
    if ids.len() as u64 != u64::from(count) * 4 {
        return Err(list.corrupt(format!("{count} ids in {} bytes", ids.len())));
    }
    let mut ids: Vec<u32> = ids.chunks_exact(4).map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]])).collect();
    if ids.windows(2).any(|w| w[0] >= w[1]) {
        ids.sort_unstable();
        ids.dedup();
    }
    Ok(ids)
}

const POSTINGS: &str = "index postings";

#[cfg(test)]
mod tests;
