//! One iteration over a bucket: clean, retain, compact, downsample, collect garbage. Each part
//! continues when another fails, and so does each group of blocks.

mod cleaning;
mod compacting;
mod downsampling;

use std::sync::Arc;
use std::time::Duration;

use block::catalog::CatalogWriter;
use block::sync::{
    ConsistencyDelay, Deduplicate, FetcherSettings, MetaFetcher, RelabelFilter,
    RemoveReplicaLabels, Synced, TimePartition,
};
use block::{Bucket, SyncMetrics};
use blocks_api::BlocksApi;
use futures::FutureExt;
use model::error::in_one_line;
use model::{Budget, Clock};
use prometheus::Registry;
use serve::{Component, Served};
use tokio::sync::watch;
use tsdb::meta::BlockMeta;

use crate::changes::Changes;
use crate::cover::CoverProofs;
use crate::error::Case;
use crate::formats::FormatChoice;
use crate::marks::MarkWriter;
use crate::metrics::Metrics;
use crate::remake::Remakes;
use crate::settings::Settings;
use crate::view::Unmarked;
use crate::{Error, Result};

/// Of what requests send, this much is received at a time. They are forms with an id and a reason.
const RECEIVED_BYTES: u64 = 64 << 20;

/// Something that a compactor finished, for those who show progress.
#[derive(Clone, Debug)]
pub enum Event {
    /// A block was made from others.
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
    marks: MarkWriter,
    formats: FormatChoice,
    proofs: CoverProofs,
    remakes: Remakes,
    changes: Changes,
    catalog: CatalogWriter,
    registry: Registry,
    blocks_api: BlocksApi,
    on_event: Arc<dyn Fn(&Event) + Send + Sync>,
}

impl Compactor {
    /// # Errors
    /// Settings that contradict each other.
    pub fn new(
        bucket: Bucket,
        settings: Settings,
        clock: Arc<dyn Clock>,
        registry: &Registry,
    ) -> Result<Compactor> {
        settings.validate()?;
        let fetcher_settings = FetcherSettings {
            concurrency: settings.meta_fetch_concurrency,
            cache_dir: settings.data_dir.as_ref().map(|dir| dir.join("meta-syncer")),
            formats: Some(settings.release.formats),
            // nothing is marked or deleted because of what a catalog says
            catalog: None,
        };
        let sync_metrics = SyncMetrics::new(registry)?;
        let (metrics, changes) = (Metrics::new(registry)?, Changes::default());
        Ok(Compactor {
            catalog: CatalogWriter::new(bucket.clone(), sync_metrics.catalog()),
            fetcher: MetaFetcher::new(bucket.clone(), fetcher_settings, sync_metrics),
            marks: MarkWriter::new(
                bucket.clone(),
                Arc::clone(&clock),
                metrics.clone(),
                changes.clone(),
            ),
            formats: FormatChoice::new(settings.downsampling.then_some(settings.downsample_format)),
            proofs: CoverProofs::default(),
            remakes: Remakes::default(),
            blocks_api: BlocksApi::new(bucket.clone(), settings.blocks_api.clone()),
            bucket,
            settings,
            clock,
            metrics,
            changes,
            registry: registry.clone(),
            on_event: Arc::new(|_| {}),
        })
    }

    /// Calls `on_event` whenever something is finished.
    #[must_use]
    pub fn with_progress(mut self, on_event: Arc<dyn Fn(&Event) + Send + Sync>) -> Compactor {
        self.on_event = on_event;
        self
    }

