//! What the fuzz targets of this crate check: one function per target, which takes whatever bytes.
//!
//! The programs in `fuzz/fuzz_targets` call them, and `fuzz_replay.rs` does on stable Rust. The
//! bytes take the place of a part of a small block, whose other parts are the seeds in
//! `fuzz/seeds`. The first byte of each part says of which file it is.

mod checksums;
#[path = "../../../tsdb/tests/fuzz/meter.rs"]
mod meter;
mod statistics;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

pub(crate) use checksums::checksums;
pub(crate) use statistics::statistics;

use block::{BlockLocation, Bucket, BucketMetrics, BucketSettings};
use futures::TryStreamExt;
use merge::Series;
use model::{BlockId, Clock, Labels, Resolution, TimeRange, TimestampMs};
use object_store::memory::InMemory;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet_block::{Error, FooterCache, Kind, ParquetBlock, SeriesWindows, WindowQuery};
use tokio::runtime::Runtime;
use tsdb::chunk::Aggregate;
use tsdb::meta::{BlockMeta, File};

pub(crate) const KINDS: [&str; 3] = ["series", "samples", "histograms"];

/// What stands at the front and at the end of every file.
const MAGIC: &[u8] = b"PAR1";

macro_rules! seeds {
    ($target:literal) => {
        [
            include_bytes!(concat!("../../fuzz/seeds/", $target, "/series")),
            include_bytes!(concat!("../../fuzz/seeds/", $target, "/samples")),
            include_bytes!(concat!("../../fuzz/seeds/", $target, "/histograms")),
        ]
    };
}

const FOOTERS: [&[u8]; 3] = seeds!("footer");
/// All between the first four bytes and the footer.
const PAGES: [&[u8]; 3] = seeds!("pages");

/// A footer, with the length behind it that it has. The block says the same whenever it is asked.
pub(crate) fn footer(bytes: &[u8]) -> Result<usize, Error> {
    let Some((kind, footer)) = bytes.split_first() else { return Ok(0) };
    let kind = usize::from(*kind) % KINDS.len();
    check(kind, file(&PAGES[kind][1..], footer))
}

/// Pages and all else before the footer, in as many bytes as the footer says. As [`footer`].
pub(crate) fn pages(bytes: &[u8]) -> Result<usize, Error> {
    let Some((kind, pages)) = bytes.split_first() else { return Ok(0) };
    let kind = usize::from(*kind) % KINDS.len();
    let mut pages = pages.to_vec();
    pages.resize(PAGES[kind].len() - 1, 0);
    check(kind, file(&pages, &FOOTERS[kind][1..]))
}

fn file(pages: &[u8], footer: &[u8]) -> Vec<u8> {
    let len = (footer.len() as u32).to_le_bytes();
    [MAGIC, pages, footer, &len, MAGIC].concat()
}

/// Reads the block twice in which this is the file of a kind; gives the number of series.
fn check(kind: usize, bytes: Vec<u8>) -> Result<usize, Error> {
    let mut files: [Vec<u8>; 3] =
        std::array::from_fn(|kind| file(&PAGES[kind][1..], &FOOTERS[kind][1..]));
    files[kind] = bytes;
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let stored = Stored::new(&runtime, files);
    let (one, other) = (stored.read(&runtime), stored.read(&runtime));
    for error in [&one, &other].into_iter().filter_map(|read| read.as_ref().err()) {
        let known = matches!(error.kind(), Kind::Corrupt | Kind::Unsupported | Kind::Unavailable);
        assert!(known && error.to_string().contains("parquet"), "{error:?}");
    }
    // of several errors any may come first
    assert_eq!(one.is_ok(), other.is_ok(), "the same bytes give the same");
    let one = one?;
    let other = other?;
    assert_eq!(one.label_names, other.label_names);
    assert!(one.series == other.series);
    let labels = |windows: &[SeriesWindows]| -> Vec<Labels> {
        windows.iter().map(|(labels, _)| labels.clone()).collect()
    };
    assert_eq!(labels(&one.windows), labels(&other.windows));
    // a series without windows in the range is left out
    assert!(one.series.len() <= one.windows.len());
    Ok(one.windows.len())
}

/// All that a block says.
struct Read {
    label_names: Vec<String>,
    series: Vec<Series>,
    windows: Vec<SeriesWindows>,
}

struct Stored {
    bucket: Bucket,
    location: BlockLocation,
    meta: BlockMeta,
    /// In bytes, of all files.
    size: usize,
}

impl Stored {
    fn new(runtime: &Runtime, files: [Vec<u8>; 3]) -> Stored {
        let store = Arc::new(InMemory::new());
        let bucket = bucket(Arc::clone(&store) as Arc<dyn ObjectStore>);
        let id = BlockId::from_parts(1_768_435_200_000, 7);
        let location = BlockLocation::parquet(&Labels::empty(), Resolution::FiveMinutes, id);
        let mut meta = empty_meta(id);
        let mut size = 0;
        for (kind, bytes) in KINDS.into_iter().zip(files) {
            let rel_path = format!("0.{kind}.parquet");
            let path = location.file(&rel_path);
            let listed = File { rel_path, size_bytes: bytes.len() as u64, hash: None };
            size += bytes.len();
            meta.thanos.as_mut().expect("a section").files.push(listed);
            runtime.block_on(store.put(&path, bytes.into())).expect("memory");
        }
        Stored { bucket, location, meta, size }
    }

    fn read(&self, runtime: &Runtime) -> Result<Read, Error> {
        let cache = FooterCache::new(1 << 20);
        let open = ParquetBlock::open(&self.bucket, &self.location, &self.meta, &cache);
        let most = (4 << 20) + 2000 * self.size;
        let block = meter::within(most, || runtime.block_on(open))?;
        runtime.block_on(async {
            let label_names = block.label_names(&[]).await?;
            for name in label_names.iter().take(2) {
                block.label_values(name, &[]).await?;
            }
            let everything = WindowQuery {
                matchers: Vec::new(),
                range: TimeRange::ALL,
                aggregates: Aggregate::ALL.to_vec(),
                times: false,
                skip_chunks: false,
            };
            let series = block.series(everything).try_concat().await?;
            let windows = block.scan().try_concat().await?;
            Ok(Read { label_names, series, windows })
        })
    }
}

pub(crate) fn bucket(store: Arc<dyn ObjectStore>) -> Bucket {
    let metrics = BucketMetrics::new(&prometheus::Registry::new()).expect("metrics");
    Bucket::new(store, BucketSettings::default(), metrics, Arc::new(StoppedClock))
}

/// What is known of a block before its files are.
pub(crate) fn empty_meta(id: BlockId) -> BlockMeta {
    let json = format!(
        r#"{{"ulid":"{id}","minTime":0,"maxTime":1,"version":1,"format":"parquet/1","thanos":{{"version":1,"labels":{{}},"downsample":{{"resolution":300000}},"source":"compactor"}}}}"#
    );
    BlockMeta::from_json(json.as_bytes()).expect("a sound meta.json")
}

#[derive(Debug)]
struct StoppedClock;

impl Clock for StoppedClock {
    fn now(&self) -> TimestampMs {
        TimestampMs(0)
    }

    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }

    fn sleep(&self, _: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(std::future::ready(()))
    }
}
