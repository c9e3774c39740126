//! One iteration over a bucket: clean, retain, compact, downsample, collect garbage. Each part goes on when another
//! fails, and each group of blocks when another group does.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use block::Bucket;
use block::SyncMetrics;
use block::sync::{
    ConsistencyDelay, Deduplicate, FetcherSettings, IgnoreDeletionMark, MetaFetcher, RelabelFilter,
    RemoveReplicaLabels, Synced, SyncedBlock, TimePartition,
};
use futures::StreamExt;
use merge::Vertical;
use model::{BlockId, Clock, Labels, Resolution};
use prometheus::Registry;
use tsdb::meta::BlockMeta;

use crate::changes::Changes;
use crate::downsample_plan::{self, Downsampling};
use crate::identity::OutputFormat;
use crate::marks::Marks;
use crate::metrics::Metrics;
use crate::settings::{DedupFunc, Settings};
use crate::{Error, Result, compaction, downsample, planner};

/// A block's folder without `meta.json` is taken for an upload under way until its newest object is this old.
const PARTIAL_UPLOAD_AGE_MS: i64 = 48 * 3_600_000;

/// Something that a compactor finished, for those who show progress.
#[derive(Clone, Debug)]
pub enum Event {
    /// A block was made of others.
    Compacted { output: Option<Arc<BlockMeta>>, inputs: usize },
    /// The copies of one block were written.
    Downsampled { outputs: Vec<Arc<BlockMeta>> },
}

/// Tends one bucket.
pub struct Compactor {
    bucket: Bucket,
    settings: Settings,
    clock: Arc<dyn Clock>,
    fetcher: MetaFetcher,
    metrics: Metrics,
    marks: Marks,
    changes: Changes,
    on_event: Arc<dyn Fn(&Event) + Send + Sync>,
}

/// Blocks that may be merged with each other: same resolution, same external labels, same format.
struct Group {
    labels: Labels,
    resolution: Resolution,
    blocks: Vec<SyncedBlock>,
}

impl Compactor {
    /// # Errors
    /// Settings that contradict themselves.
    pub fn new(bucket: Bucket, settings: Settings, clock: Arc<dyn Clock>, registry: &Registry) -> Result<Compactor> {
        settings.validate()?;
        let fetcher_settings = FetcherSettings {
            concurrency: settings.meta_fetch_concurrency,
            cache_dir: settings.data_dir.as_ref().map(|dir| dir.join("meta-syncer")),
        };
        let (metrics, changes) = (Metrics::new(registry)?, Changes::default());
        Ok(Compactor {
            fetcher: MetaFetcher::new(bucket.clone(), fetcher_settings, SyncMetrics::new(registry)?),
            marks: Marks::new(bucket.clone(), Arc::clone(&clock), metrics.clone(), changes.clone()),
            bucket,
            settings,
            clock,
            metrics,
            changes,
            on_event: Arc::new(|_| {}),
        })
    }

    /// Calls `on_event` whenever something is finished.
    #[must_use]
    pub fn with_progress(mut self, on_event: Arc<dyn Fn(&Event) + Send + Sync>) -> Compactor {
        self.on_event = on_event;
        self
    }

    /// Does all that is to do now.
    ///
    /// # Errors
    /// When the bucket could not be listed, or some group failed; all other groups are done all the same.
    pub async fn run_once(&self) -> Result<()> {
        let mut synced = self.sync().await?;
        self.clean(&synced).await;
        self.apply_retention(&synced).await;
        self.collect_garbage(&synced).await;
        let compacted = self.compact(&synced).await;
        let downsampled = match self.settings.downsampling {
            true => self.downsample(&mut synced).await,
            false => Ok(()),
        };
        self.sync_after_changes(&mut synced).await?;
        self.collect_garbage(&synced).await;
        if self.settings.delete_delay.is_zero() {
            // what was marked just now goes at once
            self.sync_after_changes(&mut synced).await?;
        }
        self.clean(&synced).await;
        compacted.and(downsampled)?;
        self.metrics.iterations.inc();
        Ok(())
    }

    /// Runs again and again until the future is dropped; a failed iteration is logged and tried again.
    pub async fn run(&self) {
        loop {
            if let Err(e) = self.run_once().await {
                self.metrics.retries.inc();
                tracing::error!(error = %e, "the iteration is incomplete, the next one goes on");
            }
            self.clock.sleep(self.settings.wait_interval).await;
        }
    }

