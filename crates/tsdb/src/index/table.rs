//! The postings offset table in memory: for every label name its values, and where their postings
//! lie.
//!
//! It is not kept in the form of the file, where each entry repeats the name, but as one buffer per
//! name of `uvarint len │ value │ uvarint offset │ uvarint length`, sorted by value, with the place
//! of every 16th.

use std::ops::Range;

use super::cursor::{self, Cursor};
use crate::error::Error;
use crate::varint::{put_uvarint, read_uvarint};

const WHAT: &str = "index postings offset table";
const SAMPLING: usize = 16;

#[derive(Clone, Debug, Default)]
pub(super) struct PostingsTable {
    /// Sorted by name. The list of all series is under ("", "").
    names: Vec<NameValues>,
}

#[derive(Clone, Debug)]
struct NameValues {
    name: Box<[u8]>,
    packed: Vec<u8>,
    samples: Vec<u32>,
    count: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct TableEntry<'a> {
    name: &'a [u8],
    value: &'a [u8],
    /// Where its postings begin.
    start: u64,
}

impl<'a> TableEntry<'a> {
    fn label(&self) -> (&'a [u8], &'a [u8]) {
        (self.name, self.value)
    }
}

impl PostingsTable {
    /// Reads the section at `offset`; `end` is where the last postings list ends.
    pub(super) fn parse(section: &[u8], offset: u64, end: u64) -> Result<PostingsTable, Error> {
        let mut content = cursor::section(WHAT, section, offset)?;
        let count = content.u32()?;
        let unordered = content.clone();
        match PostingsTable::parse_ordered(&mut content, count, end)? {
            Some(table) => Ok(table),
            // writers of version 1 did not sort
            None => PostingsTable::parse_unordered(unordered, count, end),
        }
    }

    /// Reads only the list of all series, from the front of the section; `None` when it is not
    /// there, or the bytes end too early.
    pub(super) fn parse_first(section: &[u8], offset: u64, end: u64) -> Option<PostingsTable> {
        let mut content = Cursor::new(WHAT, section, offset);
        let (_len, count) = (content.u32().ok()?, content.u32().ok()?);
        let all = parse_entry(&mut content)
            .ok()
            .filter(|entry| entry.name.is_empty() && entry.value.is_empty())?;
        let next = match count {
            1 => end,
            _ => parse_entry(&mut content).ok()?.start,
        };
        if all.start >= next || next > end {
            return None;
        }
        let mut table = PostingsTable::default();
        table.push(all, next);
        table.shrink();
        Some(table)
    }

    /// `None` when names, values or offsets do not ascend.
    fn parse_ordered(
        content: &mut Cursor<'_>,
        count: u32,
        end: u64,
    ) -> Result<Option<PostingsTable>, Error> {
        let mut table = PostingsTable::default();
        let mut previous: Option<TableEntry<'_>> = None;
        for _ in 0..count {
            let entry = parse_entry(content)?;
            if let Some(previous) = previous {
                if previous.label() >= entry.label() || previous.start >= entry.start {
                    return Ok(None);
                }
                table.push(previous, entry.start);
            }
            previous = Some(entry);
        }
        if let Some(last) = previous {
            if last.start >= end {
                return Err(
                    content.corrupt(format!("postings at {} lie beyond their section", last.start))
                );
            }
            table.push(last, end);
        }
        if !content.is_empty() {
            return Err(content.corrupt(format!("bytes behind the last of {count} entries")));
        }
        table.shrink();
        Ok(Some(table))
    }

    fn parse_unordered(
        mut content: Cursor<'_>,
        count: u32,
        end: u64,
    ) -> Result<PostingsTable, Error> {
        let mut entries = Vec::new();
        for _ in 0..count {
            entries.push(parse_entry(&mut content)?);
        }
        let mut starts: Vec<u64> = entries.iter().map(|e| e.start).chain([end]).collect();
        starts.sort_unstable();
        starts.dedup();
        entries.sort_unstable();
        if entries.windows(2).any(|w| w[0].label() == w[1].label()) {
            return Err(content.corrupt("two entries for one label"));
        }
        let mut table = PostingsTable::default();
        for entry in entries {
            let next = starts.partition_point(|s| *s <= entry.start);
            let Some(end) = starts.get(next) else {
                return Err(content
                    .corrupt(format!("postings at {} lie beyond their section", entry.start)));
            };
            table.push(entry, *end);
        }
        table.shrink();
        Ok(table)
    }

