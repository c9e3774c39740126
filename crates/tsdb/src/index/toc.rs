//! The table of contents at the end of an index.

use std::ops::Range;

use super::cursor::{self, Cursor};
use crate::error::{Case, Error};

const WHAT: &str = "index table of contents";

/// Where the sections of an index begin, in bytes from the start of the file; 0 = not there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Toc {
    pub symbols: u64,
    pub series: u64,
    pub label_indices: u64,
    pub label_offset_table: u64,
    pub postings: u64,
    pub postings_offset_table: u64,
}

impl Toc {
    /// The size in bytes.
    pub const SIZE: u64 = 6 * 8 + 4;

    /// Reads the last [`Toc::SIZE`] bytes of an index of `file_size` bytes.
    pub(super) fn parse(bytes: &[u8], file_size: u64) -> Result<Toc, Error> {
        let base = file_size.saturating_sub(Toc::SIZE);
        let mut cursor = Cursor::new(WHAT, bytes, base);
        let toc = Toc {
            symbols: cursor.u64()?,
            series: cursor.u64()?,
            label_indices: cursor.u64()?,
            label_offset_table: cursor.u64()?,
            postings: cursor.u64()?,
            postings_offset_table: cursor.u64()?,
        };
        let stored = cursor.u32()?;
        cursor::check(WHAT, base, &bytes[..Toc::SIZE as usize - 4], stored)?;
        if toc.starts().iter().any(|start| *start > base) {
            return Err(Error(Case::Corrupt {
                what: WHAT,
                offset: base,
                reason: "a section starts beyond the end".into(),
            }));
        }
        if toc.symbols == 0 || toc.postings_offset_table == 0 {
            let reason = "no symbols or no postings offset table".into();
            return Err(Error(Case::Corrupt { what: WHAT, offset: base, reason }));
        }
        Ok(toc)
    }

    fn starts(&self) -> [u64; 6] {
        let Toc {
            symbols,
            series,
            label_indices,
            label_offset_table,
            postings,
            postings_offset_table,
        } = *self;
        [symbols, series, label_indices, label_offset_table, postings, postings_offset_table]
    }

    /// From `start` to where the next section begins, the table of contents being the last.
    pub(super) fn section(&self, start: u64, file_size: u64) -> Range<u64> {
        let end = self.starts().into_iter().filter(|s| *s > start).min();
        start..end.unwrap_or_else(|| file_size.saturating_sub(Toc::SIZE))
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let from = out.len();
        for start in self.starts() {
            out.extend_from_slice(&start.to_be_bytes());
        }
        let crc = crc32c::crc32c(&out[from..]);
        out.extend_from_slice(&crc.to_be_bytes());
    }
}
