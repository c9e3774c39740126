//! Marks and deletions, with their counts and log lines. None of them stops an iteration: what fails is tried again by
//! the next.

use std::sync::Arc;

use block::marker::{DeletionMark, Marker, NoCompactMark, NoDownsampleMark, reason};
use block::sync::SyncedBlock;
use block::{BlockLocation, Bucket, upload};
use model::{BlockId, Clock};
use tsdb::meta::BlockMeta;

use crate::changes::Changes;
use crate::metrics::Metrics;
use crate::{Error, Kind};

/// The reason that stands in marks of blocks that cannot be read.
const CORRUPT: &str = "corrupt-block";

pub(crate) struct Marks {
    bucket: Bucket,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    changes: Changes,
}

impl Marks {
    /// What is written and deleted is noted in `changes`.
    pub(crate) fn new(bucket: Bucket, clock: Arc<dyn Clock>, metrics: Metrics, changes: Changes) -> Marks {
        Marks { bucket, clock, metrics, changes }
    }

    /// Marks a block for deletion; says whether the mark is there now.
    pub(crate) async fn delete_later(&self, block: &SyncedBlock, details: &str) -> bool {
        if block.deletion_mark.is_some() {
            return true;
        }
        let mark = DeletionMark::new(block.id(), self.clock.now(), details);
        let written = self.write(&mark, &block.location, details).await;
        if written == Some(true) {
            self.metrics.marked_for_deletion.inc();
        }
        written.is_some()
    }

    /// Deletes a block now.
    pub(crate) async fn delete(&self, location: &BlockLocation, why: &str) {
        self.changes.note();
        match upload::delete_block(&self.bucket, location).await {
            Ok(()) => {
                self.metrics.cleaned.inc();
                tracing::info!(block = %location, why, "block deleted");
            }
            Err(e) => {
                self.metrics.cleanup_failures.inc();
                tracing::warn!(block = %location, error = %e, "block could not be deleted, the next run tries again");
            }
        }
    }

    /// Keeps a block out of compaction.
    pub(crate) async fn exclude(&self, block: &BlockMeta, reason: &str, details: &str) {
        let mark = NoCompactMark::new(block.ulid, self.clock.now(), reason, details);
        self.write(&mark, &BlockLocation::tsdb(block.ulid), reason).await;
    }

    /// Keeps the block that an error names out of further compactions, when the block itself is at fault. Returns it.
    pub(crate) async fn quarantine(&self, error: &Error, blocks: &[Arc<BlockMeta>]) -> Option<BlockId> {
        let bad = self.damaged(error, blocks).await?;
        let fix = "look at it with the logs; delete it, or remove this mark to try again";
        self.exclude(bad, CORRUPT, &format!("{error}; {fix}")).await;
        Some(bad.ulid)
    }

    /// The same for downsampling; says whether the failure is settled by that.
    pub(crate) async fn exclude_from_downsampling(&self, error: &Error, block: &Arc<BlockMeta>) -> bool {
        if self.damaged(error, std::slice::from_ref(block)).await.is_none() {
            return false;
        }
        let mark = NoDownsampleMark::new(block.ulid, self.clock.now(), CORRUPT, error.to_string());
        self.write(&mark, &BlockLocation::tsdb(block.ulid), CORRUPT).await.is_some()
    }

    /// The block that is broken for good. One that another compactor deleted meanwhile is not.
    async fn damaged<'a>(&self, error: &Error, blocks: &'a [Arc<BlockMeta>]) -> Option<&'a Arc<BlockMeta>> {
        if error.kind() != Kind::Corrupt {
            return None;
        }
        let block = blocks.iter().find(|b| Some(b.ulid) == error.block())?;
        let location = BlockLocation::tsdb(block.ulid);
        let there = self.bucket.exists(&location.meta()).await.ok()?;
        let deleted = self.bucket.exists(&location.file(DeletionMark::FILE)).await.ok()?;
        (there && !deleted).then_some(block)
    }

    /// `Some(true)`: written; `Some(false)`: there already; `None`: could not be written.
    async fn write<M: Marker>(&self, mark: &M, location: &BlockLocation, why: &str) -> Option<bool> {
        self.changes.note();
        match mark.write(&self.bucket, location).await {
            Ok(written) => {
                if written {
                    self.metrics.marked.with_label_values(&[M::FILE, label_of(why)]).inc();
                    tracing::info!(block = %location, marker = M::FILE, why, "block marked");
                }
                Some(written)
            }
            Err(e) => {
                tracing::warn!(block = %location, marker = M::FILE, error = %e, "mark could not be written");
                None
            }
        }
    }
}

/// The value of the label `reason` of `thanos_compact_blocks_marked_total`.
fn label_of(why: &str) -> &str {
    match why {
        reason::INDEX_SIZE | reason::OUT_OF_ORDER_CHUNK | reason::DOWNSAMPLE_VERTICAL | CORRUPT => why,
        _ => "",
    }
}
