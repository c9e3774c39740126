//! A bucket in memory filled from `synthetic`, and what tests ask about it.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use block::object_store::memory::InMemory;
use block::object_store::path::Path;
use block::object_store::{ObjectStore, ObjectStoreExt};
use block::reader::{BlockReader, HeaderCache, ReaderSettings, SeriesQuery};
use block::{Bucket, BucketMetrics, BucketSettings};
use compact::{Compactor, Settings};
use futures::TryStreamExt;
use model::{BlockId, Clock, Resolution, TimeRange, TimestampMs};
use prometheus::Registry;
use synthetic::Fleet;
use testkit::{CountingStore, FailingStore, FaultPlan};
use tsdb::meta::BlockMeta;

pub(crate) const HOUR_MS: i64 = 3_600_000;

/// Stands still until told otherwise; sleeping takes no time.
#[derive(Debug)]
struct StillClock(AtomicI64);

impl Clock for StillClock {
    fn now(&self) -> TimestampMs {
        TimestampMs(self.0.load(Ordering::Relaxed))
    }

    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }

    fn sleep(&self, _: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(std::future::ready(()))
    }
}

pub(crate) struct World {
    store: Arc<dyn ObjectStore>,
    clock: Arc<StillClock>,
}

impl World {
    /// Two clusters of `replicas` each; time stands an hour after the last block.
    pub(crate) async fn with_days(days: i64, replicas: usize) -> World {
        let range = TimeRange::new(0, days * 24 * HOUR_MS);
        let mut settings = synthetic::Settings::kubernetes(7, range);
        settings.scrape_interval_ms = 600_000;
        settings.replicas.truncate(replicas);
        let folder = tempfile::tempdir().unwrap();
        let fleet = Fleet::new(settings).unwrap();
        for replica in fleet.replicas() {
            testkit::write_fleet(folder.path(), &fleet, replica);
        }
        let store = InMemory::new();
        copy_folder(folder.path(), folder.path(), &store).await;
        World { store: Arc::new(store), clock: Arc::new(StillClock(AtomicI64::new(range.end + HOUR_MS))) }
    }

    /// Some blocks of a local folder; time stands a day after the last.
    pub(crate) async fn of_folder(folder: &std::path::Path, ids: &[&str]) -> World {
        let store = InMemory::new();
        for id in ids {
            copy_folder(folder, &folder.join(id), &store).await;
        }
        let world = World { store: Arc::new(store), clock: Arc::new(StillClock(AtomicI64::new(0))) };
        let end = world.live().await.values().map(|m| m.max_time).max().unwrap_or(0);
        world.clock.0.store(end + 24 * HOUR_MS, Ordering::Relaxed);
        world
    }

    /// The only live block of a resolution.
    pub(crate) async fn downsampled(&self, resolution: Resolution) -> BlockMeta {
        let mut found: Vec<_> = self.live().await.into_values().filter(|m| m.resolution() == resolution).collect();
        assert_eq!(found.len(), 1, "{resolution}");
        found.remove(0)
    }

    pub(crate) async fn bytes(&self, path: &str) -> Vec<u8> {
        self.store.get(&Path::from(path)).await.unwrap().bytes().await.unwrap().to_vec()
    }

    /// The same bucket once more.
    pub(crate) async fn copied(&self) -> World {
        let copy = InMemory::new();
        for path in self.paths().await {
            let bytes = self.store.get(&path).await.unwrap().bytes().await.unwrap();
            copy.put(&path, bytes.into()).await.unwrap();
        }
        World { store: Arc::new(copy), clock: Arc::new(StillClock(AtomicI64::new(self.clock.now().0))) }
    }

    fn bucket(&self, store: Arc<dyn ObjectStore>) -> Bucket {
        let metrics = BucketMetrics::new(&Registry::new()).unwrap();
        let settings = BucketSettings { part_size: 64 << 10, ..BucketSettings::default() };
        Bucket::new(store, settings, metrics, self.clock.clone())
    }

    pub(crate) fn compactor(&self, settings: Settings) -> Compactor {
        self.compactor_over(Arc::clone(&self.store), settings)
    }

