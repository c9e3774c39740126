//! `drumlin compact`: flags to settings.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Result, bail};
use compact::{
    Compactor, Dedup, DownsampleFormat, FormatVersion, PARQUET_VERSION, Release, Retention,
    Settings,
};
use model::{TimeRange, TimestampMs};

use crate::bucket::{BlocksApiArgs, BucketArgs, BucketUse, SelectorArgs};
use crate::cli::common::{HttpArgs, ProcessArgs, TimeArgs, path};
use crate::cli::kingpin::Foreign;
use crate::cli::values::{ByteSize, duration, split_commas};
use crate::process::{ProcessContext, ProcessEnd};

/// Flags of `thanos compact` that are accepted without effect.
pub(crate) const FOREIGN: &[Foreign] = &[
    Foreign::value("block-discovery-strategy"),
    Foreign::value("block-files-concurrency"),
    Foreign::value("compact.blocks-fetch-concurrency"),
    Foreign::value("compact.cleanup-interval"),
    Foreign::value("compact.progress-interval"),
    Foreign::value("block-viewer.global.sync-block-interval"),
    Foreign::value("block-viewer.global.sync-block-timeout"),
    // overlapping blocks are always merged
    Foreign::switch("compact.enable-vertical-compaction"),
    Foreign::switch("compact.skip-block-with-out-of-order-chunks"),
    Foreign::value("debug.max-compaction-level").refused(),
    Foreign::switch("debug.halt-on-error"),
    Foreign::switch("debug.accept-malformed-index"),
    Foreign::switch("web.disable"),
    Foreign::value("web.route-prefix"),
    Foreign::value("web.external-prefix"),
    Foreign::value("web.prefix-header"),
    Foreign::switch("web.disable-cors"),
];

/// Merges, downsamples and cleans up the blocks of a bucket, once or continuously.
#[derive(Debug, clap::Args)]
#[command(
    mut_arg("min-time", |arg| arg.help("Ignore older blocks: a time, or an offset from now such as \
        -6w")),
    mut_arg("max-time", |arg| arg.help("Ignore newer blocks"))
)]
pub(crate) struct Args {
    #[command(flatten)]
    bucket: BucketArgs,
    #[command(flatten)]
    work: WorkArgs,
    #[command(flatten)]
    keeping: KeepingArgs,
    #[command(flatten, next_help_heading = "Which blocks")]
    time: TimeArgs,
    #[command(flatten)]
    selector: SelectorArgs,
    #[command(flatten)]
    blocks_api: BlocksApiArgs,
    #[command(flatten)]
    http: HttpArgs,
    #[command(flatten)]
    process: ProcessArgs,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Work")]
struct WorkArgs {
    /// Keep running and look for work repeatedly; otherwise do all the work there is and exit.
    #[arg(id = "wait", long = "wait", short = 'w')]
    wait: bool,
    /// How long to wait before looking for work again.
    #[arg(
        id = "wait-interval",
        long = "wait-interval",
        default_value = "5m",
        value_name = "DURATION",
        value_parser = duration
    )]
    wait_interval: Duration,
    /// Where small files are cached; blocks are never stored on disk.
    #[arg(id = "data-dir", long = "data-dir", default_value = "./data", value_name = "FOLDER")]
    data_dir: String,
    /// Do not downsample.
    #[arg(id = "downsampling.disable", long = "downsampling.disable")]
    downsampling_disable: bool,
    /// How downsampled blocks are stored: parquet, thanos (which stores of Thanos read), both, or
    /// auto: both while the bucket shows a sign of Thanos (a downsampled block in its format, a
    /// block that it uploaded in the last 30 days), and parquet in any other bucket. Giving parquet
    /// once ends that: the bucket remembers it until thanos or both is given. What is there is
    /// never written again.
    #[arg(
        id = "downsample.format",
        long = "downsample.format",
        default_value = "auto",
        value_name = "FORMAT"
    )]
    downsample_format: String,
    /// The version of the Parquet format that is written. An older one is for a rollback: stores of
    /// the previous release read it. What is there in any version that this release reads is not
    /// written again.
    #[arg(
        id = "downsample.parquet-version",
        long = "downsample.parquet-version",
        default_value_t = ParquetVersion(PARQUET_VERSION),
        value_name = "N"
    )]
    parquet_version: ParquetVersion,
    /// Number of groups of blocks compacted at a time.
    #[arg(
        id = "compact.concurrency",
        long = "compact.concurrency",
        default_value_t = 1,
        value_name = "N"
    )]
    compact_concurrency: usize,
    /// Number of blocks downsampled at a time.
    #[arg(
        id = "downsample.concurrency",
        long = "downsample.concurrency",
        default_value_t = 1,
        value_name = "N"
    )]
    downsample_concurrency: usize,
    /// Number of meta.json files fetched at a time.
    #[arg(
        id = "block-meta-fetch-concurrency",
        long = "block-meta-fetch-concurrency",
        default_value_t = 32,
        value_name = "N"
    )]
    meta_fetch_concurrency: usize,
    #[arg(
        id = "compact.block-max-index-size",
        long = "compact.block-max-index-size",
        default_value = "64GB",
        value_name = "SIZE",
        hide = true
    )]
    max_index_size: ByteSize,
    /// How replicas in overlapping blocks are merged: penalty uses one and switches at gaps; empty
    /// keeps all samples.
    #[arg(
        id = "deduplication.func",
        long = "deduplication.func",
        default_value = "",
        value_name = "FUNCTION",
        hide_default_value = true
    )]
    dedup: String,
    /// An external label in which replicas differ; it is removed from merged blocks. Repeatable, or
    /// separated by commas.
    #[arg(
        id = "deduplication.replica-label",
        long = "deduplication.replica-label",
        value_name = "LABEL"
    )]
    replica_label: Vec<String>,
    /// Merge overlapping blocks with equal external labels even if their samples contradict each
    /// other, as those of two servers with the same labels do. They can never be separated again;
    /// without this flag they are left unmerged.
    #[arg(id = "compact.merge-conflicting", long = "compact.merge-conflicting")]
    merge_conflicting: bool,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "How long data stays")]
