//! What can go wrong with asking another server, by what the caller can do about it.

/// What a caller can do about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The configuration, here or of the other server, must be changed.
    Invalid,
    /// The server cannot be reached or is not ready; later it may be.
    Unavailable,
    /// A limit was hit.
    Limit,
    /// The server's answer is broken.
    Corrupt,
    /// A defect of ours, or of the local machine.
    Internal,
}

pub type Result<T> = std::result::Result<T, Error>;

/// Names the server's path or the file, and what was attempted.
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

    /// Says before it what was attempted, or where the configuration came from.
    #[must_use]
    pub fn context(self, attempt: impl std::fmt::Display) -> Error {
        Error { kind: self.kind, message: format!("{attempt}: {}", self.message) }
    }

    pub(crate) fn local(attempt: &str, path: &std::path::Path, error: &std::io::Error) -> Error {
        Error::new(Kind::Internal, format!("{attempt} {}: {error}", path.display()))
    }
}

impl From<wire::Error> for Error {
    fn from(error: wire::Error) -> Error {
        let kind = match error.kind() {
            wire::Kind::Invalid => Kind::Invalid,
            wire::Kind::Corrupt => Kind::Corrupt,
            wire::Kind::Limit => Kind::Limit,
        };
        Error::new(kind, error.to_string())
    }
}

impl From<model::BudgetExceeded> for Error {
    fn from(error: model::BudgetExceeded) -> Error {
        Error::new(Kind::Limit, error.to_string())
    }
}

/// A request that got no whole answer.
impl From<reqwest::Error> for Error {
    fn from(error: reqwest::Error) -> Error {
        let mut message = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(cause) = source {
            message = format!("{message}: {cause}");
            source = cause.source();
        }
        Error::new(Kind::Unavailable, message)
    }
}
