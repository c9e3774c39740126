//! What the fuzz targets of this crate check: one function per target, which takes whatever bytes.
//!
//! The programs in `fuzz/fuzz_targets` call them, and `fuzz_replay.rs` does on stable Rust.

mod frames;
mod histograms;
mod messages;
#[path = "../../../tsdb/tests/fuzz/meter.rs"]
mod meter;
mod snappy;

pub(crate) use frames::frames;
pub(crate) use histograms::histograms;
pub(crate) use messages::messages;
pub(crate) use snappy::snappy;

/// What a message may take in memory: two bytes are a message inside of it, and a list of them grows
/// by doubling.
fn most_of_message(bytes: usize) -> usize {
    4096 + 1024 * bytes
}
