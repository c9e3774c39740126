//! What the fuzz targets of this crate check: one function per target, which takes whatever bytes.
//!
//! The programs in `fuzz/fuzz_targets` call them, and `fuzz_replay.rs` does on stable Rust. The
//! bytes take the place of a part of one of two small blocks, whose other parts are the seeds in
//! `fuzz/seeds`. The first byte of each part says of which file it is.

mod checksums;
pub(crate) mod memory;
#[path = "../../../tsdb/tests/fuzz/meter.rs"]
mod meter;
mod statistics;

use std::sync::Arc;

pub(crate) use checksums::checksums;
pub(crate) use statistics::statistics;

use block::Bucket;
use futures::TryStreamExt;
use merge::{DownsampledSeries, Series};
use model::{Labels, TimeRange};
use object_store::memory::InMemory;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet_block::checksums::{CHECKSUMS_FILE, ChecksumBuilder, Checksums, FileChecksums};
use parquet_block::{Error, FooterCache, FormatVersion, Kind, ParquetBlock};
use parquet_block::{SeriesWindows, WindowQuery};
use tokio::runtime::Runtime;
use tsdb::chunk::Aggregate;
use tsdb::meta::{BlockMeta, File, FileHash};

use memory::{bucket, empty_meta, location};

/// What stands at the front and at the end of every file.
const MAGIC: &[u8] = b"PAR1";

/// A file of one of the two blocks, by its parts.
pub(crate) struct Seed {
    pub(crate) version: FormatVersion,
    pub(crate) kind: &'static str,
    footer: &'static [u8],
    /// All between the first four bytes and the footer.
    pages: &'static [u8],
}

macro_rules! seed {
    ($version:ident, $kind:literal, $file:literal) => {
        Seed {
            version: FormatVersion::$version,
            kind: $kind,
            footer: include_bytes!(concat!("../../fuzz/seeds/footer/", $file)),
            pages: include_bytes!(concat!("../../fuzz/seeds/pages/", $file)),
        }
    };
}

/// The first byte of a part is the place of its file here.
pub(crate) const SEEDS: [Seed; 7] = [
    seed!(V1, "series", "series"),
    seed!(V1, "samples", "samples"),
    seed!(V1, "histograms", "histograms"),
    seed!(V2, "series", "series-2"),
    seed!(V2, "samples", "samples-2"),
    seed!(V2, "histograms", "histograms-2"),
    seed!(V2, "buckets", "buckets-2"),
];

impl Seed {
    fn footer(&self) -> &[u8] {
        &self.footer[1..]
    }

    fn pages(&self) -> &[u8] {
        &self.pages[1..]
    }
}

/// A footer, with the length behind it that it has. The block says the same whenever it is asked.
pub(crate) fn footer(bytes: &[u8]) -> Result<usize, Error> {
    let Some((number, footer)) = bytes.split_first() else { return Ok(0) };
    let number = usize::from(*number) % SEEDS.len();
    check(number, file(SEEDS[number].pages(), footer))
}

/// Pages and all else before the footer, in as many bytes as the footer says. As [`footer`].
pub(crate) fn pages(bytes: &[u8]) -> Result<usize, Error> {
    let Some((number, pages)) = bytes.split_first() else { return Ok(0) };
    let number = usize::from(*number) % SEEDS.len();
    let mut pages = pages.to_vec();
    pages.resize(SEEDS[number].pages().len(), 0);
    check(number, file(&pages, SEEDS[number].footer()))
}

fn file(pages: &[u8], footer: &[u8]) -> Vec<u8> {
    let len = (footer.len() as u32).to_le_bytes();
    [MAGIC, pages, footer, &len, MAGIC].concat()
}

/// Reads the block twice in which these bytes are the file with this number; gives the number of
/// series.
fn check(number: usize, bytes: Vec<u8>) -> Result<usize, Error> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let stored = Stored::new(&runtime, number, bytes);
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
    assert!(one.answers == other.answers);
    let labels = |windows: &[SeriesWindows]| -> Vec<Labels> {
        windows.iter().map(|(labels, _)| labels.clone()).collect()
    };
    assert_eq!(labels(&one.windows), labels(&other.windows));
    one.windows.iter().for_each(|(_, windows)| assert_whole(windows));
    // a series without windows in the range is left out
    assert!(one.answers.iter().all(|series| series.len() <= one.windows.len()));
    Ok(one.windows.len())
}

