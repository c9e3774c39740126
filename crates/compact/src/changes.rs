//! Whether a listing of the bucket still holds. A bucket of many blocks takes thousands of requests to list.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether this process wrote to the bucket, or tried to, since it was last listed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Changes(Arc<AtomicBool>);

impl Changes {
    /// Something is about to be written or deleted.
    pub(crate) fn note(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub(crate) fn any(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// The bucket was listed after all that was noted.
    pub(crate) fn settle(&self) {
        self.0.store(false, Ordering::Relaxed);
    }
}
