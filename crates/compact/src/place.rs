//! Where an output goes, and whether one that is in the bucket can be relied on.
//!
//! An output's id follows from its inputs, so an earlier run may have written it already. That
//! counts only if it is complete and not marked for deletion: a block that is about to be deleted
//! covers nothing. Otherwise the output gets the next id of its row, which will not be deleted.

use block::layout::MAX_META_BYTES;
use block::marker::{DeletionMark, Marker};
use block::reader::{BlockReader, HeaderCache, ReaderSettings, SeriesQuery};
use block::{BlockLocation, Bucket};
use futures::TryStreamExt;
use model::error::in_one_line;
use parquet_block::statistics::STATISTICS_FILE;
use tsdb::meta::BlockMeta;

use crate::error::Case;
use crate::{Error, Result};

/// The most outputs of the same inputs that were marked for deletion one after the other.
pub(crate) const MAX_REDO: u32 = 1000;

/// Bytes for the index header of the one block that is looked at.
const HEADER_CACHE_BYTES: u64 = 32 << 20;

/// What is found where an output would lie.
#[derive(Debug)]
pub(crate) enum OutputPlace {
    /// Nothing that a reader would see is there.
    Free { redo: u32 },
    /// The complete output.
    Taken(Box<BlockMeta>),
}

/// A row of locations to be tried one after the other.
pub(crate) struct Row<'a> {
    /// The location by the number of useless outputs before it.
    pub(crate) location: &'a (dyn Fn(u32) -> BlockLocation + Send + Sync),
    /// Whether a block found there was made of the same inputs.
    pub(crate) is_ours: &'a (dyn Fn(&BlockMeta) -> bool + Send + Sync),
}

impl Row<'_> {
    /// Finds the output, or the first place that is free.
    pub(crate) async fn find(&self, bucket: &Bucket) -> Result<OutputPlace> {
        for redo in 0..MAX_REDO {
            let location = (self.location)(redo);
            match look_at(bucket, &location).await? {
                FoundPlace::Nothing => return Ok(OutputPlace::Free { redo }),
                FoundPlace::Marked => {
                    tracing::info!(block = %location, "the output is there but marked for \
                        deletion, it is written anew");
                }
                FoundPlace::Block(meta) if !(self.is_ours)(&meta) => {
                    tracing::warn!(block = %location, "a block with other inputs has the id of the \
                        output");
                }
                FoundPlace::Block(meta) => {
                    if is_whole(bucket, &location, &meta).await? {
                        return Ok(OutputPlace::Taken(meta));
                    }
                }
            }
        }
        let location = (self.location)(0);
        Err(Error(Case::NoPlace { id: location.id(), tried: MAX_REDO }))
    }
}

/// Whether an output of ours that is in the bucket is complete. One that is found damaged in two
/// fresh reads is marked for deletion, so that it covers nothing: its inputs still exist.
async fn is_whole(bucket: &Bucket, location: &BlockLocation, meta: &BlockMeta) -> Result<bool> {
    for _ in 0..2 {
        match read_back(bucket, location, meta).await {
            Ok(()) => return Ok(true),
            Err(e) if !e.is_damage() => return Err(e),
            Err(e) => {
                tracing::warn!(block = %location, error = %in_one_line(&e), "the output is there \
                    but damaged")
            }
        }
    }
    let mark =
        DeletionMark::new(meta.ulid, bucket.clock().now(), "damaged output; its sources are there");
    mark.write(bucket, location).await?;
    Ok(false)
}

enum FoundPlace {
    Nothing,
    Marked,
    Block(Box<BlockMeta>),
}

async fn look_at(bucket: &Bucket, location: &BlockLocation) -> Result<FoundPlace> {
    if is_marked(bucket, location).await? {
        return Ok(FoundPlace::Marked);
    }
    let fetched = bucket.get_if_exists(&location.meta(), MAX_META_BYTES).await?;
    let Some(bytes) = fetched else {
        return Ok(FoundPlace::Nothing);
    };
    let meta =
        BlockMeta::from_json(&bytes).map_err(|e| Error::of_block(location.id())(e.into()))?;
    Ok(FoundPlace::Block(Box::new(meta)))
}

