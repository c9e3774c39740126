//! What a compaction of very many blocks at once takes: memory that does not grow with their number
//! and size, and few threads. It is alone in this binary, because it counts every allocation of the
//! process.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use block::object_store::local::LocalFileSystem;
use block::{Bucket, BucketMetrics, BucketSettings};
use compact::{Compactor, Settings};
use model::{BlockId, Labels, SystemClock, TimeRange};
use prometheus::Registry;
use testkit::{Allocations, CountingObjects};
use tsdb::block_builder::{BlockBuilder, BlockIdentity};

#[global_allocator]
static ALLOCATIONS: Allocations = Allocations::new();

const BLOCKS: i64 = 192;
const SERIES: usize = 1000;
const SAMPLES: usize = 240;
const BLOCK_MS: i64 = 2 * 3_600_000;

/// A block of values that hardly compress, with a label that no other block has.
fn write_block(folder: &Path, at: i64) -> u64 {
    let range = TimeRange::new(at * BLOCK_MS, (at + 1) * BLOCK_MS);
    let step = BLOCK_MS / SAMPLES as i64;
    let ts: Vec<i64> = (0..SAMPLES as i64).map(|i| range.start + i * step).collect();
    let mut random = synthetic::Rng::new(at as u64);
    let mut builder = BlockBuilder::new();
    for series in 0..SERIES {
        let values: Vec<f64> = (0..SAMPLES).map(|_| random.between(0.0, 1.0)).collect();
        let (name, of_block) = (format!("series_{series:04}"), format!("block-{at:04}"));
        let labels: &[(&str, &str)] = match series % 10 {
            0 => &[("__name__", &name), ("of", &of_block)],
            _ => &[("__name__", &name), ("of", "all")],
        };
        builder.push_floats(&Labels::from_pairs(labels.iter().copied()), &ts, &values).unwrap();
    }
    save(folder, builder, range)
}

/// Overlaps all others, so that they are all merged at once.
fn write_hull(folder: &Path) -> u64 {
    let range = TimeRange::new(0, BLOCKS * BLOCK_MS);
    let mut builder = BlockBuilder::new();
    let labels = Labels::from_pairs([("__name__", "hull")]);
    builder.push_floats(&labels, &[range.start, range.end - 1], &[0.0, 1.0]).unwrap();
    save(folder, builder, range)
}

fn save(folder: &Path, builder: BlockBuilder, range: TimeRange) -> u64 {
    let id = BlockId::from_parts(range.end as u64, range.start as u128);
    let external_labels = Some(Labels::from_pairs([("cluster", "a")]));
    let files = builder.finish(BlockIdentity { id, range, external_labels }).unwrap();
    files.save(folder).unwrap();
    files.bytes()
}

/// Threads of this process, where the system reports them.
fn threads() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("Threads:"));
    line.and_then(|n| n.trim().parse().ok()).unwrap_or(0)
}

#[test]
fn a_hundred_and_ninety_two_blocks_at_once_take_bounded_memory_and_few_threads() {
    const MIB: usize = 1 << 20;
    let folder = tempfile::tempdir().unwrap();
    let data: u64 = (0..BLOCKS)
        .map(|at| write_block(folder.path(), at))
        .chain([write_hull(folder.path())])
        .sum();
    assert!(data as usize > 320 * MIB, "{data} bytes are too few to tell");

    let store =
        CountingObjects::new(Arc::new(LocalFileSystem::new_with_prefix(folder.path()).unwrap()));
    let clock = Arc::new(SystemClock::new(|span| Box::pin(tokio::time::sleep(span))));
    let metrics = BucketMetrics::new(&Registry::new()).unwrap();
    let bucket =
        Bucket::new(Arc::new(store.clone()), BucketSettings::default(), metrics, clock.clone());
    // fetching metas from a folder takes a thread each, before there is anything to compact
    let settings = Settings {
        consistency_delay: Duration::ZERO,
        downsampling: false,
        meta_fetch_concurrency: 8,
        ..Settings::default()
    };
    let compactor = Compactor::new(bucket, settings, clock, &Registry::new()).unwrap();

    let (done, most) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let watch = std::thread::spawn({
        let (done, most) = (Arc::clone(&done), Arc::clone(&most));
        move || {
            while !done.load(Ordering::Relaxed) {
                most.fetch_max(threads(), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(2));
            }
        }
    });
    let before = ALLOCATIONS.begin();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(compactor.run_once()).unwrap();
    done.store(true, Ordering::Relaxed);
    watch.join().unwrap();

    let marked = std::fs::read_dir(folder.path()).unwrap().flatten();
    let marked = marked.filter(|block| block.path().join("deletion-mark.json").exists()).count();
    assert_eq!(marked as i64, BLOCKS + 1, "all were merged into one");
    let peak = (ALLOCATIONS.peak() - before) / MIB;
    let (threads, gets) = (most.load(Ordering::Relaxed), store.counts().gets);
    println!("{peak} MiB, {threads} threads, {gets} reads for {} MiB", data as usize / MIB);
    assert!(peak <= 192, "{peak} MiB");
    // how many readers wait at once depends on how fast they are served; it does not grow with the
    // blocks
    assert!(threads as i64 <= BLOCKS / 2, "{threads} threads");
    assert!(gets <= 40 * BLOCKS as u64, "{gets} reads");
}
