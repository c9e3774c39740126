//! A series as it travels from sidecars and gateways to the engine: labels and still-encoded chunks.

use std::borrow::Cow;

use bytes::Bytes;
use model::Labels;
use tsdb::chunk::{self, Aggregate, Encoding};

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
    /// From a chunk as a segment holds it; an AggrChunk is taken apart without copying.
    ///
    /// # Errors
    /// A damaged AggrChunk.
    pub fn from_stored(span: (i64, i64), encoding: Encoding, data: Bytes) -> Result<SeriesChunk, tsdb::Error> {
        let content = match encoding {
            Encoding::Aggregate => {
                let parts = chunk::split_aggregates(&data)?;
                let owned = parts
                    .map(|part| part.map(|(encoding, bytes)| ChunkBytes { encoding, data: data.slice_ref(bytes) }));
                ChunkContent::Aggregates(Box::new(owned))
            }
            _ => ChunkContent::Raw(ChunkBytes { encoding, data }),
        };
        Ok(SeriesChunk { min_time: span.0, max_time: span.1, content })
    }

    /// The encoding and bytes by which a segment holds the chunk.
    pub fn stored_form(&self) -> (Encoding, Cow<'_, [u8]>) {
        match &self.content {
            ChunkContent::Raw(raw) => (raw.encoding, Cow::Borrowed(&raw.data[..])),
            ChunkContent::Aggregates(parts) => {
                let borrowed = parts.each_ref().map(|p| p.as_ref().map(|p| (p.encoding, &p.data[..])));
                (Encoding::Aggregate, Cow::Owned(chunk::join_aggregates(&borrowed)))
            }
        }
    }

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
