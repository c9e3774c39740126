//! Buckets with blocks, and what a gateway answers over them.

use std::path::Path as FsPath;
use std::sync::Arc;
use std::time::Duration;

use block::{BlockLocation, Bucket, BucketMetrics, BucketSettings, Path};
use futures::StreamExt;
use merge::{ChunkContent, DownsampledSeries, Downsampler, Series, SeriesChunk};
use model::{BlockId, Clock, Labels, MatchOp, Matcher, Resolution, SystemClock, TimeRange};
use object_store::ObjectStoreExt;
use object_store::memory::InMemory;
use parquet_block::ParquetBlockWriter;
use prometheus::Registry;
use storeapi::conformance::{FloatSamples, float_series};
use storeapi::{Frame, LabelValuesRequest, PartialResponse, SeriesRequest, Store};
use testkit::{CountingObjects, FailingObjects, FaultPlan};
use tsdb::chunk::{decode_floats, stored_samples};
use tsdb::index::{ChunkMeta, IndexWriter};
use tsdb::meta::{BlockMeta, File};
use tsdb::segment::SegmentWriter;

use crate::{Gateway, Settings};

pub(super) const START: i64 = 1_767_225_600_000;
pub(super) const HOUR: i64 = 3_600_000;

pub(super) fn labels(pairs: &[(&str, &str)]) -> Labels {
    Labels::from_pairs(pairs.iter().copied())
}

pub(super) fn matcher(name: &str, regex: &str) -> Matcher {
    Matcher::new(MatchOp::Regex, name, regex).unwrap()
}

pub(super) fn hours(from: i64, to: i64) -> TimeRange {
    TimeRange::new(START + from * HOUR, START + to * HOUR)
}

/// A sample a minute, rising by `slope`.
pub(super) fn samples(range: TimeRange, slope: f64) -> FloatSamples {
    let minutes = (range.end - range.start) / 60_000;
    (0..minutes).map(|i| (range.start + i * 60_000, i as f64 * slope)).collect()
}

/// A block to be made.
#[derive(Clone)]
pub(super) struct Make {
    pub(super) id: BlockId,
    pub(super) range: TimeRange,
    pub(super) external: Labels,
    pub(super) sources: Vec<BlockId>,
    pub(super) resolution: Resolution,
    /// In any order, with raw chunks.
    pub(super) series: Vec<Series>,
}

pub(super) fn id(n: u128) -> BlockId {
    BlockId::from_parts(START as u64, n)
}

impl Make {
    /// A raw block of `cluster="eu"`.
    pub(super) fn raw(n: u128, range: TimeRange, series: Vec<Series>) -> Make {
        let external = labels(&[("cluster", "eu")]);
        Make {
            id: id(n),
            range,
            external,
            sources: vec![id(n)],
            resolution: Resolution::Raw,
            series,
        }
    }

    /// Its series downsampled, as the block `n`.
    pub(super) fn at(&self, n: u128, resolution: Resolution) -> Make {
        Make { id: id(n), resolution, ..self.clone() }
    }

    pub(super) fn of(self, external: &[(&str, &str)]) -> Make {
        Make { external: labels(external), ..self }
    }

    fn downsampled(&self) -> Vec<(Labels, DownsampledSeries)> {
        let mut fine = Downsampler::new(Resolution::FiveMinutes);
        let one = |series: &Series| {
            let (mut out, mut coarse) =
                (DownsampledSeries::default(), DownsampledSeries::default());
            fine.raw(&series.chunks, &mut out).unwrap();
            if self.resolution == Resolution::OneHour {
                Downsampler::new(Resolution::OneHour)
                    .coarser(Resolution::FiveMinutes, &out, &mut coarse)
                    .unwrap();
                out = coarse;
            }
            (series.labels.clone(), out)
        };
        let mut all: Vec<_> = self.series.iter().map(one).collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    }

