//! The same operations on blocks over every kind of store: in memory, in a folder, over S3's and
//! GCS' protocols, and over a store that fails now and then.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use block::config::{Environment, ObjectStoreConfig};
use block::marker::{DeletionMark, Marker, NoCompactMark};
use block::object_store::ObjectStore;
use block::object_store::memory::InMemory;
use block::sync::{Deduplicate, FetcherSettings, MetaFetcher};
use block::upload::{delete_block, upload_block_dir};
use block::{
    BlockLocation, BlockReader, BlockSeries, Bucket, BucketMetrics, BucketSettings, HeaderCache,
    PutOutcome, ReaderSettings, SeriesQuery, SyncMetrics,
};
use futures::TryStreamExt;
use model::{BlockId, Clock, Matcher, SystemClock, TimestampMs};
use prometheus::Registry;
use testkit::{
    CountingObjects, CreateOnly, FailingObjects, FaultPlan, ObjectServer, ServerSettings,
};
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
    let settings =
        BucketSettings { attempts: 8, backoff: Duration::from_millis(1), ..Default::default() };
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
    let settings = ReaderSettings {
        batch_series: 40,
        index_bytes: 2000,
        batch_bytes: 50_000,
        prefetch: 2,
        ..ReaderSettings::default()
    };
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
        let one =
            SeriesQuery { matchers: vec![Matcher::equal("__name__", "up")], ..SeriesQuery::all() };
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
    let yaml = format!(
        "type: FILESYSTEM\nprefix: p/q\nconfig:\n  directory: {}\n",
        folder.path().display()
    );
    let bucket = configured(&yaml);
    create_only_writes_hold(&bucket).await;
    parts_arrive(&bucket).await;
    assert_eq!(live(&bucket).await, expected);
    assert!(folder.path().join("p/q").is_dir());
    std::fs::write(folder.path().join("p/q/torn#3"), "x").unwrap();
    assert_eq!(bucket.sweep_torn_uploads(Duration::from_secs(3600)).await.unwrap(), 0);
    let written =
        std::fs::File::options().write(true).open(folder.path().join("p/q/torn#3")).unwrap();
    written.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    assert_eq!(bucket.sweep_torn_uploads(Duration::from_secs(3600)).await.unwrap(), 1);

    for prefix in ["", "prefix: a/b\n"] {
        let server = ObjectServer::start(Arc::new(InMemory::new()), ServerSettings::default())
            .await
            .unwrap();
        for (config, part_size) in
            [(server.s3_config(), "part_size"), (server.gcs_config(), "chunk_size_bytes")]
        {
            let bucket = configured(&format!("{config}  {part_size}: 5242880\n{prefix}"));
            create_only_writes_hold(&bucket).await;
            parts_arrive(&bucket).await;
            assert_eq!(live(&bucket).await, expected);
            let left = fetcher(&bucket).fetch(&[]).await.unwrap();
            delete_block(&bucket, &left.blocks[0].location).await.unwrap();
        }
    }
}

async fn server(settings: ServerSettings) -> ObjectServer {
    ObjectServer::start(Arc::new(InMemory::new()), settings).await.unwrap()
}

/// Checks that both blocks are found whatever else lies there; returns them.
async fn both_are_found(bucket: &Bucket) -> Vec<BlockLocation> {
    let synced = fetcher(bucket).fetch(&[&Deduplicate]).await.unwrap();
    assert_eq!((synced.blocks.len(), synced.partial.len(), synced.broken.len()), (2, 0, 0));
    let (folders, _) = bucket.list_dir(None).await.unwrap();
    assert!(synced.blocks.iter().all(|b| folders.contains(&b.id().to_string())), "{folders:?}");
    synced.blocks.iter().map(|b| b.location.clone()).collect()
}

