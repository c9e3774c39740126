//! Builds one raw block in memory, as a Prometheus server would have cut it from its head.
//!
//! For blocks of hours, such as synthetic and test data; a compactor streams instead. Samples are
//! encoded here, 120 to a chunk, series must come in order of their labels.

use std::io;
use std::path::Path;

use model::histogram::{Histogram, ResetHint};
use model::{BlockId, Labels, Sample, SampleValue, TimeRange};
use rustc_hash::FxHashSet;

use crate::chunk::{Encoding, FloatHistogramEncoder, HistogramEncoder, Pushed, XorEncoder};
use crate::error::Error;
use crate::index::{ChunkMeta, IndexWriter};
use crate::meta::{
    BlockMeta, BlockStats, Compaction, Downsample, File, IndexStats, META_FILE, SOURCE_SIDECAR,
    Thanos,
};
use crate::segment::{SegmentWriter, segment_name};

/// How many samples Prometheus aims to put into a chunk.
pub const SAMPLES_PER_CHUNK: usize = 120;

/// The id of a block, its span, and whose data it is.
#[derive(Clone, Debug)]
pub struct BlockIdentity {
    pub id: BlockId,
    pub range: TimeRange,
    /// As a sidecar states them in `meta.json`; `None` for a block that only Prometheus has seen.
    pub external_labels: Option<Labels>,
}

/// Gathers the series of a block.
#[derive(Debug, Default)]
pub struct BlockBuilder {
    segments: SegmentWriter,
    series: Vec<(Labels, Vec<ChunkMeta>)>,
    stats: BlockStats,
    chunk_max_size: u64,
}

impl BlockBuilder {
    pub fn new() -> BlockBuilder {
        BlockBuilder::default()
    }

    /// Adds a series of floats: `ts` in milliseconds, ascending, as many `values`. A series without
    /// samples is left out.
    pub fn push_floats(
        &mut self,
        labels: &Labels,
        ts: &[i64],
        values: &[f64],
    ) -> Result<(), Error> {
        assert_eq!(ts.len(), values.len(), "as many values as timestamps");
        let mut chunks = Vec::with_capacity(ts.len().div_ceil(SAMPLES_PER_CHUNK));
        for (ts, values) in ts.chunks(SAMPLES_PER_CHUNK).zip(values.chunks(SAMPLES_PER_CHUNK)) {
            let mut encoder = XorEncoder::new();
            for (t, value) in ts.iter().zip(values) {
                encoder.push(*t, *value);
            }
            chunks.push(self.chunk(Encoding::Xor, &encoder.finish(), ts)?);
        }
        self.stats.num_float_samples += ts.len() as u64;
        self.add(labels, chunks, ts.len());
        Ok(())
    }

    /// Adds a series of integer histograms; chunks also end where the format asks for it, such as
    /// at resets.
    pub fn push_histograms(
        &mut self,
        labels: &Labels,
        ts: &[i64],
        histograms: &[Histogram],
    ) -> Result<(), Error> {
        assert_eq!(ts.len(), histograms.len(), "as many histograms as timestamps");
        let mut chunks = Vec::new();
        let mut encoder = HistogramEncoder::new(ResetHint::Unknown);
        let mut first = 0;
        for (i, (t, histogram)) in ts.iter().zip(histograms).enumerate() {
            let full = encoder.len() == SAMPLES_PER_CHUNK;
            let mut header = full.then_some(ResetHint::Unknown);
            if !full && let Pushed::NewChunk(hint) = encoder.push(*t, histogram)? {
                header = Some(hint);
            }
            if let Some(header) = header {
                let done = std::mem::replace(&mut encoder, HistogramEncoder::new(header));
                chunks.push(self.chunk(Encoding::Histogram, &done.finish(), &ts[first..i])?);
                first = i;
                encoder.push(*t, histogram)?;
            }
        }
        if !encoder.is_empty() {
            chunks.push(self.chunk(Encoding::Histogram, &encoder.finish(), &ts[first..])?);
        }
        self.stats.num_histogram_samples += ts.len() as u64;
        self.add(labels, chunks, ts.len());
        Ok(())
    }

    /// Adds a series of floats and float histograms as they come; a chunk also ends where the kind
    /// changes.
    pub fn push_samples(&mut self, labels: &Labels, samples: &[Sample]) -> Result<(), Error> {
        let mut chunks = Vec::new();
        let is_float = |sample: &Sample| matches!(sample.value, SampleValue::Float(_));
        for run in samples.chunk_by(|a, b| is_float(a) == is_float(b)) {
            if is_float(&run[0]) {
                for part in run.chunks(SAMPLES_PER_CHUNK) {
                    chunks.push(self.float_chunk(part)?);
                }
                self.stats.num_float_samples += run.len() as u64;
            } else {
                self.float_histogram_chunks(run, &mut chunks)?;
                self.stats.num_histogram_samples += run.len() as u64;
            }
        }
        self.add(labels, chunks, samples.len());
        Ok(())
    }

    fn float_chunk(&mut self, samples: &[Sample]) -> Result<ChunkMeta, Error> {
        let mut encoder = XorEncoder::new();
        for sample in samples {
            if let SampleValue::Float(value) = sample.value {
                encoder.push(sample.t, value);
            }
        }
        self.chunk(Encoding::Xor, &encoder.finish(), &times(samples))
    }

