//! The parts of a gateway, put together, and the loop that keeps looking which blocks there are.

use std::collections::HashSet;
use std::fmt;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use block::catalog::CatalogWriter;
use block::sync::{
    ConsistencyDelay, FetcherSettings, Filter, HideCovered, IgnoreDeletionMark, MetaFetcher,
    RelabelFilter, Synced, TimePartition, UnreadMarks,
};
use block::{
    Bucket, HeaderCache, Path, RangeCache, RangeCacheBytes, RangeCacheMetrics, SyncMetrics,
    TombstoneCache,
};
use blocks_api::BlocksApi;
use futures::FutureExt;
use futures::future::{BoxFuture, Either, select};
use model::Clock;
use model::error::in_one_line;
use parquet_block::FooterCache;
use prometheus::Registry;
use serve::{Component, Gate, Served, Task};
use storeapi::info::Capabilities;
use storeapi::server::ServerMetrics;
use storeapi::{Limited, SeriesLimits, Store};
use tokio::sync::{Semaphore, watch};

use crate::doubts::Doubts;
use crate::metrics::Metrics;
use crate::open_ahead::open_ahead;
use crate::served::ServedBlocks;
use crate::shared::GatewayShared;
use crate::store::{BucketStore, Current};
use crate::{Error, Kind, Result, Settings};

/// Where metas are kept in the data folder, as Thanos names it.
const META_FOLDER: &str = "meta-syncer";

/// The first pause before another attempt, when the first sync failed or one left out blocks it
/// could not look at.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(30);

/// Each of the two caches takes at most one part in this many of the memory budget.
const CACHE_SHARE: u64 = 8;

/// A store gateway before it runs.
pub struct Gateway {
    shared: Arc<GatewayShared>,
    current: Arc<Current>,
    store: Arc<dyn Store>,
    fetcher: MetaFetcher,
    catalog: Option<CatalogWriter>,
    settings: Settings,
    registry: Registry,
    blocks_api: BlocksApi,
    ready: watch::Sender<bool>,
    /// Folders whose `meta.json` was not usable at the last sync.
    broken: Mutex<HashSet<Path>>,
}

/// A gateway without a server of its own.
pub struct GatewayParts {
    /// `Unavailable` until it is ready.
    pub store: Arc<dyn Store>,
    /// True once the first sync is done.
    pub ready: watch::Receiver<bool>,
    /// Keeps looking which blocks there are; never ends by itself.
    pub run: BoxFuture<'static, ()>,
    /// The API of blocks, to be put beside other routes.
    pub routes: Router,
}

impl fmt::Debug for GatewayParts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GatewayParts").finish_non_exhaustive()
    }
}

impl fmt::Debug for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gateway").field("bucket", &self.shared.bucket).finish_non_exhaustive()
    }
}