    fn compactor_over(&self, store: Arc<dyn ObjectStore>, settings: Settings) -> Compactor {
        Compactor::new(self.bucket(store), settings, self.clock.clone(), &Registry::new()).unwrap()
    }

    /// A run that meets faults; it may fail.
    pub(crate) async fn run_with(&self, plan: FaultPlan) {
        let failing = Arc::new(FailingStore::new(Arc::clone(&self.store), plan));
        // what becomes of a run that meets faults is what the caller asks
        let _ = self.compactor_over(failing, Settings::default()).run_once().await;
    }

    /// A run that goes well; how many operations it took.
    pub(crate) async fn run_counting(&self) -> u64 {
        let plan = FaultPlan::none();
        self.run_with(plan.clone()).await;
        plan.calls()
    }

    /// A run that goes well; how many times it listed the bucket or a part of it.
    pub(crate) async fn run_counting_listings(&self, settings: Settings) -> u64 {
        let counting = Arc::new(CountingStore::new(Arc::clone(&self.store)));
        self.compactor_over(Arc::clone(&counting) as Arc<dyn ObjectStore>, settings).run_once().await.unwrap();
        counting.counts().lists
    }

    pub(crate) fn advance(&self, span: Duration) {
        self.clock.0.fetch_add(span.as_millis() as i64, Ordering::Relaxed);
    }

    /// Moves on to `span` after now as the store stamps its objects.
    pub(crate) fn advance_past_uploads(&self, span: Duration) {
        let stamped = model::SystemClock::new(|_| Box::pin(std::future::ready(()))).now().0;
        self.clock.0.store(stamped + span.as_millis() as i64, Ordering::Relaxed);
    }

    async fn paths(&self) -> Vec<Path> {
        let mut paths: Vec<Path> = self.store.list(None).map_ok(|o| o.location).try_collect().await.unwrap();
        paths.sort();
        paths
    }

    /// Every block that is not marked for deletion, by the path of its folder.
    async fn live(&self) -> BTreeMap<String, BlockMeta> {
        let paths = self.paths().await;
        let mut live = BTreeMap::new();
        for path in paths.iter().filter(|p| p.filename() == Some("meta.json")) {
            let folder = path.as_ref().trim_end_matches("/meta.json").to_owned();
            if paths.iter().any(|p| p.as_ref() == format!("{folder}/deletion-mark.json")) {
                continue;
            }
            let bytes = self.store.get(path).await.unwrap().bytes().await.unwrap();
            if let Ok(meta) = BlockMeta::from_json(&bytes) {
                live.insert(folder, meta);
            }
        }
        live
    }

    /// All bytes of all live blocks, hashed.
    pub(crate) async fn state(&self) -> BTreeMap<String, u64> {
        let live = self.live().await;
        let mut state = BTreeMap::new();
        for path in self.paths().await {
            let folder = live.keys().find(|folder| path.as_ref().starts_with(&format!("{folder}/")));
            if folder.is_some() {
                let bytes = self.store.get(&path).await.unwrap().bytes().await.unwrap();
                state.insert(path.to_string(), model::Labels::from_pairs([("bytes", &bytes[..])]).hash64());
            }
        }
        state
    }

    /// Samples per series with its external labels, over all live raw blocks.
    pub(crate) async fn samples(&self) -> BTreeMap<String, u64> {
        let bucket = self.bucket(Arc::clone(&self.store));
        let mut samples = BTreeMap::new();
        for meta in self.live().await.into_values().filter(|m| m.resolution() == Resolution::Raw && m.format.is_none())
        {
            let external = meta.external_labels();
            let headers = HeaderCache::new(1 << 20);
            let reader = BlockReader::new(bucket.clone(), Arc::new(meta), headers, ReaderSettings::default());
            let mut batches = reader.series(SeriesQuery::all());
            while let Some(batch) = batches.try_next().await.unwrap() {
                assert!(batch.errors.is_empty(), "{:?}", batch.errors);
                for series in batch.series {
                    let count = |c: &block::reader::BlockChunk| tsdb::chunk::num_samples(c.encoding, &c.data).unwrap();
                    let n: usize = series.chunks.iter().map(count).sum();
                    *samples.entry(series.labels.overlaid(&external).to_string()).or_default() += n as u64;
                }
            }
        }
        samples
    }

