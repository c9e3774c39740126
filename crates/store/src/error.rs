//! What can go wrong with setting up a gateway. Answers to requests speak `storeapi::Error`.

use model::layered_error;

/// What a caller can do about an [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The settings contradict each other.
    Invalid,
    /// The bucket could not be listed; later it may work.
    Unavailable,
    /// A defect of ours.
    Internal,
}

pub type Result<T> = std::result::Result<T, Error>;

layered_error! {
    /// Names the setting or the bucket.
    pub struct Error(Kind);
}

impl From<block::Error> for Error {
    fn from(error: block::Error) -> Error {
        let kind = match error.kind() {
            block::Kind::Internal => Kind::Internal,
            block::Kind::Invalid => Kind::Invalid,
            _ => Kind::Unavailable,
        };
        Error::passed(kind, error)
    }
}

/// The only thing that fails of what `serve` does for a gateway is registering its metrics.
impl From<serve::Error> for Error {
    fn from(error: serve::Error) -> Error {
        Error::passed(Kind::Internal, error)
    }
}
