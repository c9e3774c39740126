//! What proves that a block holds all that another one holds.
//!
//! That it has the other one's sources is only what its `meta.json` says. So its span must hold
//! that of the other one, and what is really in it must be at least as much: as many series, and as
//! many samples. A sum over several blocks that it covers is not asked for, because of samples at
//! equal times a merge keeps one; but it keeps all that the largest of its inputs has, except what
//! tombstones delete.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use block::reader::{HeaderCache, SeriesQuery};
use block::sync::{ObjectVersion, SyncedBlock};
use block::{BlockLocation, Bucket, StoredCounts, claims};
use futures::TryStreamExt;
use model::BlockId;
use parquet_block::{FooterCache, ParquetBlock};
use tsdb::chunk::stored_samples;
use tsdb::meta::BlockMeta;

use crate::merged::{InputBlock, in_order};
use crate::{Error, Result, readahead};

/// Bytes for the footers of the one block that is looked at.
const FOOTER_BYTES: u64 = 8 << 20;

/// Why a block does not count as covered by one that claims its sources.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unproven {
    pub(crate) block: BlockId,
    pub(crate) claimed_by: BlockId,
    reason: String,
}

impl fmt::Display for Unproven {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Unproven { block, claimed_by, reason } = self;
        write!(
            f,
            "block={block} stays although block={claimed_by} says that it holds the same data: \
             {reason}; if what is missing is meant to be gone, mark {block} for deletion, \
             otherwise {claimed_by}"
        )
    }
}

/// Finds out what blocks really hold, each once: that never changes.
#[derive(Debug, Default)]
pub(crate) struct CoverProofs {
    counted: Mutex<Vec<CountedBlock>>,
}

#[derive(Debug)]
struct CountedBlock {
    location: BlockLocation,
    /// What was deleted of it when it was counted.
    tombstones: Option<ObjectVersion>,
    counts: StoredCounts,
}

impl CoverProofs {
    /// Why `cover` cannot stand for `block`; `None` where it is proven that it can.
    ///
    /// # Errors
    /// It could not be found out.
    pub(crate) async fn refuted(
        &self,
        bucket: &Bucket,
        block: &SyncedBlock,
        cover: &SyncedBlock,
    ) -> Result<Option<Unproven>> {
        let (block_id, claimed_by) = (block.id(), cover.id());
        let missing = self.missing(bucket, block, cover).await?;
        Ok(missing.map(|reason| Unproven { block: block_id, claimed_by, reason }))
    }

    async fn missing(
        &self,
        bucket: &Bucket,
        block: &SyncedBlock,
        cover: &SyncedBlock,
    ) -> Result<Option<String>> {
        if !claims::spans(&cover.meta, &block.meta) {
            let (inner, outer) = (block.range(), cover.range());
            return Ok(Some(format!(
                "it spans {} to {}, which is not all from {} to {}",
                outer.start, outer.end, inner.start, inner.end
            )));
        }
        let needed = match stated(&block.meta).filter(|_| block.tombstones.is_none()) {
            Some(stated) => stated,
            None => self.count(bucket, block).await?,
        };
        // what it says of itself is enough to refuse it, and costs nothing
        if let Some(less) = stated(&cover.meta).and_then(|stated| less(stated, needed)) {
            return Ok(Some(less));
        }
        // what was deleted of it later was deleted on purpose
        let whole = SyncedBlock { tombstones: None, ..cover.clone() };
        Ok(less(self.count(bucket, &whole).await?, needed))
    }

    /// Series and samples of a block that are not deleted.
    async fn count(&self, bucket: &Bucket, block: &SyncedBlock) -> Result<StoredCounts> {
        if let Some(counts) = self.known(block) {
            return Ok(counts);
        }
        let counts = if block.location.is_parquet() {
            let footers = FooterCache::new(FOOTER_BYTES);
            let opened = ParquetBlock::open(bucket, &block.location, &block.meta, &footers).await;
            opened.map_err(|e| Error::of_block(block.id())(e.into()))?.stored_counts()
        } else {
            let input = InputBlock::open(bucket, block).await?;
            in_order(1, |headers| read(bucket, &input, headers)).await?
        };
        let (location, tombstones) = (block.location.clone(), block.tombstones.clone());
        self.counted().push(CountedBlock { location, tombstones, counts });
        Ok(counts)
    }

    fn known(&self, block: &SyncedBlock) -> Option<StoredCounts> {
        let is_it = |known: &&CountedBlock| {
            known.location == block.location && known.tombstones == block.tombstones
        };
        self.counted().iter().find(is_it).map(|known| known.counts)
    }

    /// Forgets blocks that are gone.
    pub(crate) fn retain(&self, exists: impl Fn(&BlockLocation) -> bool) {
        self.counted().retain(|known| exists(&known.location));
    }

    fn counted(&self) -> std::sync::MutexGuard<'_, Vec<CountedBlock>> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a meta says; `None` where it leaves it out.
fn stated(meta: &BlockMeta) -> Option<StoredCounts> {
    let counts = StoredCounts { series: meta.stats.num_series, samples: meta.stats.num_samples };
    (counts.series > 0 && counts.samples > 0).then_some(counts)
}

fn less(held: StoredCounts, needed: StoredCounts) -> Option<String> {
    let is_less = held.series < needed.series || held.samples < needed.samples;
    is_less.then(|| {
        format!(
            "it holds {} series with {} samples, of {} with {}",
            held.series, held.samples, needed.series, needed.samples
        )
    })
}

/// Reads a TSDB block from front to back.
async fn read(bucket: &Bucket, input: &InputBlock, headers: HeaderCache) -> Result<StoredCounts> {
    let of_block = Error::of_block(input.id());
    let reader = input.reader(bucket, headers, readahead::settings(1));
    let header = reader.scan_header().await.map_err(|e| of_block(e.into()))?;
    let mut batches = reader.with_header(Arc::new(header)).series(SeriesQuery::all());
    let mut counts = StoredCounts::default();
    while let Some(batch) = batches.try_next().await.map_err(|e| of_block(e.into()))? {
        if let Some(error) = batch.errors.into_iter().next() {
            return Err(of_block(error.into()));
        }
        counts.series += batch.series.len() as u64;
        for chunk in batch.series.iter().flat_map(|series| &series.chunks) {
            let samples = stored_samples(chunk.encoding, &chunk.data);
            counts.samples += samples.map_err(|e| of_block(e.into()))? as u64;
        }
    }
    Ok(counts)
}
