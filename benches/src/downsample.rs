//! Raw to 5m of one block, as the compactor does it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use block::sync::SyncedBlock;
use block::{BlockLocation, Bucket, BucketMetrics, BucketSettings};
use compact::{DownsampleJob, ENCODER_VERSION, OutputFormat, PARQUET_VERSION};
use model::Resolution;
use object_store::local::LocalFileSystem;
use prometheus::Registry;
use serde_json::json;
use tsdb::meta::BlockMeta;

use crate::measure::{MemoryWatch, clock, cpu_seconds, folder_bytes, seconds_since};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The folder of one raw block
    #[arg(long)]
    block: PathBuf,
    /// 5m or 1h
    #[arg(long, default_value = "5m")]
    resolution: String,
    /// The folder of Thanos' block of the same data and resolution, to compare sizes with
    #[arg(long)]
    thanos: Option<PathBuf>,
    /// Threads that aggregate
    #[arg(long, default_value_t = 1)]
    workers: usize,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let resolution = Resolution::ALL
        .into_iter()
        .find(|r| r.to_string() == args.resolution && *r != Resolution::Raw);
    let resolution = resolution.context("--resolution: expected 5m or 1h")?;
    let meta = BlockMeta::from_json(&std::fs::read(args.block.join("meta.json"))?)?;
    let folder = tempfile::tempdir()?;
    link_block(&args.block, &folder.path().join(meta.ulid.to_string()))?;
    let store = Arc::new(LocalFileSystem::new_with_prefix(folder.path())?);
    let metrics = BucketMetrics::new(&Registry::new())?;
    let bucket = Bucket::new(store, BucketSettings::default(), metrics, clock());
    let (labels, samples) = (meta.external_labels(), meta.stats.num_samples);
    let job = DownsampleJob {
        input: &SyncedBlock::new(BlockLocation::tsdb(meta.ulid), Arc::new(meta)),
        labels: &labels,
        resolutions: &[resolution],
        format: OutputFormat::Parquet(PARQUET_VERSION),
        encoder_version: ENCODER_VERSION,
        workers: args.workers,
    };
    let memory = MemoryWatch::of_self();
    let (start, cpu) = (clock().monotonic(), cpu_seconds());
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let written = runtime.block_on(job.run(&bucket))?;
    let (seconds, cpu) = (seconds_since(start), cpu_seconds() - cpu);
    let bytes = folder_bytes(&folder.path().join("parquet"));
    let windows: u64 = written.iter().map(|m| m.stats.num_samples).sum();
    let thanos = args.thanos.as_deref().map(data_bytes);
    let line = json!({
        "bench": "downsample", "resolution": args.resolution, "samples": samples, "windows": windows,
        "seconds": seconds, "cpu_seconds": cpu, "samples_per_second_per_core": samples as f64 / cpu,
        "samples_per_second": samples as f64 / seconds, "bytes": bytes, "thanos_bytes": thanos,
        "ratio": thanos.map(|t| bytes as f64 / t as f64), "peak_anon_mib": memory.peak_mib(),
    });
    println!("{line}");
    Ok(())
}

/// Chunks and index of a block folder.
fn data_bytes(block: &Path) -> u64 {
    let index = std::fs::metadata(block.join("index")).map_or(0, |m| m.len());
    folder_bytes(&block.join("chunks")) + index
}

/// Copies a block, without copying its bytes where the file system allows.
pub(crate) fn link_block(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from).with_context(|| format!("list {}", from.display()))? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.metadata()?.is_dir() {
            link_block(&entry.path(), &target)?;
        } else if std::fs::hard_link(entry.path(), &target).is_err() {
            std::fs::copy(entry.path(), &target)?;
        }
    }
    Ok(())
}
