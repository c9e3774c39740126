//! Marks and deletions, with their counts and log lines. None of them stops an iteration: what
//! fails is tried again in the next one.

use std::sync::Arc;

use block::marker::{DeletionMark, Marker, NoCompactMark, NoDownsampleMark, reason};
use block::sync::SyncedBlock;
use block::{BlockLocation, Bucket, upload};
use model::Clock;
use model::error::in_one_line;

use crate::changes::Changes;
use crate::error::Case;
use crate::metrics::Metrics;
use crate::place::is_marked;
use crate::{Error, Result};

/// The reason in marks of blocks that cannot be read.
const CORRUPT: &str = "corrupt-block";

/// The reason in marks of blocks with more samples of a series than are downsampled.
const TOO_LONG: &str = "series-too-long";

/// The reason in marks of blocks of two servers with the same external labels.
pub(crate) const CONFLICTING: &str = "conflicting-samples";

/// Why a block takes no part in compaction.
pub(crate) struct Exclusion<'a> {
    pub(crate) reason: &'a str,
    /// What happened and how to repair it.
    pub(crate) details: String,
}

/// Writes marks and deletes blocks.
pub(crate) struct MarkWriter {
    bucket: Bucket,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    changes: Changes,
}

impl MarkWriter {
    /// What is written and deleted is recorded in `changes`.
    pub(crate) fn new(
        bucket: Bucket,
        clock: Arc<dyn Clock>,
        metrics: Metrics,
        changes: Changes,
    ) -> MarkWriter {
        MarkWriter { bucket, clock, metrics, changes }
    }

    /// Marks a block for deletion; returns whether the mark exists now.
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

    /// Marks a block for deletion whose data another one holds; returns whether the mark exists.
    ///
    /// Should the other one have been marked meanwhile, perhaps by somebody who relies on this
    /// block, the mark is taken back. Each of two first marks and then looks, so at least the later
    /// one sees the mark of the other.
    pub(crate) async fn delete_covered(&self, block: &SyncedBlock, cover: &SyncedBlock) -> bool {
        let details = "outdated block";
        let mark = DeletionMark::new(block.id(), self.clock.now(), details);
        let Some(is_new) = self.write(&mark, &block.location, details).await else { return false };
        if !is_new {
            return true;
        }
        if let Err(e) = self.expect_live(&cover.location).await {
            tracing::warn!(block = %block.location, error = %in_one_line(&e), "the mark is taken \
                back");
            self.take_back(&block.location).await;
            return false;
        }
        self.metrics.marked_for_deletion.inc();
        true
    }

    /// # Errors
    /// The block is marked for deletion or gone, or that could not be found out.
    async fn expect_live(&self, location: &BlockLocation) -> Result<()> {
        let is_live = self.bucket.exists(&location.meta()).await?
            && !is_marked(&self.bucket, location).await?;
        let gone = "it was marked for deletion, or deleted".to_owned();
        if is_live {
            Ok(())
        } else {
            Err(Error(Case::ReadBack { id: location.id(), reason: gone }))
        }
    }

    async fn take_back(&self, location: &BlockLocation) {
        if let Err(e) = DeletionMark::remove(&self.bucket, location).await {
            tracing::error!(block = %location, error = %in_one_line(&e), "the mark could not be \
                removed: remove its deletion-mark.json");
        }
    }

    /// Deletes a block that was marked long enough ago, if the mark still stands.
    pub(crate) async fn delete_marked(&self, location: &BlockLocation, delay_s: i64) {
        let now_s = self.clock.now().0.div_euclid(1000);
        match DeletionMark::read(&self.bucket, location).await {
            Ok(Some(mark)) if now_s.saturating_sub(mark.deletion_time) >= delay_s => {
                self.delete(location, "marked for deletion").await;
            }
            // removed, or set again
            Ok(_) => {}
            Err(e) => {
                tracing::warn!(block = %location, error = %in_one_line(&e), "block is not deleted: \
                    its mark could not be read again");
            }
        }
    }

    /// Deletes what a broken upload left, if there is still no `meta.json`.
    pub(crate) async fn delete_partial(&self, location: &BlockLocation) {
        match self.bucket.exists(&location.meta()).await {
            Ok(false) => self.delete(location, "upload broke off").await,
            Ok(true) => {}
            Err(e) => {
                tracing::warn!(block = %location, error = %in_one_line(&e), "leftovers are not \
                    deleted: it is not known whether they are");
            }
        }
    }

    async fn delete(&self, location: &BlockLocation, why: &str) {
        self.changes.note();
        match upload::delete_block(&self.bucket, location).await {
            Ok(()) => {
                self.metrics.cleaned.inc();
                tracing::info!(block = %location, why, "block deleted");
            }
            Err(e) => {
                self.metrics.cleanup_failures.inc();
                tracing::warn!(block = %location, error = %in_one_line(&e), "block could not be \
                    deleted, the next run tries again");
            }
        }
    }

    /// Keeps a block out of compaction.
    pub(crate) async fn exclude(&self, block: &SyncedBlock, why: &Exclusion<'_>) {
        let mark =
            NoCompactMark::new(block.id(), self.clock.now(), why.reason, why.details.as_str());
        self.write(&mark, &block.location, why.reason).await;
    }

    /// Keeps a block that is damaged out of compaction.
    pub(crate) async fn quarantine(&self, block: &SyncedBlock, error: &Error) {
        let details = format!("{}; {}", in_one_line(error), mends(error));
        self.exclude(block, &Exclusion { reason: CORRUPT, details }).await;
    }

    /// Keeps a block that is damaged from being downsampled; returns whether that is settled.
    pub(crate) async fn exclude_from_downsampling(
        &self,
        block: &SyncedBlock,
        error: &Error,
    ) -> bool {
        let details = format!("{}; {}", in_one_line(error), mends(error));
        let why = if error.is_too_long() { TOO_LONG } else { CORRUPT };
        let mark = NoDownsampleMark::new(block.id(), self.clock.now(), why, details);
        self.write(&mark, &block.location, why).await.is_some()
    }

    /// `Some(true)`: written; `Some(false)`: there already; `None`: could not be written.
    async fn write<M: Marker>(
        &self,
        mark: &M,
        location: &BlockLocation,
        why: &str,
    ) -> Option<bool> {
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
                tracing::warn!(
                    block = %location,
                    marker = M::FILE,
                    error = %in_one_line(&e),
                    "mark could not be written"
                );
                None
            }
        }
    }
}

/// What an operator can do about a block that failed in two fresh reads.
fn mends(error: &Error) -> &'static str {
    if error.is_miscount() {
        return "correct its meta.json and remove this mark to have it compacted";
    }
    if error.is_overlap_of_aggregates() {
        return "its downsampled chunks overlap; it is served as it is";
    }
    if error.is_too_long() {
        return "it is served as it is";
    }
    "read twice with this result; restore its files and remove this mark, or delete it if its data \
     is not needed"
}

/// The value of the label `reason` of `thanos_compact_blocks_marked_total`.
fn label_of(why: &str) -> &str {
    match why {
        reason::INDEX_SIZE
        | reason::OUT_OF_ORDER_CHUNK
        | reason::DOWNSAMPLE_VERTICAL
        | CORRUPT
        | TOO_LONG
        | CONFLICTING => why,
        _ => "",
    }
}
