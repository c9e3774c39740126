//! What can go wrong with asking another server, by what the caller can do about it.

use model::layered_error;

/// What a caller can do about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The configuration, here or of the other server, must be changed.
    Invalid,
    /// The server cannot be reached or is not ready; later it may be.
    Unavailable,
    /// A limit was hit.
    Limit,
    /// The memory budget has no room for the answer.
    Memory,
    /// The server's answer is broken.
    Corrupt,
    /// A defect of ours, or of the local machine.
    Internal,
}

pub type Result<T> = std::result::Result<T, Error>;

layered_error! {
    /// Names the server's path or the file, and what was attempted.
    pub struct Error(Kind);
}

impl Error {
    pub(crate) fn local(attempt: &str, path: &std::path::Path, error: std::io::Error) -> Error {
        Error::caused(
            Kind::Internal,
            format!("{attempt} {}", model::secret::shown_path(path)),
            error,
        )
    }
}

impl From<wire::Error> for Error {
    fn from(error: wire::Error) -> Error {
        let kind = match error.kind() {
            wire::Kind::Invalid => Kind::Invalid,
            wire::Kind::Corrupt => Kind::Corrupt,
            wire::Kind::Limit => Kind::Limit,
        };
        Error::passed(kind, error)
    }
}

impl From<model::BudgetExceeded> for Error {
    fn from(error: model::BudgetExceeded) -> Error {
        Error::passed(Kind::Memory, error)
    }
}

/// A request that got no whole answer.
impl From<reqwest::Error> for Error {
    fn from(error: reqwest::Error) -> Error {
        Error::passed(Kind::Unavailable, error)
    }
}
