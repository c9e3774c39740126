//! The error of this crate.

use parquet::errors::ParquetError;

/// What a caller can do about an [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The bucket failed; the same call may succeed later.
    Unavailable,
    /// A file of the block is missing.
    NotFound,
    /// A file is damaged, or is not what its name says.
    Corrupt,
    /// The file is of a version that this one does not read.
    Unsupported,
    /// The caller broke a rule, such as the order of series.
    Invalid,
}

/// Why a Parquet block could not be written or read. `file` is the object's path in the bucket.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The bucket's error names object and attempt itself.
    #[error(transparent)]
    Bucket(#[from] block::Error),
    #[error("{doing} {file}")]
    Parquet {
        doing: &'static str,
        file: String,
        #[source]
        source: ParquetError,
    },
    #[error("reading {file}: {reason}")]
    Corrupt { file: String, reason: String },
    #[error("reading {file}: format {found:?} is not one this version reads")]
    Unsupported { file: String, found: String },
    #[error("re-encoding windows of {file}")]
    Chunks {
        file: String,
        #[source]
        source: merge::Error,
    },
    #[error("writing a Parquet block: {0}")]
    Invalid(String),
}

impl Error {
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Bucket(source) => bucket_kind(source),
            Error::Parquet { source, .. } => parquet_kind(source),
            Error::Corrupt { .. } | Error::Chunks { .. } => ErrorKind::Corrupt,
            Error::Unsupported { .. } => ErrorKind::Unsupported,
            Error::Invalid(_) => ErrorKind::Invalid,
        }
    }

    pub(crate) fn parquet(
        doing: &'static str,
        file: impl ToString,
    ) -> impl FnOnce(ParquetError) -> Error {
        move |source| Error::Parquet { doing, file: file.to_string(), source }
    }

    pub(crate) fn corrupt(file: impl ToString, reason: impl Into<String>) -> Error {
        Error::Corrupt { file: file.to_string(), reason: reason.into() }
    }
}

fn bucket_kind(error: &block::Error) -> ErrorKind {
    use block::Kind;
    match error.kind() {
        Kind::NotFound => ErrorKind::NotFound,
        Kind::Corrupt => ErrorKind::Corrupt,
        Kind::Unsupported => ErrorKind::Unsupported,
        Kind::AlreadyExists | Kind::Invalid | Kind::Limit => ErrorKind::Invalid,
        Kind::Unavailable | Kind::Denied | Kind::Internal | Kind::Unordered => {
            ErrorKind::Unavailable
        }
    }
}

/// The bucket's errors come wrapped through the Parquet reader.
fn parquet_kind(error: &ParquetError) -> ErrorKind {
    let ParquetError::External(inner) = error else { return ErrorKind::Corrupt };
    inner.downcast_ref::<block::Error>().map_or(ErrorKind::Corrupt, bucket_kind)
}