    fn stored(&self) -> Vec<Series> {
        let mut all = self.series.clone();
        if self.resolution != Resolution::Raw {
            let chunks = |(labels, windows): (Labels, DownsampledSeries)| Series {
                labels,
                chunks: windows.to_chunks().unwrap(),
            };
            all = self.downsampled().into_iter().map(chunks).collect();
        }
        all.sort_by(|a, b| a.labels.cmp(&b.labels));
        all
    }

    fn meta(&self) -> BlockMeta {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let quoted = |(n, v): (&[u8], &[u8])| format!("{:?}:{:?}", text(n), text(v));
        let external: Vec<String> = self.external.iter().map(quoted).collect();
        let sources: Vec<String> = self.sources.iter().map(|s| format!("\"{s}\"")).collect();
        let json = format!(
            r#"{{"ulid":"{}","minTime":{},"maxTime":{},"stats":{{}},"compaction":{{"level":1,"sources":[{}]}},"version":1,"thanos":{{"version":1,"labels":{{{}}},"downsample":{{"resolution":{}}},"source":"compactor"}}}}"#,
            self.id,
            self.range.start,
            self.range.end,
            sources.join(","),
            external.join(","),
            self.resolution.millis(),
        );
        BlockMeta::from_json(json.as_bytes()).unwrap()
    }
}

pub(super) fn series(pairs: &[(&str, &str)], samples: &FloatSamples) -> Series {
    float_series(labels(pairs), samples)
}

pub(super) struct TestBucket {
    pub(super) store: CountingObjects,
    pub(super) registry: Registry,
    pub(super) clock: Arc<dyn Clock>,
}

impl TestBucket {
    pub(super) fn new() -> TestBucket {
        let clock = Arc::new(SystemClock::new(|span| Box::pin(tokio::time::sleep(span))));
        TestBucket::with_clock(clock)
    }

    pub(super) fn with_clock(clock: Arc<dyn Clock>) -> TestBucket {
        TestBucket {
            store: CountingObjects::new(Arc::new(InMemory::new())),
            registry: Registry::new(),
            clock,
        }
    }

    fn bucket(&self, registry: &Registry) -> Bucket {
        let metrics = BucketMetrics::new(registry).unwrap();
        Bucket::new(
            Arc::new(self.store.clone()),
            BucketSettings::default(),
            metrics,
            Arc::clone(&self.clock),
        )
    }

    pub(super) fn gateway(&self, settings: Settings) -> Gateway {
        Gateway::new(settings, self.bucket(&self.registry), &self.registry, Arc::clone(&self.clock))
            .unwrap()
    }

    /// A gateway whose requests to the bucket fail as planned.
    pub(super) fn failing_gateway(&self, settings: Settings, plan: FaultPlan) -> Gateway {
        let store = Arc::new(FailingObjects::new(Arc::new(self.store.clone()), plan));
        let metrics = BucketMetrics::new(&self.registry).unwrap();
        let quick = BucketSettings {
            backoff: Duration::from_millis(1),
            read_deadline: Duration::from_millis(500),
            ..BucketSettings::default()
        };
        let bucket = Bucket::new(store, quick, metrics, Arc::clone(&self.clock));
        Gateway::new(settings, bucket, &self.registry, Arc::clone(&self.clock)).unwrap()
    }

    /// A gateway that has seen the blocks.
    pub(super) async fn served(&self) -> Arc<dyn Store> {
        self.served_with(Settings::default()).await
    }

    pub(super) async fn served_with(&self, settings: Settings) -> Arc<dyn Store> {
        let gateway = self.gateway(settings);
        gateway.sync().await.unwrap();
        gateway.store()
    }

    /// Another gateway that has seen the blocks, with nothing in its caches.
    pub(super) async fn anew(&self, settings: Settings) -> Arc<dyn Store> {
        let registry = Registry::new();
        let bucket = self.bucket(&registry);
        let gateway = Gateway::new(settings, bucket, &registry, Arc::clone(&self.clock)).unwrap();
        gateway.sync().await.unwrap();
        gateway.store()
    }

    pub(super) async fn put(&self, path: &Path, bytes: Vec<u8>) {
        self.store.put(path, bytes.into()).await.unwrap();
    }

