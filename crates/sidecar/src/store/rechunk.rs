//! Samples of a remote read that does not stream, encoded as chunks again.

use bytes::Bytes;
use model::FloatHistogram;
use model::histogram::{Histogram, ResetHint, Span};
use storeapi::{ChunkBytes, ChunkContent, Error, Kind, Result, SeriesChunk};
use tsdb::chunk::{Encoding, FloatHistogramEncoder, HistogramEncoder, Pushed, XorEncoder};
use wire::prometheus as pb;
use wire::prometheus::histogram::{Count, ZeroCount};

/// As many as Prometheus puts into a chunk.
const MAX_SAMPLES: usize = 120;

enum Point<'a> {
    Float(&'a pb::Sample),
    Integer(&'a pb::Histogram),
    FloatHistogram(&'a pb::Histogram),
}

impl Point<'_> {
    fn time(&self) -> i64 {
        match self {
            Point::Float(sample) => sample.timestamp,
            Point::Integer(histogram) | Point::FloatHistogram(histogram) => histogram.timestamp,
        }
    }
}

/// Chunks of at most 120 samples of one kind, in order of time, without overlap.
pub(super) fn encode(samples: &[pb::Sample], histograms: &[pb::Histogram]) -> Result<Vec<SeriesChunk>> {
    fn point(histogram: &pb::Histogram) -> Point<'_> {
        match histogram.count {
            Some(Count::CountFloat(_)) => Point::FloatHistogram(histogram),
            _ => Point::Integer(histogram),
        }
    }
    let mut points: Vec<Point<'_>> = samples.iter().map(Point::Float).chain(histograms.iter().map(point)).collect();
    points.sort_by_key(Point::time);
    let mut chunks = Vec::with_capacity(points.len() / MAX_SAMPLES + 1);
    for run in points.chunk_by(|a, b| std::mem::discriminant(a) == std::mem::discriminant(b)) {
        encode_run(run, &mut chunks)?;
    }
    Ok(chunks)
}

fn encode_run(run: &[Point<'_>], chunks: &mut Vec<SeriesChunk>) -> Result<()> {
    let mut rest = run;
    let mut header = ResetHint::Unknown;
    while let Some(first) = rest.first() {
        let most = &rest[..rest.len().min(MAX_SAMPLES)];
        let (encoding, data, taken, next_header) = match first {
            Point::Float(_) => encode_floats(most),
            Point::Integer(_) => encode_integers(most, header)?,
            Point::FloatHistogram(_) => encode_float_histograms(most, header)?,
        };
        header = next_header;
        let content = ChunkContent::Raw(ChunkBytes { encoding, data: Bytes::from(data) });
        chunks.push(SeriesChunk::new(rest[0].time(), rest[taken - 1].time(), content));
        rest = &rest[taken..];
    }
    Ok(())
}

type Encoded = (Encoding, Vec<u8>, usize, ResetHint);

fn encode_floats(points: &[Point<'_>]) -> Encoded {
    let mut encoder = XorEncoder::new();
    for point in points {
        if let Point::Float(sample) = point {
            encoder.push(sample.timestamp, sample.value);
        }
    }
    (Encoding::Xor, encoder.finish(), points.len(), ResetHint::Unknown)
}

fn encode_integers(points: &[Point<'_>], header: ResetHint) -> Result<Encoded> {
    let mut encoder = HistogramEncoder::new(header);
    for (i, point) in points.iter().enumerate() {
        if let Point::Integer(histogram) = point
            && let Pushed::NewChunk(next) = encoder.push(histogram.timestamp, &integer(histogram)).map_err(refused)?
            && i > 0
        {
            return Ok((Encoding::Histogram, encoder.finish(), i, next));
        }
    }
    Ok((Encoding::Histogram, encoder.finish(), points.len(), ResetHint::Unknown))
}

fn encode_float_histograms(points: &[Point<'_>], header: ResetHint) -> Result<Encoded> {
    let mut encoder = FloatHistogramEncoder::new(header);
    for (i, point) in points.iter().enumerate() {
        if let Point::FloatHistogram(histogram) = point
            && let Pushed::NewChunk(next) = encoder.push(histogram.timestamp, &float(histogram)).map_err(refused)?
            && i > 0
        {
            return Ok((Encoding::FloatHistogram, encoder.finish(), i, next));
        }
    }
    Ok((Encoding::FloatHistogram, encoder.finish(), points.len(), ResetHint::Unknown))
}

fn refused(error: tsdb::Error) -> Error {
    Error::new(Kind::Corrupt, format!("encoding a histogram: {error}"))
}

fn integer(message: &pb::Histogram) -> Histogram {
    let count = match message.count {
        Some(Count::CountInt(count)) => count,
        _ => 0,
    };
    let zero_count = match message.zero_count {
        Some(ZeroCount::ZeroCountInt(count)) => count,
        _ => 0,
    };
    Histogram {
        schema: message.schema,
        hint: hint(message),
        zero_threshold: message.zero_threshold,
        zero_count,
        count,
        sum: message.sum,
        positive_spans: spans(&message.positive_spans),
        negative_spans: spans(&message.negative_spans),
        positive_buckets: message.positive_deltas.clone(),
        negative_buckets: message.negative_deltas.clone(),
        custom_values: message.custom_values.clone(),
    }
}

fn float(message: &pb::Histogram) -> FloatHistogram {
    let count = match message.count {
        Some(Count::CountFloat(count)) => count,
        _ => 0.0,
    };
    let zero_count = match message.zero_count {
        Some(ZeroCount::ZeroCountFloat(count)) => count,
        _ => 0.0,
    };
    FloatHistogram {
        schema: message.schema,
        hint: hint(message),
        zero_threshold: message.zero_threshold,
        zero_count,
        count,
        sum: message.sum,
        positive_spans: spans(&message.positive_spans),
        negative_spans: spans(&message.negative_spans),
        positive_buckets: message.positive_counts.clone(),
        negative_buckets: message.negative_counts.clone(),
        custom_values: message.custom_values.clone(),
    }
}

fn hint(message: &pb::Histogram) -> ResetHint {
    use pb::histogram::ResetHint as Wire;
    match message.reset_hint() {
        Wire::Unknown => ResetHint::Unknown,
        Wire::Yes => ResetHint::Reset,
        Wire::No => ResetHint::NotReset,
        Wire::Gauge => ResetHint::Gauge,
    }
}

fn spans(messages: &[pb::BucketSpan]) -> Vec<Span> {
    messages.iter().map(|span| Span { offset: span.offset, length: span.length }).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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
                prop_assert!(held.len() <= MAX_SAMPLES);
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
