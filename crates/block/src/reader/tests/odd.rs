//! Blocks that correct writers do not write, and deleted samples.

use model::error::in_one_line;
use model::{Budget, FloatHistogram};
use proptest::prelude::*;
use testkit::{OddSeries, odd_index};
use tsdb::chunk::{XorEncoder, decode_floats, decode_histograms};
use tsdb::meta::File;
use tsdb::segment::SegmentWriter;
use tsdb::tombstones::covers;

use super::*;
use crate::{TombstoneCache, load_tombstones};

/// Time and value; for histograms, the sum.
type Samples = Vec<(i64, u64)>;

fn samples(chunk: &BlockChunk) -> Samples {
    let mut ts = Vec::new();
    let values: Vec<f64> = if chunk.encoding.is_histogram() {
        let mut histograms: Vec<FloatHistogram> = Vec::new();
        decode_histograms(chunk.encoding, &chunk.data, &mut ts, &mut histograms).unwrap();
        histograms.iter().map(|h| h.sum).collect()
    } else {
        let mut values = Vec::new();
        decode_floats(chunk.encoding, &chunk.data, &mut ts, &mut values).unwrap();
        values
    };
    ts.into_iter().zip(values.into_iter().map(f64::to_bits)).collect()
}

fn all_samples(series: &[BlockSeries]) -> Vec<(Labels, Samples)> {
    series.iter().map(|s| (s.labels.clone(), s.chunks.iter().flat_map(samples).collect())).collect()
}

/// A block of the cases, in a bucket in memory.
struct Case {
    bucket: Bucket,
    meta: BlockMeta,
}

impl Case {
    async fn new(folder: &std::path::Path) -> Case {
        let bucket = testing::memory_bucket();
        let meta = BlockMeta::from_json(&std::fs::read(folder.join("meta.json")).unwrap()).unwrap();
        let location = BlockLocation::tsdb(meta.ulid);
        for name in ["chunks/000001", "index", "tombstones"] {
            if let Ok(bytes) = std::fs::read(folder.join(name)) {
                bucket.put(&location.file(name), bytes.into()).await.unwrap();
            }
        }
        Case { bucket, meta }
    }

    /// The blocks of a bucket that beginnings of their ids name.
    async fn some(bucket: &str, ids: &[&str]) -> Vec<Case> {
        let folder = format!(
            "{}/../../integration/testdata/cases/buckets/{bucket}",
            env!("CARGO_MANIFEST_DIR")
        );
        let mut cases = Vec::new();
        for id in ids {
            let mut blocks = std::fs::read_dir(&folder).unwrap().map(|block| block.unwrap());
            let block =
                blocks.find(|block| block.file_name().to_str().unwrap().starts_with(id)).unwrap();
            cases.push(Case::new(&block.path()).await);
        }
        cases
    }

    /// The one malformed block of a bucket.
    async fn odd(bucket: &str) -> Case {
        Case::some(bucket, &["01M5H33SR0"]).await.remove(0)
    }

    /// Six blocks with tombstones files, of which one names some.
    async fn with_tombstones() -> Vec<Case> {
        let ids = ["01M5H9", "01M5J5", "01M5K0", "01M5KW", "01M5MQ", "01M5NK"];
        Case::some("7-tombstones-file", &ids).await
    }

    fn reader(&self) -> BlockReader {
        self.reader_with(ReaderSettings::default())
    }

    fn reader_with(&self, settings: ReaderSettings) -> BlockReader {
        BlockReader::new(
            self.bucket.clone(),
            Arc::new(self.meta.clone()),
            HeaderCache::new(1 << 20),
            settings,
        )
    }

    fn location(&self) -> BlockLocation {
        BlockLocation::tsdb(self.meta.ulid)
    }
}

async fn whole(reader: &BlockReader) -> (Vec<BlockSeries>, StoredCounts) {
    let batches: Vec<SeriesBatch> = reader.series(SeriesQuery::all()).try_collect().await.unwrap();
    let mut all = (Vec::new(), StoredCounts::default());
    for batch in batches {
        assert!(batch.errors.is_empty(), "{:?}", batch.errors);
        all.0.extend(batch.series);
        all.1.series += batch.stored.series;
        all.1.samples += batch.stored.samples;
    }
    all
}

fn label_sets(series: &[BlockSeries]) -> Vec<String> {
    series.iter().map(|s| s.labels.to_string()).collect()
}

