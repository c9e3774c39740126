//! The catalog that a compactor leaves behind.

use std::sync::Arc;
use std::time::Duration;

use block::catalog::Catalog;
use compact::Settings;
use testkit::{Fault, FaultPlan, Op};

use crate::support::World;

/// Catalogs that are there, by their numbers.
async fn catalogs(world: &World) -> Vec<(u64, Catalog)> {
    let mut found = Vec::new();
    for path in world.paths_below("catalog/v1").await {
        let name = path.rsplit('/').next().unwrap().to_owned();
        let (number, hash) = name.split_once('-').unwrap();
        let bytes = world.bytes(&path).await;
        found.push((number.parse().unwrap(), Catalog::decode(&bytes, Some(hash)).unwrap()));
    }
    found
}

#[tokio::test]
async fn the_last_catalog_of_a_run_says_what_a_listing_says() {
    let world = World::with_days(3, 1).await;
    let passing = world.clone();
    let compactor = world
        .compactor(Settings::default())
        .with_progress(Arc::new(move |_| passing.advance(Duration::from_secs(1))));
    compactor.run_once().await.unwrap();
    let found = catalogs(&world).await;
    let (_, newest) = found.last().unwrap();
    assert_eq!(newest.header.writer, "compact");
    let listed = world.synced(parquet_block::FORMATS, &[]).await;
    assert_eq!(newest.entries.len(), listed.blocks.len());
    let mut blocks = listed.blocks;
    blocks.sort_by(|a, b| a.location.cmp(&b.location));
    assert!(blocks.iter().any(|block| block.deletion_mark.is_some()));
    for (entry, block) in newest.entries.iter().zip(&blocks) {
        assert_eq!(entry.location, block.location);
        assert_eq!(entry.bytes, block.bytes);
        let stated = entry.marks.deletion.as_ref().and_then(|mark| mark.read.clone().flatten());
        assert_eq!(stated, block.deletion_mark);
        let meta = entry.meta.as_ref().unwrap();
        assert_eq!((meta.ulid, meta.range()), (block.id(), block.range()));
        match &entry.left_out {
            None => assert_eq!(meta.sources(), block.sources()),
            Some(left_out) => assert_eq!(left_out.count, block.sources().len()),
        }
    }
}

/// The clock of the runs stands still: all changes of one are within 30 seconds.
#[tokio::test]
async fn catalogs_follow_each_other_no_faster_than_allowed() {
    let world = World::with_days(3, 1).await;
    let compactor = world.compactor(Settings::default());
    compactor.run_once().await.unwrap();
    let after_one = catalogs(&world).await.len();
    assert!((1..=2).contains(&after_one), "{after_one}");
    compactor.run_once().await.unwrap();
    assert_eq!(catalogs(&world).await.len(), after_one, "no time passed, so nothing is newer");
    world.advance(Duration::from_secs(300));
    compactor.run_once().await.unwrap();
    let numbers: Vec<u64> = catalogs(&world).await.iter().map(|(number, _)| *number).collect();
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>());
    assert_eq!(numbers.len(), after_one + 1, "an idle compactor says that nothing changed");
}

#[tokio::test]
async fn a_run_succeeds_without_the_right_to_write_catalogs() {
    let world = World::with_days(1, 1).await;
    let alike = world.copied().await;
    alike.compactor(Settings::default()).run_once().await.unwrap();
    for fault in [Fault::Denied, Fault::Unavailable] {
        let denied = world.copied().await;
        let plan = FaultPlan::new(move |call| {
            let is_catalog = call.op == Op::Put && call.key.starts_with("catalog/");
            is_catalog.then_some(fault)
        });
        denied.run_under(plan, Settings::default()).await.unwrap();
        assert!(catalogs(&denied).await.is_empty());
        assert_eq!(denied.state().await, alike.state().await, "{fault:?}");
    }
}

/// What is deleted is decided by the bucket, whatever a catalog says.
#[tokio::test]
async fn a_catalog_that_lies_changes_nothing_that_a_compactor_does() {
    let world = World::with_days(3, 1).await;
    let alike = world.copied().await;
    alike.compactor(Settings::default()).run_once().await.unwrap();
    let other = World::with_days(1, 2).await;
    other.compactor(Settings::default()).run_once().await.unwrap();
    for path in other.paths_below("catalog/v1").await {
        world.put_bytes(&path, other.bytes(&path).await).await;
    }
    world.compactor(Settings::default()).run_once().await.unwrap();
    assert_eq!(world.state().await, alike.state().await);
}
