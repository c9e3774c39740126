//! Writes the 5m and 1h copies of a block in one pass over it.
//!
//! Batches of series are decoded and aggregated on threads of their own, several at a time and in order; what comes
//! out goes straight into uploads.

use std::sync::Arc;

use block::{BlockLocation, Bucket};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use merge::{DownsampledSeries, Downsampler, Vertical};
use model::{BlockId, Labels, Resolution};
use parquet_block::{BlockDescription, ParquetBlockWriter};
use tsdb::meta::{BlockMeta, BlockStats, Compaction, Downsample, SOURCE_COMPACTOR, Thanos};

use crate::commit::{commit, is_committed};
use crate::compaction::text_labels;
use crate::identity::{Identity, OutputFormat};
use crate::merged::{Inputs, MergedSeries};
use crate::output::{TsdbOutput, segment_names};
use crate::{Error, Result};

/// Encoded bytes of the series that are aggregated as one piece of work.
const BATCH_BYTES: usize = 1 << 20;

/// One block to read and what to write of it. Outputs have ids and bytes that depend on the input alone.
pub struct Job<'a> {
    pub input: &'a Arc<BlockMeta>,
    /// External labels of the group.
    pub labels: &'a Labels,
    /// Finest first.
    pub resolutions: &'a [Resolution],
    pub format: OutputFormat,
    /// Batches aggregated at a time.
    pub workers: usize,
}

/// A series and its windows, one set per resolution of the job.
type Windows = (Labels, Vec<DownsampledSeries>);

impl Job<'_> {
    /// Writes what is not there yet; returns the metas of all outputs.
    ///
    /// # Errors
    /// The bucket fails, or the input is damaged; then nothing is committed.
    pub async fn run(&self, bucket: &Bucket) -> Result<Vec<Arc<BlockMeta>>> {
        let mut done = Vec::new();
        let mut wanted = Vec::new();
        for resolution in self.resolutions {
            match is_committed(bucket, &self.location(*resolution)).await? {
                Some(meta) => done.push(Arc::new(meta)),
                None => wanted.push(*resolution),
            }
        }
        if wanted.is_empty() {
            return Ok(done);
        }
        let inputs = Inputs::new(bucket, std::slice::from_ref(self.input), Vertical::Chain);
        let written = match self.format {
            OutputFormat::Parquet => self.write_parquet(bucket, inputs, &wanted).await?,
            OutputFormat::Tsdb => self.write_tsdb(bucket, inputs, &wanted).await?,
        };
        for meta in written {
            commit(bucket, &self.location(meta.resolution()), &meta).await?;
            done.push(Arc::new(meta));
        }
        Ok(done)
    }

    fn output_id(&self, resolution: Resolution) -> BlockId {
        Identity {
            parents: &[self.input.ulid],
            group_labels: self.labels,
            resolution,
            format: self.format,
            settings: "",
        }
        .block_id()
    }

    fn location(&self, resolution: Resolution) -> BlockLocation {
        let id = self.output_id(resolution);
        match self.format {
            OutputFormat::Parquet => BlockLocation::parquet(self.labels, resolution, id),
            OutputFormat::Tsdb => BlockLocation::tsdb(id),
        }
    }

    async fn write_parquet(&self, bucket: &Bucket, inputs: Inputs, wanted: &[Resolution]) -> Result<Vec<BlockMeta>> {
        let open = |resolution: &Resolution| {
            let description = BlockDescription {
                id: self.output_id(*resolution),
                resolution: *resolution,
                external_labels: self.labels.clone(),
                sources: self.input.sources().to_vec(),
            };
            ParquetBlockWriter::create(bucket.clone(), self.location(*resolution), description)
        };
        let mut writers: Vec<_> = wanted.iter().map(open).collect();
        let mut batches = self.windows(inputs, wanted).await?;
        while let Some(batch) = batches.try_next().await? {
            for (labels, per_resolution) in &batch {
                for (writer, windows) in writers.iter_mut().zip(per_resolution) {
                    writer.push_series(labels, windows).await?;
                }
            }
        }
        let mut metas = Vec::new();
        for (writer, resolution) in writers.into_iter().zip(wanted) {
            let stats = writer.finish().await?;
            let mut meta = self.meta(*resolution);
            stats.describe(&mut meta);
            metas.push(meta);
        }
        Ok(metas)
    }

    async fn write_tsdb(&self, bucket: &Bucket, inputs: Inputs, wanted: &[Resolution]) -> Result<Vec<BlockMeta>> {
        let symbols = inputs.symbols().await?;
        let mut outputs = Vec::new();
        for resolution in wanted {
            outputs.push(TsdbOutput::create(bucket, self.output_id(*resolution), &symbols)?);
        }
        let mut batches = self.windows(inputs, wanted).await?;
        while let Some(batch) = batches.try_next().await? {
            for (labels, per_resolution) in &batch {
                for (output, windows) in outputs.iter_mut().zip(per_resolution) {
                    output.push(labels, &windows.to_chunks()?).await?;
                }
            }
        }
        let mut metas = Vec::new();
        for (output, resolution) in outputs.into_iter().zip(wanted) {
            let written = output.finish().await?;
            let mut meta = self.meta(*resolution);
            // Thanos leaves the counts of floats and histograms as they are of the raw samples
            meta.stats.num_samples = written.stats.num_samples;
            meta.stats.num_series = written.stats.num_series;
            meta.stats.num_chunks = written.stats.num_chunks;
            if let Some(thanos) = &mut meta.thanos {
                thanos.segment_files = segment_names(&written.files);
                thanos.files = written.files;
                thanos.index_stats = Some(written.index_stats);
            }
            metas.push(meta);
        }
        Ok(metas)
    }

    /// The input's meta under the output's id; what was written is still to be filled in.
    fn meta(&self, resolution: Resolution) -> BlockMeta {
        let thanos = Thanos {
            version: 1,
            labels: text_labels(self.labels),
            downsample: Downsample { resolution: resolution.millis() },
            source: SOURCE_COMPACTOR.into(),
            ..Thanos::default()
        };
        let stats = BlockStats { num_tombstones: 0, ..self.input.stats.clone() };
        // an input that is its own source is named, as the copy would be taken for its own otherwise
        let sources = self.input.sources().to_vec();
        let compaction = Compaction { sources, ..self.input.compaction.clone() };
        let ulid = self.output_id(resolution);
        BlockMeta { ulid, stats, compaction, thanos: Some(thanos), ..(**self.input).clone() }
    }

    /// The windows of every series, batch by batch in order.
    async fn windows(&self, inputs: Inputs, wanted: &[Resolution]) -> Result<BoxStream<'static, Result<Vec<Windows>>>> {
        let (from, id) = (self.input.resolution(), self.input.ulid);
        let wanted: Arc<[Resolution]> = wanted.into();
        let batches = batched(inputs.series().await?);
        let aggregate = move |batch: Result<Vec<MergedSeries>>| {
            let wanted = Arc::clone(&wanted);
            async move {
                let batch = batch?;
                let work = tokio::task::spawn_blocking(move || aggregate(batch, from, &wanted));
                work.await.expect("aggregating does not panic").map_err(Error::of_block(id))
            }
        };
        Ok(batches.map(aggregate).buffered(self.workers.max(1)).boxed())
    }
}

