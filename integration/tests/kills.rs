//! Processes killed with no chance to tidy up, at seeded moments: in the end they leave what an
//! undisturbed run leaves.
//!
//! The bucket is served from memory by `testkit`, which counts requests: a kill comes after a
//! number of writes, so that it happens during the work however fast the machine is.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt as _;
use object_store::memory::InMemory;
use object_store::{ObjectStore, ObjectStoreExt as _, PutPayload};
use serde_json::Value;
use synthetic::Rng;
use testkit::{ObjectServer, ServerSettings};

use crate::harness::binaries::{Binaries, binaries};
use crate::harness::fleet::{
    Component, Maker, Prometheus, PrometheusSettings, compact_args, external_labels, query,
    sidecar_args, store_args,
};
use crate::harness::process::Process;
use crate::harness::synthetic_blocks::Blocks;
use crate::harness::{files_below, http, now, runtime, scratch};

const LEAST_KILLS: usize = 20;

/// A bucket over the S3 protocol that counts.
struct Counted {
    server: ObjectServer,
    store: Arc<InMemory>,
    config: PathBuf,
}

impl Counted {
    fn new(folder: &Path) -> Counted {
        std::fs::create_dir_all(folder).expect("a folder");
        let store = Arc::new(InMemory::new());
        // enough latency for a kill to land between two requests
        let settings =
            ServerSettings { latency: Duration::from_millis(3), ..ServerSettings::default() };
        let served: Arc<dyn ObjectStore> = Arc::<InMemory>::clone(&store);
        let server = runtime()
            .block_on(ObjectServer::start(served, settings))
            .expect("the object server starts");
        let config = folder.join("objstore.yml");
        std::fs::write(&config, server.s3_config()).expect("write objstore.yml");
        Counted { server, store, config }
    }

    fn with_blocks(folder: &Path, blocks: &Blocks) -> Counted {
        let bucket = Counted::new(folder);
        for block in &blocks.folders {
            let id = block.file_name().expect("a block id").to_string_lossy();
            for file in files_below(block) {
                let bytes = std::fs::read(block.join(&file)).expect("read the block");
                let key = format!("{id}/{}", file.display()).as_str().into();
                runtime()
                    .block_on(bucket.store.put(&key, PutPayload::from(bytes)))
                    .expect("memory takes it");
            }
        }
        bucket
    }

    fn writes(&self) -> u64 {
        let counts = self.server.counts();
        counts.puts + counts.deletes
    }

    /// Every object.
    fn objects(&self) -> BTreeMap<String, Vec<u8>> {
        let read = async {
            let listed: Vec<_> = self.store.list(None).try_collect().await?;
            let mut objects = BTreeMap::new();
            for object in listed {
                let bytes = self.store.get(&object.location).await?.bytes().await?;
                objects.insert(object.location.to_string(), bytes.to_vec());
            }
            Ok::<_, object_store::Error>(objects)
        };
        runtime().block_on(read).expect("memory can be read")
    }
}

/// A `meta.json` promises its files: it never exists without them in their full size.
#[track_caller]
fn assert_no_broken_promise(objects: &BTreeMap<String, Vec<u8>>) {
    for (key, bytes) in objects {
        let Some(block) = key.strip_suffix("/meta.json") else { continue };
        // readers must be able to read it now
        let meta: Value = serde_json::from_slice(bytes).unwrap_or_else(|e| panic!("{key}: {e}"));
        let files = meta["thanos"]["files"].as_array();
        for file in files.into_iter().flatten() {
            let Some(size) = file["size_bytes"].as_u64() else { continue };
            let path = format!("{block}/{}", file["rel_path"].as_str().expect("a path"));
            let there = objects.get(&path).map(|bytes| bytes.len() as u64);
            assert_eq!(there, Some(size), "{key} promises {path}");
        }
    }
}

/// What must be the same after any number of kills: every object, except for times at which
/// something was done.
fn lasting(objects: &BTreeMap<String, Vec<u8>>) -> BTreeMap<String, Vec<u8>> {
    let complete = |key: &str| {
        let folder = key.rsplit_once('/').map_or("", |(folder, _)| folder);
        let block = folder.strip_suffix("/chunks").unwrap_or(folder);
        objects.contains_key(&format!("{block}/meta.json"))
    };
    let mut lasting = BTreeMap::new();
    for (key, bytes) in objects.iter().filter(|(key, _)| complete(key)) {
        let bytes = if key.ends_with(".json") { timeless(bytes) } else { bytes.clone() };
        lasting.insert(key.clone(), bytes);
    }
    lasting
}

