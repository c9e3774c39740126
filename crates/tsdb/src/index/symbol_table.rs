//! Sorted symbols in memory, found by place or by string.

use crate::error::{Case, Error};
use crate::varint::put_uvarint;

const WHAT: &str = "index symbols";

/// Names and values of labels, sorted by bytes and without duplicates, in one buffer.
#[derive(Debug, Default)]
pub struct SymbolTable {
    strings: Vec<u8>,
    /// Where each symbol ends.
    ends: Vec<u32>,
}

impl SymbolTable {
    /// # Errors
    /// When the symbols do not ascend, or exceed 4 GiB.
    pub fn new<S: AsRef<[u8]>>(symbols: impl IntoIterator<Item = S>) -> Result<SymbolTable, Error> {
        let mut table = SymbolTable::default();
        for symbol in symbols {
            table.push(symbol.as_ref())?;
        }
        Ok(table)
    }

    pub(super) fn push(&mut self, symbol: &[u8]) -> Result<(), Error> {
        if self.last().is_some_and(|last| last >= symbol) {
            let reason = format!("symbol {:?} is not in order", String::from_utf8_lossy(symbol));
            return Err(Error(Case::Invalid { what: WHAT, reason }));
        }
        let end = u32::try_from(self.strings.len() + symbol.len()).map_err(|_| too_many())?;
        self.strings.extend_from_slice(symbol);
        self.ends.push(end);
        Ok(())
    }

    fn last(&self) -> Option<&[u8]> {
        self.get(self.len().checked_sub(1)?)
    }

    pub(super) fn shrink(&mut self) {
        self.strings.shrink_to_fit();
        self.ends.shrink_to_fit();
    }

    pub fn len(&self) -> u32 {
        // every symbol except an empty first one takes a byte, so their number fits if their bytes
        // do
        self.ends.len() as u32
    }

    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The symbol at a place, counted from 0.
    pub fn get(&self, place: u32) -> Option<&[u8]> {
        let at = place as usize;
        let end = *self.ends.get(at)? as usize;
        let start = at.checked_sub(1).map_or(0, |before| self.ends[before] as usize);
        Some(&self.strings[start..end])
    }

    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.len()).filter_map(|place| self.get(place))
    }

    pub(super) fn find(&self, symbol: &[u8]) -> Result<u32, Error> {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low + (high - low) / 2;
            if self.get(middle) < Some(symbol) { low = middle + 1 } else { high = middle }
        }
        if self.get(low) == Some(symbol) {
            return Ok(low);
        }
        let reason = format!("{:?} is not among the symbols", String::from_utf8_lossy(symbol));
        Err(Error(Case::Invalid { what: WHAT, reason }))
    }

    /// Writes the section of an index.
    pub(super) fn write(&self, out: &mut Vec<u8>) -> Result<(), Error> {
        out.reserve(self.strings.len() + 2 * self.ends.len() + 16);
        let start = out.len();
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&self.len().to_be_bytes());
        for symbol in self.iter() {
            put_uvarint(out, symbol.len() as u64);
            out.extend_from_slice(symbol);
        }
        let len = u32::try_from(out.len() - start - 4).map_err(|_| too_many())?;
        out[start..start + 4].copy_from_slice(&len.to_be_bytes());
        let crc = crc32c::crc32c(&out[start + 4..]);
        out.extend_from_slice(&crc.to_be_bytes());
        Ok(())
    }

    /// Bytes of memory it takes.
    pub fn memory(&self) -> usize {
        self.strings.capacity() + 4 * self.ends.capacity()
    }
}

fn too_many() -> Error {
    Error(Case::Limit { what: WHAT, reason: "the symbols would exceed 4 GiB".into() })
}
