//! jemalloc, configured to return memory.
//!
//! Blocks are read on short-lived threads, and what one thread allocates another frees. The
//! allocators tried that keep freed memory per thread (mimalloc, glibc) held three to five times
//! what a compaction of 192 blocks used.

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Freed pages return to the system after a second, by a thread of jemalloc's own, and few arenas
/// share them. Read by jemalloc as a C string before `main`; the environment variable
/// `_RJEM_MALLOC_CONF` overrides it.
#[unsafe(export_name = "_rjem_malloc_conf")]
static CONFIGURATION: &[u8; 70] =
    b"background_thread:true,dirty_decay_ms:1000,muzzy_decay_ms:0,narenas:4\0";
