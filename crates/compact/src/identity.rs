//! The ids of what compaction and downsampling write.
//!
//! An output's ULID is a function of everything its bytes depend on, so that two compactors at the
//! same time, or one that was killed and starts again, write the same bytes to the same place, and
//! correctness needs no lock.

use model::{BlockId, Labels, Resolution};
use parquet_block::FormatVersion;
use sha2::{Digest, Sha256};

/// To be raised with every change of the bytes that compaction or downsampling writes, `meta.json`
/// apart: of two that state the same of the same files, either will do. 3: TSDB blocks have a file
/// of statistics.
pub const ENCODER_VERSION: u32 = 3;

/// How an output is stored; part of its identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum OutputFormat {
    /// A block in Prometheus' layout, downsampled ones with Thanos' AggrChunks.
    Tsdb,
    /// Plain Parquet files, in a version of their format.
    Parquet(FormatVersion),
}

impl OutputFormat {
    fn as_str(self) -> &'static str {
        match self {
            OutputFormat::Tsdb => "tsdb",
            // as it was before there were versions, so that what is there keeps its id
            OutputFormat::Parquet(FormatVersion::V1) => "parquet",
            OutputFormat::Parquet(FormatVersion::V2) => "parquet/2",
        }
    }
}

/// A block that an output is made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Parent {
    pub(crate) id: BlockId,
    /// SHA-256 of the block's file of tombstones, if it has one.
    pub(crate) tombstones: Option<[u8; 32]>,
}

/// Everything the bytes of an output depend on.
#[derive(Clone, Debug)]
pub(crate) struct Identity<'a> {
    pub(crate) encoder_version: u32,
    pub(crate) parents: &'a [Parent],
    pub(crate) group_labels: &'a Labels,
    pub(crate) resolution: Resolution,
    pub(crate) format: OutputFormat,
    /// Settings that change bytes, as text: the dedup function, for example.
    pub(crate) settings: &'a str,
    /// How many useless outputs of the same parents are in the bucket, usually marked for deletion.
    pub(crate) redo: u32,
}

impl Identity<'_> {
    /// Time: the latest of the parents'. Entropy: 80 bits of SHA-256 over the rest, each part with
    /// its length.
    pub(crate) fn block_id(&self) -> BlockId {
        let mut parents = self.parents.to_vec();
        parents.sort_unstable();
        let mut hasher = Sha256::new();
        let mut part = |bytes: &[u8]| {
            hasher.update((bytes.len() as u64).to_be_bytes());
            hasher.update(bytes);
        };
        part(&self.encoder_version.to_be_bytes());
        for parent in &parents {
            part(&parent.id.to_bytes());
            if let Some(digest) = &parent.tombstones {
                part(digest);
            }
        }
        part(self.group_labels.as_packed());
        part(&self.resolution.millis().to_be_bytes());
        part(self.format.as_str().as_bytes());
        part(self.settings.as_bytes());
        if self.redo > 0 {
            part(&self.redo.to_be_bytes());
        }
        let digest = hasher.finalize();
        let entropy = digest[..10].iter().fold(0u128, |sum, byte| sum << 8 | u128::from(*byte));
        let time_ms = parents.iter().map(|p| p.id.time_ms()).max().unwrap_or(0);
        BlockId::from_parts(time_ms, entropy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity<'a>(parents: &'a [Parent], labels: &'a Labels) -> Identity<'a> {
        Identity {
            encoder_version: ENCODER_VERSION,
            parents,
            group_labels: labels,
            resolution: Resolution::Raw,
            format: OutputFormat::Tsdb,
            settings: "",
            redo: 0,
        }
    }

    #[test]
    fn the_order_of_parents_does_not_matter_but_everything_else_does() {
        let labels = Labels::from_pairs([("cluster", "a")]);
        let parent = |time, n| Parent { id: BlockId::from_parts(time, n), tombstones: None };
        let (a, b) = (parent(5, 1), parent(9, 2));
        let id = identity(&[a, b], &labels).block_id();
        assert_eq!(id, identity(&[b, a], &labels).block_id());
        assert_eq!(id.time_ms(), 9);
        assert_ne!(
            id,
            Identity { resolution: Resolution::OneHour, ..identity(&[a, b], &labels) }.block_id()
        );
        let in_format = |format| Identity { format, ..identity(&[a, b], &labels) }.block_id();
        let versions = [FormatVersion::V1, FormatVersion::V2].map(OutputFormat::Parquet);
        let [first, second] = versions.map(in_format);
        assert!(id != first && id != second && first != second);
        let next = ENCODER_VERSION + 1;
        assert_ne!(id, Identity { encoder_version: next, ..identity(&[a, b], &labels) }.block_id());
        assert_ne!(id, Identity { settings: "penalty", ..identity(&[a, b], &labels) }.block_id());
        assert_ne!(id, identity(&[a, b], &Labels::from_pairs([("cluster", "b")])).block_id());
        assert_ne!(id, identity(&[a], &labels).block_id());
        assert_ne!(id, Identity { redo: 1, ..identity(&[a, b], &labels) }.block_id());
        let deleted = Parent { tombstones: Some([7; 32]), ..b };
        assert_ne!(id, identity(&[a, deleted], &labels).block_id());
    }
}