    fn float_histogram_chunks(
        &mut self,
        samples: &[Sample],
        chunks: &mut Vec<ChunkMeta>,
    ) -> Result<(), Error> {
        let mut encoder = FloatHistogramEncoder::new(ResetHint::Unknown);
        let mut first = 0;
        for (i, sample) in samples.iter().enumerate() {
            let SampleValue::Histogram(histogram) = &sample.value else { continue };
            let full = encoder.len() == SAMPLES_PER_CHUNK;
            let mut header = full.then_some(ResetHint::Unknown);
            if !full && let Pushed::NewChunk(hint) = encoder.push(sample.t, histogram)? {
                header = Some(hint);
            }
            if let Some(header) = header {
                let done = std::mem::replace(&mut encoder, FloatHistogramEncoder::new(header));
                chunks.push(self.chunk(
                    Encoding::FloatHistogram,
                    &done.finish(),
                    &times(&samples[first..i]),
                )?);
                first = i;
                encoder.push(sample.t, histogram)?;
            }
        }
        chunks.push(self.chunk(
            Encoding::FloatHistogram,
            &encoder.finish(),
            &times(&samples[first..]),
        )?);
        Ok(())
    }

    fn chunk(&mut self, encoding: Encoding, data: &[u8], ts: &[i64]) -> Result<ChunkMeta, Error> {
        self.chunk_max_size = self.chunk_max_size.max(data.len() as u64);
        let reference = self.segments.push(encoding, data)?.to_raw();
        Ok(ChunkMeta { reference, min_time: ts[0], max_time: ts[ts.len() - 1] })
    }

    fn add(&mut self, labels: &Labels, chunks: Vec<ChunkMeta>, samples: usize) {
        if chunks.is_empty() {
            return;
        }
        self.stats.num_samples += samples as u64;
        self.stats.num_series += 1;
        self.stats.num_chunks += chunks.len() as u64;
        self.series.push((labels.clone(), chunks));
    }

    /// Samples so far, stale markers included.
    pub fn samples(&self) -> u64 {
        self.stats.num_samples
    }

    /// The files of the block.
    ///
    /// # Errors
    /// When series did not come in order.
    pub fn finish(mut self, description: BlockIdentity) -> Result<BlockFiles, Error> {
        let mut segments: Vec<Vec<u8>> = Vec::new();
        while let Some(piece) = self.segments.take() {
            if piece.segment as usize == segments.len() {
                segments.push(Vec::new());
            }
            segments[piece.segment as usize].extend_from_slice(&piece.bytes);
        }
        let mut writer = IndexWriter::new(self.symbols())?;
        for (labels, chunks) in &self.series {
            writer.push(labels, chunks)?;
        }
        let stats = IndexStats {
            series_max_size: writer.max_series_size(),
            chunk_max_size: self.chunk_max_size,
        };
        let mut index = Vec::new();
        for piece in writer.finish() {
            index.extend_from_slice(&piece?);
        }
        let meta = self.meta(description, &segments, &index, stats);
        Ok(BlockFiles { segments, index, meta })
    }

    /// All names and values, sorted by bytes.
    fn symbols(&self) -> Vec<&[u8]> {
        let labels = self.series.iter().flat_map(|(labels, _)| labels.iter());
        let distinct: FxHashSet<&[u8]> = labels.flat_map(|(name, value)| [name, value]).collect();
        let mut symbols: Vec<&[u8]> = distinct.into_iter().collect();
        symbols.sort_unstable();
        symbols
    }

    fn meta(
        &self,
        description: BlockIdentity,
        segments: &[Vec<u8>],
        index: &[u8],
        index_stats: IndexStats,
    ) -> BlockMeta {
        let BlockIdentity { id, range, external_labels } = description;
        let names: Vec<String> = (0..segments.len() as u32).map(segment_name).collect();
        let file =
            |rel_path: String, size: usize| File { rel_path, size_bytes: size as u64, hash: None };
        let mut files: Vec<File> = names
            .iter()
            .zip(segments)
            .map(|(name, bytes)| file(format!("chunks/{name}"), bytes.len()))
            .collect();
        files.push(file("index".into(), index.len()));
        files.push(file(META_FILE.into(), 0));
        let thanos = external_labels.map(|labels| Thanos {
            version: 1,
            labels: labels.to_text(),
            downsample: Downsample { resolution: 0 },
            source: SOURCE_SIDECAR.into(),
            segment_files: names,
            files,
            index_stats: Some(index_stats),
            ..Thanos::default()
        });
        let mut meta = BlockMeta {
            ulid: id,
            min_time: range.start,
            max_time: range.end,
            stats: self.stats.clone(),
            compaction: Compaction { level: 1, sources: vec![id], ..Compaction::default() },
            version: 1,
            thanos,
            format: None,
            unknown: Default::default(),
        };
        meta.sign();
        meta
    }
}

fn times(samples: &[Sample]) -> Vec<i64> {
    samples.iter().map(|sample| sample.t).collect()
}

/// A block, ready to be written.
#[derive(Clone, Debug)]
pub struct BlockFiles {
    /// The chunk segments, `chunks/000001` first.
    pub segments: Vec<Vec<u8>>,
    pub index: Vec<u8>,
    pub meta: BlockMeta,
}

impl BlockFiles {
    /// Bytes of chunks and index.
    pub fn bytes(&self) -> u64 {
        self.segments.iter().chain([&self.index]).map(|file| file.len() as u64).sum()
    }

    /// Writes the block's folder `<folder>/<ULID>`, `meta.json` last, so that an interrupted write
    /// does not leave a block.
    pub fn save(&self, folder: &Path) -> io::Result<()> {
        let folder = folder.join(self.meta.ulid.to_string());
        let chunks = folder.join("chunks");
        std::fs::create_dir_all(&chunks)?;
        for (i, segment) in self.segments.iter().enumerate() {
            std::fs::write(chunks.join(segment_name(i as u32)), segment)?;
        }
        std::fs::write(folder.join("index"), &self.index)?;
        std::fs::write(folder.join(META_FILE), self.meta.to_json())
    }
}

#[cfg(test)]
mod tests;
