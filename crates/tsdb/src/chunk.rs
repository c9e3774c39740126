//! Chunks: compressed runs of samples of one series.
//!
//! All functions work on a chunk's *data*: what stands between the encoding byte and the checksum in a segment, and
//! what StoreAPI and remote read carry. Timestamps are milliseconds. Bit streams run from the highest bit down.

mod bits;
mod xor;

use std::fmt;

use crate::Error;

pub use xor::XorEncoder;

/// The encoding byte of a chunk in a segment file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Encoding {
    Xor = 1,
    Histogram = 2,
    FloatHistogram = 3,
    Xor2 = 4,
    HistogramSt = 5,
    FloatHistogramSt = 6,
    /// Thanos' AggrChunk: up to five sub-chunks, one per aggregate.
    Aggregate = 0xff,
}

impl Encoding {
    pub fn from_byte(byte: u8) -> Option<Encoding> {
        Some(match byte {
            1 => Encoding::Xor,
            2 => Encoding::Histogram,
            3 => Encoding::FloatHistogram,
            4 => Encoding::Xor2,
            5 => Encoding::HistogramSt,
            6 => Encoding::FloatHistogramSt,
            0xff => Encoding::Aggregate,
            _ => return None,
        })
    }

    pub fn is_histogram(self) -> bool {
        use Encoding::*;
        matches!(self, Histogram | FloatHistogram | HistogramSt | FloatHistogramSt)
    }
}

impl fmt::Display for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Encoding::Xor => "XOR",
            Encoding::Histogram => "histogram",
            Encoding::FloatHistogram => "float histogram",
            Encoding::Xor2 => "XOR2",
            Encoding::HistogramSt => "histogram with start timestamps",
            Encoding::FloatHistogramSt => "float histogram with start timestamps",
            Encoding::Aggregate => "AggrChunk",
        })
    }
}

/// The aggregates a downsampled chunk holds, in the order of its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Aggregate {
    Count = 0,
    Sum = 1,
    Min = 2,
    Max = 3,
    Counter = 4,
}

impl Aggregate {
    pub const ALL: [Aggregate; 5] =
        [Aggregate::Count, Aggregate::Sum, Aggregate::Min, Aggregate::Max, Aggregate::Counter];
}

/// Appends the samples of a float chunk (XOR, XOR2); appends nothing when it fails. Timestamps are in milliseconds.
///
/// # Errors
/// Corrupt data, and chunks of another kind.
#[inline]
pub fn decode_floats(encoding: Encoding, data: &[u8], ts: &mut Vec<i64>, values: &mut Vec<f64>) -> Result<(), Error> {
    match encoding {
        Encoding::Xor => xor::decode(data, ts, values),
        _ => Err(Error::WrongEncoding { wanted: "floats", encoding }),
    }
}

/// The big-endian count all encodings begin with.
fn sample_count(data: &[u8], what: &'static str) -> Result<usize, Error> {
    match data {
        [high, low, ..] => Ok(usize::from(u16::from_be_bytes([*high, *low]))),
        _ => Err(Error::truncated(what, data.len())),
    }
}
