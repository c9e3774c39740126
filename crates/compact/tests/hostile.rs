//! Blocks that claim more than there is, before a compactor: it takes little memory, leaves them
//! alone, and does its work on the others. It is a binary of its own, because it counts every
//! allocation of the process.

#![allow(clippy::print_stdout, reason = "tests report what they counted")]

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use block::object_store::local::LocalFileSystem;
use block::{Bucket, BucketMetrics, BucketSettings};
use compact::{Compactor, Settings};
use model::{BlockId, SystemClock};
use prometheus::Registry;
use testkit::Allocations;
use testkit::hostile::{BLOCKS, BlockHolds, HostileBlock};
use tokio::runtime::Runtime;
use tsdb::meta::BlockMeta;

#[global_allocator]
static ALLOCATIONS: Allocations = Allocations::new();

/// Held by the test that counts.
static ALONE: Mutex<()> = Mutex::new(());

const MIB: u64 = 1 << 20;

fn compactor(folder: &Path) -> Compactor {
    let files = LocalFileSystem::new_with_prefix(folder).unwrap();
    let clock = Arc::new(SystemClock::new(|span| Box::pin(tokio::time::sleep(span))));
    let metrics = BucketMetrics::new(&Registry::new()).unwrap();
    let bucket = Bucket::new(Arc::new(files), BucketSettings::default(), metrics, clock.clone());
    let settings = Settings { consistency_delay: Duration::ZERO, ..Settings::default() };
    Compactor::new(bucket, settings, clock, &Registry::new()).unwrap()
}

/// The marks of this name on blocks of raw data.
fn marks_of(folder: &Path, mark: &str) -> Vec<String> {
    let blocks = std::fs::read_dir(folder).unwrap().map(|block| block.unwrap().path());
    blocks.filter_map(|block| std::fs::read_to_string(block.join(mark)).ok()).collect()
}

/// The parents of each block that was made.
fn merged(folder: &Path) -> Vec<BTreeSet<BlockId>> {
    let blocks = std::fs::read_dir(folder).unwrap().map(|block| block.unwrap().path());
    // one that is hostile may be too long to read
    let is_small = |meta: &std::path::PathBuf| meta.metadata().is_ok_and(|m| m.len() < 1 << 20);
    let metas = blocks.map(|block| block.join("meta.json")).filter(is_small);
    let metas = metas.map(|meta| BlockMeta::from_json(&std::fs::read(meta).unwrap()).unwrap());
    let parents = metas.map(|m| m.compaction.parents.iter().map(|parent| parent.ulid).collect());
    parents.filter(|parents: &BTreeSet<_>| !parents.is_empty()).collect()
}

/// Blocks that begin at these hours.
fn at(hours: &[i64]) -> BTreeSet<BlockId> {
    hours.iter().map(|hour| HostileBlock::id_at(*hour)).collect()
}

fn check(hostile: &HostileBlock, folder: &Path) {
    let name = hostile.name;
    let block = folder.join(HostileBlock::id().to_string());
    let mark = block.join("no-compact-mark.json");
    let BlockHolds::LeftOut(told) = hostile.holds else {
        let merged = merged(folder);
        let [parents] = &merged[..] else { panic!("{name}: {merged:?}") };
        let mark = std::fs::read_to_string(mark).unwrap_or_default();
        assert!(parents.is_superset(&at(&[2, 4, 6])), "{name}: {parents:?}, {mark}");
        let too_long = marks_of(folder, "no-downsample-mark.json");
        assert_eq!(too_long.len(), usize::from(name.contains("million samples")), "{name}");
        assert!(too_long.iter().all(|mark| mark.contains("4194304 floats")), "{too_long:?}");
        return;
    };
    assert!(!block.join("deletion-mark.json").exists(), "{name}");
    // a block without a meta.json that can be read takes no part anyway
    if told.starts_with("meta.json") {
        assert_eq!(merged(folder), [at(&[0, 4, 6])], "{name}");
        assert!(!mark.exists(), "{name}");
        return;
    }
    assert_eq!(merged(folder), [at(&[4, 6])], "{name}");
    let mark = std::fs::read_to_string(mark).unwrap_or_default();
    assert!(mark.contains(told), "{name}: {mark}");
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

#[test]
fn hostile_blocks_take_little_and_are_left_alone() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let runtime = runtime();
    for hostile in BLOCKS {
        let folder = tempfile::tempdir().unwrap();
        hostile.write(folder.path()).unwrap();
        let before = ALLOCATIONS.begin();
        let done = runtime.block_on(compactor(folder.path()).run_once());
        let peak = (ALLOCATIONS.peak() - before) as u64 / MIB;
        println!("{}: {peak} MiB, {done:?}", hostile.name);
        done.unwrap_or_else(|e| panic!("{}: {e}", hostile.name));
        assert!(peak <= hostile.most_mib(), "{}: {peak} MiB", hostile.name);
        check(&hostile, folder.path());
    }
}

#[test]
fn of_blocks_with_too_many_tombstones_together_some_wait() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = tempfile::tempdir().unwrap();
    let many = BLOCKS.iter().find(|hostile| hostile.name.starts_with("tombstones of 4 million"));
    many.unwrap().write(folder.path()).unwrap();
    let file = |id: BlockId| folder.path().join(id.to_string()).join("tombstones");
    for hour in [0, 4, 6] {
        std::fs::copy(file(HostileBlock::id()), file(HostileBlock::id_at(hour))).unwrap();
    }
    let before = ALLOCATIONS.begin();
    let done = runtime().block_on(compactor(folder.path()).run_once());
    let peak = (ALLOCATIONS.peak() - before) as u64 / MIB;
    println!("four blocks: {peak} MiB, {done:?}");
    assert!(peak <= 400, "{peak} MiB");
    assert!(done.is_err(), "one was left for the next run");
    assert_eq!(merged(folder.path()), [at(&[0, 2, 4])]);
}
