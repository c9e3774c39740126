//! What can go wrong while starting to serve.

/// What a caller can do about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A setting is wrong.
    Invalid,
    /// An address, file or signal cannot be had now.
    Unavailable,
    /// A defect of ours.
    Internal,
}

pub type Result<T> = std::result::Result<T, Error>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("listen on {address:?}: {source}")]
    Listen { address: String, source: std::io::Error },
    #[error("address {address:?}: expected host:port or :port")]
    Address { address: String },
    #[error("load {what} from {path}: {reason}")]
    Tls { what: &'static str, path: String, reason: String },
    #[error("http config {path}: {reason}")]
    HttpConfig { path: String, reason: String },
    #[error("log level {0:?}: expected one of debug, info, warn, error")]
    LogLevel(String),
    #[error("log format {0:?}: expected one of logfmt, json, journald")]
    LogFormat(String),
    #[error("register metric {name}: {reason}")]
    Metric { name: String, reason: String },
    #[error("start {what}: {reason}")]
    Start { what: &'static str, reason: String },
}

impl Error {
    pub fn kind(&self) -> Kind {
        match self {
            Error::Address { .. }
            | Error::HttpConfig { .. }
            | Error::LogLevel(_)
            | Error::LogFormat(_) => Kind::Invalid,
            Error::Listen { .. } | Error::Tls { .. } => Kind::Unavailable,
            Error::Metric { .. } | Error::Start { .. } => Kind::Internal,
        }
    }
}
