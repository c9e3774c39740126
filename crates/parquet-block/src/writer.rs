//! Writes a block: series in order of their labels, straight into multipart uploads.

use arrow::error::ArrowError;
use block::{BlockLocation, Bucket, MultipartWriter};
use merge::DownsampledSeries;
use model::Labels;
use tsdb::meta::{BlockMeta, File};

use crate::encoder::{FileEncoder, PAGE_ROWS};
use crate::error::{Case, Error};
use crate::labels::{SeriesBuilder, SeriesRow};
use crate::schema::{self, BlockDescription, FormatVersion};
use crate::windows::{HistogramRows, SampleRows};

/// Rows that are encoded at once, off the I/O runtime.
const ROWS_AT_ONCE: usize = 8 * PAGE_ROWS;
/// Histogram rows are some hundred times larger.
const HISTOGRAM_ROWS_AT_ONCE: usize = 4096;

/// Where a new shard and a new row group begin.
#[derive(Clone, Copy, Debug)]
pub struct ShardLimits {
    /// Bytes of a samples or histograms file.
    pub bytes: u64,
    /// Series per shard; labels wait in memory until the shard ends.
    pub series: usize,
    /// Encoded bytes of a row group, which wait in memory until it ends.
    pub row_group_bytes: usize,
}

impl Default for ShardLimits {
    fn default() -> ShardLimits {
        ShardLimits { bytes: 1 << 30, series: 500_000, row_group_bytes: 64 << 20 }
    }
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriteStats {
    pub version: FormatVersion,
    pub series: u64,
    /// Float windows.
    pub rows: u64,
    pub histogram_rows: u64,
    /// The name, relative to the block's folder, and the size in bytes of every file, sorted by
    /// shard.
    pub files: Vec<(String, u64)>,
}

impl WriteStats {
    fn new(version: FormatVersion) -> WriteStats {
        WriteStats { version, series: 0, rows: 0, histogram_rows: 0, files: Vec::new() }
    }

    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|(_, size)| size).sum()
    }

    /// Sets in `meta` what a reader needs: the format and the files.
    pub fn describe(&self, meta: &mut BlockMeta) {
        meta.format = Some(self.version.as_str().to_owned());
        meta.stats.num_series = self.series;
        meta.stats.num_samples = self.rows + self.histogram_rows;
        meta.stats.num_float_samples = self.rows;
        meta.stats.num_histogram_samples = self.histogram_rows;
        if let Some(thanos) = &mut meta.thanos {
            let file = |(name, size): &(String, u64)| File {
                rel_path: name.clone(),
                size_bytes: *size,
                hash: None,
            };
            thanos.files = self.files.iter().map(file).collect();
            thanos.segment_files.clear();
        }
    }
}

/// A block being written to a bucket. It does not exist until its `meta.json` is there, which the
/// caller writes last (create-only, [`WriteStats::describe`] fills it in). Dropped before
/// [`finish`](ParquetBlockWriter::finish), it leaves files behind that no reader looks at.
pub struct ParquetBlockWriter {
    bucket: Bucket,
    location: BlockLocation,
    description: BlockDescription,
    limits: ShardLimits,
    shard: u32,
    series: SeriesBuilder,
    samples: Option<FileUpload>,
    histograms: Option<FileUpload>,
    sample_rows: SampleRows,
    histogram_rows: HistogramRows,
    last: Option<Labels>,
    stats: WriteStats,
}

/// One file: its encoder, which is absent while it works on another thread, and its upload.
struct FileUpload {
    name: String,
    encoder: Option<FileEncoder>,
    rows: u64,
    bytes: u64,
    sink: MultipartWriter,
}

impl std::fmt::Debug for ParquetBlockWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ParquetBlockWriter")
            .field("location", &self.location)
            .finish_non_exhaustive()
    }
}

impl ParquetBlockWriter {
    pub fn create(
        bucket: Bucket,
        location: BlockLocation,
        description: BlockDescription,
    ) -> ParquetBlockWriter {
        ParquetBlockWriter {
            bucket,
            location,
            stats: WriteStats::new(description.version),
            description,
            limits: ShardLimits::default(),
            shard: 0,
            series: SeriesBuilder::default(),
            samples: None,
            histograms: None,
            sample_rows: SampleRows::default(),
            histogram_rows: HistogramRows::default(),
            last: None,
        }
    }

    #[must_use]
    pub fn with_limits(mut self, limits: ShardLimits) -> ParquetBlockWriter {
        self.limits = limits;
        self
    }

