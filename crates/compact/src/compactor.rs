//! One iteration over a bucket: clean, retain, compact, downsample, collect garbage. Each part goes
//! on when another fails, and each group of blocks when another group does.

mod cleaning;
mod compacting;
mod downsampling;

use model::error::in_one_line;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use block::Bucket;
use block::SyncMetrics;
use block::sync::{
    ConsistencyDelay, Deduplicate, FetcherSettings, MetaFetcher, RelabelFilter,
    RemoveReplicaLabels, Synced, TimePartition,
};
use futures::FutureExt;
use model::Clock;
use prometheus::Registry;
use serve::{Component, Served};
use tokio::sync::watch;
use tsdb::meta::BlockMeta;

use crate::changes::Changes;
use crate::error::Case;
use crate::marks::MarkWriter;
use crate::metrics::Metrics;
use crate::settings::Settings;
use crate::view::Unmarked;
use crate::{Error, Result};

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
    marks: MarkWriter,
    changes: Changes,
    registry: Registry,
    on_event: Arc<dyn Fn(&Event) + Send + Sync>,
}

impl Compactor {
    /// # Errors
    /// Settings that contradict themselves.
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
        };
        let (metrics, changes) = (Metrics::new(registry)?, Changes::default());
        Ok(Compactor {
            fetcher: MetaFetcher::new(
                bucket.clone(),
                fetcher_settings,
                SyncMetrics::new(registry)?,
            ),
            marks: MarkWriter::new(
                bucket.clone(),
                Arc::clone(&clock),
                metrics.clone(),
                changes.clone(),
            ),
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

    /// Does all that is to do now.
    ///
    /// # Errors
    /// When the bucket could not be listed, some blocks could not be looked at, or some group
    /// failed; all others are done all the same.
    pub async fn run_once(&self) -> Result<()> {
        let before = self.changes.count();
        let mut synced = self.sync().await?;
        self.clean(&synced).await;
        self.apply_retention(&mut synced).await;
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
        compacted.and(downsampled).and(all_were_seen(&synced))?;
        if self.changes.count() == before {
            tracing::info!(blocks = synced.blocks.len(), "nothing to do");
        }
        self.metrics.iterations.inc();
        Ok(())
    }

    /// The work as the settings want it: once, or again and again. Always ready, and without an API
    /// of its own.
    pub fn into_component(self) -> Component {
        let (ready_sender, ready) = watch::channel(true);
        let served = Served {
            routes: Router::new(),
            services: None,
            registry: self.registry.clone(),
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

    /// Goes on until the future is dropped; a failed iteration is logged and tried again.
    async fn repeat(&self, pause: Duration) {
        loop {
            if let Err(e) = self.run_once().await {
                self.metrics.retries.inc();
                tracing::error!(error = %in_one_line(&e), "the iteration is incomplete, the next one goes on");
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
        let synced = self
            .fetcher
            .fetch(&[&time, &selector, &fresh, &Unmarked, &replicas, &Deduplicate])
            .await?;
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
