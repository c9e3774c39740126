//! What must be known about an index before anything can be looked up in it: Thanos' index-header,
//! in memory only.

use std::ops::Range;

use bytes::Bytes;

use super::cursor::Cursor;
use super::table::PostingsTable;
use super::{MAGIC, SERIES_ALIGNMENT, Symbols, Toc, series};
use crate::error::{Case, Error};

const WHAT: &str = "index header";

/// Magic and version.
const PREAMBLE: u64 = 5;

/// Symbols, postings offset table and table of contents of an index.
#[derive(Clone, Debug)]
pub struct IndexHeader {
    version: u8,
    toc: Toc,
    size: u64,
    symbols: Symbols,
    pub(super) table: PostingsTable,
}

impl IndexHeader {
    pub fn version(&self) -> u8 {
        self.version
    }

    pub fn toc(&self) -> &Toc {
        &self.toc
    }

    pub fn symbols(&self) -> &Symbols {
        &self.symbols
    }

    /// Label names, sorted.
    pub fn label_names(&self) -> impl Iterator<Item = &[u8]> {
        self.table.names()
    }

    /// The values of a label, sorted, with the range of the index where the postings of each lie.
    pub fn label_values(&self, name: &[u8]) -> impl Iterator<Item = (&[u8], Range<u64>)> {
        self.table.iter(name)
    }

    /// Where the postings of `name="value"` lie. The list of all series is that of `""=""`.
    pub fn postings_range(&self, name: &[u8], value: &[u8]) -> Option<Range<u64>> {
        self.table.find(name, value)
    }

    /// The section of series entries.
    pub fn series_section(&self) -> Range<u64> {
        self.toc.section(self.toc.series, self.size)
    }

    /// The section of postings lists.
    pub fn postings_section(&self) -> Range<u64> {
        self.toc.section(self.toc.postings, self.size)
    }

    /// How many series there are, by the length of the list of all.
    pub fn series_count(&self) -> u64 {
        self.table.find(b"", b"").map_or(0, |r| (r.end - r.start).saturating_sub(12) / 4)
    }

    /// Where the entry of a series begins.
    pub fn series_offset(&self, id: u32) -> u64 {
        if self.version == 1 { u64::from(id) } else { u64::from(id) * SERIES_ALIGNMENT }
    }

    /// The length in bytes of the entry whose first bytes (10 suffice) are given.
    pub fn series_len(&self, id: u32, bytes: &[u8]) -> Result<u64, Error> {
        series::entry_len(bytes, self.series_offset(id))
    }

    /// Takes the symbols out, for a [`SymbolUnion`](super::SymbolUnion) to return them in another
    /// form.
    pub fn split(self) -> (IndexHeader, Symbols) {
        (IndexHeader { symbols: Symbols::default(), ..self }, self.symbols)
    }

    /// Puts symbols back in.
    #[must_use]
    pub fn with_symbols(self, symbols: Symbols) -> IndexHeader {
        IndexHeader { symbols, ..self }
    }

    /// Bytes of memory it takes.
    pub fn memory(&self) -> usize {
        size_of::<IndexHeader>() + self.symbols.memory() + self.table.memory()
    }
}

/// Makes an [`IndexHeader`] from ranges of an index that the caller fetches: while
/// [`need`](HeaderLoader::need) is not empty, fetch and [`feed`](HeaderLoader::feed); at most two
/// rounds and three ranges.
#[derive(Debug)]
pub struct HeaderLoader {
    size: u64,
    stage: HeaderStage,
    /// Only the part of the postings offset table that says where the list of all series lies is
    /// read.
    scan: bool,
}

#[derive(Debug)]
enum HeaderStage {
    /// The end of the file, where the table of contents is.
    Tail,
    Sections {
        toc: Toc,
        tail: Bytes,
    },
    Done(Box<IndexHeader>),
}

impl HeaderLoader {
    /// `size` is that of the whole index in bytes.
    pub fn new(size: u64) -> Result<HeaderLoader, Error> {
        if size < PREAMBLE + Toc::SIZE {
            return Err(Error(Case::Truncated { what: WHAT, offset: size }));
        }
        Ok(HeaderLoader { size, stage: HeaderStage::Tail, scan: false })
    }

    /// For reading all series without asking for labels: the header only has the postings of all
    /// series, and the checksum of the postings offset table is not checked.
    #[must_use]
    pub fn for_scan(self) -> HeaderLoader {
        HeaderLoader { scan: true, ..self }
    }

    /// The ranges to fetch next; empty when the header is complete.
    pub fn need(&self) -> Vec<Range<u64>> {
        match &self.stage {
            HeaderStage::Tail => vec![self.tail()],
            HeaderStage::Sections { toc, tail } => {
                let mut ranges = Vec::with_capacity(2);
                ranges.push(0..self.symbols_section(toc).end);
                let table = self.table_part(toc);
                if table.start < self.size - tail.len() as u64 {
                    ranges.push(table);
                }
                ranges
            }
            HeaderStage::Done(_) => Vec::new(),
        }
    }

