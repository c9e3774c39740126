//! What can go wrong next to a Prometheus, by what the caller can do about it.

/// What a caller can do about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The configuration, here or of Prometheus, must be changed.
    Invalid,
    /// Prometheus or the bucket cannot be reached or is not ready; later it may be.
    Unavailable,
    /// A limit was hit.
    Limit,
    /// Bytes on disk or from Prometheus are broken.
    Corrupt,
    /// A defect of ours, or of the local machine (disk full and the like).
    Internal,
}

pub type Result<T> = std::result::Result<T, Error>;

/// Names the object and what was attempted.
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

    pub(crate) fn context(self, attempt: impl std::fmt::Display) -> Error {
        Error { kind: self.kind, message: format!("{attempt}: {}", self.message) }
    }

    pub(crate) fn local(attempt: &str, path: &std::path::Path, error: &std::io::Error) -> Error {
        Error::new(Kind::Internal, format!("{attempt} {}: {error}", path.display()))
    }
}

impl From<Error> for storeapi::Error {
    fn from(error: Error) -> storeapi::Error {
        let kind = match error.kind {
            Kind::Invalid => storeapi::Kind::Invalid,
            Kind::Unavailable => storeapi::Kind::Unavailable,
            Kind::Limit => storeapi::Kind::Limit,
            Kind::Corrupt => storeapi::Kind::Corrupt,
            Kind::Internal => storeapi::Kind::Internal,
        };
        storeapi::Error::new(kind, error.message)
    }
}

impl From<block::Error> for Error {
    fn from(error: block::Error) -> Error {
        let kind = match error.kind() {
            block::Kind::Unavailable
            | block::Kind::NotFound
            | block::Kind::AlreadyExists
            | block::Kind::Unordered => Kind::Unavailable,
            block::Kind::Denied
            | block::Kind::Invalid
            | block::Kind::Unsupported
            | block::Kind::Limit => Kind::Invalid,
            block::Kind::Corrupt => Kind::Corrupt,
            block::Kind::Internal => Kind::Internal,
        };
        Error::new(kind, error.to_string())
    }
}

/// The only thing that fails of what `serve` does for a sidecar is registering its metrics.
impl From<serve::Error> for Error {
    fn from(error: serve::Error) -> Error {
        Error::new(Kind::Internal, error.to_string())
    }
}

impl From<upstream::Error> for Error {
    fn from(error: upstream::Error) -> Error {
        let kind = match error.kind() {
            upstream::Kind::Invalid => Kind::Invalid,
            upstream::Kind::Unavailable => Kind::Unavailable,
            upstream::Kind::Limit => Kind::Limit,
            upstream::Kind::Corrupt => Kind::Corrupt,
            upstream::Kind::Internal => Kind::Internal,
        };
        Error::new(kind, error.to_string())
    }
}

/// What Prometheus did not answer, as an error of the store.
pub(crate) fn of_store(error: upstream::Error) -> storeapi::Error {
    Error::from(error).into()
}
