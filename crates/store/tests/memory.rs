//! What answers take in memory: of very many Parquet blocks, and of blocks that claim more than
//! there is. It is a binary of its own, because it counts every allocation of the process.

#![allow(clippy::print_stdout, reason = "tests report what they counted")]

use std::path::{Path as FsPath, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use block::object_store::ObjectStore;
use block::object_store::local::LocalFileSystem;
use block::object_store::memory::InMemory;
use block::{BlockLocation, Bucket, BucketMetrics, BucketSettings};
use futures::StreamExt;
use merge::{Batch, DownsampledSeries, NO_TIME, Windows};
use model::{BlockId, Budget, Labels, MatchOp, Matcher, Resolution, SystemClock, TimeRange};
use parquet_block::{BlockDescription, FormatVersion, ParquetBlockWriter};
use prometheus::Registry;
use store::{Gateway, Settings};
use storeapi::{AggregateKind, Frame, SeriesRequest, Store};
use testkit::Allocations;
use testkit::hostile::{BlockHolds, HostileBlock};
use tokio::runtime::Runtime;
use tsdb::chunk::Aggregate;
use tsdb::meta::BlockMeta;

#[global_allocator]
static ALLOCATIONS: Allocations = Allocations::new();

/// Held by the test that counts.
static ALONE: Mutex<()> = Mutex::new(());

const MIB: u64 = 1 << 20;
const FIVE_MINUTES: i64 = 300_000;

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

fn bucket(store: Arc<dyn ObjectStore>) -> Bucket {
    let metrics = BucketMetrics::new(&Registry::new()).unwrap();
    let clock = Arc::new(SystemClock::new(|span| Box::pin(tokio::time::sleep(span))));
    Bucket::new(store, BucketSettings::default(), metrics, clock)
}

async fn served(bucket: Bucket, budget: &Budget) -> Arc<dyn Store> {
    let clock = Arc::new(SystemClock::new(|span| Box::pin(tokio::time::sleep(span))));
    let settings = Settings { budget: budget.clone(), ..Settings::default() };
    let gateway = Gateway::new(settings, bucket, &Registry::new(), clock).unwrap();
    gateway.sync().await.unwrap();
    gateway.store()
}

fn every_metric(pattern: &str) -> SeriesRequest {
    let matcher = Matcher::new(MatchOp::Regex, "__name__", pattern).unwrap();
    SeriesRequest {
        max_resolution_ms: FIVE_MINUTES,
        aggregates: vec![AggregateKind::Of(Aggregate::Count)],
        ..SeriesRequest::new(TimeRange::ALL, vec![matcher])
    }
}

/// What came, without keeping it.
#[derive(Debug, Default)]
struct Answer {
    series: Vec<String>,
    chunks: usize,
    warnings: Vec<String>,
}

async fn ask(store: &Arc<dyn Store>, request: SeriesRequest) -> storeapi::Result<Answer> {
    let mut frames = store.series(request).await?;
    let mut answer = Answer::default();
    while let Some(frame) = frames.next().await {
        match frame? {
            Frame::Series(series) => {
                for one in series {
                    answer.chunks += one.chunks.len();
                    answer.series.push(one.labels.to_string());
                }
            }
            Frame::Warning(text) => answer.warnings.push(text),
            Frame::Info(_) => {}
        }
    }
    Ok(answer)
}

const BLOCKS: i64 = 96;
const SERIES: usize = 800;
const WINDOWS: i64 = 48;
const BLOCK_MS: i64 = WINDOWS * FIVE_MINUTES;

fn windows(start: i64, series: usize) -> DownsampledSeries {
    let t: Vec<i64> = (1..=WINDOWS).map(|n| start + n * FIVE_MINUTES - 1).collect();
    let values: Vec<f64> =
        t.iter().map(|t| ((t % 7919) * (series as i64 + 3) % 10_007) as f64 / 7.0).collect();
    let first_v = values[0];
    let floats = Windows {
        first_t: vec![NO_TIME; t.len()],
        last_t: vec![NO_TIME; t.len()],
        count: vec![20; t.len()],
        sum: values.iter().map(|v| v * 20.0).collect(),
        min: values.clone(),
        max: values.clone(),
        counter: values.clone(),
        batches: vec![Batch { start: 0, first_t: t[0], first_v, last_v: values[values.len() - 1] }],
        t,
    };
    DownsampledSeries { floats, ..DownsampledSeries::default() }
}

fn meta(id: BlockId, range: TimeRange) -> BlockMeta {
    let json = format!(
        r#"{{"ulid":"{id}","minTime":{},"maxTime":{},"compaction":{{"level":2,"sources":["{id}"]}},"version":1,"thanos":{{"version":1,"labels":{{"cluster":"eu"}},"downsample":{{"resolution":{FIVE_MINUTES}}},"source":"compactor"}}}}"#,
        range.start, range.end,
    );
    BlockMeta::from_json(json.as_bytes()).unwrap()
}

async fn write_parquet(bucket: &Bucket, at: i64) {
    let range = TimeRange::new(at * BLOCK_MS, (at + 1) * BLOCK_MS);
    let id = BlockId::from_parts(range.end as u64, 7);
    let external_labels = Labels::from_pairs([("cluster", "eu")]);
    let location = BlockLocation::parquet(&external_labels, Resolution::FiveMinutes, id);
    let description = BlockDescription {
        version: FormatVersion::V2,
        id,
        resolution: Resolution::FiveMinutes,
        external_labels,
        sources: vec![id],
    };
    let mut writer = ParquetBlockWriter::create(bucket.clone(), location.clone(), description);
    for series in 0..SERIES {
        let name = format!("metric_{:03}", series / 8);
        let pod = format!("pod-{series:04}");
        let labels = Labels::from_pairs([("__name__", &*name), ("pod", &*pod)]);
        writer.push_series(&labels, &windows(range.start, series)).await.unwrap();
    }
    let mut meta = meta(id, range);
    writer.finish().await.unwrap().describe(&mut meta);
    bucket.put(&location.meta(), meta.to_json().into()).await.unwrap();
}

#[test]
fn very_many_parquet_blocks_take_the_memory_that_there_is() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let runtime = runtime();
    let bucket = bucket(Arc::new(InMemory::new()));
    runtime.block_on(async {
        for at in 0..BLOCKS {
            write_parquet(&bucket, at).await;
        }
    });
    for (pattern, series) in [(".+", SERIES), ("metric_042", 8)] {
        let budget = Budget::new(96 * MIB);
        let before = ALLOCATIONS.begin();
        let answer = runtime.block_on(async {
            let store = served(bucket.clone(), &budget).await;
            ask(&store, every_metric(pattern)).await.unwrap()
        });
        let peak = (ALLOCATIONS.peak() - before) as u64 / MIB;
        println!("{pattern}: {peak} MiB, of which {} MiB were charged", budget.peak() / MIB);
        assert_eq!(answer.warnings, [""; 0]);
        assert_eq!((answer.series.len(), answer.chunks), (series, series * BLOCKS as usize));
        assert!(peak <= 96, "{pattern}: {peak} MiB");
    }
    // what does not fit at all is refused whole
    let budget = Budget::new(MIB);
    let refused = runtime.block_on(async {
        let store = served(bucket.clone(), &budget).await;
        ask(&store, every_metric(".+")).await
    });
    let refused = refused.unwrap_err();
    assert_eq!(refused.kind(), storeapi::Kind::Memory);
    // a quarter is set aside for caches
    let text = model::error::in_one_line(&refused).to_string();
    assert!(text.contains("of the 786432 bytes"), "{text}");
}

