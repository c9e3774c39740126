//! The filters of Thanos' `pkg/block/fetcher.go`: which of the blocks found take part.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use model::{BlockId, TimeRange, TimestampMs};
use tsdb::meta::BlockMeta;

use super::relabel::{RelabelConfig, relabel};
use super::{Synced, SyncedBlock, state};
use crate::claims::can_hold;
use crate::layout::BlockLocation;
use crate::marker::DeletionMark;

/// A value in `thanos_blocks_meta_modified`.
pub(super) const REPLICA_LABEL_REMOVED: &str = "replica-label-removed";

/// Removes blocks from a sync, or changes their labels.
pub trait Filter: Send + Sync + fmt::Debug {
    fn apply(&self, synced: &mut Synced, now: TimestampMs);
}

fn keep_if(
    synced: &mut Synced,
    state: &'static str,
    keep: impl Fn(&SyncedBlock) -> bool,
) -> Vec<SyncedBlock> {
    let (kept, out) = std::mem::take(&mut synced.blocks).into_iter().partition(keep);
    synced.blocks = kept;
    let out: Vec<SyncedBlock> = out;
    *synced.states.entry(state).or_default() += out.len() as u64;
    out
}

/// Keeps only blocks that reach into the range (`--min-time`, `--max-time`).
#[derive(Clone, Copy, Debug)]
pub struct TimePartition {
    pub range: TimeRange,
}

impl Filter for TimePartition {
    fn apply(&self, synced: &mut Synced, _now: TimestampMs) {
        keep_if(synced, state::TIME_EXCLUDED, |b| {
            b.meta.max_time >= self.range.start && b.meta.min_time <= self.range.last()
        });
    }
}

/// Keeps only blocks whose external labels, with `__block_id`, are kept by the relabel configs
/// (`--selector.relabel-config`).
#[derive(Clone, Debug)]
pub struct RelabelFilter {
    pub configs: Vec<RelabelConfig>,
    /// Labels that are not relabelled, so that replicas stay together.
    pub without: Vec<String>,
}

impl Filter for RelabelFilter {
    fn apply(&self, synced: &mut Synced, _now: TimestampMs) {
        if self.configs.is_empty() {
            return;
        }
        keep_if(synced, state::LABEL_EXCLUDED, |b| {
            let labels = b.labels.without(&self.without).with("__block_id", b.id().to_string());
            relabel(&labels, &self.configs).is_some()
        });
    }
}

/// Keeps only blocks older than the delay, so that eventually consistent stores show all their
/// files. Blocks written by compactors and repairs are complete when their meta is seen.
#[derive(Clone, Copy, Debug)]
pub struct ConsistencyDelay {
    pub delay: Duration,
}

impl Filter for ConsistencyDelay {
    fn apply(&self, synced: &mut Synced, now: TimestampMs) {
        let delay = i64::try_from(self.delay.as_millis()).unwrap_or(i64::MAX);
        keep_if(synced, state::TOO_FRESH, |b| {
            let uploaded = b.meta.thanos.as_ref().and_then(|t| t.upload_time_ms());
            let born = uploaded.map_or(b.id().time_ms().cast_signed(), |t| t.0);
            let complete =
                matches!(b.meta.source(), "bucket.repair" | "compactor" | "compactor.repair");
            complete || now.0.saturating_sub(born) >= delay
        });
    }
}

/// Removes blocks whose deletion mark is older than the delay. The delay gives processes that serve
/// the block time to see what replaced it.
#[derive(Clone, Copy, Debug)]
pub struct IgnoreDeletionMark {
    pub delay: Duration,
}

impl Filter for IgnoreDeletionMark {
    fn apply(&self, synced: &mut Synced, now: TimestampMs) {
        let delay = i64::try_from(self.delay.as_secs()).unwrap_or(i64::MAX);
        let now = now.0.div_euclid(1000);
        keep_if(synced, state::MARKED_FOR_DELETION, |b| {
            b.deletion_mark
                .as_ref()
                .is_none_or(|mark| now.saturating_sub(mark.deletion_time) <= delay)
        });
    }
}

