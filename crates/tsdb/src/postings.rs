//! Postings: sorted lists of series ids without duplicates, and the set operations on them.
//!
//! A list is a plain `Vec<u32>`, because queries walk it afterwards; 40 MB for a block of 10 M
//! series.

/// Keeps in `list` what is also in `other`. Costs O(smaller × log larger) where the sizes differ
/// much.
pub fn intersect(list: &mut Vec<u32>, other: &[u32]) {
    if list.len() / 16 > other.len() {
        let mut rest = list.as_slice();
        let kept = other.iter().copied().filter(|id| skip_to(&mut rest, *id)).collect();
        *list = kept;
        return;
    }
    let mut rest = other;
    list.retain(|id| skip_to(&mut rest, *id));
}

/// Removes from `list` what is in `other`.
pub fn subtract(list: &mut Vec<u32>, other: &[u32]) {
    let mut rest = other;
    list.retain(|id| !skip_to(&mut rest, *id));
}

/// What is in any of the lists.
pub fn union(mut lists: Vec<Vec<u32>>) -> Vec<u32> {
    // pairwise, so that each id is copied log(lists) times
    while lists.len() > 1 {
        let mut merged = Vec::with_capacity(lists.len().div_ceil(2));
        let mut pairs = lists.into_iter();
        while let Some(a) = pairs.next() {
            merged.push(match pairs.next() {
                Some(b) => union_two(a, b),
                None => a,
            });
        }
        lists = merged;
    }
    lists.pop().unwrap_or_default()
}

fn union_two(mut a: Vec<u32>, mut b: Vec<u32>) -> Vec<u32> {
    if a.first() > b.first() {
        std::mem::swap(&mut a, &mut b);
    }
    // one after the other: the common case for values of one label in sorted blocks
    if a.last() < b.first() {
        a.extend_from_slice(&b);
        return a;
    }
    let mut out = Vec::with_capacity(a.len() + b.len());
    let (mut i, mut j) = (0, 0);
    while i < a.len() && j < b.len() {
        let (x, y) = (a[i], b[j]);
        out.push(x.min(y));
        i += usize::from(x <= y);
        j += usize::from(y <= x);
    }
    out.extend_from_slice(&a[i..]);
    out.extend_from_slice(&b[j..]);
    out
}

/// Drops everything below `id` from the front of `rest` by galloping; returns whether `id` is
/// there.
fn skip_to(rest: &mut &[u32], id: u32) -> bool {
    let mut step = 1;
    while step < rest.len() && rest[step] < id {
        step *= 2;
    }
    let from = step / 2;
    let to = (step + 1).min(rest.len());
    if from < to {
        let at = from + rest[from..to].partition_point(|x| *x < id);
        *rest = &rest[at..];
    }
    rest.first() == Some(&id)
}

#[cfg(test)]
mod tests;
