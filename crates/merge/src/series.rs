//! A series as it travels from sidecars and gateways to the engine: labels and still-encoded chunks.

use bytes::Bytes;
use model::Labels;
use tsdb::chunk::{Aggregate, Encoding};

/// One encoded chunk without length, encoding byte and checksum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChunkBytes {
    pub encoding: Encoding,
    pub data: Bytes,
}

/// Raw samples, or the aggregates of downsampled ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChunkContent {
    Raw(ChunkBytes),
    /// Indexed by [`Aggregate`]; `None` where an aggregate was not asked for or does not exist. Never `Encoding::Aggregate` inside.
    Aggregates(Box<[Option<ChunkBytes>; 5]>),
}

/// A chunk and the closed span `[min_time, max_time]` of its samples, in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeriesChunk {
    pub min_time: i64,
    pub max_time: i64,
    pub content: ChunkContent,
}

impl SeriesChunk {
    pub fn aggregate(&self, aggregate: Aggregate) -> Option<&ChunkBytes> {
        match &self.content {
            ChunkContent::Raw(_) => None,
            ChunkContent::Aggregates(parts) => parts[aggregate as usize].as_ref(),
        }
    }

    /// Bytes of encoded samples.
    pub fn size(&self) -> usize {
        match &self.content {
            ChunkContent::Raw(chunk) => chunk.data.len(),
            ChunkContent::Aggregates(parts) => parts.iter().flatten().map(|c| c.data.len()).sum(),
        }
    }
}

/// One series. Chunks are sorted by `(min_time, max_time)`; chunks of several replicas may overlap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Series {
    pub labels: Labels,
    pub chunks: Vec<SeriesChunk>,
}
