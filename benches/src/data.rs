//! The blocks that the benches read: 10,000 steady series, about 4 bytes per sample.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use model::{BlockId, Labels, TimeRange};
use serde_json::json;
use synthetic::{BLOCK_MS, Fleet, ServerScrapes, Settings};
use tsdb::block_builder::{BlockBuilder, BlockIdentity};

use crate::measure::{MemoryWatch, clock, folder_bytes, seconds_since};

/// 2026-01-01T00:00:00Z.
const START_MS: i64 = 1_767_225_600_000;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The folder to write block folders into, which is also a bucket of type FILESYSTEM
    #[arg(long)]
    out: PathBuf,
    /// Days of data
    #[arg(long, default_value_t = 1)]
    days: i64,
    /// Seconds between samples
    #[arg(long, default_value_t = 15)]
    interval: i64,
    /// Hours per block; a multiple of 2 that divides the days
    #[arg(long, default_value_t = 2)]
    block_hours: i64,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Also write a block of one sample at either end of the time, which overlaps all others, so
    /// that a compactor merges all of them at once
    #[arg(long)]
    hull: bool,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let memory = MemoryWatch::of_self();
    let start = clock().monotonic();
    // two-week blocks begin at multiples of two weeks
    let aligned = START_MS.div_euclid(14 * 12 * BLOCK_MS) * 14 * 12 * BLOCK_MS;
    let mut settings = Settings::bench(args.seed, aligned);
    settings.range = TimeRange::new(aligned, aligned + args.days * 12 * BLOCK_MS);
    settings.scrape_interval_ms = args.interval * 1000;
    let fleet = Fleet::new(settings)?;
    let replica = fleet.replicas().first().context("the fleet has no server")?;
    std::fs::create_dir_all(&args.out).with_context(|| format!("create {}", args.out.display()))?;
    let (mut samples, mut blocks) = (0, 0);
    let mut at = aligned;
    while at < fleet.settings().range.end {
        let range = TimeRange::new(at, at + args.block_hours * BLOCK_MS / 2);
        let id = BlockId::from_parts(range.end as u64, u128::from(args.seed));
        let external_labels = Some(replica.external_labels().clone());
        let description = BlockIdentity { id, range, external_labels };
        let meta = testkit::write_block(
            &args.out,
            &ServerScrapes::new(&fleet, replica, range),
            description,
        );
        samples += meta.stats.num_samples;
        blocks += 1;
        at = range.end;
    }
    if args.hull {
        let external_labels = Some(replica.external_labels().clone());
        write_hull(&args.out, fleet.settings().range, external_labels)?;
    }
    let bytes = folder_bytes(&args.out);
    let seconds = seconds_since(start);
    let line = json!({
        "bench": "data", "blocks": blocks, "samples": samples, "bytes": bytes, "seconds": seconds,
        "bytes_per_sample": bytes as f64 / samples as f64, "peak_anon_mib": memory.peak_mib(),
    });
    println!("{line}");
    Ok(())
}

fn write_hull(out: &Path, range: TimeRange, external_labels: Option<Labels>) -> Result<()> {
    let mut builder = BlockBuilder::new();
    let labels = Labels::from_pairs([("__name__", "hull")]);
    builder.push_floats(&labels, &[range.start, range.end - 1], &[0.0, 1.0])?;
    let id = BlockId::from_parts(range.end as u64, 0);
    let files = builder.finish(BlockIdentity { id, range, external_labels })?;
    files.save(out).with_context(|| format!("write block {id}"))
}
