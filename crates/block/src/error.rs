//! What can go wrong with a bucket and the blocks in it, by what the caller can do about it.

mod refusal;

use model::layered_error;

use refusal::Refusal;

/// What a caller can do about an [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The object is not there.
    NotFound,
    /// A create-only write met an object.
    AlreadyExists,
    /// The bucket cannot be reached or answered with a passing failure, retries included; later it
    /// may work.
    Unavailable,
    /// The bucket refuses: credentials or rights.
    Denied,
    /// Stored bytes are broken; reading them again gives the same error.
    Corrupt,
    /// Stored bytes are of a version or encoding that is not known here.
    Unsupported,
    /// Series came in disorder where that could not be mended any more; a block read again is
    /// sorted first.
    Unordered,
    /// What is asked for takes more memory than there is for it.
    Limit,
    /// The configuration or the request is wrong.
    Invalid,
    /// A defect of ours, or of the local machine (disk full and the like).
    Internal,
}

pub type Result<T> = std::result::Result<T, Error>;

layered_error! {
    /// Names the object and what was attempted.
    pub struct Error(Kind);
}

impl Error {
    /// `bucket`: its name, for those who have several.
    pub(crate) fn store(
        attempt: &str,
        path: &object_store::path::Path,
        bucket: &str,
        error: object_store::Error,
    ) -> Error {
        use object_store::Error as E;
        let kind = match error {
            E::NotFound { .. } => Kind::NotFound,
            E::AlreadyExists { .. } | E::Precondition { .. } => Kind::AlreadyExists,
            E::PermissionDenied { .. } | E::Unauthenticated { .. } => Kind::Denied,
            E::NotSupported { .. } | E::NotImplemented { .. } => Kind::Unsupported,
            E::InvalidPath { .. } | E::UnknownConfigurationKey { .. } => Kind::Invalid,
            E::JoinError { .. } => Kind::Internal,
            _ => Kind::Unavailable,
        };
        let attempt = match path.as_ref() {
            "" => format!("{attempt} bucket {bucket}"),
            object => format!("{attempt} {object} in bucket {bucket}"),
        };
        match Refusal::of(&error) {
            Some(refusal) => Error::caused(refusal.kind.unwrap_or(kind), attempt, refusal),
            None => Error::caused(kind, attempt, error),
        }
    }

    pub(crate) fn format(object: impl std::fmt::Display, error: tsdb::Error) -> Error {
        let kind = match error.kind() {
            tsdb::Kind::Corrupt => Kind::Corrupt,
            tsdb::Kind::Unsupported => Kind::Unsupported,
            tsdb::Kind::Limit | tsdb::Kind::Invalid => Kind::Invalid,
        };
        Error::caused(kind, object.to_string(), error)
    }

    pub(crate) fn local(attempt: &str, path: &std::path::Path, error: std::io::Error) -> Error {
        let kind = if error.kind() == std::io::ErrorKind::NotFound {
            Kind::NotFound
        } else {
            Kind::Internal
        };
        Error::caused(kind, format!("{attempt} {}", path.display()), error)
    }

    /// A file that a configuration names, whose path may be what the file was to hold.
    pub(crate) fn configured(attempt: &str, path: &str, error: std::io::Error) -> Error {
        let shown = model::secret::shown_path(path.as_ref());
        Error::caused(Kind::Invalid, format!("{attempt} {shown}"), error)
    }
}
