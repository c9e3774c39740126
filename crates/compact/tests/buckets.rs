//! The compactor over buckets as stores and other clients make them: without create-only writes,
//! and with names that are not paths.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use block::config::{Environment, ObjectStoreConfig};
use block::object_store::memory::InMemory;
use block::object_store::{ObjectStore, ObjectStoreExt};
use block::{BlockLocation, Bucket, BucketMetrics};
use compact::{Compactor, Retention, Settings};
use futures::TryStreamExt;
use http_body_util::BodyExt;
use model::{BlockId, Clock, Resolution, TimeRange, TimestampMs};
use prometheus::Registry;
use synthetic::Fleet;
use testkit::{CreateOnly, ObjectServer, ServerSettings};
use tower::ServiceExt;
use tsdb::meta::BlockMeta;

const DAY_MS: i64 = 24 * 3_600_000;

/// Two days later.
#[derive(Debug)]
struct StillClock;

impl Clock for StillClock {
    fn now(&self) -> TimestampMs {
        TimestampMs(3 * DAY_MS)
    }

    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }

    fn sleep(&self, _: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(std::future::ready(()))
    }
}

/// A day of blocks of two hours, by path.
fn blocks() -> BTreeMap<String, Vec<u8>> {
    let mut settings = synthetic::Settings::kubernetes(7, TimeRange::new(0, DAY_MS));
    settings.scrape_interval_ms = 600_000;
    settings.replicas.truncate(1);
    let folder = tempfile::tempdir().unwrap();
    let fleet = Fleet::new(settings).unwrap();
    testkit::write_fleet(folder.path(), &fleet, &fleet.replicas()[0]);
    let mut files = BTreeMap::new();
    gather(folder.path(), folder.path(), &mut files);
    files
}

fn gather(root: &Path, folder: &Path, files: &mut BTreeMap<String, Vec<u8>>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            gather(root, &path, files);
        } else {
            let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            files.insert(name, std::fs::read(&path).unwrap());
        }
    }
}

struct Served {
    store: Arc<dyn ObjectStore>,
    server: ObjectServer,
    bucket: Bucket,
}

impl Served {
    async fn new(blocks: &BTreeMap<String, Vec<u8>>, create_only: CreateOnly) -> Served {
        let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        for (path, bytes) in blocks {
            store.put(&path.as_str().into(), bytes.clone().into()).await.unwrap();
        }
        let settings = ServerSettings { create_only, page_size: 10, ..ServerSettings::default() };
        let server = ObjectServer::start(Arc::clone(&store), settings).await.unwrap();
        let config = ObjectStoreConfig::parse(&server.s3_config(), &Environment::new()).unwrap();
        let metrics = BucketMetrics::new(&Registry::new()).unwrap();
        let bucket = config.build(metrics, Arc::new(StillClock)).unwrap();
        Served { store, server, bucket }
    }

    async fn compact(&self, settings: Settings) {
        let settings = Settings { consistency_delay: Duration::ZERO, ..settings };
        let bucket = self.bucket.clone();
        let compactor =
            Compactor::new(bucket, settings, Arc::new(StillClock), &Registry::new()).unwrap();
        compactor.run_once().await.unwrap();
    }

    /// Without the catalog, which says when the others were written.
    async fn objects(&self) -> BTreeMap<String, Vec<u8>> {
        let mut objects = BTreeMap::new();
        let listed: Vec<_> = self.store.list(None).try_collect().await.unwrap();
        let is_catalog = |path: &block::Path| path.as_ref().starts_with("catalog/");
        for object in listed.into_iter().filter(|object| !is_catalog(&object.location)) {
            let bytes = self.store.get(&object.location).await.unwrap().bytes().await.unwrap();
            objects.insert(object.location.to_string(), bytes.to_vec());
        }
        objects
    }
}

