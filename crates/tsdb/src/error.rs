//! The error of every reader and writer of this crate.

use crate::chunk::Encoding;

/// What a caller can do about an [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The bytes are damaged: reading them again gives the same error.
    Corrupt,
    /// The bytes are sound but in a form this version does not read.
    Unsupported,
    /// A limit of the format is reached, such as the size of a section.
    Limit,
    /// The caller asked for what the data cannot give.
    Invalid,
}

/// Why bytes could not be read or written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(transparent)]
pub struct Error(pub(crate) Case);

/// `what` names the object, such as "chunk" or "index
/// postings"; `offset` counts bytes from the start of the file or slice that was handed in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Case {
    #[error("{what}: truncated at offset {offset}")]
    Truncated { what: &'static str, offset: u64 },
    #[error(
        "{what}: checksum mismatch at offset {offset}: stored {stored:08x}, computed {computed:08x}"
    )]
    Checksum { what: &'static str, offset: u64, stored: u32, computed: u32 },
    #[error("{what}: corrupt at offset {offset}: {reason}")]
    Corrupt { what: &'static str, offset: u64, reason: String },
    #[error("chunk: unknown encoding {encoding} at offset {offset}")]
    UnknownEncoding { encoding: u8, offset: u64 },
    #[error("{what}: not supported: {reason}")]
    Unsupported { what: &'static str, reason: String },
    #[error("chunk: reading {wanted} from a chunk of encoding {encoding}")]
    WrongEncoding { wanted: &'static str, encoding: Encoding },
    #[error("index: finding series")]
    Value(#[source] model::ValueTooLong),
    #[error("{what}: {reason}")]
    Limit { what: &'static str, reason: String },
    #[error("{what}: {reason}")]
    Invalid { what: &'static str, reason: String },
}

impl From<model::ValueTooLong> for Error {
    fn from(source: model::ValueTooLong) -> Error {
        Error(Case::Value(source))
    }
}

impl Error {
    pub fn kind(&self) -> Kind {
        match self.0 {
            Case::Truncated { .. } | Case::Checksum { .. } | Case::Corrupt { .. } => Kind::Corrupt,
            Case::UnknownEncoding { .. } | Case::Unsupported { .. } | Case::Value(_) => {
                Kind::Unsupported
            }
            Case::Limit { .. } => Kind::Limit,
            Case::WrongEncoding { .. } | Case::Invalid { .. } => Kind::Invalid,
        }
    }

    pub(crate) fn truncated(what: &'static str, offset: usize) -> Error {
        Error(Case::Truncated { what, offset: offset as u64 })
    }

    pub(crate) fn corrupt(what: &'static str, offset: usize, reason: impl Into<String>) -> Error {
        Error(Case::Corrupt { what, offset: offset as u64, reason: reason.into() })
    }
}
