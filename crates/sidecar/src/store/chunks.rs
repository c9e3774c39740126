//! Chunks of remote read as those of StoreAPI.

use bytes::Bytes;
use merge::{ChunkBytes, ChunkContent, SeriesChunk};
use storeapi::{Error, Kind, Result};
use wire::prometheus as pb;

/// Bytes pass through; encodings that Go peers cannot read are rewritten unless the caller reads them.
pub(super) fn from_wire(chunks: Vec<pb::Chunk>, newer_encodings: bool) -> Result<Vec<SeriesChunk>> {
    let mut converted = Vec::with_capacity(chunks.len());
    for chunk in chunks {
        let encoding = wire::prometheus_encoding_from_wire(chunk.r#type)?;
        if !encoding.needs_transcoding() || newer_encodings {
            let content = ChunkContent::Raw(ChunkBytes { encoding, data: chunk.data });
            converted.push(SeriesChunk { min_time: chunk.min_time_ms, max_time: chunk.max_time_ms, content });
            continue;
        }
        let corrupt = |e| Error::new(Kind::Corrupt, format!("rewriting a chunk of encoding {encoding}: {e}"));
        for chunk in tsdb::chunk::transcode(encoding, &chunk.data).map_err(corrupt)? {
            let bytes = ChunkBytes { encoding: chunk.encoding, data: Bytes::from(chunk.data) };
            let content = ChunkContent::Raw(bytes);
            converted.push(SeriesChunk { min_time: chunk.min_time, max_time: chunk.max_time, content });
        }
    }
    Ok(converted)
}
