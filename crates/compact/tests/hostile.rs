//! Blocks that claim more than there is, before a compactor: it takes little memory, leaves them
//! alone, and does its work on the others. It is a binary of its own, because it counts every
//! allocation of the process.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use block::object_store::local::LocalFileSystem;
use block::{Bucket, BucketMetrics, BucketSettings};
use compact::{Compactor, Settings};
use model::SystemClock;
use prometheus::Registry;
use testkit::Allocations;
use testkit::hostile::{BLOCKS, BlockHolds, HostileBlock};

#[global_allocator]
static ALLOCATIONS: Allocations = Allocations::new();

const MIB: usize = 1 << 20;

fn compactor(folder: &Path) -> Compactor {
    let files = LocalFileSystem::new_with_prefix(folder).unwrap();
    let clock = Arc::new(SystemClock::new(|span| Box::pin(tokio::time::sleep(span))));
    let metrics = BucketMetrics::new(&Registry::new()).unwrap();
    let bucket = Bucket::new(Arc::new(files), BucketSettings::default(), metrics, clock.clone());
    let settings =
        Settings { consistency_delay: Duration::ZERO, downsampling: false, ..Settings::default() };
    Compactor::new(bucket, settings, clock, &Registry::new()).unwrap()
}

/// The blocks in a folder that have such a file.
fn with_file(folder: &Path, name: &str) -> Vec<String> {
    let blocks = std::fs::read_dir(folder).unwrap().map(|block| block.unwrap().path());
    let found = blocks.filter(|block| block.join(name).exists());
    found.map(|block| block.file_name().unwrap().to_str().unwrap().to_owned()).collect()
}

#[test]
fn hostile_blocks_take_little_and_are_left_alone() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    for hostile in BLOCKS {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        hostile.write(folder).unwrap();
        let before = ALLOCATIONS.begin();
        let done = runtime.block_on(compactor(folder).run_once());
        let peak = (ALLOCATIONS.peak() - before) / MIB;
        println!("{}: {peak} MiB, {done:?}", hostile.name);
        assert!(peak <= 96, "{}: {peak} MiB", hostile.name);
        done.unwrap_or_else(|e| panic!("{}: {e}", hostile.name));
        let marked = with_file(folder, "deletion-mark.json");
        let BlockHolds::LeftOut(told) = hostile.holds else {
            assert!(marked.len() >= 2, "{}: nothing was compacted", hostile.name);
            continue;
        };
        assert_eq!(marked, [""; 0], "{}", hostile.name);
        // a block without a meta.json that can be read takes no part anyway
        if !told.starts_with("meta.json") {
            let mark = folder.join(HostileBlock::id().to_string()).join("no-compact-mark.json");
            let mark = std::fs::read_to_string(mark).unwrap_or_default();
            assert!(mark.contains(told), "{}: {mark}", hostile.name);
        }
    }
}
