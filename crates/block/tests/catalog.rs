//! Looking which blocks there are with the catalog of the bucket: how many requests that takes, and
//! that nothing that is wrong with a catalog changes what is found after a full look.

mod lagging;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use block::catalog::{CATALOG_ROOT, CatalogStore, CatalogWriter, WriteOutcome};
use block::config::{Environment, ObjectStoreConfig};
use block::marker::{DeletionMark, Marker};
use block::object_store::ObjectStore;
use block::object_store::memory::InMemory;
use block::sync::{CatalogReading, Deduplicate, FetcherSettings, MetaFetcher, Synced};
use block::{BlockLocation, Bucket, BucketMetrics, BucketSettings, Path, SyncMetrics};
use model::{BlockId, Clock, TimestampMs};
use prometheus::Registry;
use testkit::{CountingObjects, FailingObjects, Fault, FaultPlan, MockClock, ObjectCounts, Op};
use tsdb::meta::{BlockMeta, Compaction, Downsample, Thanos};

pub(crate) const SYNC: Duration = Duration::from_secs(10 * 60);
pub(crate) const FULL: Duration = Duration::from_secs(15 * 60);

pub(crate) fn id(n: u64) -> BlockId {
    BlockId::from_parts(1_769_000_000_000 + n, u128::from(n))
}

pub(crate) fn meta(n: u64, sources: &[u64]) -> BlockMeta {
    let labels = BTreeMap::from([("cluster".to_owned(), "eu".to_owned())]);
    let start = i64::try_from(n).unwrap() * 7_200_000;
    BlockMeta {
        ulid: id(n),
        min_time: start,
        max_time: start + 7_200_000,
        stats: Default::default(),
        compaction: Compaction {
            level: 1,
            sources: sources.iter().map(|s| id(*s)).collect(),
            ..Compaction::default()
        },
        version: 1,
        thanos: Some(Thanos { labels, source: "sidecar".into(), ..Thanos::default() }),
        format: None,
        unknown: Default::default(),
    }
}

fn coarse(n: u64) -> BlockMeta {
    let mut meta = meta(n, &[n]);
    meta.thanos.as_mut().unwrap().downsample = Downsample { resolution: 300_000 };
    meta.format = Some("parquet/2".into());
    meta
}

/// A bucket in memory, and what was asked of it.
pub(crate) struct World {
    pub(crate) objects: CountingObjects,
    clock: MockClock,
}

impl World {
    pub(crate) fn new() -> World {
        World::over(Arc::new(InMemory::new()))
    }

    fn over(store: Arc<dyn ObjectStore>) -> World {
        // objects are written by the clock of the machine
        let clock = MockClock::new(TimestampMs(machine_now()));
        World { objects: CountingObjects::new(store), clock }
    }

    fn bucket(&self, store: Arc<dyn ObjectStore>) -> Bucket {
        let metrics = BucketMetrics::new(&Registry::new()).unwrap();
        let settings = BucketSettings { attempts: 1, ..BucketSettings::default() };
        Bucket::new(store, settings, metrics, Arc::new(self.clock.clone()))
    }

    pub(crate) fn plain(&self) -> Bucket {
        self.bucket(Arc::new(self.objects.clone()))
    }

    pub(crate) fn pass(&self, span: Duration) {
        self.clock.advance(span);
    }

    pub(crate) async fn put(&self, meta: &BlockMeta) -> BlockLocation {
        let location = location(meta);
        self.plain().put(&location.index(), "i".into()).await.unwrap();
        self.plain().put(&location.meta(), meta.to_json().into()).await.unwrap();
        location
    }

    pub(crate) async fn remove(&self, location: &BlockLocation) {
        block::upload::delete_block(&self.plain(), location).await.unwrap();
    }

    /// A gateway's fetcher.
    pub(crate) fn reader(&self) -> Fetcher {
        Fetcher::over(self.plain(), Some(READING))
    }

