use std::collections::BTreeMap;

use model::error::in_one_line;
use model::{BlockId, MatchOp};
use object_store::ObjectStore;
use object_store::memory::InMemory;
use prometheus::Registry;
use tsdb::block_builder::{BlockBuilder, BlockIdentity};

use super::*;
use crate::testing::{self, TestClock};
use crate::{BucketMetrics, BucketSettings, upload};

mod odd;

const ID: &str = "01M81HXX0GS6A2F69HCM1Y84FY";

struct Uploaded {
    bucket: Bucket,
    registry: Registry,
    meta: Arc<BlockMeta>,
    bytes: u64,
}

impl Uploaded {
    async fn new(dir: &std::path::Path, settings: BucketSettings) -> Uploaded {
        let registry = Registry::new();
        let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let bucket =
            Bucket::new(store, settings, BucketMetrics::new(&registry).unwrap(), TestClock::new());
        let meta = BlockMeta::from_json(&std::fs::read(dir.join("meta.json")).unwrap()).unwrap();
        let meta = upload::upload_block_dir(&bucket, dir, &meta, 2).await.unwrap();
        let bytes = meta.thanos.as_ref().unwrap().files.iter().map(|f| f.size_bytes).sum();
        Uploaded { bucket, registry, meta: Arc::new(meta), bytes }
    }

    fn reader(&self) -> BlockReader {
        let settings = ReaderSettings {
            batch_series: 50,
            index_bytes: 3000,
            batch_bytes: 20_000,
            prefetch: 2,
            ..ReaderSettings::default()
        };
        BlockReader::new(
            self.bucket.clone(),
            Arc::clone(&self.meta),
            HeaderCache::new(1 << 20),
            settings,
        )
    }

    /// (ranged reads, bytes they fetched)
    fn fetched(&self) -> (f64, f64) {
        let counter = |name: &str| {
            let families = self.registry.gather();
            let family = families.iter().find(|f| f.name() == name)?.clone();
            let ranged = |m: &&prometheus::proto::Metric| {
                m.get_label().iter().any(|l| l.value() == "get_range")
            };
            family.get_metric().iter().find(ranged).map(|m| m.get_counter().get_value())
        };
        let reads = counter("thanos_objstore_bucket_operations_total").unwrap_or_default();
        (reads, counter("thanos_objstore_bucket_operation_fetched_bytes_total").unwrap_or_default())
    }
}

async fn fixture() -> Uploaded {
    Uploaded::new(&testing::fixture_dir(), BucketSettings::default()).await
}

/// 2000 series of two hours.
async fn large() -> Uploaded {
    let mut builder = BlockBuilder::new();
    let mut series: Vec<Labels> = (0..2000)
        .map(|i| {
            let (name, pod) = (format!("metric_{}", i % 20), format!("pod-{i:05}"));
            Labels::from_pairs([("__name__", name.as_str()), ("pod", &pod), ("job", "node")])
        })
        .collect();
    series.sort();
    let ts: Vec<i64> = (0..240).map(|i| 1_767_225_600_000 + i * 30_000).collect();
    for (at, labels) in series.iter().enumerate() {
        let values: Vec<f64> =
            (0..240).map(|i| ((i * 7919 + at * 31) % 1000) as f64 / 8.0).collect();
        builder.push_floats(labels, &ts, &values).unwrap();
    }
    let description = BlockIdentity {
        id: ID.parse::<BlockId>().unwrap(),
        range: TimeRange::new(1_767_225_600_000, 1_767_232_800_000),
        external_labels: Some(Labels::from_pairs([("cluster", "a")])),
    };
    let folder = tempfile::tempdir().unwrap();
    builder.finish(description).unwrap().save(folder.path()).unwrap();
    Uploaded::new(&folder.path().join(ID), BucketSettings::default()).await
}

async fn collect(reader: &BlockReader, query: SeriesQuery) -> (Vec<BlockSeries>, Vec<Error>) {
    let batches: Vec<SeriesBatch> = reader.series(query).try_collect().await.unwrap();
    let mut all = (Vec::new(), Vec::new());
    for batch in batches {
        all.0.extend(batch.series);
        all.1.extend(batch.errors);
    }
    all
}

fn equal(name: &str, value: &str) -> Vec<Matcher> {
    vec![Matcher::equal(name, value)]
}