#[tokio::test]
async fn chunks_out_of_order_come_in_order() {
    let case = Case::odd("2-ooo-chunks").await;
    let (series, stored) = whole(&case.reader()).await;
    assert_eq!((series.len(), stored), (1, StoredCounts { series: 1, samples: 120 }));
    assert!(series[0].chunks.windows(2).all(|w| w[0].max_time < w[1].min_time));
    let samples = &all_samples(&series)[0].1;
    assert_eq!(samples.len(), 120);
    assert!(samples.windows(2).all(|w| w[0].0 < w[1].0));
}

#[tokio::test]
async fn labels_out_of_order_or_twice_are_served_sorted_and_once() {
    let case = Case::odd("11-labels-unsorted").await;
    let (series, stored) = whole(&case.reader()).await;
    assert_eq!(
        label_sets(&series),
        [r#"{__name__="a", b="1"}"#, r#"{__name__="zz", cmd="1", job="x"}"#]
    );
    assert_eq!(stored, StoredCounts { series: 2, samples: 240 });
    let one = SeriesQuery { matchers: equal("job", "x"), ..SeriesQuery::all() };
    assert_eq!(collect(&case.reader(), one).await.0, series[1..]);

    let case = Case::odd("12-label-name-twice").await;
    let (series, stored) = whole(&case.reader()).await;
    assert_eq!(label_sets(&series), [r#"{__name__="a", ns="1"}"#, r#"{__name__="b"}"#]);
    assert_eq!(stored, StoredCounts { series: 2, samples: 240 });
    // the postings of the label list the series twice
    let one = SeriesQuery { matchers: equal("ns", "1"), ..SeriesQuery::all() };
    assert_eq!(collect(&case.reader(), one).await.0, series[..1]);
}

#[tokio::test]
async fn series_out_of_order_come_in_order() {
    let case = Case::odd("9-series-unsorted").await;
    let (series, stored) = whole(&case.reader()).await;
    assert_eq!(
        label_sets(&series),
        [r#"{__name__="a"}"#, r#"{__name__="b"}"#, r#"{__name__="c"}"#]
    );
    assert_eq!(stored, StoredCounts { series: 3, samples: 360 });
    assert!(all_samples(&series).iter().all(|(_, samples)| samples.len() == 120));
}

#[tokio::test]
async fn disorder_that_shows_late_is_an_error_once_and_sorted_from_then_on() {
    let case = Case::odd("9-series-unsorted").await;
    let sorted = whole(&case.reader()).await;
    let reader = case.reader_with(ReaderSettings {
        batch_series: 1,
        prefetch: 1,
        ..ReaderSettings::default()
    });
    let error = reader.series(SeriesQuery::all()).try_collect::<Vec<_>>().await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unordered);
    assert!(error.to_string().contains(&format!("block={}", case.meta.ulid)), "{error}");
    assert_eq!(whole(&reader).await, sorted);
    let other = case.reader_with(ReaderSettings { batch_series: 1, ..ReaderSettings::default() });
    assert_eq!(whole(&other.sorting()).await, sorted);
    let other = case.reader_with(ReaderSettings { batch_series: 1, ..ReaderSettings::default() });
    assert!(!other.check_order().await.unwrap());
    assert_eq!(whole(&other).await, sorted);
    assert!(fixture().await.reader().check_order().await.unwrap());
    // names and values need no order
    let other = case.reader_with(ReaderSettings { batch_series: 1, ..ReaderSettings::default() });
    let some = vec![Matcher::new(MatchOp::Regex, "__name__", ".+").unwrap()];
    assert_eq!(other.label_values("__name__", &some).await.unwrap(), [b"a", b"b", b"c"]);
}

#[tokio::test]
async fn sorting_is_bounded() {
    let case = Case::odd("9-series-unsorted").await;
    let reader =
        case.reader_with(ReaderSettings { sorted_bytes: 200, ..ReaderSettings::default() });
    let error = reader.series(SeriesQuery::all()).try_collect::<Vec<_>>().await.unwrap_err();
    assert_eq!(error.kind(), Kind::Corrupt);
    let text = in_one_line(&error).to_string();
    assert!(
        text.contains(&format!("block={}", case.meta.ulid)) && text.contains("not in order"),
        "{text}"
    );
    let budget = Budget::new(200);
    let reader = case.reader().charging(budget.clone());
    let error = reader.series(SeriesQuery::all()).try_collect::<Vec<_>>().await.unwrap_err();
    assert_eq!(error.kind(), Kind::Limit);
    let text = in_one_line(&error).to_string();
    assert!(text.contains("--memory-budget"), "{text}");
    let budget = Budget::new(1 << 20);
    whole(&case.reader().charging(budget.clone())).await;
    assert!(budget.peak() > 200 && budget.used() == 0);
}

#[tokio::test]
async fn the_stated_size_of_an_index_is_not_trusted() {
    let case = Case::odd("13-wrong-index-size").await;
    let (series, stored) = whole(&case.reader()).await;
    assert_eq!((label_sets(&series), stored.samples), (vec![r#"{__name__="a"}"#.to_owned()], 120));
    let sound = fixture().await;
    let (expected, _) = whole(&sound.reader()).await;
    let true_size =
        sound.bucket.head(&BlockLocation::tsdb(sound.meta.ulid).index()).await.unwrap().size;
    for size in [0, 1, 60, true_size - 1, true_size + 1, true_size * 3, u64::MAX / 2] {
        let mut meta = (*sound.meta).clone();
        let files = &mut meta.thanos.as_mut().unwrap().files;
        files.iter_mut().find(|f| f.rel_path == "index").unwrap().size_bytes = size;
        let case = Case { bucket: sound.bucket.clone(), meta };
        assert_eq!(whole(&case.reader()).await.0, expected, "{size}");
    }
}

#[tokio::test]
async fn what_a_tombstones_file_deletes_is_gone() {
    let (mut stored, mut live, mut with_file) = (StoredCounts::default(), 0, 0);
    for case in Case::with_tombstones().await {
        let loaded = load_tombstones(&case.bucket, &case.location(), &Budget::unlimited())
            .await
            .unwrap()
            .unwrap();
        with_file += usize::from(!loaded.tombstones.is_empty());
        let (series, counts) = whole(&case.reader().deleting(loaded.tombstones)).await;
        stored.series += counts.series;
        stored.samples += counts.samples;
        live += all_samples(&series).iter().map(|(_, samples)| samples.len()).sum::<usize>();
        let meta = &case.meta.stats;
        assert_eq!(counts, StoredCounts { series: meta.num_series, samples: meta.num_samples });
    }
    assert_eq!((stored.series, stored.samples, live, with_file), (24, 2304, 2159, 1));
}

#[tokio::test]
async fn only_what_is_deleted_goes_of_floats_and_histograms() {
    let block = fixture().await;
    let (all, _) = whole(&block.reader()).await;
    let entries: Vec<EntryBatch> =
        block.reader().entries(SeriesQuery::all()).try_collect().await.unwrap();
    let header = block.reader().header().await.unwrap();
    let (ids, _) = block.reader().find(&header, &[]).await.unwrap();
    assert_eq!(ids.len(), all.len());
    let span = |entry: &BlockEntry| {
        (entry.chunks[0].min_time, entry.chunks[entry.chunks.len() - 1].max_time)
    };
    let mut tombstones = Tombstones::default();
    for (i, (id, entry)) in ids.iter().zip(entries.iter().flat_map(|b| &b.entries)).enumerate() {
        let (first, last) = span(entry);
        let deleted = match i % 4 {
            0 => continue,
            1 => Interval { min_time: i64::MIN, max_time: last },
            2 => Interval { min_time: first + 600_000, max_time: first + 1_200_000 },
            _ => Interval { min_time: first, max_time: (first + last) / 2 },
        };
        tombstones.add(u64::from(*id), deleted);
    }
    let left = |(i, (labels, samples)): (usize, (Labels, Samples))| {
        let deleted = tombstones.get(u64::from(ids[i]));
        let samples: Samples = samples.into_iter().filter(|(t, _)| !covers(&deleted, *t)).collect();
        (!samples.is_empty()).then_some((labels, samples))
    };
    let expected: Vec<(Labels, Samples)> =
        all_samples(&all).into_iter().enumerate().filter_map(left).collect();
    assert!(
        expected.len() < all.len()
            && all.iter().any(|s| s.chunks.iter().any(|c| c.encoding.is_histogram()))
    );
    let reader = block.reader().deleting(Arc::new(tombstones.clone()));
    let (series, stored) = whole(&reader).await;
    assert_eq!(all_samples(&series), expected);
    let stats = &block.meta.stats;
    assert_eq!(stored, StoredCounts { series: stats.num_series, samples: stats.num_samples });
    for chunk in series.iter().flat_map(|s| &s.chunks) {
        let samples = samples(chunk);
        assert_eq!((chunk.min_time, chunk.max_time), (samples[0].0, samples[samples.len() - 1].0));
    }
    let (labels_only, errors) =
        collect(&reader, SeriesQuery { skip_chunks: true, ..SeriesQuery::all() }).await;
    assert!(
        errors.is_empty()
            && labels_only.iter().map(|s| &s.labels).eq(expected.iter().map(|(labels, _)| labels))
    );
    let entries: Vec<EntryBatch> = reader.entries(SeriesQuery::all()).try_collect().await.unwrap();
    let entries: Vec<BlockEntry> = entries.into_iter().flat_map(|b| b.entries).collect();
    assert!(entries.iter().map(|e| &e.labels).eq(expected.iter().map(|(labels, _)| labels)));
    // reading the chunks later does not require the tombstones
    assert_eq!(all_samples(&block.reader().read_chunks(entries).await.unwrap().series), expected);
}

#[tokio::test]
async fn a_tombstones_file_is_checked_and_cached_by_version() {
    let case = Case::with_tombstones().await.swap_remove(0);
    let (bucket, location) = (&case.bucket, case.location());
    let budget = Budget::unlimited();
    let mut tombstones = Tombstones::default();
    tombstones.add(7, Interval { min_time: 1, max_time: 9 });
    bucket.put(&location.tombstones(), tombstones.to_bytes().into()).await.unwrap();
    let loaded = load_tombstones(bucket, &location, &budget).await.unwrap().unwrap();
    assert_eq!(*loaded.tombstones, tombstones);
    let version = |modified_ms| crate::sync::ObjectVersion { size: 35, modified_ms, e_tag: None };
    let cache = TombstoneCache::new(1 << 20);
    assert_eq!(*cache.get(bucket, &location, &version(1), &budget).await.unwrap(), tombstones);
    tombstones.add(5, Interval { min_time: 1, max_time: 9 });
    bucket.put(&location.tombstones(), tombstones.to_bytes().into()).await.unwrap();
    assert_ne!(
        load_tombstones(bucket, &location, &budget).await.unwrap().unwrap().digest,
        loaded.digest
    );
    assert_ne!(*cache.get(bucket, &location, &version(1), &budget).await.unwrap(), tombstones);
    assert_eq!(*cache.get(bucket, &location, &version(2), &budget).await.unwrap(), tombstones);
    for (bytes, reason) in [
        (b"nonsense".to_vec(), "truncated"),
        (vec![0; (64 << 20) + 1], "more than 67108864 are not read"),
    ] {
        bucket.put(&location.tombstones(), bytes.into()).await.unwrap();
        let error = load_tombstones(bucket, &location, &budget).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Corrupt);
        let text = in_one_line(&error).to_string();
        assert!(text.contains(&case.meta.ulid.to_string()) && text.contains(reason), "{text}");
    }
    bucket.delete(&location.tombstones()).await.unwrap();
    assert!(load_tombstones(bucket, &location, &budget).await.unwrap().is_none());
    assert!(cache.get(bucket, &location, &version(3), &budget).await.unwrap().is_empty());
}

#[tokio::test]
async fn tombstones_are_charged_before_they_are_read() {
    let case = Case::with_tombstones().await.swap_remove(0);
    let (bucket, location) = (&case.bucket, case.location());
    let mut tombstones = Tombstones::default();
    (0..1000).for_each(|series| tombstones.add(series, Interval { min_time: 1, max_time: 9 }));
    let file = tombstones.to_bytes();
    let size = file.len() as u64;
    bucket.put(&location.tombstones(), file.into()).await.unwrap();
    for too_little in [size - 1, size + 24 * 1000] {
        let budget = Budget::new(too_little);
        let error = load_tombstones(bucket, &location, &budget).await.unwrap_err();
        assert_eq!((error.kind(), budget.used()), (Kind::Limit, 0), "{error}");
    }
    let budget = Budget::new(size + Tombstones::memory_of(1000) as u64);
    let loaded = load_tombstones(bucket, &location, &budget).await.unwrap().unwrap();
    assert_eq!(budget.used(), loaded.tombstones.memory() as u64);
    drop(loaded);
    assert_eq!(budget.used(), 0);
}

/// Labels as they should be in the index, and the first time of each chunk with how many steps
/// follow it.
type Odd = (Vec<(String, String)>, Vec<(i64, i64)>);

/// Labels, and the span of each chunk.
type Spans = (Labels, Vec<(i64, i64)>);

/// A block of series as no correct writer makes them, and what it should read as.
async fn odd_block(series: &[Odd]) -> (Case, Vec<Spans>) {
    let mut segments = SegmentWriter::new();
    let mut odd = Vec::new();
    let mut expected = Vec::new();
    for (labels, spans) in series {
        let chunk = |(min_time, steps): &(i64, i64)| {
            let mut encoder = XorEncoder::new();
            (0..=*steps).for_each(|i| encoder.push(min_time + i * 10, i as f64));
            let reference = segments.push(Encoding::Xor, &encoder.finish()).unwrap().to_raw();
            (reference, *min_time, min_time + steps * 10)
        };
        let chunks: Vec<(u64, i64, i64)> = spans.iter().map(chunk).collect();
        let mut sorted: Vec<(i64, i64)> = chunks.iter().map(|c| (c.1, c.2)).collect();
        sorted.sort_unstable();
        odd.push(OddSeries { labels: labels.clone(), chunks });
        // the last pair of a name wins there, so they are added in reverse
        let labels = Labels::from_pairs(
            labels.iter().rev().filter(|(_, v)| !v.is_empty()).map(|(n, v)| (n, v)),
        );
        if !sorted.is_empty() {
            expected.push((labels, sorted));
        }
    }
    expected.sort();
    let bucket = testing::memory_bucket();
    let mut meta = testing::fixture_meta();
    let location = BlockLocation::tsdb(meta.ulid);
    let index = odd_index(&odd);
    let file =
        |rel_path: &str, size| File { rel_path: rel_path.into(), size_bytes: size, hash: None };
    if let Some(thanos) = &mut meta.thanos {
        (thanos.files, thanos.index_stats) = (vec![file("index", index.len() as u64)], None);
    }
    let mut segment = Vec::new();
    while let Some(piece) = segments.take() {
        segment.extend_from_slice(&piece.bytes);
    }
    bucket.put(&location.segment(1), segment.into()).await.unwrap();
    bucket.put(&location.index(), index.into()).await.unwrap();
    (Case { bucket, meta }, expected)
}

fn spans_of(series: Vec<BlockSeries>) -> Vec<Spans> {
    let spans =
        |s: BlockSeries| (s.labels, s.chunks.iter().map(|c| (c.min_time, c.max_time)).collect());
    // equal labels stay in the order of the index
    let mut all: Vec<Spans> = series.into_iter().map(spans).collect();
    assert!(all.is_sorted_by_key(|(labels, _)| labels.clone()));
    all.sort();
    all
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn odd_blocks_read_sorted_and_whole(
        series in prop::collection::vec(
            (
                prop::collection::vec(("[a-d]", prop_oneof![1 => Just(String::new()), 6 => "[xyz]"]), 0..5),
                prop::collection::vec((0i64..300, 0i64..5), 0..5),
            ),
            0..12,
        ),
        batch_series in 1usize..5,
        prefetch in 1usize..3,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (case, expected) = odd_block(&series).await;
            let reader = case.reader_with(ReaderSettings { batch_series, prefetch, ..ReaderSettings::default() });
            for matchers in [Vec::new(), equal("a", "x"), [equal("a", "y"), equal("b", "x")].concat()] {
                let query = SeriesQuery { matchers: matchers.clone(), ..SeriesQuery::all() };
                let mut read = reader.series(query.clone()).try_collect::<Vec<SeriesBatch>>().await;
                if let Err(e) = &read {
                    assert_eq!(e.kind(), Kind::Unordered, "{e}");
                    read = reader.series(query).try_collect().await;
                }
                let read = read.unwrap();
                assert!(read.iter().all(|b| b.errors.is_empty()), "{read:?}");
                let series = read.into_iter().flat_map(|b| b.series).collect();
                let matching = |s: &&Spans| {
                    matchers.iter().all(|m| m.matches(s.0.get(&m.name).unwrap_or_default()))
                };
                let expected: Vec<_> = expected.iter().filter(matching).cloned().collect();
                assert_eq!(spans_of(series), expected);
            }
        });
    }
}
