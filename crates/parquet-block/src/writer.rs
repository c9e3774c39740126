//! Writes a block: series in order of their labels, straight into multipart uploads.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use block::{BlockLocation, Bucket};
use bytes::Bytes;
use merge::DownsampledSeries;
use model::Labels;
use tsdb::meta::{BlockMeta, File, FileHash};

use crate::checksums::{CHECKSUMS_FILE, ChecksumBuilder, Checksums, FileChecksums};
use crate::encoder::{EncodedGroup, FileLayout, PAGE_ROWS};
use crate::error::{Case, Error};
use crate::labels::{SeriesBuilder, SeriesRow, read_labels};
use crate::rows::{FloatRows, HistogramRows, RowsOf};
use crate::schema::{BlockDescription, FormatVersion};
use crate::statistics::{STATISTICS_FILE, SeriesSize, StatisticsBuilder};
use crate::upload::{FileUpload, UploadedFile, blocking};
use crate::v2::{self, BucketRows};

/// Rows that are encoded at once, off the I/O runtime.
const ROWS_AT_ONCE: usize = 8 * PAGE_ROWS;
/// Histogram rows are some hundred times larger.
const HISTOGRAM_ROWS_AT_ONCE: usize = 4096;
/// Rows that make a row group worth its footer, where another metric follows, which may need other
/// encodings.
const OWN_GROUP_ROWS: u64 = 512 << 10;
/// Series whose labels are read back at once for the statistics.
const SERIES_AT_ONCE: usize = 4096;

/// How `meta.json` names the checksum of the object of checksums.
pub(crate) const CHECKSUM_FUNCTION: &str = "CRC32C";

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
        ShardLimits { bytes: 1 << 30, series: 500_000, row_group_bytes: 8 << 20 }
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
    /// The checksum of the object of checksums, where there is one.
    checksum: Option<u32>,
}

impl WriteStats {
    fn new(version: FormatVersion) -> WriteStats {
        WriteStats {
            version,
            series: 0,
            rows: 0,
            histogram_rows: 0,
            files: Vec::new(),
            checksum: None,
        }
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
                hash: self.checksum.filter(|_| name == CHECKSUMS_FILE).map(|sum| FileHash {
                    function: CHECKSUM_FUNCTION.to_owned(),
                    value: format!("{sum:08x}"),
                }),
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
    samples: Option<Box<FileUpload>>,
    histograms: Option<Box<FileUpload>>,
    buckets: Option<Box<FileUpload>>,
    sample_rows: FloatRows,
    histogram_rows: HistogramRows,
    bucket_rows: BucketRows,
    last: Option<Labels>,
    stats: WriteStats,
    statistics: StatisticsBuilder,
    checksums: Vec<FileChecksums>,
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
        let version = description.version;
        ParquetBlockWriter {
            bucket,
            location,
            description,
            limits: ShardLimits::default(),
            shard: 0,
            series: SeriesBuilder::default(),
            samples: None,
            histograms: None,
            buckets: None,
            sample_rows: FloatRows::new(version),
            histogram_rows: HistogramRows::new(version),
            bucket_rows: BucketRows::default(),
            last: None,
            stats: WriteStats::new(version),
            statistics: StatisticsBuilder::default(),
            checksums: Vec::new(),
        }
    }

    #[must_use]
    pub fn with_limits(mut self, limits: ShardLimits) -> ParquetBlockWriter {
        self.limits = limits;
        self
    }

    fn version(&self) -> FormatVersion {
        self.description.version
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
        let before = self.last.replace(labels.clone());
        let is_same = before.is_some_and(|last| last.metric_name() == labels.metric_name());
        let uploads = [&self.samples, &self.histograms, &self.buckets].into_iter().flatten();
        let full = uploads.map(|upload| upload.bytes()).max() >= Some(self.limits.bytes);
        if full || self.series.len() >= self.limits.series {
            self.end_shard().await?;
        } else if !is_same && self.version() == FormatVersion::V2 {
            self.end_kind().await?;
        }
        let row = self.push_rows(labels, windows)?;
        self.series.push(labels, row);
        self.stats.series += 1;
        self.stats.rows += windows.floats.len() as u64;
        self.stats.histogram_rows += windows.histograms.len() as u64;
        if self.sample_rows.len() >= ROWS_AT_ONCE {
            self.encode_samples().await?;
        }
        if self.histogram_rows.len() >= HISTOGRAM_ROWS_AT_ONCE {
            self.encode_histograms().await?;
        }
        if self.bucket_rows.len() >= ROWS_AT_ONCE {
            self.encode_buckets().await?;
        }
        Ok(())
    }

