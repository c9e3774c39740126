//! Samples of a remote read that does not stream, encoded as chunks again.

use merge::{ChunkCutter, SampleRef};
use storeapi::{Error, Kind, Result, SeriesChunk};
use wire::prometheus as pb;
use wire::{NativeHistogram, histogram_from_wire};

/// A sample as it came; histograms are converted one at a time.
#[derive(Clone, Copy)]
enum ReceivedPoint<'a> {
    Float(&'a pb::Sample),
    Histogram(&'a pb::Histogram),
}

impl ReceivedPoint<'_> {
    fn time(&self) -> i64 {
        match self {
            ReceivedPoint::Float(sample) => sample.timestamp,
            ReceivedPoint::Histogram(histogram) => histogram.timestamp,
        }
    }
}

/// Chunks of at most 120 samples of one kind, in order of time, without overlap.
pub(super) fn encode(
    samples: &[pb::Sample],
    histograms: &[pb::Histogram],
) -> Result<Vec<SeriesChunk>> {
    let floats = samples.iter().map(ReceivedPoint::Float);
    let mut points: Vec<ReceivedPoint<'_>> =
        floats.chain(histograms.iter().map(ReceivedPoint::Histogram)).collect();
    points.sort_by_key(ReceivedPoint::time);
    let mut cutter = ChunkCutter::new();
    for point in points {
        push(&mut cutter, point).map_err(|e| Error::passed(Kind::Corrupt, e))?;
    }
    Ok(cutter.finish())
}

fn push(
    cutter: &mut ChunkCutter,
    point: ReceivedPoint<'_>,
) -> std::result::Result<(), merge::Error> {
    match point {
        ReceivedPoint::Float(sample) => {
            cutter.push(sample.timestamp, SampleRef::Float(sample.value))
        }
        ReceivedPoint::Histogram(message) => match histogram_from_wire(message) {
            NativeHistogram::Integer(h) => cutter.push(message.timestamp, SampleRef::Histogram(&h)),
            NativeHistogram::Float(h) => {
                cutter.push(message.timestamp, SampleRef::FloatHistogram(&h))
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use merge::SAMPLES_PER_CHUNK;
    use proptest::prelude::*;
    use storeapi::ChunkContent;
    use tsdb::chunk::Encoding;
    use wire::prometheus::histogram::{Count, ZeroCount};

    use super::*;

    fn histogram(t: i64, count: u64, float: bool) -> pb::Histogram {
        let spans = vec![pb::BucketSpan { offset: 0, length: 1 }];
        let mut message = pb::Histogram {
            sum: count as f64,
            zero_threshold: 0.001,
            positive_spans: spans,
            timestamp: t,
            ..pb::Histogram::default()
        };
        if float {
            message.count = Some(Count::CountFloat(count as f64));
            message.zero_count = Some(ZeroCount::ZeroCountFloat(0.0));
            message.positive_counts = vec![count as f64];
        } else {
            message.count = Some(Count::CountInt(count));
            message.zero_count = Some(ZeroCount::ZeroCountInt(0));
            message.positive_deltas = vec![count as i64];
        }
        message
    }

    /// What a chunk holds, as `(time, count or value)`.
    fn decoded(chunk: &SeriesChunk) -> Vec<(i64, f64)> {
        let ChunkContent::Raw(raw) = &chunk.content else { panic!("not raw") };
        let mut ts = Vec::new();
        if raw.encoding == Encoding::Xor {
            let mut values = Vec::new();
            tsdb::chunk::decode_floats(raw.encoding, &raw.data, &mut ts, &mut values).unwrap();
            return ts.into_iter().zip(values).collect();
        }
        let mut values = Vec::new();
        tsdb::chunk::decode_histograms(raw.encoding, &raw.data, &mut ts, &mut values).unwrap();
        ts.into_iter().zip(values.iter().map(|h| h.count)).collect()
    }

    proptest! {
        #[test]
        fn all_samples_come_back_in_order_and_chunks_do_not_overlap(
            kinds in prop::collection::vec((0u8..3, 1usize..150, 1u64..1000), 0..6),
        ) {
            let (mut samples, mut histograms, mut expected) = (Vec::new(), Vec::new(), Vec::new());
            let mut t = 1000;
            for (kind, count, first) in kinds {
                for i in 0..count as u64 {
                    t += 15;
                    // counts fall at the start of each run, which forces counter resets
                    let value = first + i;
                    match kind {
                        0 => samples.push(pb::Sample { value: value as f64, timestamp: t }),
                        k => histograms.push(histogram(t, value, k == 2)),
                    }
                    expected.push((t, value as f64));
                }
            }
            let chunks = encode(&samples, &histograms).unwrap();
            let got: Vec<(i64, f64)> = chunks.iter().flat_map(decoded).collect();
            prop_assert_eq!(got, expected);
            for chunk in &chunks {
                let held = decoded(chunk);
                prop_assert!(held.len() <= SAMPLES_PER_CHUNK);
                prop_assert_eq!((held[0].0, held[held.len() - 1].0), (chunk.min_time, chunk.max_time));
            }
            prop_assert!(chunks.windows(2).all(|w| w[0].max_time < w[1].min_time));
        }
    }

    #[test]
    fn a_histogram_whose_buckets_disagree_is_an_error() {
        let mut broken = histogram(1, 5, false);
        broken.positive_deltas.push(3);
        let error = encode(&[], &[broken]).unwrap_err();
        assert_eq!(error.kind(), Kind::Corrupt);
    }
}
