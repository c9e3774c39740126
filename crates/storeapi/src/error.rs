//! What can go wrong with a store, by what the caller can do about it.

use model::error::in_one_line;
use model::layered_error;
use tonic::metadata::MetadataValue;

/// Tells a store that is short of memory from one that keeps to a limit; both are
/// `ResourceExhausted`. Peers that do not know it see just that.
const MEMORY: &str = "drumlin-memory";

/// What a caller can do about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The request is wrong; asking again will not help.
    Invalid,
    /// The store cannot answer now; asking again may help.
    Unavailable,
    /// A limit was hit.
    Limit,
    /// The memory budget has no room. Never an answer in part: what is missing is not missing
    /// anywhere else.
    Memory,
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

layered_error! {
    /// Names the store, series or block, and what was attempted.
    pub struct Error(Kind);
}

impl Error {
    /// Whether the failure of a part ends the whole even where answers in part are welcome.
    pub(crate) fn ends_all(&self) -> bool {
        self.kind() == Kind::Memory
    }

    /// The failure of a part that ends the whole. A wrong request stays the caller's fault.
    pub(crate) fn aborting(self) -> Error {
        match self.kind() {
            Kind::Invalid | Kind::Memory => self,
            _ => Error::passed(Kind::Aborted, self),
        }
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

impl From<model::RequestTooCostly> for Error {
    fn from(error: model::RequestTooCostly) -> Error {
        Error::passed(Kind::Limit, error)
    }
}

impl From<tonic::Status> for Error {
    fn from(status: tonic::Status) -> Error {
        use tonic::Code;
        let kind = match status.code() {
            Code::InvalidArgument | Code::FailedPrecondition | Code::Unimplemented => Kind::Invalid,
            Code::DeadlineExceeded => Kind::Timeout,
            Code::ResourceExhausted if status.metadata().contains_key(MEMORY) => Kind::Memory,
            Code::ResourceExhausted => Kind::Limit,
            // what tonic says of messages that are longer than the budget lets them be
            Code::OutOfRange => Kind::Memory,
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
        // A peer's message is text; only a status that was made here has causes.
        let causes = std::error::Error::source(&status).map(in_one_line);
        let message = match (status.message(), causes.map(|causes| causes.to_string())) {
            ("", None) => status.code().to_string(),
            ("", Some(causes)) => causes,
            (message, Some(causes)) if !message.contains(&causes) => format!("{message}: {causes}"),
            (message, _) => message.to_owned(),
        };
        Error::new(kind, message)
    }
}

impl From<Error> for tonic::Status {
    fn from(error: Error) -> tonic::Status {
        use tonic::Code;
        let code = match error.kind() {
            Kind::Invalid => Code::InvalidArgument,
            Kind::Unavailable => Code::Unavailable,
            Kind::Limit | Kind::Memory => Code::ResourceExhausted,
            Kind::Timeout => Code::DeadlineExceeded,
            Kind::Aborted => Code::Aborted,
            Kind::Corrupt => Code::DataLoss,
            Kind::Internal => Code::Internal,
        };
        let mut status = tonic::Status::new(code, in_one_line(&error).to_string());
        if error.kind() == Kind::Memory {
            status.metadata_mut().insert(MEMORY, MetadataValue::from_static("short"));
        }
        status
    }
}
