//! Blocks that are kept in `tests/data` as releases wrote them: every release reads them, to the
//! last bit.

mod blocks;
#[path = "fuzz/memory.rs"]
mod memory;

use std::path::PathBuf;
use std::sync::Arc;

use futures::TryStreamExt;
use merge::{HistogramWindows, Windows};
use model::{FloatHistogram, Labels, Matcher, TimeRange};
use object_store::memory::InMemory;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet_block::{FooterCache, FormatVersion, ParquetBlock, SeriesWindows, WindowQuery};
use tsdb::chunk::Aggregate;
use tsdb::meta::BlockMeta;

type Files = Vec<(String, Vec<u8>)>;

fn folder(version: FormatVersion) -> PathBuf {
    let name = version.as_str().replace('/', "-");
    [env!("CARGO_MANIFEST_DIR"), "tests/data", &name].iter().collect()
}

fn kept(version: FormatVersion) -> Files {
    let entries = std::fs::read_dir(folder(version)).unwrap().map(|entry| entry.unwrap());
    let file = |entry: std::fs::DirEntry| {
        let name = entry.file_name().into_string().unwrap();
        (name, std::fs::read(entry.path()).unwrap())
    };
    entries.map(file).collect()
}

async fn open(files: &Files) -> ParquetBlock {
    let store = Arc::new(InMemory::new());
    for (name, bytes) in files {
        let path = memory::location().file(name);
        store.put(&path, bytes.clone().into()).await.unwrap();
    }
    let (_, meta) = files.iter().find(|(name, _)| name == "meta.json").unwrap();
    let meta = BlockMeta::from_json(meta).unwrap();
    let bucket = memory::bucket(store as Arc<dyn ObjectStore>);
    let cache = FooterCache::new(1 << 20);
    ParquetBlock::open(&bucket, &memory::location(), &meta, &cache).await.unwrap()
}

fn bits(values: &[f64]) -> Vec<u64> {
    values.iter().map(|value| value.to_bits()).collect()
}

fn numbers(windows: &Windows) -> Vec<Vec<u64>> {
    let Windows { sum, min, max, counter, .. } = windows;
    [sum, min, max, counter].into_iter().map(|column| bits(column)).collect()
}

/// The windows without what is not compared by `==`.
fn rest(windows: &Windows) -> Windows {
    let mut rest = windows.clone();
    let Windows { sum, min, max, counter, .. } = &mut rest;
    [sum, min, max, counter].into_iter().for_each(Vec::clear);
    rest
}

fn histogram_bits(windows: &HistogramWindows) -> Vec<Vec<u64>> {
    let of = |h: &FloatHistogram| {
        let single = [h.zero_threshold, h.zero_count, h.count, h.sum];
        let lists = [&single[..], &h.positive_buckets, &h.negative_buckets, &h.custom_values];
        bits(&lists.concat())
    };
    windows.counter.iter().chain(&windows.sum).map(of).collect()
}

fn assert_same(found: &[SeriesWindows], expected: &[SeriesWindows]) {
    let labels = |all: &[SeriesWindows]| -> Vec<Labels> {
        all.iter().map(|(labels, _)| labels.clone()).collect()
    };
    assert_eq!(labels(found), labels(expected));
    for ((labels, found), (_, expected)) in found.iter().zip(expected) {
        assert_eq!(rest(&found.floats), rest(&expected.floats), "{labels}");
        assert_eq!(numbers(&found.floats), numbers(&expected.floats), "{labels}");
        assert_eq!(found.histograms, expected.histograms, "{labels}");
        let [found, expected] = [found, expected].map(|of| histogram_bits(&of.histograms));
        assert_eq!(found, expected, "{labels}");
    }
}

