//! How an output becomes a block: one create-only write of its `meta.json`, after everything else.
//!
//! "Already exists" proves nothing by itself, because a store also says so about our own write
//! after it applied that but reported a failure. So the existing meta is read back: the same inputs
//! and results mean success, since equal inputs give equal bytes; if nothing is there, the conflict
//! was temporary and the write is tried again; anything else is a conflict of ids.

use block::invariants::Made;
use block::layout::MAX_META_BYTES;
use block::{Bucket, PutOutcome};
use tsdb::meta::BlockMeta;

use crate::error::Case;
use crate::{Error, Result};

const ATTEMPTS: usize = 5;

/// What became of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Committed {
    /// We made the block.
    Created,
    /// It existed: ours from before, or another compactor's with the same content.
    AlreadyThere,
}

/// # Errors
/// `Internal` for a meta that is impossible; when the bucket fails, or another block has the id.
pub(crate) async fn commit(bucket: &Bucket, made: &Made<'_>) -> Result<Committed> {
    made.check().map_err(|e| Error(Case::Unmet(e)))?;
    let (path, meta) = (made.location.meta(), made.meta);
    let bytes = bytes::Bytes::from(meta.to_json());
    let mut last = None;
    for _ in 0..ATTEMPTS {
        match bucket.put_if_absent(&path, bytes.clone()).await {
            Ok(PutOutcome::Created) => return Ok(Committed::Created),
            Ok(PutOutcome::AlreadyExists) => {}
            Err(e) if e.kind() == block::Kind::Unsupported => {
                // a store without conditional writes: equal ids mean equal bytes, so overwriting is
                // harmless
                bucket.put(&path, bytes.clone()).await?;
                return Ok(Committed::Created);
            }
            Err(e) if e.kind() == block::Kind::Unavailable => last = Some(e),
            Err(e) => return Err(e.into()),
        }
        let stored = bucket.get_if_exists(&path, MAX_META_BYTES).await?;
        let Some(stored) = stored else { continue };
        return match BlockMeta::from_json(&stored) {
            Ok(stored) if is_same(&stored, meta) => Ok(Committed::AlreadyThere),
            _ => Err(Error(Case::Conflict { id: meta.ulid })),
        };
    }
    let gone = || {
        block::Error::new(
            block::Kind::Unavailable,
            format!("creating {path}: neither written nor there"),
        )
    };
    Err(last.unwrap_or_else(gone).into())
}

/// Equal in everything but the time of upload.
fn is_same(a: &BlockMeta, b: &BlockMeta) -> bool {
    let files =
        |meta: &BlockMeta| meta.thanos.as_ref().map(|t| (t.files.clone(), t.labels.clone()));
    a.ulid == b.ulid
        && (a.min_time, a.max_time) == (b.min_time, b.max_time)
        && a.stats == b.stats
        && a.compaction == b.compaction
        && files(a) == files(b)
}