    /// Adds the windows of a series to the rows that wait; returns where they will be.
    fn push_rows(
        &mut self,
        labels: &Labels,
        windows: &DownsampledSeries,
    ) -> Result<SeriesRow, Error> {
        let (floats, histograms) = (&windows.floats, &windows.histograms);
        let of = RowsOf {
            series: self.series.len() as u32,
            resolution_ms: self.description.resolution.millis(),
        };
        let rows_of = |upload: &Option<Box<FileUpload>>, waiting: usize| {
            (upload.as_ref().map_or(0, |upload| upload.rows()) + waiting as u64) as i64
        };
        let (min_t, max_t) = times_of(windows, self.version());
        let mut row = SeriesRow {
            first_row: rows_of(&self.samples, self.sample_rows.len()),
            rows: floats.len() as i64,
            min_t,
            max_t,
            histogram_first_row: rows_of(&self.histograms, self.histogram_rows.len()),
            histogram_rows: histograms.len() as i64,
            bucket_first_row: rows_of(&self.buckets, self.bucket_rows.len()),
            ..SeriesRow::default()
        };
        row.form = self.sample_rows.push(of, floats);
        self.histogram_rows.push(of, histograms);
        if self.version() == FormatVersion::V2 {
            let buckets = self.bucket_rows.push(of.series as i32, histograms);
            let broken = |_| {
                let text = format!("series {labels}: spans and buckets of a histogram disagree");
                Error(Case::Invalid(text))
            };
            row.bucket_rows = buckets.map_err(broken)? as i64;
        }
        Ok(row)
    }

    /// Ends row groups that are large enough before another metric begins.
    async fn end_kind(&mut self) -> Result<(), Error> {
        let group = self.samples.as_ref().map_or(0, |upload| upload.group_rows());
        if group + self.sample_rows.len() as u64 >= OWN_GROUP_ROWS {
            self.encode_samples().await?;
            if let Some(samples) = &mut self.samples {
                samples.end_row_group().await?;
            }
        }
        Ok(())
    }

    /// Ends the uploads. The block still lacks its `meta.json`.
    pub async fn finish(mut self) -> Result<WriteStats, Error> {
        self.end_shard().await?;
        if self.version() == FormatVersion::V2 {
            self.write_statistics().await?;
            self.write_checksums().await?;
        }
        Ok(self.stats)
    }

    fn upload(&self, kind: &str, schema: SchemaRef) -> Result<Box<FileUpload>, Error> {
        let name = format!("{}.{kind}.parquet", self.shard);
        let layout = FileLayout {
            version: self.version(),
            schema,
            metadata: self.description.metadata(),
            group_bytes: self.limits.row_group_bytes,
        };
        FileUpload::create(&self.bucket, &self.location, name, layout).map(Box::new)
    }

    async fn encode_samples(&mut self) -> Result<(), Error> {
        let empty = FloatRows::new(self.version());
        let rows = std::mem::replace(&mut self.sample_rows, empty);
        let mut upload = match self.samples.take() {
            Some(upload) => upload,
            None => self.upload("samples", FloatRows::schema(self.version()))?,
        };
        upload.push(move || rows.into_batch()).await?;
        self.samples = Some(upload);
        Ok(())
    }

    async fn encode_histograms(&mut self) -> Result<(), Error> {
        let empty = HistogramRows::new(self.version());
        let rows = std::mem::replace(&mut self.histogram_rows, empty);
        let mut upload = match self.histograms.take() {
            Some(upload) => upload,
            None => self.upload("histograms", HistogramRows::schema(self.version()))?,
        };
        upload.push(move || rows.into_batch()).await?;
        self.histograms = Some(upload);
        Ok(())
    }

    async fn encode_buckets(&mut self) -> Result<(), Error> {
        let rows = std::mem::take(&mut self.bucket_rows);
        let mut upload = match self.buckets.take() {
            Some(upload) => upload,
            None => self.upload("buckets", v2::schema::buckets())?,
        };
        upload.push(move || rows.into_batch()).await?;
        self.buckets = Some(upload);
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
        if self.bucket_rows.len() > 0 {
            self.encode_buckets().await?;
        }
        let (series, version) = (std::mem::take(&mut self.series), self.version());
        let batch = blocking(move || series.finish(version)).await;
        let name = format!("{}.series.parquet", self.shard);
        let batch = batch.map_err(|e| Error::parquet("encoding", name)(e.into()))?;
        let mut upload = self.upload("series", batch.schema())?;
        let rows = batch.clone();
        upload.push(move || Ok(rows)).await?;
        let uploads =
            [Some(upload), self.samples.take(), self.histograms.take(), self.buckets.take()];
        let mut groups = Vec::new();
        for upload in uploads {
            groups.push(match upload {
                Some(upload) => self.add_file(upload.finish().await?),
                None => Vec::new(),
            });
        }
        if version == FormatVersion::V2 {
            self.count_shard(batch, groups).await?;
        }
        self.shard += 1;
        Ok(())
    }

    fn add_file(&mut self, file: UploadedFile) -> Vec<EncodedGroup> {
        self.stats.files.push((file.name, file.bytes));
        self.checksums.push(file.checksums);
        file.groups
    }

