//! Encodes samples as chunks, cut as Prometheus cuts them.

use bytes::Bytes;
use model::FloatHistogram;
use model::histogram::{Histogram, ResetHint};
use tsdb::chunk::{Encoding, FloatHistogramEncoder, HistogramEncoder, Pushed, XorEncoder};

use crate::error::{Case, Error};
use crate::series::{ChunkBytes, ChunkContent, SeriesChunk};

/// The number of samples that Prometheus puts into a chunk.
pub const SAMPLES_PER_CHUNK: usize = 120;

/// A sample to encode. The three kinds never share a chunk.
#[derive(Clone, Copy, Debug)]
pub enum SampleRef<'a> {
    Float(f64),
    Histogram(&'a Histogram),
    FloatHistogram(&'a FloatHistogram),
}

/// Encodes the samples of one series as chunks of at most [`SAMPLES_PER_CHUNK`]. A chunk ends
/// earlier where the kind of samples changes, and where a histogram does not belong into it: after
/// a reset, or with other buckets.
#[derive(Default)]
pub struct ChunkCutter {
    open: Option<Open>,
    chunks: Vec<SeriesChunk>,
}

/// The chunk that is being filled.
struct Open {
    encoder: Encoder,
    min_time: i64,
    max_time: i64,
    samples: usize,
}

enum Encoder {
    Floats(XorEncoder),
    Histograms(HistogramEncoder),
    FloatHistograms(FloatHistogramEncoder),
}

impl ChunkCutter {
    pub fn new() -> ChunkCutter {
        ChunkCutter::default()
    }

    /// Appends a sample at `t` milliseconds, which is after those before it.
    ///
    /// # Errors
    /// `Corrupt` for a histogram whose spans and buckets do not agree.
    pub fn push(&mut self, t: i64, sample: SampleRef<'_>) -> Result<(), Error> {
        let mut header = ResetHint::Unknown;
        if let Some(open) = self.open.as_mut().filter(|open| open.samples < SAMPLES_PER_CHUNK) {
            match open.encoder.push(t, sample).map_err(|e| Error(Case::Encode(e)))? {
                Some(Pushed::Appended) => {
                    open.max_time = t;
                    open.samples += 1;
                    return Ok(());
                }
                Some(Pushed::NewChunk(next)) => header = next,
                None => {}
            }
        }
        self.close();
        let mut encoder = Encoder::new(sample, header);
        let pushed = encoder.push(t, sample).map_err(|e| Error(Case::Encode(e)))?;
        if pushed != Some(Pushed::Appended) {
            return Err(Error(Case::FitsNoChunk));
        }
        self.open = Some(Open { encoder, min_time: t, max_time: t, samples: 1 });
        Ok(())
    }

    /// All chunks, in order of time.
    pub fn finish(mut self) -> Vec<SeriesChunk> {
        self.close();
        self.chunks
    }

    fn close(&mut self) {
        let Some(open) = self.open.take() else { return };
        let (encoding, data) = open.encoder.finish();
        let content = ChunkContent::Raw(ChunkBytes { encoding, data: Bytes::from(data) });
        self.chunks.push(SeriesChunk::new(open.min_time, open.max_time, content));
    }
}

impl Encoder {
    fn new(sample: SampleRef<'_>, header: ResetHint) -> Encoder {
        match sample {
            SampleRef::Float(_) => Encoder::Floats(XorEncoder::new()),
            SampleRef::Histogram(_) => Encoder::Histograms(HistogramEncoder::new(header)),
            SampleRef::FloatHistogram(_) => {
                Encoder::FloatHistograms(FloatHistogramEncoder::new(header))
            }
        }
    }

    /// `None` for a sample of another kind.
    fn push(&mut self, t: i64, sample: SampleRef<'_>) -> Result<Option<Pushed>, tsdb::Error> {
        match (self, sample) {
            (Encoder::Floats(encoder), SampleRef::Float(value)) => {
                encoder.push(t, value);
                Ok(Some(Pushed::Appended))
            }
            (Encoder::Histograms(encoder), SampleRef::Histogram(h)) => encoder.push(t, h).map(Some),
            (Encoder::FloatHistograms(encoder), SampleRef::FloatHistogram(h)) => {
                encoder.push(t, h).map(Some)
            }
            _ => Ok(None),
        }
    }

    fn finish(self) -> (Encoding, Vec<u8>) {
        match self {
            Encoder::Floats(encoder) => (Encoding::Xor, encoder.finish()),
            Encoder::Histograms(encoder) => (Encoding::Histogram, encoder.finish()),
            Encoder::FloatHistograms(encoder) => (Encoding::FloatHistogram, encoder.finish()),
        }
    }
}

#[cfg(test)]
mod tests {
    use model::histogram::BucketSpan;
    use tsdb::chunk::{num_samples, reset_hint};

    use super::*;

    fn histogram(count: u64) -> Histogram {
        Histogram {
            count,
            sum: count as f64,
            zero_threshold: 0.001,
            positive_spans: vec![BucketSpan { offset: 0, length: 1 }],
            positive_buckets: vec![count as i64],
            ..Histogram::default()
        }
    }

    /// Encoding, span and number of samples of each chunk.
    fn shape(chunks: &[SeriesChunk]) -> Vec<(Encoding, (i64, i64), usize)> {
        let one = |chunk: &SeriesChunk| {
            let ChunkContent::Raw(raw) = &chunk.content else { panic!("not raw") };
            let samples = num_samples(raw.encoding, &raw.data).unwrap();
            (raw.encoding, (chunk.min_time, chunk.max_time), samples)
        };
        chunks.iter().map(one).collect()
    }

    #[test]
    fn nothing_makes_no_chunk() {
        assert!(ChunkCutter::new().finish().is_empty());
    }

    #[test]
    fn a_chunk_ends_at_120_samples_and_where_the_kind_changes() {
        let mut cutter = ChunkCutter::new();
        for t in 0..121 {
            cutter.push(t, SampleRef::Float(t as f64)).unwrap();
        }
        for t in 121..123 {
            cutter.push(t, SampleRef::Histogram(&histogram(t as u64))).unwrap();
        }
        cutter.push(123, SampleRef::FloatHistogram(&FloatHistogram::default())).unwrap();
        let expected = [
            (Encoding::Xor, (0, 119), 120),
            (Encoding::Xor, (120, 120), 1),
            (Encoding::Histogram, (121, 122), 2),
            (Encoding::FloatHistogram, (123, 123), 1),
        ];
        assert_eq!(shape(&cutter.finish()), expected);
    }

    #[test]
    fn a_reset_begins_a_chunk_that_says_so() {
        let mut cutter = ChunkCutter::new();
        for (t, count) in [(1, 5), (2, 6), (3, 2), (4, 3)] {
            cutter.push(t, SampleRef::Histogram(&histogram(count))).unwrap();
        }
        let chunks = cutter.finish();
        let expected = [(Encoding::Histogram, (1, 2), 2), (Encoding::Histogram, (3, 4), 2)];
        assert_eq!(shape(&chunks), expected);
        let ChunkContent::Raw(second) = &chunks[1].content else { panic!("not raw") };
        assert_eq!(reset_hint(second.encoding, &second.data).unwrap(), ResetHint::Reset);
    }

    #[test]
    fn a_histogram_whose_buckets_disagree_is_an_error() {
        let broken = Histogram { positive_buckets: vec![1, 2], ..histogram(3) };
        let error = ChunkCutter::new().push(1, SampleRef::Histogram(&broken)).unwrap_err();
        assert_eq!(error.kind(), crate::Kind::Corrupt);
    }
}