    async fn sync(&self) -> Result<Synced> {
        let settings = &self.settings;
        let time = TimePartition { range: settings.range };
        let selector = RelabelFilter { configs: settings.selector.clone(), without: settings.replica_labels.clone() };
        let fresh = ConsistencyDelay { delay: settings.consistency_delay };
        let deleted = IgnoreDeletionMark { delay: settings.delete_delay / 2 };
        let replicas = RemoveReplicaLabels { labels: settings.replica_labels.clone() };
        let synced = self.fetcher.fetch(&[&time, &selector, &fresh, &deleted, &replicas, &Deduplicate]).await?;
        self.changes.settle();
        Ok(synced)
    }

    /// The blocks as they are now; what is known already where nothing was written since.
    async fn sync_after_changes(&self, synced: &mut Synced) -> Result<()> {
        if self.changes.any() {
            *synced = self.sync().await?;
        }
        Ok(())
    }

    /// Deletes what was marked long enough ago, and what uploads left behind that broke off.
    async fn clean(&self, synced: &Synced) {
        let now = self.clock.now();
        for block in &synced.marked_for_deletion {
            let marked = block.deletion_mark.as_ref().map_or(i64::MAX, |m| m.deletion_time);
            let age_s = now.0.div_euclid(1000).saturating_sub(marked);
            if age_s >= self.settings.delete_delay.as_secs() as i64 {
                self.marks.delete(&block.location, "marked for deletion").await;
            }
        }
        for partial in &synced.partial {
            let age_ms = now.0.saturating_sub(partial.newest.0);
            if !partial.has_deletion_mark && age_ms > PARTIAL_UPLOAD_AGE_MS {
                self.marks.delete(&partial.location, "upload broke off").await;
            }
        }
        let age = Duration::from_millis(PARTIAL_UPLOAD_AGE_MS as u64);
        if let Err(e) = self.bucket.sweep_torn_uploads(age).await {
            tracing::warn!(error = %e, "files of torn uploads could not be removed, the next run tries again");
        }
    }

    /// Marks what is older than its retention. Raw data goes only once its coarser copies are there.
    async fn apply_retention(&self, synced: &Synced) {
        let now = self.clock.now().0;
        let expired: Vec<&SyncedBlock> = synced
            .blocks
            .iter()
            .filter(|b| {
                let kept = self.settings.retention.of(b.resolution());
                kept.is_some_and(|kept| b.meta.max_time.saturating_add(kept.as_millis() as i64) < now)
            })
            .collect();
        self.metrics.todo_deletion_blocks.set(expired.len() as i64);
        for block in expired {
            if self.settings.downsampling && block.resolution() == Resolution::Raw && !has_copies(block, synced) {
                tracing::warn!(
                    block = %block.id(),
                    "retention is over, but the block is kept until its 5m and 1h copies exist"
                );
                continue;
            }
            self.marks.delete_later(block, "block exceeding retention").await;
        }
    }

    /// Marks blocks all of whose sources went into others.
    async fn collect_garbage(&self, synced: &Synced) {
        let start = self.clock.monotonic();
        self.metrics.garbage_collections.inc();
        for block in synced.duplicates.iter().filter(|b| b.deletion_mark.is_none()) {
            match self.marks.delete_later(block, "outdated block").await {
                true => self.metrics.garbage_collected.inc(),
                false => self.metrics.garbage_collection_failures.inc(),
            }
        }
        let took = self.clock.monotonic().saturating_sub(start);
        self.metrics.garbage_collection_duration.observe(took.as_secs_f64());
    }

    async fn compact(&self, synced: &Synced) -> Result<()> {
        let groups = groups(&synced.blocks);
        let planned: Vec<usize> = groups.iter().map(|g| planner::plan(&g.metas(), &g.no_compact()).len()).collect();
        self.metrics.todo_compactions.set(planned.iter().filter(|n| **n > 0).count() as i64);
        self.metrics.todo_compaction_blocks.set(planned.iter().sum::<usize>() as i64);
        let all = groups.len();
        let failed = futures::stream::iter(groups)
            .map(|group| self.compact_group(group))
            .buffer_unordered(self.settings.compact_concurrency.max(1))
            .filter(|done| std::future::ready(!done))
            .count()
            .await;
        if failed == 0 { Ok(()) } else { Err(Error::Groups { failed, all }) }
    }

