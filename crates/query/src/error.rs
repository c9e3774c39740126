//! What can go wrong before a querier runs.

use model::layered_error;

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

layered_error! {
    /// Names the endpoint or file and what was attempted.
    pub struct Error(Kind);
}

/// The only thing that `serve` does for a querier and that can fail is registering its metrics.
impl From<serve::Error> for Error {
    fn from(error: serve::Error) -> Error {
        Error::passed(Kind::Internal, error)
    }
}