#[tokio::test]
async fn a_full_scan_gives_every_series_and_chunk() {
    let block = fixture().await;
    let (series, errors) = collect(&block.reader(), SeriesQuery::all()).await;
    assert!(errors.is_empty(), "{errors:?}");
    assert_eq!(series.len() as u64, block.meta.stats.num_series);
    assert_eq!(
        series.iter().map(|s| s.chunks.len() as u64).sum::<u64>(),
        block.meta.stats.num_chunks
    );
    assert!(series.windows(2).all(|w| w[0].labels < w[1].labels));
    let samples: usize = series
        .iter()
        .flat_map(|s| &s.chunks)
        .map(|c| tsdb::chunk::num_samples(c.encoding, &c.data).unwrap())
        .sum();
    assert_eq!(samples as u64, block.meta.stats.num_samples);
}

#[tokio::test]
async fn matchers_range_and_skip_chunks() {
    let block = fixture().await;
    let reader = block.reader();
    let (all, _) = collect(&reader, SeriesQuery::all()).await;
    let half = TimeRange::new(block.meta.min_time, block.meta.min_time + 3_600_000);
    let matchers = vec![
        Matcher::equal("__name__", "http_requests_total"),
        Matcher::new(MatchOp::NotRegex, "handler", "/l.*").unwrap(),
    ];
    let expected: Vec<BlockSeries> = all
        .iter()
        .filter(|s| matchers.iter().all(|m| m.matches(s.labels.get(&m.name).unwrap_or_default())))
        .map(|s| {
            let touching = |c: &&BlockChunk| half.overlaps_closed(c.min_time, c.max_time);
            BlockSeries {
                labels: s.labels.clone(),
                chunks: s.chunks.iter().filter(touching).cloned().collect(),
            }
        })
        .filter(|s| !s.chunks.is_empty())
        .collect();
    assert!(!expected.is_empty());
    let query = SeriesQuery { matchers, range: half, skip_chunks: false };
    assert_eq!(collect(&reader, query.clone()).await.0, expected);
    let (labels_only, _) =
        collect(&reader, SeriesQuery { skip_chunks: true, ..query.clone() }).await;
    assert!(labels_only.iter().map(|s| &s.labels).eq(expected.iter().map(|s| &s.labels)));
    assert!(labels_only.iter().all(|s| s.chunks.is_empty()));
    let elsewhere = SeriesQuery { range: TimeRange::new(0, 1), ..query };
    assert!(collect(&reader, elsewhere).await.0.is_empty());
}

#[tokio::test]
async fn names_and_values() {
    let block = fixture().await;
    let reader = block.reader();
    let (all, _) = collect(&reader, SeriesQuery::all()).await;
    for matchers in [Vec::new(), equal("__name__", "up"), equal("job", "api"), equal("job", "nope")]
    {
        let mut expected = BTreeMap::<Vec<u8>, std::collections::BTreeSet<Vec<u8>>>::new();
        for series in &all {
            if matchers.iter().all(|m| m.matches(series.labels.get(&m.name).unwrap_or_default())) {
                for (name, value) in series.labels.iter() {
                    expected.entry(name.to_vec()).or_default().insert(value.to_vec());
                }
            }
        }
        assert!(reader.label_names(&matchers).await.unwrap().iter().eq(expected.keys()));
        for name in ["__name__", "job", "handler", "instance", "nope"] {
            let values = reader.label_values(name, &matchers).await.unwrap();
            let of_name = expected.get(name.as_bytes()).cloned().unwrap_or_default();
            assert!(values.iter().eq(&of_name), "{name} {matchers:?}");
        }
    }
}

#[tokio::test]
async fn the_header_is_read_once_by_three_reads_at_most() {
    let block = large().await;
    let reader = block.reader();
    reader.header().await.unwrap();
    let (reads, bytes) = block.fetched();
    assert!(reads <= 3.0 && bytes < block.bytes as f64 / 10.0, "{reads} reads of {bytes} bytes");
    assert_eq!(reader.label_values("__name__", &[]).await.unwrap().len(), 20);
    assert_eq!(block.fetched().0, reads);
}

#[tokio::test]
async fn a_query_for_one_series_reads_little() {
    let block = large().await;
    let reader = block.reader();
    let (series, errors) =
        collect(&reader, SeriesQuery { matchers: equal("pod", "pod-00777"), ..SeriesQuery::all() })
            .await;
    assert!(errors.is_empty());
    assert_eq!(series.len(), 1);
    let (reads, bytes) = block.fetched();
    assert!(bytes * 10.0 <= block.bytes as f64, "{bytes} of {} bytes", block.bytes);
    assert!(reads <= 6.0, "{reads} reads");
}

