//! What can go wrong with a store, by what the caller can do about it.

/// What a caller can do about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The request is wrong; asking again will not help.
    Invalid,
    /// The store cannot answer now; asking again may help.
    Unavailable,
    /// A limit was hit.
    Limit,
    /// The deadline passed.
    Timeout,
    /// The request was aborted because a part of it failed and partial answers were refused.
    Aborted,
    /// Stored bytes are broken.
    Corrupt,
    /// A defect of ours.
    Internal,
}

pub type Result<T> = std::result::Result<T, Error>;

#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    kind: Kind,
    message: String,
}

impl Error {
    pub fn new(kind: Kind, message: impl Into<String>) -> Error {
        Error { kind, message: message.into() }
    }

    pub fn kind(&self) -> Kind {
        self.kind
    }
}
