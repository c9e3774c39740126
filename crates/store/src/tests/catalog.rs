//! Gateways that read the catalog of their bucket: what starting takes, and that answers are right
//! whatever the catalog says.

use std::sync::Arc;
use std::time::Duration;

use block::BlockLocation;
use block::catalog::CATALOG_ROOT;
use futures::TryStreamExt;
use model::{Clock, SystemClock, TimestampMs};
use object_store::ObjectStore;
use testkit::{MockClock, ObjectCounts};

use super::support::*;
use crate::{Gateway, Settings};

fn one(n: u128, from: i64, to: i64) -> Make {
    let name = format!("pod-{n}");
    let series = series(&[("__name__", "up"), ("pod", &name)], &samples(hours(from, to), 1.0));
    Make::raw(n, hours(from, to), vec![series])
}

/// As the command line has them.
fn reading() -> Settings {
    Settings { full_interval: Duration::from_secs(15 * 60), ..Settings::default() }
}

fn writing() -> Settings {
    Settings { writes_catalog: true, ..reading() }
}

/// Stores in memory give objects the time of the machine.
fn bucket() -> (TestBucket, MockClock) {
    let machine = SystemClock::new(|span| Box::pin(tokio::time::sleep(span)));
    let clock = MockClock::new(TimestampMs(machine.now().0));
    (TestBucket::with_clock(Arc::new(clock.clone())), clock)
}

fn requests(counts: ObjectCounts) -> u64 {
    counts.lists + counts.gets + counts.heads
}

fn again(bucket: TestBucket) -> TestBucket {
    TestBucket { registry: prometheus::Registry::new(), ..bucket }
}

async fn catalogs(bucket: &TestBucket) -> Vec<block::Path> {
    let root = block::Path::from(CATALOG_ROOT);
    bucket.store.list(Some(&root)).map_ok(|o| o.location).try_collect().await.unwrap()
}

async fn synced(bucket: &TestBucket, settings: Settings) -> Gateway {
    let gateway = bucket.gateway(settings);
    gateway.sync().await.unwrap();
    gateway
}

#[tokio::test]
async fn a_gateway_starts_with_the_catalog_that_another_wrote() {
    let (bucket, _) = bucket();
    for n in 1..=5 {
        bucket.tsdb(&one(n, 0, 2)).await;
    }
    let fine = bucket.parquet(&one(1, 0, 2).at(6, model::Resolution::FiveMinutes)).await;
    synced(&bucket, writing()).await;
    assert_eq!(catalogs(&bucket).await.len(), 1);

    let bucket = again(bucket);
    bucket.store.reset();
    let gateway = synced(&bucket, reading()).await;
    let counts = bucket.store.counts();
    assert!(requests(counts) <= 5, "{counts:?}");
    assert_eq!(bucket.metric("drumlin_catalog_full_listings_total"), Some(0.0));
    let answer = ask(&gateway.store(), everything(hours(0, 2))).await;
    assert_eq!((answer.series.len(), answer.warnings), (5, Vec::new()));
    assert!(fine.is_parquet());
}

/// Numbers of the contract: 10,000 blocks, with and without a catalog.
#[tokio::test]
async fn ten_thousand_blocks_take_five_requests_with_a_catalog() {
    let (bucket, _) = bucket();
    let day = one(1, 0, 2);
    let location = bucket.tsdb(&day).await;
    let text = String::from_utf8(bucket.get(&location.meta()).await).unwrap();
    let blocks = 10_000_u64;
    for n in 2..=u128::from(blocks) {
        let location = BlockLocation::tsdb(id(n));
        let text = text.replace(&id(1).to_string(), &id(n).to_string());
        bucket.put(&location.meta(), text.into_bytes()).await;
    }
    bucket.store.reset();
    synced(&bucket, reading()).await;
    let without = requests(bucket.store.counts());
    assert!(without * 10 <= blocks * 11, "{without} requests without a catalog");

    let bucket = again(bucket);
    synced(&bucket, writing()).await;
    let bucket = again(bucket);
    bucket.store.reset();
    synced(&bucket, reading()).await;
    let with = bucket.store.counts();
    assert!(requests(with) <= 5, "{with:?}");
    assert_eq!(bucket.metric("thanos_bucket_store_blocks_loaded"), Some(blocks as f64));
}

