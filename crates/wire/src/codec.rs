//! The codec of the generated services: prost's, which looks at requests before it decodes them.
//!
//! A part of a message, such as an empty matcher, takes two bytes on the wire and a hundred when it
//! is decoded. Requests come from anyone, so theirs are counted first.

use std::marker::PhantomData;

use bytes::Buf;
use prost::encoding::{DecodeContext, decode_key, skip_field};
use prost::{Message, Name};
use tonic::Status;
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder};
use tonic_prost::{ProstCodec, ProstDecoder, ProstEncoder};

/// The most parts of a request: matchers, labels, spans of time. Requests of queriers have some
/// dozens.
const MAX_REQUEST_PARTS: usize = 20_000;

/// Encodes `T` and decodes `U`.
#[derive(Debug)]
pub struct BoundedCodec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for BoundedCodec<T, U> {
    fn default() -> BoundedCodec<T, U> {
        BoundedCodec(PhantomData)
    }
}

impl<T, U> Codec for BoundedCodec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Name + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = BoundedDecoder<U>;

    fn encoder(&mut self) -> ProstEncoder<T> {
        ProstEncoder::default()
    }

    fn decoder(&mut self) -> BoundedDecoder<U> {
        BoundedDecoder(ProstCodec::<T, U>::raw_decoder(BufferSettings::default()))
    }
}

/// See [`BoundedCodec`].
#[derive(Debug)]
pub struct BoundedDecoder<U>(ProstDecoder<U>);

impl<U: Message + Name + Default> Decoder for BoundedDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, message: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        if U::NAME.ends_with("Request") {
            // the whole message is in one piece
            let parts = parts(message.chunk());
            if parts > MAX_REQUEST_PARTS {
                return Err(Status::resource_exhausted(format!(
                    "the {} has {parts} parts, such as matchers and labels, more than the limit of \
                     {MAX_REQUEST_PARTS} per request",
                    U::NAME
                )));
            }
        }
        self.0.decode(message)
    }
}

/// How many fields are set at the top of a message, up to where it is broken.
fn parts(mut message: &[u8]) -> usize {
    let mut parts = 0;
    while message.has_remaining() {
        let skipped = decode_key(&mut message).and_then(|(tag, wire_type)| {
            skip_field(wire_type, tag, &mut message, DecodeContext::default())
        });
        if skipped.is_err() {
            break;
        }
        parts += 1;
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::thanos::{LabelMatcher, SeriesRequest};

    #[test]
    fn every_field_of_a_request_is_a_part() {
        let mut request = SeriesRequest { max_time: 7, ..SeriesRequest::default() };
        request.matchers = vec![LabelMatcher::default(); 1000];
        request.without_replica_labels = vec![String::new(); 100];
        let message = request.encode_to_vec();
        assert_eq!(parts(&message), 1101);
        assert_eq!(parts(&message[..message.len() - 1]), 1100, "up to where it is cut");
        assert_eq!(parts(b""), 0);
    }
}
