//! Ships finished blocks of the TSDB folder to the bucket, each once, oldest first.
//!
//! A block is hard-linked into `<tsdb>/thanos/upload/<ULID>` first, so that Prometheus may delete
//! it while it is uploaded; then chunks, index and `meta.json` go up in this order. What was
//! shipped is recorded in `thanos.shipper.json`, which saves asking the bucket and shows a
//! Prometheus that waits for it what it may compact. Killed at any instant, the next run finds
//! either a block without `meta.json` in the bucket, which it uploads again, or a complete one,
//! which it only records.

mod ledger;
mod local;
mod overlap;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use futures::future::{Either, select};
use model::error::in_one_line;
use model::{BlockId, Labels};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tsdb::meta::{BlockMeta, SOURCE_SIDECAR};

use crate::layout::BlockLocation;
use crate::metrics::ShipperMetrics;
use crate::{Bucket, Error, Kind, Result, upload};

use ledger::Ledger;
use local::Local;
use overlap::OverlapCheck;

/// Which blocks are shipped and how; the defaults are those of Thanos' sidecar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShipperSettings {
    /// The folder in which a TSDB keeps its blocks.
    pub tsdb_path: PathBuf,
    /// The `source` in the `meta.json` of shipped blocks.
    pub source: &'static str,
    /// Also ship blocks that the TSDB compacted.
    pub upload_compacted: bool,
    /// One failing block does not hold up newer ones.
    pub allow_out_of_order_uploads: bool,
    /// Blocks without readable `meta.json` do not hold up others.
    pub skip_corrupted_blocks: bool,
    /// Chunk files uploaded at a time; 0 = one.
    pub upload_concurrency: usize,
    /// The file in the folder that names the blocks shipped.
    pub meta_file_name: String,
}

impl Default for ShipperSettings {
    fn default() -> ShipperSettings {
        ShipperSettings {
            tsdb_path: PathBuf::from("./data"),
            source: SOURCE_SIDECAR,
            upload_compacted: false,
            allow_out_of_order_uploads: false,
            skip_corrupted_blocks: false,
            upload_concurrency: 0,
            meta_file_name: "thanos.shipper.json".to_owned(),
        }
    }
}

impl ShipperSettings {
    /// The file that records which blocks were shipped.
    pub fn meta_file(&self) -> PathBuf {
        self.tsdb_path.join(&self.meta_file_name)
    }
}

/// Ships the blocks of one TSDB folder. Runs one sync at a time.
#[derive(Clone, Debug)]
pub struct Shipper {
    settings: Arc<ShipperSettings>,
    bucket: Bucket,
    metrics: ShipperMetrics,
}

impl Shipper {
    pub fn new(settings: ShipperSettings, bucket: Bucket, metrics: ShipperMetrics) -> Shipper {
        Shipper { settings: Arc::new(settings), bucket, metrics }
    }

    /// Tests what the bucket can do, and warns about what it lacks. To be called once before the
    /// first sync.
    pub async fn probe_bucket(&self) {
        self.bucket.probe_create_only().await;
    }

    /// Uploads every block that is not in the bucket yet and returns how many those were.
    ///
    /// # Errors
    /// The first failure, unless out-of-order uploads are allowed: then all blocks are tried and
    /// the error counts the failed ones.
    pub async fn sync(&self, external: &Labels) -> Result<u64> {
        let result = self.sync_blocks(external).await;
        match &result {
            Ok(_) => {
                self.metrics.dir_syncs.inc();
                if self.settings.upload_compacted {
                    self.metrics.upload_compacted_done.set(1.0);
                }
            }
            Err(_) => self.metrics.dir_sync_failures.inc(),
        }
        result
    }

