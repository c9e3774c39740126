//! Native histograms of remote read and remote write.

use model::FloatHistogram;
use model::histogram::{BucketSpan, Histogram, ResetHint};

use crate::prometheus as pb;
use crate::prometheus::histogram::{Count, ResetHint as WireHint, ZeroCount};

/// A native histogram whose counts are integers or floats, as the sender has them.
#[derive(Clone, Debug, PartialEq)]
pub enum NativeHistogram {
    Integer(Histogram),
    Float(FloatHistogram),
}

/// Whether the counts of a message are floats. One that states no count has integer counts, which
/// are all zero.
fn has_float_counts(message: &pb::Histogram) -> bool {
    matches!(message.count, Some(Count::CountFloat(_)))
}

/// Whether spans and buckets agree is not checked here, but where they are used.
pub fn histogram_from_wire(message: &pb::Histogram) -> NativeHistogram {
    if has_float_counts(message) {
        NativeHistogram::Float(float(message))
    } else {
        NativeHistogram::Integer(integer(message))
    }
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
    match message.reset_hint() {
        WireHint::Unknown => ResetHint::Unknown,
        WireHint::Yes => ResetHint::Reset,
        WireHint::No => ResetHint::NotReset,
        WireHint::Gauge => ResetHint::Gauge,
    }
}

fn spans(messages: &[pb::BucketSpan]) -> Vec<BucketSpan> {
    messages.iter().map(|span| BucketSpan { offset: span.offset, length: span.length }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message() -> pb::Histogram {
        pb::Histogram {
            sum: 12.5,
            schema: 1,
            zero_threshold: 0.25,
            positive_spans: vec![pb::BucketSpan { offset: -2, length: 2 }],
            negative_spans: vec![pb::BucketSpan { offset: 3, length: 1 }],
            reset_hint: WireHint::Gauge as i32,
            custom_values: vec![0.5],
            timestamp: 7,
            ..pb::Histogram::default()
        }
    }

    #[test]
    fn integers_keep_their_deltas() {
        let message = pb::Histogram {
            count: Some(Count::CountInt(6)),
            zero_count: Some(ZeroCount::ZeroCountInt(1)),
            positive_deltas: vec![3, -2],
            negative_deltas: vec![1],
            ..message()
        };
        let expected = Histogram {
            schema: 1,
            hint: ResetHint::Gauge,
            zero_threshold: 0.25,
            zero_count: 1,
            count: 6,
            sum: 12.5,
            positive_spans: vec![BucketSpan { offset: -2, length: 2 }],
            negative_spans: vec![BucketSpan { offset: 3, length: 1 }],
            positive_buckets: vec![3, -2],
            negative_buckets: vec![1],
            custom_values: vec![0.5],
        };
        assert_eq!(histogram_from_wire(&message), NativeHistogram::Integer(expected));
    }

    #[test]
    fn floats_keep_their_counts() {
        let message = pb::Histogram {
            count: Some(Count::CountFloat(6.5)),
            zero_count: Some(ZeroCount::ZeroCountFloat(0.5)),
            positive_counts: vec![3.0, 2.0],
            negative_counts: vec![1.0],
            reset_hint: WireHint::Yes as i32,
            ..message()
        };
        let NativeHistogram::Float(histogram) = histogram_from_wire(&message) else {
            panic!("not floats")
        };
        assert_eq!((histogram.count, histogram.zero_count), (6.5, 0.5));
        assert_eq!(
            (histogram.positive_buckets, histogram.negative_buckets),
            (vec![3.0, 2.0], vec![1.0])
        );
        assert_eq!(histogram.hint, ResetHint::Reset);
    }

    #[test]
    fn what_states_no_count_is_an_empty_one_of_integers() {
        let NativeHistogram::Integer(histogram) = histogram_from_wire(&message()) else {
            panic!("floats")
        };
        assert_eq!((histogram.count, histogram.zero_count), (0, 0));
    }
}
