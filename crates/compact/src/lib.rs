//! The compactor: merges the blocks of a bucket into longer ones, downsamples them to Parquet,
//! applies retention and cleans up.
//!
//! It keeps no state: what has to be done follows from the bucket alone, and every output has an id
//! and bytes that depend only on its inputs. It may be killed at any instant, and two may run at
//! once.

mod changes;
mod commit;
mod compaction;
mod compactor;
mod conflict;
mod cover;
mod downsample;
mod downsample_plan;
mod error;
mod formats;
mod garbage;
mod group;
mod identity;
mod inspect;
mod marks;
mod merged;
mod metrics;
mod output;
mod place;
mod planner;
mod readahead;
mod readers;
mod remake;
mod report;
mod retention;
mod settings;
mod view;

pub use compactor::{Compactor, Event};
pub use downsample::DownsampleJob;
pub use error::{Error, Kind, Result};
pub use identity::{ENCODER_VERSION, OutputFormat};
pub use merge::Dedup;
pub use parquet_block::FormatVersion;
pub use settings::{DownsampleFormat, PARQUET_VERSION, Release, Retention, Settings};
