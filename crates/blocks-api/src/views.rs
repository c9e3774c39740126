//! What is shown of the blocks that a sync found.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::response::Response;
use block::BlockLocation;
use block::marker::Marker;
use block::sync::SyncedBlock;
use futures::stream;
use http_api::{Json, json_response};
use model::{BlockId, TimestampMs, rfc3339};

/// An answer is sent in pieces of about this many bytes.
const PIECE: usize = 64 << 10;

/// Go's zero time, which user interfaces show as never.
const NEVER: &str = "0001-01-01T00:00:00Z";

/// Blocks, when they were looked for, and why that failed last.
#[derive(Clone, Debug, Default)]
pub(crate) struct View {
    blocks: Arc<[SyncedBlock]>,
    refreshed: Option<TimestampMs>,
    error: Option<String>,
}

impl View {
    pub(crate) fn replace(&mut self, blocks: Vec<SyncedBlock>, now: TimestampMs) {
        *self = View { blocks: blocks.into(), refreshed: Some(now), error: None };
    }

    pub(crate) fn fail(&mut self, error: &str, now: TimestampMs) {
        (self.refreshed, self.error) = (Some(now), Some(error.to_owned()));
    }

    pub(crate) fn location(&self, id: BlockId) -> Option<BlockLocation> {
        self.blocks.iter().find(|block| block.id() == id).map(|block| block.location.clone())
    }

    /// `blocks` are metas as their files have them; `details` is what is known beside them, in the
    /// same order.
    pub(crate) fn answer(&self, label: &str) -> Response {
        let mut head = Json::default();
        head.raw(r#"{"status":"success","data":{"label":"#);
        head.string(label.as_bytes());
        head.raw(r#","refreshedAt":"#);
        let refreshed = self.refreshed.map_or_else(|| NEVER.to_owned(), rfc3339::format);
        head.string(refreshed.as_bytes());
        head.raw(r#","err":"#);
        match &self.error {
            Some(error) => head.string(error.as_bytes()),
            None => head.raw("null"),
        }
        head.raw(r#","blocks":["#);
        let pieces =
            Pieces { blocks: Arc::clone(&self.blocks), part: Part::Metas, next: 0, json: head };
        json_response(Body::from_stream(stream::iter(pieces.map(Ok::<Bytes, Infallible>))))
    }
}

/// What is being written of each block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Metas,
    Details,
    Done,
}

struct Pieces {
    blocks: Arc<[SyncedBlock]>,
    part: Part,
    next: usize,
    json: Json,
}

impl Iterator for Pieces {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        while self.part != Part::Done && self.json.written() < PIECE {
            let Some(block) = self.blocks.get(self.next) else {
                let (part, text) = match self.part {
                    Part::Metas => (Part::Details, r#"],"details":["#),
                    _ => (Part::Done, "]}}"),
                };
                self.json.raw(text);
                (self.part, self.next) = (part, 0);
                continue;
            };
            self.json.comma(self.next);
            match self.part {
                Part::Metas => file(&mut self.json, &block.meta.to_json()),
                _ => write_details(&mut self.json, block),
            }
            self.next += 1;
        }
        let piece = std::mem::take(&mut self.json).into_bytes();
        (!piece.is_empty()).then(|| Bytes::from(piece))
    }
}

/// The contents of a file that is JSON.
fn file(json: &mut Json, bytes: &[u8]) {
    json.raw(String::from_utf8_lossy(bytes).trim_end());
}

fn write_details(json: &mut Json, block: &SyncedBlock) {
    json.raw(r#"{"ulid":"#);
    json.string(block.id().to_string().as_bytes());
    json.raw(r#","folder":"#);
    json.string(block.location.dir().to_string().as_bytes());
    json.raw(r#","bytes":"#);
    json.integer(i64::try_from(block.bytes).unwrap_or(i64::MAX));
    json.raw(r#","hasTombstones":"#);
    json.raw(if block.tombstones.is_some() { "true" } else { "false" });
    json.raw(r#","marks":["#);
    let mut count = 0;
    write_mark(json, block.deletion_mark.as_ref(), &mut count);
    write_mark(json, block.no_compact_mark.as_ref(), &mut count);
    write_mark(json, block.no_downsample_mark.as_ref(), &mut count);
    json.raw("]}");
}

fn write_mark<M: Marker>(json: &mut Json, mark: Option<&M>, count: &mut usize) {
    let Some(mark) = mark else { return };
    json.comma(*count);
    *count += 1;
    json.raw(r#"{"file":"#);
    json.string(M::FILE.as_bytes());
    json.raw(r#","mark":"#);
    file(json, &tsdb::meta::to_marker_json(mark));
    json.raw("}");
}