fn count(objects: &BTreeMap<String, Vec<u8>>, file: &str) -> usize {
    objects.keys().filter(|key| key.ends_with(file)).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_without_create_only_writes_is_compacted_like_any_other() {
    let blocks = blocks();
    let sound = Served::new(&blocks, CreateOnly::Honoured).await;
    sound.compact(Settings::default()).await;
    let expected = sound.objects().await;
    // the newest stretch of a group is left alone
    assert_eq!((count(&expected, "deletion-mark.json"), count(&expected, "/meta.json")), (8, 14));
    for probed in [true, false] {
        for create_only in [
            CreateOnly::Refused(501, "NotImplemented"),
            CreateOnly::Refused(400, "InvalidArgument"),
            CreateOnly::Ignored,
        ] {
            let weak = Served::new(&blocks, create_only).await;
            if probed {
                weak.bucket.probe_create_only().await;
            }
            weak.compact(Settings::default()).await;
            let objects = weak.objects().await;
            let keys =
                |objects: &BTreeMap<String, Vec<u8>>| objects.keys().cloned().collect::<Vec<_>>();
            assert_eq!(keys(&objects), keys(&expected), "{create_only:?}");
            // the clock stands still, so the times in metas and marks are equal too
            assert!(objects == expected, "{create_only:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_are_no_paths_stop_nothing_and_markers_go_with_their_block() {
    let blocks = blocks();
    let clean = Served::new(&blocks, CreateOnly::Honoured).await;
    let at_once = || Settings { delete_delay: Duration::ZERO, ..Settings::default() };
    clean.compact(at_once()).await;
    let expected = clean.objects().await;

    let untidy = Served::new(&blocks, CreateOnly::Honoured).await;
    let sources: Vec<&str> = blocks.keys().filter_map(|key| key.strip_suffix("/index")).collect();
    for source in &sources {
        for marker in ["/", "/chunks/"] {
            untidy.server.put_raw(&format!("{source}{marker}"), b"").await;
        }
    }
    let strangers = ["//", "../x", "a//b", "new\nline", "\u{7}"];
    for key in strangers {
        untidy.server.put_raw(key, b"x").await;
    }
    untidy.compact(at_once()).await;
    assert!(untidy.objects().await == expected);
    let mut left: Vec<String> = strangers.map(str::to_owned).into();
    let (kept, gone): (Vec<&str>, Vec<&str>) =
        sources.into_iter().partition(|source| expected.contains_key(&format!("{source}/index")));
    assert_eq!((kept.len(), gone.len()), (4, 8));
    left.extend(
        kept.iter().flat_map(|source| ["/", "/chunks/"].map(|marker| format!("{source}{marker}"))),
    );
    left.sort();
    assert_eq!(untidy.server.odd_keys().await, left);
}

/// A block that a newer version made of all of these, and marked long ago.
fn of_newer_format(blocks: &BTreeMap<String, Vec<u8>>) -> BTreeMap<String, Vec<u8>> {
    let metas: Vec<BlockMeta> = blocks
        .iter()
        .filter(|(path, _)| path.ends_with("/meta.json"))
        .map(|(_, bytes)| BlockMeta::from_json(bytes).unwrap())
        .collect();
    let id = BlockId::from_parts(DAY_MS.unsigned_abs(), 9);
    let mut meta = BlockMeta {
        ulid: id,
        max_time: DAY_MS,
        format: Some("parquet/9".to_owned()),
        ..metas[0].clone()
    };
    meta.compaction.level = 3;
    meta.compaction.sources = metas.iter().map(|meta| meta.ulid).collect();
    let resolution = Resolution::FiveMinutes;
    meta.thanos.as_mut().unwrap().downsample.resolution = resolution.millis();
    let location = BlockLocation::parquet(&meta.external_labels(), resolution, id);
    let mark = format!(r#"{{"id":"{id}","version":1,"details":"","deletion_time":1}}"#);
    BTreeMap::from([
        (location.meta().to_string(), meta.to_json()),
        (location.file("0.series.parquet").to_string(), b"of a newer version".to_vec()),
        (location.file("deletion-mark.json").to_string(), mark.into_bytes()),
    ])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_of_a_newer_format_covers_nothing_and_is_left_alone() {
    let settings = || Settings {
        delete_delay: Duration::ZERO,
        retention: Retention { raw: Duration::from_secs(40 * 3600), ..Retention::default() },
        ..Settings::default()
    };
    let blocks = blocks();
    let without = Served::new(&blocks, CreateOnly::Honoured).await;
    without.compact(settings()).await;
    let foreign = of_newer_format(&blocks);
    let all = blocks.into_iter().chain(foreign.clone()).collect();
    let with = Served::new(&all, CreateOnly::Honoured).await;
    with.compact(settings()).await;
    let mut objects = with.objects().await;
    for (path, bytes) in foreign {
        assert_eq!(objects.remove(&path), Some(bytes), "{path}");
    }
    assert!(objects == without.objects().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn blocks_are_shown_as_worked_with_and_as_the_bucket_holds_them() {
    let served = Served::new(&blocks(), CreateOnly::Honoured).await;
    let settings = Settings { consistency_delay: Duration::ZERO, ..Settings::default() };
    let clock = Arc::new(StillClock);
    let compactor =
        Compactor::new(served.bucket.clone(), settings, clock, &Registry::new()).unwrap();
    compactor.run_once().await.unwrap();
    let routes = compactor.into_component().served.routes;
    let mut found = BTreeMap::new();
    for view in ["loaded", "global"] {
        let request = http::Request::get(format!("/api/v1/blocks?view={view}"));
        let request = request.body(axum::body::Body::empty()).unwrap();
        let response = routes.clone().oneshot(request).await.unwrap();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        let details = body["data"]["details"].as_array().unwrap();
        let marked = details.iter().filter(|block| block["marks"] != serde_json::json!([]));
        found.insert(view, (details.len(), marked.count()));
    }
    let ((loaded, unexpected), (global, marked)) = (found["loaded"], found["global"]);
    assert!(marked > 0, "what was merged is marked: {found:?}");
    assert_eq!((loaded, unexpected), (global - marked, 0), "{found:?}");
    let request = http::Request::post("/api/v1/blocks/mark").body(axum::body::Body::empty());
    let response = routes.oneshot(request.unwrap()).await.unwrap();
    assert_eq!(response.status(), 400, "marks are off unless allowed");
}
