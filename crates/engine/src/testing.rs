//! Sources for tests, benches and tools: series in memory, and blocks in local folders.
//!
//! No process answers its users from these: they read whole files, charge no budget and know no
//! limits. What the stores of a fleet have comes to the engine through `query`.

mod memory;
mod tsdb;

pub use memory::MemorySource;
pub use tsdb::{TsdbSource, TsdbSourceSettings};