#[tokio::test]
async fn a_full_scan_reads_in_order_by_few_requests() {
    let block = large().await;
    let settings = ReaderSettings { batch_bytes: 256 << 10, ..ReaderSettings::default() };
    let reader = BlockReader::new(
        block.bucket.clone(),
        Arc::clone(&block.meta),
        HeaderCache::new(0),
        settings,
    );
    let (series, _) = collect(&reader, SeriesQuery::all()).await;
    assert_eq!(series.len(), 2000);
    let (reads, bytes) = block.fetched();
    assert!(reads < 8.0 + block.bytes as f64 / f64::from(128 << 10), "{reads} reads");
    assert!(bytes < 1.3 * block.bytes as f64, "{bytes} of {} bytes", block.bytes);
}

#[tokio::test]
async fn a_scan_gives_the_same_however_much_is_read_at_a_time() {
    let block = large().await;
    let (expected, _) = collect(&block.reader(), SeriesQuery::all()).await;
    assert_eq!(expected.len(), 2000);
    for (index_bytes, batch_bytes, prefetch) in
        [(1, 4000, 1), (3000, 1, 3), (1 << 20, 1 << 20, 1), (9000, 70_000, 2)]
    {
        let settings =
            ReaderSettings { index_bytes, batch_bytes, prefetch, ..ReaderSettings::default() };
        let reader = BlockReader::new(
            block.bucket.clone(),
            Arc::clone(&block.meta),
            HeaderCache::new(0),
            settings,
        );
        let header = Arc::new(reader.scan_header().await.unwrap());
        for reader in [reader.clone(), reader.with_header(header)] {
            let (series, errors) = collect(&reader, SeriesQuery::all()).await;
            assert!(series == expected && errors.is_empty(), "{settings:?}: {errors:?}");
        }
    }
}

#[tokio::test]
async fn batches_are_as_large_as_asked_for() {
    let block = large().await;
    for batch_bytes in [10_000, 100_000] {
        let settings =
            ReaderSettings { batch_bytes, index_bytes: 8000, ..ReaderSettings::default() };
        let reader = BlockReader::new(
            block.bucket.clone(),
            Arc::clone(&block.meta),
            HeaderCache::new(0),
            settings,
        );
        let batches: Vec<SeriesBatch> =
            reader.series(SeriesQuery::all()).try_collect().await.unwrap();
        let cost = |b: &SeriesBatch| -> usize {
            let chunks = b
                .series
                .iter()
                .flat_map(|s| &s.chunks)
                .map(|c| c.data.len() + size_of::<BlockChunk>());
            chunks.sum::<usize>()
                + b.series.iter().map(|s| s.labels.as_packed().len()).sum::<usize>()
        };
        let (last, full) = batches.split_last().unwrap();
        assert!(full.iter().chain([last]).all(|b| cost(b) as u64 <= batch_bytes));
        assert!(
            full.iter().all(|b| cost(b) as u64 > batch_bytes / 2),
            "{:?}",
            full.iter().map(cost).collect::<Vec<_>>()
        );
    }
}

#[tokio::test]
async fn a_broken_list_of_all_series_ends_the_scan() {
    let block = large().await;
    let path = BlockLocation::tsdb(block.meta.ulid).index();
    let mut bytes = block.bucket.get(&path).await.unwrap().to_vec();
    let header = block.reader().header().await.unwrap();
    let list = header.postings_range(b"", b"").unwrap();
    bytes[list.end as usize - 2] ^= 1;
    block.bucket.put(&path, bytes.into()).await.unwrap();
    let settings = ReaderSettings { index_bytes: 9000, ..ReaderSettings::default() };
    let reader = BlockReader::new(
        block.bucket.clone(),
        Arc::clone(&block.meta),
        HeaderCache::new(0),
        settings,
    );
    let error = reader.series(SeriesQuery::all()).try_collect::<Vec<_>>().await.unwrap_err();
    assert_eq!(error.kind(), Kind::Corrupt);
    let text = in_one_line(&error).to_string();
    assert!(
        text.contains(&block.meta.ulid.to_string()) && text.contains("index postings"),
        "{text}"
    );
}

