//! Chunk encodings: Prometheus numbers them by the byte in a segment file, Thanos by that byte
//! minus one.

use tsdb::chunk::Encoding;

use crate::error::Case;
use crate::{Error, Result};

/// The number in `thanos.Chunk.type`. An AggrChunk is never sent whole: its parts are.
pub fn thanos_encoding(encoding: Encoding) -> i32 {
    prometheus_encoding(encoding) - 1
}

pub fn thanos_encoding_from_wire(number: i32) -> Result<Encoding> {
    number.checked_add(1).and_then(sample_encoding).ok_or(Error(Case::UnknownEncoding(number)))
}

/// The number in `prometheus.Chunk.type`.
pub fn prometheus_encoding(encoding: Encoding) -> i32 {
    i32::from(encoding as u8)
}

pub fn prometheus_encoding_from_wire(number: i32) -> Result<Encoding> {
    sample_encoding(number).ok_or(Error(Case::UnknownEncoding(number)))
}

fn sample_encoding(number: i32) -> Option<Encoding> {
    u8::try_from(number).ok().and_then(Encoding::from_byte).filter(|e| *e != Encoding::Aggregate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_the_peers() {
        assert_eq!(thanos_encoding(Encoding::Xor), 0);
        assert_eq!(thanos_encoding_from_wire(2).unwrap(), Encoding::FloatHistogram);
        assert_eq!(prometheus_encoding_from_wire(4).unwrap(), Encoding::Xor2);
        for unknown in [-2, -1, 6, 254, 255, i32::MAX] {
            assert!(thanos_encoding_from_wire(unknown).is_err(), "{unknown}");
        }
    }
}
