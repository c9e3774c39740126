//! Parts of objects in memory: postings, series entries, chunks, pages of Parquet. The same
//! question asked again costs no request as long as they fit.
//!
//! An entry is what was asked for, neighbours joined, so that nothing is rounded up to pages and
//! nothing is copied for those who read a part of it. It is for objects that never change
//! once written, which the files of a block are; who finds one broken has it
//! [forgotten](RangeCache::forget_below), since it may be restored in place.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::future::Future;
use std::ops::{Bound, Range};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures::future::{BoxFuture, WeakShared};
use futures::{FutureExt, TryFutureExt};
use moka::future::Cache;
use moka::policy::EvictionPolicy;
use object_store::path::Path;

use super::coalesce::Piece;
use crate::Result;
use crate::layout::INDEX_FILE;
use crate::metrics::RangeCacheMetrics;

/// What an entry takes besides its bytes: its key twice, and what the cache keeps of it.
const ENTRY_BYTES: usize = 384;

/// The file of labels and places of a Parquet block.
const SERIES_FILE_END: &str = ".series.parquet";

/// How many of the entries that begin before a range are looked at; only where they overlap, the
/// first may be too short.
const CANDIDATES: usize = 4;

/// Parts of objects, bounded in bytes; those go first that were not asked for longest. Cloning
/// shares it.
#[derive(Clone)]
pub struct RangeCache {
    /// Parts of indices, apart from the rest: they are needed first and are small, and one long
    /// read of chunks would push them out.
    index: Cache<PartKey, Bytes>,
    data: Cache<PartKey, Bytes>,
    known: Arc<Mutex<KnownParts>>,
    /// Requests under way.
    flights: Arc<Mutex<HashMap<PartKey, Flight>>>,
    metrics: RangeCacheMetrics,
}

type Flight = WeakShared<BoxFuture<'static, Result<Bytes>>>;

/// The part of an object that one request asked for. What was answered is shorter where the object
/// ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct PartKey {
    object: Path,
    start: u64,
    end: u64,
}

/// The ends of the parts of each object, by their starts. What stands here may be gone from the
/// cache already.
#[derive(Debug, Default)]
struct KnownParts(BTreeMap<Path, BTreeMap<u64, u64>>);

impl KnownParts {
    fn add(&mut self, part: &PartKey) {
        let parts = self.0.entry(part.object.clone()).or_default();
        let end = parts.entry(part.start).or_insert(part.end);
        *end = part.end.max(*end);
    }

    fn remove(&mut self, part: &PartKey) {
        let Some(parts) = self.0.get_mut(&part.object) else { return };
        if parts.get(&part.start) == Some(&part.end) {
            parts.remove(&part.start);
        }
        if parts.is_empty() {
            self.0.remove(&part.object);
        }
    }

    /// For each range the part that holds it.
    fn covering(&self, object: &Path, wanted: &[Range<u64>]) -> Vec<Option<PartKey>> {
        let Some(parts) = self.0.get(object) else { return vec![None; wanted.len()] };
        let covering = |range: &Range<u64>| {
            let before = parts.range((Bound::Unbounded, Bound::Included(range.start)));
            let mut candidates = before.rev().take(CANDIDATES);
            let (start, end) = candidates.find(|(_, end)| **end >= range.end)?;
            Some(PartKey { object: object.clone(), start: *start, end: *end })
        };
        wanted.iter().map(covering).collect()
    }

    /// Takes out all parts of objects below a folder.
    fn take_below(&mut self, folder: &Path) -> Vec<PartKey> {
        let mut taken = Vec::new();
        let from = (Bound::Excluded(folder), Bound::Unbounded);
        let below = self.0.range::<Path, _>(from).map(|(object, _)| object);
        let below = below.take_while(|object| object.as_ref().starts_with(folder.as_ref()));
        let below: Vec<Path> =
            below.filter(|object| object.prefix_matches(folder)).cloned().collect();
        for object in below {
            for (start, end) in self.0.remove(&object).unwrap_or_default() {
                taken.push(PartKey { object: object.clone(), start, end });
            }
        }
        taken
    }
}

/// The bytes that each kind of parts may take.
#[derive(Clone, Copy, Debug)]
pub struct RangeCacheBytes {
    /// Parts of indices: postings and series entries, labels of Parquet blocks.
    pub index: u64,
    /// Parts of other files: chunks and pages of Parquet.
    pub data: u64,
}

