//! What the catalog says of one block.

use std::sync::Arc;

use object_store::path::Path;
use serde::{Deserialize, Deserializer, Serialize};
use tsdb::meta::{BlockMeta, META_FILE};

use super::format::Unknown;
use super::sources::LeftOutSources;
use crate::layout::BlockLocation;
use crate::marker::{DeletionMark, Marker, NoCompactMark, NoDownsampleMark};
use crate::sync::ObjectVersion;
use crate::{Error, Kind, Result, invariants};

/// A block as its writer saw it: what the listing showed, and what it read.
#[derive(Clone, Debug, PartialEq)]
pub struct CatalogEntry {
    pub location: BlockLocation,
    /// The version of `meta.json`; `None` for an upload under way, or what broke.
    pub meta_version: Option<ObjectVersion>,
    /// `None` where the writer could not read or use it.
    pub meta: Option<Arc<BlockMeta>>,
    /// The sources that `meta` lacks because no other block has any of them.
    pub left_out: Option<LeftOutSources>,
    pub marks: CatalogMarks,
    /// The version of the file of deleted spans, if there is one that names any.
    pub tombstones: Option<ObjectVersion>,
    /// When the newest of its objects was written.
    pub newest_ms: i64,
    /// The size of all its objects together.
    pub bytes: u64,
    /// Fields that a newer minor version has.
    pub unknown: Unknown,
}

/// The marks of a block.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CatalogMarks {
    pub deletion: Option<CatalogMark<DeletionMark>>,
    pub no_compact: Option<CatalogMark<NoCompactMark>>,
    pub no_downsample: Option<CatalogMark<NoDownsampleMark>>,
}

/// A mark that was listed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(bound(deserialize = "M: serde::de::DeserializeOwned"))]
pub struct CatalogMark<M> {
    pub version: ObjectVersion,
    /// Left out where the writer could not read it, `null` where it is not usable.
    #[serde(
        default,
        rename = "mark",
        deserialize_with = "present",
        skip_serializing_if = "Option::is_none"
    )]
    pub read: Option<Option<M>>,
}

fn present<'de, D: Deserializer<'de>, M: Deserialize<'de>>(
    deserializer: D,
) -> std::result::Result<Option<Option<M>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// A line of the catalog.
#[derive(Debug, Serialize, Deserialize)]
struct Line {
    at: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    meta_version: Option<ObjectVersion>,
    newest_ms: i64,
    bytes: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tombstones: Option<ObjectVersion>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    deletion: Option<CatalogMark<DeletionMark>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    no_compact: Option<CatalogMark<NoCompactMark>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    no_downsample: Option<CatalogMark<NoDownsampleMark>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sources: Option<LeftOutSources>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    meta: Option<Arc<BlockMeta>>,
}

/// The fields of a line that are known here.
const FIELDS: [&str; 10] = [
    "at",
    "meta_version",
    "newest_ms",
    "bytes",
    "tombstones",
    "deletion",
    "no_compact",
    "no_downsample",
    "sources",
    "meta",
];

impl CatalogEntry {
    /// The line, without a line feed.
    pub(super) fn to_line(&self) -> String {
        let line = Line {
            at: self.location.to_string(),
            meta_version: self.meta_version.clone(),
            newest_ms: self.newest_ms,
            bytes: self.bytes,
            tombstones: self.tombstones.clone(),
            deletion: self.marks.deletion.clone(),
            no_compact: self.marks.no_compact.clone(),
            no_downsample: self.marks.no_downsample.clone(),
            sources: self.left_out.clone(),
            meta: self.meta.clone(),
        };
        self.unknown.added_to(&line)
    }

    /// Reads a line; fields that are not known here are kept if `keeps_unknown`.
    pub(super) fn from_line(text: &str, keeps_unknown: bool) -> Result<CatalogEntry> {
        let broken = |reason: String| Error::new(Kind::Corrupt, reason);
        let line: Line = serde_json::from_str(text).map_err(|e| broken(e.to_string()))?;
        let location =
            location_of(&line.at).ok_or_else(|| broken(format!("{:?} is no block", line.at)))?;
        if line.meta.is_some() && line.meta_version.is_none() {
            return Err(broken(format!("{location} has a meta and no version of it")));
        }
        let unknown = match keeps_unknown {
            true => Unknown::of(text, &FIELDS).map_err(broken)?,
            false => Unknown::default(),
        };
        let meta = line.meta.filter(|meta| is_usable(&location, meta));
        Ok(CatalogEntry {
            left_out: line.sources.filter(|_| meta.is_some()),
            marks: CatalogMarks {
                deletion: line.deletion.map(known_version),
                no_compact: line.no_compact.map(known_version),
                no_downsample: line.no_downsample.map(known_version),
            },
            location,
            meta_version: line.meta_version,
            meta,
            tombstones: line.tombstones,
            newest_ms: line.newest_ms,
            bytes: line.bytes,
            unknown,
        })
    }
}

/// A mark of a version that is not known here is not usable, wherever it stands.
fn known_version<M: Marker>(mark: CatalogMark<M>) -> CatalogMark<M> {
    let read = mark.read.map(|mark| mark.filter(|mark| mark.version() == 1));
    CatalogMark { read, ..mark }
}

/// The same rules as for a `meta.json`. One that breaks them is as if it were not there: readers
/// look at the file itself.
fn is_usable(location: &BlockLocation, meta: &BlockMeta) -> bool {
    meta.validate().is_ok() && invariants::of_synced(location, meta).is_ok()
}

/// The location that is printed so.
fn location_of(text: &str) -> Option<BlockLocation> {
    let path = Path::parse(text).ok()?.join(META_FILE);
    let (location, _) = BlockLocation::of_object(&path).filter(|(_, file)| file == META_FILE)?;
    (location.to_string() == text).then_some(location)
}
