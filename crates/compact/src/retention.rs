//! Which blocks are older than their retention, and whether they may be removed.
//!
//! Finer data is removed once its coarser copies exist, complete and unmarked, or if none can ever
//! be made; otherwise it stays, because it is all that is left of its time. Only copies count that
//! every store reads; data that has others alone waits until somebody says that all stores read
//! them.

use std::collections::BTreeSet;

use block::sync::{Synced, SyncedBlock};
use model::{BlockId, Resolution};
use tsdb::meta::BlockMeta;

use crate::downsample_plan::{self, MIN_5M_SPAN_MS, MIN_RAW_SPAN_MS};
use crate::formats::WrittenFormats;
use crate::group::groups;
use crate::readers::Readers;
use crate::settings::Settings;

const DAY_MS: i64 = 24 * 3_600_000;

/// How long after the end of a range no further block is expected to complete it.
const LATE_MS: i64 = 2 * DAY_MS;

/// What is to be done with a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Keep,
    /// Its time is over, but its coarser copies do not exist yet.
    Waits,
    /// Its time is over, but stores of the previous release do not read its coarser copies.
    AwaitsReaders,
    /// Its time is over, and coarser data holds what should be kept of it.
    Copied,
    /// Its time is over, and there will be no coarser data, for the reason given.
    WithoutCopies(&'static str),
}

/// The data that retention decides by.
pub(crate) struct RetentionPass<'a> {
    settings: &'a Settings,
    formats: WrittenFormats,
    synced: &'a Synced,
    readers: Readers,
    now_ms: i64,
    /// Blocks that are still to be compacted.
    planned: BTreeSet<BlockId>,
}

