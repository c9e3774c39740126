//! Keeping series in order while their labels change.
//!
//! A source gives series sorted by the labels it stores; StoreAPI wants them sorted after external
//! labels are added and replica labels removed. Both changes only touch names from some smallest
//! one on, so only series within a run that agrees on every label before that name can change
//! places. Only that run is held back, charged to the budget.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use merge::SeriesChunk;
use model::{Labels, METRIC_NAME, Reservation};

use crate::{Error, Kind, Result};

/// External labels to add, which replace labels of the same names, and then labels to remove.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelChange {
    overlay: Labels,
    remove: Vec<String>,
    /// The external labels that are removed.
    removed: Labels,
}

impl LabelChange {
    pub fn new(external: &Labels, remove: &[String]) -> LabelChange {
        let mut remove = remove.to_vec();
        remove.sort_unstable();
        remove.dedup();
        let removed = external.iter().filter(|(name, _)| is_among(&remove, name));
        LabelChange {
            overlay: external.without(&remove),
            removed: Labels::from_sorted(removed),
            remove,
        }
    }

    pub fn apply(&self, labels: &Labels) -> Labels {
        labels.without(&self.remove).overlaid(&self.overlay)
    }

    /// The number of the replica that a series belongs to: a hash of the labels that are removed.
    /// `None` where none are to be removed.
    pub fn replica(&self, labels: &Labels) -> Option<u64> {
        if self.remove.is_empty() {
            return None;
        }
        let own = labels.iter().filter(|(name, _)| is_among(&self.remove, name));
        Some(Labels::from_sorted(own).overlaid(&self.removed).hash64())
    }

    /// The external labels that stay.
    pub fn overlay(&self) -> &Labels {
        &self.overlay
    }

    pub fn is_identity(&self) -> bool {
        self.overlay.is_empty() && self.remove.is_empty()
    }

    /// Whether `name` is added or removed.
    pub fn touches(&self, name: &[u8]) -> bool {
        self.overlay.get(name).is_some() || is_among(&self.remove, name)
    }

    fn first_name(&self) -> Option<&[u8]> {
        let (added, removed) =
            (self.overlay.iter().next().map(|(name, _)| name), self.remove.first());
        match (added, removed.map(|r| r.as_bytes())) {
            (Some(a), Some(r)) => Some(a.min(r)),
            (a, r) => a.or(r),
        }
    }

    /// No series that follows `labels` in the source's order can end up before this label set.
    fn lower_bound(&self, labels: &Labels, incoming: Incoming) -> Labels {
        if incoming == Incoming::Untouched {
            // Labels that nobody carries are only added. Two series then change places only when
            // one of them ends where the other continues; so what is added beyond the last label
            // must not count.
            let Some((last, _)) = labels.iter().last() else { return Labels::empty() };
            let inner =
                Labels::from_sorted(self.overlay.iter().take_while(|(name, _)| *name < last));
            return labels.overlaid(&inner);
        }
        let Some(first) = self.first_name() else { return labels.clone() };
        // Without a label that is always there, a series may lose all labels from `first` on, and
        // then sorts before every longer one. What it still shares with its run is the metric name.
        let keep = |name: &[u8]| {
            name < first && (!self.overlay.is_empty() || name <= METRIC_NAME.as_bytes())
        };
        Labels::from_sorted(labels.iter().take_while(|(name, _)| keep(name)))
    }
}

fn is_among(names: &[String], name: &[u8]) -> bool {
    names.iter().any(|n| n.as_bytes() == name)
}

/// What is known about the labels of the series to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Incoming {
    /// None carries a label that is added or removed; then hardly anything need be held back.
    Untouched,
    /// Any series may carry such a label.
    Any,
}

/// What a series carries beside its labels while it is put in order.
pub trait Carried {
    /// Bytes it takes in memory, roughly.
    fn weight(&self) -> u64;