/// Gathers series until they make a piece of work worth a thread.
fn batched(series: BoxStream<'static, Result<MergedSeries>>) -> BoxStream<'static, Result<Vec<MergedSeries>>> {
    let step = |mut series: BoxStream<'static, Result<MergedSeries>>| async move {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while bytes < BATCH_BYTES
            && let Some((labels, chunks)) = series.try_next().await?
        {
            bytes += chunks.iter().map(|c| c.size()).sum::<usize>();
            batch.push((labels, chunks));
        }
        Ok((!batch.is_empty()).then_some((batch, series)))
    };
    futures::stream::try_unfold(series, step).boxed()
}

/// The windows of each series at each wanted resolution. Each is made of the next finer one, as Thanos makes them.
fn aggregate(batch: Vec<MergedSeries>, from: Resolution, wanted: &[Resolution]) -> Result<Vec<Windows>> {
    let mut to_5m = Downsampler::new(Resolution::FiveMinutes);
    let mut to_1h = Downsampler::new(Resolution::OneHour);
    let mut out = Vec::with_capacity(batch.len());
    for (labels, chunks) in batch {
        let mut five = DownsampledSeries::default();
        match from {
            Resolution::Raw => to_5m.raw(&chunks, &mut five)?,
            _ => five = DownsampledSeries::from_chunks(&chunks, Resolution::FiveMinutes)?,
        }
        let mut hour = DownsampledSeries::default();
        if wanted.contains(&Resolution::OneHour) {
            to_1h.coarser(Resolution::FiveMinutes, &five, &mut hour)?;
        }
        let take = |resolution: &Resolution| match resolution {
            Resolution::OneHour => std::mem::take(&mut hour),
            _ => std::mem::take(&mut five),
        };
        out.push((labels, wanted.iter().map(take).collect()));
    }
    Ok(out)
}