    /// Adds the next series. Labels must come in rising order; a series without windows is left
    /// out.
    pub async fn push_series(
        &mut self,
        labels: &Labels,
        windows: &DownsampledSeries,
    ) -> Result<(), Error> {
        if windows.is_empty() {
            return Ok(());
        }
        if self.last.as_ref().is_some_and(|last| last >= labels) {
            return Err(Error(Case::Invalid(format!("series {labels} came out of order"))));
        }
        self.last = Some(labels.clone());
        let full = self.series.len() >= self.limits.series
            || [&self.samples, &self.histograms]
                .iter()
                .any(|u| u.as_ref().is_some_and(|u| u.bytes >= self.limits.bytes));
        if full {
            self.end_shard().await?;
        }
        let (floats, histograms) = (&windows.floats, &windows.histograms);
        let id = self.series.len() as u32;
        let times = || {
            floats
                .t
                .first()
                .into_iter()
                .chain(floats.t.last())
                .chain(histograms.t.first())
                .chain(histograms.t.last())
        };
        let rows_of = |upload: &Option<FileUpload>, waiting: usize| {
            upload.as_ref().map_or(0, |u| u.rows) + waiting as u64
        };
        self.series.push(
            labels,
            SeriesRow {
                first_row: rows_of(&self.samples, self.sample_rows.len()) as i64,
                rows: floats.len() as i64,
                min_t: times().min().copied().unwrap_or_default(),
                max_t: times().max().copied().unwrap_or_default(),
                histogram_first_row: rows_of(&self.histograms, self.histogram_rows.len()) as i64,
                histogram_rows: histograms.len() as i64,
            },
        );
        self.stats.series += 1;
        self.stats.rows += floats.len() as u64;
        self.stats.histogram_rows += histograms.len() as u64;
        self.sample_rows.push(id, floats);
        self.histogram_rows.push(id, histograms);
        if self.sample_rows.len() >= ROWS_AT_ONCE {
            self.encode_samples().await?;
        }
        if self.histogram_rows.len() >= HISTOGRAM_ROWS_AT_ONCE {
            self.encode_histograms().await?;
        }
        Ok(())
    }

    /// Ends the uploads. The block still lacks its `meta.json`.
    pub async fn finish(mut self) -> Result<WriteStats, Error> {
        self.end_shard().await?;
        Ok(self.stats)
    }

    fn upload(&self, kind: &str) -> FileUpload {
        let name = format!("{}.{kind}.parquet", self.shard);
        let sink = self.bucket.multipart(&self.location.file(&name));
        FileUpload { name, encoder: None, rows: 0, bytes: 0, sink }
    }

    async fn encode_samples(&mut self) -> Result<(), Error> {
        let rows = std::mem::take(&mut self.sample_rows);
        let mut upload = self.samples.take().unwrap_or_else(|| self.upload("samples"));
        let (metadata, group) = (self.description.metadata(), self.limits.row_group_bytes);
        upload
            .push(
                move || FileEncoder::new(schema::samples(), metadata, group),
                move || rows.into_batch(),
            )
            .await?;
        self.samples = Some(upload);
        Ok(())
    }

    async fn encode_histograms(&mut self) -> Result<(), Error> {
        let rows = std::mem::take(&mut self.histogram_rows);
        let mut upload = self.histograms.take().unwrap_or_else(|| self.upload("histograms"));
        let (metadata, group) = (self.description.metadata(), self.limits.row_group_bytes);
        upload
            .push(
                move || FileEncoder::new(schema::histograms(), metadata, group),
                move || rows.into_batch(),
            )
            .await?;
        self.histograms = Some(upload);
        Ok(())
    }

    async fn end_shard(&mut self) -> Result<(), Error> {
        // The first shard's files exist even in an empty block, so that a reader finds what
        // `meta.json` promises.
        if self.series.len() == 0 && self.shard > 0 {
            return Ok(());
        }
        if self.sample_rows.len() > 0 || self.samples.is_none() {
            self.encode_samples().await?;
        }
        if self.histogram_rows.len() > 0 {
            self.encode_histograms().await?;
        }
        let series = std::mem::take(&mut self.series);
        let (metadata, group) = (self.description.metadata(), self.limits.row_group_bytes);
        let mut upload = self.upload("series");
        let batch = blocking(move || series.finish()).await.map_err(|e| upload.arrow(e))?;
        let schema = batch.schema();
        upload.push(move || FileEncoder::new(schema, metadata, group), move || Ok(batch)).await?;
        for upload in
            [Some(upload), self.samples.take(), self.histograms.take()].into_iter().flatten()
        {
            let file = upload.finish().await?;
            self.stats.files.push(file);
        }
        self.shard += 1;
        Ok(())
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(e) => match e.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => unreachable!("a blocking task cannot be cancelled once it runs"),
        },
    }
}

impl FileUpload {
    fn arrow(&self, error: ArrowError) -> Error {
        Error::parquet("encoding", &self.name)(error.into())
    }

    /// Encodes one batch of rows on another thread and gives the finished bytes to the store.
    async fn push(
        &mut self,
        new: impl FnOnce() -> parquet::errors::Result<FileEncoder> + Send + 'static,
        rows: impl FnOnce() -> Result<arrow::array::RecordBatch, ArrowError> + Send + 'static,
    ) -> Result<(), Error> {
        let encoder = self.encoder.take();
        let encoded = blocking(move || {
            let mut encoder = match encoder {
                Some(encoder) => encoder,
                None => new()?,
            };
            encoder.push(&rows()?)?;
            let output = encoder.take_output()?;
            Ok((encoder, output))
        });
        let (encoder, output) = encoded.await.map_err(Error::parquet("encoding", &self.name))?;
        self.rows = encoder.rows();
        self.bytes = encoder.bytes_written() as u64;
        self.encoder = Some(encoder);
        self.put(output).await
    }

    async fn put(&mut self, output: Vec<Vec<u8>>) -> Result<(), Error> {
        for piece in output {
            self.sink.write(&piece).await?;
        }
        Ok(())
    }

    async fn finish(mut self) -> Result<(String, u64), Error> {
        if let Some(encoder) = self.encoder.take() {
            let tail = blocking(move || encoder.finish())
                .await
                .map_err(Error::parquet("encoding", &self.name))?;
            self.put(tail).await?;
        }
        let bytes = self.sink.finish().await?;
        Ok((self.name, bytes))
    }
}
