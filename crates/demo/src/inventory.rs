//! What a bucket really holds, read block by block without the processes that are checked.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Context;
use block::sync::{Deduplicate, FetcherSettings, MetaFetcher, SyncedBlock};
use block::{BlockReader, Bucket, HeaderCache, ReaderSettings, SeriesQuery, SyncMetrics};
use futures::{StreamExt, TryStreamExt};
use model::{Labels, Resolution, TimeRange};
use parquet_block::{FooterCache, ParquetBlock};
use prometheus::Registry;
use tsdb::chunk::num_samples;

/// Bytes of index headers and footers kept while blocks are read.
const CACHE_BYTES: u64 = 64 << 20;

/// Samples by external labels and name of the metric.
pub(crate) type SamplesByMetric = BTreeMap<(Labels, String), u64>;

/// A series of one server over all blocks of a resolution.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Aggregated {
    /// Raw samples.
    pub(crate) count: u64,
    pub(crate) sum: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

/// What the windows of one resolution add up to.
#[derive(Debug, Default)]
pub(crate) struct Downsampled {
    /// Float series by external labels and own labels.
    pub(crate) floats: BTreeMap<(Labels, Labels), Aggregated>,
    /// Samples of series of native histograms.
    pub(crate) histograms: BTreeMap<(Labels, Labels), u64>,
    /// The spans downsampled, by external labels, sorted.
    pub(crate) spans: BTreeMap<Labels, Vec<TimeRange>>,
}

/// How many blocks there are and their bytes, all files together.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Size {
    pub(crate) blocks: u64,
    pub(crate) bytes: u64,
}

/// The blocks that count: those that no other block replaces.
#[derive(Debug)]
pub(crate) struct Inventory {
    bucket: Bucket,
    blocks: Vec<SyncedBlock>,
}

impl Inventory {
    pub(crate) async fn take(bucket: &Bucket) -> anyhow::Result<Inventory> {
        let registry = Registry::new();
        let fetcher = MetaFetcher::new(
            bucket.clone(),
            FetcherSettings::default(),
            SyncMetrics::new(&registry)?,
        );
        let synced =
            fetcher.fetch(&[&Deduplicate]).await.context("list the blocks of the bucket")?;
        if let Some(broken) = synced.broken.first() {
            anyhow::bail!("block={} is broken: {}", broken.location.dir(), broken.error);
        }
        if let Some(unseen) = synced.unseen.first() {
            anyhow::bail!(
                "block={} could not be looked at: {}",
                unseen.location.dir(),
                unseen.error
            );
        }
        Ok(Inventory { bucket: bucket.clone(), blocks: synced.blocks })
    }

    fn raw(&self) -> impl Iterator<Item = &SyncedBlock> {
        self.blocks.iter().filter(|block| !block.location.is_parquet())
    }

    fn parquet(&self, resolution: Resolution) -> impl Iterator<Item = &SyncedBlock> {
        self.blocks
            .iter()
            .filter(move |block| block.location.is_parquet() && block.resolution() == resolution)
    }

    pub(crate) fn raw_size(&self) -> Size {
        size_of(self.raw())
    }

    pub(crate) fn parquet_size(&self, resolution: Resolution) -> Size {
        size_of(self.parquet(resolution))
    }

    /// Samples of raw blocks, stale markers included, as the chunks state them.
    pub(crate) async fn raw_samples(&self) -> anyhow::Result<SamplesByMetric> {
        let headers = HeaderCache::new(CACHE_BYTES);
        let mut counts = SamplesByMetric::new();
        for block in self.raw() {
            let reader = BlockReader::new(
                self.bucket.clone(),
                Arc::clone(&block.meta),
                headers.clone(),
                ReaderSettings::default(),
            );
            let mut batches = reader.series(SeriesQuery::all());
            while let Some(batch) = batches.try_next().await? {
                if let Some(error) = batch.errors.into_iter().next() {
                    return Err(error.into());
                }
                for series in batch.series {
                    let mut samples = 0;
                    for chunk in &series.chunks {
                        samples += num_samples(chunk.encoding, &chunk.data)? as u64;
                    }
                    *counts.entry((block.labels.clone(), metric(&series.labels))).or_default() +=
                        samples;
                }
            }
        }
        Ok(counts)
    }

    /// All Parquet blocks of a resolution, every window of them.
    pub(crate) async fn downsampled(&self, resolution: Resolution) -> anyhow::Result<Downsampled> {
        let footers = FooterCache::new(CACHE_BYTES);
        let mut all = Downsampled::default();
        for block in self.parquet(resolution) {
            all.spans.entry(block.labels.clone()).or_default().push(block.range());
            let parquet =
                ParquetBlock::open(&self.bucket, &block.location, &block.meta, &footers).await?;
            let mut batches = parquet.scan();
            while let Some(batch) = batches.next().await {
                for (labels, windows) in batch? {
                    all.add(&block.labels, labels, &windows);
                }
            }
        }
        Ok(all)
    }
}

fn size_of<'a>(blocks: impl Iterator<Item = &'a SyncedBlock>) -> Size {
    blocks.fold(Size::default(), |size, block| Size {
        blocks: size.blocks + 1,
        bytes: size.bytes + block.bytes,
    })
}

impl Downsampled {
    fn add(&mut self, external: &Labels, labels: Labels, windows: &merge::DownsampledSeries) {
        let key = (external.clone(), labels);
        let samples = |counts: &[u32]| counts.iter().map(|count| u64::from(*count)).sum::<u64>();
        if !windows.histograms.is_empty() {
            *self.histograms.entry(key.clone()).or_default() += samples(&windows.histograms.count);
        }
        if windows.floats.is_empty() {
            return;
        }
        let empty = Aggregated { count: 0, sum: 0.0, min: f64::INFINITY, max: f64::NEG_INFINITY };
        let series = self.floats.entry(key).or_insert(empty);
        series.count += samples(&windows.floats.count);
        series.sum += windows.floats.sum.iter().sum::<f64>();
        series.min = windows.floats.min.iter().copied().fold(series.min, f64::min);
        series.max = windows.floats.max.iter().copied().fold(series.max, f64::max);
    }

    /// Samples by external labels and name of the metric, histograms included.
    pub(crate) fn samples(&self) -> SamplesByMetric {
        let mut counts = SamplesByMetric::new();
        let floats = self.floats.iter().map(|(key, series)| (key, series.count));
        for ((external, labels), samples) in
            floats.chain(self.histograms.iter().map(|(key, samples)| (key, *samples)))
        {
            *counts.entry((external.clone(), metric(labels))).or_default() += samples;
        }
        counts
    }
}

fn metric(labels: &Labels) -> String {
    String::from_utf8_lossy(labels.metric_name().unwrap_or_default()).into_owned()
}
