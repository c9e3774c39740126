//! The same life of blocks over every kind of store: in memory, in a folder, over S3's and GCS' protocols, and over a
//! store that fails now and then.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use block::config::{Environment, ObjectStoreConfig};
use block::marker::{DeletionMark, Marker};
use block::object_store::ObjectStore;
use block::object_store::memory::InMemory;
use block::sync::{Deduplicate, FetcherSettings, MetaFetcher};
use block::upload::{delete_block, upload_block_dir};
use block::{
    BlockLocation, BlockReader, BlockSeries, Bucket, BucketMetrics, BucketSettings, HeaderCache, PutOutcome,
    ReaderSettings, SeriesQuery, SyncMetrics,
};
use futures::TryStreamExt;
use model::{BlockId, Clock, Matcher, SystemClock, TimestampMs};
use prometheus::Registry;
use testkit::{CountingStore, FailingStore, FaultPlan, ObjectServer, ServerSettings};
use tsdb::meta::BlockMeta;

fn fixture(kind: &str, id: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tsdb/tests/data").join(kind).join(id)
}

fn fixtures() -> [PathBuf; 2] {
    [fixture("raw", "01M81HXMY0XQF1A6MF7S68NK18"), fixture("aggr", "01M81HXX0GS6A2F69HCM1Y84FY")]
}

fn clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock::new(|span| Box::pin(tokio::time::sleep(span))))
}

fn over(store: Arc<dyn ObjectStore>) -> Bucket {
    let settings = BucketSettings { attempts: 8, backoff: Duration::from_millis(1), ..Default::default() };
    Bucket::new(store, settings, BucketMetrics::new(&Registry::new()).unwrap(), clock())
}

fn configured(yaml: &str) -> Bucket {
    let config = ObjectStoreConfig::parse(yaml, &Environment::new()).unwrap();
    assert_eq!(config.warnings(), Vec::<String>::new());
    config.build(BucketMetrics::new(&Registry::new()).unwrap(), clock()).unwrap()
}

async fn upload(bucket: &Bucket, dir: &Path) -> BlockMeta {
    let meta = BlockMeta::from_json(&std::fs::read(dir.join("meta.json")).unwrap()).unwrap();
    upload_block_dir(bucket, dir, &meta, 2).await.unwrap()
}

fn fetcher(bucket: &Bucket) -> MetaFetcher {
    let metrics = SyncMetrics::new(&Registry::new()).unwrap();
    MetaFetcher::new(bucket.clone(), FetcherSettings::default(), metrics)
}

async fn read(bucket: &Bucket, meta: Arc<BlockMeta>, query: SeriesQuery) -> Vec<BlockSeries> {
    let settings = ReaderSettings { batch_series: 40, batch_bytes: 50_000, prefetch: 2, ..ReaderSettings::default() };
    let reader = BlockReader::new(bucket.clone(), meta, HeaderCache::new(1 << 20), settings);
    let batches: Vec<block::SeriesBatch> = reader.series(query).try_collect().await.unwrap();
    assert!(batches.iter().all(|b| b.errors.is_empty()));
    batches.into_iter().flat_map(|b| b.series).collect()
}

/// Uploads both fixtures, finds them, reads them and deletes one; returns what was read, by block.
async fn live(bucket: &Bucket) -> BTreeMap<BlockId, Vec<BlockSeries>> {
    for dir in fixtures() {
        upload(bucket, &dir).await;
    }
    let fetcher = fetcher(bucket);
    let synced = fetcher.fetch(&[&Deduplicate]).await.unwrap();
    assert_eq!((synced.blocks.len(), synced.partial.len(), synced.broken.len()), (2, 0, 0));
    let mut all = BTreeMap::new();
    for found in &synced.blocks {
        let series = read(bucket, Arc::clone(&found.meta), SeriesQuery::all()).await;
        assert_eq!(series.len() as u64, found.meta.stats.num_series);
        let one = SeriesQuery { matchers: vec![Matcher::equal("__name__", "up")], ..SeriesQuery::all() };
        let up = read(bucket, Arc::clone(&found.meta), one).await;
        let expected = series.iter().filter(|s| s.labels.metric_name() == Some(b"up"));
        assert!(up.iter().eq(expected));
        all.insert(found.id(), series);
    }
    let first = &synced.blocks[0];
    let mark = DeletionMark::new(first.id(), TimestampMs(0), "test");
    mark.write(bucket, &first.location).await.unwrap();
    assert_eq!(fetcher.fetch(&[]).await.unwrap().marked_for_deletion.len(), 1);
    delete_block(bucket, &first.location).await.unwrap();
    assert_eq!(fetcher.fetch(&[]).await.unwrap().blocks.len(), 1);
    all
}

