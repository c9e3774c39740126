//! What of a bucket takes part in the compactor's work.

use block::sync::{Filter, Synced, state};
use model::TimestampMs;

/// Without blocks marked for deletion, from the moment of the mark. Whoever set it wants the block
/// gone: it is no cover for another block, no copy that lets finer data go, and nothing new is made
/// of it. When the mark is taken back, the block is as before.
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
