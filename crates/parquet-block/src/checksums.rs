//! Checksums of the files of a block, in one object beside them.
//!
//! Parquet's own checksums cover pages only, and its reader ignores them; footers and page indexes
//! have none. This object has a CRC-32C of every byte of every other file of the block, in ranges
//! small enough that a reader of a few pages fetches hardly more to check them.
//!
//! # Ranges
//!
//! The ranges of a file follow each other without gaps from its first byte to its last, and none is
//! longer than 64 KiB. A range ends at the first border of pages
//! after 8 KiB, or before a page that would make it too long. A page of more
//! than 64 KiB is cut into pieces of 64 KiB from its own first byte, the last one shorter, and no
//! range has a part of such a page and a part of another. What is before the first page, between
//! pages and behind the last one counts as pages.
//!
//! # Layout
//!
//! ```text
//! ┌─────────┬────────────┬───────────────┬─────────────────┬──────────────────┐
//! │ "DCRC"  │ version 1b │ files uvarint │ that many files │ CRC-32C of all   │
//! │ 4b      │ = 1        │               │                 │ before 4b        │
//! └─────────┴────────────┴───────────────┴─────────────────┴──────────────────┘
//!
//! file
//! ┌─────────────────────┬──────┬──────────────┬──────────────────────┬────────────────┬───────────┐
//! │ name length uvarint │ name │ size uvarint │ footer start uvarint │ ranges uvarint │ that many │
//! └─────────────────────┴──────┴──────────────┴──────────────────────┴────────────────┴───────────┘
//!
//! range
//! ┌────────────────┬────────────┐
//! │ length uvarint │ CRC-32C 4b │
//! └────────────────┴────────────┘
//! ```
//!
//! - `uvarint`: seven bits per byte, lowest first, the eighth bit set in all bytes but the last; in
//!   as few bytes as possible.
//! - CRC-32C (Castagnoli) are little endian.
//! - `name`: 1 to 255 ASCII letters, digits, `.`, `-` and `_`, not beginning with `.`; names differ
//!   and ascend.
//! - `footer start`: the first byte behind the last page, where page indexes and footer begin.
//! - The lengths of a file's ranges add up to its size; each is 1 to 65536.

mod builder;
mod codec;

use std::ops::Range;

pub use builder::ChecksumBuilder;
pub use codec::InvalidChecksums;

/// The name of the object in the block's folder.
pub const CHECKSUMS_FILE: &str = "checksums";

/// The most bytes of a file that one checksum is for.
pub const MAX_RANGE_BYTES: u64 = 64 << 10;

/// The checksums of all files of a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checksums {
    /// In order of names.
    files: Vec<FileChecksums>,
}

impl Checksums {
    /// # Errors
    /// A name that no file of a block may have, or the same name twice.
    pub fn new(mut files: Vec<FileChecksums>) -> Result<Checksums, InvalidChecksums> {
        files.sort_by(|a, b| a.name.cmp(&b.name));
        for file in &files {
            codec::check_name(&file.name)?;
        }
        match files.windows(2).find(|pair| pair[0].name == pair[1].name) {
            Some(pair) => Err(InvalidChecksums::new(format!("{} is there twice", pair[0].name))),
            None => Ok(Checksums { files }),
        }
    }

    pub fn files(&self) -> &[FileChecksums] {
        &self.files
    }

    pub fn file(&self, name: &str) -> Option<&FileChecksums> {
        let at = self.files.binary_search_by(|file| file.name.as_ref().cmp(name)).ok()?;
        Some(&self.files[at])
    }

    /// Bytes in memory.
    pub fn memory_size(&self) -> usize {
        size_of::<Checksums>() + self.files.iter().map(FileChecksums::memory_size).sum::<usize>()
    }
}

/// The checksums of one file: 12 bytes in memory per range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileChecksums {
    name: Box<str>,
    footer_start: u64,
    /// Where each range ends, ascending; the first begins at 0.
    ends: Box<[u64]>,
    /// One per range.
    crcs: Box<[u32]>,
}

impl FileChecksums {
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Of the file, in bytes.
    pub fn size(&self) -> u64 {
        self.ends.last().copied().unwrap_or(0)
    }

    /// The first byte behind the last page.
    pub fn footer_start(&self) -> u64 {
        self.footer_start
    }

    /// Bytes in memory.
    pub fn memory_size(&self) -> usize {
        let heap = self.name.len() + size_of_val(&*self.ends) + size_of_val(&*self.crcs);
        size_of::<FileChecksums>() + heap
    }

    /// Every range and its checksum.
    pub fn ranges(&self) -> impl Iterator<Item = (Range<u64>, u32)> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| start..*end).zip(self.crcs.iter().copied())
    }

    /// The fewest bytes that are whole ranges and hold these; `None` where the file ends before.
    pub fn covering(&self, range: Range<u64>) -> Option<Range<u64>> {
        if range.start > range.end || range.end > self.size() {
            return None;
        }
        // a range holds its first byte, but not the one at its end
        let before = self.ends.partition_point(|end| *end <= range.start);
        let start = self.start_of(before);
        if range.is_empty() {
            return Some(start..start);
        }
        let last = self.ends.partition_point(|end| *end < range.end);
        Some(start..self.ends[last])
    }

    /// Compares bytes of the file, which begin at `start`, with their checksums.
    ///
    /// # Errors
    /// They differ, or do not begin and end where ranges do.
    pub fn verify(&self, start: u64, bytes: &[u8]) -> Result<(), BadRange> {
        let end = start.saturating_add(bytes.len() as u64);
        if self.covering(start..end) != Some(start..end) {
            return Err(BadRange::Borders { file: self.name.to_string(), range: start..end });
        }
        let first = self.ends.partition_point(|end| *end <= start);
        let (mut at, mut rest) = (start, bytes);
        for (range_end, crc) in self.ends[first..].iter().zip(&self.crcs[first..]) {
            if rest.is_empty() {
                break;
            }
            let (range, others) = rest.split_at((range_end - at) as usize);
            if crc32c::crc32c(range) != *crc {
                let file = self.name.to_string();
                return Err(BadRange::Damaged { file, range: at..*range_end });
            }
            (at, rest) = (*range_end, others);
        }
        Ok(())
    }

    fn start_of(&self, range: usize) -> u64 {
        range.checked_sub(1).map_or(0, |previous| self.ends[previous])
    }
}

/// Why bytes of a file are not the right ones.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadRange {
    #[error(
        "bytes {}..{} of {file} do not match their checksum, the file is damaged",
        range.start, range.end
    )]
    Damaged { file: String, range: Range<u64> },
    /// Too few bytes were read, or the caller did not ask [`FileChecksums::covering`].
    #[error("bytes {}..{} of {file} are not whole ranges of checksums", range.start, range.end)]
    Borders { file: String, range: Range<u64> },
}

#[cfg(test)]
mod tests;