impl Gateway {
    /// Reads nothing yet.
    ///
    /// # Errors
    /// `Invalid` for settings that contradict each other or do not fit into the memory budget.
    pub fn new(
        settings: Settings,
        bucket: Bucket,
        registry: &Registry,
        clock: Arc<dyn Clock>,
    ) -> Result<Gateway> {
        settings.validate(clock.now())?;
        let metrics = Metrics::register(registry)?;
        let most_for_cache = settings.budget.limit() / CACHE_SHARE;
        let cache_bytes = settings.index_cache_bytes.min(most_for_cache);
        let set_aside = settings.budget.set_aside("the index cache", cache_bytes);
        set_aside.map_err(|e| Error::passed(Kind::Invalid, e))?;
        let data_bytes = settings.bucket_cache_bytes.min(most_for_cache);
        let set_aside = settings.budget.set_aside("the cache of the bucket", data_bytes);
        set_aside.map_err(|e| Error::passed(Kind::Invalid, e))?;
        let (footer_bytes, tombstone_bytes) = (cache_bytes / 4, cache_bytes / 16);
        let range_bytes = RangeCacheBytes { index: cache_bytes / 4, data: data_bytes };
        let ranges = RangeCache::new(range_bytes, RangeCacheMetrics::new(registry)?);
        let header_bytes = cache_bytes - footer_bytes - tombstone_bytes - range_bytes.index;
        let shared = Arc::new(GatewayShared {
            bucket: bucket.clone().caching(ranges.clone()),
            ranges,
            headers: HeaderCache::new(header_bytes),
            footers: FooterCache::new(footer_bytes),
            tombstones: TombstoneCache::new(tombstone_bytes),
            doubts: Doubts::default(),
            loaded: Mutex::default(),
            opening: Semaphore::new(settings.open_concurrency.max(1)),
            budget: settings.budget.clone(),
            metrics: metrics.clone(),
            downloaded_bytes_limit: settings.downloaded_bytes_limit,
            clock: Arc::clone(&clock),
        });
        let current = Arc::new(Current::default());
        let gate = Gate::new(settings.series_max_concurrency, metrics.gate.clone(), clock);
        let mut store: Arc<dyn Store> = Arc::new(BucketStore {
            shared: Arc::clone(&shared),
            current: Arc::clone(&current),
            gate,
        });
        if settings.limits != SeriesLimits::default() {
            store = Arc::new(Limited::new(store, settings.limits));
        }
        let fetcher_settings = FetcherSettings {
            concurrency: settings.meta_concurrency,
            cache_dir: settings.data_dir.as_ref().map(|dir| dir.join(META_FOLDER)),
            formats: Some(parquet_block::FORMATS),
            catalog: settings.catalog_reading(),
        };
        let blocks_api = BlocksApi::new(bucket.clone(), settings.blocks_api.clone());
        let sync_metrics = SyncMetrics::new(registry)?;
        let catalog = settings
            .writes_catalog
            .then(|| CatalogWriter::new(bucket.clone(), sync_metrics.catalog()));
        let fetcher = MetaFetcher::new(bucket, fetcher_settings, sync_metrics);
        Ok(Gateway {
            shared,
            current,
            store,
            fetcher,
            catalog,
            settings,
            registry: registry.clone(),
            blocks_api,
            ready: watch::Sender::new(false),
            broken: Mutex::default(),
        })
    }

    /// All served blocks as one store; `Unavailable` until the first sync is done.
    pub fn store(&self) -> Arc<dyn Store> {
        Arc::clone(&self.store)
    }

    /// For a process that asks the store itself: what would be served, and the work behind it.
    pub fn into_parts(self) -> GatewayParts {
        let (store, ready, routes) = (self.store(), self.ready(), self.blocks_api.routes());
        GatewayParts { store, ready, routes, run: self.run().boxed() }
    }

    /// StoreAPI over the blocks, and the API of blocks. It is ready once the first sync is done.
    ///
    /// # Errors
    /// `Internal` when another server's metrics are registered already.
    pub fn into_component(self) -> Result<Component> {
        let served = Served {
            name: "store",
            routes: self.blocks_api.router(),
            services: Some(storeapi::server::services(
                self.store(),
                Capabilities::STORE,
                ServerMetrics::new(&self.registry)?,
            )),
            registry: self.registry.clone(),
            budget: self.settings.budget.clone(),
            ready: self.ready(),
        };
        Ok(Component { served, run: self.run().map(Ok).boxed() })
    }

    /// True once the first sync is done.
    pub(crate) fn ready(&self) -> watch::Receiver<bool> {
        self.ready.subscribe()
    }