struct KeepingArgs {
    /// How long to keep raw data; 0d keeps it forever.
    #[arg(
        id = "retention.resolution-raw",
        long = "retention.resolution-raw",
        default_value = "0d",
        value_name = "DURATION",
        value_parser = duration
    )]
    retention_raw: Duration,
    /// How long to keep data with 5-minute windows.
    #[arg(
        id = "retention.resolution-5m",
        long = "retention.resolution-5m",
        default_value = "0d",
        value_name = "DURATION",
        value_parser = duration
    )]
    retention_5m: Duration,
    /// How long to keep data with 1-hour windows.
    #[arg(
        id = "retention.resolution-1h",
        long = "retention.resolution-1h",
        default_value = "0d",
        value_name = "DURATION",
        value_parser = duration
    )]
    retention_1h: Duration,
    /// How long to keep a block after marking it for deletion, so that processes still reading it
    /// can finish.
    #[arg(
        id = "delete-delay",
        long = "delete-delay",
        default_value = "48h",
        value_name = "DURATION",
        value_parser = duration
    )]
    delete_delay: Duration,
    /// Minimum age of a block before it is used, so that its upload is certain to be complete.
    #[arg(
        id = "consistency-delay",
        long = "consistency-delay",
        default_value = "30m",
        value_name = "DURATION",
        value_parser = duration
    )]
    consistency_delay: Duration,
    /// Let raw data and older Parquet go for copies in a version of Parquet that stores of the
    /// previous release do not read. Set it once all stores are upgraded and stay so; until then
    /// such data is kept, and a log line says so.
    #[arg(id = "allow-retire", long = "allow-retire")]
    allow_retire: bool,
}

/// A version of Parquet by its number.
#[derive(Clone, Copy, Debug)]
struct ParquetVersion(FormatVersion);

impl fmt::Display for ParquetVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str().trim_start_matches("parquet/"))
    }
}

impl FromStr for ParquetVersion {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<ParquetVersion, &'static str> {
        let version = FormatVersion::parse(&format!("parquet/{text}"));
        version.map(ParquetVersion).ok_or("expected 1 or 2")
    }
}

impl Args {
    pub(crate) fn process(&self) -> &ProcessArgs {
        &self.process
    }

