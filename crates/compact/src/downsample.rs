//! Writes the 5m and 1h copies of a block in one pass over it.
//!
//! Batches of series are decoded and aggregated on threads of their own, several at a time and in
//! order; what comes out goes straight into uploads.

use std::sync::Arc;

use block::invariants::Made;
use block::sync::SyncedBlock;
use block::{BlockLocation, Bucket};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use merge::{Dedup, DownsampledSeries, Downsampler};
use model::{BlockId, Labels, Resolution};
use parquet_block::{BlockDescription, FormatVersion, ParquetBlockWriter};
use tsdb::meta::{BlockMeta, BlockStats, Compaction, Downsample, SOURCE_COMPACTOR, Thanos};

use crate::commit::commit;
use crate::identity::{Identity, OutputFormat};
use crate::merged::{InputBlock, InputBlocks, MergedSeries, in_order};
use crate::output::{TsdbOutput, segment_names};
use crate::place::{OutputPlace, Row, read_back};
use crate::{Error, Result};

/// Encoded bytes of the series that are aggregated as one task.
const BATCH_BYTES: usize = 1 << 20;

/// One block to read and what to write of it. Outputs have ids and bytes that depend on the input
/// alone.
pub struct DownsampleJob<'a> {
    pub input: &'a SyncedBlock,
    /// External labels of the group.
    pub labels: &'a Labels,
    /// Finest first.
    pub resolutions: &'a [Resolution],
    pub format: OutputFormat,
    /// Of the bytes of outputs: [`ENCODER_VERSION`](crate::ENCODER_VERSION).
    pub encoder_version: u32,
    /// Batches aggregated at a time.
    pub workers: usize,
}

/// An output that is to be written.
struct WantedOutput {
    resolution: Resolution,
    id: BlockId,
}

/// A series and its windows, one set per resolution of the job.
type LabelledWindows = (Labels, Vec<DownsampledSeries>);

