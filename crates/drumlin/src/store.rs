//! `drumlin store`: flags to settings.

use std::time::Duration;

use anyhow::Result;
use store::{Gateway, Settings, TimeBound};

use crate::bucket::{BucketArgs, BucketUse, SelectorArgs};
use crate::cli::common::{GrpcArgs, HttpArgs, ProcessArgs, RequestLimitArgs, TimeArgs, path};
use crate::cli::kingpin::Foreign;
use crate::cli::values::{ByteSize, TimeOrOffset, duration};
use crate::process::ProcessContext;

/// Flags of `thanos store` that are accepted without effect.
pub(crate) const FOREIGN: &[Foreign] = &[
    Foreign::switch("cache-index-header"),
    Foreign::value("index-cache.config"),
    Foreign::value("index-cache.config-file"),
    Foreign::value("store.caching-bucket.config"),
    Foreign::value("store.caching-bucket.config-file"),
    Foreign::value("chunk-pool-size"),
    Foreign::value("store.grpc.touched-series-limit"),
    Foreign::value("store.grpc.series-sample-limit"),
    Foreign::value("objstore-parquet.config"),
    Foreign::value("objstore-parquet.config-file"),
    Foreign::value("block-discovery-strategy"),
    Foreign::switch("store.enable-index-header-lazy-reader"),
    Foreign::value("store.index-header-lazy-reader-idle-timeout"),
    Foreign::value("store.index-header-posting-offsets-in-mem-sampling"),
    Foreign::switch("store.enable-lazy-expanded-postings"),
    Foreign::value("store.posting-group-max-key-series-ratio"),
    Foreign::value("matcher-cache-size"),
    Foreign::value("debug.series-batch-size"),
    Foreign::value("debug.estimated-max-series-size"),
    Foreign::value("debug.estimated-max-chunk-size"),
    Foreign::switch("debug.advertise-compatibility-label"),
    Foreign::switch("web.disable"),
    Foreign::value("web.external-prefix"),
    Foreign::value("web.prefix-header"),
    Foreign::switch("web.disable-cors"),
    Foreign::value("bucket-web-label"),
    Foreign::switch("disable-admin-operations"),
];

/// Serves the blocks of a bucket to queriers.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    bucket: BucketArgs,
    #[command(flatten)]
    blocks: BlockArgs,
    #[command(flatten)]
    selector: SelectorArgs,
    #[command(flatten)]
    limits: LimitArgs,
    #[command(flatten)]
    http: HttpArgs,
    #[command(flatten)]
    grpc: GrpcArgs,
    #[command(flatten)]
    process: ProcessArgs,
}

#[derive(Debug, clap::Args)]
#[command(
    next_help_heading = "Which blocks",
    mut_arg("min-time", |arg| arg.help("Serve no older data than this: a time, or an offset from \
        now such as -6w")),
    mut_arg("max-time", |arg| arg.help("Serve no newer data than this"))
)]
struct BlockArgs {
    /// Where meta.json files are cached across restarts.
    #[arg(id = "data-dir", long = "data-dir", default_value = "./data", value_name = "FOLDER")]
    data_dir: String,
    /// How often the bucket is listed.
    #[arg(
        id = "sync-block-duration",
        long = "sync-block-duration",
        default_value = "15m",
        value_name = "DURATION",
        value_parser = duration
    )]
    sync_interval: Duration,
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
    #[command(flatten)]
    time: TimeArgs,
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

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Limits")]
struct LimitArgs {
    /// Memory for index headers, postings, series entries and Parquet footers; at most an eighth of
    /// --memory-budget.
    #[arg(
        id = "index-cache-size",
        long = "index-cache-size",
        default_value = "250MB",
        value_name = "SIZE"
    )]
    index_cache_size: ByteSize,
    /// Memory for chunks and Parquet pages that were read lately; at most an eighth of
    /// --memory-budget.
    #[arg(
        id = "bucket-cache-size",
        long = "bucket-cache-size",
        default_value = "1GB",
        value_name = "SIZE"
    )]
    bucket_cache_size: ByteSize,
    /// Maximum number of requests answered at a time; others wait.
    #[arg(
        id = "store.grpc.series-max-concurrency",
        long = "store.grpc.series-max-concurrency",
        default_value_t = 20,
        value_name = "N"
    )]
    series_max_concurrency: usize,
    #[command(flatten)]
    request: RequestLimitArgs,
    /// Maximum bytes a request may fetch from the bucket; 0 for no limit.
    #[arg(
        id = "store.grpc.downloaded-bytes-limit",
        long = "store.grpc.downloaded-bytes-limit",
        default_value = "0",
        value_name = "SIZE"
    )]
    downloaded_bytes: ByteSize,
}

/// When blocks are opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum OpenStrategy {
    Eager,
    Lazy,
}

fn bound(time: TimeOrOffset) -> TimeBound {
    match time {
        TimeOrOffset::At(time) => TimeBound::At(time),
        TimeOrOffset::Offset(ms) => TimeBound::FromNow(ms),
    }
}

impl Args {
    pub(crate) fn process(&self) -> &ProcessArgs {
        &self.process
    }

    fn settings(&self) -> Result<Settings> {
        let (blocks, limits) = (&self.blocks, &self.limits);
        Ok(Settings {
            data_dir: path(&blocks.data_dir),
            sync_interval: blocks.sync_interval,
            meta_concurrency: blocks.meta_concurrency,
            open_concurrency: blocks.open_concurrency,
            open_ahead: blocks.open_strategy == OpenStrategy::Eager,
            min_time: bound(blocks.time.min),
            max_time: bound(blocks.time.max),
            relabel: self.selector.relabel_configs()?,
            consistency_delay: blocks.consistency_delay,
            ignore_deletion_marks_delay: blocks.ignore_deletion_marks_delay,
            index_cache_bytes: limits.index_cache_size.0,
            bucket_cache_bytes: limits.bucket_cache_size.0,
            limits: limits.request.settings(),
            downloaded_bytes_limit: limits.downloaded_bytes.0,
            series_max_concurrency: limits.series_max_concurrency,
            budget: self.process.budget(),
        })
    }
}

pub(crate) async fn run(args: Args, context: ProcessContext) -> Result<()> {
    let settings = args.settings()?;
    let bucket = args.bucket.require(BucketUse::Read, &context)?;
    let gateway = Gateway::new(settings, bucket, &context.registry, context.clock.clone())?;
    let listeners =
        serve::Settings { http: args.http.settings(), grpc: Some(args.grpc.settings()?) };
    context.serve(listeners, gateway.into_component()).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn values_reach_the_settings() {
        let words = "store --data-dir=/var/d --index-cache-size=1GB --min-time=-6w \
            --store.limits.request-series=7 --sync-block-duration=3m";
        let settings =
            Line::try_parse_from(words.split_whitespace()).unwrap().args.settings().unwrap();
        assert_eq!(settings.data_dir, Some("/var/d".into()));
        assert_eq!(settings.index_cache_bytes, 1 << 30);
        assert_eq!(settings.min_time, TimeBound::FromNow(-6 * 7 * 86_400_000));
        assert_eq!((settings.limits.series, settings.limits.samples), (7, 0));
        assert_eq!(settings.sync_interval, Duration::from_secs(180));
    }
}