/// Names that other clients made: they hide no block, and markers of folders go with their block.
#[tokio::test(flavor = "multi_thread")]
async fn bad_names_in_a_bucket_are_ignored() {
    for prefix in ["", "p/q"] {
        let server = server(ServerSettings { page_size: 7, ..ServerSettings::default() }).await;
        for config in [server.s3_config(), server.gcs_config()] {
            let bucket = configured(&format!("{config}prefix: '{prefix}'\n"));
            for dir in fixtures() {
                upload(&bucket, &dir).await;
            }
            let [first, second] = &both_are_found(&bucket).await[..] else { panic!("two blocks") };
            let whole = |key: &str| {
                if prefix.is_empty() { key.to_owned() } else { format!("{prefix}/{key}") }
            };
            let markers = ["", "chunks/"].map(|below| whole(&format!("{first}/{below}")));
            let kept = [
                format!("{second}/"),
                format!("{second}//index"),
                format!("{first}/../index"),
                "new\nline/meta.json".into(),
                "//".into(),
                "../x".into(),
                "a/./b".into(),
                "\u{1}".into(),
            ];
            let mut kept: Vec<String> = kept.iter().map(|key| whole(key)).collect();
            for key in kept.iter().chain(&markers) {
                server.put_raw(key, b"x").await;
            }
            let before = bucket.hints().ignored_names();
            both_are_found(&bucket).await;
            assert!(
                bucket.hints().ignored_names() >= before + 10,
                "{}",
                bucket.hints().ignored_names()
            );
            delete_block(&bucket, first).await.unwrap();
            kept.sort();
            assert_eq!(
                server.odd_keys().await,
                kept,
                "the markers went with their block, and nothing else"
            );
            let left = fetcher(&bucket).fetch(&[]).await.unwrap();
            assert_eq!((left.blocks.len(), left.partial.len()), (1, 0));
            delete_block(&bucket, second).await.unwrap();
        }
    }
}

#[cfg(unix)]
#[tokio::test]
async fn bad_names_in_a_folder_are_ignored() {
    use std::os::unix::ffi::OsStrExt;
    let folder = tempfile::tempdir().unwrap();
    let bucket = configured(&format!(
        "type: FILESYSTEM\nconfig: {{directory: {}}}\n",
        folder.path().display()
    ));
    for dir in fixtures() {
        upload(&bucket, &dir).await;
    }
    let found = both_are_found(&bucket).await;
    let block = folder.path().join(found[0].to_string());
    std::fs::write(block.join(std::ffi::OsStr::from_bytes(b"\xff")), "x").unwrap();
    std::fs::write(folder.path().join("new\nline"), "x").unwrap();
    std::os::unix::fs::symlink("..", block.join("up")).unwrap();
    std::os::unix::fs::symlink("loop", folder.path().join("loop")).unwrap();
    both_are_found(&bucket).await;
    assert!(bucket.hints().ignored_names() >= 4);
}

/// A prefix names the same place as in Thanos: the text between the outer `/` and then a `/`; for a
/// folder, what Go's `filepath.Join` gives.
#[tokio::test(flavor = "multi_thread")]
async fn a_prefix_names_the_same_place_as_to_thanos() {
    for (given, place) in [("~ü %#*", "~ü %#*"), ("/a/~/", "a/~"), ("a//b", "a//b"), ("//", "")] {
        let inner: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let server =
            ObjectServer::start(Arc::clone(&inner), ServerSettings::default()).await.unwrap();
        for config in [server.s3_config(), server.gcs_config()] {
            let bucket = configured(&format!("{config}prefix: '{given}'\n"));
            upload(&bucket, &fixtures()[0]).await;
            upload(&bucket, &fixtures()[1]).await;
            let found = both_are_found(&bucket).await;
            let meta = if place.is_empty() {
                found[0].meta().to_string()
            } else {
                format!("{place}/{}", found[0].meta())
            };
            let objects: Vec<_> =
                inner.list(None).map_ok(|o| o.location.to_string()).try_collect().await.unwrap();
            let keys = [objects, server.odd_keys().await].concat();
            assert!(keys.contains(&meta), "{given}: {meta} of {keys:?}");
            assert_eq!(keys.len(), 6, "{keys:?}");
            create_only_writes_hold(&bucket).await;
            for location in &found {
                delete_block(&bucket, location).await.unwrap();
            }
            assert!(
                inner.list(None).try_next().await.unwrap().is_none()
                    && server.odd_keys().await.is_empty()
            );
        }
    }
    let folder = tempfile::tempdir().unwrap();
    for (given, place) in [("~ü %#*", "~ü %#*"), ("a//b/./c/", "a/b/c"), ("x/../y", "y"), ("/", "")]
    {
        let yaml = format!(
            "type: FILESYSTEM\nprefix: '{given}'\nconfig:\n  directory: {}\n",
            folder.path().display()
        );
        let bucket = configured(&yaml);
        upload(&bucket, &fixtures()[0]).await;
        upload(&bucket, &fixtures()[1]).await;
        let found = both_are_found(&bucket).await;
        assert!(folder.path().join(place).join(found[0].meta().as_ref()).is_file(), "{given}");
        for location in &found {
            delete_block(&bucket, location).await.unwrap();
        }
    }
}

#[test]
fn a_prefix_that_cannot_be_asked_for_is_refused() {
    for prefix in ["a/./b", "..", "a/../b"] {
        let yaml = format!("type: S3\nconfig: {{bucket: b, endpoint: e}}\nprefix: {prefix}\n");
        let error = ObjectStoreConfig::parse(&yaml, &Environment::new()).unwrap_err().to_string();
        assert!(error.contains("prefix") && error.contains(prefix), "{error}");
    }
}

