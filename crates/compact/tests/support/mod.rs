//! A bucket in memory filled from `synthetic`, and what tests ask about it.

pub(crate) mod turns;

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use block::marker::DeletionMark;
use block::object_store::memory::InMemory;
use block::object_store::path::Path;
use block::object_store::{ObjectStore, ObjectStoreExt};
use block::reader::{BlockReader, HeaderCache, ReaderSettings, SeriesQuery};
use block::sync::{FetcherSettings, Filter, MetaFetcher, Synced};
use block::{BlockLocation, Bucket, BucketMetrics, BucketSettings, SyncMetrics};
use compact::{Compactor, Settings};
use futures::TryStreamExt;
use model::{BlockId, Budget, Clock, Matcher, Resolution, TimeRange, TimestampMs};
use prometheus::Registry;
use synthetic::Fleet;
use testkit::{CountingObjects, FailingObjects, FaultPlan};
use tsdb::block_builder::BlockFiles;
use tsdb::index::Index;
use tsdb::meta::BlockMeta;
use tsdb::tombstones::{Interval, Tombstones};

pub(crate) const HOUR_MS: i64 = 3_600_000;

/// A clock that stands still until it is moved; sleeping takes no time.
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

/// Live samples by time and by series, whose labels include the external ones except `replica`;
/// values as bits.
pub(crate) type Samples = BTreeMap<(String, i64), u64>;

/// What a downsampled block stands for.
#[derive(Clone, Debug)]
pub(crate) struct Copy {
    labels: String,
    resolution: Resolution,
    range: TimeRange,
    format: Option<String>,
}

impl Copy {
    /// `series` begins with the external labels.
    pub(crate) fn covers(&self, resolution: Resolution, series: &str, t: i64) -> bool {
        self.resolution == resolution && series.starts_with(&self.labels) && self.range.contains(t)
    }

    /// Whether stores of the previous release read it.
    pub(crate) fn is_common(&self) -> bool {
        self.format.as_deref().is_none_or(|format| format == "parquet/1")
    }
}

#[derive(Clone)]
pub(crate) struct World {
    store: Arc<dyn ObjectStore>,
    clock: Arc<StillClock>,
}

