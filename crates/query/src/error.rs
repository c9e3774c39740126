//! What can go wrong before a querier runs.

/// What a caller can do about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A setting is wrong.
    Invalid,
    /// A file cannot be read now.
    Unavailable,
    /// A defect of ours.
    Internal,
}

pub type Result<T> = std::result::Result<T, Error>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("endpoint {address:?}: {reason}")]
    Endpoint { address: String, reason: String },
    #[error("endpoint configuration {origin}: {reason}")]
    Config { origin: String, reason: String },
    #[error("read {path}: {reason}")]
    Read { path: String, reason: String },
    #[error("start {what}: {reason}")]
    Start { what: &'static str, reason: String },
}

impl Error {
    pub fn kind(&self) -> Kind {
        match self {
            Error::Endpoint { .. } | Error::Config { .. } => Kind::Invalid,
            Error::Read { .. } => Kind::Unavailable,
            Error::Start { .. } => Kind::Internal,
        }
    }
}

/// The only thing that fails of what `serve` does for a querier is registering its metrics.
impl From<serve::Error> for Error {
    fn from(error: serve::Error) -> Error {
        Error::Start { what: "metrics", reason: error.to_string() }
    }
}
