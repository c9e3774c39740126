//! Writes an index of version 2, as Prometheus 3 does: without label indices and without the label
//! offset table.

use std::sync::Arc;

use model::Labels;
use rustc_hash::FxHashMap;

use super::{ChunkMeta, MAGIC, SERIES_ALIGNMENT, SymbolTable, Toc};
use crate::error::{Case, Error};
use crate::varint::{put_uvarint, put_varint};

const WHAT: &str = "index writer";

/// Pieces of the tail are about this long, in bytes.
const PIECE: usize = 1 << 20;

/// Writes an index front to back: symbols at once, then series as they come, then the tail.
///
/// Output gathers in memory until [`take_output`](IndexWriter::take_output). The symbols and the
/// postings (one to two bytes per label of a series) stay in memory.
#[derive(Debug)]
pub struct IndexWriter {
    out: Vec<u8>,
    /// Bytes of the index so far, including those already taken.
    position: u64,
    toc: Toc,
    symbols: Arc<SymbolTable>,
    lists: Vec<List>,
    /// (name reference, value reference) → index in `lists`; the list of all series is the first of
    /// `lists`.
    by_label: FxHashMap<(u32, u32), u32>,
    last: Option<Labels>,
    last_lists: Vec<(u32, u32, u32)>,
    chunks: u64,
    max_series_size: u64,
}

impl IndexWriter {
    /// `symbols` are all names and values of labels to come, sorted by bytes and without
    /// duplicates.
    pub fn new<S: AsRef<[u8]>>(symbols: impl IntoIterator<Item = S>) -> Result<IndexWriter, Error> {
        IndexWriter::with_symbols(Arc::new(SymbolTable::new(symbols)?))
    }

    /// As [`new`](IndexWriter::new), with a table that others use too.
    pub fn with_symbols(symbols: Arc<SymbolTable>) -> Result<IndexWriter, Error> {
        let mut out = Vec::new();
        out.extend_from_slice(&MAGIC.to_be_bytes());
        out.push(2);
        let toc = Toc { symbols: out.len() as u64, ..Toc::default() };
        symbols.write(&mut out)?;
        let position = out.len() as u64;
        Ok(IndexWriter {
            out,
            position,
            toc: Toc { series: position, ..toc },
            symbols,
            lists: vec![List::default()],
            by_label: FxHashMap::default(),
            last: None,
            last_lists: Vec::new(),
            chunks: 0,
            max_series_size: 0,
        })
    }

    /// Adds a series; label sets must ascend. Returns its id.
    pub fn push(&mut self, labels: &Labels, chunks: &[ChunkMeta]) -> Result<u32, Error> {
        if self.last.as_ref().is_some_and(|last| last >= labels) {
            let reason = format!(
                "series {labels} does not come after {}",
                self.last.clone().unwrap_or_default()
            );
            return Err(Error(Case::Invalid { what: WHAT, reason }));
        }
        let lists = self.lists_of(labels)?;
        self.pad(SERIES_ALIGNMENT);
        let id = u32::try_from(self.position / SERIES_ALIGNMENT).map_err(|_| {
            Error(Case::Limit { what: WHAT, reason: "the index would exceed 64 GiB".into() })
        })?;
        self.write_entry(&lists, chunks)?;
        self.lists[0].push(id);
        for (_, _, list) in &lists {
            self.lists[*list as usize].push(id);
        }
        self.last = Some(labels.clone());
        self.last_lists = lists;
        self.chunks += chunks.len() as u64;
        Ok(id)
    }

