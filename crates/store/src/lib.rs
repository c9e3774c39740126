//! The store gateway: StoreAPI over the blocks of a bucket, raw and downsampled, TSDB and Parquet
//! alike.
//!
//! A loop keeps looking which blocks there are. A request picks for each set of external labels the
//! blocks that answer its span of time at the resolution it allows, merges their series by labels,
//! and only then fetches chunks, a bounded batch at a time. If something is wrong with a block,
//! that is a warning; the others are served.
//!
//! What it is not: no samples are decoded here except of encodings that the caller cannot read;
//! replicas are not merged; nothing is written to the bucket. Of what stays in memory, only metas
//! grow with the number of blocks. Times are milliseconds, ranges half-open.

mod block_error;
mod choice;
mod context;
mod doubts;
mod error;
mod fetch;
mod gateway;
mod metadata;
mod metrics;
mod open_ahead;
mod series;
mod served;
mod settings;
mod shared;
mod source;
mod store;
mod warnings;

pub use error::{Error, Kind, Result};
pub use gateway::{Gateway, GatewayParts};
pub use settings::{Settings, TimeBound};

#[cfg(test)]
mod tests;
