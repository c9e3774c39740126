//! Which blocks may go because others hold all they hold.
//!
//! A block goes only for a better one: one with more sources, or with equal sources and a better
//! rank ([`Deduplicate`]). That is one order of blocks for every compactor, whatever its settings.
//! So a row of marks ends at a block that nobody marks, and of two compactors neither removes what
//! the other one relied on.

use std::collections::BTreeSet;

use block::BlockLocation;
use block::sync::{Deduplicate, Synced, SyncedBlock};

use crate::downsample_plan;
use crate::readers::Readers;

/// A block and the one that holds all its data.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Covered<'a> {
    pub(crate) block: &'a SyncedBlock,
    pub(crate) cover: &'a SyncedBlock,
}

/// The duplicates of a sync.
#[derive(Debug, Default)]
pub(crate) struct Garbage<'a> {
    pub(crate) covered: Vec<Covered<'a>>,
    /// Blocks whose covers some stores may not read.
    pub(crate) kept: Vec<&'a SyncedBlock>,
}

impl<'a> Garbage<'a> {
    pub(crate) fn of(synced: &'a Synced, readers: Readers) -> Garbage<'a> {
        let common = CommonView::of(synced, readers);
        let all: Vec<&SyncedBlock> = synced.blocks.iter().collect();
        let mut garbage = Garbage::default();
        for block in synced.duplicates.iter().filter(|b| b.deletion_mark.is_none()) {
            let covers = match &common {
                // those who do not read the block do not miss it
                Some(view) if readers.all_read(block) => {
                    if !view.duplicates.contains(&block.location) {
                        garbage.kept.push(block);
                        continue;
                    }
                    &view.blocks
                }
                _ => &all,
            };
            garbage.covered.extend(cover_of(block, covers).map(|cover| Covered { block, cover }));
        }
        garbage
    }
}

/// What stores see that do not read everything.
struct CommonView<'a> {
    duplicates: BTreeSet<BlockLocation>,
    /// Those that are no duplicates.
    blocks: Vec<&'a SyncedBlock>,
}

impl<'a> CommonView<'a> {
    /// `None` where all stores see the same.
    fn of(synced: &'a Synced, readers: Readers) -> Option<CommonView<'a>> {
        if synced.blocks.iter().all(|block| readers.all_read(block)) {
            return None;
        }
        let all = synced.blocks.iter().chain(&synced.duplicates);
        let mut blocks: Vec<&SyncedBlock> = all.filter(|b| readers.all_read(b)).collect();
        let duplicates = Deduplicate::among(blocks.iter().copied());
        blocks.retain(|block| !duplicates.contains(&block.location));
        Some(CommonView { duplicates, blocks })
    }
}

/// The block that holds all that a duplicate holds.
fn cover_of<'a>(block: &SyncedBlock, among: &[&'a SyncedBlock]) -> Option<&'a SyncedBlock> {
    let like = |other: &SyncedBlock| {
        other.labels == block.labels
            && other.resolution() == block.resolution()
            && other.location.is_parquet() == block.location.is_parquet()
    };
    let holds = |other: &SyncedBlock| {
        other.meta.min_time <= block.meta.min_time
            && other.meta.max_time >= block.meta.max_time
            && downsample_plan::has_sources_of(&other.meta, &block.meta)
    };
    among.iter().copied().find(|other| like(other) && holds(other))
}
