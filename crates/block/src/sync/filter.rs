//! The filters of Thanos' `pkg/block/fetcher.go`: which of the blocks found take part.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use model::{BlockId, TimeRange, TimestampMs};

use super::relabel::{RelabelConfig, relabel};
use super::{Synced, SyncedBlock, state};

/// Stands in `thanos_blocks_meta_modified`.
pub(super) const REPLICA_LABEL_REMOVED: &str = "replica-label-removed";

/// Takes blocks out of a sync, or changes their labels.
pub trait Filter: Send + Sync + fmt::Debug {
    fn apply(&self, synced: &mut Synced, now: TimestampMs);
}

fn keep_if(synced: &mut Synced, state: &'static str, keep: impl Fn(&SyncedBlock) -> bool) -> Vec<SyncedBlock> {
    let (kept, out) = std::mem::take(&mut synced.blocks).into_iter().partition(keep);
    synced.blocks = kept;
    let out: Vec<SyncedBlock> = out;
    *synced.states.entry(state).or_default() += out.len() as u64;
    out
}

/// Only blocks that reach into the range (`--min-time`, `--max-time`).
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

/// Only blocks whose external labels, with `__block_id`, survive the relabel configs (`--selector.relabel-config`).
#[derive(Clone, Debug)]
pub struct RelabelFilter {
    pub configs: Vec<RelabelConfig>,
    /// Left out of what is relabelled, so that replicas stay together.
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

/// Only blocks older than the delay, so that eventually consistent stores show all their files. What compactors and
/// repairs wrote is complete when its meta is seen.
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
            let complete = matches!(b.meta.source(), "bucket.repair" | "compactor" | "compactor.repair");
            complete || now.0.saturating_sub(born) >= delay
        });
    }
}

/// Without blocks whose deletion mark is older than the delay. The delay gives those who serve the block time to see
/// what replaced it.
#[derive(Clone, Copy, Debug)]
pub struct IgnoreDeletionMark {
    pub delay: Duration,
}

impl Filter for IgnoreDeletionMark {
    fn apply(&self, synced: &mut Synced, now: TimestampMs) {
        let delay = i64::try_from(self.delay.as_secs()).unwrap_or(i64::MAX);
        let now = now.0.div_euclid(1000);
        keep_if(synced, state::MARKED_FOR_DELETION, |b| {
            b.deletion_mark.as_ref().is_none_or(|mark| now.saturating_sub(mark.deletion_time) <= delay)
        });
    }
}

/// Takes replica labels away in memory, so that replicas fall into one group.
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
            block.labels = if removed.is_empty() { removed.with(first, "deduped") } else { removed };
            *synced.states.entry(REPLICA_LABEL_REMOVED).or_default() += 1;
        }
    }
}

/// Without blocks all of whose sources are in another block of the same labels, resolution and format. They go to
/// [`Synced::duplicates`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Deduplicate;

impl Filter for Deduplicate {
    fn apply(&self, synced: &mut Synced, _now: TimestampMs) {
        let mut groups: BTreeMap<_, Vec<&SyncedBlock>> = BTreeMap::new();
        for block in &synced.blocks {
            let key = (block.labels.as_packed(), block.resolution(), block.location.is_parquet());
            groups.entry(key).or_default().push(block);
        }
        let mut duplicates: BTreeSet<BlockId> = BTreeSet::new();
        for mut group in groups.into_values() {
            // the most sources first; of equals the older, then the smaller id
            group.sort_by_key(|b| (std::cmp::Reverse(b.meta.compaction.sources.len()), b.meta.min_time, b.id()));
            let mut covers: Vec<BTreeSet<BlockId>> = Vec::new();
            let mut holders: BTreeMap<BlockId, Vec<usize>> = BTreeMap::new();
            for block in group {
                let sources: BTreeSet<BlockId> = block.meta.compaction.sources.iter().copied().collect();
                // only kept blocks that hold one of the sources can hold all
                let candidates = sources.first().and_then(|source| holders.get(source));
                if candidates.is_some_and(|at| at.iter().any(|i| sources.is_subset(&covers[*i]))) {
                    duplicates.insert(block.id());
                    continue;
                }
                for source in &sources {
                    holders.entry(*source).or_default().push(covers.len());
                }
                covers.push(sources);
            }
        }
        let out = keep_if(synced, state::DUPLICATE, |b| !duplicates.contains(&b.id()));
        synced.duplicates.extend(out);
    }
}
