//! How long work is ended from outside.

use std::cell::Cell;
use std::cmp::Ordering;

/// This many units of work are done between two questions. A unit is about what adding a number to
/// a sum takes, so that less than a millisecond passes.
const UNITS_BETWEEN: usize = 1 << 16;

/// Asks now and then whether the result of some work is still wanted. What may work for long says
/// how much it does, and stops where the answer is no; what it leaves behind is of no use then.
pub struct Interrupt<'a> {
    is_wanted: &'a dyn Fn() -> bool,
    left: Cell<usize>,
    stopped: Cell<bool>,
}

impl std::fmt::Debug for Interrupt<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Interrupt").field("stopped", &self.stopped).finish_non_exhaustive()
    }
}

impl<'a> Interrupt<'a> {
    /// `is_wanted` is asked, and never again once it said no.
    pub fn new(is_wanted: &'a dyn Fn() -> bool) -> Interrupt<'a> {
        Interrupt { is_wanted, left: Cell::new(UNITS_BETWEEN), stopped: Cell::new(false) }
    }

    /// Work that goes on to its end.
    pub fn never() -> Interrupt<'static> {
        Interrupt::new(&|| true)
    }

    /// Counts work that was or will be done; returns whether to stop.
    #[inline]
    pub fn after(&self, units: usize) -> bool {
        match self.left.get().checked_sub(units) {
            Some(left) => {
                self.left.set(left);
                self.stopped.get()
            }
            None => self.ask(),
        }
    }

    /// Whether the answer was no.
    pub fn has_stopped(&self) -> bool {
        self.stopped.get()
    }

    #[cold]
    fn ask(&self) -> bool {
        self.left.set(UNITS_BETWEEN);
        if !self.stopped.get() {
            self.stopped.set(!(self.is_wanted)());
        }
        self.stopped.get()
    }
}

/// This many items are sorted at once.
const SORTED_AT_ONCE: usize = 1 << 12;

/// Sorts items, in about the time that the standard library takes; equal ones stay in order.
pub fn sort<T: Copy>(
    items: &mut Vec<T>,
    mut compare: impl FnMut(&T, &T) -> Ordering,
    interrupt: &Interrupt<'_>,
) {
    let mut sorted = SORTED_AT_ONCE;
    for run in items.chunks_mut(sorted) {
        run.sort_by(&mut compare);
        if interrupt.after(8 * run.len()) {
            return;
        }
    }
    let mut merged = Vec::new();
    while sorted < items.len() {
        merged.clear();
        merged.reserve_exact(items.len());
        for pair in items.chunks(2 * sorted) {
            let (mut a, mut b) = pair.split_at(sorted.min(pair.len()));
            while let (Some(x), Some(y)) = (a.first(), b.first()) {
                if interrupt.after(2) {
                    return;
                }
                if compare(x, y).is_le() {
                    merged.push(*x);
                    a = &a[1..];
                } else {
                    merged.push(*y);
                    b = &b[1..];
                }
            }
            merged.extend_from_slice(a);
            merged.extend_from_slice(b);
        }
        std::mem::swap(items, &mut merged);
        sorted *= 2;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn it_asks_once_in_a_while_and_never_after_a_no() {
        let asked = Cell::new(0);
        let is_wanted = || {
            asked.set(asked.get() + 1);
            asked.get() < 3
        };
        let interrupt = Interrupt::new(&is_wanted);
        let work = (0..).take_while(|_| !interrupt.after(1)).count();
        assert_eq!(work, 3 * UNITS_BETWEEN + 2);
        assert!(interrupt.after(0) && interrupt.after(usize::MAX));
        assert_eq!(asked.get(), 3);
    }

    proptest! {
        #[test]
        fn long_lists_are_sorted_as_short_ones(keys in prop::collection::vec(0..50u8, 0..20_000)) {
            let items: Vec<(u8, usize)> = keys.into_iter().zip(0..).collect();
            let (mut own, mut expected) = (items.clone(), items);
            sort(&mut own, |a, b| a.0.cmp(&b.0), &Interrupt::never());
            expected.sort_by_key(|item| item.0);
            prop_assert_eq!(own, expected);
        }
    }

    #[test]
    fn a_sort_that_is_not_wanted_stops() {
        let (compared, mut items) = (Cell::new(0usize), (0..1_000_000u32).rev().collect());
        let compare = |a: &u32, b: &u32| {
            compared.set(compared.get() + 1);
            a.cmp(b)
        };
        sort(&mut items, compare, &Interrupt::new(&|| false));
        assert!(compared.get() < 10 * UNITS_BETWEEN, "{}", compared.get());
    }
}
