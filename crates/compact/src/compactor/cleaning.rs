//! What is removed: blocks marked long enough ago, leftovers, blocks beyond their retention, blocks
//! that others cover.

use std::collections::BTreeMap;
use std::time::Duration;

use block::sync::{Synced, SyncedBlock};
use model::BlockId;
use model::error::in_one_line;

use super::Compactor;
use crate::downsample_plan;
use crate::place::read_back;
use crate::retention::{RetentionPass, Verdict};

/// A block's folder without `meta.json` is taken for an upload under way until its newest object is
/// this old.
const PARTIAL_UPLOAD_AGE_MS: i64 = 48 * 3_600_000;

impl Compactor {
    /// Deletes what was marked long enough ago, and what broken uploads left behind.
    pub(super) async fn clean(&self, synced: &Synced) {
        let now = self.clock.now();
        let delay_s = i64::try_from(self.settings.delete_delay.as_secs()).unwrap_or(i64::MAX);
        for block in &synced.marked_for_deletion {
            let marked = block.deletion_mark.as_ref().map_or(i64::MAX, |m| m.deletion_time);
            if now.0.div_euclid(1000).saturating_sub(marked) >= delay_s {
                self.marks.delete_marked(&block.location, delay_s).await;
            }
        }
        // with or without a mark: a deletion removes its mark last, so a broken one leaves it
        for partial in &synced.partial {
            if now.0.saturating_sub(partial.newest.0) > PARTIAL_UPLOAD_AGE_MS {
                self.marks.delete_partial(&partial.location).await;
            }
        }
        let age = Duration::from_millis(PARTIAL_UPLOAD_AGE_MS as u64);
        if let Err(e) = self.bucket.sweep_torn_uploads(age).await {
            tracing::warn!(error = %in_one_line(&e), "files of torn uploads could not be removed, \
                the next run tries again");
        }
    }

    /// Marks what is older than its retention; what is marked takes no further part.
    pub(super) async fn apply_retention(&self, synced: &mut Synced) {
        let mut gone = Vec::new();
        let (mut expired, mut waiting) = (0_u32, Vec::new());
        let retention = RetentionPass::new(&self.settings, synced, self.clock.now().0);
        for block in &synced.blocks {
            let goes = match retention.verdict(block) {
                Verdict::Keep => continue,
                Verdict::Waits => false,
                Verdict::Copied => self.are_whole(&retention.copies_of(block)).await,
                Verdict::WithoutCopies(why) => {
                    tracing::info!(block = %block.id(), why, "retention applies although no \
                        coarser copies are there");
                    true
                }
            };
            expired += 1;
            if !goes {
                waiting.push(block.id());
            } else if self.marks.delete_later(block, "block exceeding retention").await {
                gone.push(block.location.clone());
            }
        }
        if let Some(first) = waiting.first() {
            let blocks = waiting.len();
            tracing::warn!(blocks, %first, "retention is over, but blocks are kept until their 5m \
                and 1h copies exist");
        }
        self.metrics.todo_deletion_blocks.set(f64::from(expired));
        synced.blocks.retain(|b| !gone.contains(&b.location));
    }

    /// Whether, by a fresh look, these blocks can be relied on when others are removed.
    async fn are_whole(&self, blocks: &[&SyncedBlock]) -> bool {
        for block in blocks {
            if let Err(e) = read_back(&self.bucket, &block.location, &block.meta).await {
                tracing::warn!(block = %block.location, error = %in_one_line(&e), "nothing is \
                    deleted on the strength of this block");
                return false;
            }
        }
        true
    }

    /// Marks blocks whose sources all went into others.
    pub(super) async fn collect_garbage(&self, synced: &Synced) {
        let start = self.clock.monotonic();
        self.metrics.garbage_collections.inc();
        let mut covers: BTreeMap<BlockId, bool> = BTreeMap::new();
        for block in synced.duplicates.iter().filter(|b| b.deletion_mark.is_none()) {
            let Some(cover) = cover_of(block, synced) else { continue };
            let is_whole = match covers.get(&cover.id()) {
                Some(known) => *known,
                None => self.are_whole(&[cover]).await,
            };
            covers.insert(cover.id(), is_whole);
            match is_whole && self.marks.delete_later(block, "outdated block").await {
                true => self.metrics.garbage_collected.inc(),
                false => self.metrics.garbage_collection_failures.inc(),
            }
        }
        let took = self.clock.monotonic().saturating_sub(start);
        self.metrics.garbage_collection_duration.observe(took.as_secs_f64());
    }
}

/// The block that holds all that a duplicate holds.
fn cover_of<'a>(block: &SyncedBlock, synced: &'a Synced) -> Option<&'a SyncedBlock> {
    let like = |other: &&SyncedBlock| {
        other.labels == block.labels
            && other.resolution() == block.resolution()
            && other.location.is_parquet() == block.location.is_parquet()
    };
    let holds = |other: &&SyncedBlock| {
        other.meta.min_time <= block.meta.min_time
            && other.meta.max_time >= block.meta.max_time
            && downsample_plan::has_sources_of(&other.meta, &block.meta)
    };
    synced.blocks.iter().filter(like).find(holds)
}
