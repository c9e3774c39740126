//! Sources that are of no use to a reader: no other block has any of them, so that the block neither
//! covers another one nor is covered. They are most of the bytes of a large block's meta.

use std::collections::HashMap;
use std::sync::Arc;

use model::BlockId;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tsdb::meta::BlockMeta;

use super::CatalogEntry;

/// Fewer sources than these take no more bytes than what stands for them.
const FEWEST: usize = 3;

/// What stands for the sources and parents that a meta lacks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOutSources {
    pub count: usize,
    /// The first 16 digits of the SHA-256 of their 16 bytes each, in their order.
    pub sha256: String,
}

impl LeftOutSources {
    pub fn of(sources: &[BlockId]) -> LeftOutSources {
        let bytes: Vec<u8> = sources.iter().flat_map(|id| id.to_bytes()).collect();
        LeftOutSources { count: sources.len(), sha256: short_hex(&Sha256::digest(bytes)) }
    }
}

/// The first 16 digits.
pub(super) fn short_hex(digest: &[u8]) -> String {
    digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// Leaves out the sources of blocks that share none with another block.
pub(super) fn leave_out(entries: &mut [CatalogEntry]) {
    let mut holders: HashMap<BlockId, u32> = HashMap::new();
    for meta in entries.iter().filter_map(|entry| entry.meta.as_ref()) {
        let mut sources = meta.sources().to_vec();
        sources.sort_unstable();
        sources.dedup();
        for source in sources {
            *holders.entry(source).or_default() += 1;
        }
    }
    for entry in entries.iter_mut().filter(|entry| entry.left_out.is_none()) {
        let Some(meta) = &entry.meta else { continue };
        let sources = &meta.compaction.sources;
        let is_shared = |source: &BlockId| holders.get(source).is_some_and(|blocks| *blocks > 1);
        if sources.len() < FEWEST || sources.iter().any(is_shared) {
            continue;
        }
        entry.left_out = Some(LeftOutSources::of(sources));
        let mut without = BlockMeta::clone(meta);
        without.compaction.sources = Vec::new();
        without.compaction.parents = Vec::new();
        entry.meta = Some(Arc::new(without));
    }
}
