//! What the fuzz targets of this crate check: one function per target, which takes whatever bytes.
//!
//! The programs in `fuzz/fuzz_targets` call them, and `fuzz_replay.rs` does on stable Rust. Each
//! reads the bytes as they are, and once more with the checksums put right, without which hardly
//! any change would get beyond them. What it returns is of the second reading.

mod chunks;
mod index;
mod meta;
mod meter;
mod seal;
mod tombstones;

pub(crate) use chunks::chunks;
pub(crate) use index::index;
pub(crate) use meta::meta;
pub(crate) use tombstones::tombstones;
