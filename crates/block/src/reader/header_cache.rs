//! Index headers in memory, bounded in bytes.

use std::collections::HashSet;
use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use model::BlockId;
use moka::future::Cache;
use tsdb::index::IndexHeader;

use crate::{Error, Result};

/// Headers by block. Cloning shares it.
#[derive(Clone)]
pub struct HeaderCache {
    headers: Cache<BlockId, Arc<IndexHeader>>,
    /// Blocks found to have their series in disorder; few, if any.
    unordered: Arc<Mutex<HashSet<BlockId>>>,
}

impl HeaderCache {
    pub fn new(capacity_bytes: u64) -> HeaderCache {
        let weigh = |_: &BlockId, header: &Arc<IndexHeader>| {
            u32::try_from(header.memory()).unwrap_or(u32::MAX)
        };
        let headers = Cache::builder().max_capacity(capacity_bytes).weigher(weigh).build();
        HeaderCache { headers, unordered: Arc::default() }
    }

    /// If several ask for a block at the same time, one of them loads it.
    pub(super) async fn get(
        &self,
        block: BlockId,
        load: impl Future<Output = Result<Arc<IndexHeader>>>,
    ) -> Result<Arc<IndexHeader>> {
        self.headers.try_get_with(block, load).await.map_err(|e: Arc<Error>| (*e).clone())
    }

    /// Has the header of a block read again; what is known of the order of its series stays.
    pub async fn read_anew(&self, block: BlockId) {
        self.headers.invalidate(&block).await;
    }

    /// Forgets a block, such as one that was deleted.
    pub async fn remove(&self, block: BlockId) {
        self.headers.invalidate(&block).await;
        self.unordered().remove(&block);
    }

    /// From now on, has the series of a block sorted before they are returned.
    pub(super) fn remember_unordered(&self, block: BlockId) {
        self.unordered().insert(block);
    }

    pub(super) fn is_unordered(&self, block: BlockId) -> bool {
        self.unordered().contains(&block)
    }

    fn unordered(&self) -> MutexGuard<'_, HashSet<BlockId>> {
        self.unordered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes in use, approximately.
    pub fn bytes(&self) -> u64 {
        self.headers.weighted_size()
    }

    /// Whether half of what it may take is in use.
    pub fn is_half_full(&self) -> bool {
        let capacity = self.headers.policy().max_capacity();
        capacity.is_some_and(|capacity| self.bytes() >= capacity / 2)
    }

    /// Blocks in the cache, approximately.
    pub fn blocks(&self) -> u64 {
        self.headers.entry_count()
    }
}

impl fmt::Debug for HeaderCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HeaderCache").field("bytes", &self.bytes()).finish_non_exhaustive()
    }
}
