//! Blocks in a bucket: layout, sync, markers, configuration, ranged reads, caches.
