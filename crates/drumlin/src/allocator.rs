//! jemalloc, configured to return memory.
//!
//! Blocks are read on short-lived threads, and what one thread allocates another frees. The
//! allocators tried that keep freed memory per thread (mimalloc, glibc) held three to five times
//! what a compaction of 192 blocks used.

use crate::memory;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Freed pages return to the system after a second, by a thread of jemalloc's own, and few arenas
/// share them. Read by jemalloc as a C string before `main`; the environment variable
/// `_RJEM_MALLOC_CONF` overrides it.
#[unsafe(export_name = "_rjem_malloc_conf")]
static CONFIGURATION: &[u8; 70] =
    b"background_thread:true,dirty_decay_ms:1000,muzzy_decay_ms:0,narenas:4\0";

/// Gives all pages that the allocator keeps back to the system, if the process takes more than this
/// many bytes. A second of requests that fail and begin anew can leave as much behind as the memory
/// budget.
pub(crate) fn give_back_above(bytes: u64) {
    if memory::anonymous().is_some_and(|taken| taken <= bytes) {
        return;
    }
    // SAFETY: the name is one of jemalloc's and ends with a zero; nothing is read or written.
    let failed = unsafe {
        let (none, length) = (std::ptr::null_mut(), std::ptr::null_mut());
        tikv_jemalloc_sys::mallctl(PURGE_ALL.as_ptr(), none, length, std::ptr::null_mut(), 0)
    };
    if failed != 0 {
        tracing::debug!(code = failed, "the allocator keeps what was freed");
    }
}

/// Of all arenas, whose number stands for all of them.
const PURGE_ALL: &std::ffi::CStr = c"arena.4096.purge";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn freed_memory_goes_back_at_once() {
        let taken = || memory::anonymous().unwrap();
        let before = taken();
        let full: Vec<Vec<u8>> = (0..100).map(|_| vec![1; 1 << 20]).collect();
        assert!(taken() > before + (90 << 20));
        drop(full);
        give_back_above(0);
        assert!(taken() < before + (50 << 20), "{} of {before}", taken());
    }
}
