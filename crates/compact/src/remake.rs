//! Proves that a block is what others were merged to, by merging them once more.
//!
//! A compactor that was ended before it marked the inputs leaves them beside its output. Counts do
//! not always prove that the output holds them: of replicas a merge keeps the samples that it
//! needs, which can be fewer than one of them has. But the id of an output follows from its inputs,
//! and equal inputs give equal bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use block::sync::{Synced, SyncedBlock};
use block::{BlockLocation, Bucket, claims};
use model::BlockId;

use crate::Result;
use crate::compaction::CompactionJob;
use crate::identity::Parent;
use crate::merged::InputBlock;

/// What merging once more showed, for each block once: that never changes.
#[derive(Debug, Default)]
pub(crate) struct Remakes {
    known: Mutex<Vec<Remake>>,
}

#[derive(Debug)]
struct Remake {
    output: BlockLocation,
    parents: Vec<Parent>,
    is_same: bool,
}

impl Remakes {
    /// Whether `output` has the id of what the job makes, and all of its series and samples.
    ///
    /// # Errors
    /// It could not be found out, or an input is damaged.
    pub(crate) async fn is_output(
        &self,
        bucket: &Bucket,
        job: &CompactionJob<'_>,
        output: &SyncedBlock,
    ) -> Result<bool> {
        let inputs = InputBlock::open_all(bucket, job.blocks).await?;
        let mut parents: Vec<Parent> = inputs.iter().map(InputBlock::parent).collect();
        parents.sort_unstable();
        if !job.gives_id(&parents, output.id()) {
            return Ok(false);
        }
        if let Some(is_same) = self.known(output, &parents) {
            return Ok(is_same);
        }
        let is_same = job.merges_to(bucket, &inputs, output).await?;
        let output = output.location.clone();
        self.remakes().push(Remake { output, parents, is_same });
        Ok(is_same)
    }

    fn known(&self, output: &SyncedBlock, parents: &[Parent]) -> Option<bool> {
        let is_it = |known: &&Remake| known.output == output.location && known.parents == parents;
        self.remakes().iter().find(is_it).map(|known| known.is_same)
    }

    /// Forgets blocks that are gone.
    pub(crate) fn retain(&self, exists: impl Fn(&BlockLocation) -> bool) {
        self.remakes().retain(|known| exists(&known.output));
    }

    fn remakes(&self) -> MutexGuard<'_, Vec<Remake>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The blocks that `output` says it was made from, if `input` is one of them and all are still
/// there. One that is marked for deletion can be read as well as any other.
pub(crate) fn parents_of(
    output: &SyncedBlock,
    input: &SyncedBlock,
    synced: &Synced,
) -> Option<Vec<SyncedBlock>> {
    let ids: BTreeSet<BlockId> = output.meta.compaction.parents.iter().map(|p| p.ulid).collect();
    if output.location.is_parquet() || !ids.contains(&input.id()) {
        return None;
    }
    let fits = |block: &&SyncedBlock| {
        !block.location.is_parquet()
            && block.resolution() == output.resolution()
            && claims::spans(&output.meta, &block.meta)
    };
    let all = synced.blocks.iter().chain(&synced.duplicates).chain(&synced.marked_for_deletion);
    let found: BTreeMap<BlockId, &SyncedBlock> =
        all.filter(fits).map(|block| (block.id(), block)).collect();
    ids.iter().map(|id| found.get(id).copied().cloned()).collect()
}
