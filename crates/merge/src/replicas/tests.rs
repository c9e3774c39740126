use std::sync::Arc;

use bytes::Bytes;
use model::histogram::ResetHint;
use model::{FloatHistogram, Resolution, Sample, SampleValue};
use tsdb::chunk::{Encoding, FloatHistogramEncoder, XorEncoder};

use super::*;
use crate::series::{ChunkBytes, ChunkContent};
use crate::{DownsampledSeries, Downsampler, merge_series_chunks};

const BOTH: [Dedup; 2] = [Dedup::Penalty, Dedup::Chain];

/// A chunk of samples each 30 s from one second to another, whose value is their second.
fn chunk(from: i64, to: i64, as_histograms: bool) -> SeriesChunk {
    let times: Vec<i64> = (from..to).step_by(30).map(|t| t * 1000).collect();
    let value = |t: i64| t as f64 / 1000.0;
    let mut floats = XorEncoder::new();
    let mut histograms = FloatHistogramEncoder::new(ResetHint::Unknown);
    for t in &times {
        floats.push(*t, value(*t));
        let histogram =
            FloatHistogram { count: value(*t), zero_count: value(*t), ..FloatHistogram::default() };
        histograms.push(*t, &histogram).unwrap();
    }
    let (encoding, data) = match as_histograms {
        true => (Encoding::FloatHistogram, histograms.finish()),
        false => (Encoding::Xor, floats.finish()),
    };
    let content = ChunkContent::Raw(ChunkBytes { encoding, data: Bytes::from(data) });
    SeriesChunk::new(times[0], times[times.len() - 1], content)
}

fn reading(value: ValueOf, dedup: Dedup) -> ReplicaReading {
    ReplicaReading { value, range: TimeRange::ALL, dedup: Some(dedup) }
}

fn seconds(samples: Vec<Sample>) -> Vec<i64> {
    let second = |sample: &Sample| {
        let value = match &sample.value {
            SampleValue::Float(v) => *v,
            SampleValue::Histogram(h) => h.count,
        };
        assert_eq!(value * 1000.0, sample.t as f64);
        sample.t / 1000
    };
    samples.iter().map(second).collect()
}

/// Every other sample in one block, the rest in another, and that three times.
fn interleaved(replica: Option<u64>, offset: i64, as_histograms: bool) -> Vec<SeriesChunk> {
    let spans = [(0, 3600), (3600, 4800), (4800, 7200)];
    let both = spans.iter().flat_map(|(from, to)| {
        [0, 15].map(|after| chunk(from + after + offset, to + offset, as_histograms))
    });
    both.map(|chunk| chunk.with_replica(replica)).collect()
}

#[test]
fn interleaved_blocks_of_one_replica_are_read_whole() {
    for as_histograms in [false, true] {
        for dedup in BOTH {
            for value in [ValueOf::Sum, ValueOf::Counter] {
                let chunks = merge_series_chunks(interleaved(Some(7), 0, as_histograms));
                let column = read_replicas(&chunks, reading(value, dedup), &|_| true).unwrap();
                let found = seconds(column.into_samples());
                assert_eq!(
                    found,
                    (0..7200).step_by(15).collect::<Vec<_>>(),
                    "{as_histograms} {dedup:?} {value:?}"
                );
            }
        }
    }
}

#[test]
fn of_two_replicas_in_interleaved_blocks_the_penalty_keeps_one_whole() {
    for as_histograms in [false, true] {
        let mut chunks = interleaved(Some(1), 0, as_histograms);
        chunks.extend(interleaved(Some(2), 4, as_histograms));
        let chunks = merge_series_chunks(chunks);
        let kept =
            read_replicas(&chunks, reading(ValueOf::Sum, Dedup::Penalty), &|_| true).unwrap();
        let alone = read_replicas(
            &interleaved(Some(1), 0, as_histograms),
            reading(ValueOf::Sum, Dedup::Penalty),
            &|_| true,
        );
        assert_eq!(seconds(kept.into_samples()), seconds(alone.unwrap().into_samples()));
        let all = read_replicas(&chunks, reading(ValueOf::Sum, Dedup::Chain), &|_| true).unwrap();
        assert_eq!(all.len(), 960);
    }
}

#[test]
fn where_no_replica_is_named_what_overlaps_counts_as_replicas() {
    let chunks = merge_series_chunks(interleaved(None, 0, false));
    let column = read_replicas(&chunks, reading(ValueOf::Sum, Dedup::Penalty), &|_| true).unwrap();
    assert!(column.len() < 250, "{}", column.len());
}

/// Windows of five minutes, all of one replica.
fn downsampled(raw: &[SeriesChunk]) -> Vec<SeriesChunk> {
    let mut windows = DownsampledSeries::default();
    Downsampler::new(Resolution::FiveMinutes).raw(raw, &mut windows).unwrap();
    let chunks = windows.to_chunks().unwrap().into_iter();
    chunks.map(|c| c.with_resolution(Resolution::FiveMinutes).with_replica(Some(3))).collect()
}

#[test]
fn a_gap_in_downsampled_blocks_of_one_replica_is_filled_by_the_other() {
    let raw = |from, to| chunk(from, to, false);
    let chunks =
        [downsampled(&[raw(0, 1800), raw(3600, 7200)]), downsampled(&[raw(1800, 3600)])].concat();
    for dedup in BOTH {
        let counts = read_replicas(
            &merge_series_chunks(chunks.clone()),
            reading(ValueOf::Count, dedup),
            &|_| true,
        )
        .unwrap();
        let Column::Floats(counts) = counts else { panic!("histograms") };
        assert_eq!((counts.len(), counts.values.iter().sum::<f64>()), (24, 240.0), "{dedup:?}");
    }
}

#[test]
fn a_counter_that_overlaps_in_downsampled_blocks_of_one_replica_grows_once() {
    let raw: Vec<SeriesChunk> =
        (0..40).map(|hour| chunk(hour * 3600, hour * 3600 + 3600, true)).collect();
    // the same for longer, in batches of other lengths
    let chunks = merge_series_chunks([downsampled(&raw[..14]), downsampled(&raw)].concat());
    let column =
        read_replicas(&chunks, reading(ValueOf::Counter, Dedup::Penalty), &|_| true).unwrap();
    let samples = column.into_samples();
    let count = |s: &Sample| match &s.value {
        SampleValue::Histogram(h) => Arc::clone(h),
        SampleValue::Float(_) => panic!("a float"),
    };
    for pair in samples.windows(2) {
        let (before, now) = (count(&pair[0]), count(&pair[1]));
        assert!(!now.detect_reset(&before), "at {}", pair[1].t);
        let grown = now.count - before.count;
        assert!((grown - 300.0).abs() <= 30.0, "{grown} at {}", pair[1].t);
    }
}
