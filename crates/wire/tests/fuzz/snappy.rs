use prost::Message;
use wire::Result;
use wire::prometheus::ReadResponse;
use wire::remote_read::{decode_samples, decompress};

use super::{meter, most_of_message};

const LIMIT: usize = 1 << 20;

/// What is decompressed is no longer than its block allows, and is compressed again. The bytes are
/// read once as they are, of which the result tells, and once as what was compressed.
pub(crate) fn snappy(bytes: &[u8]) -> Result<()> {
    let block = snap::raw::Encoder::new().compress_vec(bytes).expect("a short block");
    assert_eq!(read(&block).expect("what was compressed is decompressed"), bytes);
    read(bytes).map(drop)
}

fn read(block: &[u8]) -> Result<Vec<u8>> {
    // three bytes of a block are 64 at most
    let plain = meter::within(4096 + 24 * block.len(), || decompress(block, LIMIT));
    let most = most_of_message(24 * block.len());
    let response = meter::within(most, || decode_samples(block, LIMIT));
    let plain = plain.inspect_err(|_| assert!(response.is_err()))?;
    assert!(plain.len() <= LIMIT);
    let again = snap::raw::Encoder::new().compress_vec(&plain).expect("a short block");
    assert_eq!(decompress(&again, LIMIT).expect("what was compressed is decompressed"), plain);
    let expected = ReadResponse::decode(&plain[..]).map(|message| message.encode_to_vec());
    assert_eq!(response.ok().map(|message| message.encode_to_vec()), expected.ok());
    Ok(plain)
}
