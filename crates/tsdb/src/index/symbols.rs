//! The strings that series entries refer to.

use std::sync::Arc;

use bytes::Bytes;

use super::SymbolTable;
use super::cursor;
use super::symbol_union::Places;
use crate::error::{Case, Error};
use crate::varint::read_uvarint;

const WHAT: &str = "index symbols";

/// The offset of every fourth symbol is kept: a byte of memory per symbol, and few strings to skip
/// per look-up.
const SAMPLING: usize = 4;

/// The symbols of an index.
#[derive(Clone, Debug)]
pub struct Symbols(SymbolsRepr);

#[derive(Clone, Debug)]
enum SymbolsRepr {
    Own(OwnSymbols),
    /// Those at some places of a table that several indexes share.
    Shared {
        table: Arc<SymbolTable>,
        places: Places,
    },
}

/// The symbols in the form of the index.
#[derive(Clone, Debug)]
struct OwnSymbols {
    /// The strings, each preceded by its length, and nothing else.
    strings: Bytes,
    samples: Vec<u32>,
    count: u32,
    /// In version 1 symbols are referred to by the offset in the file; this is the one of the
    /// first.
    by_offset_from: Option<u64>,
}

impl Symbols {
    /// Reads the section that lies at `offset`.
    pub(super) fn parse(section: &Bytes, offset: u64, version: u8) -> Result<Symbols, Error> {
        let mut content = cursor::section(WHAT, section, offset)?;
        let count = content.u32()?;
        let first = content.offset();
        let strings = section.slice_ref(content.rest());
        // a symbol takes at least a byte, so the capacity is bounded by what was read
        let mut samples = Vec::with_capacity((count as usize).min(strings.len()) / SAMPLING + 1);
        let start = content.position();
        for i in 0..count as usize {
            if i.is_multiple_of(SAMPLING) {
                samples.push((content.position() - start) as u32);
            }
            content.string()?;
        }
        if !content.is_empty() {
            return Err(content.corrupt(format!("bytes behind the last of {count} symbols")));
        }
        let by_offset_from = (version == 1).then_some(first);
        Ok(Symbols(SymbolsRepr::Own(OwnSymbols { strings, samples, count, by_offset_from })))
    }

    pub(super) fn shared(table: Arc<SymbolTable>, places: Places) -> Symbols {
        Symbols(SymbolsRepr::Shared { table, places })
    }

    /// The symbol of a series entry's reference.
    pub fn get(&self, reference: u64) -> Result<&[u8], Error> {
        let found = match &self.0 {
            SymbolsRepr::Own(own) => own.find(reference),
            SymbolsRepr::Shared { table, places } => u32::try_from(reference)
                .ok()
                .and_then(|reference| table.get(places.nth(reference)?)),
        };
        found.ok_or_else(|| {
            Error(Case::Corrupt {
                what: WHAT,
                offset: reference,
                reason: format!("no symbol with reference {reference}"),
            })
        })
    }

    /// All symbols in their order, which is that of their bytes in blocks of version 2 and up.
    pub fn iter(&self) -> Box<dyn Iterator<Item = &[u8]> + '_> {
        match &self.0 {
            SymbolsRepr::Own(own) => Box::new(own.iter()),
            SymbolsRepr::Shared { table, places } => {
                Box::new(places.iter().filter_map(|place| table.get(place)))
            }
        }
    }

    pub fn len(&self) -> usize {
        match &self.0 {
            SymbolsRepr::Own(own) => own.count as usize,
            SymbolsRepr::Shared { places, .. } => places.len() as usize,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether entries refer to them by their place in the order of their bytes.
    pub(super) fn in_order(&self) -> bool {
        match &self.0 {
            SymbolsRepr::Own(own) => {
                own.by_offset_from.is_none() && own.iter().is_sorted_by(|a, b| a < b)
            }
            SymbolsRepr::Shared { .. } => true,
        }
    }

    /// Bytes of memory, without those of a shared table.
    pub(super) fn memory(&self) -> usize {
        match &self.0 {
            SymbolsRepr::Own(own) => own.strings.len() + own.samples.len() * 4,
            SymbolsRepr::Shared { places, .. } => places.memory(),
        }
    }
}

impl Default for Symbols {
    fn default() -> Symbols {
        Symbols::shared(Arc::default(), Places::default())
    }
}

impl OwnSymbols {
    fn find(&self, reference: u64) -> Option<&[u8]> {
        if let Some(first) = self.by_offset_from {
            let at = usize::try_from(reference.checked_sub(first)?).ok()?;
            return Some(split_string(self.strings.get(at..)?)?.0);
        }
        if reference >= u64::from(self.count) {
            return None;
        }
        let ordinal = reference as usize;
        let mut rest = &self.strings[self.samples[ordinal / SAMPLING] as usize..];
        for _ in 0..ordinal % SAMPLING {
            rest = split_string(rest)?.1;
        }
        Some(split_string(rest)?.0)
    }

    fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = &self.strings[..];
        std::iter::from_fn(move || {
            let (symbol, after) = split_string(rest)?;
            rest = after;
            Some(symbol)
        })
    }
}

fn split_string(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, at) = read_uvarint(bytes)?;
    bytes[at..].split_at_checked(usize::try_from(len).ok()?)
}