    fn failing_reader(&self, plan: FaultPlan) -> Fetcher {
        let store = FailingObjects::new(Arc::new(self.objects.clone()), plan);
        Fetcher::over(self.bucket(Arc::new(store)), Some(READING))
    }

    /// A fetcher that knows of no catalog.
    pub(crate) fn lister(&self) -> Fetcher {
        Fetcher::over(self.plain(), None)
    }

    /// Lists the bucket and writes its catalog, as a compactor does.
    pub(crate) async fn write_catalog(&self) -> WriteOutcome {
        let lister = self.lister();
        lister.fetch().await;
        let catalog = lister.inner.catalog("compact").await.unwrap();
        let metrics = SyncMetrics::new(&Registry::new()).unwrap().catalog();
        CatalogWriter::new(self.plain(), metrics).write(catalog).await.unwrap()
    }

    async fn newest(&self) -> (Path, Vec<u8>) {
        let generations = CatalogStore::new(self.plain()).list().await.unwrap();
        let path = generations.last().unwrap().path();
        let bytes = self.plain().get(&path).await.unwrap().to_vec();
        (path, bytes)
    }

    fn asked(&self) -> ObjectCounts {
        let counts = self.objects.counts();
        self.objects.reset();
        counts
    }
}

const READING: CatalogReading =
    CatalogReading { sync_interval: SYNC, full_interval: FULL, whole_metas: false };

fn location(meta: &BlockMeta) -> BlockLocation {
    match meta.format {
        Some(_) => BlockLocation::parquet(&meta.external_labels(), meta.resolution(), meta.ulid),
        None => BlockLocation::tsdb(meta.ulid),
    }
}

fn machine_now() -> i64 {
    let clock = model::SystemClock::new(|span| Box::pin(tokio::time::sleep(span)));
    clock.now().0
}

pub(crate) struct Fetcher {
    inner: MetaFetcher,
    registry: Registry,
}

impl Fetcher {
    fn over(bucket: Bucket, catalog: Option<CatalogReading>) -> Fetcher {
        let registry = Registry::new();
        let settings = FetcherSettings { catalog, ..FetcherSettings::default() };
        let metrics = SyncMetrics::new(&registry).unwrap();
        Fetcher { inner: MetaFetcher::new(bucket, settings, metrics), registry }
    }

    pub(crate) async fn fetch(&self) -> Found {
        Found::of(self.inner.fetch(&[]).await.unwrap())
    }

    fn metric(&self, name: &str) -> f64 {
        let families = self.registry.gather();
        let family = families.iter().find(|f| f.name() == name).unwrap();
        let all = family.get_metric().iter();
        all.map(|m| m.get_counter().get_value() + m.get_gauge().get_value()).sum()
    }
}

/// What matters of a sync: the blocks with their metas and marks.
#[derive(Debug, PartialEq)]
pub(crate) struct Found {
    blocks: Vec<(BlockLocation, String, Option<DeletionMark>, Option<u64>)>,
    partial: Vec<BlockLocation>,
}

impl Found {
    fn of(synced: Synced) -> Found {
        assert!(synced.unseen.is_empty() && synced.broken.is_empty(), "{synced:?}");
        let blocks = synced.blocks.into_iter().map(|block| {
            // sources may be left out
            let mut meta = BlockMeta::clone(&block.meta);
            meta.compaction = Compaction::default();
            meta.compaction.sources = vec![meta.ulid];
            let text = String::from_utf8(meta.to_json()).unwrap();
            let tombstones = block.tombstones.map(|tombstones| tombstones.size);
            (block.location, text, block.deletion_mark, tombstones)
        });
        let mut blocks: Vec<_> = blocks.collect();
        blocks.sort_by(|a, b| a.0.cmp(&b.0));
        let partial = synced.partial.into_iter().map(|partial| partial.location);
        Found { blocks, partial: partial.collect() }
    }

    pub(crate) fn ids(&self) -> Vec<BlockId> {
        self.blocks.iter().map(|(location, ..)| location.id()).collect()
    }
}