impl<'a> RetentionPass<'a> {
    pub(crate) fn new(
        settings: &'a Settings,
        formats: WrittenFormats,
        synced: &'a Synced,
        now_ms: i64,
    ) -> RetentionPass<'a> {
        let groups = groups(&synced.blocks, settings.merge_conflicting);
        let planned = groups.iter().flat_map(|group| group.plan()).map(|b| b.id()).collect();
        RetentionPass { settings, formats, synced, readers: Readers::of(settings), now_ms, planned }
    }

    pub(crate) fn verdict(&self, block: &SyncedBlock) -> Verdict {
        let Some(kept) = self.settings.retention.of(block.resolution()) else {
            return Verdict::Keep;
        };
        let kept_ms = i64::try_from(kept.as_millis()).unwrap_or(i64::MAX);
        if block.meta.max_time.saturating_add(kept_ms) >= self.now_ms {
            return Verdict::Keep;
        }
        if self.awaits_readers(block) {
            return Verdict::AwaitsReaders;
        }
        if !self.settings.downsampling || self.missing(block).is_empty() {
            return Verdict::Copied;
        }
        match self.why_never(block) {
            Some(why) => Verdict::WithoutCopies(why),
            None => Verdict::Waits,
        }
    }

    /// The blocks that keep the data of `block` at coarser resolutions.
    pub(crate) fn copies_of(&self, block: &SyncedBlock) -> Vec<&'a SyncedBlock> {
        if !self.settings.downsampling {
            return Vec::new();
        }
        needed(block).iter().filter_map(|resolution| self.copy_of(block, *resolution)).collect()
    }

    /// A copy that every store reads.
    fn copy_of(&self, block: &SyncedBlock, resolution: Resolution) -> Option<&'a SyncedBlock> {
        self.any_copies_of(block, resolution).find(|copy| self.readers.all_read(copy))
    }

    /// Copies, whoever reads them. Those behind others may be the ones that every store reads.
    fn any_copies_of(
        &self,
        block: &SyncedBlock,
        resolution: Resolution,
    ) -> impl Iterator<Item = &'a SyncedBlock> {
        let all = self.synced.blocks.iter().chain(&self.synced.duplicates);
        all.filter(move |copy| {
            copy.labels == block.labels
                && copy.resolution() == resolution
                && copy.deletion_mark.is_none()
                && copy.meta.min_time <= block.meta.min_time
                && copy.meta.max_time >= block.meta.max_time
                && downsample_plan::has_sources_of(&copy.meta, &block.meta)
        })
    }

    /// Whether stores that read the block would miss its data, which others find in its copies.
    fn awaits_readers(&self, block: &SyncedBlock) -> bool {
        let is_missed = |resolution: &Resolution| {
            self.copy_of(block, *resolution).is_none()
                && self.any_copies_of(block, *resolution).next().is_some()
                && !self.comes_later(block, *resolution)
        };
        self.readers.all_read(block) && coarser(block.resolution()).iter().any(is_missed)
    }

    /// Whether a copy is made from another copy, which waits for it in turn: Thanos' own 1h blocks
    /// are made from the 5m ones. Where Parquet is written too, that is the copy to wait for,
    /// unless it is there and not for every store.
    fn comes_later(&self, block: &SyncedBlock, resolution: Resolution) -> bool {
        let of_thanos = |copy: &SyncedBlock| !copy.location.is_parquet();
        self.formats.thanos
            && block.resolution() == Resolution::Raw
            && resolution == Resolution::OneHour
            && self.copy_of(block, Resolution::FiveMinutes).is_some_and(of_thanos)
            && (!self.formats.parquet || self.any_copies_of(block, resolution).next().is_some())
    }

    /// The resolutions at which a copy does not exist yet.
    fn missing(&self, block: &SyncedBlock) -> Vec<Resolution> {
        let mut missing = needed(block).to_vec();
        missing.retain(|resolution| {
            self.copy_of(block, *resolution).is_none() && !self.comes_later(block, *resolution)
        });
        missing
    }

    /// Why coarser copies can never be made. Blocks that could not be looked at might complete a
    /// range, so while there are any, no range counts as complete.
    fn why_never(&self, block: &SyncedBlock) -> Option<&'static str> {
        if block.no_downsample_mark.is_some() {
            return Some("it is marked not to be downsampled");
        }
        let (least_ms, range_ms) = match block.resolution() {
            Resolution::Raw => (MIN_RAW_SPAN_MS, 2 * DAY_MS),
            _ => (MIN_5M_SPAN_MS, 14 * DAY_MS),
        };
        let too_short = downsample_plan::span(&block.meta) < least_ms;
        // Parquet is made from blocks of any length
        if self.formats.parquet && block.resolution() == Resolution::Raw || !too_short {
            return None;
        }
        if block.no_compact_mark.is_some() {
            return Some("it is too short to be downsampled and kept out of compaction");
        }
        let is_over = range_end(&block.meta, range_ms).saturating_add(LATE_MS) < self.now_ms;
        let ended = is_over && !self.planned.contains(&block.id()) && self.synced.unseen.is_empty();
        ended.then_some("it is too short to be downsampled and nothing is left to merge it with")
    }
}

/// The resolutions that must hold a block's data before it may be removed. Parquet's 5m and 1h
/// copies are both made from raw data, so neither needs the other.
fn needed(block: &SyncedBlock) -> &'static [Resolution] {
    let is_copy = block.resolution() != Resolution::Raw;
    if is_copy && block.location.is_parquet() { &[] } else { coarser(block.resolution()) }
}

fn coarser(resolution: Resolution) -> &'static [Resolution] {
    match resolution {
        Resolution::Raw => &[Resolution::FiveMinutes, Resolution::OneHour],
        Resolution::FiveMinutes => &[Resolution::OneHour],
        Resolution::OneHour => &[],
    }
}

/// The end of the aligned range that the end of a block lies in.
fn range_end(block: &BlockMeta, range_ms: i64) -> i64 {
    (block.max_time - 1).div_euclid(range_ms).saturating_add(1).saturating_mul(range_ms)
}
