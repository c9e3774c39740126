//! Chunks of remote read as those of StoreAPI.

use bytes::Bytes;
use storeapi::{ChunkBytes, ChunkContent, Error, Kind, Result, SeriesChunk};
use wire::prometheus as pb;

/// Bytes are copied, so that a chunk that waits for its turn does not keep its whole frame.
/// Encodings that Go peers cannot read are rewritten unless the caller reads them.
pub(super) fn from_wire(chunks: Vec<pb::Chunk>, newer_encodings: bool) -> Result<Vec<SeriesChunk>> {
    let mut converted = Vec::with_capacity(chunks.len());
    for chunk in chunks {
        let encoding = wire::prometheus_encoding_from_wire(chunk.r#type)?;
        if !encoding.needs_transcoding() || newer_encodings {
            let data = Bytes::copy_from_slice(&chunk.data);
            let content = ChunkContent::Raw(ChunkBytes { encoding, data });
            converted.push(SeriesChunk::new(chunk.min_time_ms, chunk.max_time_ms, content));
            continue;
        }
        let corrupt = |e| {
            Error::caused(Kind::Corrupt, format!("rewriting a chunk of encoding {encoding}"), e)
        };
        for chunk in tsdb::chunk::transcode(encoding, &chunk.data).map_err(corrupt)? {
            let bytes = ChunkBytes { encoding: chunk.encoding, data: Bytes::from(chunk.data) };
            let content = ChunkContent::Raw(bytes);
            converted.push(SeriesChunk::new(chunk.min_time, chunk.max_time, content));
        }
    }
    Ok(converted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(r#type: i32, data: &'static [u8]) -> Vec<pb::Chunk> {
        vec![pb::Chunk { min_time_ms: 1, max_time_ms: 2, r#type, data: Bytes::from_static(data) }]
    }

    #[test]
    fn bytes_pass_through_and_newer_encodings_only_to_those_who_read_them() {
        let passed = from_wire(chunk(1, b"anything"), false).unwrap();
        let ChunkContent::Raw(raw) = &passed[0].content else { panic!("not raw") };
        assert_eq!(
            (&raw.data[..], passed[0].min_time, passed[0].max_time),
            (&b"anything"[..], 1, 2)
        );
        assert_eq!(from_wire(chunk(4, b"anything"), true).unwrap().len(), 1);
        let error = from_wire(chunk(4, b"\x00"), false).unwrap_err();
        let text = model::error::in_one_line(&error).to_string();
        assert!(text.starts_with("rewriting a chunk of encoding XOR2: "), "{text}");
    }

    #[test]
    fn an_unknown_encoding_is_an_error() {
        assert_eq!(
            from_wire(chunk(9, b""), true).unwrap_err().to_string(),
            "unknown chunk encoding 9"
        );
    }
}
