//! `meta.json`: what a block is, as Prometheus' `tsdb.BlockMeta` and Thanos' `metadata.Meta` state
//! it.
//!
//! Field names, their order, what is left out when empty, tabs and the final newline are those of
//! Thanos 0.42, so that a file read and written again has the same bytes. Fields that are not known
//! here are kept and written after the known ones. Times are milliseconds since the Unix epoch,
//! `maxTime` is exclusive.

mod author;
mod json;

use std::collections::BTreeMap;

use model::{BlockId, Labels, Resolution, TimeRange, TimestampMs, rfc3339};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::{Case, Error};

/// The name of the file in a block's folder.
pub const META_FILE: &str = "meta.json";

/// `source` of a block that a sidecar uploaded.
pub const SOURCE_SIDECAR: &str = "sidecar";
/// `source` of a block that a compactor or downsampler made.
pub const SOURCE_COMPACTOR: &str = "compactor";

/// The whole of `meta.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BlockMeta {
    pub ulid: BlockId,
    #[serde(rename = "minTime")]
    pub min_time: i64,
    /// Exclusive.
    #[serde(rename = "maxTime")]
    pub max_time: i64,
    #[serde(default)]
    pub stats: BlockStats,
    #[serde(default)]
    pub compaction: Compaction,
    pub version: u32,
    /// Absent in blocks that Prometheus wrote and no Thanos component has touched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thanos: Option<Thanos>,
    /// How the block's data is kept, where that is not chunks and index: set on Parquet blocks
    /// only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<String>,
    #[serde(flatten)]
    pub unknown: Map<String, Value>,
}

/// Counts over a block; zero is left out of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BlockStats {
    #[serde(skip_serializing_if = "is_zero")]
    pub num_samples: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub num_float_samples: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub num_histogram_samples: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub num_series: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub num_chunks: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub num_tombstones: u64,
}

/// Where a block comes from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Compaction {
    /// The most compaction cycles that any data of the block went through; 1 for a block cut from
    /// the head.
    #[serde(default)]
    pub level: u32,
    /// Every block of level 1 that went into this one, as the file states it; decisions ask
    /// [`BlockMeta::sources`].
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<BlockId>,
    #[serde(default, skip_serializing_if = "is_false")]
    pub deletable: bool,
    /// The blocks this one was compacted from.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub parents: Vec<BlockDesc>,
    #[serde(default, skip_serializing_if = "is_false")]
    pub failed: bool,
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub hints: Vec<String>,
    #[serde(flatten)]
    pub unknown: Map<String, Value>,
}

/// A block by id and time; `max_time` is exclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockDesc {
    pub ulid: BlockId,
    #[serde(rename = "minTime")]
    pub min_time: i64,
    #[serde(rename = "maxTime")]
    pub max_time: i64,
}

/// The section `thanos`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Thanos {
    /// 0, which is left out, means 1.
    #[serde(default, skip_serializing_if = "is_zero_u32")]
    pub version: u32,
    /// The external labels.
    #[serde(default, deserialize_with = "or_default")]
    pub labels: BTreeMap<String, String>,
    #[serde(default)]
    pub downsample: Downsample,
    #[serde(default)]
    pub source: String,
    /// Names of the chunk segments. Superseded by `files`, but still written.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub segment_files: Vec<String>,
    /// Every file of the block, sorted by `rel_path`; `meta.json` has no size.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<File>,
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub rewrites: Vec<Rewrite>,
    /// Thanos writes it even when empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index_stats: Option<IndexStats>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extensions: Option<Value>,
    /// RFC 3339, as [`Thanos::upload_time_ms`] reads and [`Thanos::set_upload_time`] writes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upload_time: Option<String>,
    #[serde(flatten)]
    pub unknown: Map<String, Value>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Downsample {
    /// The window in milliseconds; 0 for raw.
    #[serde(default)]
    pub resolution: i64,
}

/// A file of a block.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct File {
    pub rel_path: String,
    /// In bytes; 0 = not stated.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub size_bytes: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<FileHash>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileHash {
    #[serde(rename = "hashFunc")]
    pub function: String,
    pub value: String,
}

