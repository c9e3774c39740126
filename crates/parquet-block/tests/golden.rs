//! Blocks written and read back: the resulting chunks are Thanos', byte for byte except where
//! histograms were reset, and the files are small.

#[path = "../../merge/tests/support/mod.rs"]
mod support;

#[path = "../../merge/tests/support/resets.rs"]
mod resets;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use block::{BlockLocation, Bucket, BucketMetrics, BucketSettings};
use futures::TryStreamExt;
use merge::{DownsampledSeries, Downsampler, Series};
use model::{BlockId, Clock, Labels, MatchOp, Matcher, Resolution, TimeRange, TimestampMs};
use object_store::memory::InMemory;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet_block::{
    BlockDescription, FooterCache, FormatVersion, Kind, ParquetBlock, ParquetBlockWriter,
    ShardLimits, WindowQuery, WriteStats,
};
use resets::begins_after_reset;
use support::GoldenSeries;
use tsdb::chunk::Aggregate;
use tsdb::meta::BlockMeta;

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

struct Written {
    store: Arc<InMemory>,
    registry: prometheus::Registry,
    bucket: Bucket,
    location: BlockLocation,
    meta: BlockMeta,
    stats: WriteStats,
}

fn external() -> Labels {
    Labels::from_pairs([("cluster", "eu"), ("replica", "0")])
}

