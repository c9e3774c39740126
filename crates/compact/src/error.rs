//! What can go wrong while tending a bucket, by what the caller can do about it.

use model::BlockId;

/// What a caller can do about an [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The bucket did not answer, or not in time; the next run may succeed.
    Retry,
    /// A block is damaged; it is marked so that the next run leaves it alone.
    Corrupt,
    /// The settings contradict themselves.
    Invalid,
    /// A defect of ours.
    Internal,
}

pub type Result<T> = std::result::Result<T, Error>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    Bucket(block::Error),
    #[error("{0}")]
    Format(tsdb::Error),
    #[error("{0}")]
    Merge(merge::Error),
    #[error("{0}")]
    Parquet(parquet_block::Error),
    /// An error that belongs to one block.
    #[error("block={id}: {source}")]
    Block { id: BlockId, source: Box<Error> },
    #[error(
        "block={id}: another block with this id but other content is in the bucket; it is left alone, look at both and delete the wrong one"
    )]
    Conflict { id: BlockId },
    /// What was made of these inputs cannot be right; nothing of it becomes a block.
    #[error("block={id}: refusing to commit it: {reason}")]
    Refused { id: BlockId, reason: String },
    #[error("{0}")]
    Settings(String),
    #[error("registering metrics: {0}")]
    Metrics(prometheus::Error),
    #[error("{failed} of {all} groups of blocks failed; the others are done")]
    Groups { failed: usize, all: usize },
}

impl Error {
    pub fn kind(&self) -> Kind {
        match self {
            Error::Bucket(e) => match e.kind() {
                block::Kind::Corrupt | block::Kind::Unsupported | block::Kind::NotFound => Kind::Corrupt,
                block::Kind::Invalid | block::Kind::Denied | block::Kind::Limit => Kind::Invalid,
                block::Kind::Internal => Kind::Internal,
                block::Kind::Unavailable | block::Kind::AlreadyExists | block::Kind::Unordered => Kind::Retry,
            },
            Error::Format(e) => match e.kind() {
                tsdb::Kind::Corrupt | tsdb::Kind::Unsupported => Kind::Corrupt,
                tsdb::Kind::Limit | tsdb::Kind::Invalid => Kind::Internal,
            },
            Error::Merge(_) | Error::Conflict { .. } => Kind::Corrupt,
            Error::Parquet(_) => Kind::Retry,
            Error::Block { source, .. } => source.kind(),
            Error::Settings(_) => Kind::Invalid,
            Error::Refused { .. } | Error::Metrics(_) => Kind::Internal,
            Error::Groups { .. } => Kind::Retry,
        }
    }

    /// The block that is to blame, where it is known.
    pub fn block(&self) -> Option<BlockId> {
        match self {
            Error::Block { id, .. } | Error::Conflict { id } => Some(*id),
            _ => None,
        }
    }

    pub(crate) fn of_block(id: BlockId) -> impl Fn(Error) -> Error {
        move |source| match source.block() {
            Some(_) => source,
            None => Error::Block { id, source: Box::new(source) },
        }
    }
}

impl From<block::Error> for Error {
    fn from(source: block::Error) -> Error {
        Error::Bucket(source)
    }
}

impl From<tsdb::Error> for Error {
    fn from(source: tsdb::Error) -> Error {
        Error::Format(source)
    }
}

impl From<merge::Error> for Error {
    fn from(source: merge::Error) -> Error {
        Error::Merge(source)
    }
}

impl From<parquet_block::Error> for Error {
    fn from(source: parquet_block::Error) -> Error {
        Error::Parquet(source)
    }
}
