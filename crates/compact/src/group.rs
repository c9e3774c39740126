//! Blocks that may be merged with each other.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use block::BlockLocation;
use block::marker::{NoCompactMark, reason};
use block::sync::SyncedBlock;
use model::{BlockId, Labels, Resolution, TimestampMs};
use tsdb::meta::BlockMeta;

use crate::marks;
use crate::planner;

/// TSDB blocks of one resolution and one set of external labels, none of them marked for deletion.
pub(crate) struct Group {
    pub(crate) labels: Labels,
    pub(crate) resolution: Resolution,
    pub(crate) blocks: Vec<SyncedBlock>,
    /// Blocks that take no part until the bucket is listed again, because something went wrong with
    /// them.
    set_aside: BTreeSet<BlockId>,
    merge_conflicting: bool,
}

/// TSDB blocks in groups, ordered by resolution and labels. With `merge_conflicting`, marks are
/// ignored that say that blocks contradict each other.
pub(crate) fn groups(blocks: &[SyncedBlock], merge_conflicting: bool) -> Vec<Group> {
    let mut groups: BTreeMap<(Resolution, Labels), Vec<SyncedBlock>> = BTreeMap::new();
    for block in blocks.iter().filter(|b| !b.location.is_parquet()) {
        groups.entry((block.resolution(), block.labels.clone())).or_default().push(block.clone());
    }
    let group = |((resolution, labels), blocks)| {
        let set_aside = BTreeSet::new();
        Group { labels, resolution, blocks, set_aside, merge_conflicting }
    };
    groups.into_iter().map(group).collect()
}

impl Group {
    /// The blocks to compact together next; empty when there is nothing to do.
    pub(crate) fn plan(&self) -> Vec<SyncedBlock> {
        let metas: Vec<&BlockMeta> = self.blocks.iter().map(|b| &*b.meta).collect();
        let planned: BTreeSet<BlockId> =
            planner::plan(&metas, &self.excluded()).iter().map(|b| b.ulid).collect();
        self.blocks.iter().filter(|b| planned.contains(&b.id())).cloned().collect()
    }

    fn excluded(&self) -> BTreeSet<BlockId> {
        let counts =
            |mark: &NoCompactMark| !(self.merge_conflicting && mark.reason == marks::CONFLICTING);
        let marked = self.blocks.iter().filter(|b| b.no_compact_mark.as_ref().is_some_and(counts));
        marked.map(SyncedBlock::id).chain(self.set_aside.iter().copied()).collect()
    }

    /// Leaves a block out until the bucket is listed again.
    pub(crate) fn set_aside(&mut self, id: BlockId) {
        self.set_aside.insert(id);
    }

    /// Records a mark that is now in the bucket; the next sync would find it.
    pub(crate) fn mark_no_compact(&mut self, id: BlockId, now: TimestampMs) {
        for block in self.blocks.iter_mut().filter(|b| b.id() == id) {
            block.no_compact_mark = Some(NoCompactMark::new(id, now, reason::MANUAL, ""));
        }
    }

    pub(crate) fn remove(&mut self, id: BlockId) {
        self.blocks.retain(|b| b.id() != id);
    }

    /// Adds a block that was just written.
    pub(crate) fn add(&mut self, meta: &Arc<BlockMeta>) {
        let block = SyncedBlock::new(BlockLocation::tsdb(meta.ulid), Arc::clone(meta));
        self.blocks.push(SyncedBlock { labels: self.labels.clone(), ..block });
    }
}

/// Bytes of a block's index.
pub(crate) fn index_size(meta: &BlockMeta) -> u64 {
    let files = meta.thanos.iter().flat_map(|t| &t.files);
    files.filter(|f| f.rel_path == block::layout::INDEX_FILE).map(|f| f.size_bytes).sum()
}