/// Runs each of the tests over both versions of the format.
macro_rules! over_both_versions {
    ($($name:ident)*) => {
        mod v1 {
            $(#[tokio::test] async fn $name() { super::$name(super::FormatVersion::V1).await })*
        }
        mod v2 {
            $(#[tokio::test] async fn $name() { super::$name(super::FormatVersion::V2).await })*
        }
    };
}

over_both_versions! {
    raw_to_parquet_to_chunks_gives_thanos_bytes
    whole_blocks_come_back_and_are_smaller_than_thanos
    requests_are_few
    matchers_ranges_and_aggregates_select
    row_groups_do_not_show
    shards_and_rare_labels_do_not_show
    labels_that_are_no_utf8_survive
    series_out_of_order_are_refused
    damage_is_an_error_that_names_the_file
}

async fn write(
    series: &[(Labels, DownsampledSeries)],
    version: FormatVersion,
    limits: ShardLimits,
) -> Written {
    let resolution = Resolution::FiveMinutes;
    let store = Arc::new(InMemory::new());
    let registry = prometheus::Registry::new();
    let metrics = BucketMetrics::new(&registry).unwrap();
    let over: Arc<dyn ObjectStore> = Arc::clone(&store) as _;
    let bucket = Bucket::new(over, BucketSettings::default(), metrics, Arc::new(StoppedClock));
    let id = BlockId::from_parts(1_768_435_200_000, 7);
    let location = BlockLocation::parquet(&external(), resolution, id);
    let description = BlockDescription {
        version,
        id,
        resolution,
        external_labels: external(),
        sources: vec![id],
    };
    let mut writer = ParquetBlockWriter::create(bucket.clone(), location.clone(), description)
        .with_limits(limits);
    for (labels, windows) in series {
        writer.push_series(labels, windows).await.unwrap();
    }
    let stats = writer.finish().await.unwrap();
    let json = format!(
        r#"{{"ulid":"{id}","minTime":0,"maxTime":1,"stats":{{}},"compaction":{{"level":1,"sources":[]}},"version":1,"thanos":{{"version":1,"labels":{{}},"downsample":{{"resolution":300000}},"source":"compactor"}}}}"#
    );
    let mut meta = BlockMeta::from_json(json.as_bytes()).unwrap();
    stats.describe(&mut meta);
    Written { store, registry, bucket, location, meta, stats }
}

impl Written {
    async fn open(&self) -> ParquetBlock {
        let cache = FooterCache::new(1 << 20);
        ParquetBlock::open(&self.bucket, &self.location, &self.meta, &cache).await.unwrap()
    }

    /// Reading requests to the bucket so far.
    fn gets(&self) -> f64 {
        let families = self.registry.gather();
        let operations =
            families.iter().filter(|f| f.name() == "thanos_objstore_bucket_operations_total");
        let gets = operations.flat_map(|f| f.get_metric()).filter(|m| {
            m.get_label().iter().any(|l| l.name() == "operation" && l.value().starts_with("get"))
        });
        gets.map(|m| m.get_counter().get_value()).sum()
    }
}

fn downsample(all: &[GoldenSeries]) -> Vec<(Labels, DownsampledSeries)> {
    let mut downsampler = Downsampler::new(Resolution::FiveMinutes);
    let windows = all.iter().map(|series| {
        let mut out = DownsampledSeries::default();
        downsampler.raw(&series.raw, &mut out).unwrap();
        (series.labels.clone(), out)
    });
    let mut windows: Vec<_> = windows.collect();
    windows.sort_by(|a, b| a.0.cmp(&b.0));
    windows
}

fn everything() -> WindowQuery {
    WindowQuery {
        matchers: Vec::new(),
        range: TimeRange::ALL,
        aggregates: Aggregate::ALL.to_vec(),
        times: false,
        skip_chunks: false,
    }
}

async fn read(block: &ParquetBlock, request: WindowQuery) -> Vec<Series> {
    block.series(request).try_concat().await.unwrap()
}

/// Checks that what was written comes back, and that it is what Thanos wrote.
fn assert_golden(
    ours: &[Series],
    golden: &[GoldenSeries],
    written: &[(Labels, DownsampledSeries)],
) {
    assert_eq!(ours.len(), golden.len());
    assert!(ours.windows(2).all(|w| w[0].labels < w[1].labels));
    let mut reset = 0;
    for series in ours {
        let (_, windows) = written.iter().find(|(labels, _)| *labels == series.labels).unwrap();
        assert_eq!(series.chunks, windows.to_chunks().unwrap(), "{}", series.labels);
        if begins_after_reset(&series.chunks) {
            reset += 1;
            continue;
        }
        let expected = golden.iter().find(|g| g.labels == series.labels).unwrap();
        assert_eq!(series.chunks, expected.five_minutes, "{}", series.labels);
    }
    assert!(reset < 5, "{reset} series were reset");
}

async fn raw_to_parquet_to_chunks_gives_thanos_bytes(version: FormatVersion) {
    let golden = support::excerpt();
    let windows = downsample(&golden);
    let written = write(&windows, version, ShardLimits::default()).await;
    let names: Vec<&str> = written.stats.files.iter().map(|f| f.0.as_str()).collect();
    let mut expected = vec!["0.series.parquet", "0.samples.parquet", "0.histograms.parquet"];
    if version == FormatVersion::V2 {
        expected.extend(["0.buckets.parquet", "statistics.parquet", "checksums"]);
    }
    assert_eq!(names, expected);
    assert_eq!(written.meta.format.as_deref(), Some(version.as_str()));
    for (name, size) in &written.stats.files {
        assert_eq!(written.store.head(&written.location.file(name)).await.unwrap().size, *size);
    }
    let block = written.open().await;
    assert_golden(&read(&block, everything()).await, &golden, &windows);

    // And on to 1h, from the scan.
    let scanned: Vec<(Labels, DownsampledSeries)> = block.scan().try_concat().await.unwrap();
    let mut coarse = DownsampledSeries::default();
    for (labels, windows) in &scanned {
        Downsampler::new(Resolution::OneHour)
            .coarser(Resolution::FiveMinutes, windows, &mut coarse)
            .unwrap();
        let expected = golden.iter().find(|g| g.labels == *labels).unwrap();
        let chunks = coarse.to_chunks().unwrap();
        if !begins_after_reset(&chunks) {
            assert_eq!(chunks, expected.one_hour, "{labels}");
        }
    }
    assert_eq!(scanned.len(), golden.len());
}

#[expect(clippy::print_stdout, reason = "the sizes that the table of figures shows")]
async fn whole_blocks_come_back_and_are_smaller_than_thanos(version: FormatVersion) {
    let Some(blocks) = support::blocks() else { return };
    let windows = downsample(&blocks.series);
    let written = write(&windows, version, ShardLimits::default()).await;
    assert_golden(&read(&written.open().await, everything()).await, &blocks.series, &windows);

    let again = write(&windows, version, ShardLimits::default()).await;
    assert_eq!(again.stats, written.stats);
    for (name, _) in &written.stats.files {
        let bytes = |w: &Written| {
            let (store, path) = (Arc::clone(&w.store), w.location.file(name));
            async move { store.get(&path).await.unwrap().bytes().await.unwrap() }
        };
        assert!(bytes(&again).await == bytes(&written).await, "{name} differs between two runs");
    }

    let floats = |windows: &[(Labels, DownsampledSeries)]| -> Vec<(Labels, DownsampledSeries)> {
        windows.iter().filter(|(_, w)| w.histograms.is_empty()).cloned().collect()
    };
    let size = |file| std::fs::metadata(blocks.folder.join(file)).unwrap().len() as usize;
    let thanos_whole = size("index") + size("chunks/000001");
    let chunk_bytes = |keep: &dyn Fn(&GoldenSeries) -> bool| -> usize {
        let kept = blocks.series.iter().filter(|s| keep(s));
        kept.flat_map(|s| &s.five_minutes).map(|c| c.size() + 25).sum()
    };
    let float_only = write(&floats(&windows), version, ShardLimits::default()).await;
    let is_float =
        |s: &GoldenSeries| windows.iter().any(|(l, w)| *l == s.labels && w.histograms.is_empty());
    // Thanos' bytes of the float series: the whole block except the chunks of the histograms.
    let thanos = thanos_whole - chunk_bytes(&|s| !is_float(s));
    let ratio = float_only.stats.bytes() as f64 / thanos as f64;
    let whole = written.stats.bytes() as f64 / thanos_whole as f64;
    println!(
        "floats: {} of {thanos} bytes, {ratio:.3}; whole block {whole:.3}",
        float_only.stats.bytes()
    );
    println!("{:?}", written.stats.files);
    let (most_of_floats, most) = match version {
        FormatVersion::V1 => (0.75, 0.75),
        FormatVersion::V2 => (0.40, 0.45),
    };
    assert!(ratio <= most_of_floats && whole <= most, "{ratio} {whole}");
}

async fn requests_are_few(version: FormatVersion) {
    let written = write(&downsample(&support::excerpt()), version, ShardLimits::default()).await;
    let cache = FooterCache::new(1 << 20);
    let open = || ParquetBlock::open(&written.bucket, &written.location, &written.meta, &cache);
    let block = open().await.unwrap();
    // format 2 also has checksums, and a file of buckets
    let footers = if version == FormatVersion::V1 { 3.0 } else { 5.0 };
    assert_eq!(written.gets(), footers, "one per footer");
    open().await.unwrap();
    assert_eq!(written.gets(), footers, "footers are kept");
    let request = WindowQuery {
        matchers: vec![Matcher::equal("__name__", "http_requests_total")],
        aggregates: vec![Aggregate::Counter],
        ..everything()
    };
    assert_eq!(read(&block, request).await.len(), 1);
    // The name column, the labels with the positions, the windows.
    assert_eq!(written.gets(), footers + 3.0);
}

async fn matchers_ranges_and_aggregates_select(version: FormatVersion) {
    let golden = support::excerpt();
    let written = write(&downsample(&golden), version, ShardLimits::default()).await;
    let block = written.open().await;
    let matching = |matchers: Vec<Matcher>| WindowQuery { matchers, ..everything() };
    let names = |series: &[Series]| -> Vec<String> {
        series
            .iter()
            .map(|s| String::from_utf8(s.labels.metric_name().unwrap().to_vec()).unwrap())
            .collect()
    };

    let one = read(&block, matching(vec![Matcher::equal("__name__", "http_requests_total")])).await;
    assert_eq!(names(&one), ["http_requests_total"]);
    let rpc = Matcher::new(MatchOp::Regex, "__name__", "rpc_.*").unwrap();
    let not_size = Matcher::new(MatchOp::NotEqual, "__name__", "rpc_size_bytes").unwrap();
    assert_eq!(
        names(&read(&block, matching(vec![rpc.clone(), not_size])).await),
        ["rpc_latency_seconds"]
    );
    assert!(read(&block, matching(vec![Matcher::equal("nosuch", "x")])).await.is_empty());
    assert_eq!(
        read(&block, matching(vec![Matcher::equal("nosuch", "")])).await.len(),
        golden.len()
    );
    let no_le = Matcher::new(MatchOp::NotEqual, "le", "").unwrap();
    assert_eq!(
        names(&read(&block, matching(vec![no_le])).await),
        ["http_request_duration_seconds_bucket"]
    );

    let day =
        TimeRange::new(1_767_225_600_000 + 5 * 86_400_000, 1_767_225_600_000 + 6 * 86_400_000);
    let request = WindowQuery { range: day, aggregates: vec![Aggregate::Counter], ..everything() };
    for series in read(&block, request).await {
        let expected = golden.iter().find(|g| g.labels == series.labels).unwrap();
        let inside: Vec<_> = expected
            .five_minutes
            .iter()
            .filter(|c| day.overlaps_closed(c.min_time, c.max_time))
            .collect();
        assert_eq!(series.chunks.len(), inside.len());
        for (ours, golden) in series.chunks.iter().zip(inside) {
            assert_eq!(ours.aggregate(Aggregate::Counter), golden.aggregate(Aggregate::Counter));
            assert_eq!(ours.aggregate(Aggregate::Sum), None);
        }
    }
    let later =
        WindowQuery { range: TimeRange::new(1_900_000_000_000, 1_900_000_000_001), ..everything() };
    assert!(read(&block, later).await.is_empty());
    let bare = read(&block, WindowQuery { skip_chunks: true, ..everything() }).await;
    assert!(bare.len() == golden.len() && bare.iter().all(|s| s.chunks.is_empty()));

    assert_eq!(
        block.label_values("__name__", std::slice::from_ref(&rpc)).await.unwrap(),
        ["rpc_latency_seconds", "rpc_size_bytes"]
    );
    assert_eq!(
        block.label_names(&[rpc]).await.unwrap(),
        ["__name__", "instance", "job", "namespace"]
    );
    assert!(block.label_names(&[]).await.unwrap().contains(&"le".to_owned()));
}

fn many(series: usize, windows: i64) -> Vec<(Labels, DownsampledSeries)> {
    let windows_of = |i: usize| merge::Windows {
        t: (0..windows).map(|w| w * 300_000 + 299_999).collect(),
        first_t: vec![merge::NO_TIME; windows as usize],
        last_t: vec![merge::NO_TIME; windows as usize],
        count: vec![20; windows as usize],
        sum: (0..windows).map(|w| (w * i as i64) as f64).collect(),
        min: vec![0.25; windows as usize],
        max: (0..windows).map(|w| w as f64).collect(),
        counter: (0..windows)
            .map(|w| if w < 25 { w as f64 } else { (w + i as i64) as f64 })
            .collect(),
        batches: vec![
            merge::Batch { start: 0, first_t: 10, first_v: 0.0, last_v: 1.0 },
            merge::Batch { start: 30, first_t: 30 * 300_000, first_v: f64::INFINITY, last_v: -0.0 },
        ],
    };
    let one = |i: usize| {
        let mut labels = vec![
            ("__name__".to_owned(), format!("m{:05}", i / 7)),
            ("i".to_owned(), i.to_string()),
        ];
        labels.push((format!("rare_{i}"), "x".to_owned()));
        (
            Labels::from_pairs(labels),
            DownsampledSeries { floats: windows_of(i), ..DownsampledSeries::default() },
        )
    };
    let mut all: Vec<_> = (0..series).map(one).collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

async fn row_groups_do_not_show(version: FormatVersion) {
    let all = many(150, 4000);
    let limits = ShardLimits { row_group_bytes: 1, ..ShardLimits::default() };
    let written = write(&all, version, limits).await;
    let block = written.open().await;
    let scanned: Vec<(Labels, DownsampledSeries)> = block.scan().try_concat().await.unwrap();
    assert!(scanned == all);
    // Series of the first and of the last row group in one request.
    let either = Matcher::new(MatchOp::Regex, "i", "1|75|149").unwrap();
    let found = read(&block, WindowQuery { matchers: vec![either], ..everything() }).await;
    assert_eq!(found.len(), 3);
    for series in found {
        let (_, windows) = all.iter().find(|(labels, _)| *labels == series.labels).unwrap();
        assert_eq!(series.chunks, windows.to_chunks().unwrap());
    }
}

async fn shards_and_rare_labels_do_not_show(version: FormatVersion) {
    let all = many(1500, 50);
    let written =
        write(&all, version, ShardLimits { series: 1200, ..ShardLimits::default() }).await;
    let objects = if version == FormatVersion::V1 { 0 } else { 2 };
    assert_eq!(written.stats.files.len(), 4 + objects);
    let block = written.open().await;
    let scanned: Vec<(Labels, DownsampledSeries)> = block.scan().try_concat().await.unwrap();
    assert!(scanned == all);
    for rare in [7, 1200, 1499] {
        let request = WindowQuery {
            matchers: vec![Matcher::equal(format!("rare_{rare}"), "x")],
            ..everything()
        };
        let found = read(&block, request).await;
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].labels.get("i"), Some(rare.to_string().as_bytes()));
        assert_eq!(block.label_values(&format!("rare_{rare}"), &[]).await.unwrap(), ["x"]);
    }
    assert_eq!(block.label_names(&[]).await.unwrap().len(), 1502);
}

async fn labels_that_are_no_utf8_survive(version: FormatVersion) {
    let mut all = many(2, 50);
    all[1].0 = all[1].0.with("i", b"\xff\xfe");
    all.sort_by(|a, b| a.0.cmp(&b.0));
    let written = write(&all, version, ShardLimits::default()).await;
    let scanned: Vec<(Labels, DownsampledSeries)> =
        written.open().await.scan().try_concat().await.unwrap();
    assert!(scanned == all);
}

async fn series_out_of_order_are_refused(version: FormatVersion) {
    let all = many(2, 50);
    let written = write(&[], version, ShardLimits::default()).await;
    assert!(read(&written.open().await, everything()).await.is_empty());
    let id = BlockId::from_parts(1, 1);
    let description = BlockDescription {
        version,
        id,
        resolution: Resolution::FiveMinutes,
        external_labels: external(),
        sources: vec![],
    };
    let mut writer =
        ParquetBlockWriter::create(written.bucket.clone(), written.location.clone(), description);
    writer.push_series(&all[1].0, &all[1].1).await.unwrap();
    assert_eq!(writer.push_series(&all[0].0, &all[0].1).await.unwrap_err().kind(), Kind::Invalid);
}

async fn damage_is_an_error_that_names_the_file(version: FormatVersion) {
    let written = write(&downsample(&support::excerpt()), version, ShardLimits::default()).await;
    let path = written.location.file("0.samples.parquet");
    let good = written.store.get(&path).await.unwrap().bytes().await.unwrap();
    let mut errors = 0;
    for i in 0..40 {
        let mut bad = good.to_vec();
        let at = bad.len() * i / 40;
        bad[at..].iter_mut().take(16).for_each(|b| *b ^= 0x55);
        written.store.put(&path, bad.into()).await.unwrap();
        let cache = FooterCache::new(1 << 20);
        let outcome = async {
            let block =
                ParquetBlock::open(&written.bucket, &written.location, &written.meta, &cache)
                    .await?;
            block.series(everything()).try_collect::<Vec<_>>().await
        };
        if let Err(e) = outcome.await {
            let known = matches!(e.kind(), Kind::Corrupt | Kind::Unsupported | Kind::Unavailable);
            assert!(known && e.to_string().contains("parquet"), "{e:?}");
            errors += 1;
        }
    }
    // Pages of format 1 carry no checksums: damage that still decompresses gives other values. It
    // must never panic.
    let least = if version == FormatVersion::V1 { 10 } else { 40 };
    assert!(errors >= least, "{errors} of 40 damaged files were noticed");
    written.store.put(&path, good.slice(..good.len() / 2).into()).await.unwrap();
    let cache = FooterCache::new(1 << 20);
    assert!(
        ParquetBlock::open(&written.bucket, &written.location, &written.meta, &cache)
            .await
            .is_err()
    );
    written.store.delete(&path).await.unwrap();
    let gone = ParquetBlock::open(&written.bucket, &written.location, &written.meta, &cache)
        .await
        .unwrap_err();
    assert_eq!(gone.kind(), Kind::NotFound);
}

/// A generator of numbers that are the same in every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end as u64) as usize
    }
}

