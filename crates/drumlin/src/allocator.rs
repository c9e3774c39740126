//! jemalloc, configured to return memory.
//!
//! Blocks are read on short-lived threads, and what one thread allocates another frees. The
//! allocators tried that keep freed memory per thread (mimalloc, glibc) held three to five times
//! what a compaction of 192 blocks used.

use std::ffi::{CString, c_uint};

use serve::Allocated;

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

/// What it has given out; zeros where it cannot say.
pub(crate) fn allocated() -> Allocated {
    // its figures are those of the last time that this was written
    let mut epoch = 1_u64;
    // SAFETY: the name is one of jemalloc's and ends with a zero; it reads one value of this type.
    unsafe {
        let new = std::ptr::from_mut(&mut epoch).cast();
        let (none, length) = (std::ptr::null_mut(), std::ptr::null_mut());
        tikv_jemalloc_sys::mallctl(c"epoch".as_ptr(), none, length, new, size_of::<u64>());
    }
    Allocated {
        bytes: figure::<usize>("stats.allocated").map_or(0, |bytes| bytes as u64),
        pages_bytes: figure::<usize>("stats.active").map_or(0, |bytes| bytes as u64),
        total_bytes: given_out("bin", "bins") + given_out("lextent", "lextents"),
    }
}

/// Bytes of all that was ever given out of a kind of sizes.
fn given_out(size: &str, sizes: &str) -> u64 {
    let count = figure::<c_uint>(&format!("arenas.n{sizes}")).unwrap_or_default();
    let bytes = |i| {
        let size = figure::<usize>(&format!("arenas.{size}.{i}.size"))? as u64;
        Some(size * figure::<u64>(&format!("stats.arenas.4096.{sizes}.{i}.nmalloc"))?)
    };
    (0..count).filter_map(bytes).sum()
}

/// One of jemalloc's figures, which has to be of this type.
fn figure<T: Copy + Default>(name: &str) -> Option<T> {
    let name = CString::new(name).ok()?;
    let (mut value, mut length) = (T::default(), size_of::<T>());
    // SAFETY: the name ends with a zero; a value is written only if it has the length of ours.
    let failed = unsafe {
        let out = std::ptr::from_mut(&mut value).cast();
        tikv_jemalloc_sys::mallctl(name.as_ptr(), out, &mut length, std::ptr::null_mut(), 0)
    };
    (failed == 0).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_out_is_counted() {
        let before = allocated();
        let kept = vec![1_u8; 10 << 20];
        drop(vec![1_u8; 10 << 20]);
        let after = allocated();
        assert!(after.bytes >= before.bytes + (9 << 20), "{before:?} {after:?}");
        assert!(after.total_bytes >= before.total_bytes + (19 << 20), "{before:?} {after:?}");
        assert!(after.pages_bytes >= after.bytes);
        drop(kept);
    }

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