    /// Records the [replica](LabelChange::replica) that the series belongs to.
    fn set_replica(&mut self, replica: u64);
}

impl Carried for Vec<SeriesChunk> {
    fn weight(&self) -> u64 {
        self.iter().map(|c| (c.size() + size_of_val(c)) as u64).sum()
    }

    fn set_replica(&mut self, replica: u64) {
        self.iter_mut().for_each(|chunk| chunk.replica = Some(replica));
    }
}

/// Changes the labels of sorted series and returns them sorted again, each with what it carries.
#[derive(Debug)]
pub struct ResortByRun<T = Vec<SeriesChunk>> {
    change: LabelChange,
    incoming: Incoming,
    held: BinaryHeap<Reverse<HeldSeries<T>>>,
    bound: Option<Labels>,
    last: Labels,
    count: u64,
    reservation: Reservation,
}

#[derive(Debug)]
struct HeldSeries<T> {
    labels: Labels,
    /// Tells series with equal labels apart.
    count: u64,
    weight: u64,
    carried: T,
}

impl<T: Carried> ResortByRun<T> {
    /// What is held back is charged to `reservation`.
    pub fn new(
        change: LabelChange,
        incoming: Incoming,
        reservation: Reservation,
    ) -> ResortByRun<T> {
        let (held, last) = (BinaryHeap::new(), Labels::empty());
        ResortByRun { change, incoming, held, bound: None, last, count: 0, reservation }
    }

    /// Takes the next series of the source, with the source's labels.
    ///
    /// # Errors
    /// `Limit` when the run does not fit into the budget.
    pub fn push(&mut self, stored: &Labels, mut carried: T) -> Result<()> {
        self.bound = Some(self.change.lower_bound(stored, self.incoming));
        if let Some(replica) = self.change.replica(stored) {
            carried.set_replica(replica);
        }
        let labels = self.change.apply(stored);
        let own = size_of::<HeldSeries<T>>() + labels.as_packed().len();
        let weight = own as u64 + carried.weight();
        self.reservation.grow(weight)?;
        self.count += 1;
        self.held.push(Reverse(HeldSeries { labels, count: self.count, weight, carried }));
        Ok(())
    }

    /// The source has no more.
    pub fn end(&mut self) {
        self.bound = None;
    }

    /// The next series whose place is certain; `None` until more is pushed, or for good after
    /// [`ResortByRun::end`]. Series whose labels have become equal come one after the other, in the
    /// order they were pushed.
    ///
    /// # Errors
    /// `Unavailable` when the source broke its order or its promise, and the place of a series has
    /// already been passed.
    pub fn pop(&mut self) -> Result<Option<(Labels, T)>> {
        let certain = match (self.held.peek(), &self.bound) {
            (None, _) => false,
            (Some(_), None) => true,
            (Some(Reverse(first)), Some(bound)) => first.labels <= *bound,
        };
        if !certain {
            return Ok(None);
        }
        let Some(Reverse(HeldSeries { labels, weight, carried, .. })) = self.held.pop() else {
            return Ok(None);
        };
        self.reservation.shrink(weight);
        if labels < self.last {
            let message =
                format!("series {labels} came after {}, which sorts behind it", self.last);
            return Err(Error::new(Kind::Unavailable, message));
        }
        self.last = labels.clone();
        Ok(Some((labels, carried)))
    }
}

impl<T> PartialEq for HeldSeries<T> {
    fn eq(&self, other: &HeldSeries<T>) -> bool {
        self.cmp(other).is_eq()
    }
}

impl<T> Eq for HeldSeries<T> {}

impl<T> PartialOrd for HeldSeries<T> {
    fn partial_cmp(&self, other: &HeldSeries<T>) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for HeldSeries<T> {
    fn cmp(&self, other: &HeldSeries<T>) -> Ordering {
        self.labels.cmp(&other.labels).then(self.count.cmp(&other.count))
    }
}

#[cfg(test)]
mod tests;