    /// Compacts until nothing is left to do in the group; says whether all went well.
    async fn compact_group(&self, mut group: Group) -> bool {
        let resolution = group.resolution.millis().to_string();
        let by_resolution = [resolution.as_str()];
        loop {
            let blocks = self.next_plan(&mut group).await;
            if blocks.is_empty() {
                return true;
            }
            self.metrics.runs_started.with_label_values(&by_resolution).inc();
            let how = match self.settings.dedup {
                DedupFunc::Chain => Vertical::Chain,
                DedupFunc::Penalty => Vertical::Penalty,
            };
            self.changes.note();
            let job = compaction::Job { blocks: &blocks, labels: &group.labels, how };
            match job.run(&self.bucket).await {
                Ok(done) => {
                    self.metrics.compactions.with_label_values(&by_resolution).inc();
                    if done.overlapping {
                        self.metrics.vertical_compactions.with_label_values(&by_resolution).inc();
                    }
                    self.replace(&mut group, &blocks, done.output.as_ref()).await;
                    (self.on_event)(&Event::Compacted { output: done.output, inputs: blocks.len() });
                }
                Err(e) => {
                    self.metrics.compaction_failures.with_label_values(&by_resolution).inc();
                    tracing::error!(group = %group.labels, resolution, error = %e, "compaction failed");
                    match self.marks.quarantine(&e, &blocks).await {
                        Some(bad) => group.mark_no_compact(bad, self.clock.now()),
                        None => return false,
                    }
                }
            }
            self.metrics.runs_completed.with_label_values(&by_resolution).inc();
        }
    }

    /// The next blocks to merge. Where their indices together would be too large, the largest is excluded for good and
    /// the rest planned anew.
    async fn next_plan(&self, group: &mut Group) -> Vec<Arc<BlockMeta>> {
        loop {
            let metas = group.metas();
            let planned: Vec<BlockId> = planner::plan(&metas, &group.no_compact()).iter().map(|b| b.ulid).collect();
            let blocks: Vec<_> =
                group.blocks.iter().filter(|b| planned.contains(&b.id())).map(|b| Arc::clone(&b.meta)).collect();
            let total: u64 = blocks.iter().map(|b| index_size(b)).sum();
            // room for what merging adds, as Thanos leaves it
            if total < self.settings.max_index_size / 100 * 85 {
                return blocks;
            }
            let Some(largest) = blocks.iter().max_by_key(|b| index_size(b)) else { return blocks };
            self.marks.exclude(largest, block::marker::reason::INDEX_SIZE, "the merged index would be too large").await;
            group.mark_no_compact(largest.ulid, self.clock.now());
        }
    }

    async fn replace(&self, group: &mut Group, inputs: &[Arc<BlockMeta>], output: Option<&Arc<BlockMeta>>) {
        for input in inputs {
            let Some(at) = group.blocks.iter().position(|b| b.id() == input.ulid) else { continue };
            let block = group.blocks.swap_remove(at);
            // a block rewritten alone may come out under a new id only
            if output.is_none_or(|o| o.ulid != block.id()) {
                self.marks.delete_later(&block, "source of compacted block").await;
            }
        }
        if let Some(meta) = output {
            group.blocks.push(SyncedBlock {
                location: block::BlockLocation::tsdb(meta.ulid),
                labels: group.labels.clone(),
                meta: Arc::clone(meta),
                deletion_mark: None,
                no_compact_mark: None,
                no_downsample_mark: None,
                tombstones: None,
                bytes: 0,
            });
        }
    }

    async fn downsample(&self, synced: &mut Synced) -> Result<()> {
        let mut failed = 0;
        let mut all = 0;
        if self.settings.writes_parquet() {
            self.sync_after_changes(synced).await?;
            let (tsdb, parquet) = split_formats(synced);
            let now = self.clock.now().0;
            let work = plan_by_labels(&tsdb, &parquet, |raw, copies| downsample_plan::plan_parquet(raw, copies, now));
            all += work.len();
            failed += self.downsample_all(work, OutputFormat::Parquet).await;
        }
        if self.settings.writes_thanos() {
            // 5m first, then 1h from what that made
            for _ in 0..2 {
                self.sync_after_changes(synced).await?;
                let (tsdb, _) = split_formats(synced);
                let work = plan_by_labels(&tsdb, &[], |blocks, _| downsample_plan::plan_thanos(blocks));
                all += work.len();
                failed += self.downsample_all(work, OutputFormat::Tsdb).await;
            }
        }
        if failed == 0 { Ok(()) } else { Err(Error::Groups { failed, all }) }
    }

    /// Returns how many failed.
    async fn downsample_all(&self, work: Vec<DownsampleWork>, format: OutputFormat) -> usize {
        self.metrics.todo_downsample_blocks.set(work.len() as i64);
        futures::stream::iter(work)
            .map(|work| async move { self.downsample_block(&work, format).await })
            .buffer_unordered(self.settings.downsample_concurrency.max(1))
            .filter(|done| std::future::ready(!done))
            .count()
            .await
    }