    fn push(&mut self, entry: TableEntry<'_>, end: u64) {
        let TableEntry { name, value, start } = entry;
        if self.names.last().is_none_or(|last| &*last.name != name) {
            if let Some(last) = self.names.last_mut() {
                last.shrink();
            }
            self.names.push(NameValues {
                name: name.into(),
                packed: Vec::new(),
                samples: Vec::new(),
                count: 0,
            });
        }
        let values = self.names.last_mut().expect("pushed above");
        if values.count.is_multiple_of(SAMPLING) {
            // a section is shorter than 4 GiB, and this form of it shorter still
            values.samples.push(values.packed.len() as u32);
        }
        put_uvarint(&mut values.packed, value.len() as u64);
        values.packed.extend_from_slice(value);
        put_uvarint(&mut values.packed, start);
        put_uvarint(&mut values.packed, end - start);
        values.count += 1;
    }

    fn shrink(&mut self) {
        self.names.shrink_to_fit();
        if let Some(last) = self.names.last_mut() {
            last.shrink();
        }
    }

    fn values(&self, name: &[u8]) -> Option<&NameValues> {
        let at = self.names.binary_search_by(|v| (*v.name).cmp(name)).ok()?;
        Some(&self.names[at])
    }

    /// Where the postings of `name="value"` lie.
    pub(super) fn find(&self, name: &[u8], value: &[u8]) -> Option<Range<u64>> {
        self.values(name)?.find(value)
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &[u8]> {
        self.names.iter().map(|v| &*v.name).filter(|name| !name.is_empty())
    }

    /// The values of a label in order, and where the postings of each lie.
    pub(super) fn iter(&self, name: &[u8]) -> impl Iterator<Item = (&[u8], Range<u64>)> {
        let mut packed = self.values(name).map_or(&[][..], |v| &v.packed);
        std::iter::from_fn(move || next_value(&mut packed))
    }

    pub(super) fn memory(&self) -> usize {
        self.names
            .iter()
            .map(|v| v.name.len() + v.packed.len() + 4 * v.samples.len() + size_of::<NameValues>())
            .sum()
    }
}

impl NameValues {
    fn find(&self, value: &[u8]) -> Option<Range<u64>> {
        let sampled =
            |at: &u32| next_value(&mut &self.packed[*at as usize..]).map_or(&[][..], |v| v.0);
        let after = self.samples.partition_point(|at| sampled(at) <= value);
        let mut packed = &self.packed[self.samples[after.checked_sub(1)?] as usize..];
        while let Some((candidate, range)) = next_value(&mut packed) {
            match candidate.cmp(value) {
                std::cmp::Ordering::Less => {}
                std::cmp::Ordering::Equal => return Some(range),
                std::cmp::Ordering::Greater => return None,
            }
        }
        None
    }

    fn shrink(&mut self) {
        self.packed.shrink_to_fit();
        self.samples.shrink_to_fit();
    }
}

fn next_value<'a>(packed: &mut &'a [u8]) -> Option<(&'a [u8], Range<u64>)> {
    let number = |packed: &mut &'a [u8]| {
        let (value, len) = read_uvarint(packed)?;
        *packed = &packed[len..];
        Some(value)
    };
    let len = number(packed)? as usize;
    let (value, rest) = packed.split_at(len);
    *packed = rest;
    let start = number(packed)?;
    let length = number(packed)?;
    Some((value, start..start + length))
}

fn parse_entry<'a>(content: &mut Cursor<'a>) -> Result<TableEntry<'a>, Error> {
    let keys = content.uvarint()?;
    if keys != 2 {
        return Err(content.corrupt(format!("an entry of {keys} strings instead of 2")));
    }
    Ok(TableEntry { name: content.string()?, value: content.string()?, start: content.uvarint()? })
}
