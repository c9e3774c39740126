//! What more than one process does to series: k-way merge, identical-chunk dedup, penalty and chain replica dedup,
//! counter stitching, window aggregation for downsampling.
//!
//! Synchronous and pure; times are milliseconds.

mod series;

pub use series::{ChunkBytes, ChunkContent, Series, SeriesChunk};
