//! The fuzz targets on stable Rust: the parts of two small blocks, and so many broken variants of
//! each. The run is the same every time.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "tests report what they counted")]

mod blocks;
mod fuzz;
#[path = "../../tsdb/tests/fuzz/replay.rs"]
mod replay;

use std::path::PathBuf;

use fuzz::memory;
use model::{BlockId, Labels};
use parquet_block::checksums::{ChecksumBuilder, Checksums};
use parquet_block::statistics::{SeriesSize, StatisticsBuilder};
use parquet_block::{Error, FormatVersion, SeriesWindows};
use replay::{files, variants};

/// The block that the seeds are.
fn block_of(version: FormatVersion) -> Vec<SeriesWindows> {
    match version {
        FormatVersion::V1 => blocks::format_1(),
        FormatVersion::V2 => blocks::format_2(),
    }
}

fn folder(target: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "fuzz/seeds", target].iter().collect()
}

/// Enough variants are read and enough are refused: otherwise the run would hardly test a reader.
fn replay(name: &str, count: usize, target: impl Fn(&[u8]) -> Result<usize, Error>) {
    let seeds = files(folder(name));
    assert_eq!(seeds.len(), fuzz::SEEDS.len());
    for seed in &seeds {
        let version = fuzz::SEEDS[usize::from(seed[0])].version;
        assert_eq!(target(seed).expect("a sound seed"), block_of(version).len());
    }
    let (mut read, mut refused) = (0, 0);
    variants(&seeds, count, |variant| match target(variant) {
        Ok(_) => read += 1,
        Err(_) => refused += 1,
    });
    println!("{read} read, {refused} refused");
    assert!(read * 20 > count && refused * 20 > count, "{read} read, {refused} refused");
}

/// The same for objects that are read by themselves.
fn replay_object<E: std::fmt::Debug>(
    name: &str,
    count: usize,
    target: impl Fn(&[u8]) -> Result<(), E>,
) {
    let seeds = files(folder(name));
    assert_eq!(seeds.len(), 1);
    target(&seeds[0]).expect("a sound seed");
    let (mut read, mut refused) = (0, 0);
    variants(&seeds, count, |variant| match target(variant) {
        Ok(()) => read += 1,
        Err(_) => refused += 1,
    });
    println!("{read} read, {refused} refused");
    assert!(read * 20 > count && refused * 20 > count, "{read} read, {refused} refused");
}

#[test]
fn checksums() {
    replay_object("checksums", 20_000, fuzz::checksums);
}

#[test]
fn statistics() {
    replay_object("statistics", 2000, fuzz::statistics);
}

#[test]
fn footers() {
    replay("footer", 700, fuzz::footer);
}

#[test]
fn pages() {
    replay("pages", 700, fuzz::pages);
}

/// `cargo test -p parquet-block --test fuzz_replay write -- --ignored` writes the seeds, of both
/// formats as they are written now.
#[tokio::test]
#[ignore = "overwrites the seeds"]
async fn write_seeds() {
    let mut parts = Vec::new();
    for (version, suffix) in [(FormatVersion::V1, ""), (FormatVersion::V2, "-2")] {
        for (name, bytes) in blocks::write(version, &block_of(version)).await {
            let place = |seed: &fuzz::Seed| {
                seed.version == version && name == format!("0.{}.parquet", seed.kind)
            };
            let Some(number) = fuzz::SEEDS.iter().position(place) else { continue };
            parts.push((number, format!("{}{suffix}", fuzz::SEEDS[number].kind), bytes));
        }
    }
    for (number, seed, file) in parts {
        let (rest, tail) = file.split_at(file.len() - 8);
        let footer_len = u32::from_le_bytes(tail[..4].try_into().unwrap()) as usize;
        let (pages, footer) = rest.split_at(rest.len() - footer_len);
        for (target, part) in [("footer", footer), ("pages", &pages[4..])] {
            let part = [&[number as u8], part].concat();
            std::fs::write(folder(target).join(&seed), part).unwrap();
        }
    }
}

/// As above: `checksums`.
#[test]
#[ignore = "overwrites the seed"]
fn write_checksums_seed() {
    let file = |name: &str, pages: &[u64]| {
        let mut builder = ChecksumBuilder::new(name);
        let mut end = 0;
        for len in pages {
            builder.border(end);
            builder.push(&vec![*len as u8; *len as usize]);
            end += len;
        }
        builder.finish(end - pages.last().unwrap_or(&0))
    };
    let files = vec![
        file("0.samples.parquet", &[4, 50_000, 150_000, 40_000, 2000]),
        file("0.series.parquet", &[4, 700, 600, 300]),
        file("1.samples.parquet", &[]),
    ];
    let bytes = Checksums::new(files).unwrap().encode();
    std::fs::create_dir_all(folder("checksums")).unwrap();
    std::fs::write(folder("checksums").join("block"), bytes).unwrap();
}

/// As above: `statistics`.
#[test]
#[ignore = "overwrites the seed"]
fn write_statistics_seed() {
    let mut builder = StatisticsBuilder::default();
    for series in 0..40u64 {
        let (metric, pod) = (format!("metric_{}", series % 7), format!("pod-{}", series % 11));
        let labels =
            Labels::from_pairs([("__name__", metric.as_str()), ("pod", &pod), ("job", "a")]);
        builder.push(&labels, SeriesSize { samples: 100 + series, bytes: 150 + 7 * series });
    }
    let bytes = builder.finish().encode(BlockId::from_parts(1_768_435_200_000, 7)).unwrap();
    std::fs::create_dir_all(folder("statistics")).unwrap();
    std::fs::write(folder("statistics").join("block"), bytes).unwrap();
}