/// A folder that goes with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = FsPath::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        // of a test that was ended
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn hostile_blocks_take_little_and_spoil_nothing() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let runtime = runtime();
    for hostile in testkit::hostile::BLOCKS {
        let folder = Folder::new("hostile-in-store");
        hostile.write(&folder.0).unwrap();
        let files = LocalFileSystem::new_with_prefix(&folder.0).unwrap();
        let budget = Budget::new(256 * MIB);
        let before = ALLOCATIONS.begin();
        let answer = runtime.block_on(async {
            let store = served(bucket(Arc::new(files)), &budget).await;
            ask(&store, every_metric(".+")).await
        });
        let answer = answer.unwrap_or_else(|e| panic!("{}: {e}", hostile.name));
        let peak = (ALLOCATIONS.peak() - before) as u64 / MIB;
        println!("{}: {peak} MiB, {:?}", hostile.name, answer.warnings);
        assert!(peak <= hostile.most_mib(), "{}: {peak} MiB", hostile.name);
        let named = |name: &str| answer.series.iter().any(|labels| labels.contains(name));
        assert!(named("sound"), "{}: {:?}", hostile.name, answer.warnings);
        let is_read = hostile.holds == BlockHolds::Read;
        assert_eq!(named("hostile"), is_read, "{}: {:?}", hostile.name, answer.warnings);
        if let BlockHolds::LeftOut(told) = hostile.holds {
            let id = HostileBlock::id().to_string();
            let says = |text: &String| text.contains(&id) && text.contains(told);
            // a block without a meta.json that can be read is told of in the log
            let is_served = !told.starts_with("meta.json");
            assert_eq!(
                answer.warnings.iter().any(says),
                is_served,
                "{}: {:?}",
                hostile.name,
                answer.warnings
            );
        }
    }
}