fn requests(counts: ObjectCounts) -> u64 {
    counts.lists + counts.gets + counts.heads
}

#[tokio::test]
async fn a_start_takes_few_requests_whatever_the_bucket_holds() {
    let world = World::new();
    for n in 1..=300 {
        world.put(&meta(n, &[n, 1000 + n, 2000 + n])).await;
    }
    let parquet = world.put(&coarse(400)).await;
    let mark = DeletionMark::new(id(7), world.clock.now(), "old");
    mark.write(&world.plain(), &BlockLocation::tsdb(id(7))).await.unwrap();
    world.plain().put(&BlockLocation::tsdb(id(8)).tombstones(), vec![0; 30].into()).await.unwrap();
    world.plain().put(&BlockLocation::tsdb(id(9000)).index(), "i".into()).await.unwrap();
    world.write_catalog().await;
    world.asked();

    let (reader, lister) = (world.reader(), world.lister());
    let found = reader.fetch().await;
    let at_start = world.asked();
    assert!(requests(at_start) <= 5, "{at_start:?}");
    assert_eq!(found, lister.fetch().await);
    assert_eq!(found.ids().len(), 301);
    assert!(found.blocks.iter().any(|(location, ..)| *location == parquet));
    assert_eq!((found.blocks[6].2.as_ref(), found.blocks[7].3), (Some(&mark), Some(30)));
    assert_eq!(found.partial, [BlockLocation::tsdb(id(9000))]);

    world.asked();
    world.pass(Duration::from_secs(60));
    assert_eq!(reader.fetch().await, found);
    let without_news = world.asked();
    assert!(requests(without_news) <= 2, "{without_news:?}");
    world.pass(Duration::from_secs(60));
    world.write_catalog().await;
    world.asked();
    assert_eq!(reader.fetch().await, found);
    let newer = world.asked();
    assert!(requests(newer) <= 2, "{newer:?}");
    assert_eq!(reader.metric("drumlin_catalog_full_listings_total"), 0.0);
    assert_eq!(reader.metric("drumlin_catalog_rebuilds_total"), 0.0);
}

#[tokio::test]
async fn without_a_catalog_a_start_takes_a_request_a_block() {
    let world = World::new();
    for n in 1..=300 {
        world.put(&meta(n, &[n])).await;
    }
    world.asked();
    let reader = world.reader();
    assert_eq!(reader.fetch().await.ids().len(), 300);
    let counts = world.asked();
    assert!(requests(counts) <= 302, "{counts:?}");
    // what was read is not read again, and new folders alone are looked at
    world.pass(SYNC);
    world.put(&meta(301, &[301])).await;
    world.asked();
    assert_eq!(reader.fetch().await.ids().len(), 301);
    let counts = world.asked();
    assert!(requests(counts) <= 4, "{counts:?}");
}

#[tokio::test]
async fn what_others_change_is_seen_in_time() {
    let world = World::new();
    for n in 1..=3 {
        world.put(&meta(n, &[n])).await;
    }
    world.write_catalog().await;
    let reader = world.reader();
    assert_eq!(reader.fetch().await.ids(), [id(1), id(2), id(3)]);
    // an upload is seen by the next sync, although nobody writes the catalog any more
    world.put(&meta(4, &[4])).await;
    world.put(&coarse(5)).await;
    world.remove(&BlockLocation::tsdb(id(1))).await;
    world.pass(SYNC);
    assert_eq!(reader.fetch().await.ids(), [id(2), id(3), id(4), id(5)]);
    // a mark by the next full look
    let mark = DeletionMark::new(id(2), world.clock.now(), "old");
    mark.write(&world.plain(), &BlockLocation::tsdb(id(2))).await.unwrap();
    world.pass(SYNC);
    assert_eq!(reader.fetch().await.blocks[0].2, Some(mark));
    assert!(reader.metric("drumlin_catalog_full_listings_total") >= 1.0);
}

