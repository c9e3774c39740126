//! Index headers in memory, bounded in bytes.

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use model::BlockId;
use moka::future::Cache;
use tsdb::index::Header;

use crate::{Error, Result};

/// Headers by block. Cloning shares it.
#[derive(Clone)]
pub struct HeaderCache(Cache<BlockId, Arc<Header>>);

impl HeaderCache {
    pub fn new(capacity_bytes: u64) -> HeaderCache {
        let weigh = |_: &BlockId, header: &Arc<Header>| u32::try_from(header.memory()).unwrap_or(u32::MAX);
        HeaderCache(Cache::builder().max_capacity(capacity_bytes).weigher(weigh).build())
    }

    /// Of those who ask for a block at the same time one loads.
    pub(super) async fn get(
        &self,
        block: BlockId,
        load: impl Future<Output = Result<Arc<Header>>>,
    ) -> Result<Arc<Header>> {
        self.0.try_get_with(block, load).await.map_err(|e: Arc<Error>| (*e).clone())
    }

    /// Forgets a block, such as one that was deleted.
    pub async fn remove(&self, block: BlockId) {
        self.0.invalidate(&block).await;
    }

    /// Bytes in use, about.
    pub fn bytes(&self) -> u64 {
        self.0.weighted_size()
    }

    /// Blocks in the cache, about.
    pub fn blocks(&self) -> u64 {
        self.0.entry_count()
    }
}

impl fmt::Debug for HeaderCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HeaderCache").field("bytes", &self.bytes()).finish_non_exhaustive()
    }
}