/// Scans the block, and asks for each of its series alone.
async fn assert_holds(block: &ParquetBlock, expected: &[SeriesWindows]) {
    let scanned: Vec<SeriesWindows> = block.scan().try_concat().await.unwrap();
    assert_same(&scanned, expected);
    for (labels, windows) in expected {
        let equal = |(name, value): (&[u8], &[u8])| {
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
            Some(Matcher::equal(text(name)?, text(value)?))
        };
        let request = WindowQuery {
            matchers: labels.iter().filter_map(equal).collect(),
            range: TimeRange::ALL,
            aggregates: Aggregate::ALL.to_vec(),
            times: false,
            skip_chunks: false,
        };
        let found = block.series(request).try_concat().await.unwrap();
        assert_eq!(found.len(), 1, "{labels}");
        assert_eq!(found[0].labels, *labels);
        assert_eq!(found[0].chunks, windows.to_chunks().unwrap(), "{labels}");
    }
}

#[tokio::test]
async fn the_block_of_format_1_is_read() {
    assert_holds(&open(&kept(FormatVersion::V1)).await, &blocks::format_1()).await;
}

#[tokio::test]
async fn the_block_of_format_2_is_read() {
    assert_holds(&open(&kept(FormatVersion::V2)).await, &blocks::format_2()).await;
}

/// What readers may leave out because all of it is NULL is right in a block of one series too.
#[tokio::test]
async fn each_series_is_right_in_a_block_of_its_own() {
    for version in [FormatVersion::V1, FormatVersion::V2] {
        for (labels, mut windows) in blocks::format_2() {
            if version == FormatVersion::V1 {
                forget_times(&mut windows.floats.first_t, &mut windows.floats.last_t);
                forget_times(&mut windows.histograms.first_t, &mut windows.histograms.last_t);
            }
            let series = [(labels, windows)];
            assert_holds(&open(&blocks::write(version, &series).await).await, &series).await;
        }
    }
}

/// Format 1 does not have them.
fn forget_times(first: &mut [i64], last: &mut [i64]) {
    first.fill(merge::NO_TIME);
    last.fill(merge::NO_TIME);
}

#[tokio::test]
async fn the_block_of_format_2_is_written_with_the_same_bytes() {
    let (mut kept, mut written) =
        (kept(FormatVersion::V2), blocks::write(FormatVersion::V2, &blocks::format_2()).await);
    kept.sort();
    written.sort();
    let names = |files: &Files| files.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&kept), names(&written));
    for ((name, kept), (_, written)) in kept.iter().zip(&written) {
        assert!(
            kept == written,
            "the bytes of {name} have changed: raise ENCODER_VERSION in crates/compact, so that \
             blocks of other bytes have other ids, and write this block anew by `cargo test -p \
             parquet-block --test kept_blocks write -- --ignored`"
        );
    }
}

/// Of lists, the file does not say how many are NULL.
#[test]
fn the_block_of_format_2_has_something_in_every_column() {
    let mut columns = 0;
    for (name, bytes) in kept(FormatVersion::V2).into_iter().filter(|(n, _)| n.starts_with("0.")) {
        let file = SerializedFileReader::new(bytes::Bytes::from(bytes)).unwrap();
        for column in file.metadata().row_groups().iter().flat_map(|group| group.columns()) {
            let nulls = column.statistics().and_then(|statistics| statistics.null_count_opt());
            let Some(nulls) = nulls else { continue };
            columns += 1;
            assert!((nulls as i64) < column.num_values(), "{name}: {}", column.column_path());
        }
    }
    assert!(columns > 20, "{columns} are counted");
}

/// `cargo test -p parquet-block --test kept_blocks write -- --ignored` writes the block of the
/// format that is written now; that of format 1 stays as the release before wrote it.
#[tokio::test]
#[ignore = "overwrites the block"]
async fn write_format_2() {
    let folder = folder(FormatVersion::V2);
    std::fs::create_dir_all(&folder).unwrap();
    for (name, bytes) in blocks::write(FormatVersion::V2, &blocks::format_2()).await {
        std::fs::write(folder.join(name), bytes).unwrap();
    }
}
