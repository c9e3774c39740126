//! The tombstones of a block in a bucket.

use std::fmt;
use std::sync::Arc;

use model::{BlockId, Budget, Reservation};
use moka::future::Cache;
use sha2::{Digest, Sha256};
use tsdb::tombstones::Tombstones;

use crate::layout::BlockLocation;
use crate::reader::offload;
use crate::sync::ObjectVersion;
use crate::{Bucket, Error, Kind, Result};

/// A longer file is broken: it would delete millions of spans.
const MAX_BYTES: u64 = 64 << 20;

/// A file that names more spans is broken too: with times of this century, those that fit into the
/// most bytes are hardly more.
const MAX_SPANS: usize = 4 << 20;

/// What a `tombstones` file says.
#[derive(Clone, Debug)]
pub struct LoadedTombstones {
    /// Empty if the file names none, as Prometheus leaves it.
    pub tombstones: Arc<Tombstones>,
    /// SHA-256 of the file.
    pub digest: [u8; 32],
    /// For the spans.
    _held: Arc<Reservation>,
}

/// Reads the `tombstones` file of a block; `None` where there is none, which deletes nothing. The
/// memory for the file and for its spans is taken from `budget` first.
///
/// # Errors
/// `Corrupt`, `Unsupported` for what is not such a file; `Limit` when there is no memory for it;
/// those of the bucket.
pub async fn load_tombstones(
    bucket: &Bucket,
    location: &BlockLocation,
    budget: &Budget,
) -> Result<Option<LoadedTombstones>> {
    let fetched = bucket.get_charged(&location.tombstones(), MAX_BYTES, budget).await?;
    let Some((bytes, _held_for_file)) = fetched else { return Ok(None) };
    let what = format!("block={location} reading its tombstones");
    let format_error = |e| Error::format(format_args!("{what}"), e);
    let spans = Tombstones::count(&bytes).map_err(format_error)?;
    if spans > MAX_SPANS {
        let text = format!("{what}: they are {spans}, and more than {MAX_SPANS} are not read");
        return Err(Error::new(Kind::Corrupt, text));
    }
    let mut held = budget.reserve(what.as_str());
    let memory = Tombstones::memory_of(spans) as u64;
    held.grow(memory).map_err(|e| Error::passed(Kind::Limit, e))?;
    let decode = {
        let bytes = bytes.clone();
        move || (Tombstones::parse(&bytes), Sha256::digest(&bytes).into())
    };
    let (tombstones, digest) = offload(bytes.len(), decode).await?;
    let tombstones = Arc::new(tombstones.map_err(format_error)?);
    Ok(Some(LoadedTombstones { tombstones, digest, _held: Arc::new(held) }))
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
    /// nothing counts as deleted. While it is read, it is charged to `budget`; who keeps it longer
    /// than the cache does charges [its memory](Tombstones::memory).
    ///
    /// # Errors
    /// As [`load_tombstones`].
    pub async fn get(
        &self,
        bucket: &Bucket,
        location: &BlockLocation,
        version: &ObjectVersion,
        budget: &Budget,
    ) -> Result<Arc<Tombstones>> {
        let key = (location.id(), (version.size, version.modified_ms, version.e_tag.clone()));
        let load = async {
            let loaded = load_tombstones(bucket, location, budget).await?;
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
