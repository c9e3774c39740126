//! Why a block cannot be read, and who is to blame.

use storeapi::{Error, Kind};

/// Why a block cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BlockError {
    #[error(transparent)]
    Tsdb(block::Error),
    #[error(transparent)]
    Parquet(parquet_block::Error),
    /// Not the block's fault.
    #[error(transparent)]
    Request(#[from] Error),
}

impl From<block::Error> for BlockError {
    /// That there is no memory for it is not the block's fault.
    fn from(error: block::Error) -> BlockError {
        match error.kind() {
            block::Kind::Limit => BlockError::Request(Error::passed(Kind::Memory, error)),
            _ => BlockError::Tsdb(error),
        }
    }
}

impl From<parquet_block::Error> for BlockError {
    fn from(error: parquet_block::Error) -> BlockError {
        match error.kind() {
            parquet_block::Kind::Limit => BlockError::Request(Error::passed(Kind::Memory, error)),
            _ => BlockError::Parquet(error),
        }
    }
}

impl BlockError {
    pub(crate) fn kind(&self) -> Kind {
        use parquet_block::Kind as Parquet;
        match self {
            BlockError::Request(error) => error.kind(),
            BlockError::Tsdb(error) => match error.kind() {
                block::Kind::Unavailable | block::Kind::Denied | block::Kind::Unordered => {
                    Kind::Unavailable
                }
                block::Kind::Internal => Kind::Internal,
                // What is served exists and is readable, unless it is broken.
                _ => Kind::Corrupt,
            },
            BlockError::Parquet(error) => match error.kind() {
                Parquet::Unavailable => Kind::Unavailable,
                _ => Kind::Corrupt,
            },
        }
    }

    pub(crate) fn is_missing_file(&self) -> bool {
        match self {
            BlockError::Tsdb(error) => error.kind() == block::Kind::NotFound,
            BlockError::Parquet(error) => error.kind() == parquet_block::Kind::NotFound,
            BlockError::Request(_) => false,
        }
    }
}
