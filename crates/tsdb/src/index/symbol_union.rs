//! One table for the symbols of many indexes.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use super::{SymbolTable, Symbols};
use crate::error::Error;

/// Makes one table from the symbols of many indexes. Each index then keeps a bit per symbol of the
/// table instead of its own strings: blocks of one server have most of them in common, and a
/// compaction reads hundreds of blocks together.
#[derive(Debug, Default)]
pub struct SymbolUnion {
    table: SymbolTable,
    parts: Vec<UnionPart>,
}

#[derive(Debug)]
enum UnionPart {
    Shared(Places),
    /// Symbols that are not in order, or that entries do not refer to by their place.
    Own(Symbols),
}

impl SymbolUnion {
    pub fn new() -> SymbolUnion {
        SymbolUnion::default()
    }

    /// Adds the symbols of some indexes. Each call goes over the whole table, so it is best to add
    /// several at a time.
    ///
    /// # Errors
    /// When all symbols together exceed 4 GiB.
    pub fn add(&mut self, more: Vec<Symbols>) -> Result<(), Error> {
        let known = std::mem::take(&mut self.table);
        let mut sources: Vec<Strings<'_>> = vec![Box::new(known.iter())];
        sources.extend(more.iter().map(ascending));
        let (table, mut places) = merge(sources)?;
        let moved: Vec<u32> = places.remove(0).iter().collect();
        for part in &mut self.parts {
            if let UnionPart::Shared(places) = part {
                *places = places.iter().filter_map(|at| moved.get(at as usize).copied()).collect();
            }
        }
        self.parts.extend(more.into_iter().zip(places).map(|(symbols, places)| {
            match symbols.in_order() {
                true => UnionPart::Shared(places),
                false => UnionPart::Own(symbols),
            }
        }));
        self.table = table;
        Ok(())
    }

    /// The table, and the symbols of each index in the order in which they were added.
    pub fn finish(mut self) -> (Arc<SymbolTable>, Vec<Symbols>) {
        self.table.shrink();
        let table = Arc::new(self.table);
        let symbols = |part| match part {
            UnionPart::Shared(places) => Symbols::shared(Arc::clone(&table), places),
            UnionPart::Own(symbols) => symbols,
        };
        let parts = self.parts.into_iter().map(symbols).collect();
        (table, parts)
    }
}

type Strings<'a> = Box<dyn Iterator<Item = &'a [u8]> + 'a>;

fn ascending(symbols: &Symbols) -> Strings<'_> {
    if symbols.in_order() {
        return Box::new(symbols.iter());
    }
    let mut strings: Vec<&[u8]> = symbols.iter().collect();
    strings.sort_unstable();
    strings.dedup();
    Box::new(strings.into_iter())
}

/// The table of all strings, and the places of those of each source.
fn merge(mut sources: Vec<Strings<'_>>) -> Result<(SymbolTable, Vec<Places>), Error> {
    let mut table = SymbolTable::default();
    let mut places: Vec<Places> = sources.iter().map(|_| Places::default()).collect();
    let first = sources
        .iter_mut()
        .enumerate()
        .filter_map(|(at, source)| Some(Reverse((source.next()?, at))));
    let mut heads: BinaryHeap<_> = first.collect();
    let mut last = None;
    while let Some(mut head) = heads.peek_mut() {
        let Reverse((string, source)) = *head;
        if last != Some(string) {
            table.push(string)?;
            last = Some(string);
        }
        places[source].push(table.len() - 1);
        match sources[source].next() {
            Some(next) => *head = Reverse((next, source)),
            None => drop(std::collections::binary_heap::PeekMut::pop(head)),
        }
    }
    places.iter_mut().for_each(Places::shrink);
    Ok((table, places))
}

/// Ascending places in a table, a bit for each place of the table.
#[derive(Clone, Debug, Default)]
pub(super) struct Places {
    words: Vec<u64>,
    /// How many places lie before every [`STEP`]th word.
    before: Vec<u32>,
    count: u32,
}

const STEP: usize = 8;

impl Places {
    /// Adds a place after all others.
    fn push(&mut self, place: u32) {
        let word = place as usize / 64;
        while self.words.len() <= word {
            if self.words.len().is_multiple_of(STEP) {
                self.before.push(self.count);
            }
            self.words.push(0);
        }
        self.words[word] |= 1 << (place % 64);
        self.count += 1;
    }

    fn shrink(&mut self) {
        self.words.shrink_to_fit();
        self.before.shrink_to_fit();
    }

    pub(super) fn len(&self) -> u32 {
        self.count
    }

