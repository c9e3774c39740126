//! Chunks: compressed runs of samples of one series.
//!
//! All functions work on a chunk's *data*: the bytes between the encoding byte and the checksum in
//! a segment, which StoreAPI and remote read carry. Timestamps are milliseconds. Bit streams run
//! from the highest bit down.

mod aggregate;
mod bits;
mod counts;
mod cut;
mod histogram;
mod histogram_writer;
mod layout;
mod start_time;
mod transcode;
mod varbit;
mod xor;
mod xor2;

use std::fmt;
use std::sync::Arc;

use model::FloatHistogram;
use model::histogram::{Histogram, ResetHint};

use crate::error::{Case, Error};

pub use aggregate::{Aggregates, join_aggregates, split_aggregates};
pub use cut::{cut, forget_reset};
pub use histogram_writer::{FloatHistogramEncoder, HistogramEncoder, Pushed};
pub use transcode::{Transcoded, transcode};
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

    /// Whether Go peers cannot read it; see [`transcode`].
    pub fn needs_transcoding(self) -> bool {
        matches!(self, Encoding::Xor2 | Encoding::HistogramSt | Encoding::FloatHistogramSt)
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

/// Appends the samples of a float chunk (XOR, XOR2); appends nothing when it fails. Timestamps are
/// in milliseconds.
///
/// # Errors
/// Corrupt data, and chunks of another kind.
#[inline]
pub fn decode_floats(
    encoding: Encoding,
    data: &[u8],
    ts: &mut Vec<i64>,
    values: &mut Vec<f64>,
) -> Result<(), Error> {
    match encoding {
        Encoding::Xor => xor::decode(data, ts, values),
        Encoding::Xor2 => xor2::decode(data, ts, values),
        _ => Err(Error(Case::WrongEncoding { wanted: "floats", encoding })),
    }
}

/// Appends the samples of a histogram chunk, integer counts as floats; appends nothing when it
/// fails. The first hint is `Unknown` unless the chunk holds gauges, because the chunk before may
/// be missing; see [`reset_hint`].
///
/// # Errors
/// Corrupt data, schemas that are not known, and chunks of another kind.
pub fn decode_histograms(
    encoding: Encoding,
    data: &[u8],
    ts: &mut Vec<i64>,
    values: &mut Vec<FloatHistogram>,
) -> Result<(), Error> {
    check_is_histogram(encoding)?;
    histogram::decode_floats(encoding, data, ts, values, |sample, _| {
        let mut histogram = FloatHistogram::default();
        sample.fill(&mut histogram);
        histogram
    })
}

/// As [`decode_histograms`], into pointers that can be shared.
///
/// Uses `spare` ones, whose histograms are no longer needed, before it allocates others.
/// `is_read(t, next)` says whether the histogram at `t`, which is followed by one at `next`, will
/// be looked at; it is called for all but the last, in order. Those not looked at repeat the
/// histogram before them, unless one of the two is a gauge or stale.
///
/// # Errors
/// As [`decode_histograms`].
pub fn decode_shared_histograms(
    encoding: Encoding,
    data: &[u8],
    ts: &mut Vec<i64>,
    values: &mut Vec<Arc<FloatHistogram>>,
    spare: &mut Vec<Arc<FloatHistogram>>,
    mut is_read: impl FnMut(i64, i64) -> bool,
) -> Result<(), Error> {
    check_is_histogram(encoding)?;
    histogram::decode_floats(encoding, data, ts, values, |sample, before| {
        let is_read = sample.next().is_none_or(|next| is_read(sample.t(), next));
        if let Some(before) =
            before.last().filter(|before| !is_read && sample.goes_on() && !before.is_stale())
        {
            return Arc::clone(before);
        }
        let mut histogram =
            spare.pop().filter(|spare| Arc::strong_count(spare) == 1).unwrap_or_default();
        sample.fill(Arc::make_mut(&mut histogram));
        histogram
    })
}

fn check_is_histogram(encoding: Encoding) -> Result<(), Error> {
    if encoding.is_histogram() {
        Ok(())
    } else {
        Err(Error(Case::WrongEncoding { wanted: "histograms", encoding }))
    }
}

/// As [`decode_histograms`], only for chunks with integer counts.
///
/// # Errors
/// As [`decode_histograms`].
pub fn decode_integer_histograms(
    encoding: Encoding,
    data: &[u8],
    ts: &mut Vec<i64>,
    values: &mut Vec<Histogram>,
) -> Result<(), Error> {
    if !matches!(encoding, Encoding::Histogram | Encoding::HistogramSt) {
        return Err(Error(Case::WrongEncoding { wanted: "integer histograms", encoding }));
    }
    histogram::decode_integers(encoding, data, ts, values)
}

/// Samples of the chunk by its header, without decoding it; windows of an AggrChunk.
///
/// # Errors
/// When the header is truncated.
pub fn num_samples(encoding: Encoding, data: &[u8]) -> Result<usize, Error> {
    match encoding {
        Encoding::Xor | Encoding::Xor2 => sample_count(data, "chunk"),
        Encoding::Aggregate => aggregate::num_samples(data),
        _ => Ok(histogram::HistogramHeader::parse(encoding, data)?.samples),
    }
}

/// Samples of the chunk as `meta.json` counts them: for an AggrChunk those of its first aggregate.
///
/// # Errors
/// As [`num_samples`].
pub fn stored_samples(encoding: Encoding, data: &[u8]) -> Result<usize, Error> {
    match encoding {
        Encoding::Aggregate => match split_aggregates(data)?.into_iter().flatten().next() {
            Some((encoding, data)) => num_samples(encoding, data),
            None => Ok(0),
        },
        _ => num_samples(encoding, data),
    }
}

/// What the header of a histogram chunk says about a counter reset between the chunk before it and
/// its first sample.
///
/// # Errors
/// When the header is truncated, and for chunks of another kind.
pub fn reset_hint(encoding: Encoding, data: &[u8]) -> Result<ResetHint, Error> {
    if !encoding.is_histogram() {
        return Err(Error(Case::WrongEncoding { wanted: "a reset hint", encoding }));
    }
    Ok(histogram::HistogramHeader::parse(encoding, data)?.hint)
}

/// The big-endian count that float chunks begin with.
fn sample_count(data: &[u8], what: &'static str) -> Result<usize, Error> {
    match data {
        [high, low, ..] => Ok(usize::from(u16::from_be_bytes([*high, *low]))),
        _ => Err(Error::truncated(what, data.len())),
    }
}
