//! The core of every k-way merge: a tournament tree that remembers the losers, so that replacing
//! the winner costs one comparison per level (Knuth, The Art of Computer Programming, volume 3,
//! 5.4.1).

use std::cmp::Ordering;

/// Merges `k` sorted sources of which it holds only the heads. It never pulls: the caller takes the
/// smallest head out and gives it the next one of the same source, so that both iterators and async
/// streams can drive it.
///
/// ```
/// let mut sources = [vec![1, 4].into_iter(), vec![2, 3].into_iter()];
/// let mut tree = merge::LoserTree::new(sources.iter_mut().map(Iterator::next).collect());
/// let mut merged = Vec::new();
/// while let Some(source) = tree.winner() {
///     merged.extend(tree.replace(sources[source].next()));
/// }
/// assert_eq!(merged, [1, 2, 3, 4]);
/// ```
#[derive(Debug)]
pub struct LoserTree<T, C = fn(&T, &T) -> Ordering> {
    heads: Vec<Option<T>>,
    /// `losers[0]` is the winner; below it a heap-shaped tree of the source that lost at each
    /// match.
    losers: Vec<usize>,
    compare: C,
}

impl<T: Ord> LoserTree<T> {
    /// One head per source; `None` for a source that is empty. Of equal heads, that of the earlier
    /// source comes first.
    pub fn new(heads: Vec<Option<T>>) -> LoserTree<T> {
        LoserTree::with_order(heads, T::cmp)
    }
}

impl<T, C: Fn(&T, &T) -> Ordering> LoserTree<T, C> {
    /// As [`LoserTree::new`], in the order that `compare` gives.
    pub fn with_order(heads: Vec<Option<T>>, compare: C) -> LoserTree<T, C> {
        let mut tree = LoserTree { losers: vec![0; heads.len()], heads, compare };
        tree.play_all();
        tree
    }

    /// The source whose head is smallest; `None` when every source is exhausted.
    pub fn winner(&self) -> Option<usize> {
        let winner = *self.losers.first()?;
        self.heads[winner].is_some().then_some(winner)
    }

    /// The smallest head and its source.
    pub fn peek(&self) -> Option<(usize, &T)> {
        let winner = *self.losers.first()?;
        Some((winner, self.heads[winner].as_ref()?))
    }

    /// Takes the smallest head out and puts the next one of the same source in its place; `None`
    /// ends that source. Does nothing when all are exhausted.
    pub fn replace(&mut self, next: Option<T>) -> Option<T> {
        let mut winner = self.winner()?;
        let taken = std::mem::replace(&mut self.heads[winner], next);
        let mut node = (winner + self.heads.len()) / 2;
        while node > 0 {
            if self.beats(self.losers[node], winner) {
                std::mem::swap(&mut self.losers[node], &mut winner);
            }
            node /= 2;
        }
        self.losers[0] = winner;
        taken
    }

    fn play_all(&mut self) {
        let k = self.heads.len();
        // Sources are the leaves k..2k of an implicit binary tree; inner nodes 1..k hold first
        // winners, then losers.
        let mut winners: Vec<usize> = (0..2 * k).map(|node| node.saturating_sub(k)).collect();
        for node in (1..k).rev() {
            let (left, right) = (winners[2 * node], winners[2 * node + 1]);
            let right_wins = self.beats(right, left);
            winners[node] = if right_wins { right } else { left };
            self.losers[node] = if right_wins { left } else { right };
        }
        if k > 0 {
            self.losers[0] = winners[1];
        }
    }

    fn beats(&self, a: usize, b: usize) -> bool {
        match (&self.heads[a], &self.heads[b]) {
            (Some(x), Some(y)) => (self.compare)(x, y).then(a.cmp(&b)) == Ordering::Less,
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (None, None) => a < b,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn nothing_merges_to_nothing() {
        assert_eq!(LoserTree::<i32>::new(vec![]).winner(), None);
        let mut tree = LoserTree::<i32>::new(vec![None, None]);
        assert_eq!(tree.peek(), None);
        assert_eq!(tree.replace(Some(1)), None);
    }

    proptest! {
        #[test]
        fn merging_equals_a_stable_sort(mut sources in proptest::collection::vec(proptest::collection::vec(0..20u8, 0..12), 0..9)) {
            sources.iter_mut().for_each(|s| s.sort());
            let mut expected: Vec<(u8, usize)> =
                sources.iter().enumerate().flat_map(|(i, s)| s.iter().map(move |v| (*v, i))).collect();
            expected.sort();
            let mut rest: Vec<_> = sources.into_iter().map(Vec::into_iter).collect();
            let mut tree = LoserTree::new(rest.iter_mut().map(Iterator::next).collect());
            let mut merged = Vec::new();
            while let Some(source) = tree.winner() {
                merged.push((tree.replace(rest[source].next()).unwrap(), source));
            }
            prop_assert_eq!(merged, expected);
        }
    }
}
