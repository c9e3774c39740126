//! Series that are there at some of the three resolutions.

use bytes::Bytes;
use engine::testing::MemorySource;
use engine::{Select, SeriesSource, SourceStream};
use merge::{ChunkBytes, ChunkContent, DownsampledSeries, Downsampler, Series, SeriesChunk};
use model::{Labels, Resolution};
use tsdb::chunk::{Encoding, XorEncoder};

/// A series of floats, in order of time.
#[derive(Clone)]
pub(crate) struct RawSeries {
    pub(crate) labels: Labels,
    pub(crate) samples: Vec<(i64, f64)>,
}

/// Chunks of 120 samples.
pub(crate) fn raw_chunks(samples: &[(i64, f64)]) -> Vec<SeriesChunk> {
    let chunk = |samples: &[(i64, f64)]| {
        let mut encoder = XorEncoder::new();
        samples.iter().for_each(|(t, v)| encoder.push(*t, *v));
        let content = ChunkContent::Raw(ChunkBytes {
            encoding: Encoding::Xor,
            data: Bytes::from(encoder.finish()),
        });
        SeriesChunk::new(samples[0].0, samples[samples.len() - 1].0, content)
    };
    samples.chunks(120).map(chunk).collect()
}

/// Chunks at a resolution, as a store that reports resolutions gives them.
pub(crate) fn chunks_at(samples: &[(i64, f64)], resolution: Resolution) -> Vec<SeriesChunk> {
    let chunks = raw_chunks(samples);
    let mut five = DownsampledSeries::default();
    let windows = match resolution {
        Resolution::Raw => return chunks,
        Resolution::FiveMinutes => {
            Downsampler::new(Resolution::FiveMinutes).raw(&chunks, &mut five).unwrap();
            five
        }
        Resolution::OneHour => {
            Downsampler::new(Resolution::FiveMinutes).raw(&chunks, &mut five).unwrap();
            let mut hours = DownsampledSeries::default();
            Downsampler::new(Resolution::OneHour)
                .coarser(Resolution::FiveMinutes, &five, &mut hours)
                .unwrap();
            hours
        }
    };
    windows.to_chunks().unwrap().into_iter().map(|c| c.with_resolution(resolution)).collect()
}

/// The same series at several resolutions: answers by the coarsest that is asked for, else the next
/// finer, else the next coarser.
#[derive(Clone, Debug)]
pub(crate) struct Levels {
    levels: Vec<(Resolution, MemorySource)>,
    /// What a query over it allows.
    pub(crate) allowed: Resolution,
}

impl Levels {
    pub(crate) fn new(
        series: &[RawSeries],
        resolutions: &[Resolution],
        allowed: Resolution,
    ) -> Levels {
        let level = |resolution: &Resolution| {
            let of = |s: &RawSeries| {
                let chunks = chunks_at(&s.samples, *resolution);
                Series { labels: s.labels.clone(), chunks }
            };
            let mut encoded: Vec<Series> = series.iter().map(of).collect();
            encoded.sort_by(|a, b| a.labels.cmp(&b.labels));
            (*resolution, MemorySource::from_series(encoded))
        };
        let mut levels: Vec<_> = resolutions.iter().map(level).collect();
        levels.sort_by_key(|(resolution, _)| *resolution);
        Levels { levels, allowed }
    }
}

impl SeriesSource for Levels {
    fn select(&self, select: Select) -> SourceStream {
        let asked =
            |level: &&(Resolution, MemorySource)| level.0.millis() <= select.max_resolution_ms;
        let level = self.levels.iter().rev().find(asked).unwrap_or(&self.levels[0]);
        // stores reach beyond what was asked for where their windows are longer than the range
        let more = level.0.millis().saturating_sub(select.max_resolution_ms).max(0);
        let range = model::TimeRange::new(select.range.start - 2 * more, select.range.end + more);
        level.1.select(Select { range, ..select })
    }
}
