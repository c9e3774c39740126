//! The whole fleet in one process: synthetic clusters in a bucket on the disk, compacted and
//! downsampled, served by a store gateway and a querier over real sockets on loopback.
//!
//! It wires components as `drumlin` does for single processes and adds nothing to them. The only
//! thing it knows itself is what the generator wrote, which `--check` compares with what the bucket
//! and the querier say. Times are milliseconds, sizes bytes.

#![allow(clippy::print_stdout, reason = "the demo is what it prints")]

mod amount;
mod api;
mod checks;
mod folder;
mod generate;
mod inventory;
mod processes;
mod progress;
mod questions;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use block::config::ObjectStoreConfig;
use block::{Bucket, BucketMetrics};
use model::{Budget, Clock, Resolution, TimeRange};
use prometheus::Registry;
use serve::{BuildInfo, Shutdown};
use synthetic::{BLOCK_MS, Fleet};

use api::ApiClient;
use checks::Check;
use folder::Folder;
use generate::{BlockWriter, GenerateWork};
use inventory::Inventory;
use processes::Processes;

const DAY_MS: i64 = 24 * 3_600_000;

/// Groups and blocks that are worked on at a time. Each takes some 150 MB, and whoever tries a demo
/// may have little memory and many cores.
const AT_A_TIME: usize = 2;

/// Fewer days hold no block that is long enough to be downsampled.
const LEAST_DAYS_TO_CHECK: u32 = 6;

/// The settings of the demo.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where the bucket is kept; `None` for a temporary folder that is removed with the process. A
    /// folder that holds an earlier demo of the same seed and length is served again as it is.
    pub data_dir: Option<PathBuf>,
    /// How far the data reaches back.
    pub days: u32,
    pub seed: u64,
    /// Compare everything with the generator, then end instead of serving.
    pub check: bool,
    /// A Prometheus server of the user, to which a sidecar is added.
    pub prometheus_url: Option<String>,
    /// Where the querier listens for HTTP, such as `127.0.0.1:10902`; port 0 for any.
    pub http_address: String,
    /// Threads that generate, compact and evaluate.
    pub threads: usize,
    pub budgets: Budgets,
    pub build: BuildInfo,
}

/// The memory of queries and caches. A query of the querier waits for what it asked of stores, so
/// they must not wait for the same memory.
#[derive(Clone, Debug)]
pub struct Budgets {
    pub stores: Budget,
    pub querier: Budget,
}

impl Budgets {
    pub fn unlimited() -> Budgets {
        Budgets { stores: Budget::unlimited(), querier: Budget::unlimited() }
    }
}

/// Runs the demo to its end: the last check, or the shutdown.
///
/// # Errors
/// When a part fails, and when a check does.
pub async fn run(
    settings: Settings,
    clock: Arc<dyn Clock>,
    shutdown: Shutdown,
) -> anyhow::Result<()> {
    tokio::select! {
        ended = demo(&settings, &clock, &shutdown) => ended,
        () = shutdown.stopped() => Ok(()),
    }
}

async fn demo(
    settings: &Settings,
    clock: &Arc<dyn Clock>,
    shutdown: &Shutdown,
) -> anyhow::Result<()> {
    anyhow::ensure!(settings.days >= 1, "--days must be at least 1");
    anyhow::ensure!(
        !settings.check || settings.days >= LEAST_DAYS_TO_CHECK,
        "--check needs --days={LEAST_DAYS_TO_CHECK} or more: fewer hold no block that is \
         downsampled"
    );
    let started = clock.monotonic();
    // a taken port is noticed before the work, not after it
    let reserved = std::net::TcpListener::bind(&settings.http_address)
        .with_context(|| format!("--http-address={}: listen there", settings.http_address))?;
    let folder = Folder::open(settings.data_dir.clone())?;
    let (fleet, is_new) = fleet(settings, clock, &folder)?;
    let bucket = open_bucket(&folder, clock)?;
    let mut checks = Vec::new();
    if is_new {
        generate(settings, clock, &fleet, &folder).await?;
        if settings.check {
            let samples = Inventory::take(&bucket).await?.raw_samples().await;
            report(&mut checks, checks::raw_samples(&fleet, &samples, "as uploaded"));
        }
        compact(settings, clock, &fleet, &bucket).await?;
        folder.keep(settings, fleet.settings().range)?;
    }
    summary(&bucket).await?;
    drop(reserved);
    let processes = Processes::start(settings, &bucket, clock).await?;
    let api = ApiClient::new(processes.http_address());
    let TimeRange { start, end } = fleet.settings().range;
    let now = end.min(clock.now().0);
    for answered in questions::ask_all(&api, TimeRange::new(start, now)).await? {
        println!("\n{}", answered.text.trim_end());
        anyhow::ensure!(answered.series > 0, "a question has no answer");
    }
    println!("\nanswered {} after the start", seconds(clock.monotonic() - started));
    if settings.check {
        check(&fleet, &bucket, &api, &mut checks).await?;
        processes.stop().await;
        return verdict(&checks);
    }
    println!("\nPrometheus' HTTP API, for Grafana or curl: http://{}", processes.http_address());
    println!("  curl 'http://{}/api/v1/query?query=up'", processes.http_address());
    println!("serving until Ctrl-C");
    shutdown.stopped().await;
    processes.stop().await;
    Ok(())
}