/// Flips bits of every file in turn, `FLIPS` of them, by default 1,000: what is read is either right, or an error that names the file.
#[tokio::test]
async fn no_flipped_bit_changes_a_value() {
    let flips = std::env::var("FLIPS").map_or(1_000, |n| n.parse().expect("FLIPS is a number"));
    let windows = downsample(&support::excerpt());
    let written = write(&windows, FormatVersion::V2, ShardLimits::default()).await;
    let mut files = Vec::new();
    for (name, _) in &written.stats.files {
        let path = written.location.file(name);
        let bytes = written.store.get(&path).await.unwrap().bytes().await.unwrap();
        files.push((path, bytes));
    }
    let read = || async {
        let cache = FooterCache::new(1 << 20);
        let block =
            ParquetBlock::open(&written.bucket, &written.location, &written.meta, &cache).await?;
        let series: Vec<Series> = block.series(everything()).try_concat().await?;
        Ok::<_, parquet_block::Error>((series, block.statistics().await?))
    };
    let right = read().await.unwrap();
    let (mut numbers, mut noticed) = (Numbers(7), 0);
    for flip in 0..flips {
        let (path, good) = &files[flip % files.len()];
        let mut bad = good.to_vec();
        let at = numbers.below(bad.len());
        bad[at] ^= 1 << numbers.below(8);
        written.store.put(path, bad.into()).await.unwrap();
        match read().await {
            Ok(found) => assert!(found == right, "byte {at} of {path} changed a value"),
            Err(e) => {
                let text = format!("{e:?}");
                assert!(e.kind() == Kind::Corrupt, "{text}");
                assert!(text.contains(path.filename().unwrap()), "{path}: {text}");
                noticed += 1;
            }
        }
        written.store.put(path, good.clone().into()).await.unwrap();
    }
    // all bytes are read, except gaps between what is needed
    assert!(noticed > flips * 9 / 10, "{noticed} of {flips}");
    println!("{noticed} of {flips} flips were noticed, none changed a value");
}

#[tokio::test]
async fn statistics_count_the_block() {
    let windows = downsample(&support::excerpt());
    let written = write(&windows, FormatVersion::V2, ShardLimits::default()).await;
    let statistics = written.open().await.statistics().await.unwrap().unwrap();
    let totals = statistics.totals();
    assert_eq!(totals.series, written.stats.series);
    assert_eq!(totals.samples, written.stats.rows + written.stats.histogram_rows);
    // all bytes of the files belong to series, except footers
    let files = written.stats.files.iter().filter(|(name, _)| name.starts_with("0."));
    let bytes: u64 = files.map(|(_, size)| size).sum();
    assert!(totals.bytes <= bytes && totals.bytes > bytes / 3, "{} of {bytes}", totals.bytes);
    let by_metric: u64 = statistics.by_metric().rows.iter().map(|row| row.counts.bytes).sum();
    assert_eq!(by_metric, totals.bytes);
    let v1 = write(&windows, FormatVersion::V1, ShardLimits::default()).await;
    assert_eq!(v1.open().await.statistics().await.unwrap(), None);
}