impl DownsampleJob<'_> {
    /// Writes the outputs that do not exist yet; returns the metas of all.
    ///
    /// # Errors
    /// The bucket fails, or the input is damaged; then nothing is committed.
    pub async fn run(&self, bucket: &Bucket) -> Result<Vec<Arc<BlockMeta>>> {
        let input = InputBlock::open(bucket, self.input).await?;
        let mut done = Vec::new();
        let mut wanted = Vec::new();
        for resolution in self.resolutions {
            let location =
                |redo| self.location(*resolution, self.output_id(&input, *resolution, redo));
            let is_ours = |found: &BlockMeta| self.is_output(found, *resolution);
            match (Row { location: &location, is_ours: &is_ours }).find(bucket).await? {
                OutputPlace::Taken(meta) => done.push(Arc::new(*meta)),
                OutputPlace::Free { redo } => {
                    wanted.push(WantedOutput {
                        resolution: *resolution,
                        id: self.output_id(&input, *resolution, redo),
                    });
                }
            }
        }
        if wanted.is_empty() {
            return Ok(done);
        }
        let (input, wanted) = (std::slice::from_ref(&input), wanted.as_slice());
        let write = |headers| async move {
            let inputs = InputBlocks::new(bucket, input, Dedup::Chain, &headers);
            match self.format {
                OutputFormat::Parquet(version) => {
                    let parquet = ParquetOutputs { job: self, version, wanted };
                    parquet.write(bucket, inputs).await
                }
                OutputFormat::Tsdb => self.write_tsdb(bucket, inputs, wanted).await,
            }
        };
        let written = in_order(1, write).await?;
        for meta in written {
            let location = self.location(meta.resolution(), meta.ulid);
            let inputs = [&*self.input.meta];
            let made =
                Made { location: &location, meta: &meta, labels: self.labels, inputs: &inputs };
            commit(bucket, &made).await?;
            read_back(bucket, &location, &meta).await?;
            done.push(Arc::new(meta));
        }
        Ok(done)
    }

    fn output_id(&self, input: &InputBlock, resolution: Resolution, redo: u32) -> BlockId {
        Identity {
            encoder_version: self.encoder_version,
            parents: &[input.parent()],
            group_labels: self.labels,
            resolution,
            format: self.format,
            settings: "",
            redo,
        }
        .block_id()
    }

    fn location(&self, resolution: Resolution, id: BlockId) -> BlockLocation {
        match self.format {
            OutputFormat::Parquet(_) => BlockLocation::parquet(self.labels, resolution, id),
            OutputFormat::Tsdb => BlockLocation::tsdb(id),
        }
    }

    /// Whether a block with an id of ours is a copy of the input.
    fn is_output(&self, found: &BlockMeta, resolution: Resolution) -> bool {
        let input = &self.input.meta;
        found.resolution() == resolution
            && found.range() == input.range()
            && found.sources() == input.sources()
    }

    async fn write_tsdb(
        &self,
        bucket: &Bucket,
        mut inputs: InputBlocks,
        wanted: &[WantedOutput],
    ) -> Result<Vec<BlockMeta>> {
        let symbols = inputs.symbols().await?;
        let mut outputs = Vec::new();
        for wanted in wanted {
            outputs.push(TsdbOutput::create(bucket, wanted.id, Arc::clone(&symbols))?);
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
        for (output, wanted) in outputs.into_iter().zip(wanted) {
            let written = output.finish().await?;
            let mut meta = self.meta(wanted);
            // Thanos leaves the counts of floats and histograms as they are for the raw samples
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

    /// The input's meta under the output's id; the statistics of what was written are filled in
    /// later.
    fn meta(&self, wanted: &WantedOutput) -> BlockMeta {
        let input = &*self.input.meta;
        let thanos = Thanos {
            version: 1,
            labels: self.labels.to_text(),
            downsample: Downsample { resolution: wanted.resolution.millis() },
            source: SOURCE_COMPACTOR.into(),
            ..Thanos::default()
        };
        let stats = BlockStats { num_tombstones: 0, ..input.stats.clone() };
        let compaction =
            Compaction { sources: input.sources().to_vec(), ..input.compaction.clone() };
        let mut meta =
            BlockMeta { ulid: wanted.id, stats, compaction, thanos: Some(thanos), ..input.clone() };
        meta.sign();
        meta
    }

    /// The windows of every series, batch by batch in order.
    async fn windows(
        &self,
        inputs: InputBlocks,
        wanted: &[WantedOutput],
    ) -> Result<BoxStream<'static, Result<Vec<LabelledWindows>>>> {
        let (from, id) = (self.input.resolution(), self.input.id());
        let wanted: Arc<[Resolution]> = wanted.iter().map(|w| w.resolution).collect();
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

/// The outputs of a job that are written as Parquet.
struct ParquetOutputs<'a> {
    job: &'a DownsampleJob<'a>,
    version: FormatVersion,
    wanted: &'a [WantedOutput],
}

impl ParquetOutputs<'_> {
    async fn write(&self, bucket: &Bucket, inputs: InputBlocks) -> Result<Vec<BlockMeta>> {
        let open = |wanted: &WantedOutput| {
            let location = self.job.location(wanted.resolution, wanted.id);
            ParquetBlockWriter::create(bucket.clone(), location, self.description(wanted))
        };
        let mut writers: Vec<_> = self.wanted.iter().map(open).collect();
        let mut batches = self.job.windows(inputs, self.wanted).await?;
        while let Some(batch) = batches.try_next().await? {
            for (labels, per_resolution) in &batch {
                for (writer, windows) in writers.iter_mut().zip(per_resolution) {
                    writer.push_series(labels, windows).await?;
                }
            }
        }
        let mut metas = Vec::new();
        for (writer, wanted) in writers.into_iter().zip(self.wanted) {
            let stats = writer.finish().await?;
            let mut meta = self.job.meta(wanted);
            stats.describe(&mut meta);
            metas.push(meta);
        }
        Ok(metas)
    }

    fn description(&self, wanted: &WantedOutput) -> BlockDescription {
        BlockDescription {
            version: self.version,
            id: wanted.id,
            resolution: wanted.resolution,
            external_labels: self.job.labels.clone(),
            sources: self.job.input.meta.sources().to_vec(),
        }
    }
}

/// Gathers series until there is enough work for a thread.
fn batched(
    series: BoxStream<'static, Result<MergedSeries>>,
) -> BoxStream<'static, Result<Vec<MergedSeries>>> {
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

/// The windows of each series at each wanted resolution. Each resolution is made from the next
/// finer one, as Thanos does.
fn aggregate(
    batch: Vec<MergedSeries>,
    from: Resolution,
    wanted: &[Resolution],
) -> Result<Vec<LabelledWindows>> {
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