impl RangeCache {
    /// With no bytes, nothing is kept; but requests for the same part at the same time are still
    /// one.
    pub fn new(most: RangeCacheBytes, metrics: RangeCacheMetrics) -> RangeCache {
        let known: Arc<Mutex<KnownParts>> = Arc::default();
        let [index, data] = [most.index, most.data].map(|bytes| {
            let known = Arc::clone(&known);
            Cache::builder()
                .max_capacity(bytes)
                .weigher(weight)
                // what was read last is what a dashboard asks for again, however much it is
                .eviction_policy(EvictionPolicy::lru())
                .eviction_listener(move |part: Arc<PartKey>, _, _| lock(&known).remove(&part))
                .build()
        });
        RangeCache { index, data, known, flights: Arc::default(), metrics }
    }

    fn parts(&self, object: &Path) -> &Cache<PartKey, Bytes> {
        let is_index = object
            .filename()
            .is_some_and(|name| name == INDEX_FILE || name.ends_with(SERIES_FILE_END));
        if is_index { &self.index } else { &self.data }
    }

    /// The ranges of an object that are here, in the order asked for.
    pub(super) async fn find(&self, object: &Path, wanted: &[Range<u64>]) -> Vec<Option<Bytes>> {
        let covering = lock(&self.known).covering(object, wanted);
        let mut found = Vec::with_capacity(wanted.len());
        // neighbours mostly lie in one part
        let mut last: Option<(PartKey, Option<Piece>)> = None;
        for (range, part) in wanted.iter().zip(covering) {
            if range.is_empty() {
                found.push(Some(Bytes::new()));
                continue;
            }
            let Some(part) = part else {
                found.push(None);
                continue;
            };
            if last.as_ref().is_none_or(|(known, _)| *known != part) {
                let bytes = self.parts(object).get(&part).await;
                if bytes.is_none() {
                    lock(&self.known).remove(&part);
                }
                let piece = bytes.map(|bytes| Piece { range: part.start..part.end, bytes });
                last = Some((part, piece));
            }
            let piece = last.as_ref().and_then(|(_, piece)| piece.as_ref());
            found.push(piece.map(|piece| piece.cut(range)));
        }
        self.metrics.looked_up(object, &found);
        found
    }

    /// A part that is not here, by `fetch`; if several want the same one at the same time, one
    /// request is made for all, which ends if none of them waits any more.
    pub(super) async fn fetch(
        &self,
        object: &Path,
        range: Range<u64>,
        fetch: impl Future<Output = Result<Bytes>> + Send + 'static,
    ) -> Result<Bytes> {
        let part = PartKey { object: object.clone(), start: range.start, end: range.end };
        let flight = {
            let mut flights = lock(&self.flights);
            match flights.get(&part).and_then(WeakShared::upgrade) {
                Some(flight) => flight,
                None => {
                    let (metrics, object) = (self.metrics.clone(), object.clone());
                    let counted = fetch.inspect_ok(move |bytes| {
                        metrics.fetched(&object, bytes.len());
                    });
                    let flight = counted.boxed().shared();
                    // those that nobody waits for any more
                    flights.retain(|_, flight| flight.upgrade().is_some());
                    flights.extend(flight.downgrade().map(|weak| (part.clone(), weak)));
                    flight
                }
            }
        };
        let bytes = flight.await;
        lock(&self.flights).remove(&part);
        bytes
    }

    /// Keeps pieces of an object.
    pub(super) async fn keep(&self, object: &Path, pieces: &[Piece]) {
        for Piece { range, bytes } in pieces {
            let part = PartKey { object: object.clone(), start: range.start, end: range.end };
            self.parts(object).insert(part.clone(), bytes.clone()).await;
            lock(&self.known).add(&part);
        }
    }

    /// Lets what is beyond the capacity go; the cache does so by itself only now and then.
    pub(super) async fn settle(&self) {
        self.index.run_pending_tasks().await;
        self.data.run_pending_tasks().await;
        let items = self.index.entry_count() + self.data.entry_count();
        self.metrics.holds(self.bytes(), items);
    }

    /// Forgets all parts of objects below a folder: a block that is gone, or that may be repaired.
    pub async fn forget_below(&self, folder: &Path) {
        let below = lock(&self.known).take_below(folder);
        for part in below {
            self.parts(&part.object).invalidate(&part).await;
        }
    }

    /// Whether half of what parts of indices may take is in use.
    pub fn is_index_half_full(&self) -> bool {
        let capacity = self.index.policy().max_capacity();
        capacity.is_some_and(|capacity| self.index.weighted_size() >= capacity / 2)
    }

    /// Bytes in use.
    pub fn bytes(&self) -> u64 {
        self.index.weighted_size() + self.data.weighted_size()
    }
}

fn weight(part: &PartKey, bytes: &Bytes) -> u32 {
    let weight = bytes.len() + ENTRY_BYTES + 2 * part.object.as_ref().len();
    u32::try_from(weight).unwrap_or(u32::MAX)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for RangeCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RangeCache").field("bytes", &self.bytes()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