    /// The place with number `n`, counted from 0.
    pub(super) fn nth(&self, n: u32) -> Option<u32> {
        if n >= self.count {
            return None;
        }
        let step = self.before.partition_point(|before| *before <= n).checked_sub(1)?;
        let mut left = n - self.before[step];
        for (at, word) in self.words.iter().enumerate().skip(step * STEP) {
            if left < word.count_ones() {
                let rest = (0..left).fold(*word, |word, _| word & (word - 1));
                return Some(at as u32 * 64 + rest.trailing_zeros());
            }
            left -= word.count_ones();
        }
        None
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = u32> {
        self.words.iter().enumerate().flat_map(|(at, word)| {
            let bits = std::iter::successors(Some(*word), |word| Some(word & word.wrapping_sub(1)));
            bits.take_while(|word| *word != 0)
                .map(move |word| at as u32 * 64 + word.trailing_zeros())
        })
    }

    pub(super) fn memory(&self) -> usize {
        8 * self.words.capacity() + 4 * self.before.capacity()
    }
}

impl FromIterator<u32> for Places {
    fn from_iter<I: IntoIterator<Item = u32>>(places: I) -> Places {
        let mut all = Places::default();
        places.into_iter().for_each(|place| all.push(place));
        all.shrink();
        all
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    /// The symbols of an index that holds these.
    fn symbols(strings: &BTreeSet<String>) -> Symbols {
        let mut section = Vec::new();
        SymbolTable::new(strings).unwrap().write(&mut section).unwrap();
        Symbols::parse(&Bytes::from(section), 5, 2).unwrap()
    }

    proptest! {
        #[test]
        fn every_index_keeps_its_symbols(
            sets in prop::collection::vec(prop::collection::btree_set("[a-d]{0,4}", 0..40), 0..9),
            at_a_time in 1..4usize,
        ) {
            let mut union = SymbolUnion::new();
            for some in sets.chunks(at_a_time) {
                union.add(some.iter().map(symbols).collect()).unwrap();
            }
            let (table, parts) = union.finish();
            let all: BTreeSet<&[u8]> = sets.iter().flatten().map(|s| s.as_bytes()).collect();
            prop_assert!(table.iter().eq(all));
            prop_assert_eq!(parts.len(), sets.len());
            for (part, set) in parts.iter().zip(&sets) {
                prop_assert!(part.iter().eq(set.iter().map(|s| s.as_bytes())));
                prop_assert_eq!(part.len(), set.len());
                for (at, string) in set.iter().enumerate() {
                    prop_assert_eq!(part.get(at as u64).unwrap(), string.as_bytes());
                }
                prop_assert!(part.get(set.len() as u64).is_err());
            }
        }

        #[test]
        fn places_are_found_by_number(places in prop::collection::btree_set(0..5000u32, 0..400)) {
            let found: Places = places.iter().copied().collect();
            prop_assert!(found.iter().eq(places.iter().copied()));
            for (n, place) in places.iter().enumerate() {
                prop_assert_eq!(found.nth(n as u32), Some(*place));
            }
            prop_assert_eq!(found.nth(places.len() as u32), None);
        }
    }

    #[test]
    fn symbols_out_of_order_stay_with_their_index() {
        // b, a: as a foreign writer might have left them
        let mut section = vec![0, 0, 0, 8, 0, 0, 0, 2, 1, b'b', 1, b'a'];
        let crc = crc32c::crc32c(&section[4..]);
        section.extend_from_slice(&crc.to_be_bytes());
        let odd = Symbols::parse(&Bytes::from(section), 5, 2).unwrap();
        let mut union = SymbolUnion::new();
        union.add(vec![symbols(&BTreeSet::from(["a".to_owned(), "c".to_owned()])), odd]).unwrap();
        let (table, parts) = union.finish();
        assert!(table.iter().eq([b"a", b"b", b"c"]));
        assert_eq!((parts[1].get(0).unwrap(), parts[1].get(1).unwrap()), (&b"b"[..], &b"a"[..]));
        assert_eq!((parts[0].get(0).unwrap(), parts[0].get(1).unwrap()), (&b"a"[..], &b"c"[..]));
    }

    #[test]
    fn memory_goes_by_the_different_strings() {
        let strings: BTreeSet<String> =
            (0..4000).map(|i| format!("a value of some label {i:05}")).collect();
        let own = symbols(&strings).memory();
        let mut union = SymbolUnion::new();
        for _ in 0..8 {
            union.add((0..16).map(|_| symbols(&strings)).collect()).unwrap();
        }
        let (table, parts) = union.finish();
        let together = table.memory() + parts.iter().map(Symbols::memory).sum::<usize>();
        assert!(together < 3 * own, "{together} bytes for 128 indexes of {own} bytes each");
    }
}
