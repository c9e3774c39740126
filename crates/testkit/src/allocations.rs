//! An allocator that counts, for tests of memory. Such a test is alone in its binary, because every
//! allocation of the process counts.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Passes calls on to the system's allocator and records the peak of allocated memory.
///
/// ```ignore
/// #[global_allocator]
/// static ALLOCATIONS: Allocations = Allocations::new();
/// ```
#[derive(Debug)]
pub struct Allocations {
    allocated: AtomicUsize,
    peak: AtomicUsize,
}

impl Default for Allocations {
    fn default() -> Allocations {
        Allocations::new()
    }
}

impl Allocations {
    /// What a static begins with.
    pub const fn new() -> Allocations {
        Allocations { allocated: AtomicUsize::new(0), peak: AtomicUsize::new(0) }
    }

    /// Begins to look for a peak; returns the bytes that are allocated now.
    pub fn begin(&self) -> usize {
        let now = self.allocated.load(Ordering::Relaxed);
        self.peak.store(now, Ordering::Relaxed);
        now
    }

    /// The most bytes that were allocated at once since [`begin`](Allocations::begin).
    pub fn peak(&self) -> usize {
        self.peak.load(Ordering::Relaxed)
    }

    fn grown(&self, bytes: usize) {
        let now = self.allocated.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.peak.fetch_max(now, Ordering::Relaxed);
    }

    fn shrunk(&self, bytes: usize) {
        self.allocated.fetch_sub(bytes, Ordering::Relaxed);
    }
}

// SAFETY: every call is passed to the system's allocator unchanged.
unsafe impl GlobalAlloc for Allocations {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.grown(layout.size());
        // SAFETY: the caller keeps the contract of this method, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        self.shrunk(layout.size());
        // SAFETY: as above.
        unsafe { System.dealloc(place, layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // the old and the new memory may both be there while bytes are copied
        self.grown(new_size);
        self.shrunk(layout.size());
        // SAFETY: as above.
        unsafe { System.realloc(place, layout, new_size) }
    }
}
