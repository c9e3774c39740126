//! Writes the downsampled copies that blocks lack.

use std::collections::BTreeMap;

use block::sync::{Synced, SyncedBlock};
use futures::StreamExt;
use model::error::in_one_line;
use model::{Labels, Resolution};
use tsdb::meta::BlockMeta;

use super::{Compactor, Event};
use crate::downsample_plan::{self, Downsampling};
use crate::error::Case;
use crate::formats::WrittenFormats;
use crate::identity::OutputFormat;
use crate::inspect::{Damage, damage};
use crate::{Error, Result, downsample, report};

impl Compactor {
    pub(super) async fn downsample(
        &self,
        formats: WrittenFormats,
        synced: &mut Synced,
    ) -> Result<()> {
        let mut failed = 0;
        let mut all = 0;
        if formats.parquet {
            self.sync_after_changes(synced).await?;
            let (tsdb, parquet) = split_formats(synced);
            let now = self.clock.now().0;
            let work = plan_by_labels(&tsdb, &parquet, |raw, copies| {
                downsample_plan::plan_parquet(raw, copies, now)
            });
            all += work.len();
            let format = OutputFormat::Parquet(self.settings.parquet_version);
            failed += self.downsample_all(work, format).await;
        }
        if formats.thanos {
            // 5m first, then 1h from what that made
            for _ in 0..2 {
                self.sync_after_changes(synced).await?;
                let (tsdb, _) = split_formats(synced);
                let work =
                    plan_by_labels(&tsdb, &[], |blocks, _| downsample_plan::plan_thanos(blocks));
                all += work.len();
                failed += self.downsample_all(work, OutputFormat::Tsdb).await;
            }
        }
        if failed == 0 { Ok(()) } else { Err(Error(Case::Groups { failed, all })) }
    }

    /// Returns how many failed.
    async fn downsample_all(&self, work: Vec<DownsampleWork>, format: OutputFormat) -> usize {
        self.metrics.todo_downsample_blocks.set(work.len() as f64);
        futures::stream::iter(work)
            .map(|work| async move { self.downsample_block(&work, format).await })
            .buffer_unordered(self.settings.downsample_concurrency.max(1))
            .filter(|done| std::future::ready(!done))
            .count()
            .await
    }

    async fn downsample_block(&self, work: &DownsampleWork, format: OutputFormat) -> bool {
        self.changes.note();
        let job = downsample::DownsampleJob {
            input: &work.input,
            labels: &work.labels,
            resolutions: &work.resolutions,
            format,
            encoder_version: self.settings.release.encoder_version,
            workers: self.settings.downsample_workers,
        };
        let from = work.input.resolution().millis().to_string();
        let start = self.clock.monotonic();
        match job.run(&self.bucket).await {
            Ok(outputs) => {
                let took = self.clock.monotonic().saturating_sub(start);
                outputs.iter().for_each(|output| report::downsampled(&work.input, output, took));
                self.metrics.downsamplings.with_label_values(&[&from]).inc();
                (self.on_event)(&Event::Downsampled { outputs });
                true
            }
            Err(e) => {
                self.metrics.downsampling_failures.with_label_values(&[&from]).inc();
                tracing::error!(block = %work.input.id(), error = %in_one_line(&e), "downsampling \
                    failed");
                if e.is_too_long() {
                    return self.marks.exclude_from_downsampling(&work.input, &e).await;
                }
                match damage(&self.bucket, &work.input, &e).await {
                    Damage::Proven => self.marks.exclude_from_downsampling(&work.input, &e).await,
                    Damage::Gone => true,
                    Damage::NotFound | Damage::Unknown => false,
                }
            }
        }
    }
}

/// A block to downsample.
struct DownsampleWork {
    input: SyncedBlock,
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
        let copies: Vec<&BlockMeta> =
            parquet.iter().filter(|b| b.labels == *labels).map(|b| &*b.meta).collect();
        for Downsampling { input, resolutions } in plan(&metas, &copies) {
            let input = blocks.iter().find(|b| b.id() == input.ulid).map(|b| SyncedBlock::clone(b));
            work.extend(input.map(|input| DownsampleWork {
                input,
                labels: labels.clone(),
                resolutions,
            }));
        }
    }
    work
}