    /// What was written since the last call.
    pub fn take_output(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.out)
    }

    /// How many bytes wait for [`take_output`](IndexWriter::take_output).
    pub fn pending(&self) -> usize {
        self.out.len()
    }

    pub fn series(&self) -> u64 {
        u64::from(self.lists[0].count)
    }

    pub fn chunks(&self) -> u64 {
        self.chunks
    }

    /// The largest series entry with its padding, in bytes, for `index_stats` of `meta.json`.
    pub fn max_series_size(&self) -> u64 {
        self.max_series_size
    }

    /// Ends the series; the rest of the index comes in pieces, beginning with what was not taken
    /// yet.
    pub fn finish(mut self) -> IndexTail {
        self.toc.postings = self.position;
        self.toc.label_indices = self.position;
        let mut keys: Vec<Key> = self
            .by_label
            .iter()
            .map(|((name, value), list)| Key { name: Some(*name), value: *value, list: *list })
            .collect();
        keys.sort_unstable_by_key(|k| (k.name, k.value));
        keys.insert(0, Key { name: None, value: 0, list: 0 });
        self.by_label = FxHashMap::default();
        self.pad(4);
        let first_list = self.position;
        IndexTail {
            writer: self,
            keys,
            first_list,
            table_len: 4,
            stage: WriterStage::Lists(0),
            crc: 0,
        }
    }

    /// (name reference, value reference, list) of each label.
    fn lists_of(&mut self, labels: &Labels) -> Result<Vec<(u32, u32, u32)>, Error> {
        let mut refs = Vec::with_capacity(self.last_lists.len() + 4);
        let last = self.last.clone().unwrap_or_default();
        // series that follow each other share most labels
        let mut known = last.iter().zip(&self.last_lists).peekable();
        for (name, value) in labels.iter() {
            while known.next_if(|((n, _), _)| *n < name).is_some() {}
            if let Some((_, refs_of_last)) = known.next_if(|(label, _)| *label == (name, value)) {
                refs.push(*refs_of_last);
                continue;
            }
            let (name_ref, value_ref) = (self.symbols.find(name)?, self.symbols.find(value)?);
            let next = self.lists.len() as u32;
            let list = *self.by_label.entry((name_ref, value_ref)).or_insert(next);
            if list == next {
                self.lists.push(List::default());
            }
            refs.push((name_ref, value_ref, list));
        }
        Ok(refs)
    }

    fn write_entry(
        &mut self,
        labels: &[(u32, u32, u32)],
        chunks: &[ChunkMeta],
    ) -> Result<(), Error> {
        let mut entry = Vec::with_capacity(16 + labels.len() * 6 + chunks.len() * 8);
        put_uvarint(&mut entry, labels.len() as u64);
        for (name, value, _) in labels {
            put_uvarint(&mut entry, u64::from(*name));
            put_uvarint(&mut entry, u64::from(*value));
        }
        put_uvarint(&mut entry, chunks.len() as u64);
        let mut last: Option<&ChunkMeta> = None;
        for chunk in chunks {
            let Ok(span) = u64::try_from(i128::from(chunk.max_time) - i128::from(chunk.min_time))
            else {
                let reason = format!("a chunk from {} to {}", chunk.min_time, chunk.max_time);
                return Err(Error(Case::Invalid { what: WHAT, reason }));
            };
            match last {
                None => {
                    put_varint(&mut entry, chunk.min_time);
                    put_uvarint(&mut entry, span);
                    put_uvarint(&mut entry, chunk.reference);
                }
                Some(last) => {
                    put_uvarint(
                        &mut entry,
                        chunk.min_time.wrapping_sub(last.max_time).cast_unsigned(),
                    );
                    put_uvarint(&mut entry, span);
                    put_varint(
                        &mut entry,
                        chunk.reference.wrapping_sub(last.reference).cast_signed(),
                    );
                }
            }
            last = Some(chunk);
        }
        let start = self.out.len();
        put_uvarint(&mut self.out, entry.len() as u64);
        self.out.extend_from_slice(&entry);
        self.out.extend_from_slice(&crc32c::crc32c(&entry).to_be_bytes());
        let size = (self.out.len() - start) as u64;
        self.position += size;
        self.max_series_size = self.max_series_size.max(size.next_multiple_of(SERIES_ALIGNMENT));
        Ok(())
    }

    fn pad(&mut self, alignment: u64) {
        let padding = self.position.next_multiple_of(alignment) - self.position;
        self.out.resize(self.out.len() + padding as usize, 0);
        self.position += padding;
    }
}

/// The postings, their offset table and the table of contents, as an iterator over pieces of bytes.
#[derive(Debug)]
pub struct IndexTail {
    writer: IndexWriter,
    keys: Vec<Key>,
    first_list: u64,
    table_len: u64,
    stage: WriterStage,
    crc: u32,
}

#[derive(Clone, Copy, Debug)]
struct Key {
    /// `None` is the list of all series.
    name: Option<u32>,
    value: u32,
    list: u32,
}

#[derive(Debug)]
enum WriterStage {
    /// The next key whose list is to be written.
    Lists(usize),
    /// The next key whose entry is to be written, and where its list lies.
    Table(usize, u64),
    Done,
}

