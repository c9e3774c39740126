//! Packing label sets that are given as references to strings.

use std::ops::Range;
use std::sync::Arc;

use super::{Labels, push_bytes};

/// Packs label sets one after the other, each given as pairs of references to the strings of one
/// table, as in an index. Neighbours share most labels: what a set has in the same place as the one
/// before is copied, not looked up.
#[derive(Debug, Default)]
pub struct LabelsPacker {
    set: PackedSet,
    before: PackedSet,
}

#[derive(Debug, Default)]
struct PackedSet {
    pairs: Vec<PackedPair>,
    bytes: Vec<u8>,
}

#[derive(Debug)]
struct PackedPair {
    name: u64,
    value: u64,
    /// Where name and value lie in the packed set; both are empty if the value is.
    packed_name: Range<usize>,
    packed_value: Range<usize>,
}

impl LabelsPacker {
    /// The set of these references to names and values; `look_up` must always return the same
    /// string for the same reference. Empty values are left out. `None` when the names are not in
    /// order, or not distinct.
    ///
    /// # Errors
    /// The first one of `references` or `look_up`.
    pub fn pack<'s, E>(
        &mut self,
        references: impl IntoIterator<Item = Result<(u64, u64), E>>,
        look_up: impl Fn(u64) -> Result<&'s [u8], E>,
    ) -> Result<Option<Labels>, E> {
        std::mem::swap(&mut self.set, &mut self.before);
        self.set.pairs.clear();
        self.set.bytes.clear();
        let packed = self.fill(references, look_up);
        if !matches!(packed, Ok(Some(_))) {
            // the next set must not be compared with it
            self.set.pairs.clear();
        }
        packed
    }

    fn fill<'s, E>(
        &mut self,
        references: impl IntoIterator<Item = Result<(u64, u64), E>>,
        look_up: impl Fn(u64) -> Result<&'s [u8], E>,
    ) -> Result<Option<Labels>, E> {
        let (PackedSet { pairs, bytes }, before) = (&mut self.set, &self.before);
        let mut same_names = true;
        for (place, pair) in references.into_iter().enumerate() {
            let (name, value) = pair?;
            let alike = before
                .pairs
                .get(place)
                .filter(|pair| pair.name == name && !pair.packed_name.is_empty());
            same_names &= alike.is_some();
            let from = bytes.len();
            let mut name_end = from;
            if let Some(same) = alike.filter(|pair| pair.value == value) {
                bytes.extend_from_slice(
                    &before.bytes[same.packed_name.start..same.packed_value.end],
                );
                name_end += same.packed_name.len();
            } else {
                let text = look_up(value)?;
                if !text.is_empty() {
                    match alike {
                        Some(pair) => {
                            bytes.extend_from_slice(&before.bytes[pair.packed_name.clone()])
                        }
                        None => push_bytes(bytes, look_up(name)?),
                    }
                    name_end = bytes.len();
                    push_bytes(bytes, text);
                }
            }
            pairs.push(PackedPair {
                name,
                value,
                packed_name: from..name_end,
                packed_value: name_end..bytes.len(),
            });
        }
        let labels = Labels(Arc::from(bytes.as_slice()));
        // names that were all in order before are so again, no matter which are left out now
        let in_order = same_names && pairs.len() == before.pairs.len() || labels.is_sorted();
        Ok(in_order.then_some(labels))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn sets_are_those_of_their_strings(
            strings in prop::collection::btree_set("[a-e]{1,3}", 1..4),
            sets in prop::collection::vec(prop::collection::vec((0u64..6, 0u64..6), 0..4), 0..12),
            sorted in any::<bool>(),
        ) {
            let strings: Vec<String> = std::iter::once(String::new()).chain(strings).collect();
            let look_up = |at: u64| strings.get(at as usize).map(String::as_bytes).ok_or(at);
            let mut packer = LabelsPacker::default();
            for mut set in sets {
                if sorted {
                    set.sort_unstable();
                }
                let packed = packer.pack(set.iter().copied().map(Ok), look_up);
                let value_missing = set.iter().any(|(_, value)| look_up(*value).is_err());
                let there = |(n, v): &(u64, u64)| Some((look_up(*n).ok()?, look_up(*v).ok()?));
                let Some(pairs) = set.iter().map(there).collect::<Option<Vec<_>>>() else {
                    prop_assert!(packed.is_err() || !value_missing);
                    continue;
                };
                let pairs: Vec<_> = pairs.into_iter().filter(|(_, value)| !value.is_empty()).collect();
                let in_order = pairs.windows(2).all(|w| w[0].0 < w[1].0);
                let expected = in_order.then(|| Labels::from_sorted(pairs));
                prop_assert_eq!(packed, Ok(expected));
            }
        }
    }
}
