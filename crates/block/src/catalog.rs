//! The catalog of a bucket: one object that says what a full listing and all `meta.json` and marks
//! say, so that a process starts with a few requests, whatever the bucket holds.
//!
//! It is a cache of the bucket's truth and never the truth: a block exists if and only if its
//! `meta.json` does, nothing is marked or deleted because of a catalog, and one that is missing,
//! old or damaged costs requests alone. The format stands in `CATALOG.md`; times are milliseconds.

mod entry;
mod format;
mod members;
mod sources;
mod store;
mod writer;

pub use entry::{CatalogEntry, CatalogMark, CatalogMarks};
pub use format::{Catalog, CatalogHeader, EncodedCatalog, Unknown};
pub use sources::LeftOutSources;
pub use store::{CatalogStore, Generation};
pub use writer::{CatalogWriter, WriteOutcome};

/// The folder of the generations. The name of the first part is no ULID, so that Go components do
/// not see it.
pub const CATALOG_ROOT: &str = "catalog/v1";

/// What is understood here. A catalog of another major version is not read and not replaced; minor
/// versions only add fields.
pub const MAJOR: u32 = 1;
pub const MINOR: u32 = 0;

#[cfg(test)]
mod tests;