/// Ceph, OSS and B2 have no create-only writes, each in its own way.
#[tokio::test(flavor = "multi_thread")]
async fn without_create_only_writes_marks_are_looked_up_first() {
    let path = block::Path::from("lease/a/1");
    for create_only in [
        CreateOnly::Refused(501, "NotImplemented"),
        CreateOnly::Refused(400, "InvalidArgument"),
        CreateOnly::Refused(405, "MethodNotAllowed"),
        CreateOnly::Ignored,
    ] {
        let server = server(ServerSettings { create_only, ..ServerSettings::default() }).await;
        for config in [server.s3_config(), server.gcs_config()] {
            let bucket = configured(&config);
            assert!(!bucket.probe_conditional_put(&path).await.unwrap(), "{create_only:?}");
            bucket.probe_create_only().await;
            assert!(bucket.list(None).try_next().await.unwrap().is_none(), "the probe is removed");
            server.reset_counts();
            let refused = bucket.put_if_absent(&path, "x".into()).await.unwrap_err();
            assert_eq!(
                (refused.kind(), server.counts().requests),
                (block::Kind::Unsupported, 0),
                "it is remembered"
            );

            let meta = upload(&bucket, &fixtures()[0]).await;
            let location = BlockLocation::tsdb(meta.ulid);
            let first = DeletionMark::new(meta.ulid, TimestampMs(1_000), "first");
            assert!(first.write(&bucket, &location).await.unwrap());
            let later = DeletionMark::new(meta.ulid, TimestampMs(9_000), "later");
            assert!(!later.write(&bucket, &location).await.unwrap());
            assert_eq!(DeletionMark::read(&bucket, &location).await.unwrap(), Some(first));
            assert!(
                NoCompactMark::new(meta.ulid, TimestampMs(1), "manual", "")
                    .write(&bucket, &location)
                    .await
                    .unwrap()
            );
            delete_block(&bucket, &location).await.unwrap();
        }
    }
}

/// Without a probe the first write finds out.
#[tokio::test]
async fn a_mark_is_written_where_nobody_probed() {
    let create_only = CreateOnly::Refused(501, "NotImplemented");
    let server = server(ServerSettings { create_only, ..ServerSettings::default() }).await;
    let bucket = configured(&server.s3_config());
    let location = BlockLocation::tsdb(BlockId::from_parts(1, 2));
    let mark = DeletionMark::new(location.id(), TimestampMs(1_000), "test");
    assert!(mark.write(&bucket, &location).await.unwrap());
    assert_eq!(server.counts().puts, 2, "refused once, then plain");
    assert!(!mark.write(&bucket, &location).await.unwrap());
    assert_eq!(server.counts().puts, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn passing_failures_change_nothing() {
    let expected = live(&over(Arc::new(InMemory::new()))).await;
    for seed in 0..20 {
        let faults = FaultPlan::seeded(seed, 60);
        let bucket = over(Arc::new(FailingObjects::new(Arc::new(InMemory::new()), faults)));
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

/// An upload that was cut off anywhere leaves no `meta.json` without its files, and the next one
/// completes it.
#[tokio::test]
async fn an_interrupted_upload_is_no_block() {
    let dir = &fixtures()[0];
    let meta = BlockMeta::from_json(&std::fs::read(dir.join("meta.json")).unwrap()).unwrap();
    for alive in 0..3 {
        let inner: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let dying =
            over(Arc::new(FailingObjects::new(Arc::clone(&inner), FaultPlan::killed_after(alive))));
        assert!(upload_block_dir(&dying, dir, &meta, 1).await.is_err());
        let bucket = over(inner);
        let synced = fetcher(&bucket).fetch(&[]).await.unwrap();
        assert_eq!(
            (synced.blocks.len(), synced.partial.len()),
            (0, usize::from(alive > 0)),
            "{alive}"
        );
        upload(&bucket, dir).await;
        assert_eq!(fetcher(&bucket).fetch(&[]).await.unwrap().blocks.len(), 1);
    }
}

#[tokio::test]
async fn a_sync_costs_one_listing_and_one_read_per_new_block() {
    let store = Arc::new(CountingObjects::new(Arc::new(InMemory::new())));
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

/// A flipped bit anywhere is an error of the block or of some series; everything that is served is
/// as it was written.
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
        let reader = BlockReader::new(
            bucket.clone(),
            Arc::clone(&meta),
            HeaderCache::new(0),
            ReaderSettings::default(),
        );
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