    /// The raw blocks of one server, oldest first.
    pub(crate) async fn blocks_of(&self, cluster: &str, replica: &str) -> Vec<BlockId> {
        let labels = model::Labels::from_pairs([("cluster", cluster), ("replica", replica)]);
        let mut metas: Vec<_> = self.live().await.into_values().filter(|m| m.external_labels() == labels).collect();
        metas.sort_by_key(|m| m.min_time);
        metas.iter().map(|m| m.ulid).collect()
    }

    /// Flips bits in the middle of an object.
    pub(crate) async fn corrupt(&self, path: &str) {
        let path = Path::from(path);
        let mut bytes = self.store.get(&path).await.unwrap().bytes().await.unwrap().to_vec();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0xff;
        self.store.put(&path, bytes.into()).await.unwrap();
    }

    pub(crate) async fn put(&self, path: &str, bytes: &'static [u8]) {
        self.store.put(&Path::from(path), bytes.into()).await.unwrap();
    }

    pub(crate) async fn exists(&self, path: &str) -> bool {
        self.store.head(&Path::from(path)).await.is_ok()
    }

    pub(crate) async fn text(&self, path: &str) -> String {
        String::from_utf8(self.bytes(path).await).unwrap()
    }

    /// The ids of blocks marked for deletion.
    pub(crate) async fn marked(&self) -> Vec<String> {
        let paths = self.paths().await;
        let marks = paths.iter().filter(|p| p.filename() == Some("deletion-mark.json"));
        marks.map(|p| p.as_ref().trim_end_matches("/deletion-mark.json").to_owned()).collect()
    }

    pub(crate) async fn objects(&self, folder: &str) -> Vec<String> {
        let paths = self.paths().await;
        paths.iter().map(|p| p.to_string()).filter(|p| p.starts_with(&format!("{folder}/"))).collect()
    }
}

async fn copy_folder(root: &std::path::Path, folder: &std::path::Path, store: &InMemory) {
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let key = Path::from(path.strip_prefix(root).unwrap().to_str().unwrap());
            store.put(&key, std::fs::read(&path).unwrap().into()).await.unwrap();
        }
    }
}

/// The live blocks of a bucket by external labels.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Blocks {
    pub(crate) raw: BTreeMap<String, Vec<TimeRange>>,
    parquet: BTreeMap<(String, Resolution), Vec<TimeRange>>,
    thanos: BTreeMap<(String, Resolution), Vec<TimeRange>>,
}

impl Blocks {
    pub(crate) async fn of(world: &World) -> Blocks {
        let mut blocks = Blocks::default();
        for meta in world.live().await.into_values() {
            let labels = meta.external_labels().to_string();
            let spans = match (meta.resolution(), &meta.format) {
                (Resolution::Raw, _) => blocks.raw.entry(labels).or_default(),
                (resolution, Some(_)) => blocks.parquet.entry((labels, resolution)).or_default(),
                (resolution, None) => blocks.thanos.entry((labels, resolution)).or_default(),
            };
            spans.push(meta.range());
        }
        let all = blocks.raw.values_mut().chain(blocks.parquet.values_mut()).chain(blocks.thanos.values_mut());
        all.for_each(|spans| spans.sort_by_key(|r| r.start));
        blocks
    }

    pub(crate) fn raw_spans_hours(&self, cluster: &str, replica: &str) -> Vec<i64> {
        self.raw[&labels(cluster, replica)].iter().map(|r| r.duration_ms() / HOUR_MS).collect()
    }

    pub(crate) fn copies(&self, cluster: &str, replica: &str, resolution: Resolution) -> Vec<TimeRange> {
        self.parquet.get(&(labels(cluster, replica), resolution)).cloned().unwrap_or_default()
    }

    pub(crate) fn thanos_copies(&self, cluster: &str, replica: &str, resolution: Resolution) -> Vec<TimeRange> {
        self.thanos.get(&(labels(cluster, replica), resolution)).cloned().unwrap_or_default()
    }
}

fn labels(cluster: &str, replica: &str) -> String {
    format!("{{cluster=\"{cluster}\", replica=\"{replica}\"}}")
}