    /// Adds the series of a shard to the statistics; `groups` are those of its files.
    async fn count_shard(
        &mut self,
        batch: RecordBatch,
        groups: Vec<Vec<EncodedGroup>>,
    ) -> Result<(), Error> {
        let mut statistics = std::mem::take(&mut self.statistics);
        let name = format!("{}.series.parquet", self.shard);
        let counted =
            blocking(move || count_series(&batch, &groups, &mut statistics).map(|()| statistics));
        self.statistics = counted.await.map_err(|e| Error::parquet("counting", name)(e.into()))?;
        Ok(())
    }

    async fn write_statistics(&mut self) -> Result<(), Error> {
        let statistics = std::mem::take(&mut self.statistics).finish();
        let bytes = Bytes::from(statistics.encode(self.description.id)?);
        let mut checksums = ChecksumBuilder::new(STATISTICS_FILE);
        checksums.push(&bytes);
        self.checksums.push(checksums.finish(0));
        self.stats.files.push((STATISTICS_FILE.to_owned(), bytes.len() as u64));
        Ok(self.bucket.put(&self.location.file(STATISTICS_FILE), bytes).await?)
    }

    async fn write_checksums(&mut self) -> Result<(), Error> {
        let checksums = Checksums::new(std::mem::take(&mut self.checksums));
        let checksums = checksums.map_err(|e| Error(Case::Invalid(e.to_string())))?;
        let bytes = Bytes::from(checksums.encode());
        self.stats.checksum = Checksums::own_checksum(&bytes);
        self.stats.files.push((CHECKSUMS_FILE.to_owned(), bytes.len() as u64));
        Ok(self.bucket.put(&self.location.file(CHECKSUMS_FILE), bytes).await?)
    }
}

/// The times that a series' row states: of its chunks, and in version 2 from its first sample on.
fn times_of(series: &DownsampledSeries, version: FormatVersion) -> (i64, i64) {
    let (floats, histograms) = (&series.floats, &series.histograms);
    let ends = [floats.t.first(), floats.t.last(), histograms.t.first(), histograms.t.last()];
    let firsts = [floats.first_t.first(), histograms.first_t.first()];
    let firsts = firsts.into_iter().flatten().filter(|t| **t != merge::NO_TIME);
    let firsts = firsts.filter(|_| version == FormatVersion::V2);
    let min_t = ends.into_iter().flatten().chain(firsts).min();
    let max_t = ends.into_iter().flatten().max();
    (min_t.copied().unwrap_or_default(), max_t.copied().unwrap_or_default())
}

/// Bytes of rows: each row counts as its share of its row group.
struct RowBytes {
    groups: Vec<EncodedGroup>,
    at: usize,
    /// Rows and bytes of the groups before.
    rows: u64,
    bytes: u64,
}

impl RowBytes {
    fn new(groups: Vec<EncodedGroup>) -> RowBytes {
        RowBytes { groups, at: 0, rows: 0, bytes: 0 }
    }

    /// The bytes of all rows before `row`, which never falls from one call to the next.
    fn before(&mut self, row: u64) -> u64 {
        while let Some(group) = self.groups.get(self.at) {
            if row < self.rows + group.rows {
                let share = u128::from(group.bytes) * u128::from(row.saturating_sub(self.rows))
                    / u128::from(group.rows);
                return self.bytes + share as u64;
            }
            (self.rows, self.bytes) = (self.rows + group.rows, self.bytes + group.bytes);
            self.at += 1;
        }
        self.bytes
    }
}

fn count_series(
    batch: &RecordBatch,
    groups: &[Vec<EncodedGroup>],
    statistics: &mut StatisticsBuilder,
) -> Result<(), arrow::error::ArrowError> {
    let mut files: Vec<RowBytes> =
        groups.iter().map(|groups| RowBytes::new(groups.clone())).collect();
    let mut before = vec![0; files.len()];
    let mut number = 0;
    for first in (0..batch.num_rows()).step_by(SERIES_AT_ONCE) {
        let part = batch.slice(first, SERIES_AT_ONCE.min(batch.num_rows() - first));
        let rows = crate::labels::read_rows(&part)?;
        for (labels, row) in read_labels(&part)?.iter().zip(rows) {
            number += 1;
            let ends = [
                number,
                (row.first_row + row.rows) as u64,
                (row.histogram_first_row + row.histogram_rows) as u64,
                (row.bucket_first_row + row.bucket_rows) as u64,
            ];
            let mut bytes = 0;
            for ((file, before), end) in files.iter_mut().zip(&mut before).zip(ends) {
                let upto = file.before(end).max(*before);
                bytes += upto - *before;
                *before = upto;
            }
            let samples = (row.rows + row.histogram_rows) as u64;
            statistics.push(labels, SeriesSize { samples, bytes });
        }
    }
    Ok(())
}
