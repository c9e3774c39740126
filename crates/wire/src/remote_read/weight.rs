//! How much memory a message will take once it is decoded. Two bytes of a message can become a
//! histogram of hundreds, so that the length of a message says little.

use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};

use crate::prometheus as pb;

/// Lists grow by doubling, and both the old and the new memory are there meanwhile.
const GROWTH: u64 = 3;

/// A message as far as its lists go. Texts and bytes share the memory that the message is in.
pub(super) struct Shape {
    /// In memory, without what is in lists.
    bytes: usize,
    lists: &'static [(u32, Item)],
}

enum Item {
    Message(&'static Shape),
    /// Of eight bytes each in memory, and of one or more in the message.
    Number,
}

const LABEL: Shape = Shape { bytes: size_of::<pb::Label>(), lists: &[] };
const CHUNK: Shape = Shape { bytes: size_of::<pb::Chunk>(), lists: &[] };
const CHUNKED_SERIES: Shape = Shape {
    bytes: size_of::<pb::ChunkedSeries>(),
    lists: &[(1, Item::Message(&LABEL)), (2, Item::Message(&CHUNK))],
};
pub(super) const CHUNKED_READ_RESPONSE: Shape =
    Shape { bytes: 0, lists: &[(1, Item::Message(&CHUNKED_SERIES))] };

const SAMPLE: Shape = Shape { bytes: size_of::<pb::Sample>(), lists: &[] };
const EXEMPLAR: Shape =
    Shape { bytes: size_of::<pb::Exemplar>(), lists: &[(1, Item::Message(&LABEL))] };
const BUCKET_SPAN: Shape = Shape { bytes: size_of::<pb::BucketSpan>(), lists: &[] };
const HISTOGRAM: Shape = Shape {
    bytes: size_of::<pb::Histogram>(),
    lists: &[
        (8, Item::Message(&BUCKET_SPAN)),
        (9, Item::Number),
        (10, Item::Number),
        (11, Item::Message(&BUCKET_SPAN)),
        (12, Item::Number),
        (13, Item::Number),
        (16, Item::Number),
    ],
};
const TIME_SERIES: Shape = Shape {
    bytes: size_of::<pb::TimeSeries>(),
    lists: &[
        (1, Item::Message(&LABEL)),
        (2, Item::Message(&SAMPLE)),
        (3, Item::Message(&EXEMPLAR)),
        (4, Item::Message(&HISTOGRAM)),
    ],
};
const QUERY_RESULT: Shape =
    Shape { bytes: size_of::<pb::QueryResult>(), lists: &[(1, Item::Message(&TIME_SERIES))] };
pub(super) const READ_RESPONSE: Shape =
    Shape { bytes: 0, lists: &[(1, Item::Message(&QUERY_RESULT))] };

impl Shape {
    /// The bytes that a message takes at most, besides its own. What cannot be decoded weighs what
    /// comes before that.
    pub(super) fn weigh(&self, mut message: &[u8]) -> u64 {
        let mut bytes = 0;
        while let Some((item, part)) = self.next_part(&mut message) {
            bytes += match item {
                Some(Item::Message(shape)) => GROWTH * shape.bytes as u64 + shape.weigh(part),
                Some(Item::Number) => GROWTH * 8 * part.len().max(1) as u64,
                None => 0,
            };
        }
        bytes
    }

    /// The next field, and its bytes where it has a length.
    fn next_part<'a>(&self, message: &mut &'a [u8]) -> Option<(Option<&Item>, &'a [u8])> {
        if message.is_empty() {
            return None;
        }
        let (field, wire_type) = decode_key(message).ok()?;
        let item = self.lists.iter().find(|(number, _)| *number == field).map(|(_, item)| item);
        if wire_type != WireType::LengthDelimited {
            skip_field(wire_type, field, message, DecodeContext::default()).ok()?;
            return Some((item.filter(|item| matches!(item, Item::Number)), &[]));
        }
        let length = usize::try_from(decode_varint(message).ok()?).ok()?;
        let (part, rest) = message.split_at_checked(length)?;
        *message = rest;
        Some((item, part))
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;

    #[test]
    fn what_is_decoded_takes_no_more_than_was_said() {
        let histogram = pb::Histogram { positive_deltas: vec![1; 100], ..Default::default() };
        let one = pb::TimeSeries {
            labels: vec![pb::Label::default(); 10],
            samples: vec![pb::Sample::default(); 1000],
            exemplars: Vec::new(),
            histograms: vec![histogram; 7],
        };
        let response =
            pb::ReadResponse { results: vec![pb::QueryResult { timeseries: vec![one; 3] }] };
        let bytes = response.encode_to_vec();
        let decoded = pb::ReadResponse::decode(&bytes[..]).unwrap();
        let lists = |series: &pb::TimeSeries| {
            let of_histogram = |h: &pb::Histogram| h.positive_deltas.capacity() * 8;
            series.labels.capacity() * size_of::<pb::Label>()
                + series.samples.capacity() * size_of::<pb::Sample>()
                + series.histograms.capacity() * size_of::<pb::Histogram>()
                + series.histograms.iter().map(of_histogram).sum::<usize>()
        };
        let taken: usize = decoded.results[0].timeseries.iter().map(lists).sum();
        let weight = READ_RESPONSE.weigh(&bytes);
        assert!(weight >= taken as u64 && weight <= 5 * taken as u64, "{weight} for {taken}");
    }

    #[test]
    fn broken_messages_weigh_what_is_before_the_break() {
        let bytes = pb::ChunkedReadResponse {
            chunked_series: vec![pb::ChunkedSeries::default(); 5],
            query_index: 1,
        }
        .encode_to_vec();
        let whole = CHUNKED_READ_RESPONSE.weigh(&bytes);
        assert_eq!(whole, 5 * GROWTH * size_of::<pb::ChunkedSeries>() as u64);
        for end in 0..bytes.len() {
            assert!(CHUNKED_READ_RESPONSE.weigh(&bytes[..end]) <= whole);
        }
        assert_eq!(CHUNKED_READ_RESPONSE.weigh(&[0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f]), 0);
    }
}
