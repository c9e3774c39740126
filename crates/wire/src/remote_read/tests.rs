use proptest::prelude::*;

use super::*;
use crate::prometheus::{Chunk, ChunkedSeries, Label, Query};

fn message(query_index: i64, data: Vec<u8>) -> ChunkedReadResponse {
    let chunk = Chunk { min_time_ms: 1, max_time_ms: 2, r#type: 1, data: data.into() };
    let label = Label { name: Bytes::from_static(b"__name__"), value: Bytes::from_static(b"up") };
    ChunkedReadResponse {
        chunked_series: vec![ChunkedSeries { labels: vec![label], chunks: vec![chunk] }],
        query_index,
    }
}

fn drain(decoder: &mut FrameDecoder, into: &mut Vec<ChunkedReadResponse>) -> Result<()> {
    while let Some(message) = decoder.next_message()? {
        into.push(message);
    }
    Ok(())
}

proptest! {
    #[test]
    fn frames_are_found_wherever_the_body_is_cut(
        datas in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..8),
        cut in 1usize..97,
    ) {
        let sent: Vec<_> = datas.into_iter().enumerate().map(|(i, d)| message(i as i64, d)).collect();
        let body: Vec<u8> = sent.iter().flat_map(encode_frame).collect();
        let (mut decoder, mut got) = (FrameDecoder::default(), Vec::new());
        for piece in body.chunks(cut) {
            decoder.feed(piece);
            drain(&mut decoder, &mut got).unwrap();
        }
        decoder.finish().unwrap();
        prop_assert_eq!(got, sent);
    }

    #[test]
    fn arbitrary_bytes_neither_panic_nor_allocate_beyond_the_limit(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let mut decoder = FrameDecoder::new(1 << 16);
        decoder.feed(&bytes);
        let _ = drain(&mut decoder, &mut Vec::new());
        prop_assert!(decoder.buffer.capacity() <= (1 << 17));
        let _ = decode_samples(&bytes, 1 << 16);
    }
}

#[test]
fn a_flipped_bit_is_a_checksum_error() {
    let mut frame = encode_frame(&message(0, vec![1, 2, 3]));
    let last = frame.len() - 1;
    frame[last] ^= 1;
    let mut decoder = FrameDecoder::default();
    decoder.feed(&frame);
    assert!(matches!(decoder.next_message(), Err(Error(Case::FrameChecksum { .. }))));
}

#[test]
fn a_body_that_ends_inside_a_frame_is_an_error() {
    let frame = encode_frame(&message(0, vec![7; 100]));
    let mut decoder = FrameDecoder::default();
    decoder.feed(&frame[..50]);
    assert_eq!(decoder.next_message().unwrap(), None);
    assert_eq!(
        decoder.finish().unwrap_err().to_string(),
        "remote read ended inside a frame, 50 bytes are left over"
    );
}

#[test]
fn a_frame_length_beyond_belief_is_refused_before_it_is_read() {
    let mut decoder = FrameDecoder::new(1000);
    decoder.feed(&[0xff, 0xff, 0x7f]);
    let error = decoder.next_message().unwrap_err();
    assert_eq!(
        error.to_string(),
        "remote read frame of 2097151 bytes exceeds the limit of 1000 bytes"
    );
    assert_eq!(error.kind(), crate::Kind::Limit);
}

#[test]
fn requests_are_snappy_blocks_and_bombs_are_refused() {
    let request = ReadRequest {
        queries: vec![Query {
            start_timestamp_ms: 1,
            end_timestamp_ms: 2,
            matchers: Vec::new(),
            hints: None,
        }],
        accepted_response_types: vec![1, 0],
    };
    let body = encode_request(&request).unwrap();
    assert_eq!(ReadRequest::decode(&decompress(&body, 1000).unwrap()[..]).unwrap(), request);
    let bomb = snap::raw::Encoder::new().compress_vec(&vec![0; 100_000]).unwrap();
    assert_eq!(decode_samples(&bomb, 1000).unwrap_err().kind(), crate::Kind::Limit);
}

#[test]
fn a_block_that_claims_more_than_its_bytes_can_hold_is_refused() {
    // the length is a varint of a MiB, and there is hardly anything behind it
    let error = decompress(&[0x80, 0x80, 0x40, 0, b'a'], 1 << 24).unwrap_err();
    assert!(error.to_string().contains("5 bytes cannot hold the 1048576 bytes"), "{error}");
    assert_eq!(error.kind(), crate::Kind::Corrupt);
    let zeros = vec![0; 1 << 20];
    let body = snap::raw::Encoder::new().compress_vec(&zeros).unwrap();
    assert_eq!(decompress(&body, 1 << 24).unwrap(), zeros);
}
