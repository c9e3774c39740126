//! What can go wrong while tending a bucket, by what the caller can do about it.

use block::invariants::Unmet;
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

/// Names the block and what was attempted.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct Error(pub(crate) Case);

#[derive(Debug, thiserror::Error)]
pub(crate) enum Case {
    #[error(transparent)]
    Bucket(block::Error),
    #[error(transparent)]
    Format(tsdb::Error),
    #[error(transparent)]
    Merge(merge::Error),
    #[error(transparent)]
    Parquet(parquet_block::Error),
    /// An error that belongs to one block.
    #[error("block={id}")]
    Block { id: BlockId, source: Box<Error> },
    #[error(
        "block={id}: another block with this id but other content is in the bucket; it is left \
         alone and the sources stay"
    )]
    Conflict { id: BlockId },
    /// The block holds more or less than it says of itself.
    #[error(transparent)]
    Miscounted(Unmet),
    /// What was made says something of itself that cannot be; nothing of it becomes a block.
    #[error("checking a block that was made; nothing was changed, please report this")]
    Unmet(#[source] Unmet),
    /// What merging made of a series cannot be right; nothing of it becomes a block.
    #[error("merging blocks: {reason}; nothing was changed, please report this")]
    Unsound { reason: String },
    /// A block that was to replace others is not as it should be in the bucket.
    #[error("block={id}: reading it back from the bucket: {reason}; nothing was deleted")]
    ReadBack { id: BlockId, reason: String },
    #[error(
        "block={id}: {tried} blocks of the same sources are there and none can be used; the next \
         cleaning removes those that are marked"
    )]
    NoPlace { id: BlockId, tried: u32 },
    /// The blocks are of two Prometheus servers with the same external labels.
    #[error(
        "{differing} of {common} series that the blocks have in common differ at equal times, so \
         they are of different servers with the same external labels"
    )]
    Conflicting { common: u64, differing: u64 },
    /// An input was marked for deletion, or deleted, while it was read.
    #[error(
        "block={id}: it was marked for deletion while it was read; what is left is planned anew"
    )]
    InputGone { id: BlockId },
    #[error("{0}")]
    Settings(String),
    #[error(transparent)]
    Metrics(serve::Error),
    #[error("{failed} of {all} groups of blocks failed; the others are done")]
    Groups { failed: usize, all: usize },
    /// Blocks that are listed could not be looked at.
    #[error(
        "{count} blocks of the bucket could not be looked at, the others are done; the first is \
         block={first}"
    )]
    Unseen { count: usize, first: BlockId, source: block::Error },
}

impl Error {
    pub fn kind(&self) -> Kind {
        match &self.0 {
            Case::Bucket(e) => match e.kind() {
                block::Kind::Corrupt | block::Kind::Unsupported | block::Kind::NotFound => {
                    Kind::Corrupt
                }
                block::Kind::Invalid | block::Kind::Denied | block::Kind::Limit => Kind::Invalid,
                block::Kind::Internal => Kind::Internal,
                block::Kind::Unavailable | block::Kind::AlreadyExists | block::Kind::Unordered => {
                    Kind::Retry
                }
            },
            Case::Format(e) => match e.kind() {
                tsdb::Kind::Corrupt | tsdb::Kind::Unsupported => Kind::Corrupt,
                tsdb::Kind::Limit | tsdb::Kind::Invalid => Kind::Internal,
            },
            Case::Merge(_) | Case::Conflict { .. } | Case::Miscounted(_) => Kind::Corrupt,
            Case::Parquet(_)
            | Case::ReadBack { .. }
            | Case::InputGone { .. }
            | Case::Unseen { .. } => Kind::Retry,
            Case::Block { source, .. } => source.kind(),
            Case::Settings(_) | Case::Conflicting { .. } | Case::NoPlace { .. } => Kind::Invalid,
            Case::Unsound { .. } | Case::Unmet(_) | Case::Metrics(_) => Kind::Internal,
            Case::Groups { .. } => Kind::Retry,
        }
    }

    /// The block that is to blame, where it is known.
    pub fn block(&self) -> Option<BlockId> {
        match &self.0 {
            Case::Block { id, .. } | Case::Conflict { id } => Some(*id),
            Case::Miscounted(unmet) | Case::Unmet(unmet) => Some(unmet.block),
            _ => None,
        }
    }

    /// Downsampled blocks overlap and cannot be merged; nothing is wrong with any of them.
    pub(crate) fn is_overlap_of_aggregates(&self) -> bool {
        match &self.0 {
            Case::Merge(e) => e.is_overlap_of_aggregates(),
            Case::Block { source, .. } => source.is_overlap_of_aggregates(),
            _ => false,
        }
    }

    /// A series has more samples than are downsampled; nothing is wrong with them.
    pub(crate) fn is_too_long(&self) -> bool {
        match &self.0 {
            Case::Merge(e) => e.is_too_long(),
            Case::Block { source, .. } => source.is_too_long(),
            _ => false,
        }
    }

    /// The series of a block showed themselves out of order too late; read again, it is sorted
    /// first.
    pub(crate) fn is_disorder(&self) -> bool {
        match &self.0 {
            Case::Bucket(e) => e.kind() == block::Kind::Unordered,
            Case::Block { source, .. } => source.is_disorder(),
            _ => false,
        }
    }

    /// Nothing is wrong with a block but that it takes more memory than there is beside others.
    pub(crate) fn is_short_of_memory(&self) -> bool {
        match &self.0 {
            Case::Bucket(e) => e.kind() == block::Kind::Limit,
            Case::Block { source, .. } => source.is_short_of_memory(),
            _ => false,
        }
    }

    /// A block holds more or less than its `meta.json` says.
    pub(crate) fn is_miscount(&self) -> bool {
        match &self.0 {
            Case::Miscounted(_) => true,
            Case::Block { source, .. } => source.is_miscount(),
            _ => false,
        }
    }

    /// Something is wrong with bytes in the bucket, and not with the way to them.
    pub(crate) fn is_damage(&self) -> bool {
        matches!(self.0, Case::ReadBack { .. }) || self.kind() == Kind::Corrupt
    }

    pub(crate) fn of_block(id: BlockId) -> impl Fn(Error) -> Error {
        move |source| match source.block() {
            Some(_) => source,
            None => Error(Case::Block { id, source: Box::new(source) }),
        }
    }
}

impl From<block::Error> for Error {
    fn from(source: block::Error) -> Error {
        Error(Case::Bucket(source))
    }
}

/// The only thing that fails of what `serve` does for a compactor is registering its metrics.
impl From<serve::Error> for Error {
    fn from(source: serve::Error) -> Error {
        Error(Case::Metrics(source))
    }
}

impl From<tsdb::Error> for Error {
    fn from(source: tsdb::Error) -> Error {
        Error(Case::Format(source))
    }
}

impl From<merge::Error> for Error {
    fn from(source: merge::Error) -> Error {
        Error(Case::Merge(source))
    }
}

impl From<parquet_block::Error> for Error {
    fn from(source: parquet_block::Error) -> Error {
        Error(Case::Parquet(source))
    }
}
