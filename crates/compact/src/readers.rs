//! Who reads the bucket beside this release.
//!
//! Stores are upgraded before the compactor, but not all at once, and an upgrade may be taken back.
//! Until somebody says that all stores read what this release writes, no block goes for one that a
//! store of the previous release does not read.

use block::sync::SyncedBlock;
use parquet_block::FormatVersion;

use crate::settings::Settings;

/// The newest version of Parquet that the previous release reads.
const COMMON: FormatVersion = FormatVersion::V1;

/// The stores that there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Readers {
    /// Some of the previous release.
    Mixed,
    /// Of this release alone, as `--allow-retire` says.
    Current,
}

impl Readers {
    pub(crate) fn of(settings: &Settings) -> Readers {
        if settings.allow_retire { Readers::Current } else { Readers::Mixed }
    }

    /// Whether every store reads the block.
    pub(crate) fn all_read(self, block: &SyncedBlock) -> bool {
        let is_common = |format: &str| FormatVersion::parse(format).is_some_and(|v| v <= COMMON);
        self == Readers::Current || block.meta.format.as_deref().is_none_or(is_common)
    }
}
