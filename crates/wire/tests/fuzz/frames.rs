use wire::prometheus::ChunkedReadResponse;
use wire::remote_read::{FrameDecoder, encode_frame};
use wire::{Error, Result};

use super::{meter, most_of_message};

const MAX_FRAME: usize = 1 << 14;

/// Frames are the same wherever the body is cut, and come back when they are written again. The
/// bytes are read as they are, and once more with the checksums put right, of which the result
/// tells.
pub(crate) fn frames(bytes: &[u8]) -> Result<()> {
    let _ = read(bytes);
    read(&sealed(bytes))
}

/// The messages up to the first error.
struct Frames {
    messages: Vec<ChunkedReadResponse>,
    end: Result<()>,
}

fn read(body: &[u8]) -> Result<()> {
    // a frame may be waited for whose length is the limit
    let most = 4 * MAX_FRAME + most_of_message(body.len());
    let whole = meter::within(most, || decode([body]));
    let cut = meter::within(most, || decode(body.chunks(7)));
    assert_eq!(whole.messages, cut.messages);
    let reason = |end: &Result<()>| end.as_ref().err().map(Error::to_string);
    assert_eq!(reason(&whole.end), reason(&cut.end));
    let written: Vec<u8> = whole.messages.iter().flat_map(encode_frame).collect();
    let again = decode([&written[..]]);
    assert_eq!(again.messages, whole.messages);
    again.end.expect("what was written is read");
    whole.end
}

fn decode<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Frames {
    let mut decoder = FrameDecoder::new(MAX_FRAME);
    let mut messages = Vec::new();
    for piece in pieces {
        decoder.feed(piece);
        loop {
            match decoder.next_message() {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => break,
                Err(error) => return Frames { messages, end: Err(error) },
            }
        }
    }
    Frames { messages, end: decoder.finish() }
}

/// The body with the checksum of each frame put right, up to the first that does not end in it.
fn sealed(body: &[u8]) -> Vec<u8> {
    let mut sealed = body.to_vec();
    let mut at = 0;
    loop {
        let mut rest = &body[at..];
        let Ok(len) = prost::encoding::decode_varint(&mut rest) else { return sealed };
        let Ok(len) = usize::try_from(len) else { return sealed };
        let Some(message) = rest.get(4..).and_then(|rest| rest.get(..len)) else { return sealed };
        let checksum = body.len() - rest.len();
        let computed = crc32c::crc32c(message);
        sealed[checksum..checksum + 4].copy_from_slice(&computed.to_be_bytes());
        at = checksum + 4 + len;
    }
}
