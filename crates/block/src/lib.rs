//! Blocks in a bucket: configuration of the object store, layout, markers, upload and delete order,
//! shipping of the blocks of a TSDB folder, sync of block metas with Thanos' filters, ranged reads
//! of TSDB blocks, and what must hold of a block's `meta.json`.
//!
//! This is the async driver of the formats in `tsdb`: it decides what to fetch, when and how much
//! at a time. It does not decide which blocks answer a query or are compacted; that is up to the
//! components. Sizes are bytes, times milliseconds.

pub mod bucket;
pub mod catalog;
pub mod claims;
pub mod config;
mod error;
pub mod invariants;
pub mod layout;
pub mod marker;
mod memory_turns;
pub mod metrics;
pub mod reader;
pub mod ship;
pub mod sync;
pub mod tombstones;
pub mod upload;

#[cfg(test)]
mod testing;

pub use bucket::{
    Bucket, BucketSettings, HedgingSettings, Hints, MultipartWriter, PutOutcome, RangeCache,
    RangeCacheBytes,
};
pub use error::{Error, Kind, Result};
pub use layout::BlockLocation;
pub use memory_turns::{MemoryTurn, MemoryTurns};
pub use metrics::{BucketMetrics, CatalogMetrics, RangeCacheMetrics, ShipperMetrics, SyncMetrics};
pub use reader::{
    BlockChunk, BlockReader, BlockSeries, HeaderCache, ReaderSettings, SeriesBatch, SeriesQuery,
    StoredCounts,
};
pub use tombstones::{LoadedTombstones, TombstoneCache, load_tombstones};

/// The object store's own names, so that users of this crate speak the same version.
pub use object_store;
pub use object_store::path::Path;
