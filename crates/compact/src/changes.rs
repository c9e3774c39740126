//! Whether a listing of the bucket is still up to date. A bucket of many blocks takes thousands of
//! requests to list.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What this process wrote to the bucket, or tried to. Cloning shares it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Changes(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    noted: AtomicU64,
    /// How many there were when the bucket was last listed.
    listed: AtomicU64,
}

impl Changes {
    /// Records that something is about to be written or deleted.
    pub(crate) fn note(&self) {
        self.0.noted.fetch_add(1, Ordering::Relaxed);
    }

    /// How many there were since the start.
    pub(crate) fn count(&self) -> u64 {
        self.0.noted.load(Ordering::Relaxed)
    }

    /// Whether there were any since the bucket was listed.
    pub(crate) fn any(&self) -> bool {
        self.count() != self.0.listed.load(Ordering::Relaxed)
    }

    /// Records that the bucket was listed after all recorded changes.
    pub(crate) fn settle(&self) {
        self.0.listed.store(self.count(), Ordering::Relaxed);
    }
}