impl World {
    /// Two clusters of `replicas` each; it is an hour after the last block.
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
        World {
            store: Arc::new(store),
            clock: Arc::new(StillClock(AtomicI64::new(range.end + HOUR_MS))),
        }
    }

    /// An empty bucket at time zero.
    pub(crate) fn empty() -> World {
        World { store: Arc::new(InMemory::new()), clock: Arc::new(StillClock(AtomicI64::new(0))) }
    }

    /// Everything in a local folder at a given time.
    pub(crate) async fn of_whole_folder(folder: &std::path::Path, now_ms: i64) -> World {
        let store = InMemory::new();
        copy_folder(folder, folder, &store).await;
        World { store: Arc::new(store), clock: Arc::new(StillClock(AtomicI64::new(now_ms))) }
    }

    /// Some blocks of a local folder; it is a day after the last one.
    pub(crate) async fn of_folder(folder: &std::path::Path, ids: &[&str]) -> World {
        let store = InMemory::new();
        for id in ids {
            copy_folder(folder, &folder.join(id), &store).await;
        }
        let world =
            World { store: Arc::new(store), clock: Arc::new(StillClock(AtomicI64::new(0))) };
        let end = world.live().await.values().map(|m| m.max_time).max().unwrap_or(0);
        world.clock.0.store(end + 24 * HOUR_MS, Ordering::Relaxed);
        world
    }

    /// The only live block of a resolution.
    pub(crate) async fn downsampled(&self, resolution: Resolution) -> BlockMeta {
        let mut found: Vec<_> =
            self.live().await.into_values().filter(|m| m.resolution() == resolution).collect();
        assert_eq!(found.len(), 1, "{resolution}");
        found.remove(0)
    }

    pub(crate) async fn bytes(&self, path: &str) -> Vec<u8> {
        self.store.get(&Path::from(path)).await.unwrap().bytes().await.unwrap().to_vec()
    }

    /// A copy of the same bucket.
    pub(crate) async fn copied(&self) -> World {
        let copy = InMemory::new();
        for path in self.paths().await {
            let bytes = self.store.get(&path).await.unwrap().bytes().await.unwrap();
            copy.put(&path, bytes.into()).await.unwrap();
        }
        World {
            store: Arc::new(copy),
            clock: Arc::new(StillClock(AtomicI64::new(self.clock.now().0))),
        }
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

    /// A compactor whose requests fail as planned.
    pub(crate) fn compactor_under(&self, plan: FaultPlan, settings: Settings) -> Compactor {
        let failing = Arc::new(FailingObjects::new(Arc::clone(&self.store), plan));
        self.compactor_over(failing, settings)
    }

    /// What a process finds that reads these formats.
    pub(crate) async fn synced(
        &self,
        formats: &'static [&'static str],
        filters: &[&dyn Filter],
    ) -> Synced {
        let settings = FetcherSettings { formats: Some(formats), ..FetcherSettings::default() };
        let metrics = SyncMetrics::new(&Registry::new()).unwrap();
        let fetcher = MetaFetcher::new(self.bucket(Arc::clone(&self.store)), settings, metrics);
        fetcher.fetch(filters).await.unwrap()
    }

    /// Runs with faults; the run may fail.
    pub(crate) async fn run_with(&self, plan: FaultPlan) {
        // the caller checks what a run with faults leaves
        let _ = self.compactor_under(plan, Settings::default()).run_once().await;
    }

    /// Runs without faults; returns how many operations it took.
    pub(crate) async fn run_counting(&self) -> u64 {
        let plan = FaultPlan::none();
        self.run_with(plan.clone()).await;
        plan.calls()
    }

    /// Runs without faults; returns how many times it listed the bucket or a part of it.
    pub(crate) async fn run_counting_listings(&self, settings: Settings) -> u64 {
        let counting = Arc::new(CountingObjects::new(Arc::clone(&self.store)));
        self.compactor_over(Arc::clone(&counting) as Arc<dyn ObjectStore>, settings)
            .run_once()
            .await
            .unwrap();
        counting.counts().lists
    }

    /// Runs, perhaps with faults.
    pub(crate) async fn run_under(
        &self,
        plan: FaultPlan,
        settings: Settings,
    ) -> compact::Result<()> {
        self.compactor_under(plan, settings).run_once().await
    }

    pub(crate) fn now(&self) -> i64 {
        self.clock.now().0
    }

    /// Moves the clock forward to a time, never back.
    pub(crate) fn reach(&self, now_ms: i64) {
        self.clock.0.fetch_max(now_ms, Ordering::Relaxed);
    }

    pub(crate) async fn upload(&self, files: &BlockFiles) {
        let id = files.meta.ulid;
        for (i, segment) in files.segments.iter().enumerate() {
            self.put_bytes(&format!("{id}/chunks/{:06}", i + 1), segment.clone()).await;
        }
        self.put_bytes(&format!("{id}/index"), files.index.clone()).await;
        self.put_bytes(&format!("{id}/meta.json"), files.meta.to_json()).await;
    }

    pub(crate) async fn put_bytes(&self, path: &str, bytes: Vec<u8>) {
        self.store.put(&Path::from(path), bytes.into()).await.unwrap();
    }

    pub(crate) async fn delete(&self, path: &str) {
        self.store.delete(&Path::from(path)).await.unwrap();
    }

    pub(crate) async fn mark(&self, folder: &str) {
        let id = folder.rsplit('/').next().unwrap().parse().unwrap();
        let mark = DeletionMark::new(id, self.clock.now(), "by hand");
        let bytes = tsdb::meta::to_marker_json(&mark);
        self.put_bytes(&format!("{folder}/deletion-mark.json"), bytes).await;
    }

    pub(crate) async fn unmark(&self, folder: &str) {
        self.store.delete(&Path::from(format!("{folder}/deletion-mark.json"))).await.unwrap();
    }

    /// Deletes a span of one series of a block; returns which live samples those are.
    pub(crate) async fn add_tombstones(
        &self,
        meta: &BlockMeta,
        name: &str,
        interval: Interval,
    ) -> Vec<(String, i64)> {
        let path = format!("{}/tombstones", meta.ulid);
        let mut tombstones = match self.exists(&path).await {
            true => Tombstones::parse(&self.bytes(&path).await).unwrap(),
            false => Tombstones::default(),
        };
        let index = Index::open(self.bytes(&format!("{}/index", meta.ulid)).await.into()).unwrap();
        let ids = index.postings(&[Matcher::equal("__name__", name)]).unwrap();
        for id in ids {
            tombstones.add(u64::from(id), interval);
        }
        self.put_bytes(&path, tombstones.to_bytes()).await;
        let contents = self.contents().await;
        let series = shown(&model::Labels::from_pairs([("__name__", name)]), meta);
        let mut deleted = Vec::new();
        for t in interval.min_time..=interval.max_time {
            // the sample may also be in another block, and may be removed with it
            let key = (series.clone(), t);
            if contents.contains_key(&key) || t % 1000 == 0 {
                deleted.push(key);
            }
        }
        deleted
    }

    /// Every sample of every live raw block.
    pub(crate) async fn contents(&self) -> Samples {
        let mut samples = Samples::new();
        let is_raw = |m: &BlockMeta| m.resolution() == Resolution::Raw && m.format.is_none();
        for meta in self.live().await.into_values().filter(is_raw) {
            for (labels, t, value) in self.samples_of(&meta).await {
                samples.insert((shown(&labels, &meta), t), value.to_bits());
            }
        }
        samples
    }

    /// Every sample of one block, without those deleted.
    pub(crate) async fn samples_of(&self, meta: &BlockMeta) -> Vec<(model::Labels, i64, f64)> {
        let bucket = self.bucket(Arc::clone(&self.store));
        let headers = HeaderCache::new(1 << 20);
        let mut reader = BlockReader::new(
            bucket.clone(),
            Arc::new(meta.clone()),
            headers,
            ReaderSettings::default(),
        );
        if let Some(loaded) =
            block::load_tombstones(&bucket, &BlockLocation::tsdb(meta.ulid), &Budget::unlimited())
                .await
                .unwrap()
        {
            reader = reader.deleting(loaded.tombstones);
        }
        let mut samples = Vec::new();
        let mut batches = reader.series(SeriesQuery::all());
        while let Some(batch) = batches.try_next().await.unwrap() {
            assert!(batch.errors.is_empty(), "{:?}", batch.errors);
            for series in batch.series {
                for chunk in series.chunks {
                    let (mut ts, mut values) = (Vec::new(), Vec::new());
                    tsdb::chunk::decode_floats(chunk.encoding, &chunk.data, &mut ts, &mut values)
                        .unwrap();
                    samples.extend(
                        ts.into_iter().zip(values).map(|(t, v)| (series.labels.clone(), t, v)),
                    );
                }
            }
        }
        samples
    }

    /// The downsampled blocks that are live.
    pub(crate) async fn copies(&self) -> Vec<Copy> {
        let live = self.live().await.into_values().filter(|m| m.resolution() != Resolution::Raw);
        let copy = |m: BlockMeta| Copy {
            labels: external(&m),
            resolution: m.resolution(),
            range: m.range(),
            format: m.format,
        };
        live.map(copy).collect()
    }

    /// Every block that is marked for deletion and still whole, by the path of its folder.
    pub(crate) async fn marked_blocks(&self) -> BTreeMap<String, BlockMeta> {
        let mut marked = BTreeMap::new();
        for folder in self.marked().await {
            if self.exists(&format!("{folder}/meta.json")).await {
                let meta = BlockMeta::from_json(&self.bytes(&format!("{folder}/meta.json")).await)
                    .unwrap();
                marked.insert(folder, meta);
            }
        }
        marked
    }

    pub(crate) fn advance(&self, span: Duration) {
        self.clock.0.fetch_add(span.as_millis() as i64, Ordering::Relaxed);
    }

    /// Moves the clock to `span` after now, the time that the store gives its objects.
    pub(crate) fn advance_past_uploads(&self, span: Duration) {
        let stamped = model::SystemClock::new(|_| Box::pin(std::future::ready(()))).now().0;
        self.clock.0.store(stamped + span.as_millis() as i64, Ordering::Relaxed);
    }

    async fn paths(&self) -> Vec<Path> {
        let mut paths: Vec<Path> =
            self.store.list(None).map_ok(|o| o.location).try_collect().await.unwrap();
        paths.sort();
        paths
    }

    pub(crate) async fn paths_below(&self, folder: &str) -> Vec<String> {
        let paths = self.paths().await.into_iter().map(|path| path.to_string());
        paths.filter(|path| path.starts_with(&format!("{folder}/"))).collect()
    }

    /// Every block that is not marked for deletion, by the path of its folder.
    pub(crate) async fn live(&self) -> BTreeMap<String, BlockMeta> {
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
            let folder =
                live.keys().find(|folder| path.as_ref().starts_with(&format!("{folder}/")));
            if folder.is_some() {
                let bytes = self.store.get(&path).await.unwrap().bytes().await.unwrap();
                state.insert(
                    path.to_string(),
                    model::Labels::from_pairs([("bytes", &bytes[..])]).hash64(),
                );
            }
        }
        state
    }

    /// Samples per series with its external labels, over all live raw blocks.
    pub(crate) async fn samples(&self) -> BTreeMap<String, u64> {
        let bucket = self.bucket(Arc::clone(&self.store));
        let mut samples = BTreeMap::new();
        for meta in self
            .live()
            .await
            .into_values()
            .filter(|m| m.resolution() == Resolution::Raw && m.format.is_none())
        {
            let external = meta.external_labels();
            let headers = HeaderCache::new(1 << 20);
            let reader = BlockReader::new(
                bucket.clone(),
                Arc::new(meta),
                headers,
                ReaderSettings::default(),
            );
            let mut batches = reader.series(SeriesQuery::all());
            while let Some(batch) = batches.try_next().await.unwrap() {
                assert!(batch.errors.is_empty(), "{:?}", batch.errors);
                for series in batch.series {
                    let count = |c: &block::reader::BlockChunk| {
                        tsdb::chunk::num_samples(c.encoding, &c.data).unwrap()
                    };
                    let n: usize = series.chunks.iter().map(count).sum();
                    *samples.entry(series.labels.overlaid(&external).to_string()).or_default() +=
                        n as u64;
                }
            }
        }
        samples
    }

    /// The raw blocks of one server, oldest first.
    pub(crate) async fn blocks_of(&self, cluster: &str, replica: &str) -> Vec<BlockId> {
        let labels = model::Labels::from_pairs([("cluster", cluster), ("replica", replica)]);
        let mut metas: Vec<_> =
            self.live().await.into_values().filter(|m| m.external_labels() == labels).collect();
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
        paths
            .iter()
            .map(|p| p.to_string())
            .filter(|p| p.starts_with(&format!("{folder}/")))
            .collect()
    }
}

