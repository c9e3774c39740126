//! The bodies of Prometheus' remote read.
//!
//! A request is a snappy block of `ReadRequest`. The answer is a snappy block of `ReadResponse`
//! (type SAMPLES) or a run of frames (type STREAMED_XOR_CHUNKS), each `uvarint length | crc32c of
//! the message, big-endian | message`, where a message is a `ChunkedReadResponse`. Format:
//! Prometheus' documentation of remote read.

mod weight;

use bytes::{Buf, Bytes, BytesMut};
use prost::Message;

use crate::error::Case;
use crate::prometheus::{ChunkedReadResponse, ReadRequest, ReadResponse};
use crate::{Error, Result};

/// Prometheus sends 1 MiB unless told otherwise; a larger frame than this is refused.
pub const MAX_FRAME_BYTES: usize = 64 << 20;

/// The content type of an answer in frames.
pub const CONTENT_TYPE_CHUNKED: &str =
    "application/x-streamed-protobuf; proto=prometheus.ChunkedReadResponse";

const CHECKSUM_BYTES: usize = 4;

/// An element of a snappy block stands for 64 bytes at most, and then takes three or more.
const MAX_RATIO: usize = 22;

/// The body of a request.
pub fn encode_request(request: &ReadRequest) -> Result<Vec<u8>> {
    snap::raw::Encoder::new().compress_vec(&request.encode_to_vec()).map_err(snappy)
}

/// Reads an answer of type SAMPLES; `limit` bounds its decompressed size, in bytes.
pub fn decode_samples(body: &[u8], limit: usize) -> Result<ReadResponse> {
    Samples(decompress(body, limit)?).decode()
}

/// An answer of type SAMPLES before it is decoded.
#[derive(Debug)]
pub struct Samples(Vec<u8>);

impl Samples {
    /// Decompresses it, which takes [`decompressed_len`] bytes.
    pub fn decompress(body: &[u8]) -> Result<Samples> {
        Ok(Samples(decompress(body, usize::MAX)?))
    }

    /// The bytes that decoding it takes at most, besides its own.
    pub fn weight(&self) -> u64 {
        weight::READ_RESPONSE.weigh(&self.0)
    }

    pub fn decode(self) -> Result<ReadResponse> {
        ReadResponse::decode(Bytes::from(self.0))
            .map_err(|e| Error(Case::Decode { message: "ReadResponse", source: e }))
    }
}

fn snappy(error: snap::Error) -> Error {
    Error(Case::Snappy(error))
}

/// A snappy block whose decompressed length, which comes from outside, is checked before it is
/// allocated.
pub fn decompress(body: &[u8], limit: usize) -> Result<Vec<u8>> {
    decompressed_len(body, limit)?;
    snap::raw::Decoder::new().decompress_vec(body).map_err(snappy)
}

/// The length of a snappy block once it is decompressed; `limit` bounds it.
pub fn decompressed_len(body: &[u8], limit: usize) -> Result<usize> {
    let len = snap::raw::decompress_len(body).map_err(snappy)?;
    if len > limit {
        return Err(Error(Case::BodyTooLong { len, limit }));
    }
    if len > body.len().saturating_mul(MAX_RATIO) {
        return Err(Error(Case::BodyTooShort { len: body.len(), claimed: len }));
    }
    Ok(len)
}

/// Takes the frames out of a body that arrives in pieces. Chunks of a decoded message share its
/// buffer.
#[derive(Debug)]
pub struct FrameDecoder {
    buffer: BytesMut,
    max_frame: usize,
}

impl Default for FrameDecoder {
    fn default() -> FrameDecoder {
        FrameDecoder::new(MAX_FRAME_BYTES)
    }
}

impl FrameDecoder {
    pub fn new(max_frame_bytes: usize) -> FrameDecoder {
        FrameDecoder { buffer: BytesMut::new(), max_frame: max_frame_bytes }
    }

    pub fn feed(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Bytes fed and not yet taken out.
    pub fn buffered(&self) -> usize {
        self.buffer.len()
    }

    /// The next message, or `None` until more is fed.
    pub fn next_message(&mut self) -> Result<Option<ChunkedReadResponse>> {
        self.next_frame()?.map(ReadFrame::decode).transpose()
    }

    /// The next message before it is decoded, or `None` until more is fed.
    pub fn next_frame(&mut self) -> Result<Option<ReadFrame>> {
        let Some((len, prefix)) = read_length(&self.buffer)? else { return Ok(None) };
        let limit = self.max_frame;
        let body = usize::try_from(len)
            .ok()
            .filter(|l| *l <= limit)
            .ok_or(Error(Case::FrameTooLong { len, limit }))?;
        let whole = prefix + CHECKSUM_BYTES + body;
        if self.buffer.len() < whole {
            return Ok(None);
        }
        let mut frame = self.buffer.split_to(whole).freeze();
        frame.advance(prefix);
        let expected = frame.get_u32();
        let found = crc32c::crc32c(&frame);
        if found != expected {
            return Err(Error(Case::FrameChecksum { found, expected }));
        }
        Ok(Some(ReadFrame(frame)))
    }

    /// To be called at the end of the body: fails when it ended inside a frame.
    pub fn finish(&self) -> Result<()> {
        if self.buffer.is_empty() {
            Ok(())
        } else {
            Err(Error(Case::FrameTruncated(self.buffer.len())))
        }
    }
}

/// A frame of which the checksum is right.
#[derive(Debug)]
pub struct ReadFrame(Bytes);

impl ReadFrame {
    /// The bytes that it and what is decoded from it take at most.
    pub fn weight(&self) -> u64 {
        self.0.len() as u64 + weight::CHUNKED_READ_RESPONSE.weigh(&self.0)
    }

    pub fn decode(self) -> Result<ChunkedReadResponse> {
        ChunkedReadResponse::decode(self.0)
            .map_err(|e| Error(Case::Decode { message: "ChunkedReadResponse", source: e }))
    }
}

/// One frame, as a server sends it.
pub fn encode_frame(message: &ChunkedReadResponse) -> Vec<u8> {
    let body = message.encode_to_vec();
    let mut frame = Vec::with_capacity(body.len() + 14);
    prost::encoding::encode_varint(body.len() as u64, &mut frame);
    frame.extend_from_slice(&crc32c::crc32c(&body).to_be_bytes());
    frame.extend_from_slice(&body);
    frame
}

/// `(value, bytes it takes)`; `None` while the varint is not complete.
fn read_length(bytes: &[u8]) -> Result<Option<(u64, usize)>> {
    let mut value = 0u64;
    for (i, byte) in bytes.iter().take(10).enumerate() {
        if i == 9 && *byte > 1 {
            return Err(Error(Case::FrameLength));
        }
        value |= u64::from(byte & 0x7f) << (7 * i);
        if *byte < 0x80 {
            return Ok(Some((value, i + 1)));
        }
    }
    if bytes.len() >= 10 { Err(Error(Case::FrameLength)) } else { Ok(None) }
}

#[cfg(test)]
mod tests;