#[tokio::test]
async fn a_broken_chunk_costs_its_series_only() {
    let block = fixture().await;
    let reader = block.reader();
    let (all, _) = collect(&reader, SeriesQuery::all()).await;
    let path = BlockLocation::tsdb(block.meta.ulid).segment(1);
    let mut bytes = block.bucket.get(&path).await.unwrap().to_vec();
    bytes[50_000] ^= 1;
    block.bucket.put(&path, bytes.clone().into()).await.unwrap();
    let (series, errors) = collect(&reader, SeriesQuery::all()).await;
    assert_eq!((series.len(), errors.len()), (all.len() - 1, 1));
    assert_eq!(errors[0].kind(), Kind::Corrupt);
    let text = in_one_line(&errors[0]).to_string();
    assert!(
        text.contains(&format!("block={}", block.meta.ulid)) && text.contains("checksum"),
        "{text}"
    );

    bytes.truncate(200_000);
    block.bucket.put(&path, bytes.into()).await.unwrap();
    let (series, errors) = collect(&reader, SeriesQuery::all()).await;
    assert!(
        !series.is_empty() && series.len() + errors.len() == all.len(),
        "{} {}",
        series.len(),
        errors.len()
    );
}

#[tokio::test]
async fn a_chunk_of_unknown_encoding_costs_its_series_only() {
    let block = fixture().await;
    let reader = block.reader();
    let (all, _) = collect(&reader, SeriesQuery::all()).await;
    let path = BlockLocation::tsdb(block.meta.ulid).segment(1);
    let mut bytes = block.bucket.get(&path).await.unwrap().to_vec();
    let record = tsdb::segment::parse_record(&bytes[8..]).unwrap();
    let (len, data_len) = (record.len, record.data.len());
    let body = 8 + len - 4 - data_len - 1;
    bytes[body] = 77;
    let crc = crc32c_of(&bytes[body..8 + len - 4]);
    bytes[8 + len - 4..8 + len].copy_from_slice(&crc.to_be_bytes());
    block.bucket.put(&path, bytes.into()).await.unwrap();
    let (series, errors) = collect(&reader, SeriesQuery::all()).await;
    assert_eq!((series.len(), errors.len()), (all.len() - 1, 1));
    assert_eq!(errors[0].kind(), Kind::Unsupported);
    let text = in_one_line(&errors[0]).to_string();
    assert!(text.contains("unknown encoding 77"), "{text}");
}

/// CRC-32C, bit by bit.
fn crc32c_of(bytes: &[u8]) -> u32 {
    let step = |crc: u32| if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), |crc, _| step(crc)))
}

#[tokio::test]
async fn a_broken_entry_costs_its_series_only() {
    let block = fixture().await;
    let (all, _) = collect(&block.reader(), SeriesQuery::all()).await;
    let path = BlockLocation::tsdb(block.meta.ulid).index();
    let mut bytes = block.bucket.get(&path).await.unwrap().to_vec();
    bytes[5000] ^= 1;
    block.bucket.put(&path, bytes.into()).await.unwrap();
    let (series, errors) = collect(&block.reader(), SeriesQuery::all()).await;
    assert_eq!((series.len(), errors.len()), (all.len() - 1, 1), "{errors:?}");
    let text = in_one_line(&errors[0]).to_string();
    assert!(text.contains("index series: checksum"), "{text}");
}

#[tokio::test]
async fn a_missing_or_broken_index_is_an_error_that_names_the_block() {
    let block = fixture().await;
    let path = BlockLocation::tsdb(block.meta.ulid).index();
    let mut bytes = block.bucket.get(&path).await.unwrap().to_vec();
    let at = bytes.len() - 60;
    bytes[at] ^= 1;
    block.bucket.put(&path, bytes.into()).await.unwrap();
    let error = block.reader().header().await.unwrap_err();
    assert_eq!(error.kind(), Kind::Corrupt);
    assert!(error.to_string().contains(&block.meta.ulid.to_string()), "{error}");
    block.bucket.delete(&path).await.unwrap();
    assert_eq!(block.reader().header().await.unwrap_err().kind(), Kind::NotFound);
}

#[tokio::test]
async fn lengths_are_found_where_the_guess_is_short() {
    let block = fixture().await;
    let reader = block.reader();
    let (whole, _) = collect(&reader, SeriesQuery::all()).await;
    let entries: Vec<EntryBatch> = reader.entries(SeriesQuery::all()).try_collect().await.unwrap();
    let mut entries: Vec<BlockEntry> = entries.into_iter().flat_map(|b| b.entries).collect();
    for chunk in entries.iter_mut().flat_map(|e| &mut e.chunks) {
        chunk.len = 7;
    }
    assert_eq!(reader.read_chunks(entries).await.unwrap().series, whole);
}
