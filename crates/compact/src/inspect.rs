//! Reads one whole block again, to tell a damaged block from a temporary failure of the bucket.

use block::sync::SyncedBlock;
use block::{Bucket, HeaderCache};
use futures::TryStreamExt;
use merge::{ChunkBytes, ChunkContent, Dedup, SeriesChunk};
use tsdb::chunk::{decode_floats, decode_histograms};

use crate::merged::{InputBlock, InputBlocks, in_order};
use crate::place::is_going;
use crate::{Error, Kind, Result};

/// What a second look at a failed block found.
pub(crate) enum Damage {
    Proven,
    /// It was marked for deletion or deleted.
    Gone,
    /// It was read without an error.
    NotFound,
    /// It is not the block's fault, or could not be looked at.
    Unknown,
}

/// Looks again at a block that an error names: only what fails twice is damaged.
pub(crate) async fn damage(bucket: &Bucket, block: &SyncedBlock, error: &Error) -> Damage {
    if error.kind() != Kind::Corrupt {
        return Damage::Unknown;
    }
    let again = inspect(bucket, block).await;
    let marked = is_going(bucket, &block.location).await;
    let exists = bucket.exists(&block.location.meta()).await;
    match (again, exists, marked) {
        // another compactor deleted it meanwhile, or is about to
        (_, Ok(false), _) | (_, _, Ok(true)) => Damage::Gone,
        (Err(e), Ok(true), Ok(false)) if e.kind() == Kind::Corrupt => Damage::Proven,
        (Ok(()), Ok(true), Ok(false)) => {
            tracing::warn!(block = %block.id(), "the block was read well the second time, the next \
                run tries again");
            Damage::NotFound
        }
        _ => Damage::Unknown,
    }
}

/// Reads every series and decodes every sample of a block. An error of kind `Corrupt` that occurs
/// twice means damage; one that does not occur again did not.
async fn inspect(bucket: &Bucket, block: &SyncedBlock) -> Result<()> {
    let input = InputBlock::open(bucket, block).await?;
    in_order(1, |headers| read(bucket, &input, headers)).await
}

async fn read(bucket: &Bucket, input: &InputBlock, headers: HeaderCache) -> Result<()> {
    let inputs = InputBlocks::new(bucket, std::slice::from_ref(input), Dedup::Chain, &headers);
    let mut series = inputs.series().await?;
    while let Some((_, chunks)) = series.try_next().await? {
        chunks.iter().try_for_each(decode).map_err(|e| Error::of_block(input.id())(e.into()))?;
    }
    Ok(())
}

fn decode(chunk: &SeriesChunk) -> std::result::Result<(), tsdb::Error> {
    match &chunk.content {
        ChunkContent::Raw(raw) => decode_part(raw),
        ChunkContent::Aggregates(parts) => parts.iter().flatten().try_for_each(decode_part),
    }
}

fn decode_part(part: &ChunkBytes) -> std::result::Result<(), tsdb::Error> {
    if part.encoding.is_histogram() {
        return decode_histograms(part.encoding, &part.data, &mut Vec::new(), &mut Vec::new());
    }
    decode_floats(part.encoding, &part.data, &mut Vec::new(), &mut Vec::new())
}
