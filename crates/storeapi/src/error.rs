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

    /// The same kind, with what was attempted before the message.
    pub fn context(self, attempt: impl std::fmt::Display) -> Error {
        Error { kind: self.kind, message: format!("{attempt}: {}", self.message) }
    }

    /// The failure of a part that ends the whole. A wrong request stays the caller's fault.
    pub(crate) fn aborting(self) -> Error {
        let kind = if self.kind == Kind::Invalid { Kind::Invalid } else { Kind::Aborted };
        Error { kind, ..self }
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

impl From<tonic::Status> for Error {
    fn from(status: tonic::Status) -> Error {
        use tonic::Code;
        let kind = match status.code() {
            Code::InvalidArgument
            | Code::OutOfRange
            | Code::FailedPrecondition
            | Code::Unimplemented => Kind::Invalid,
            Code::DeadlineExceeded => Kind::Timeout,
            Code::ResourceExhausted => Kind::Limit,
            Code::Aborted => Kind::Aborted,
            Code::DataLoss => Kind::Corrupt,
            Code::Unavailable
            | Code::Cancelled
            | Code::Unauthenticated
            | Code::PermissionDenied => Kind::Unavailable,
            // Go peers answer Unknown for any plain error, such as "not ready".
            Code::Unknown | Code::NotFound | Code::AlreadyExists | Code::Ok => Kind::Unavailable,
            Code::Internal => Kind::Internal,
        };
        let mut message = status.message().to_owned();
        let mut source = std::error::Error::source(&status);
        while let Some(cause) = source {
            let text = cause.to_string();
            if !message.contains(&text) {
                message = if message.is_empty() { text } else { format!("{message}: {text}") };
            }
            source = cause.source();
        }
        Error::new(kind, if message.is_empty() { status.code().to_string() } else { message })
    }
}

impl From<Error> for tonic::Status {
    fn from(error: Error) -> tonic::Status {
        use tonic::Code;
        let code = match error.kind {
            Kind::Invalid => Code::InvalidArgument,
            Kind::Unavailable => Code::Unavailable,
            Kind::Limit => Code::ResourceExhausted,
            Kind::Timeout => Code::DeadlineExceeded,
            Kind::Aborted => Code::Aborted,
            Kind::Corrupt => Code::DataLoss,
            Kind::Internal => Code::Internal,
        };
        tonic::Status::new(code, error.message)
    }
}