    pub(super) async fn get(&self, path: &Path) -> Vec<u8> {
        self.store.get(path).await.unwrap().bytes().await.unwrap().to_vec()
    }

    pub(super) async fn delete(&self, path: &Path) {
        self.store.delete(path).await.unwrap();
    }

    /// Writes a TSDB block.
    pub(super) async fn tsdb(&self, make: &Make) -> BlockLocation {
        let location = BlockLocation::tsdb(make.id);
        let all = make.stored();
        let mut segments = SegmentWriter::new();
        let mut entries = Vec::new();
        let mut meta = make.meta();
        meta.stats.num_series = all.len() as u64;
        for series in &all {
            let chunk = |chunk: &SeriesChunk| {
                let (encoding, data) = chunk.stored_form();
                meta.stats.num_samples += stored_samples(encoding, &data).unwrap() as u64;
                let reference = segments.push(encoding, &data).unwrap().to_raw();
                ChunkMeta { reference, min_time: chunk.min_time, max_time: chunk.max_time }
            };
            entries.push(series.chunks.iter().map(chunk).collect::<Vec<_>>());
        }
        let symbols = all.iter().flat_map(|s| s.labels.iter()).flat_map(|(n, v)| [n, v]);
        let symbols: std::collections::BTreeSet<&[u8]> = symbols.collect();
        let mut writer = IndexWriter::new(symbols).unwrap();
        for (series, chunks) in all.iter().zip(&entries) {
            writer.push(&series.labels, chunks).unwrap();
        }
        let index = writer.finish().map(|piece| piece.unwrap()).collect::<Vec<_>>().concat();
        let mut segment = Vec::new();
        while let Some(piece) = segments.take() {
            segment.extend_from_slice(&piece.bytes);
        }
        let file = |name: &str, bytes: &[u8]| File {
            rel_path: name.into(),
            size_bytes: bytes.len() as u64,
            hash: None,
        };
        meta.thanos.as_mut().unwrap().files =
            vec![file("chunks/000001", &segment), file("index", &index)];
        self.put(&location.segment(1), segment).await;
        self.put(&location.index(), index).await;
        self.put(&location.meta(), meta.to_json()).await;
        location
    }

    /// Writes a downsampled block as Parquet.
    pub(super) async fn parquet(&self, make: &Make) -> BlockLocation {
        let location = BlockLocation::parquet(&make.external, make.resolution, make.id);
        let description = parquet_block::BlockDescription {
            version: parquet_block::FormatVersion::V2,
            id: make.id,
            resolution: make.resolution,
            external_labels: make.external.clone(),
            sources: make.sources.clone(),
        };
        let mut writer = ParquetBlockWriter::create(
            self.bucket(&Registry::new()),
            location.clone(),
            description,
        );
        for (labels, windows) in make.downsampled() {
            writer.push_series(&labels, &windows).await.unwrap();
        }
        let mut meta = make.meta();
        writer.finish().await.unwrap().describe(&mut meta);
        self.put(&location.meta(), meta.to_json()).await;
        location
    }

    /// Copies a block's folder from the TSDB crate's fixtures.
    pub(super) async fn fixture(&self, folder: &str) -> BlockMeta {
        let folder =
            FsPath::new(env!("CARGO_MANIFEST_DIR")).join("../tsdb/tests/data").join(folder);
        let read = |name: &str| std::fs::read(folder.join(name)).unwrap();
        let meta = BlockMeta::from_json(&read("meta.json")).unwrap();
        let location = BlockLocation::tsdb(meta.ulid);
        for name in ["chunks/000001", "index", "meta.json"] {
            self.put(&location.file(name), read(name)).await;
        }
        meta
    }