/// The external labels that replicas share.
fn external(meta: &BlockMeta) -> String {
    meta.external_labels().without(&["replica".to_owned()]).to_string()
}

fn shown(labels: &model::Labels, meta: &BlockMeta) -> String {
    format!("{}{labels}", external(meta))
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
        let all = blocks
            .raw
            .values_mut()
            .chain(blocks.parquet.values_mut())
            .chain(blocks.thanos.values_mut());
        all.for_each(|spans| spans.sort_by_key(|r| r.start));
        blocks
    }

    pub(crate) fn raw_spans_hours(&self, cluster: &str, replica: &str) -> Vec<i64> {
        self.raw[&labels(cluster, replica)].iter().map(|r| r.duration_ms() / HOUR_MS).collect()
    }

    pub(crate) fn copies(
        &self,
        cluster: &str,
        replica: &str,
        resolution: Resolution,
    ) -> Vec<TimeRange> {
        self.parquet.get(&(labels(cluster, replica), resolution)).cloned().unwrap_or_default()
    }

    pub(crate) fn thanos_copies(
        &self,
        cluster: &str,
        replica: &str,
        resolution: Resolution,
    ) -> Vec<TimeRange> {
        self.thanos.get(&(labels(cluster, replica), resolution)).cloned().unwrap_or_default()
    }
}

fn labels(cluster: &str, replica: &str) -> String {
    format!("{{cluster=\"{cluster}\", replica=\"{replica}\"}}")
}
