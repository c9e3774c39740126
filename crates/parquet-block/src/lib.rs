//! The Parquet form of a downsampled block: plain files that any Parquet reader opens, and a reader
//! that answers StoreAPI from them.
//!
//! `FORMAT.md` beside the sources is the page of the format: files, columns, field ids, the bytes of
//! checksums, and the SQL that reads it all. There are two versions ([`FormatVersion`]): `v1` and
//! `v2` have what differs between them, all else is common.
//!
//! Times are milliseconds. Values of [`BlockMeta`](tsdb::meta::BlockMeta), leases and what is
//! downsampled when are the compactor's business; adding external labels to series is the store's.

pub mod checksums;
mod encoder;
mod error;
mod file;
mod footer;
mod histogram_parts;
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
pub use reader::{ParquetBlock, SeriesEntry, SeriesWindows, WindowPlace, WindowQuery};
pub use schema::{BlockDescription, FORMATS, FormatVersion};
pub use writer::{ParquetBlockWriter, ShardLimits, WriteStats};
