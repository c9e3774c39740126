//! What all requests share: the bucket, its caches, the budget.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use block::{BlockLocation, Bucket, HeaderCache, RangeCache, TombstoneCache};
use model::{BlockId, Budget, Clock};
use parquet_block::FooterCache;
use tokio::sync::Semaphore;

use crate::doubts::Doubts;
use crate::metrics::Metrics;

/// What all requests share.
#[derive(Debug)]
pub(crate) struct GatewayShared {
    /// Through the cache of parts of objects.
    pub(crate) bucket: Bucket,
    pub(crate) ranges: RangeCache,
    pub(crate) headers: HeaderCache,
    pub(crate) footers: FooterCache,
    pub(crate) tombstones: TombstoneCache,
    /// Blocks of which a request missed a file.
    pub(crate) doubts: Doubts,
    /// Blocks whose header was loaded once: loading it again means that the cache had no room.
    pub(crate) loaded: Mutex<HashSet<BlockId>>,
    /// Limits how many blocks are opened at a time.
    pub(crate) opening: Semaphore,
    pub(crate) budget: Budget,
    pub(crate) metrics: Metrics,
    pub(crate) downloaded_bytes_limit: u64,
    pub(crate) clock: Arc<dyn Clock>,
}

impl GatewayShared {
    /// Counts a look-up in the cache of headers.
    pub(crate) fn header_used(&self, block: BlockId, was_loaded: bool) {
        let metrics = &self.metrics;
        metrics.cache_requests.inc();
        if was_loaded {
            metrics.cache_added.inc();
            if !self.loaded.lock().unwrap_or_else(PoisonError::into_inner).insert(block) {
                metrics.cache_evicted.inc();
            }
        } else {
            metrics.cache_hits.inc();
        }
        metrics.cache_items.set(self.headers.blocks() as f64);
        metrics.cache_bytes.set(self.headers.bytes() as f64);
    }

    /// Whether the header was loaded before and so is probably in the cache.
    pub(crate) fn was_loaded(&self, block: BlockId) -> bool {
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner).contains(&block)
    }

    /// Has a block read from the bucket again, and not from caches.
    pub(crate) async fn read_anew(&self, location: &BlockLocation) {
        self.headers.read_anew(location.id()).await;
        self.ranges.forget_below(location.dir()).await;
    }

    /// Forgets a block that is no longer served.
    pub(crate) async fn forget(&self, location: &BlockLocation) {
        let block = location.id();
        self.headers.remove(block).await;
        self.ranges.forget_below(location.dir()).await;
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner).remove(&block);
    }
}
