//! Flags about reading the blocks of a bucket, wherever the gateway runs: in a process of its own
//! or inside the querier.

use std::time::Duration;

use anyhow::Result;
use block::config::Environment;
use model::Budget;
use store::{Settings, TimeBound};

use crate::cache_config::CacheArgs;
use crate::cli::common::{TimeArgs, path};
use crate::cli::values::{ByteSize, TimeOrOffset, duration};

#[derive(Debug, clap::Args)]
pub(crate) struct GatewayArgs {
    #[command(flatten)]
    blocks: BlockArgs,
    #[command(flatten)]
    reading: ReadArgs,
    #[command(flatten)]
    caches: CacheArgs,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Which blocks")]
struct BlockArgs {
    /// Where meta.json files are cached across restarts.
    #[arg(id = "data-dir", long = "data-dir", default_value = "./data", value_name = "FOLDER")]
    data_dir: String,
    /// How often to look which blocks there are.
    #[arg(
        id = "sync-block-duration",
        long = "sync-block-duration",
        default_value = "15m",
        value_name = "DURATION",
        value_parser = duration
    )]
    sync_interval: Duration,
    /// How often the whole bucket is listed, unless the catalog that drumlin compact writes is
    /// younger than this; syncs in between look for new folders only. Until then, blocks with old
    /// ULIDs that were copied into a folder that was there, and marks that others wrote, may not be
    /// seen. 0s lists the whole bucket at every sync and reads no catalog.
    #[arg(
        id = "sync.full-interval",
        long = "sync.full-interval",
        default_value = "15m",
        value_name = "DURATION",
        value_parser = duration
    )]
    full_interval: Duration,
    /// Write the catalog of the bucket after each listing of it, so that other stores start with a
    /// few requests. For buckets that no drumlin compact works on; needs the right to write.
    #[arg(id = "catalog.write", long = "catalog.write")]
    writes_catalog: bool,
    /// Number of blocks opened at a time.
    #[arg(
        id = "block-sync-concurrency",
        long = "block-sync-concurrency",
        default_value_t = 20,
        value_name = "N"
    )]
    open_concurrency: usize,
    /// When index headers are read: eager, as soon as a block is found, newest first, until the
    /// cache is half full; lazy, when a request needs them.
    #[arg(
        id = "store.index-header-lazy-download-strategy",
        long = "store.index-header-lazy-download-strategy",
        default_value = "eager",
        value_name = "STRATEGY"
    )]
    open_strategy: OpenStrategy,
    /// Number of meta.json files fetched at a time.
    #[arg(
        id = "block-meta-fetch-concurrency",
        long = "block-meta-fetch-concurrency",
        default_value_t = 32,
        value_name = "N"
    )]
    meta_concurrency: usize,
    /// Minimum age of a block before it is served.
    #[arg(
        id = "consistency-delay",
        long = "consistency-delay",
        default_value = "0s",
        value_name = "DURATION",
        value_parser = duration
    )]
    consistency_delay: Duration,
    /// How long blocks that are marked for deletion continue to be served.
    #[arg(
        id = "ignore-deletion-marks-delay",
        long = "ignore-deletion-marks-delay",
        default_value = "24h",
        value_name = "DURATION",
        value_parser = duration
    )]
    ignore_deletion_marks_delay: Duration,
}

/// When blocks are opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum OpenStrategy {
    Eager,
    Lazy,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Limits on reading the bucket")]
struct ReadArgs {
    /// Maximum number of requests that read the bucket at a time; others wait.
    #[arg(
        id = "store.grpc.series-max-concurrency",
        long = "store.grpc.series-max-concurrency",
        default_value_t = 20,
        value_name = "N"
    )]
    series_max_concurrency: usize,
    /// Maximum bytes a request may fetch from the bucket; 0 for no limit.
    #[arg(
        id = "store.grpc.downloaded-bytes-limit",
        long = "store.grpc.downloaded-bytes-limit",
        default_value = "0",
        value_name = "SIZE"
    )]
    downloaded_bytes: ByteSize,
}

/// What the settings of a gateway need besides its flags.
#[derive(Clone, Debug)]
pub(crate) struct GatewayContext<'a> {
    pub(crate) time: &'a TimeArgs,
    pub(crate) budget: Budget,
    pub(crate) environment: &'a Environment,
}

fn bound(time: TimeOrOffset) -> TimeBound {
    match time {
        TimeOrOffset::At(time) => TimeBound::At(time),
        TimeOrOffset::Offset(ms) => TimeBound::FromNow(ms),
    }
}

impl GatewayArgs {
    /// The settings, without rules for selecting blocks and limits on requests.
    pub(crate) fn settings(&self, context: GatewayContext<'_>) -> Result<Settings> {
        let (blocks, reading) = (&self.blocks, &self.reading);
        Ok(Settings {
            data_dir: path(&blocks.data_dir),
            sync_interval: blocks.sync_interval,
            full_interval: blocks.full_interval,
            writes_catalog: blocks.writes_catalog,
            meta_concurrency: blocks.meta_concurrency,
            open_concurrency: blocks.open_concurrency,
            open_ahead: blocks.open_strategy == OpenStrategy::Eager,
            min_time: bound(context.time.min),
            max_time: bound(context.time.max),
            consistency_delay: blocks.consistency_delay,
            ignore_deletion_marks_delay: blocks.ignore_deletion_marks_delay,
            index_cache_bytes: self.caches.index_bytes(context.environment)?,
            bucket_cache_bytes: self.caches.bucket_bytes(context.environment)?,
            downloaded_bytes_limit: reading.downloaded_bytes.0,
            series_max_concurrency: reading.series_max_concurrency,
            budget: context.budget,
            ..Settings::default()
        })
    }
}
