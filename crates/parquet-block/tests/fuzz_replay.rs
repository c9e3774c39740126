//! The fuzz targets on stable Rust: the parts of a small block, and so many broken variants of each.
//! The run is the same every time.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "tests report what they counted")]

mod fuzz;
#[path = "../../tsdb/tests/fuzz/replay.rs"]
mod replay;

use std::path::PathBuf;
use std::sync::Arc;

use block::BlockLocation;
use merge::{Batch, DownsampledSeries, HistogramWindows, NO_TIME, Windows};
use model::histogram::{BucketSpan, ResetHint};
use model::{BlockId, FloatHistogram, Labels, Resolution};
use object_store::memory::InMemory;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet_block::checksums::{ChecksumBuilder, Checksums};
use parquet_block::statistics::{SeriesSize, StatisticsBuilder};
use parquet_block::{BlockDescription, Error, FormatVersion, ParquetBlockWriter};
use replay::{files, variants};

/// Series of the block that the seeds are.
const SERIES: usize = 4;

fn folder(target: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "fuzz/seeds", target].iter().collect()
}

/// Enough variants are read and enough are refused: otherwise the run would hardly test a reader.
fn replay(name: &str, count: usize, target: impl Fn(&[u8]) -> Result<usize, Error>) {
    let seeds = files(folder(name));
    assert_eq!(seeds.len(), fuzz::KINDS.len());
    seeds.iter().for_each(|seed| assert_eq!(target(seed).expect("a sound seed"), SERIES));
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
    replay("footer", 300, fuzz::footer);
}

#[test]
fn pages() {
    replay("pages", 300, fuzz::pages);
}

fn floats() -> Windows {
    const WINDOWS: i64 = 12;
    Windows {
        t: (0..WINDOWS).map(|w| w * 300_000 + 299_999).collect(),
        first_t: vec![NO_TIME; WINDOWS as usize],
        last_t: vec![NO_TIME; WINDOWS as usize],
        count: vec![20; WINDOWS as usize],
        sum: (0..WINDOWS).map(|w| (w * 7) as f64).collect(),
        min: vec![0.25; WINDOWS as usize],
        max: (0..WINDOWS).map(|w| w as f64).collect(),
        counter: (0..WINDOWS).map(|w| if w < 8 { w as f64 } else { 1.5 * w as f64 }).collect(),
        batches: vec![
            Batch { start: 0, first_t: 10, first_v: 0.0, last_v: 1.0 },
            Batch { start: 8, first_t: 8 * 300_000, first_v: 3.5, last_v: 16.5 },
        ],
    }
}

fn histograms() -> HistogramWindows {
    const WINDOWS: i64 = 5;
    let histogram = |w: i64| FloatHistogram {
        schema: 1,
        hint: if w == 0 { ResetHint::Unknown } else { ResetHint::NotReset },
        zero_threshold: 0.001,
        zero_count: 1.0,
        count: (10 * w + 4) as f64,
        sum: 2.5 * w as f64,
        positive_spans: vec![
            BucketSpan { offset: -1, length: 2 },
            BucketSpan { offset: 3, length: 1 },
        ],
        negative_spans: vec![BucketSpan { offset: 0, length: 1 }],
        positive_buckets: vec![1.0, 1.0 + w as f64, (4 * w) as f64],
        negative_buckets: vec![(5 * w) as f64],
        custom_values: Vec::new(),
    };
    HistogramWindows {
        t: (0..WINDOWS).map(|w| w * 300_000 + 299_999).collect(),
        first_t: vec![NO_TIME; WINDOWS as usize],
        last_t: vec![NO_TIME; WINDOWS as usize],
        count: vec![20; WINDOWS as usize],
        sum: (0..WINDOWS).map(histogram).collect(),
        counter: (0..WINDOWS).map(histogram).collect(),
        batches: vec![0],
    }
}

/// `cargo test -p parquet-block --test fuzz_replay write -- --ignored` writes the seeds, of the
/// format that is written now.
#[test]
#[ignore = "overwrites the seeds"]
fn write_seeds() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let store = Arc::new(InMemory::new());
    let bucket = fuzz::bucket(Arc::clone(&store) as Arc<dyn ObjectStore>);
    let id = BlockId::from_parts(1_768_435_200_000, 7);
    let location = BlockLocation::parquet(&Labels::empty(), Resolution::FiveMinutes, id);
    let description = BlockDescription {
        version: FormatVersion::V1,
        id,
        resolution: Resolution::FiveMinutes,
        external_labels: Labels::empty(),
        sources: vec![id],
    };
    let mut writer = ParquetBlockWriter::create(bucket, location.clone(), description);
    for series in 0..SERIES {
        let labels = Labels::from_pairs([("__name__", "up"), ("i", &series.to_string())]);
        let windows = match series % 2 {
            0 => DownsampledSeries { floats: floats(), ..DownsampledSeries::default() },
            _ => DownsampledSeries { histograms: histograms(), ..DownsampledSeries::default() },
        };
        runtime.block_on(writer.push_series(&labels, &windows)).unwrap();
    }
    runtime.block_on(writer.finish()).unwrap();
    for (number, kind) in fuzz::KINDS.into_iter().enumerate() {
        let path = location.file(&format!("0.{kind}.parquet"));
        let file =
            runtime.block_on(async { store.get(&path).await.unwrap().bytes().await.unwrap() });
        let (rest, tail) = file.split_at(file.len() - 8);
        let footer_len = u32::from_le_bytes(tail[..4].try_into().unwrap()) as usize;
        let (pages, footer) = rest.split_at(rest.len() - footer_len);
        for (target, part) in [("footer", footer), ("pages", &pages[4..])] {
            let seed = [&[number as u8], part].concat();
            std::fs::write(folder(target).join(kind), seed).unwrap();
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
