//! Object stores that answer what none should. This is alone in its binary, because it counts every
//! allocation of the process.

#![allow(clippy::print_stdout, reason = "tests report what they counted")]
#![allow(clippy::disallowed_methods, reason = "real connections need real time")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use block::config::{Environment, ObjectStoreConfig};
use block::object_store::path::Path;
use block::{Bucket, BucketMetrics, BucketSettings};
use model::SystemClock;
use model::error::in_one_line;
use prometheus::Registry;
use testkit::Allocations;
use testkit::hostile::{AskedObject, HostileServer, objects};

#[global_allocator]
static ALLOCATIONS: Allocations = Allocations::new();

const MIB: usize = 1 << 20;

fn bucket_of(yaml: &str) -> Bucket {
    let config = ObjectStoreConfig::parse(yaml, &Environment::new()).unwrap();
    let settings = BucketSettings {
        attempts: 2,
        backoff: Duration::from_millis(1),
        read_deadline: Duration::from_millis(300),
        ..BucketSettings::default()
    };
    let clock = Arc::new(SystemClock::new(|span| Box::pin(tokio::time::sleep(span))));
    let metrics = BucketMetrics::new(&Registry::new()).unwrap();
    Bucket::new(config.build_store().unwrap(), settings, metrics, clock)
}

async fn failure(bucket: &Bucket, asked: AskedObject) -> String {
    let path = Path::from("block/index");
    let failed = match asked {
        AskedObject::Listing => bucket.list_dir(None).await.map(drop),
        AskedObject::Whole => bucket.get(&path).await.map(drop),
        AskedObject::FirstTen => bucket.get_range(&path, 0..10).await.map(drop),
    };
    in_one_line(&failed.unwrap_err()).to_string()
}

#[tokio::test]
async fn reads_of_a_hostile_store_fail_soon_and_take_little_memory() {
    for row in objects() {
        let (name, answer) = (row.answer.name, row.answer.clone());
        let server = HostileServer::start(move |_| answer.clone()).await.unwrap();
        let bucket = bucket_of(&format!(
            "type: S3\nconfig: {{bucket: b, endpoint: \"{}\", insecure: true, region: us-east-1, \
             bucket_lookup_type: path, access_key: a, secret_key: s, max_retries: 1}}\n",
            server.address()
        ));
        let before = ALLOCATIONS.begin();
        let begun = Instant::now();
        let error = failure(&bucket, row.asked).await;
        let (took, peak) = (begun.elapsed(), (ALLOCATIONS.peak() - before) / MIB);
        println!("{name}: {} ms, {peak} MiB: {error:.200}", took.as_millis());
        assert!(error.contains(row.fails_with), "{name}: {error}");
        assert!(took < Duration::from_secs(20), "{name}: {took:?}");
        assert!(peak <= 128, "{name}: {peak} MiB");
    }
}

#[tokio::test]
async fn a_pipe_in_a_folder_is_no_object() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("block/index");
    std::fs::create_dir(folder.path().join("block")).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let bucket = bucket_of(&format!(
        "type: FILESYSTEM\nconfig:\n  directory: {}\n",
        folder.path().display()
    ));
    for asked in [AskedObject::Whole, AskedObject::FirstTen] {
        let error = failure(&bucket, asked).await;
        assert!(error.contains("is neither a file nor a folder"), "{error}");
        assert!(error.contains("block/index"), "{error}");
    }
    assert!(bucket.list_dir(Some(&Path::from("block"))).await.unwrap().1.is_empty());
}