/// Whether the block is marked for deletion now. A mark that cannot be read counts as one.
pub(crate) async fn is_marked(bucket: &Bucket, location: &BlockLocation) -> Result<bool> {
    Ok(bucket.exists(&location.file(DeletionMark::FILE)).await?)
}

/// Whether an input is marked for deletion now. What is not usable as a mark is none, as in a sync:
/// otherwise one such block would keep all blocks of its group from being merged, for ever.
pub(crate) async fn is_going(bucket: &Bucket, location: &BlockLocation) -> Result<bool> {
    match DeletionMark::read(bucket, location).await {
        Ok(mark) => Ok(mark.is_some()),
        Err(e) if matches!(e.kind(), block::Kind::Corrupt | block::Kind::Unsupported) => Ok(false),
        Err(e) => Err(e.into()),
    }
}

/// Looks at a block in the bucket again: it must be there, unmarked, with every file that `meta`
/// lists at its full length (statistics may be missing), and its index must hold as many series and chunks as `meta` says.
/// Nothing is marked or deleted because of a block that has not passed this check.
pub(crate) async fn read_back(
    bucket: &Bucket,
    location: &BlockLocation,
    meta: &BlockMeta,
) -> Result<()> {
    let damaged = |reason: String| Error(Case::ReadBack { id: meta.ulid, reason });
    match look_at(bucket, location).await? {
        FoundPlace::Block(stored)
            if stored.compaction == meta.compaction && stored.stats == meta.stats => {}
        FoundPlace::Block(_) => return Err(damaged("its meta.json is another one".into())),
        FoundPlace::Marked => return Err(damaged("it is marked for deletion".into())),
        FoundPlace::Nothing => return Err(damaged("its meta.json is not there".into())),
    }
    for file in meta.thanos.iter().flat_map(|t| &t.files).filter(|f| f.size_bytes > 0) {
        let path = location.file(&file.rel_path);
        match bucket.head(&path).await {
            Ok(object) if object.size == file.size_bytes => {}
            Ok(object) => {
                let reason =
                    format!("{path} has {} bytes instead of {}", object.size, file.size_bytes);
                return Err(damaged(reason));
            }
            // Thanos' `bucket replicate` copies chunks, index and meta.json only; no sample is lost
            Err(e) if e.kind() == block::Kind::NotFound && file.rel_path == STATISTICS_FILE => {}
            Err(e) if e.kind() == block::Kind::NotFound => {
                return Err(damaged(format!("{path} is not there")));
            }
            Err(e) => return Err(e.into()),
        }
    }
    match location.is_parquet() {
        true => Ok(()),
        false => count_index(bucket, meta).await,
    }
}

async fn count_index(bucket: &Bucket, meta: &BlockMeta) -> Result<()> {
    let headers = HeaderCache::new(HEADER_CACHE_BYTES);
    let reader =
        BlockReader::new(bucket.clone(), meta.clone().into(), headers, ReaderSettings::default());
    let mut batches = reader.entries(SeriesQuery::all());
    let (mut series, mut chunks) = (0, 0);
    while let Some(batch) =
        batches.try_next().await.map_err(|e| Error::of_block(meta.ulid)(e.into()))?
    {
        if let Some(error) = batch.errors.into_iter().next() {
            return Err(Error::of_block(meta.ulid)(error.into()));
        }
        series += batch.entries.len() as u64;
        chunks += batch.entries.iter().map(|e| e.chunks.len() as u64).sum::<u64>();
    }
    if (series, chunks) == (meta.stats.num_series, meta.stats.num_chunks) {
        return Ok(());
    }
    let stats = &meta.stats;
    let reason = format!(
        "its index holds {series} series and {chunks} chunks, its meta.json says {} and {}",
        stats.num_series, stats.num_chunks
    );
    Err(Error(Case::ReadBack { id: meta.ulid, reason }))
}
