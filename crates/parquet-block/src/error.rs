//! The error of this crate.

use model::{BudgetExceeded, ValueTooLong};
use parquet::errors::ParquetError;

/// What a caller can do about an [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
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
    /// What is asked for takes more memory than there is for it.
    Limit,
}

/// Why a Parquet block could not be written or read.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct Error(pub(crate) Case);

/// `file` is the object's path in the bucket.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Case {
    /// The bucket's error names object and attempt itself.
    #[error(transparent)]
    Bucket(block::Error),
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
    #[error("reading {file}")]
    Memory { file: String, source: BudgetExceeded },
    #[error("finding series in {file}")]
    Value { file: String, source: ValueTooLong },
    #[error("writing a Parquet block: {0}")]
    Invalid(String),
}

impl Error {
    pub fn kind(&self) -> Kind {
        match &self.0 {
            Case::Bucket(source) => bucket_kind(source),
            Case::Parquet { source, .. } => parquet_kind(source),
            Case::Corrupt { .. } | Case::Chunks { .. } => Kind::Corrupt,
            Case::Unsupported { .. } | Case::Value { .. } => Kind::Unsupported,
            Case::Invalid(_) => Kind::Invalid,
            Case::Memory { .. } => Kind::Limit,
        }
    }

    pub(crate) fn parquet(
        doing: &'static str,
        file: impl ToString,
    ) -> impl FnOnce(ParquetError) -> Error {
        move |source| Error(Case::Parquet { doing, file: file.to_string(), source })
    }

    pub(crate) fn corrupt(file: impl ToString, reason: impl Into<String>) -> Error {
        Error(Case::Corrupt { file: file.to_string(), reason: reason.into() })
    }
}

fn bucket_kind(error: &block::Error) -> Kind {
    use block::Kind as Bucket;
    match error.kind() {
        Bucket::NotFound => Kind::NotFound,
        Bucket::Corrupt => Kind::Corrupt,
        Bucket::Unsupported => Kind::Unsupported,
        Bucket::Limit => Kind::Limit,
        Bucket::AlreadyExists | Bucket::Invalid => Kind::Invalid,
        Bucket::Unavailable | Bucket::Denied | Bucket::Internal | Bucket::Unordered => {
            Kind::Unavailable
        }
    }
}

/// The bucket's errors come wrapped through the Parquet reader.
fn parquet_kind(error: &ParquetError) -> Kind {
    let ParquetError::External(inner) = error else { return Kind::Corrupt };
    inner.downcast_ref::<block::Error>().map_or(Kind::Corrupt, bucket_kind)
}

impl From<block::Error> for Error {
    fn from(source: block::Error) -> Error {
        Error(Case::Bucket(source))
    }
}