    /// Does everything there is to do now.
    ///
    /// # Errors
    /// When the bucket could not be listed, some blocks could not be looked at, or some group
    /// failed; all others are still done.
    pub async fn run_once(&self) -> Result<()> {
        let before = self.changes.count();
        let mut synced = self.sync().await?;
        self.clean(&synced).await;
        let formats = self.formats.choose(&self.bucket).await;
        self.apply_retention(formats, &mut synced).await;
        self.collect_garbage(&synced).await;
        let compacted = self.compact(&mut synced).await;
        let downsampled = match self.settings.downsampling {
            true => self.downsample(formats, &mut synced).await,
            false => Ok(()),
        };
        self.sync_after_changes(&mut synced).await?;
        let unproven = self.collect_garbage(&synced).await;
        if self.settings.delete_delay.is_zero() {
            // leave out at once what was just marked
            self.sync_after_changes(&mut synced).await?;
        }
        self.clean(&synced).await;
        // the catalog shall not name what was just removed
        self.sync_after_changes(&mut synced).await?;
        self.write_catalog(&synced).await;
        self.tell_kept_for_readers(&synced);
        self.tell_unproven(&unproven);
        compacted.and(downsampled).and(all_were_seen(&synced))?;
        if self.changes.count() == before {
            tracing::info!(blocks = synced.blocks.len(), "nothing to do");
        }
        self.metrics.iterations.inc();
        Ok(())
    }

    /// The work as the settings say: once, or again and again. It is always ready; its API is
    /// that of blocks.
    pub fn into_component(self) -> Component {
        let (ready_sender, ready) = watch::channel(true);
        let served = Served {
            name: "compact",
            routes: self.blocks_api.router(),
            services: None,
            registry: self.registry.clone(),
            budget: Budget::new(RECEIVED_BYTES),
            ready,
        };
        let run = async move {
            // before the first write depends on it
            self.bucket.probe_create_only().await;
            match self.settings.wait {
                Some(pause) => self.repeat(pause).await,
                None => self.run_once().await?,
            }
            drop(ready_sender);
            Ok(())
        };
        Component { served, run: run.boxed() }
    }

    /// Repeats until the future is dropped; a failed iteration is logged and tried again.
    async fn repeat(&self, pause: Duration) {
        loop {
            if let Err(e) = self.run_once().await {
                self.metrics.retries.inc();
                tracing::error!(error = %in_one_line(&e), "the iteration is incomplete, the next \
                    one goes on");
            }
            self.clock.sleep(pause).await;
        }
    }

    async fn sync(&self) -> Result<Synced> {
        let settings = &self.settings;
        let time = TimePartition { range: settings.range };
        let selector = RelabelFilter {
            configs: settings.selector.clone(),
            without: settings.replica_labels.clone(),
        };
        let fresh = ConsistencyDelay { delay: settings.consistency_delay };
        let replicas = RemoveReplicaLabels { labels: settings.replica_labels.clone() };
        let watch = self.blocks_api.watch();
        let synced = self
            .fetcher
            .fetch(&[
                &watch,
                &self.formats,
                &time,
                &selector,
                &fresh,
                &Unmarked,
                &replicas,
                &Deduplicate,
            ])
            .await
            .inspect_err(|e| self.blocks_api.failed(&in_one_line(e).to_string()))?;
        self.blocks_api.set_loaded(synced.blocks.clone());
        self.changes.settle();
        let listed_ms = self.fetcher.listed_ms().await;
        if listed_ms.is_some_and(|listed_ms| self.catalog.is_due(listed_ms)) {
            self.write_catalog(&synced).await;
        }
        Ok(synced)
    }

    /// Tells gateways which blocks there are, as of the last listing; not while some of them cannot
    /// be looked at.
    async fn write_catalog(&self, synced: &Synced) {
        if !synced.unseen.is_empty() {
            return;
        }
        if let Some(catalog) = self.fetcher.catalog("compact").await {
            self.catalog.write(catalog).await;
        }
    }

    /// Updates to the blocks as they are now; keeps what is known where nothing was written since.
    async fn sync_after_changes(&self, synced: &mut Synced) -> Result<()> {
        if self.changes.any() {
            *synced = self.sync().await?;
        }
        Ok(())
    }
}

/// Blocks that could not be looked at leave the work incomplete.
fn all_were_seen(synced: &Synced) -> Result<()> {
    let Some(first) = synced.unseen.first() else { return Ok(()) };
    Err(Error(Case::Unseen {
        count: synced.unseen.len(),
        first: first.location.id(),
        source: first.error.clone(),
    }))
}
