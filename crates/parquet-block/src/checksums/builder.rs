//! Computes the checksums of a file while it is written.

use std::collections::BTreeSet;

use super::{FileChecksums, MAX_RANGE_BYTES};

/// A range is as long as this if pages are shorter, so that reading one reads little else.
pub(super) const WORTHWHILE_BYTES: u64 = 8 << 10;

/// Takes the bytes of one file in order; keeps none of them.
#[derive(Debug)]
pub struct ChecksumBuilder {
    name: Box<str>,
    /// Borders that no byte behind was pushed of yet.
    borders: BTreeSet<u64>,
    /// Bytes pushed so far.
    position: u64,
    /// Whole pages that the next range begins with.
    pages: Run,
    /// The page that is not known to have ended; it follows `pages`.
    page: Run,
    /// Whether pieces of that page are ranges already, so that the rest of it is one too.
    page_is_cut: bool,
    ends: Vec<u64>,
    crcs: Vec<u32>,
}

/// Bytes and their checksum.
#[derive(Clone, Copy, Debug, Default)]
struct Run {
    len: u64,
    crc: u32,
}

impl Run {
    fn push(&mut self, bytes: &[u8]) {
        self.crc = crc32c::crc32c_append(self.crc, bytes);
        self.len += bytes.len() as u64;
    }

    fn append(&mut self, other: Run) {
        self.crc = crc32c::crc32c_combine(self.crc, other.crc, other.len as usize);
        self.len += other.len;
    }
}

impl ChecksumBuilder {
    pub fn new(name: impl Into<Box<str>>) -> ChecksumBuilder {
        ChecksumBuilder {
            name: name.into(),
            borders: BTreeSet::new(),
            position: 0,
            pages: Run::default(),
            page: Run::default(),
            page_is_cut: false,
            ends: Vec::new(),
            crcs: Vec::new(),
        }
    }

    /// Says that a page begins or ends at this offset. To be called before the byte at the offset is
    /// pushed; later it has no effect, since what was pushed is gone. Any order will do.
    pub fn border(&mut self, offset: u64) {
        debug_assert!(offset >= self.position, "the border at {offset} comes too late");
        if offset == self.position {
            self.end_page();
        } else if offset > self.position {
            self.borders.insert(offset);
        }
    }

    /// Adds the next bytes of the file.
    pub fn push(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let border = self.borders.first().copied().unwrap_or(u64::MAX);
            let room = (border - self.position).min(MAX_RANGE_BYTES - self.page.len);
            let now = bytes.len().min(usize::try_from(room).unwrap_or(usize::MAX));
            if now == 0 {
                // only a page that goes on behind 64 KiB is cut
                self.end_range();
                self.take_page();
                self.end_range();
                self.page_is_cut = true;
                continue;
            }
            let (part, rest) = bytes.split_at(now);
            self.page.push(part);
            self.position += now as u64;
            bytes = rest;
            if self.position == border {
                self.borders.pop_first();
                self.end_page();
            }
        }
    }

    /// `footer_start`: the first byte behind the last page.
    pub fn finish(mut self, footer_start: u64) -> FileChecksums {
        debug_assert!(footer_start <= self.position, "{footer_start} is not inside the file");
        self.end_page();
        self.end_range();
        FileChecksums {
            name: self.name,
            footer_start: footer_start.min(self.position),
            ends: self.ends.into(),
            crcs: self.crcs.into(),
        }
    }

    fn end_page(&mut self) {
        let is_cut = std::mem::take(&mut self.page_is_cut);
        if is_cut || self.pages.len + self.page.len > MAX_RANGE_BYTES {
            self.end_range();
        }
        self.take_page();
        if is_cut || self.pages.len >= WORTHWHILE_BYTES {
            self.end_range();
        }
    }

    fn take_page(&mut self) {
        self.pages.append(std::mem::take(&mut self.page));
    }

    fn end_range(&mut self) {
        let range = std::mem::take(&mut self.pages);
        if range.len > 0 {
            self.ends.push(self.ends.last().copied().unwrap_or(0) + range.len);
            self.crcs.push(range.crc);
        }
    }
}
