//! Why a block cannot be read, and who is to blame.

use storeapi::{Error, Kind};

/// Why a block cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BlockError {
    #[error(transparent)]
    Tsdb(#[from] block::Error),
    #[error(transparent)]
    Parquet(#[from] parquet_block::Error),
    /// Not the block's fault.
    #[error(transparent)]
    Request(#[from] Error),
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
                block::Kind::Limit => Kind::Memory,
                block::Kind::Internal => Kind::Internal,
                // What the catalog lists exists and is readable, unless it is broken.
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