/// An upload that was under way when its folder was seen first.
#[tokio::test]
async fn a_block_without_a_meta_is_looked_at_again() {
    let world = World::new();
    world.put(&meta(1, &[1])).await;
    let late = meta(2, &[2]);
    world.plain().put(&location(&late).index(), "i".into()).await.unwrap();
    world.write_catalog().await;
    let reader = world.reader();
    assert_eq!(reader.fetch().await.ids(), [id(1)]);
    world.put(&late).await;
    world.pass(SYNC);
    assert_eq!(reader.fetch().await.ids(), [id(1), id(2)]);
}

#[tokio::test]
async fn damaged_catalogs_are_replaced_by_a_listing() {
    type Change = fn(Vec<u8>) -> Vec<u8>;
    let damages: [(&str, Change); 4] = [
        ("cut", |mut bytes| {
            bytes.truncate(bytes.len() / 2);
            bytes
        }),
        ("flipped", |mut bytes| {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 4;
            bytes
        }),
        ("empty", |_| Vec::new()),
        ("of another text", |_| zstd::encode_all(&b"{}\n"[..], 1).unwrap()),
    ];
    for (what, change) in damages {
        let world = World::new();
        for n in 1..=3 {
            world.put(&meta(n, &[n])).await;
        }
        world.write_catalog().await;
        let (path, bytes) = world.newest().await;
        world.plain().put(&path, change(bytes).into()).await.unwrap();
        let reader = world.reader();
        assert_eq!(reader.fetch().await, world.lister().fetch().await, "{what}");
        assert_eq!(reader.metric("drumlin_catalog_rebuilds_total"), 1.0, "{what}");
        assert_eq!(reader.metric("drumlin_catalog_full_listings_total"), 1.0, "{what}");
        // it is not read again, and the next one that is written is
        world.asked();
        reader.fetch().await;
        assert_eq!(world.asked().gets, 0, "{what}");
        world.pass(Duration::from_secs(60));
        world.write_catalog().await;
        world.asked();
        reader.fetch().await;
        assert_eq!(world.asked().gets, 1, "{what}");
        assert_eq!(reader.metric("drumlin_catalog_rebuilds_total"), 1.0, "{what}");
    }
}

/// Where listings and look-ups tell different versions of an object.
#[tokio::test]
async fn a_folder_is_a_bucket_like_any_other() {
    let folder = tempfile::tempdir().unwrap();
    let yaml = format!("type: FILESYSTEM\nconfig: {{directory: {}}}\n", folder.path().display());
    let config = ObjectStoreConfig::parse(&yaml, &Environment::new()).unwrap();
    let world = World::over(config.build_store().unwrap());
    for n in 1..=20 {
        world.put(&meta(n, &[n])).await;
    }
    world.write_catalog().await;
    world.asked();
    let reader = world.reader();
    assert_eq!(reader.fetch().await.ids().len(), 20);
    let counts = world.asked();
    assert!(requests(counts) <= 5, "{counts:?}");
    assert_eq!(reader.metric("drumlin_catalog_rebuilds_total"), 0.0);
}

/// A catalog that was copied from another bucket names blocks that are not here, and other blocks.
#[tokio::test]
async fn a_catalog_of_another_bucket_is_not_believed() {
    let (world, other) = (World::new(), World::new());
    for n in 1..=3 {
        world.put(&meta(n, &[n])).await;
        other.put(&meta(10 + n, &[n])).await;
    }
    let mut same = meta(1, &[1]);
    same.thanos.as_mut().unwrap().labels.insert("cluster".into(), "elsewhere".into());
    other.put(&same).await;
    other.write_catalog().await;
    let (path, bytes) = other.newest().await;
    world.plain().put(&path, bytes.into()).await.unwrap();
    let reader = world.reader();
    assert_eq!(reader.fetch().await, world.lister().fetch().await);
    assert_eq!(reader.metric("drumlin_catalog_rebuilds_total"), 1.0);
}

