//! Blocks of which a request missed a file: they are looked at again soon, so that what was deleted
//! since the last sync goes at once.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use block::BlockLocation;
use tokio::sync::Notify;

#[derive(Debug, Default)]
pub(crate) struct Doubts {
    blocks: Mutex<DoubtedBlocks>,
    added: Notify,
}

#[derive(Debug, Default)]
struct DoubtedBlocks {
    open: HashSet<BlockLocation>,
    /// Those that were open before; asking for them again and again is no reason to look again.
    told: HashSet<BlockLocation>,
}

impl Doubts {
    pub(crate) fn add(&self, block: &BlockLocation) {
        let mut blocks = self.lock();
        if blocks.told.insert(block.clone()) {
            blocks.open.insert(block.clone());
            self.added.notify_one();
        }
    }

    /// Waits for a block that was not doubted since [`forget`](Doubts::forget).
    pub(crate) async fn added(&self) {
        self.added.notified().await;
    }

    pub(crate) fn take(&self) -> HashSet<BlockLocation> {
        std::mem::take(&mut self.lock().open)
    }

    /// From now on every block may be doubted anew.
    pub(crate) fn forget(&self) {
        self.lock().told.clear();
    }

    fn lock(&self) -> MutexGuard<'_, DoubtedBlocks> {
        self.blocks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