    /// Copies the blocks of a bucket among the cases that beginnings of their ids name.
    pub(super) async fn case(&self, name: &str, ids: &[&str]) -> Vec<BlockMeta> {
        let folder = FsPath::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../integration/testdata/cases/buckets");
        let mut metas = Vec::new();
        for id in ids {
            let mut blocks =
                std::fs::read_dir(folder.join(name)).unwrap().map(|block| block.unwrap());
            let block =
                blocks.find(|block| block.file_name().to_str().unwrap().starts_with(id)).unwrap();
            let folder = block.path();
            let meta =
                BlockMeta::from_json(&std::fs::read(folder.join("meta.json")).unwrap()).unwrap();
            for name in ["chunks/000001", "index", "meta.json", "tombstones"] {
                if let Ok(bytes) = std::fs::read(folder.join(name)) {
                    self.put(&BlockLocation::tsdb(meta.ulid).file(name), bytes).await;
                }
            }
            metas.push(meta);
        }
        metas
    }

    /// The value of a metric, summed over its labels; `None` when there is none of that name.
    pub(super) fn metric(&self, name: &str) -> Option<f64> {
        let families = self.registry.gather();
        let family = families.iter().find(|f| f.name() == name)?;
        let value = |m: &prometheus::proto::Metric| {
            m.get_counter().get_value()
                + m.get_gauge().get_value()
                + m.get_histogram().get_sample_count() as f64
        };
        Some(family.get_metric().iter().map(value).sum())
    }
}

/// An answer, with series that span frames joined.
#[derive(Debug, Default)]
pub(super) struct Answer {
    pub(super) series: Vec<Series>,
    pub(super) warnings: Vec<String>,
    pub(super) infos: Vec<String>,
}

pub(super) async fn try_ask(
    store: &Arc<dyn Store>,
    request: SeriesRequest,
) -> storeapi::Result<Answer> {
    let mut frames = store.series(request).await?;
    let mut answer = Answer::default();
    while let Some(frame) = frames.next().await {
        match frame? {
            Frame::Series(series) => answer.series.extend(series),
            Frame::Warning(text) => answer.warnings.push(text),
            Frame::Info(text) => answer.infos.push(text),
        }
    }
    let sorted = answer.series.windows(2).all(|w| w[0].labels < w[1].labels);
    assert!(sorted, "series must come sorted, each once: {:?}", names(&answer));
    Ok(answer)
}

pub(super) async fn ask(store: &Arc<dyn Store>, request: SeriesRequest) -> Answer {
    try_ask(store, request).await.unwrap()
}

pub(super) fn names(answer: &Answer) -> Vec<String> {
    answer.series.iter().map(|s| s.labels.to_string()).collect()
}

/// Every series of a range.
pub(super) fn everything(range: TimeRange) -> SeriesRequest {
    SeriesRequest::new(range, vec![matcher("__name__", ".+")])
}

/// All values of a label.
pub(super) fn values_of(label: &str, range: TimeRange) -> LabelValuesRequest {
    LabelValuesRequest {
        label: label.to_owned(),
        range,
        matchers: Vec::new(),
        partial_response: PartialResponse::Warn,
        without_replica_labels: Vec::new(),
        limit: 0,
    }
}

/// The samples of the raw chunks of a series, each once, with their bits.
pub(super) fn raw_samples(series: &Series) -> Vec<(i64, u64)> {
    let mut all = std::collections::BTreeSet::new();
    for chunk in &series.chunks {
        let ChunkContent::Raw(raw) = &chunk.content else { continue };
        let (mut ts, mut values) = (Vec::new(), Vec::new());
        decode_floats(raw.encoding, &raw.data, &mut ts, &mut values).unwrap();
        all.extend(ts.into_iter().zip(values.into_iter().map(f64::to_bits)));
    }
    Vec::from_iter(all)
}

/// `raw` or `aggregates` per chunk, with the hour its samples begin in.
pub(super) fn kinds(series: &Series) -> Vec<(&'static str, i64)> {
    let kind = |chunk: &SeriesChunk| match chunk.content {
        ChunkContent::Raw(_) => "raw",
        ChunkContent::Aggregates(_) => "aggregates",
    };
    let mut all: Vec<_> =
        series.chunks.iter().map(|c| (kind(c), (c.min_time - START) / HOUR)).collect();
    all.dedup();
    all
}