/// A rewrite that was applied to the block by Thanos' tools; kept as it is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Rewrite {
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<BlockId>,
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub deletions_applied: Vec<Value>,
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub relabels_applied: Vec<Value>,
}

/// The largest series entry and chunk of the block in bytes, by which readers size their requests;
/// 0 = unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct IndexStats {
    #[serde(skip_serializing_if = "is_zero")]
    pub series_max_size: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub chunk_max_size: u64,
}

impl BlockMeta {
    /// Reads `meta.json`; refuses what does not [validate](BlockMeta::validate).
    pub fn from_json(bytes: &[u8]) -> Result<BlockMeta, Error> {
        let meta: BlockMeta = serde_json::from_slice(bytes)
            .map_err(|e| Error::corrupt(META_FILE, 0, e.to_string()))?;
        meta.validate()?;
        Ok(meta)
    }

    /// Whether readers accept it.
    ///
    /// # Errors
    /// `Unsupported` for versions other than 1 and resolutions that do not exist here, `Corrupt`
    /// for unusable times.
    pub fn validate(&self) -> Result<(), Error> {
        if self.version != 1 {
            return Err(unsupported(format!("version {} (only 1 is known)", self.version)));
        }
        if let Some(thanos) = &self.thanos {
            if thanos.version > 1 {
                let what =
                    format!("version {} of section \"thanos\" (only 1 is known)", thanos.version);
                return Err(unsupported(what));
            }
            if Resolution::from_millis(thanos.downsample.resolution).is_none() {
                let what = format!("resolution of {} ms", thanos.downsample.resolution);
                return Err(unsupported(what));
            }
        }
        if self.min_time > self.max_time {
            let what = format!("minTime {} is after maxTime {}", self.min_time, self.max_time);
            return Err(Error::corrupt(META_FILE, 0, what));
        }
        Ok(())
    }

    /// The bytes of `meta.json` as Thanos writes them: indented by tabs, with a newline at the end.
    pub fn to_json(&self) -> Vec<u8> {
        json::to_go_json(self, json::Style::Tabs)
    }

    /// Every block of level 1 that went into this one. A block that names none (`null`, empty or
    /// left out, as tools write it) is its own source: it holds what no other block is known to
    /// hold.
    pub fn sources(&self) -> &[BlockId] {
        match self.compaction.sources.as_slice() {
            [] => std::slice::from_ref(&self.ulid),
            sources => sources,
        }
    }

    /// The time the block's samples lie in.
    pub fn range(&self) -> TimeRange {
        TimeRange::new(self.min_time, self.max_time)
    }

    pub fn resolution(&self) -> Resolution {
        let ms = self.thanos.as_ref().map_or(0, |t| t.downsample.resolution);
        Resolution::from_millis(ms).unwrap_or(Resolution::Raw)
    }

    pub fn external_labels(&self) -> Labels {
        self.thanos.as_ref().map(|t| Labels::from_pairs(&t.labels)).unwrap_or_default()
    }

    /// What wrote the block: `sidecar`, `compactor` and so on; empty when unknown.
    pub fn source(&self) -> &str {
        self.thanos.as_ref().map_or("", |t| &t.source)
    }
}

impl Thanos {
    pub fn upload_time_ms(&self) -> Option<TimestampMs> {
        // Go writes a time that was never set as year 1
        rfc3339::parse(self.upload_time.as_deref()?).filter(|t| t.0 > 0)
    }

    pub fn set_upload_time(&mut self, time: TimestampMs) {
        self.upload_time = Some(rfc3339::format(time));
    }
}

/// Compact JSON with Go's escapes and without a newline, as Thanos writes its marker files.
pub fn to_marker_json<T: Serialize>(value: &T) -> Vec<u8> {
    json::to_go_json(value, json::Style::Compact)
}

fn unsupported(reason: String) -> Error {
    Error(Case::Unsupported { what: META_FILE, reason })
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

fn is_zero_u32(n: &u32) -> bool {
    *n == 0
}

fn is_false(b: &bool) -> bool {
    !b
}

/// Go writes `null` for a nil slice or map.
fn or_default<'de, D: serde::Deserializer<'de>, T: Default + Deserialize<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests;
