//! The error of this crate.

use model::histogram::HistogramError;
use tsdb::Kind as Format;

/// What a caller can do about an [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The chunks are damaged or contradict themselves: reading them again gives the same error.
    Corrupt,
    /// The data is sound, but the operation does not exist for it.
    Unsupported,
    /// The chunks lack what was asked for.
    Invalid,
}

/// Why chunks could not be read or merged.
#[derive(Clone, Debug, thiserror::Error)]
#[error(transparent)]
pub struct Error(pub(crate) Case);

#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum Case {
    #[error("decoding a chunk")]
    Decode(#[source] tsdb::Error),
    #[error("encoding a histogram")]
    Encode(#[source] tsdb::Error),
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
    #[error("downsampling: one series has more than {most} {what} in a block")]
    TooLong { what: &'static str, most: usize },
    #[error("downsampling: adding up native histograms")]
    Histograms(#[source] HistogramError),
}

impl Error {
    pub fn kind(&self) -> Kind {
        match &self.0 {
            Case::Decode(e) => match e.kind() {
                Format::Corrupt => Kind::Corrupt,
                Format::Unsupported => Kind::Unsupported,
                Format::Limit | Format::Invalid => Kind::Invalid,
            },
            Case::Encode(_) | Case::FitsNoChunk => Kind::Corrupt,
            Case::CountSumDiffer | Case::Downsample(_) | Case::Histograms(_) => Kind::Corrupt,
            Case::MissingAggregate { .. } | Case::OverlappingInput { .. } => Kind::Invalid,
            Case::OverlappingAggregates | Case::TooLong { .. } => Kind::Unsupported,
        }
    }

    /// Downsampled chunks overlap where they cannot be merged; nothing is wrong with any of them.
    pub fn is_overlap_of_aggregates(&self) -> bool {
        matches!(self.0, Case::OverlappingAggregates)
    }

    /// A series of a block has more samples than are downsampled; nothing is wrong with them.
    pub fn is_too_long(&self) -> bool {
        matches!(self.0, Case::TooLong { .. })
    }
}

impl From<tsdb::Error> for Error {
    fn from(source: tsdb::Error) -> Error {
        Error(Case::Decode(source))
    }
}