/// No window lacks a part of it.
fn assert_whole(windows: &DownsampledSeries) {
    let DownsampledSeries { floats, histograms } = windows;
    let numbers = [&floats.sum, &floats.min, &floats.max, &floats.counter].map(Vec::len);
    assert_eq!(numbers, [floats.len(); 4]);
    assert_eq!([floats.first_t.len(), floats.last_t.len()], [floats.len(); 2]);
    assert_eq!(floats.count.len(), floats.len());
    assert_eq!([histograms.counter.len(), histograms.sum.len()], [histograms.len(); 2]);
    assert_eq!([histograms.first_t.len(), histograms.last_t.len()], [histograms.len(); 2]);
    assert_eq!(histograms.count.len(), histograms.len());
}

/// All that a block says.
struct Read {
    label_names: Vec<String>,
    /// To each of [`queries`].
    answers: Vec<Vec<Series>>,
    windows: Vec<SeriesWindows>,
}

/// Each reads other columns.
fn queries() -> Vec<WindowQuery> {
    let query = |aggregates: &[Aggregate], times: bool| WindowQuery {
        matchers: Vec::new(),
        range: TimeRange::ALL,
        aggregates: aggregates.to_vec(),
        times,
        skip_chunks: false,
    };
    vec![
        query(&Aggregate::ALL, false),
        query(&Aggregate::ALL, true),
        query(&[Aggregate::Sum], false),
        query(&[Aggregate::Counter], true),
    ]
}

struct Stored {
    store: Arc<InMemory>,
    bucket: Bucket,
    meta: BlockMeta,
    /// In bytes, of all files.
    size: usize,
}

impl Stored {
    /// The block of the file with this number, in which the file is these bytes.
    fn new(runtime: &Runtime, number: usize, mut bytes: Vec<u8>) -> Stored {
        let version = SEEDS[number].version;
        let store = Arc::new(InMemory::new());
        let bucket = bucket(Arc::clone(&store) as Arc<dyn ObjectStore>);
        let mut stored = Stored { store, bucket, meta: empty_meta(version), size: 0 };
        let mut checksums = Vec::new();
        for (other, seed) in SEEDS.iter().enumerate().filter(|(_, s)| s.version == version) {
            let bytes = match other == number {
                true => std::mem::take(&mut bytes),
                false => file(seed.pages(), seed.footer()),
            };
            let name = format!("0.{}.parquet", seed.kind);
            checksums.push(checksums_of(&name, &bytes));
            stored.put(runtime, name, bytes, None);
        }
        if version == FormatVersion::V2 {
            let checksums = Checksums::new(checksums).expect("names that differ").encode();
            let own = checksums.last_chunk::<4>().expect("its own checksum");
            let value = format!("{:08x}", u32::from_le_bytes(*own));
            let hash = FileHash { function: "CRC32C".to_owned(), value };
            stored.put(runtime, CHECKSUMS_FILE.to_owned(), checksums, Some(hash));
        }
        stored
    }

    fn put(&mut self, runtime: &Runtime, name: String, bytes: Vec<u8>, hash: Option<FileHash>) {
        let path = location().file(&name);
        self.size += bytes.len();
        let listed = File { rel_path: name, size_bytes: bytes.len() as u64, hash };
        self.meta.thanos.as_mut().expect("a section").files.push(listed);
        runtime.block_on(self.store.put(&path, bytes.into())).expect("memory");
    }

    fn read(&self, runtime: &Runtime) -> Result<Read, Error> {
        let (cache, location) = (FooterCache::new(1 << 20), location());
        let open = ParquetBlock::open(&self.bucket, &location, &self.meta, &cache);
        let most = (4 << 20) + 2000 * self.size;
        let block = meter::within(most, || runtime.block_on(open))?;
        runtime.block_on(async {
            let label_names = block.label_names(&[]).await?;
            for name in label_names.iter().take(2) {
                block.label_values(name, &[]).await?;
            }
            let mut answers = Vec::new();
            for query in queries() {
                answers.push(block.series(query).try_concat().await?);
            }
            let windows = block.scan().try_concat().await?;
            Ok(Read { label_names, answers, windows })
        })
    }
}

/// Those of a file as a hostile writer would have them: they are right.
fn checksums_of(name: &str, bytes: &[u8]) -> FileChecksums {
    let mut builder = ChecksumBuilder::new(name);
    builder.push(bytes);
    builder.finish(0)
}
