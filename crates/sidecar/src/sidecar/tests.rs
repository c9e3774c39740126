use std::sync::atomic::Ordering;

use block::ship::ShipperSettings;
use model::Labels;
use model::error::in_one_line;
use storeapi::conformance::Dataset;

use super::*;
use crate::testing::{FakePrometheus, clock};

fn fake(external: &[(&str, &str)]) -> Arc<FakePrometheus> {
    let external = Labels::from_pairs(external.iter().copied());
    let series = vec![(Labels::from_pairs([("__name__", "up")]), vec![(1_000_000, 1.0)])];
    Arc::new(FakePrometheus::new(Dataset { external, series }))
}

async fn sidecar_of(fake: Arc<FakePrometheus>, bucket: Option<Bucket>) -> (Sidecar, Registry) {
    let settings = Settings {
        prometheus_url: fake.serve().await,
        get_config_interval: Duration::from_millis(5),
        get_config_timeout: Duration::from_secs(5),
        ..Settings::default()
    };
    let registry = Registry::new();
    let parts = SidecarParts {
        clock: clock(),
        budget: Budget::unlimited(),
        registry: registry.clone(),
        bucket,
    };
    (Sidecar::new(settings, parts).unwrap(), registry)
}

/// The error that its work ends with.
async fn failure(sidecar: Sidecar) -> Error {
    let failure = sidecar.into_component().run.await.unwrap_err();
    *failure.downcast().unwrap()
}

fn memory_bucket() -> Bucket {
    counted_bucket(&Registry::new())
}

fn counted_bucket(registry: &Registry) -> Bucket {
    let metrics = block::BucketMetrics::new(registry).unwrap();
    let store = Arc::new(block::object_store::memory::InMemory::new());
    Bucket::new(store, block::BucketSettings::default(), metrics, clock())
}

fn gauge(registry: &Registry, name: &str) -> f64 {
    let family = registry.gather().into_iter().find(|f| f.name() == name).unwrap();
    family.get_metric()[0].get_gauge().get_value()
}

#[tokio::test]
async fn it_is_ready_while_prometheus_answers() {
    let fake = fake(&[("cluster", "a")]);
    let (sidecar, registry) = sidecar_of(Arc::clone(&fake), None).await;
    let (store, mut ready) = (Arc::clone(&sidecar.store), sidecar.ready.clone());
    assert!(store.info().await.is_err());
    let running = tokio::spawn(sidecar.into_component().run);
    let within = Duration::from_secs(20);
    tokio::time::timeout(within, ready.wait_for(|ready| *ready)).await.unwrap().unwrap();
    let info = store.info().await.unwrap();
    assert_eq!(info.label_sets, [Labels::from_pairs([("cluster", "a")])]);
    assert_eq!(info.range.start, 1_000_000);
    assert_eq!(gauge(&registry, "thanos_sidecar_prometheus_up"), 1.0);
    assert!(gauge(&registry, "thanos_sidecar_last_heartbeat_success_time_seconds") > 0.0);

    fake.up.store(false, Ordering::Relaxed);
    tokio::time::timeout(within, ready.wait_for(|ready| !*ready)).await.unwrap().unwrap();
    assert_eq!(gauge(&registry, "thanos_sidecar_prometheus_up"), 0.0);
    assert_eq!(store.info().await.unwrap_err().kind(), storeapi::Kind::Unavailable);

    fake.up.store(true, Ordering::Relaxed);
    tokio::time::timeout(within, ready.wait_for(|ready| *ready)).await.unwrap().unwrap();
    assert!(store.info().await.is_ok());
    running.abort();
}

#[tokio::test]
async fn a_prometheus_without_external_labels_is_refused() {
    let (sidecar, _) = sidecar_of(fake(&[]), None).await;
    let ready = sidecar.ready.clone();
    let error = failure(sidecar).await;
    assert_eq!(error.kind(), Kind::Invalid);
    assert!(error.to_string().contains("global: {external_labels: {"), "{error}");
    assert!(!*ready.borrow());
}

#[tokio::test]
async fn a_prometheus_that_compacts_is_refused_when_blocks_are_shipped() {
    let mut compacting = FakePrometheus::new(Dataset {
        external: Labels::from_pairs([("cluster", "a")]),
        series: Vec::new(),
    });
    compacting.flags.insert("storage.tsdb.max-block-duration".to_owned(), "1d12h".to_owned());
    let (sidecar, _) = sidecar_of(Arc::new(compacting), Some(memory_bucket())).await;
    let error = failure(sidecar).await;
    assert_eq!(error.kind(), Kind::Invalid);
    assert!(error.to_string().contains("--storage.tsdb.max-block-duration=1d12h"), "{error}");
}

/// How many operations of a kind the bucket has seen.
fn operations(registry: &Registry, operation: &str) -> f64 {
    let families = registry.gather();
    let family = families.iter().find(|f| f.name() == "thanos_objstore_bucket_operations_total");
    let all = family.unwrap().get_metric();
    let is_it =
        |m: &&prometheus::proto::Metric| m.get_label().iter().any(|l| l.value() == operation);
    all.iter().filter(is_it).map(|m| m.get_counter().get_value()).sum()
}

#[tokio::test]
async fn the_bucket_is_tried_out_before_anything_is_shipped() {
    let tsdb = tempfile::tempdir().unwrap();
    let settings = Settings {
        prometheus_url: fake(&[("cluster", "a")]).serve().await,
        shipper: ShipperSettings {
            tsdb_path: tsdb.path().to_owned(),
            ..ShipperSettings::default()
        },
        ..Settings::default()
    };
    let registry = Registry::new();
    let parts = SidecarParts {
        clock: clock(),
        budget: Budget::unlimited(),
        registry: registry.clone(),
        bucket: Some(counted_bucket(&registry)),
    };
    let running = tokio::spawn(Sidecar::new(settings, parts).unwrap().into_component().run);
    let probed = async {
        while operations(&registry, "delete") < 1.0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), probed).await.unwrap();
    assert_eq!(operations(&registry, "upload"), 2.0);
    running.abort();
}

#[tokio::test(start_paused = true)]
async fn the_shipper_does_not_wait_for_ever() {
    let settings =
        Settings { prometheus_url: "http://127.0.0.1:1".to_owned(), ..Settings::default() };
    let parts = SidecarParts {
        clock: Arc::new(Hurried),
        budget: Budget::unlimited(),
        registry: Registry::new(),
        bucket: Some(memory_bucket()),
    };
    let error = failure(Sidecar::new(settings, parts).unwrap()).await;
    assert_eq!(error.kind(), Kind::Unavailable);
    let text = in_one_line(&error).to_string();
    assert!(text.starts_with("Prometheus did not get ready within 600s: "), "{text}");
}

/// A clock that advances by an hour whenever it is read.
#[derive(Debug)]
struct Hurried;

impl Clock for Hurried {
    fn now(&self) -> model::TimestampMs {
        model::TimestampMs(0)
    }

    fn monotonic(&self) -> Duration {
        use std::sync::atomic::AtomicU64;
        static HOURS: AtomicU64 = AtomicU64::new(0);
        Duration::from_secs(3600 * HOURS.fetch_add(1, Ordering::Relaxed))
    }

    fn sleep(&self, span: Duration) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(tokio::time::sleep(span))
    }
}
