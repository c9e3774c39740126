//! A TSDB block written straight into the bucket: chunks and index go out as parts while series
//! come in, so that neither memory nor a local disk grows with the block. Beside them it gets a
//! small file of statistics, which Thanos does not know and leaves alone.

use std::sync::Arc;

use block::{BlockLocation, Bucket, MultipartWriter, layout};
use merge::{ChunkContent, SeriesChunk};
use model::{BlockId, Labels};
use parquet_block::statistics::{STATISTICS_FILE, SeriesSize, StatisticsBuilder};
use tsdb::chunk::{self, Encoding};
use tsdb::index::{ChunkMeta, IndexWriter, SymbolTable};
use tsdb::meta::{BlockStats, File, IndexStats, META_FILE};
use tsdb::segment::SegmentWriter;

use crate::Result;

/// Bytes that are gathered before they are given to the upload.
const FLUSH_BYTES: usize = 1 << 20;

/// What is known of a block once all of it but `meta.json` is in the bucket.
#[derive(Clone, Debug)]
pub(crate) struct Written {
    pub(crate) location: BlockLocation,
    pub(crate) stats: BlockStats,
    pub(crate) index_stats: IndexStats,
    /// As `meta.json` lists them, sorted.
    pub(crate) files: Vec<File>,
}

/// A block being written. Dropped before [`finish`](TsdbOutput::finish), it leaves nothing that a
/// reader would see.
pub(crate) struct TsdbOutput {
    bucket: Bucket,
    location: BlockLocation,
    index: IndexWriter,
    index_upload: MultipartWriter,
    segments: SegmentWriter,
    segment_upload: Option<(u32, MultipartWriter)>,
    files: Vec<File>,
    stats: BlockStats,
    statistics: StatisticsBuilder,
    chunk_max_size: u64,
}

impl TsdbOutput {
    /// `symbols`: every name and value of labels to come.
    pub(crate) fn create(
        bucket: &Bucket,
        id: BlockId,
        symbols: Arc<SymbolTable>,
    ) -> Result<TsdbOutput> {
        let location = BlockLocation::tsdb(id);
        Ok(TsdbOutput {
            index: IndexWriter::with_symbols(symbols)?,
            index_upload: bucket.multipart(&location.index()),
            segments: SegmentWriter::new(),
            segment_upload: None,
            files: vec![File { rel_path: META_FILE.into(), size_bytes: 0, hash: None }],
            stats: BlockStats::default(),
            statistics: StatisticsBuilder::default(),
            chunk_max_size: 0,
            bucket: bucket.clone(),
            location,
        })
    }

    /// Adds a series in order of labels; one without chunks is left out.
    pub(crate) async fn push(&mut self, labels: &Labels, chunks: &[SeriesChunk]) -> Result<()> {
        if chunks.is_empty() {
            return Ok(());
        }
        let mut metas = Vec::with_capacity(chunks.len());
        let samples_before = self.stats.num_samples;
        let mut bytes = 0;
        for series_chunk in chunks {
            let (encoding, data) = series_chunk.stored_form();
            let before = self.segments.pending_len();
            let reference = self.segments.push(encoding, &data)?.to_raw();
            // with the head of a segment, where this is its first chunk
            let stored = (self.segments.pending_len() - before) as u64;
            self.chunk_max_size = self.chunk_max_size.max(stored);
            bytes += stored;
            self.count(encoding, series_chunk, &data)?;
            metas.push(ChunkMeta {
                reference,
                min_time: series_chunk.min_time,
                max_time: series_chunk.max_time,
            });
            if self.segments.pending_len() >= FLUSH_BYTES {
                self.flush_segments().await?;
            }
        }
        self.index.push(labels, &metas)?;
        let samples = self.stats.num_samples - samples_before;
        self.statistics.push(labels, SeriesSize { samples, bytes });
        if self.index.pending() >= FLUSH_BYTES {
            self.index_upload.write(&self.index.take_output()).await?;
        }
        Ok(())
    }

    fn count(&mut self, encoding: Encoding, chunk: &SeriesChunk, data: &[u8]) -> Result<()> {
        self.stats.num_chunks += 1;
        let (samples, is_histogram) = match &chunk.content {
            ChunkContent::Raw(_) => {
                (chunk::num_samples(encoding, data)? as u64, encoding.is_histogram())
            }
            ChunkContent::Aggregates(parts) => {
                let part = parts.iter().flatten().next();
                let samples = part.map_or(Ok(0), |p| chunk::num_samples(p.encoding, &p.data))?;
                (samples as u64, parts.iter().flatten().any(|p| p.encoding.is_histogram()))
            }
        };
        self.stats.num_samples += samples;
        match is_histogram {
            true => self.stats.num_histogram_samples += samples,
            false => self.stats.num_float_samples += samples,
        }
        Ok(())
    }

    async fn flush_segments(&mut self) -> Result<()> {
        while let Some(piece) = self.segments.take() {
            let (_, upload) = match self.segment_upload.take_if(|(open, _)| *open == piece.segment)
            {
                Some(open) => self.segment_upload.insert(open),
                None => {
                    self.finish_segment().await?;
                    let path = self.location.segment(u64::from(piece.segment) + 1);
                    self.segment_upload.insert((piece.segment, self.bucket.multipart(&path)))
                }
            };
            upload.write(&piece.bytes).await?;
            self.segments.reuse(piece.bytes);
        }
        Ok(())
    }

    async fn finish_segment(&mut self) -> Result<()> {
        if let Some((segment, upload)) = self.segment_upload.take() {
            let size_bytes = upload.finish().await?;
            let rel_path = layout::segment_file(u64::from(segment) + 1);
            self.files.push(File { rel_path, size_bytes, hash: None });
        }
        Ok(())
    }

    /// Ends the uploads; the block becomes visible only when its meta is committed.
    pub(crate) async fn finish(mut self) -> Result<Written> {
        self.flush_segments().await?;
        self.finish_segment().await?;
        self.stats.num_series = self.index.series();
        let index_stats = IndexStats {
            series_max_size: self.index.max_series_size(),
            chunk_max_size: self.chunk_max_size,
        };
        self.index_upload.write(&self.index.take_output()).await?;
        for piece in self.index.finish() {
            self.index_upload.write(&piece?).await?;
        }
        let size_bytes = self.index_upload.finish().await?;
        self.files.push(File { rel_path: layout::INDEX_FILE.into(), size_bytes, hash: None });
        self.files.push(write_statistics(&self.bucket, &self.location, self.statistics).await?);
        self.files.sort_by(|a, b| a.rel_path.cmp(&b.rel_path));
        Ok(Written { location: self.location, stats: self.stats, index_stats, files: self.files })
    }
}

async fn write_statistics(
    bucket: &Bucket,
    location: &BlockLocation,
    counted: StatisticsBuilder,
) -> Result<File> {
    // on this thread, as the index is
    let bytes = counted.finish().encode(location.id())?;
    let size_bytes = bytes.len() as u64;
    bucket.put(&location.file(STATISTICS_FILE), bytes.into()).await?;
    Ok(File { rel_path: STATISTICS_FILE.into(), size_bytes, hash: None })
}

/// Names of the chunk segments, for `segment_files` of `meta.json`.
pub(crate) fn segment_names(files: &[File]) -> Vec<String> {
    files.iter().filter_map(|f| f.rel_path.strip_prefix("chunks/")).map(str::to_owned).collect()
}