/// The fleet of the folder's data, or a new one that ends with the current two hours.
fn fleet(
    settings: &Settings,
    clock: &Arc<dyn Clock>,
    folder: &Folder,
) -> anyhow::Result<(Fleet, bool)> {
    let kept = folder.kept(settings)?;
    anyhow::ensure!(
        kept.is_none() || !settings.check,
        "--check makes its own data, but {} holds an earlier demo; name an empty --data-dir",
        folder.path().display()
    );
    let is_new = kept.is_none();
    let range = kept.unwrap_or_else(|| {
        let end = (clock.now().0 / BLOCK_MS + 1) * BLOCK_MS;
        TimeRange::new(end - i64::from(settings.days) * DAY_MS, end)
    });
    let fleet = Fleet::new(synthetic::Settings::kubernetes(settings.seed, range))?;
    Ok((fleet, is_new))
}

fn open_bucket(folder: &Folder, clock: &Arc<dyn Clock>) -> anyhow::Result<Bucket> {
    let directory = folder.bucket().to_string_lossy().replace('\'', "''");
    let yaml = format!("type: FILESYSTEM\nconfig:\n  directory: '{directory}'\n");
    let config = ObjectStoreConfig::parse(&yaml, &Default::default())?;
    Ok(config.build(BucketMetrics::new(&Registry::new())?, Arc::clone(clock))?)
}

async fn generate(
    settings: &Settings,
    clock: &Arc<dyn Clock>,
    fleet: &Fleet,
    folder: &Folder,
) -> anyhow::Result<()> {
    let started = clock.monotonic();
    let clusters: Vec<&str> = fleet.clusters().iter().map(|cluster| cluster.name()).collect();
    println!(
        "{} days of the clusters {}, {} servers each, seed {}, in {}",
        settings.days,
        clusters.join(" and "),
        fleet.settings().replicas.len(),
        settings.seed,
        folder.path().display()
    );
    let bar = progress::bar(
        "writing raw blocks",
        (fleet.block_ranges().count() * fleet.replicas().len()) as u64,
    );
    let ticks = bar.clone();
    let work =
        GenerateWork { fleet: fleet.clone(), folder: folder.bucket(), threads: settings.threads };
    let writer = BlockWriter::start(work, move || ticks.inc(1));
    let written = writer.written().await?;
    bar.finish_and_clear();
    println!(
        "wrote      {} raw blocks, {} samples, {} in {}",
        written.blocks,
        written.samples,
        size(written.bytes),
        seconds(clock.monotonic() - started)
    );
    Ok(())
}

async fn compact(
    settings: &Settings,
    clock: &Arc<dyn Clock>,
    fleet: &Fleet,
    bucket: &Bucket,
) -> anyhow::Result<()> {
    let started = clock.monotonic();
    let at_a_time = settings.threads.min(AT_A_TIME);
    let compaction = compact::Settings {
        // what was just written is complete, and nobody reads what was replaced
        consistency_delay: Duration::ZERO,
        delete_delay: Duration::ZERO,
        compact_concurrency: at_a_time,
        downsample_concurrency: at_a_time,
        downsample_workers: 1,
        ..compact::Settings::default()
    };
    let servers = fleet.replicas().len() as u64;
    let hours = servers * amount::expected_hours(fleet.settings().range);
    let bar = progress::bar("compacting, downsampling", hours);
    let ticks = bar.clone();
    let compactor =
        compact::Compactor::new(bucket.clone(), compaction, Arc::clone(clock), &Registry::new())?
            .with_progress(Arc::new(move |event| ticks.inc(amount::hours(event))));
    compactor.run_once().await.context("compact the bucket")?;
    bar.finish_and_clear();
    println!("compacted  and downsampled in {}", seconds(clock.monotonic() - started));
    Ok(())
}

async fn summary(bucket: &Bucket) -> anyhow::Result<()> {
    let inventory = Inventory::take(bucket).await?;
    let raw = inventory.raw_size();
    println!("bucket     {} raw blocks, {}", raw.blocks, size(raw.bytes));
    for resolution in [Resolution::FiveMinutes, Resolution::OneHour] {
        let parquet = inventory.parquet_size(resolution);
        println!(
            "           {} Parquet blocks of {resolution}, {}",
            parquet.blocks,
            size(parquet.bytes)
        );
    }
    Ok(())
}

async fn check(
    fleet: &Fleet,
    bucket: &Bucket,
    api: &ApiClient,
    checks: &mut Vec<Check>,
) -> anyhow::Result<()> {
    let inventory = Inventory::take(bucket).await?;
    report(checks, checks::raw_samples(fleet, &inventory.raw_samples().await, "after compaction"));
    for resolution in [Resolution::FiveMinutes, Resolution::OneHour] {
        report(
            checks,
            checks::downsampled(fleet, resolution, &inventory.downsampled(resolution).await),
        );
    }
    report(checks, checks::topology(fleet, api).await);
    report(checks, checks::replicas_once(fleet, api).await);
    report(checks, checks::increases(fleet, api).await);
    report(checks, checks::kubernetes_queries(fleet, api).await);
    Ok(())
}

fn report(all: &mut Vec<Check>, checks: Vec<Check>) {
    for check in &checks {
        println!("{check}");
    }
    all.extend(checks);
}

fn verdict(checks: &[Check]) -> anyhow::Result<()> {
    let failed = checks.iter().filter(|check| !check.passed()).count();
    anyhow::ensure!(failed == 0, "{failed} of {} checks failed", checks.len());
    println!("all {} checks passed", checks.len());
    Ok(())
}

fn seconds(span: Duration) -> String {
    format!("{:.1} s", span.as_secs_f64())
}

fn size(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_spans_are_shown_with_their_units() {
        assert_eq!(size(3 << 19), "1.5 MiB");
        assert_eq!(seconds(Duration::from_millis(1250)), "1.2 s");
    }
}
