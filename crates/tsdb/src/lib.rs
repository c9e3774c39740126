//! On-disk formats of Prometheus and Thanos blocks: index v1–v3, chunk segments and their
//! encodings, tombstones, `meta.json`.
//!
//! Everything here is synchronous and works on byte slices that the caller fetched: readers say
//! which ranges they need and are fed them, so that a block never has to be whole in memory or on a
//! disk. Bytes come from outside: no reader panics, or allocates by an unchecked length.

pub mod block_builder;
pub mod chunk;
mod error;
pub mod index;
pub mod meta;
pub mod postings;
pub mod segment;
pub mod tombstones;
pub mod varint;

pub use error::{Error, Kind};
