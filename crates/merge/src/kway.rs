//! The merge of many sorted sources into one stream of groups: what is equal, from any source,
//! comes together. Every merge of streams of series is one of these.

use std::cmp::Ordering;
use std::vec::Drain;

use crate::loser_tree::LoserTree;

/// Merges `k` sorted sources of which it holds the heads and one group. Like the [`LoserTree`]
/// below it, it never pulls: it says which source to ask, so that the owner of the sources waits
/// for them, and may stop waiting at any instant without losing anything.
///
/// ```
/// use merge::{KWay, Step};
///
/// let mut sources = [vec![1, 4].into_iter(), vec![1, 3].into_iter()];
/// let heads = sources.iter_mut().map(Iterator::next).collect();
/// let mut merge = KWay::new(heads, i32::cmp, i32::eq);
/// let mut groups = Vec::new();
/// loop {
///     match merge.step() {
///         Step::Pull(source) => merge.give(sources[source].next()),
///         Step::Group => groups.push(merge.take_group().collect::<Vec<_>>()),
///         Step::End => break,
///     }
/// }
/// assert_eq!(groups, [vec![(0, 1), (1, 1)], vec![(1, 3)], vec![(0, 4)]]);
/// ```
#[derive(Debug)]
pub struct KWay<T> {
    tree: LoserTree<T, fn(&T, &T) -> Ordering>,
    is_equal: fn(&T, &T) -> bool,
    /// Heads that are equal, each with its source. Their sources have others in the tree.
    group: Vec<(usize, T)>,
}

/// What is to be done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// [Give](KWay::give) the next head of this source.
    Pull(usize),
    /// [Take](KWay::take_group) the group, which is complete.
    Group,
    /// All sources are exhausted.
    End,
}

impl<T> KWay<T> {
    /// One head per source; `None` for a source that is empty. `is_equal` agrees with `order`, and
    /// may be cheaper.
    pub fn new(
        heads: Vec<Option<T>>,
        order: fn(&T, &T) -> Ordering,
        is_equal: fn(&T, &T) -> bool,
    ) -> KWay<T> {
        KWay { tree: LoserTree::with_order(heads, order), is_equal, group: Vec::new() }
    }

    /// The same until something is given or taken.
    pub fn step(&self) -> Step {
        match (self.tree.peek(), self.group.first()) {
            (Some((source, _)), None) => Step::Pull(source),
            (Some((source, head)), Some((_, first))) if (self.is_equal)(head, first) => {
                Step::Pull(source)
            }
            (_, Some(_)) => Step::Group,
            (None, None) => Step::End,
        }
    }

    /// Answers [`Step::Pull`]; `None` ends the source.
    pub fn give(&mut self, next: Option<T>) {
        let Some(source) = self.tree.winner() else { return };
        self.group.extend(self.tree.replace(next).map(|head| (source, head)));
    }

    /// Answers [`Step::Group`]: all heads that are equal, in the order of their sources, each with
    /// its source. A source that has several has them one after the other.
    pub fn take_group(&mut self) -> Drain<'_, (usize, T)> {
        self.group.drain(..)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Item = (u8, usize);

    /// Compares values alone, so that the test sees where each came from.
    fn merged(sources: Vec<Vec<Item>>) -> Vec<Vec<(usize, Item)>> {
        let mut rest: Vec<_> = sources.into_iter().map(Vec::into_iter).collect();
        let heads = rest.iter_mut().map(Iterator::next).collect();
        let mut merge = KWay::new(heads, |a: &Item, b| a.0.cmp(&b.0), |a, b| a.0 == b.0);
        let mut groups = Vec::new();
        loop {
            match merge.step() {
                Step::Pull(source) => {
                    assert_eq!(merge.step(), Step::Pull(source), "asking changes nothing");
                    merge.give(rest[source].next());
                }
                Step::Group => groups.push(merge.take_group().collect()),
                Step::End => return groups,
            }
        }
    }

    #[test]
    fn nothing_merges_to_nothing() {
        assert!(merged(vec![]).is_empty());
        assert!(merged(vec![vec![], vec![]]).is_empty());
    }

    proptest! {
        #[test]
        fn groups_are_all_that_is_equal_in_the_order_of_sources(
            values in prop::collection::vec(prop::collection::vec(0..6u8, 0..12), 0..9),
        ) {
            let number = |(source, mut values): (usize, Vec<u8>)| -> Vec<(usize, Item)> {
                values.sort_unstable();
                values.into_iter().enumerate().map(|(i, v)| (source, (v, i))).collect()
            };
            let sources: Vec<_> = values.into_iter().enumerate().map(number).collect();
            let mut all: Vec<(usize, Item)> = sources.iter().flatten().copied().collect();
            all.sort_by_key(|(source, (value, i))| (*value, *source, *i));
            let expected: Vec<Vec<_>> =
                all.chunk_by(|a, b| a.1.0 == b.1.0).map(<[_]>::to_vec).collect();
            let items = sources.into_iter().map(|s| s.into_iter().map(|(_, item)| item).collect());
            prop_assert_eq!(merged(items.collect()), expected);
        }
    }
}
