//! What can be wrong with bytes from a peer.

/// What the receiver can do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The message decodes but says something impossible: refuse it.
    Invalid,
    /// The bytes are broken.
    Corrupt,
    /// Too big to accept.
    Limit,
}

pub type Result<T> = std::result::Result<T, Error>;

/// What a message, or a part of it, was found to be.
#[derive(Clone, Debug, thiserror::Error)]
#[error(transparent)]
pub struct Error(pub(crate) Case);

#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum Case {
    #[error("matcher on label {name:?}: unknown type {kind}")]
    MatcherType { name: String, kind: i32 },
    #[error("matcher name: {name:?} is not valid UTF-8")]
    MatcherName { name: String },
    #[error("matcher on label {name:?}")]
    MatcherRegex { name: String, source: model::MatcherError },
    #[error(transparent)]
    TooCostly(model::RequestTooCostly),
    #[error("unknown chunk encoding {0}")]
    UnknownEncoding(i32),
    #[error("remote read frame of {len} bytes exceeds the limit of {limit} bytes")]
    FrameTooLong { len: u64, limit: usize },
    #[error("remote read frame: length is not a valid varint")]
    FrameLength,
    #[error("remote read frame: checksum is {found:08x}, expected {expected:08x}")]
    FrameChecksum { found: u32, expected: u32 },
    #[error("remote read ended inside a frame, {0} bytes are left over")]
    FrameTruncated(usize),
    #[error("snappy block of {len} bytes exceeds the limit of {limit} bytes")]
    BodyTooLong { len: usize, limit: usize },
    #[error("snappy block of {len} bytes cannot hold the {claimed} bytes that it claims")]
    BodyTooShort { len: usize, claimed: usize },
    #[error("decompress snappy block")]
    Snappy(#[source] snap::Error),
    #[error("decode {message}")]
    Decode { message: &'static str, source: prost::DecodeError },
}

impl Error {
    pub fn kind(&self) -> Kind {
        match self.0 {
            Case::MatcherType { .. }
            | Case::MatcherName { .. }
            | Case::MatcherRegex { .. }
            | Case::UnknownEncoding(_) => Kind::Invalid,
            Case::TooCostly(_) | Case::FrameTooLong { .. } | Case::BodyTooLong { .. } => {
                Kind::Limit
            }
            Case::FrameLength
            | Case::FrameChecksum { .. }
            | Case::FrameTruncated(_)
            | Case::BodyTooShort { .. }
            | Case::Snappy(_)
            | Case::Decode { .. } => Kind::Corrupt,
        }
    }
}
