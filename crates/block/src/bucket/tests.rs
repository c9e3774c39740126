use std::sync::atomic::{AtomicU32, Ordering};

use model::error::in_one_line;
use object_store::memory::InMemory;
use prometheus::Registry;

use super::*;
use crate::testing::{self, FailingReads, TestClock};

/// Fails the first so many reads with a passing error.
fn flaky(failures: u32) -> (Bucket, Registry) {
    let registry = Registry::new();
    let failures = AtomicU32::new(failures);
    let store = FailingReads::new(move |_| {
        let one_less = |n: u32| n.checked_sub(1);
        let left = failures.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less);
        left.ok().map(|_| object_store::Error::Generic { store: "flaky", source: "503".into() })
    });
    let metrics = BucketMetrics::new(&registry).unwrap();
    (Bucket::new(Arc::new(store), BucketSettings::default(), metrics, TestClock::new()), registry)
}

fn metric(registry: &Registry, name: &str, operation: &str) -> f64 {
    let families = registry.gather();
    let Some(family) = families.iter().find(|f| f.name() == name) else { return 0.0 };
    let of_operation =
        |m: &&prometheus::proto::Metric| m.get_label().iter().any(|l| l.value() == operation);
    family.get_metric().iter().filter(of_operation).map(|m| m.get_counter().get_value()).sum()
}

#[tokio::test]
async fn passing_failures_are_tried_again_and_counted() {
    let (bucket, registry) = flaky(3);
    let path = Path::from("a");
    bucket.put(&path, "data".into()).await.unwrap();
    assert_eq!(bucket.get(&path).await.unwrap(), "data");
    assert_eq!(metric(&registry, "thanos_objstore_bucket_operations_total", "get"), 4.0);
    assert_eq!(metric(&registry, "thanos_objstore_bucket_operation_failures_total", "get"), 3.0);
    assert_eq!(
        metric(&registry, "thanos_objstore_bucket_operation_fetched_bytes_total", "get"),
        4.0
    );
    assert_eq!(metric(&registry, "thanos_objstore_bucket_operations_total", "upload"), 1.0);
}

#[tokio::test]
async fn lasting_failures_end_after_the_attempts() {
    let (bucket, _) = flaky(100);
    let error = bucket.get(&Path::from("a")).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable);
    let text = in_one_line(&error).to_string();
    assert!(text.starts_with("fetching a in bucket bucket: "), "{text}");
}

#[tokio::test]
async fn absence_is_no_failure() {
    let (bucket, registry) = flaky(0);
    let path = Path::from("nope");
    assert_eq!(bucket.get(&path).await.unwrap_err().kind(), Kind::NotFound);
    assert_eq!(bucket.get_if_exists(&path, 1).await.unwrap(), None);
    assert!(!bucket.exists(&path).await.unwrap());
    bucket.delete(&path).await.unwrap();
    assert_eq!(metric(&registry, "thanos_objstore_bucket_operation_failures_total", "get"), 0.0);
}

async fn exercise(bucket: Bucket) {
    let path = Path::from("dir/object");
    assert_eq!(bucket.put_if_absent(&path, "one".into()).await.unwrap(), PutOutcome::Created);
    assert_eq!(bucket.put_if_absent(&path, "two".into()).await.unwrap(), PutOutcome::AlreadyExists);
    assert_eq!(bucket.get(&path).await.unwrap(), "one");
    assert!(bucket.probe_conditional_put(&Path::from("probe")).await.unwrap());
    assert!(!bucket.exists(&Path::from("probe")).await.unwrap());
    // one left by another process proves it too, and stays
    bucket.put(&Path::from("probe"), "probe".into()).await.unwrap();
    assert!(bucket.probe_conditional_put(&Path::from("probe")).await.unwrap());
    bucket.delete(&Path::from("probe")).await.unwrap();

    let long: Vec<u8> = (0..3_000_000u32).map(|i| (i / 7) as u8).collect();
    let mut writer = bucket.multipart(&Path::from("long"));
    for piece in long.chunks(70_001) {
        writer.write(piece).await.unwrap();
    }
    assert_eq!(writer.finish().await.unwrap(), long.len() as u64);
    let got = bucket.get(&Path::from("long")).await.unwrap();
    assert!(got == long);
    let ranges = [5..10, 2_000_000..2_000_100, 0..3, 2_999_990..3_000_050, 9_000_000..9_000_001];
    let parts = bucket.get_ranges(&Path::from("long"), &ranges).await.unwrap();
    for (range, part) in ranges.iter().zip(parts) {
        assert_eq!(
            part,
            long[(range.start as usize).min(long.len())..(range.end as usize).min(long.len())]
        );
    }
    let aborted = bucket.multipart(&Path::from("aborted"));
    aborted.abort().await.unwrap();
    let (dirs, objects) = bucket.list_dir(None).await.unwrap();
    assert_eq!(dirs, ["dir"]);
    assert_eq!(objects.iter().map(|o| o.location.to_string()).collect::<Vec<_>>(), ["long"]);
}

fn with_small_parts(store: Arc<dyn ObjectStore>) -> Bucket {
    let settings = BucketSettings { part_size: 1 << 20, ..BucketSettings::default() };
    Bucket::new(store, settings, BucketMetrics::new(&Registry::new()).unwrap(), TestClock::new())
}

#[tokio::test]
async fn a_bucket_in_memory() {
    exercise(with_small_parts(Arc::new(InMemory::new()))).await;
}

#[tokio::test]
async fn a_bucket_in_a_folder() {
    let root = tempfile::tempdir().unwrap();
    let store = object_store::local::LocalFileSystem::new_with_prefix(root.path()).unwrap();
    exercise(with_small_parts(Arc::new(store))).await;
}

#[tokio::test]
async fn a_local_file_goes_up_in_parts() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("f");
    let bytes = vec![7u8; (5 << 20) + 3];
    std::fs::write(&file, &bytes).unwrap();
    let bucket = with_small_parts(Arc::new(InMemory::new()));
    assert_eq!(bucket.upload_file(&Path::from("f"), &file).await.unwrap(), bytes.len() as u64);
    assert!(bucket.get(&Path::from("f")).await.unwrap() == bytes);
    let missing =
        bucket.upload_file(&Path::from("f"), &folder.path().join("nope")).await.unwrap_err();
    assert_eq!(missing.kind(), Kind::NotFound);
    assert_eq!(testing::memory_bucket().name(), "bucket");
}

#[test]
fn pauses_between_attempts_are_spread() {
    let pause = Duration::from_millis(100);
    let spread: std::collections::BTreeSet<Duration> = (0..200)
        .map(|n| super::spread(pause, &Path::from(format!("object-{n}")), Duration::from_secs(7)))
        .collect();
    assert!(spread.len() > 150, "{} different pauses", spread.len());
    assert!(spread.iter().all(|one| (pause / 2..pause).contains(one)), "{spread:?}");
    assert!(spread.last().unwrap().saturating_sub(*spread.first().unwrap()) > pause / 3);
}
