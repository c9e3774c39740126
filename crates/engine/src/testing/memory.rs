//! Series in memory.

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use merge::{ChunkBytes, ChunkContent, Series, SeriesChunk};
use model::histogram::ResetHint;
use model::{Labels, Sample, SampleValue};
use tsdb::chunk::{Encoding, FloatHistogramEncoder, Pushed, XorEncoder};

use crate::{Error, Kind, Select, SeriesSource, SourceEvent, SourceStream};

/// Samples per chunk, as Prometheus cuts them.
const SAMPLES_PER_CHUNK: usize = 120;

/// Encoded series, sorted by labels.
#[derive(Clone, Debug, Default)]
pub struct MemorySource {
    series: Arc<Vec<Series>>,
}

impl MemorySource {
    /// Encodes series; samples are sorted by time, label sets differ.
    ///
    /// # Errors
    /// Histograms whose spans and buckets do not agree.
    pub fn new(
        series: impl IntoIterator<Item = (Labels, Vec<Sample>)>,
    ) -> Result<MemorySource, Error> {
        let mut encoded = Vec::new();
        for (labels, samples) in series {
            let failed =
                |e: tsdb::Error| Error::caused(Kind::Execution, format!("encoding {labels}"), e);
            let chunks = encode(&samples).map_err(failed)?;
            encoded.push(Series { labels, chunks });
        }
        encoded.sort_by(|a, b| a.labels.cmp(&b.labels));
        Ok(MemorySource { series: Arc::new(encoded) })
    }

    /// Takes series that are encoded already and sorted by labels.
    pub fn from_series(series: Vec<Series>) -> MemorySource {
        MemorySource { series: Arc::new(series) }
    }
}

fn encode(samples: &[Sample]) -> Result<Vec<SeriesChunk>, tsdb::Error> {
    let is_float = |s: &Sample| matches!(s.value, SampleValue::Float(_));
    let mut chunks = Vec::new();
    for run in samples.chunk_by(|a, b| is_float(a) == is_float(b)) {
        for part in run.chunks(SAMPLES_PER_CHUNK) {
            if is_float(&part[0]) {
                chunks.push(floats(part))
            } else {
                histograms(part, &mut chunks)?
            }
        }
    }
    Ok(chunks)
}

fn chunk(samples: &[Sample], encoding: Encoding, data: Vec<u8>) -> SeriesChunk {
    let content = ChunkContent::Raw(ChunkBytes { encoding, data: Bytes::from(data) });
    SeriesChunk::new(samples[0].t, samples[samples.len() - 1].t, content)
}

fn floats(samples: &[Sample]) -> SeriesChunk {
    let mut encoder = XorEncoder::new();
    for sample in samples {
        if let SampleValue::Float(value) = sample.value {
            encoder.push(sample.t, value);
        }
    }
    chunk(samples, Encoding::Xor, encoder.finish())
}

fn histograms(samples: &[Sample], chunks: &mut Vec<SeriesChunk>) -> Result<(), tsdb::Error> {
    let mut begin = 0;
    let mut encoder = FloatHistogramEncoder::new(ResetHint::Unknown);
    for (i, sample) in samples.iter().enumerate() {
        let SampleValue::Histogram(histogram) = &sample.value else { continue };
        if let Pushed::NewChunk(header) = encoder.push(sample.t, histogram)? {
            let full = std::mem::replace(&mut encoder, FloatHistogramEncoder::new(header));
            chunks.push(chunk(&samples[begin..i], Encoding::FloatHistogram, full.finish()));
            begin = i;
            encoder.push(sample.t, histogram)?;
        }
    }
    chunks.push(chunk(&samples[begin..], Encoding::FloatHistogram, encoder.finish()));
    Ok(())
}

impl SeriesSource for MemorySource {
    fn select(&self, select: Select) -> SourceStream {
        let wanted = |series: &&Series| {
            select
                .matchers
                .iter()
                .all(|m| m.matches(series.labels.get(&m.name).unwrap_or_default()))
        };
        let mut found = Vec::new();
        for series in self.series.iter().filter(wanted) {
            let touches = |c: &&SeriesChunk| select.range.overlaps_closed(c.min_time, c.max_time);
            let chunks: Vec<SeriesChunk> = series.chunks.iter().filter(touches).cloned().collect();
            if !chunks.is_empty() {
                found.push(Series { labels: series.labels.clone(), chunks });
            }
        }
        futures::stream::iter((!found.is_empty()).then_some(Ok(SourceEvent::Series(found)))).boxed()
    }
}
