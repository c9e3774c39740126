//! Finds out which blocks exist: one listing of the bucket, metas of new blocks fetched and kept,
//! and the filters by which components choose among them.
//!
//! A block's `meta.json` never changes once written, so it is fetched once (and kept in a local
//! folder, if there is one, over restarts). Markers come and go: they are seen in the listing and
//! fetched again when they change.
//!
//! A process that reads the catalog of the bucket does without most of these requests: what the
//! catalog says takes the place of a listing for a while, and of metas and marks for as long as the
//! bucket has the versions that the catalog names.

mod cataloged;
mod fetch;
mod filter;
mod listed;
mod looks;
mod relabel;
mod view;

use std::collections::BTreeMap;
use std::sync::Arc;

use model::{BlockId, Labels, Resolution, TimeRange, TimestampMs};
use object_store::ObjectMeta;
use serde::{Deserialize, Serialize};
use tsdb::meta::BlockMeta;

use crate::Error;
use crate::layout::BlockLocation;
use crate::marker::{DeletionMark, NoCompactMark, NoDownsampleMark};

pub use fetch::{FetcherSettings, MetaFetcher};
pub use filter::{
    ConsistencyDelay, Deduplicate, Filter, HideCovered, IgnoreDeletionMark, RelabelFilter,
    RemoveReplicaLabels, TimePartition, UnreadMarks,
};
pub use looks::CatalogReading;
pub use relabel::{RelabelConfig, parse_relabel_configs};
pub(crate) use view::FULL_LOOK_REASONS;

/// Which version of an object the listing saw.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectVersion {
    pub size: u64,
    pub modified_ms: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub e_tag: Option<String>,
}

impl ObjectVersion {
    pub(crate) fn of(object: &ObjectMeta) -> ObjectVersion {
        ObjectVersion {
            size: object.size,
            modified_ms: object.last_modified.timestamp_millis(),
            e_tag: object.e_tag.clone(),
        }
    }

    /// Whether both may be of one object, one listed and one looked up: folders have different tags
    /// in both, and some stores tell the time in whole seconds when they are asked for one object.
    pub(crate) fn may_be(&self, other: &ObjectVersion) -> bool {
        let of_one_tag = self.e_tag.is_some() && self.e_tag == other.e_tag;
        let seconds = |version: &ObjectVersion| version.modified_ms.div_euclid(1000);
        self.size == other.size && (of_one_tag || seconds(self) == seconds(other))
    }
}

/// A block that has a usable `meta.json`.
#[derive(Clone, Debug)]
pub struct SyncedBlock {
    pub location: BlockLocation,
    pub meta: Arc<BlockMeta>,
    /// The external labels; a filter may have removed replica labels.
    pub labels: Labels,
    pub deletion_mark: Option<DeletionMark>,
    pub no_compact_mark: Option<NoCompactMark>,
    pub no_downsample_mark: Option<NoDownsampleMark>,
    /// The version of the file of deleted spans, if there is one that names any.
    pub tombstones: Option<ObjectVersion>,
    /// The size of all its objects together.
    pub bytes: u64,
}

impl SyncedBlock {
    /// A block without marks or tombstones, under the external labels that its meta states.
    pub fn new(location: BlockLocation, meta: Arc<BlockMeta>) -> SyncedBlock {
        SyncedBlock {
            location,
            labels: meta.external_labels(),
            meta,
            deletion_mark: None,
            no_compact_mark: None,
            no_downsample_mark: None,
            tombstones: None,
            bytes: 0,
        }
    }

    pub fn id(&self) -> BlockId {
        self.meta.ulid
    }

    pub fn range(&self) -> TimeRange {
        self.meta.range()
    }

    pub fn resolution(&self) -> Resolution {
        self.meta.resolution()
    }

    pub fn sources(&self) -> &[BlockId] {
        self.meta.sources()
    }

    /// The number of the version in the name of the format: 0 for a TSDB block, the greatest where
    /// the name has none. What reads a version reads all before it.
    pub fn format_version(&self) -> u32 {
        let Some(format) = &self.meta.format else { return 0 };
        format.rsplit('/').next().and_then(|number| number.parse().ok()).unwrap_or(u32::MAX)
    }
}

/// A block's folder without `meta.json`: an upload under way, or a broken upload or deletion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartialBlock {
    pub location: BlockLocation,
    /// When the newest of its objects was written.
    pub newest: TimestampMs,
    pub has_deletion_mark: bool,
}

/// A block whose `meta.json` is not usable and stays so until somebody repairs it.
#[derive(Clone, Debug)]
pub struct BrokenBlock {
    pub location: BlockLocation,
    pub error: Error,
}

/// A block that is listed but could not be looked at: its `meta.json` or one of its marks is not
/// known from an earlier sync, and the bucket did not return it.
///
/// All its samples are older than the time in its id: a block is made after its samples, and the
/// ids of compaction's outputs take the time of their latest parent.
#[derive(Clone, Debug)]
pub struct UnseenBlock {
    pub location: BlockLocation,
    pub error: Error,
    /// What is known if only a mark could not be read: everything except that mark.
    pub known: Option<SyncedBlock>,
}

/// What a sync found.
#[derive(Clone, Debug, Default)]
pub struct Synced {
    /// The blocks that every filter let through, sorted by time and id.
    pub blocks: Vec<SyncedBlock>,
    pub partial: Vec<PartialBlock>,
    pub broken: Vec<BrokenBlock>,
    /// What is missing above: nothing may be done because a block is absent while there are any.
    pub unseen: Vec<UnseenBlock>,
    /// Blocks of formats that the caller does not read, such as those of a newer version. They
    /// cover nothing, and nothing may be done to them, whatever their marks say.
    pub foreign: Vec<SyncedBlock>,
    /// Blocks that a duplicate filter removed: all their sources are in another block, as it says,
    /// which is not marked for deletion.
    pub duplicates: Vec<SyncedBlock>,
    /// Blocks with a deletion mark, whether or not they are among `blocks`.
    pub marked_for_deletion: Vec<SyncedBlock>,
    /// How many blocks ended in each state, as `thanos_blocks_meta_synced` counts them.
    pub states: BTreeMap<&'static str, u64>,
}

/// The states of `thanos_blocks_meta_synced`.
pub mod state {
    pub const LOADED: &str = "loaded";
    pub const FAILED: &str = "failed";
    pub const NO_META: &str = "no-meta-json";
    pub const CORRUPTED_META: &str = "corrupted-meta-json";
    pub const LABEL_EXCLUDED: &str = "label-excluded";
    pub const TIME_EXCLUDED: &str = "time-excluded";
    pub const TOO_FRESH: &str = "too-fresh";
    pub const DUPLICATE: &str = "duplicate";
    pub const MARKED_FOR_DELETION: &str = "marked-for-deletion";
    pub const MARKED_FOR_NO_COMPACT: &str = "marked-for-no-compact";
    pub const MARKED_FOR_NO_DOWNSAMPLE: &str = "marked-for-no-downsample";
    /// Not one of Thanos', and no value of the metric.
    pub(super) const FOREIGN: &str = "foreign-format";

    pub(super) const ALL: [&str; 11] = [
        LOADED,
        FAILED,
        NO_META,
        CORRUPTED_META,
        LABEL_EXCLUDED,
        TIME_EXCLUDED,
        TOO_FRESH,
        DUPLICATE,
        MARKED_FOR_DELETION,
        MARKED_FOR_NO_COMPACT,
        MARKED_FOR_NO_DOWNSAMPLE,
    ];
}

#[cfg(test)]
mod tests;
