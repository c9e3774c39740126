//! Which blocks may go because others say that they hold all they hold; [`cover`](crate::cover) has
//! that proven.
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

/// A block and those that say they hold all its data.
#[derive(Clone, Debug)]
pub(crate) struct Covered<'a> {
    pub(crate) block: &'a SyncedBlock,
    /// Each of them would do; that it is true is still to be proven.
    pub(crate) claims: Vec<&'a SyncedBlock>,
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
            let claims = claims_of(block, covers);
            garbage.covered.extend((!claims.is_empty()).then_some(Covered { block, claims }));
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

/// The blocks that were made of all that a duplicate was made of, as they say.
fn claims_of<'a>(block: &SyncedBlock, among: &[&'a SyncedBlock]) -> Vec<&'a SyncedBlock> {
    let like = |other: &SyncedBlock| {
        other.labels == block.labels
            && other.resolution() == block.resolution()
            && other.location.is_parquet() == block.location.is_parquet()
    };
    let claims = |other: &&SyncedBlock| {
        like(other) && downsample_plan::has_sources_of(&other.meta, &block.meta)
    };
    among.iter().copied().filter(claims).collect()
}
