//! What can go wrong with setting up a gateway. Answers to requests speak `storeapi::Error`.

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

impl From<block::Error> for Error {
    fn from(error: block::Error) -> Error {
        let kind = match error.kind() {
            block::Kind::Internal => Kind::Internal,
            block::Kind::Invalid => Kind::Invalid,
            _ => Kind::Unavailable,
        };
        Error::new(kind, error.to_string())
    }
}

/// The only thing that fails of what `serve` does for a gateway is registering its metrics.
impl From<serve::Error> for Error {
    fn from(error: serve::Error) -> Error {
        Error::new(Kind::Internal, error.to_string())
    }
}