/// Removes replica labels in memory, so that replicas are in one group.
#[derive(Clone, Debug)]
pub struct RemoveReplicaLabels {
    pub labels: Vec<String>,
}

impl Filter for RemoveReplicaLabels {
    fn apply(&self, synced: &mut Synced, _now: TimestampMs) {
        let Some(first) = self.labels.first() else { return };
        for block in &mut synced.blocks {
            let removed = block.labels.without(&self.labels);
            if removed == block.labels {
                continue;
            }
            // a block must have some external label
            block.labels =
                if removed.is_empty() { removed.with(first, "deduped") } else { removed };
            *synced.states.entry(REPLICA_LABEL_REMOVED).or_default() += 1;
        }
    }
}

/// Treats a block of which only a mark could not be read as one that was just marked for deletion:
/// it is served, but does not cover others. For processes that only read.
#[derive(Clone, Copy, Debug, Default)]
pub struct UnreadMarks;

impl Filter for UnreadMarks {
    fn apply(&self, synced: &mut Synced, now: TimestampMs) {
        for unseen in &mut synced.unseen {
            let Some(mut block) = unseen.known.take() else { continue };
            let mark = || DeletionMark::new(block.meta.ulid, now, "a mark could not be read");
            block.deletion_mark = block.deletion_mark.take().or_else(|| Some(mark()));
            synced.blocks.push(block);
        }
        let served: BTreeSet<&BlockLocation> = synced.blocks.iter().map(|b| &b.location).collect();
        synced.unseen.retain(|unseen| !served.contains(&unseen.location));
        synced.blocks.sort_by_key(|b| (b.meta.min_time, b.meta.max_time, b.location.clone()));
    }
}

/// Removes blocks whose sources are all in another block of the same labels, resolution and format,
/// as it says; whether that is true is for those to find out who delete. They go to
/// [`Synced::duplicates`].
///
/// What is marked for deletion does not cover anything. Of blocks with equal sources the better one
/// is kept: one without a mark, then the one that was made from the other, then the one in the
/// older version of its format, then the one with more rewrites, then the one of a higher
/// compaction level, then the one with the smaller id.
///
/// The older version is kept because more processes read it: a compactor that does not know the
/// newer one sees nothing there, and would write the older one again as often as it is removed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Deduplicate;

impl Deduplicate {
    /// Where the duplicates among some blocks lie.
    pub fn among<'a>(blocks: impl IntoIterator<Item = &'a SyncedBlock>) -> BTreeSet<BlockLocation> {
        duplicates_among(blocks, |_, _| true)
    }
}

impl Filter for Deduplicate {
    fn apply(&self, synced: &mut Synced, _now: TimestampMs) {
        let duplicates = Deduplicate::among(&synced.blocks);
        leave_out(synced, &duplicates);
    }
}

/// As [`Deduplicate`], but a block is only removed for one that [can hold](can_hold) it. So a false
/// claim does not hide data from those who serve it; that both blocks are read costs time, but
/// equal samples count once. For processes that only read.
#[derive(Clone, Copy, Debug, Default)]
pub struct HideCovered;

impl Filter for HideCovered {
    fn apply(&self, synced: &mut Synced, _now: TimestampMs) {
        let duplicates = duplicates_among(&synced.blocks, can_hold);
        leave_out(synced, &duplicates);
    }
}

fn leave_out(synced: &mut Synced, duplicates: &BTreeSet<BlockLocation>) {
    let out = keep_if(synced, state::DUPLICATE, |b| !duplicates.contains(&b.location));
    synced.duplicates.extend(out);
}

/// Whether the first of two blocks, which has all sources of the second, is taken to hold it. If
/// one can hold another and that a third, it must be able to hold that too.
type CanHold = fn(&BlockMeta, &BlockMeta) -> bool;