    fn settings(&self, now: TimestampMs) -> Result<Settings> {
        let WorkArgs { dedup, downsample_format, .. } = &self.work;
        let keeping = &self.keeping;
        Ok(Settings {
            data_dir: path(&self.work.data_dir),
            range: TimeRange::from_closed(self.time.min.at(now), self.time.max.at(now)),
            selector: self.selector.relabel_configs()?,
            replica_labels: split_commas(&self.work.replica_label),
            dedup: match dedup.as_str() {
                "" => Dedup::Chain,
                "penalty" => Dedup::Penalty,
                other => bail!("--deduplication.func={other}: expected penalty or nothing"),
            },
            merge_conflicting: self.work.merge_conflicting,
            consistency_delay: keeping.consistency_delay,
            delete_delay: keeping.delete_delay,
            retention: Retention {
                raw: keeping.retention_raw,
                five_minutes: keeping.retention_5m,
                one_hour: keeping.retention_1h,
            },
            downsampling: !self.work.downsampling_disable,
            downsample_format: match downsample_format.as_str() {
                "auto" => DownsampleFormat::Auto,
                "parquet" => DownsampleFormat::Parquet,
                "thanos" => DownsampleFormat::Thanos,
                "both" => DownsampleFormat::Both,
                other => {
                    bail!("--downsample.format={other}: expected auto, parquet, thanos or both")
                }
            },
            parquet_version: self.work.parquet_version.0,
            allow_retire: keeping.allow_retire,
            compact_concurrency: self.work.compact_concurrency,
            downsample_concurrency: self.work.downsample_concurrency,
            downsample_workers: std::thread::available_parallelism().map_or(1, usize::from),
            meta_fetch_concurrency: self.work.meta_fetch_concurrency,
            max_index_size: self.work.max_index_size.0,
            wait: self.work.wait.then_some(self.work.wait_interval),
            release: Release::default(),
            blocks_api: self.blocks_api.settings(),
        })
    }
}

pub(crate) async fn run(args: Args, context: ProcessContext) -> Result<()> {
    let settings = args.settings(context.clock.now())?;
    let bucket = args.bucket.require(BucketUse::Write, &context)?;
    let compactor = Compactor::new(bucket, settings, context.clock.clone(), &context.registry)?;
    let listeners = serve::Settings { http: args.http.settings(), grpc: None };
    match context.serve(listeners, compactor.into_component()).await? {
        ProcessEnd::Stopped if !args.work.wait => {
            bail!("stopped before all was done; the next run continues where this one stopped")
        }
        _ => Ok(()),
    }
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

    fn settings(words: &str) -> Result<Settings> {
        let line =
            Line::try_parse_from(std::iter::once("compact").chain(words.split_whitespace()))?;
        line.args.settings(TimestampMs(1_000_000_000_000))
    }

    #[test]
    fn defaults_are_those_of_thanos() {
        let settings = settings("").unwrap();
        assert_eq!(settings.consistency_delay, Duration::from_secs(1800));
        assert_eq!(settings.delete_delay, Duration::from_secs(48 * 3600));
        assert_eq!((settings.dedup, settings.downsampling), (Dedup::Chain, true));
        assert_eq!(settings.retention, Retention::default());
        assert_eq!(settings.downsample_format, DownsampleFormat::Auto);
        assert_eq!(settings.max_index_size, 64 << 30);
        assert!(settings.range.contains(0));
        assert_eq!((settings.parquet_version, settings.allow_retire), (PARQUET_VERSION, false));
    }

    #[test]
    fn values_reach_the_settings() {
        let given = settings(
            "--retention.resolution-raw=30d --downsample.format=both --deduplication.func=penalty \
             --deduplication.replica-label=a,b --min-time=-1h --downsampling.disable",
        )
        .unwrap();
        assert_eq!(given.retention.raw, Duration::from_secs(30 * 86400));
        assert_eq!(given.downsample_format, DownsampleFormat::Both);
        assert_eq!((given.dedup, given.replica_labels.len()), (Dedup::Penalty, 2));
        assert_eq!(given.range.start, 1_000_000_000_000 - 3_600_000);
        assert!(!given.downsampling);
        assert!(settings("--downsample.format=csv").is_err());
        let newer = settings("--downsample.parquet-version=2 --allow-retire").unwrap();
        assert_eq!((newer.parquet_version, newer.allow_retire), (FormatVersion::V2, true));
        for unknown in ["0", "3", "parquet/1", ""] {
            assert!(settings(&format!("--downsample.parquet-version={unknown}")).is_err());
        }
    }
}
