//! What can go wrong next to a Prometheus, by what the caller can do about it.

use model::layered_error;

/// What a caller can do about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The configuration, here or of Prometheus, must be changed.
    Invalid,
    /// Prometheus or the bucket cannot be reached or is not ready; later it may be.
    Unavailable,
    /// A limit was hit.
    Limit,
    /// The memory budget has no room.
    Memory,
    /// Bytes on disk or from Prometheus are broken.
    Corrupt,
    /// A defect of ours, or of the local machine (disk full and the like).
    Internal,
}

pub type Result<T> = std::result::Result<T, Error>;

layered_error! {
    /// Names the object and what was attempted.
    pub struct Error(Kind);
}

impl Error {
    pub(crate) fn local(attempt: &str, path: &std::path::Path, error: std::io::Error) -> Error {
        Error::caused(Kind::Internal, format!("{attempt} {}", path.display()), error)
    }
}

impl From<Error> for storeapi::Error {
    fn from(error: Error) -> storeapi::Error {
        let kind = match error.kind() {
            Kind::Invalid => storeapi::Kind::Invalid,
            Kind::Unavailable => storeapi::Kind::Unavailable,
            Kind::Limit => storeapi::Kind::Limit,
            Kind::Memory => storeapi::Kind::Memory,
            Kind::Corrupt => storeapi::Kind::Corrupt,
            Kind::Internal => storeapi::Kind::Internal,
        };
        storeapi::Error::passed(kind, error)
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
        Error::passed(kind, error)
    }
}

/// The only thing that fails of what `serve` does for a sidecar is registering its metrics.
impl From<serve::Error> for Error {
    fn from(error: serve::Error) -> Error {
        Error::passed(Kind::Internal, error)
    }
}

impl From<upstream::Error> for Error {
    fn from(error: upstream::Error) -> Error {
        let kind = match error.kind() {
            upstream::Kind::Invalid => Kind::Invalid,
            upstream::Kind::Unavailable => Kind::Unavailable,
            upstream::Kind::Limit => Kind::Limit,
            upstream::Kind::Memory => Kind::Memory,
            upstream::Kind::Corrupt => Kind::Corrupt,
            upstream::Kind::Internal => Kind::Internal,
        };
        Error::passed(kind, error)
    }
}

/// What Prometheus did not answer, as an error of the store.
pub(crate) fn of_store(error: upstream::Error) -> storeapi::Error {
    Error::from(error).into()
}
