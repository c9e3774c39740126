//! Compacts every group of blocks, and keeps going when one of them fails.

use std::sync::Arc;

use block::marker::reason;
use block::sync::{Synced, SyncedBlock};
use futures::{FutureExt, StreamExt};
use model::Labels;
use model::error::in_one_line;
use tsdb::meta::BlockMeta;

use super::{Compactor, Event};
use crate::compaction::CompactionJob;
use crate::error::Case;
use crate::group::{Group, groups, index_size};
use crate::inspect::{Damage, damage};
use crate::marks::{CONFLICTING, Exclusion};
use crate::{Error, Result, report};

/// How many times in one iteration blocks are planned anew because somebody else works on them;
/// what is left then is for the next iteration.
const ROUNDS: usize = 8;

/// How the work on one or all groups ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Ended {
    failed: usize,
    /// Blocks that were to be merged had gone: there are others now that hold their data.
    outdated: usize,
}

impl Compactor {
    /// Compacts until there is nothing left to do. `synced` is listed again where it is outdated.
    ///
    /// What goes while it is read goes because somebody else merged it. To go on without it would
    /// make a block that overlaps theirs and is not held by it.
    pub(super) async fn compact(&self, synced: &mut Synced) -> Result<()> {
        let mut ended = Ended::default();
        for _ in 0..ROUNDS {
            let groups = groups(&synced.blocks, self.settings.merge_conflicting);
            let all = groups.len();
            ended = self.compact_groups(groups).await;
            if ended.failed > 0 {
                return Err(Error(Case::Groups { failed: ended.failed, all }));
            }
            if ended.outdated == 0 {
                return Ok(());
            }
            self.sync_after_changes(synced).await?;
        }
        let groups = ended.outdated;
        tracing::info!(
            groups,
            "another compactor is at work on the same blocks, the next run \
            looks again"
        );
        Ok(())
    }

    async fn compact_groups(&self, groups: Vec<Group>) -> Ended {
        let planned: Vec<usize> = groups.iter().map(|g| g.plan().len()).collect();
        self.metrics.todo_compactions.set(planned.iter().filter(|n| **n > 0).count() as f64);
        self.metrics.todo_compaction_blocks.set(planned.iter().sum::<usize>() as f64);
        futures::stream::iter(groups)
            .map(|group| self.compact_group(group).boxed())
            .buffer_unordered(self.settings.compact_concurrency.max(1))
            .fold(Ended::default(), |all, one| {
                let (failed, outdated) = (all.failed + one.failed, all.outdated + one.outdated);
                std::future::ready(Ended { failed, outdated })
            })
            .await
    }

    /// Compacts until nothing is left to do in the group, or it is out of date.
    async fn compact_group(&self, mut group: Group) -> Ended {
        let resolution = group.resolution.millis().to_string();
        let by_resolution = [resolution.as_str()];
        let mut ended = Ended::default();
        loop {
            let blocks = self.next_plan(&mut group).await;
            if blocks.is_empty() {
                return ended;
            }
            self.metrics.runs_started.with_label_values(&by_resolution).inc();
            self.changes.note();
            let start = self.clock.monotonic();
            match self.job(&blocks, &group.labels).run(&self.bucket).await {
                Ok(done) => {
                    report::compacted(&blocks, &done, self.clock.monotonic().saturating_sub(start));
                    self.metrics.compactions.with_label_values(&by_resolution).inc();
                    if done.overlapping {
                        self.metrics.vertical_compactions.with_label_values(&by_resolution).inc();
                    }
                    self.replace(&mut group, &blocks, done.output.as_ref()).await;
                    (self.on_event)(&Event::Compacted {
                        output: done.output,
                        inputs: blocks.len(),
                    });
                }
                Err(e) => {
                    self.metrics.compaction_failures.with_label_values(&by_resolution).inc();
                    tracing::error!(
                        group = %group.labels,
                        resolution,
                        error = %in_one_line(&e),
                        "compaction failed"
                    );
                    match self.settle(&mut group, &blocks, &e).await {
                        Settled::Yes => {}
                        Settled::WithoutIt => ended.failed = 1,
                        Settled::Outdated => return Ended { outdated: 1, ..ended },
                        Settled::No => return Ended { failed: 1, ..ended },
                    }
                }
            }
            self.metrics.runs_completed.with_label_values(&by_resolution).inc();
        }
    }