async fn create_only_writes_hold(bucket: &Bucket) {
    let path = block::Path::from("lease/a/1");
    assert!(bucket.probe_conditional_put(&path).await.unwrap());
    assert_eq!(bucket.put_if_absent(&path, "x".into()).await.unwrap(), PutOutcome::Created);
    assert_eq!(bucket.put_if_absent(&path, "y".into()).await.unwrap(), PutOutcome::AlreadyExists);
    assert_eq!(bucket.get(&path).await.unwrap(), "x");
    bucket.delete(&path).await.unwrap();
}

/// 12 MiB in parts of 5 MiB.
async fn parts_arrive(bucket: &Bucket) {
    let path = block::Path::from("long");
    let bytes: Vec<u8> = (0..12 << 20).map(|i: u32| (i / 3) as u8).collect();
    let mut writer = bucket.multipart(&path);
    for piece in bytes.chunks(1 << 20) {
        writer.write(piece).await.unwrap();
    }
    assert_eq!(writer.finish().await.unwrap(), bytes.len() as u64);
    let ranges = [0..10, (6 << 20)..(6 << 20) + 100, (12 << 20) - 5..(12 << 20) + 5];
    let parts = bucket.get_ranges(&path, &ranges).await.unwrap();
    for (range, part) in ranges.iter().zip(parts) {
        assert!(part == bytes[range.start as usize..(range.end as usize).min(bytes.len())]);
    }
    bucket.delete(&path).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_store_serves_the_same_blocks() {
    let expected = live(&over(Arc::new(InMemory::new()))).await;

    let folder = tempfile::tempdir().unwrap();
    let yaml = format!("type: FILESYSTEM\nprefix: p/q\nconfig:\n  directory: {}\n", folder.path().display());
    let bucket = configured(&yaml);
    create_only_writes_hold(&bucket).await;
    parts_arrive(&bucket).await;
    assert_eq!(live(&bucket).await, expected);
    assert!(folder.path().join("p/q").is_dir());
    std::fs::write(folder.path().join("p/q/torn#3"), "x").unwrap();
    assert_eq!(bucket.sweep_torn_uploads(Duration::from_secs(3600)).await.unwrap(), 0);
    let written = std::fs::File::options().write(true).open(folder.path().join("p/q/torn#3")).unwrap();
    written.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    assert_eq!(bucket.sweep_torn_uploads(Duration::from_secs(3600)).await.unwrap(), 1);

    for prefix in ["", "prefix: a/b\n"] {
        let server = ObjectServer::start(Arc::new(InMemory::new()), ServerSettings::default()).await.unwrap();
        for (config, part_size) in [(server.s3_config(), "part_size"), (server.gcs_config(), "chunk_size_bytes")] {
            let bucket = configured(&format!("{config}  {part_size}: 5242880\n{prefix}"));
            create_only_writes_hold(&bucket).await;
            parts_arrive(&bucket).await;
            assert_eq!(live(&bucket).await, expected);
            let left = fetcher(&bucket).fetch(&[]).await.unwrap();
            delete_block(&bucket, &left.blocks[0].location).await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn passing_failures_change_nothing() {
    let expected = live(&over(Arc::new(InMemory::new()))).await;
    for seed in 0..20 {
        let faults = FaultPlan::seeded(seed, 60);
        let bucket = over(Arc::new(FailingStore::new(Arc::new(InMemory::new()), faults)));
        for dir in fixtures() {
            upload(&bucket, &dir).await;
        }
        for (id, series) in &expected {
            let meta = bucket.get(&BlockLocation::tsdb(*id).meta()).await.unwrap();
            let meta = Arc::new(BlockMeta::from_json(&meta).unwrap());
            assert!(&read(&bucket, meta, SeriesQuery::all()).await == series, "seed {seed}");
        }
    }
}

/// An upload that was cut off anywhere leaves no `meta.json` without its files, and the next one completes it.
#[tokio::test]
async fn an_interrupted_upload_is_no_block() {
    let dir = &fixtures()[0];
    let meta = BlockMeta::from_json(&std::fs::read(dir.join("meta.json")).unwrap()).unwrap();
    for alive in 0..3 {
        let inner: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let dying = over(Arc::new(FailingStore::new(Arc::clone(&inner), FaultPlan::killed_after(alive))));
        assert!(upload_block_dir(&dying, dir, &meta, 1).await.is_err());
        let bucket = over(inner);
        let synced = fetcher(&bucket).fetch(&[]).await.unwrap();
        assert_eq!((synced.blocks.len(), synced.partial.len()), (0, usize::from(alive > 0)), "{alive}");
        upload(&bucket, dir).await;
        assert_eq!(fetcher(&bucket).fetch(&[]).await.unwrap().blocks.len(), 1);
    }
}

#[tokio::test]
async fn a_sync_costs_one_listing_and_one_read_per_new_block() {
    let store = Arc::new(CountingStore::new(Arc::new(InMemory::new())));
    let bucket = over(Arc::clone(&store) as Arc<dyn ObjectStore>);
    for dir in fixtures() {
        upload(&bucket, &dir).await;
    }
    let fetcher = fetcher(&bucket);
    store.reset();
    fetcher.fetch(&[]).await.unwrap();
    let first = store.counts();
    fetcher.fetch(&[]).await.unwrap();
    let second = store.counts();
    assert_eq!((first.gets, first.lists, first.heads), (2, 1, 0));
    assert_eq!((second.gets, second.lists, second.heads), (2, 2, 0));
}

/// A flipped bit anywhere is an error of the block or of some series; what is served is as it was written.
#[tokio::test]
async fn flipped_bits_never_pass_for_data() {
    let bucket = over(Arc::new(InMemory::new()));
    let meta = Arc::new(upload(&bucket, &fixtures()[0]).await);
    let whole = read(&bucket, Arc::clone(&meta), SeriesQuery::all()).await;
    let location = BlockLocation::tsdb(meta.ulid);
    let mut dice = 1u64;
    let mut partly = 0;
    for round in 0..200 {
        let path = if round % 2 == 0 { location.index() } else { location.segment(1) };
        let sound = bucket.get(&path).await.unwrap();
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let mut bytes = sound.to_vec();
        let at = (dice >> 33) as usize % bytes.len();
        bytes[at] ^= 1 << (dice >> 20 & 7);
        bucket.put(&path, bytes.into()).await.unwrap();
        let reader =
            BlockReader::new(bucket.clone(), Arc::clone(&meta), HeaderCache::new(0), ReaderSettings::default());
        if let Ok(batches) = reader.series(SeriesQuery::all()).try_collect::<Vec<_>>().await {
            let errors: usize = batches.iter().map(|b| b.errors.len()).sum();
            let series: Vec<BlockSeries> = batches.into_iter().flat_map(|b| b.series).collect();
            let mut rest = whole.iter();
            assert!(series.iter().all(|s| rest.any(|w| w == s)), "round {round}, byte {at}");
            // padding and the header of a segment are not read
            assert!(series.len() + errors == whole.len(), "round {round}, byte {at}");
            partly += usize::from(errors > 0);
        }
        bucket.put(&path, sound).await.unwrap();
    }
    assert!(partly > 100, "{partly}");
}