impl Iterator for IndexTail {
    type Item = Result<Vec<u8>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.writer.out.len() < PIECE {
            match self.stage {
                WriterStage::Lists(at) if at < self.keys.len() => {
                    self.write_list(self.keys[at]);
                    self.stage = WriterStage::Lists(at + 1);
                }
                WriterStage::Lists(_) => {
                    if let Err(e) = self.start_table() {
                        self.stage = WriterStage::Done;
                        self.writer.out.clear();
                        return Some(Err(e));
                    }
                    self.stage = WriterStage::Table(0, self.first_list);
                }
                WriterStage::Table(at, offset) if at < self.keys.len() => {
                    let key = self.keys[at];
                    let entry = self.table_entry(key, offset);
                    self.append_summed(&entry);
                    let len = self.writer.lists[key.list as usize].section_len();
                    self.stage = WriterStage::Table(at + 1, offset + len);
                }
                WriterStage::Table(..) => {
                    self.writer.out.extend_from_slice(&self.crc.to_be_bytes());
                    self.writer.toc.write(&mut self.writer.out);
                    self.stage = WriterStage::Done;
                }
                WriterStage::Done => break,
            }
        }
        let piece = self.writer.take_output();
        (!piece.is_empty()).then_some(Ok(piece))
    }
}

impl IndexTail {
    fn write_list(&mut self, key: Key) {
        let offset = self.writer.position;
        self.table_len += self.table_entry(key, offset).len() as u64;
        let IndexWriter { lists, out, position, .. } = &mut self.writer;
        let list = &lists[key.list as usize];
        out.extend_from_slice(&(4 + 4 * list.count).to_be_bytes());
        let from = out.len();
        out.extend_from_slice(&list.count.to_be_bytes());
        list.write_ids(out);
        let crc = crc32c::crc32c(&out[from..]);
        out.extend_from_slice(&crc.to_be_bytes());
        *position += list.section_len();
    }

    fn start_table(&mut self) -> Result<(), Error> {
        self.writer.toc.postings_offset_table = self.writer.position;
        self.writer.toc.label_offset_table = self.writer.position;
        let len = u32::try_from(self.table_len).map_err(|_| {
            Error(Case::Limit {
                what: WHAT,
                reason: "the postings offset table would exceed 4 GiB".into(),
            })
        })?;
        self.writer.out.extend_from_slice(&len.to_be_bytes());
        self.append_summed(&(self.keys.len() as u32).to_be_bytes());
        Ok(())
    }

    fn table_entry(&self, key: Key, offset: u64) -> Vec<u8> {
        let symbols = &self.writer.symbols;
        let (name, value) = match key.name {
            None => (&[][..], &[][..]),
            Some(name) => {
                (symbols.get(name).unwrap_or_default(), symbols.get(key.value).unwrap_or_default())
            }
        };
        let mut entry = Vec::with_capacity(name.len() + value.len() + 12);
        put_uvarint(&mut entry, 2);
        for text in [name, value] {
            put_uvarint(&mut entry, text.len() as u64);
            entry.extend_from_slice(text);
        }
        put_uvarint(&mut entry, offset);
        entry
    }

    fn append_summed(&mut self, bytes: &[u8]) {
        self.crc = crc32c::crc32c_append(self.crc, bytes);
        self.writer.out.extend_from_slice(bytes);
    }
}

/// Ascending ids as differences, each a varint.
#[derive(Debug, Default)]
struct List {
    deltas: Vec<u8>,
    last: u32,
    count: u32,
}

impl List {
    fn push(&mut self, id: u32) {
        put_uvarint(&mut self.deltas, u64::from(id - self.last));
        self.last = id;
        self.count += 1;
    }

    fn write_ids(&self, out: &mut Vec<u8>) {
        out.reserve(self.count as usize * 4);
        let mut rest = self.deltas.as_slice();
        let mut id = 0u32;
        while let Some((delta, len)) = crate::varint::read_uvarint(rest) {
            rest = &rest[len..];
            id += delta as u32;
            out.extend_from_slice(&id.to_be_bytes());
        }
    }

    /// The size of the list in the index: length, count, ids, checksum; a multiple of 4, so there
    /// is no padding between lists.
    fn section_len(&self) -> u64 {
        12 + 4 * u64::from(self.count)
    }
}

#[cfg(test)]
mod tests;