    /// Looks once which blocks there are, and serves those.
    ///
    /// # Errors
    /// The bucket could not be listed; what was served is still served.
    pub async fn sync(&self) -> Result<()> {
        let settings = &self.settings;
        let now = self.shared.clock.now();
        let (time, relabel) = (
            TimePartition { range: settings.range(now) },
            RelabelFilter { configs: settings.relabel.clone(), without: Vec::new() },
        );
        let consistency = ConsistencyDelay { delay: settings.consistency_delay };
        let deletion = IgnoreDeletionMark { delay: settings.ignore_deletion_marks_delay };
        // Thanos' order: what is about to be deleted must not hide what it was made from.
        let watch = self.blocks_api.watch();
        let filters: [&dyn Filter; 7] =
            [&watch, &UnreadMarks, &time, &relabel, &consistency, &deletion, &HideCovered];
        self.shared.doubts.take().iter().for_each(|block| self.fetcher.doubt(block));
        let synced = self.fetcher.fetch(&filters).await?;
        self.count_broken(&synced);
        self.blocks_api.set_loaded(synced.blocks.clone());
        let found = ServedBlocks::new(&synced.blocks, settings.range(now))
            .with_unseen(&synced.unseen)
            .with_foreign(&synced.foreign);
        let served = found.blocks().count();
        let metrics = &self.shared.metrics;
        metrics.loaded.set(served as f64);
        metrics.last_loaded.set(now.0 as f64 / 1000.0);
        let old = self.current.replace(found);
        let new = self.current.get();
        let (old, new) = (old.as_deref(), new.as_deref());
        let (before, after) = (
            old.map(ServedBlocks::folders).unwrap_or_default(),
            new.map(ServedBlocks::folders).unwrap_or_default(),
        );
        metrics.loads.inc_by(after.difference(&before).count() as f64);
        metrics.drops.inc_by(before.difference(&after).count() as f64);
        for block in
            old.iter().flat_map(|c| c.blocks()).filter(|b| !after.contains(b.location.dir()))
        {
            self.shared.forget(&block.location).await;
        }
        let (broken, unseen) = (synced.broken.len(), synced.unseen.len());
        tracing::info!(blocks = served, broken, unseen, "synced the blocks of the bucket");
        self.ready.send_replace(true);
        self.write_catalog().await;
        Ok(())
    }

    /// Opens the blocks that were found, before requests need them, if the settings say so.
    pub(crate) fn opening_ahead(&self) -> Option<impl Future<Output = ()> + Send + 'static> {
        let served = self.current.get().filter(|_| self.settings.open_ahead)?;
        Some(open_ahead(Arc::clone(&self.shared), served))
    }

    /// Writes what was found as the catalog of the bucket, if that is asked for.
    async fn write_catalog(&self) {
        let Some(writer) = &self.catalog else { return };
        let listed_ms = self.fetcher.listed_ms().await;
        if listed_ms.is_some_and(|listed_ms| writer.is_due(listed_ms))
            && let Some(catalog) = self.fetcher.catalog("store").await
        {
            writer.write(catalog).await;
        }
    }

    /// Keeps looking which blocks there are; never ends by itself.
    pub(crate) async fn run(self) {
        let interval = self.settings.sync_interval;
        let mut retry = FIRST_RETRY;
        // ends with the loop, and before the next one begins
        let mut _opening = None;
        loop {
            let synced = self.sync().await;
            _opening = self.opening_ahead().map(Task::spawn);
            let soon = match &synced {
                Ok(()) => self.current.get().is_some_and(|served| served.has_unseen()),
                Err(e) => {
                    self.blocks_api.failed(&in_one_line(e).to_string());
                    tracing::warn!(error = %in_one_line(e), "syncing the blocks of the bucket \
                        failed");
                    !*self.ready.borrow()
                }
            };
            let pause = if soon { retry.min(interval) } else { interval };
            retry = match (&synced, soon) {
                (Ok(()), false) => FIRST_RETRY,
                _ => (retry * 2).min(LAST_RETRY),
            };
            self.rest(pause).await;
        }
    }

    /// Waits for the next sync, which comes soon where a request missed a file of a block.
    async fn rest(&self, pause: Duration) {
        let clock = &self.shared.clock;
        match select(clock.sleep(pause), pin!(self.shared.doubts.added())).await {
            Either::Left(_) => self.shared.doubts.forget(),
            // others may miss files too
            Either::Right(_) => clock.sleep(FIRST_RETRY.min(pause)).await,
        }
    }

    /// Counts newly broken blocks; one that stays broken counts once.
    fn count_broken(&self, synced: &Synced) {
        let broken = synced.broken.iter().map(|b| &b.location);
        let unseen = synced.unseen.iter().map(|b| &b.location);
        let found: HashSet<Path> =
            broken.chain(unseen).map(|location| location.dir().clone()).collect();
        let mut known = self.broken.lock().unwrap_or_else(PoisonError::into_inner);
        self.shared.metrics.load_failures.inc_by(found.difference(&known).count() as f64);
        *known = found;
    }
}