    async fn downsample_block(&self, work: &DownsampleWork, format: OutputFormat) -> bool {
        self.changes.note();
        let job = downsample::Job {
            input: &work.input,
            labels: &work.labels,
            resolutions: &work.resolutions,
            format,
            workers: self.settings.downsample_workers,
        };
        let from = work.input.resolution().millis().to_string();
        match job.run(&self.bucket).await {
            Ok(outputs) => {
                self.metrics.downsamplings.with_label_values(&[&from]).inc();
                (self.on_event)(&Event::Downsampled { outputs });
                true
            }
            Err(e) => {
                self.metrics.downsampling_failures.with_label_values(&[&from]).inc();
                tracing::error!(block = %work.input.ulid, error = %e, "downsampling failed");
                self.marks.exclude_from_downsampling(&e, &work.input).await
            }
        }
    }
}

/// A block to downsample, owned.
struct DownsampleWork {
    input: Arc<BlockMeta>,
    labels: Labels,
    resolutions: Vec<Resolution>,
}

fn split_formats(synced: &Synced) -> (Vec<&SyncedBlock>, Vec<&SyncedBlock>) {
    synced.blocks.iter().partition(|b| !b.location.is_parquet())
}

/// Plans label set by label set; blocks marked not to be downsampled are left out.
fn plan_by_labels(
    tsdb: &[&SyncedBlock],
    parquet: &[&SyncedBlock],
    plan: impl for<'a> Fn(&[&'a BlockMeta], &[&BlockMeta]) -> Vec<Downsampling<'a>>,
) -> Vec<DownsampleWork> {
    let mut by_labels: BTreeMap<&Labels, Vec<&SyncedBlock>> = BTreeMap::new();
    for block in tsdb.iter().filter(|b| b.no_downsample_mark.is_none()) {
        by_labels.entry(&block.labels).or_default().push(block);
    }
    let mut work = Vec::new();
    for (labels, blocks) in by_labels {
        let metas: Vec<&BlockMeta> = blocks.iter().map(|b| &*b.meta).collect();
        let copies: Vec<&BlockMeta> = parquet.iter().filter(|b| b.labels == *labels).map(|b| &*b.meta).collect();
        for Downsampling { input, resolutions } in plan(&metas, &copies) {
            let input = blocks.iter().find(|b| b.id() == input.ulid).map(|b| Arc::clone(&b.meta));
            work.extend(input.map(|input| DownsampleWork { input, labels: labels.clone(), resolutions }));
        }
    }
    work
}

/// Whether both coarser copies of a raw block are there, in either format.
fn has_copies(raw: &SyncedBlock, synced: &Synced) -> bool {
    let copies: Vec<&BlockMeta> = synced.blocks.iter().filter(|b| b.labels == raw.labels).map(|b| &*b.meta).collect();
    [Resolution::FiveMinutes, Resolution::OneHour]
        .into_iter()
        .all(|resolution| downsample_plan::is_covered(&raw.meta, &copies, resolution))
}

/// TSDB blocks in groups, ordered by resolution and labels.
fn groups(blocks: &[SyncedBlock]) -> Vec<Group> {
    let mut groups: BTreeMap<(Resolution, Labels), Vec<SyncedBlock>> = BTreeMap::new();
    for block in blocks.iter().filter(|b| !b.location.is_parquet()) {
        groups.entry((block.resolution(), block.labels.clone())).or_default().push(block.clone());
    }
    let group = |((resolution, labels), blocks)| Group { labels, resolution, blocks };
    groups.into_iter().map(group).collect()
}

impl Group {
    fn metas(&self) -> Vec<&BlockMeta> {
        self.blocks.iter().map(|b| &*b.meta).collect()
    }

    fn no_compact(&self) -> BTreeSet<BlockId> {
        self.blocks.iter().filter(|b| b.no_compact_mark.is_some()).map(SyncedBlock::id).collect()
    }

    /// As the bucket now says; the next sync would find the mark.
    fn mark_no_compact(&mut self, id: BlockId, now: model::TimestampMs) {
        for block in self.blocks.iter_mut().filter(|b| b.id() == id) {
            block.no_compact_mark = Some(block::marker::NoCompactMark::new(id, now, block::marker::reason::MANUAL, ""));
        }
    }
}

fn index_size(meta: &BlockMeta) -> u64 {
    let files = meta.thanos.iter().flat_map(|t| &t.files);
    files.filter(|f| f.rel_path == block::layout::INDEX_FILE).map(|f| f.size_bytes).sum()
}