#[tokio::test]
async fn a_block_that_a_request_misses_is_forgotten_at_once() {
    let (bucket, clock) = bucket();
    let gone = bucket.tsdb(&one(1, 0, 2)).await;
    bucket.tsdb(&one(2, 0, 2)).await;
    synced(&bucket, writing()).await;
    let bucket = again(bucket);
    let gateway = bucket.gateway(reading());
    let (store, mut ready) = (gateway.store(), gateway.ready());
    let running = tokio::spawn(gateway.run());
    ready.wait_for(|ready| *ready).await.unwrap();
    for path in [gone.meta(), gone.index(), gone.segment(1)] {
        bucket.delete(&path).await;
    }
    let answer = ask(&store, everything(hours(0, 2))).await;
    assert_eq!(answer.series.len(), 1);
    let [warning] = &answer.warnings[..] else { panic!("{:?}", answer.warnings) };
    assert!(warning.contains(&gone.id().to_string()), "{warning}");
    // no sync is due for minutes, and none of the whole bucket
    let forgotten = async {
        while bucket.metric("thanos_bucket_store_blocks_loaded") != Some(1.0) {
            if clock.sleepers() > 0 {
                clock.advance(Duration::from_millis(100));
            }
            tokio::task::yield_now().await;
        }
    };
    let begun = clock.monotonic();
    tokio::time::timeout(Duration::from_secs(20), forgotten).await.expect("it is looked at again");
    assert!(clock.monotonic() - begun < Duration::from_secs(60));
    running.abort();
    assert_eq!(bucket.metric("drumlin_catalog_full_listings_total"), Some(0.0));
    let answer = ask(&store, everything(hours(0, 2))).await;
    assert_eq!((answer.series.len(), answer.warnings), (1, Vec::new()));
}

/// A file that is missing of a block that is there: the answer names it, every time.
#[tokio::test]
async fn a_block_that_is_there_without_a_file_stays() {
    let (bucket, _) = bucket();
    let damaged = bucket.tsdb(&one(1, 0, 2)).await;
    bucket.tsdb(&one(2, 0, 2)).await;
    synced(&bucket, writing()).await;
    let bucket = again(bucket);
    let gateway = synced(&bucket, reading()).await;
    bucket.delete(&damaged.index()).await;
    for _ in 0..2 {
        let answer = ask(&gateway.store(), everything(hours(0, 2))).await;
        assert_eq!((answer.series.len(), answer.warnings.len()), (1, 1));
        gateway.sync().await.unwrap();
    }
    assert_eq!(bucket.metric("thanos_bucket_store_blocks_loaded"), Some(2.0));
}

#[tokio::test]
async fn a_zero_interval_reads_no_catalog() {
    let (bucket, _) = bucket();
    let gone = bucket.tsdb(&one(1, 0, 2)).await;
    bucket.tsdb(&one(2, 0, 2)).await;
    synced(&bucket, writing()).await;
    bucket.delete(&gone.meta()).await;
    let bucket = again(bucket);
    synced(&bucket, Settings { full_interval: Duration::ZERO, ..reading() }).await;
    assert_eq!(bucket.metric("thanos_bucket_store_blocks_loaded"), Some(1.0));
}

/// Who may not write serves all the same.
#[tokio::test]
async fn a_catalog_that_cannot_be_written_is_no_error() {
    let (bucket, _) = bucket();
    bucket.tsdb(&one(1, 0, 2)).await;
    let plan = testkit::FaultPlan::new(|call| {
        (call.op == testkit::Op::Put).then_some(testkit::Fault::Denied)
    });
    let gateway = bucket.failing_gateway(writing(), plan);
    gateway.sync().await.unwrap();
    assert_eq!(ask(&gateway.store(), everything(hours(0, 2))).await.series.len(), 1);
    assert!(catalogs(&bucket).await.is_empty());
    assert_eq!(bucket.metric("drumlin_catalog_write_failures_total"), Some(1.0));
}