    async fn sync_blocks(&self, external: &Labels) -> Result<u64> {
        if external.is_empty() {
            return Err(Error::new(
                Kind::Unavailable,
                "shipping blocks: the external labels are not known yet",
            ));
        }
        let settings = &self.settings;
        let path = settings.meta_file();
        let (local, shipped) = {
            let (settings, path) = (Arc::clone(settings), path.clone());
            run_blocking(move || Ok((Local::scan(&settings)?, ledger::read(&path)))).await?
        };
        self.metrics.corrupted_blocks.inc_by(local.corrupted as f64);
        let mut ledger = Ledger::new(path, shipped, &local.blocks);
        let mut overlaps = OverlapCheck::new(self.bucket.clone(), external.clone());
        let (mut uploaded, mut failed) = (0, 0);
        for meta in &local.blocks {
            match self.ship(meta, external, &mut ledger, &mut overlaps).await {
                Ok(true) => uploaded += 1,
                Ok(false) => {}
                Err(error) if settings.allow_out_of_order_uploads => {
                    tracing::error!(block = %meta.ulid, error = %in_one_line(&error), "ship block");
                    failed += 1;
                }
                Err(error) => {
                    ledger.save().await?;
                    return Err(error.context(format_args!("shipping block {}", meta.ulid)));
                }
            }
        }
        ledger.save().await?;
        if failed > 0 {
            return Err(Error::new(
                Kind::Unavailable,
                format!("shipping blocks: {failed} blocks failed"),
            ));
        }
        Ok(uploaded)
    }

    /// Ships a block; returns whether it was uploaded just now.
    async fn ship(
        &self,
        meta: &BlockMeta,
        external: &Labels,
        ledger: &mut Ledger,
        overlaps: &mut OverlapCheck,
    ) -> Result<bool> {
        let compacted = meta.compaction.level > 1;
        if ledger.holds(meta.ulid)
            || meta.stats.num_samples == 0
            || (compacted && !self.settings.upload_compacted)
        {
            return Ok(false);
        }
        if self.bucket.exists(&BlockLocation::tsdb(meta.ulid).meta()).await? {
            ledger.add(meta.ulid);
            return Ok(false);
        }
        if compacted && !self.settings.allow_out_of_order_uploads {
            overlaps.check(meta).await?;
        }
        tracing::info!(block = %meta.ulid, "ship block");
        if let Err(error) = self.upload(meta, external).await {
            self.metrics.upload_failures.inc();
            return Err(error);
        }
        self.metrics.uploads.inc();
        ledger.add(meta.ulid);
        ledger.save().await?;
        Ok(true)
    }

    async fn upload(&self, meta: &BlockMeta, external: &Labels) -> Result<()> {
        let tsdb_path = self.settings.tsdb_path.clone();
        let meta = with_thanos_section(meta, external, self.settings.source);
        let (dir, meta) = run_blocking(move || local::link_for_upload(&tsdb_path, meta)).await?;
        let (bucket, concurrency, from) =
            (self.bucket.clone(), self.settings.upload_concurrency, dir.clone());
        let sent = run_pinned(move || async move {
            upload::upload_block_dir(&bucket, &from, &meta, concurrency).await
        })
        .await;
        let cleaned = run_blocking(move || local::remove_dir(&dir)).await;
        sent?;
        cleaned
    }
}

/// The meta as shipped; segment files are known once the block is linked.
fn with_thanos_section(meta: &BlockMeta, external: &Labels, source: &str) -> BlockMeta {
    let mut meta = meta.clone();
    let mut thanos = meta.thanos.take().unwrap_or_default();
    thanos.labels = external.to_text();
    thanos.source = source.to_owned();
    thanos.index_stats = Some(thanos.index_stats.unwrap_or_default());
    BlockMeta { thanos: Some(thanos), ..meta }
}

/// Runs file work off the threads that serve.
async fn run_blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|e| Err(Error::caused(Kind::Internal, "file work of the shipper", e)))
}

/// Drives a future that cannot move between threads, such as an upload of several files at a time,
/// on one thread of its own. Dropping the returned future ends it.
async fn run_pinned<T, Work, Made>(make: Made) -> Result<T>
where
    T: Send + 'static,
    Work: Future<Output = Result<T>>,
    Made: FnOnce() -> Work + Send + 'static,
{
    let (alive, dropped) = oneshot::channel::<()>();
    let runtime = Handle::current();
    let done = run_blocking(move || {
        runtime.block_on(async {
            match select(std::pin::pin!(make()), dropped).await {
                Either::Left((result, _)) => result,
                Either::Right(_) => Err(Error::new(Kind::Unavailable, "the shipper was stopped")),
            }
        })
    })
    .await;
    drop(alive);
    done
}

type BlockIds = BTreeSet<BlockId>;

#[cfg(test)]
mod tests;