fn duplicates_among<'a>(
    blocks: impl IntoIterator<Item = &'a SyncedBlock>,
    can_hold: CanHold,
) -> BTreeSet<BlockLocation> {
    let mut groups: BTreeMap<_, BTreeMap<BTreeSet<BlockId>, Vec<&SyncedBlock>>> = BTreeMap::new();
    for block in blocks {
        let key = (block.labels.as_packed(), block.resolution(), block.location.is_parquet());
        let sources = block.sources().iter().copied().collect();
        groups.entry(key).or_default().entry(sources).or_default().push(block);
    }
    let duplicates = groups.into_values().flat_map(|group| duplicates_of(group, can_hold));
    duplicates.map(|block| block.location.clone()).collect()
}

/// The duplicates among blocks of one group, which come by their sources.
fn duplicates_of(
    by_sources: BTreeMap<BTreeSet<BlockId>, Vec<&SyncedBlock>>,
    can_hold: CanHold,
) -> Vec<&SyncedBlock> {
    let mut all: Vec<_> = by_sources.iter().collect();
    // blocks that can cover others come before those they cover
    all.sort_by_key(|(sources, _)| std::cmp::Reverse(sources.len()));
    let mut duplicates = Vec::new();
    let mut covers: BTreeMap<BlockId, Vec<(&SyncedBlock, &BTreeSet<BlockId>)>> = BTreeMap::new();
    for (sources, equals) in all {
        for block in best_first(equals) {
            // only blocks that hold one of the sources can hold all
            let candidates = sources.first().and_then(|source| covers.get(source));
            let holds = |(cover, theirs): &(&SyncedBlock, &BTreeSet<BlockId>)| {
                can_hold(&cover.meta, &block.meta) && sources.is_subset(theirs)
            };
            if candidates.is_some_and(|candidates| candidates.iter().any(holds)) {
                duplicates.push(block);
            } else if block.deletion_mark.is_none() {
                for source in sources {
                    covers.entry(*source).or_default().push((block, sources));
                }
            }
        }
    }
    duplicates
}

/// Blocks with equal sources, the one that stands for all before the others.
fn best_first<'a>(equals: &[&'a SyncedBlock]) -> Vec<&'a SyncedBlock> {
    let replaced = replaced_among(equals);
    let rewrites = |b: &SyncedBlock| b.meta.thanos.as_ref().map_or(0, |t| t.rewrites.len());
    let rank = |b: &&SyncedBlock| {
        let later = std::cmp::Reverse((rewrites(b), b.meta.compaction.level));
        let goes = (b.deletion_mark.is_some(), replaced.contains(&b.id()));
        (goes, b.format_version(), later, b.location.clone())
    };
    let mut sorted = equals.to_vec();
    sorted.sort_by_cached_key(rank);
    sorted
}

/// The blocks from which unmarked ones were made, even by way of marked ones.
fn replaced_among(equals: &[&SyncedBlock]) -> BTreeSet<BlockId> {
    let mut replaced = BTreeSet::new();
    if equals.len() < 2 {
        return replaced;
    }
    let by_id: BTreeMap<BlockId, &SyncedBlock> = equals.iter().map(|b| (b.id(), *b)).collect();
    for block in equals.iter().filter(|b| b.deletion_mark.is_none()) {
        // metas may say anything, even that a block was made from itself by way of others
        let mut ancestors = BTreeSet::from([block.id()]);
        let mut open = vec![*block];
        while let Some(block) = open.pop() {
            let parents = block.meta.compaction.parents.iter().filter_map(|p| by_id.get(&p.ulid));
            open.extend(parents.filter(|parent| ancestors.insert(parent.id())));
        }
        ancestors.remove(&block.id());
        replaced.append(&mut ancestors);
    }
    replaced
}

#[cfg(test)]
mod tests;
