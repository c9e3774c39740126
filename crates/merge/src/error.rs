//! The error of this crate.

use tsdb::Kind as Format;

/// What a caller can do about an [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The chunks are damaged or contradict themselves: reading them again gives the same error.
    Corrupt,
    /// The data is sound, but the operation does not exist for it.
    Unsupported,
    /// The chunks lack what was asked for.
    Invalid,
}

/// Why chunks could not be read or merged.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    #[error("decoding a chunk: {0}")]
    Decode(#[from] tsdb::Error),
    #[error("encoding a histogram: {0}")]
    Encode(tsdb::Error),
    #[error("encoding a histogram: it fits into no chunk")]
    FitsNoChunk,
    #[error("averaging a downsampled chunk: its count and sum do not stand at the same times")]
    CountSumDiffer,
    #[error("reading the {aggregate} of a downsampled chunk that lacks it")]
    MissingAggregate { aggregate: &'static str },
    #[error(
        "merging overlapping downsampled chunks sample by sample, which only the penalty merge can"
    )]
    OverlappingAggregates,
    #[error("downsampling chunks that overlap: one ends at {end}, the next begins at {start}")]
    OverlappingInput { end: i64, start: i64 },
    #[error("downsampling: {0}")]
    Downsample(String),
}

impl Error {
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Decode(e) => match e.kind() {
                Format::Corrupt => ErrorKind::Corrupt,
                Format::Unsupported => ErrorKind::Unsupported,
                Format::Limit | Format::Invalid => ErrorKind::Invalid,
            },
            Error::Encode(_) | Error::FitsNoChunk => ErrorKind::Corrupt,
            Error::CountSumDiffer | Error::Downsample(_) => ErrorKind::Corrupt,
            Error::MissingAggregate { .. } | Error::OverlappingInput { .. } => ErrorKind::Invalid,
            Error::OverlappingAggregates => ErrorKind::Unsupported,
        }
    }
}
