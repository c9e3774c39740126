//! Which blocks of a bucket take part in the compactor's work.

use block::sync::{Filter, Synced, state};
use model::TimestampMs;

/// Leaves out blocks marked for deletion, from the moment of the mark. They are meant to be gone:
/// such a block does not cover another one, is not a copy that allows finer data to be removed, and
/// nothing new is made from it. When the mark is removed, the block is as before.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unmarked;

impl Filter for Unmarked {
    fn apply(&self, synced: &mut Synced, _now: TimestampMs) {
        let before = synced.blocks.len();
        synced.blocks.retain(|b| b.deletion_mark.is_none());
        let marked = before - synced.blocks.len();
        *synced.states.entry(state::MARKED_FOR_DELETION).or_default() += marked as u64;
    }
}