    /// The bytes of the ranges that [`need`](HeaderLoader::need) named, in its order.
    pub fn feed(&mut self, fetched: &[Bytes]) -> Result<(), Error> {
        let need = self.need();
        for (range, bytes) in need.iter().zip(fetched) {
            if bytes.len() as u64 != range.end - range.start {
                return Err(Error(Case::Truncated {
                    what: WHAT,
                    offset: range.start + bytes.len() as u64,
                }));
            }
        }
        if fetched.len() != need.len() {
            let reason = format!("fed {} ranges instead of {}", fetched.len(), need.len());
            return Err(Error(Case::Invalid { what: WHAT, reason }));
        }
        match &self.stage {
            HeaderStage::Tail => {
                let tail = fetched[0].clone();
                let toc = Toc::parse(&tail[tail.len() - Toc::SIZE as usize..], self.size)?;
                self.stage = HeaderStage::Sections { toc, tail };
                if self.size == fetched[0].len() as u64 {
                    let HeaderStage::Sections { toc, .. } = &self.stage else {
                        unreachable!("just set")
                    };
                    let head = fetched[0].slice(..self.symbols_section(toc).end as usize);
                    return self.feed(&[head]);
                }
                Ok(())
            }
            HeaderStage::Sections { toc, tail } => {
                let table = self.table_part(toc);
                let table_bytes = match fetched.get(1) {
                    Some(bytes) => bytes.clone(),
                    None => {
                        let tail_at = self.size - tail.len() as u64;
                        tail.slice((table.start - tail_at) as usize..(table.end - tail_at) as usize)
                    }
                };
                match self.assemble(*toc, &fetched[0], &table_bytes)? {
                    Some(header) => self.stage = HeaderStage::Done(Box::new(header)),
                    // the list of all series does not come first: the whole table is needed
                    None => self.scan = false,
                }
                Ok(())
            }
            HeaderStage::Done(_) => Ok(()),
        }
    }

    /// The header; an error when something is still needed.
    pub fn finish(self) -> Result<IndexHeader, Error> {
        match self.stage {
            HeaderStage::Done(header) => Ok(*header),
            _ => Err(Error(Case::Invalid {
                what: WHAT,
                reason: "not everything it needs was fed".into(),
            })),
        }
    }

    /// A guess that covers most postings offset tables without reading much more than them: 1/64 of
    /// the file.
    fn tail(&self) -> Range<u64> {
        let most = if self.scan { 4 << 10 } else { 1 << 20 };
        let len = (self.size / 64).clamp(4 << 10, most).min(self.size);
        self.size - len..self.size
    }

    fn symbols_section(&self, toc: &Toc) -> Range<u64> {
        toc.section(toc.symbols, self.size)
    }

    fn table_section(&self, toc: &Toc) -> Range<u64> {
        toc.postings_offset_table..self.size - Toc::SIZE
    }

    /// What is read of the postings offset table.
    fn table_part(&self, toc: &Toc) -> Range<u64> {
        /// Usually more than two entries take.
        const FIRST_ENTRIES: u64 = 1 << 10;
        let Range { start, end } = self.table_section(toc);
        start..if self.scan { end.min(start.saturating_add(FIRST_ENTRIES)) } else { end }
    }

    /// `None` when more of the table is needed.
    fn assemble(&self, toc: Toc, head: &Bytes, table: &[u8]) -> Result<Option<IndexHeader>, Error> {
        let mut preamble = Cursor::new(WHAT, head, 0);
        let magic = preamble.u32()?;
        if magic != MAGIC {
            return Err(
                preamble.corrupt(format!("magic number {magic:08x} instead of {MAGIC:08x}"))
            );
        }
        let version = preamble.take(1)?[0];
        if !(1..=3).contains(&version) {
            return Err(Error(Case::Unsupported {
                what: "index",
                reason: format!("version {version}"),
            }));
        }
        let symbols_at = toc.symbols;
        let Some(section) = usize::try_from(symbols_at)
            .ok()
            .filter(|at| *at <= head.len())
            .map(|at| head.slice(at..))
        else {
            return Err(preamble.truncated());
        };
        // a copy, so that the rest of what was fetched can go
        let symbols = Symbols::parse(&Bytes::copy_from_slice(&section), symbols_at, version)?;
        let postings_end = toc.section(toc.postings, self.size).end;
        let table = match self.scan {
            true => PostingsTable::parse_first(table, toc.postings_offset_table, postings_end),
            false => Some(PostingsTable::parse(table, toc.postings_offset_table, postings_end)?),
        };
        Ok(table.map(|table| IndexHeader { version, toc, size: self.size, symbols, table }))
    }
}
