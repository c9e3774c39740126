//! The Parquet form of a downsampled block: plain files that any Parquet reader opens, and a reader
//! that answers StoreAPI from them.
//!
//! A block is a folder `parquet/v1/<external-labels-hash>/<resolution>/<ULID>/` of shards, each of
//! two or three files:
//!
//! - `<n>.series.parquet`: a row per series in order of labels: `series_id`, `series_hash` (xxh64),
//!   `first_row`, `n_rows` (its windows in the samples file), `min_t`, `max_t`,
//!   `histogram_first_row`, `histogram_n_rows`, then a column `l_<name>` per label. Names beyond
//!   the 1000 most frequent share the MAP column `labels_rest`.
//! - `<n>.samples.parquet`: a row per float window in the same order: `series_id`, `t` (the
//!   window's last millisecond), `count`, `counter`, `max`, `sum`, `min`. `counter` is NULL where
//!   it equals `max`: `coalesce(counter, max)`. `first_t`, `first_v`, `last_v` are only set on the
//!   first row of a batch: the raw samples at its borders, and the place where `counter` starts
//!   anew.
//! - `<n>.histograms.parquet`: a row per native histogram window, if there are any.
//!
//! The key-value metadata of each file names format, block, resolution, external labels and
//! sources. `meta.json`, written last, makes the folder a block; its `thanos.files` lists names and
//! sizes.
//!
//! Blocks, TSDB ones too, may have [`statistics`] beside that; [`checksums`] are for those of a later
//! format.
//!
//! Times are milliseconds. Values of [`BlockMeta`](tsdb::meta::BlockMeta), leases and what is
//! downsampled when are the compactor's business; adding external labels to series is the store's.

pub mod checksums;
mod encoder;
mod error;
mod file;
mod labels;
mod reader;
mod rows;
mod schema;
pub mod statistics;
mod upload;
mod v1;
mod v2;
mod writer;

pub use error::{Error, Kind};
pub use file::FooterCache;
pub use reader::{ParquetBlock, SeriesWindows, WindowQuery};
pub use schema::{BlockDescription, FORMATS, FormatVersion};
pub use writer::{ParquetBlockWriter, ShardLimits, WriteStats};