/// A catalog says nothing of a newer time than its listing.
#[tokio::test]
async fn an_old_catalog_is_no_more_than_a_start() {
    let world = World::new();
    for n in 1..=3 {
        world.put(&meta(n, &[n])).await;
    }
    world.write_catalog().await;
    world.remove(&BlockLocation::tsdb(id(2))).await;
    world.put(&meta(4, &[4])).await;
    world.pass(Duration::from_secs(3600));
    let reader = world.reader();
    world.asked();
    assert_eq!(reader.fetch().await, world.lister().fetch().await);
    assert_eq!(reader.metric("drumlin_catalog_full_listings_total"), 1.0);
}

#[tokio::test]
async fn an_empty_catalog_is_not_believed() {
    let world = World::new();
    world.write_catalog().await;
    world.put(&meta(1, &[1])).await;
    assert_eq!(world.reader().fetch().await.ids(), [id(1)]);
}

#[tokio::test]
async fn a_block_that_is_gone_goes_at_once_and_one_that_fails_stays() {
    let world = World::new();
    let [gone, stays] = [1, 2].map(|n| BlockLocation::tsdb(id(n)));
    for n in 1..=3 {
        world.put(&meta(n, &[n])).await;
    }
    world.write_catalog().await;
    let failed = stays.dir().to_string();
    let reader = world.failing_reader(FaultPlan::new(move |call| {
        let is_looked_at = call.op == Op::List && call.key.starts_with(&failed);
        is_looked_at.then_some(Fault::Unavailable)
    }));
    assert_eq!(reader.fetch().await.ids().len(), 3);
    world.remove(&gone).await;
    world.asked();
    // what a request does that misses a file
    reader.inner.doubt(&gone);
    reader.inner.doubt(&stays);
    assert_eq!(reader.fetch().await.ids(), [id(2), id(3)]);
    assert_eq!(reader.metric("drumlin_catalog_full_listings_total"), 0.0);
    // it is not looked at again and again
    world.asked();
    reader.inner.doubt(&BlockLocation::tsdb(id(3)));
    reader.fetch().await;
    let first = requests(world.asked());
    reader.inner.doubt(&BlockLocation::tsdb(id(3)));
    reader.fetch().await;
    assert!(requests(world.asked()) < first, "{first}");
}

/// Sources that the catalog leaves out are fetched where a block that it does not know may cover.
#[tokio::test]
async fn new_blocks_cover_those_of_the_catalog() {
    let world = World::new();
    world.put(&meta(1, &[11, 12, 13])).await;
    world.write_catalog().await;
    let reader = world.reader();
    let mut covering = meta(2, &[10, 11, 12, 13]);
    (covering.min_time, covering.max_time) = (0, 7_200_000 * 4);
    assert_eq!(reader.fetch().await.ids(), [id(1)]);
    world.put(&covering).await;
    world.pass(SYNC);
    let synced = reader.inner.fetch(&[&Deduplicate]).await.unwrap();
    let left: Vec<BlockId> = synced.blocks.iter().map(|block| block.id()).collect();
    assert_eq!(left, [id(2)]);
    assert_eq!(synced.duplicates[0].id(), id(1));
}

#[tokio::test]
async fn writers_of_the_same_number_are_both_read() {
    let world = World::new();
    world.put(&meta(1, &[1])).await;
    world.write_catalog().await;
    let (first, bytes) = world.newest().await;
    world.plain().delete(&first).await.unwrap();
    world.put(&meta(2, &[2])).await;
    world.pass(Duration::from_secs(1));
    world.write_catalog().await;
    world.plain().put(&first, bytes.into()).await.unwrap();
    let generations = CatalogStore::new(world.plain()).list().await.unwrap();
    assert_eq!(generations.iter().map(|g| g.sequence).collect::<Vec<_>>(), [1, 1]);
    let reader = world.reader();
    assert_eq!(reader.fetch().await.ids(), [id(1), id(2)]);
    assert_eq!(reader.metric("drumlin_catalog_full_listings_total"), 0.0);
    assert!(first.to_string().starts_with(CATALOG_ROOT));
}