fn timeless(json: &[u8]) -> Vec<u8> {
    let mut value: Value = serde_json::from_slice(json).expect("JSON");
    let object = value.as_object_mut().expect("an object");
    if object.remove("deletion_time").is_some() {
        // a source is marked right after the merge or, after a kill, as outdated by the next run
        object.remove("details");
    }
    if let Some(thanos) = object.get_mut("thanos").and_then(Value::as_object_mut) {
        thanos.remove("upload_time");
    }
    value.to_string().into_bytes()
}

#[track_caller]
fn assert_same(what: &str, want: &BTreeMap<String, Vec<u8>>, got: &BTreeMap<String, Vec<u8>>) {
    let keys = |objects: &BTreeMap<String, Vec<u8>>| objects.keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(want), keys(got), "{what}: other objects");
    for (key, bytes) in want {
        assert!(
            got[key] == *bytes,
            "{what}: {key} differs: {}",
            String::from_utf8_lossy(&got[key][..got[key].len().min(2000)])
        );
    }
}

/// Lets the process work until it has written `writes` times, then kills it; `false` when `done`
/// came first.
fn kill_after(
    mut process: Process,
    bucket: &Counted,
    writes: u64,
    mut done: impl FnMut(&mut Process) -> bool,
) -> bool {
    let target = bucket.writes() + writes;
    let deadline = now() + Duration::from_secs(120);
    loop {
        if done(&mut process) {
            return false;
        }
        if bucket.writes() >= target {
            process.kill9();
            return true;
        }
        assert!(now() < deadline, "the process neither works nor ends:\n{}", process.log());
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Totals over the bucket's data, as our querier returns them.
fn answers(binaries: &Binaries, folder: &Path, bucket: &Counted, blocks: &Blocks) -> Vec<Value> {
    let store = Component::start(
        binaries,
        Maker::Drumlin,
        folder,
        "store",
        &store_args(folder, &bucket.config),
    );
    let querier = query(binaries, Maker::Drumlin, folder, &[&store.grpc], &[]);
    let queries = [
        "sum by (replica) (count_over_time(up[60h]))",
        "sum by (status) (increase(http_requests_total[48h]))",
        "sum by (job) (count_over_time(node_cpu_seconds_total[60h]))",
    ];
    let ask = |query: &&str| {
        let series = http::instant(&querier.http, query, blocks.end()).expect("an answer");
        assert!(!series.is_empty(), "{query}: nothing");
        Value::from(series)
    };
    queries.iter().map(ask).collect()
}

/// A Prometheus with finished blocks to ship.
fn prometheus(binaries: &Binaries, folder: &Path, blocks: &Blocks) -> Prometheus {
    let settings = PrometheusSettings {
        external_labels: external_labels(&[("cluster", "eu"), ("replica", "a")]),
        blocks: blocks.folders.clone(),
        ..PrometheusSettings::default()
    };
    Prometheus::start(binaries, folder, &settings)
}

/// Removes the record of what was shipped, so that the next round ships it again.
fn forget_shipped(prometheus: &Prometheus) {
    for path in ["thanos.shipper.json", "thanos"] {
        let path = prometheus.data.join(path);
        let _ = std::fs::remove_dir_all(&path);
        let _ = std::fs::remove_file(&path);
    }
}

fn shipped(bucket: &Counted) -> usize {
    let listed: Vec<_> =
        runtime().block_on(bucket.store.list(None).try_collect()).expect("memory can be listed");
    listed.iter().filter(|object| object.location.as_ref().ends_with("/meta.json")).count()
}

#[test]
fn a_sidecar_killed_while_it_ships_loses_and_doubles_nothing() {
    let Some(binaries) = binaries() else { return };
    let folder = scratch();
    let blocks = Blocks::write(&folder.path().join("made"), 21, 10, &["a"]);
    let prometheus = prometheus(binaries, &folder.path().join("prometheus"), &blocks);
    let start = |bucket: &Counted| {
        let args = sidecar_args(&prometheus, Some(&bucket.config));
        Component::start_unready(binaries, Maker::Drumlin, folder.path(), "sidecar", &args).process
    };
    let count = blocks.folders.len();
    let undisturbed = Counted::new(&folder.path().join("undisturbed"));
    assert!(!kill_after(start(&undisturbed), &undisturbed, u64::MAX / 2, |_| shipped(
        &undisturbed
    ) == count));
    let want = lasting(&undisturbed.objects());
    let want_answers = answers(binaries, &folder.path().join("undisturbed"), &undisturbed, &blocks);

    let mut rng = Rng::new(0x5eed);
    let mut kills = 0;
    while kills < LEAST_KILLS {
        forget_shipped(&prometheus);
        let round = folder.path().join(format!("round-{kills}"));
        let bucket = Counted::new(&round);
        loop {
            // a block takes at least three writes
            let writes = 1 + rng.next_u64() % 7;
            if !kill_after(start(&bucket), &bucket, writes, |_| shipped(&bucket) == count) {
                break;
            }
            kills += 1;
            assert_no_broken_promise(&bucket.objects());
        }
        assert_same(&format!("after {kills} kills"), &want, &lasting(&bucket.objects()));
        assert_eq!(
            want_answers,
            answers(binaries, &round, &bucket, &blocks),
            "after {kills} kills"
        );
    }
    println!("{kills} kills of a sidecar");
}

fn start_compactor(binaries: &Binaries, folder: &Path, bucket: &Counted) -> Process {
    Component::start_unready(
        binaries,
        Maker::Drumlin,
        folder,
        "compact",
        &compact_args(folder, &bucket.config),
    )
    .process
}

fn has_ended(process: &mut Process) -> bool {
    match process.ended() {
        None => false,
        Some(status) => {
            assert!(status.success(), "compact: {status}\n{}", process.log());
            true
        }
    }
}

#[test]
fn a_compactor_killed_at_any_moment_leaves_what_an_undisturbed_one_leaves() {
    let Some(binaries) = binaries() else { return };
    let folder = scratch();
    let blocks = Blocks::write(&folder.path().join("made"), 22, 28, &["a"]);
    let undisturbed = Counted::with_blocks(&folder.path().join("undisturbed"), &blocks);
    let process = start_compactor(binaries, &folder.path().join("undisturbed"), &undisturbed);
    assert!(!kill_after(process, &undisturbed, u64::MAX / 2, has_ended));
    let all_writes = undisturbed.writes();
    let want = lasting(&undisturbed.objects());
    assert!(
        want.keys().any(|key| key.starts_with("parquet/")),
        "nothing was downsampled: {:?}",
        want.keys()
    );
    let want_answers = answers(binaries, &folder.path().join("undisturbed"), &undisturbed, &blocks);

    let mut rng = Rng::new(0xc0ffee);
    let mut kills = 0;
    while kills < LEAST_KILLS {
        let round = folder.path().join(format!("round-{kills}"));
        let bucket = Counted::with_blocks(&round, &blocks);
        loop {
            let writes = 1 + rng.next_u64() % (all_writes / 4).max(2);
            if !kill_after(start_compactor(binaries, &round, &bucket), &bucket, writes, has_ended) {
                break;
            }
            kills += 1;
            assert_no_broken_promise(&bucket.objects());
        }
        assert_same(&format!("after {kills} kills"), &want, &lasting(&bucket.objects()));
        assert_eq!(
            want_answers,
            answers(binaries, &round, &bucket, &blocks),
            "after {kills} kills"
        );
    }
    println!("{kills} kills of a compactor, {all_writes} writes undisturbed");
}

#[test]
fn two_compactors_at_once_lose_and_double_nothing() {
    let Some(binaries) = binaries() else { return };
    let folder = scratch();
    let blocks = Blocks::write(&folder.path().join("made"), 23, 28, &["a"]);
    let alone = Counted::with_blocks(&folder.path().join("alone"), &blocks);
    let process = start_compactor(binaries, &folder.path().join("alone"), &alone);
    assert!(!kill_after(process, &alone, u64::MAX / 2, has_ended));

    let bucket = Counted::with_blocks(&folder.path().join("both"), &blocks);
    let mut pair =
        ["one", "two"].map(|name| start_compactor(binaries, &folder.path().join(name), &bucket));
    for process in &mut pair {
        let status = process.wait(Duration::from_secs(180));
        assert!(status.success(), "compact: {status}\n{}", process.log());
    }
    assert_no_broken_promise(&bucket.objects());
    assert_same("two at once", &lasting(&alone.objects()), &lasting(&bucket.objects()));
    let alone = answers(binaries, &folder.path().join("alone"), &alone, &blocks);
    assert_eq!(
        alone,
        answers(binaries, &folder.path().join("both"), &bucket, &blocks),
        "two at once"
    );
}
