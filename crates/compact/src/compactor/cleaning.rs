//! What is removed: blocks marked long enough ago, leftovers, blocks beyond their retention, blocks
//! that others cover.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use block::BlockLocation;
use block::sync::{Synced, SyncedBlock};
use model::BlockId;
use model::error::in_one_line;

use super::Compactor;
use crate::Result;
use crate::cover::Unproven;
use crate::formats::WrittenFormats;
use crate::garbage::{Covered, Garbage};
use crate::place::read_back;
use crate::readers::Readers;
use crate::remake::parents_of;
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
    pub(super) async fn apply_retention(&self, formats: WrittenFormats, synced: &mut Synced) {
        let mut gone = Vec::new();
        let mut delayed = Delayed::default();
        let mut expired = 0_u32;
        let retention = RetentionPass::new(&self.settings, formats, synced, self.clock.now().0);
        for block in &synced.blocks {
            let goes = match retention.verdict(block) {
                Verdict::Keep => continue,
                Verdict::AwaitsReaders => {
                    delayed.by_readers.push(block.id());
                    false
                }
                Verdict::Waits => {
                    delayed.by_copies.push(block.id());
                    false
                }
                Verdict::Copied => {
                    let goes = self.are_whole(&retention.copies_of(block)).await;
                    delayed.by_copies.extend((!goes).then(|| block.id()));
                    goes
                }
                Verdict::WithoutCopies(why) => {
                    tracing::info!(block = %block.id(), why, "retention applies although no \
                        coarser copies are there");
                    true
                }
            };
            expired += 1;
            if goes && self.marks.delete_later(block, "block exceeding retention").await {
                gone.push(block.location.clone());
            }
        }
        delayed.tell();
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

    /// Marks blocks that others hold all of; returns claims of that kind that are not proven.
    pub(super) async fn collect_garbage(&self, synced: &Synced) -> Vec<Unproven> {
        let start = self.clock.monotonic();
        self.metrics.garbage_collections.inc();
        let live: BTreeSet<&BlockLocation> =
            synced.blocks.iter().chain(&synced.duplicates).map(|b| &b.location).collect();
        self.proofs.retain(|location| live.contains(location));
        self.remakes.retain(|location| live.contains(location));
        let (mut unproven, mut whole) = (Vec::new(), BTreeMap::new());
        for covered in Garbage::of(synced, self.readers()).covered {
            match self.collect(&covered, synced, &mut whole).await {
                Ok(true) => self.metrics.garbage_collected.inc(),
                Ok(false) => self.metrics.garbage_collection_failures.inc(),
                Err(mut refuted) => {
                    self.metrics.garbage_collection_failures.inc();
                    unproven.append(&mut refuted);
                }
            }
        }
        let took = self.clock.monotonic().saturating_sub(start);
        self.metrics.garbage_collection_duration.observe(took.as_secs_f64());
        unproven
    }

    /// Marks a block that another one holds all of; returns whether the mark is there. `whole` are
    /// blocks that were looked at.
    ///
    /// # Errors
    /// The claims that are refuted, where none is proven.
    async fn collect(
        &self,
        Covered { block, claims }: &Covered<'_>,
        synced: &Synced,
        whole: &mut BTreeMap<BlockId, bool>,
    ) -> std::result::Result<bool, Vec<Unproven>> {
        let mut refuted = Vec::new();
        for cover in claims {
            match self.refuted(block, cover, synced).await {
                Ok(None) => {
                    let is_whole = match whole.get(&cover.id()) {
                        Some(known) => *known,
                        None => self.are_whole(&[cover]).await,
                    };
                    whole.insert(cover.id(), is_whole);
                    if is_whole {
                        return Ok(self.marks.delete_covered(block, cover).await);
                    }
                }
                Ok(Some(unproven)) => refuted.push(unproven),
                Err(e) => {
                    tracing::warn!(block = %block.location, error = %in_one_line(&e), "the block \
                        stays: what replaces it could not be looked at");
                }
            }
        }
        if refuted.is_empty() { Ok(false) } else { Err(refuted) }
    }

    /// Why `cover` cannot stand for `block`; `None` where it is proven that it can, by counts or by
    /// merging anew what it was made of.
    async fn refuted(
        &self,
        block: &SyncedBlock,
        cover: &SyncedBlock,
        synced: &Synced,
    ) -> Result<Option<Unproven>> {
        let refuted = self.proofs.refuted(&self.bucket, block, cover).await?;
        let parents = refuted.as_ref().and_then(|_| parents_of(cover, block, synced));
        let Some(parents) = parents else { return Ok(refuted) };
        let job = self.job(&parents, &cover.labels);
        let is_output = self.remakes.is_output(&self.bucket, &job, cover).await?;
        Ok(refuted.filter(|_| !is_output))
    }

    /// Tells which blocks stay because it is not proven that others hold all they hold.
    pub(super) fn tell_unproven(&self, unproven: &[Unproven]) {
        for claim in unproven {
            let (block, claimed_by) = (claim.block, claim.claimed_by);
            tracing::warn!(%block, %claimed_by, "{claim}");
        }
    }

    /// Tells which blocks stay although others hold all they hold.
    pub(super) fn tell_kept_for_readers(&self, synced: &Synced) {
        let kept = Garbage::of(synced, self.readers()).kept;
        if let Some(first) = kept.first() {
            let blocks = kept.len();
            tracing::info!(blocks, first = %first.id(), "blocks stay beside their replacements, \
                whose format stores of the previous release do not read; once all stores are \
                upgraded, --allow-retire lets them go");
        }
    }

    fn readers(&self) -> Readers {
        Readers::of(&self.settings)
    }
}

/// Blocks that are past their retention and stay.
#[derive(Debug, Default)]
struct Delayed {
    by_copies: Vec<BlockId>,
    by_readers: Vec<BlockId>,
}

impl Delayed {
    fn tell(&self) {
        if let Some(first) = self.by_copies.first() {
            let blocks = self.by_copies.len();
            tracing::warn!(blocks, %first, "retention is over, but blocks are kept until their 5m \
                and 1h copies exist");
        }
        if let Some(first) = self.by_readers.first() {
            let blocks = self.by_readers.len();
            tracing::warn!(blocks, %first, "retention is over, but blocks are kept: stores of the \
                previous release do not read the format of their 5m and 1h copies; once all stores \
                are upgraded, --allow-retire lets them go");
        }
    }
}
