//! The tombstones of a block in a bucket.

use std::fmt;
use std::sync::Arc;

use model::BlockId;
use moka::future::Cache;
use sha2::{Digest, Sha256};
use tsdb::tombstones::Tombstones;

use crate::layout::BlockLocation;
use crate::sync::ObjectVersion;
use crate::{Bucket, Error, Result};

/// A longer file is broken: it would delete millions of spans.
const MAX_BYTES: u64 = 64 << 20;

/// What a `tombstones` file says.
#[derive(Clone, Debug)]
pub struct LoadedTombstones {
    /// Empty if the file names none, as Prometheus leaves it.
    pub tombstones: Arc<Tombstones>,
    /// SHA-256 of the file.
    pub digest: [u8; 32],
}

/// Reads the `tombstones` file of a block; `None` where there is none, which deletes nothing.
///
/// # Errors
/// `Corrupt`, `Unsupported` for what is not such a file; those of the bucket.
pub async fn load_tombstones(
    bucket: &Bucket,
    location: &BlockLocation,
) -> Result<Option<LoadedTombstones>> {
    let fetched = bucket.get_if_exists(&location.tombstones(), MAX_BYTES).await?;
    let Some(bytes) = fetched else { return Ok(None) };
    let object = format_args!("block={location} reading its tombstones");
    let tombstones = Tombstones::parse(&bytes).map_err(|e| Error::format(object, e))?;
    Ok(Some(LoadedTombstones {
        tombstones: Arc::new(tombstones),
        digest: Sha256::digest(&bytes).into(),
    }))
}

/// Tombstones by block and version of the file, bounded in bytes. Cloning shares it.
#[derive(Clone)]
pub struct TombstoneCache(Cache<(BlockId, Version), Arc<Tombstones>>);

/// The fields of [`ObjectVersion`].
type Version = (u64, i64, Option<String>);

impl TombstoneCache {
    pub fn new(capacity_bytes: u64) -> TombstoneCache {
        let weigh = |_: &(BlockId, Version), t: &Arc<Tombstones>| {
            u32::try_from(t.memory()).unwrap_or(u32::MAX)
        };
        TombstoneCache(Cache::builder().max_capacity(capacity_bytes).weigher(weigh).build())
    }

    /// The contents of a block's file that a sync saw in this `version`; if it is gone by now,
    /// nothing counts as deleted.
    ///
    /// # Errors
    /// As [`load_tombstones`].
    pub async fn get(
        &self,
        bucket: &Bucket,
        location: &BlockLocation,
        version: &ObjectVersion,
    ) -> Result<Arc<Tombstones>> {
        let key = (location.id(), (version.size, version.modified_ms, version.e_tag.clone()));
        let load = async {
            let loaded = load_tombstones(bucket, location).await?;
            Ok(loaded.map_or_else(Arc::default, |loaded| loaded.tombstones))
        };
        self.0.try_get_with(key, load).await.map_err(|e: Arc<Error>| (*e).clone())
    }
}

impl fmt::Debug for TombstoneCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TombstoneCache")
            .field("bytes", &self.0.weighted_size())
            .finish_non_exhaustive()
    }
}