    /// Merging blocks as the settings say.
    pub(super) fn job<'a>(
        &self,
        blocks: &'a [SyncedBlock],
        labels: &'a Labels,
    ) -> CompactionJob<'a> {
        CompactionJob {
            blocks,
            labels,
            how: self.settings.dedup,
            merge_conflicting: self.settings.merge_conflicting,
            encoder_version: self.settings.release.encoder_version,
        }
    }

    /// Takes what failed out of the group, so that the rest can continue.
    async fn settle(&self, group: &mut Group, blocks: &[SyncedBlock], error: &Error) -> Settled {
        if error.is_overlap_of_aggregates() {
            let details =
                "overlapping downsampled blocks cannot be merged; they are served as they are"
                    .to_owned();
            self.exclude_all(
                group,
                blocks,
                Exclusion { reason: reason::DOWNSAMPLE_VERTICAL, details },
            )
            .await;
            return Settled::Yes;
        }
        if let Error(Case::Conflicting { .. }) = error {
            let details = format!(
                "{}; give each server external labels of its own; --compact.merge-conflicting \
                 merges them all the same",
                in_one_line(error)
            );
            self.exclude_all(group, blocks, Exclusion { reason: CONFLICTING, details }).await;
            return Settled::Yes;
        }
        if let Error(Case::InputGone { .. }) = error {
            return Settled::Outdated;
        }
        let Some(block) = blocks.iter().find(|b| Some(b.id()) == error.block()) else {
            return Settled::No;
        };
        if error.is_short_of_memory() {
            group.set_aside(block.id());
            return Settled::WithoutIt;
        }
        match damage(&self.bucket, block, error).await {
            Damage::Proven => {
                self.marks.quarantine(block, error).await;
                group.mark_no_compact(block.id(), self.clock.now());
                Settled::Yes
            }
            Damage::Gone => Settled::Outdated,
            Damage::NotFound => {
                group.set_aside(block.id());
                Settled::WithoutIt
            }
            Damage::Unknown => Settled::No,
        }
    }

    async fn exclude_all(&self, group: &mut Group, blocks: &[SyncedBlock], why: Exclusion<'_>) {
        for block in blocks {
            self.marks.exclude(block, &why).await;
            group.mark_no_compact(block.id(), self.clock.now());
        }
    }

    /// The next blocks to merge. Where their indices together would be too large, the largest is
    /// excluded for good and the rest planned again.
    async fn next_plan(&self, group: &mut Group) -> Vec<SyncedBlock> {
        loop {
            let blocks = group.plan();
            let total: u64 = blocks.iter().map(|b| index_size(&b.meta)).sum();
            // room for what merging adds, as Thanos leaves it
            if total < self.settings.max_index_size / 100 * 85 {
                return blocks;
            }
            let Some(largest) = blocks.iter().max_by_key(|b| index_size(&b.meta)) else {
                return blocks;
            };
            let details = "the merged index would be too large".to_owned();
            self.marks.exclude(largest, &Exclusion { reason: reason::INDEX_SIZE, details }).await;
            group.mark_no_compact(largest.id(), self.clock.now());
        }
    }

    async fn replace(
        &self,
        group: &mut Group,
        inputs: &[SyncedBlock],
        output: Option<&Arc<BlockMeta>>,
    ) {
        for input in inputs {
            group.remove(input.id());
            self.marks.delete_later(input, "source of compacted block").await;
        }
        if let Some(meta) = output {
            group.add(meta);
        }
    }
}

/// What was done about an error in a group.
enum Settled {
    /// The group continues, and nothing is left to be done about it.
    Yes,
    /// The group continues without a block, which the next run tries again.
    WithoutIt,
    /// A block was marked or deleted by somebody else; the bucket has to be listed again.
    Outdated,
    No,
}
