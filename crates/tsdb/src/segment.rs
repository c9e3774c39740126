//! Chunk segments: the files `chunks/000001`, `chunks/000002`, … of a block.
//!
//! ```text
//! u32 BE magic 0x85bd40dd | version 1 | three zero bytes | records
//! record:  uvarint len | encoding byte | len bytes of data | u32 BE crc32c of encoding and data
//! ```
//! A chunk reference is `(file number - 1) << 32 | offset of the record in the file`. Source of the
//! format: `tsdb/docs/format/chunks.md` of Prometheus.

use std::collections::VecDeque;

use crate::chunk::Encoding;
use crate::error::{Case, Error};
use crate::varint::{put_uvarint, read_uvarint};

/// Bytes before the first record.
pub const HEADER_LEN: usize = 8;
/// The most bytes a segment file may have.
pub const MAX_SEGMENT_LEN: u64 = 512 << 20;

const HEADER: [u8; HEADER_LEN] = [0x85, 0xbd, 0x40, 0xdd, 1, 0, 0, 0];
const WHAT: &str = "chunk segment";
const CRC_LEN: usize = 4;
/// A length takes at most this many bytes.
const MAX_LEN_LEN: usize = 5;

/// Where a chunk is: `segment` counts files from 0 (`000001`), `offset` is in bytes from the start
/// of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChunkRef {
    pub segment: u32,
    pub offset: u32,
}

impl ChunkRef {
    /// From the number an index holds.
    pub fn from_raw(raw: u64) -> ChunkRef {
        ChunkRef { segment: (raw >> 32) as u32, offset: raw as u32 }
    }

    pub fn to_raw(self) -> u64 {
        u64::from(self.segment) << 32 | u64::from(self.offset)
    }
}

/// The name of the file of a segment, counted from 0.
pub fn segment_name(segment: u32) -> String {
    format!("{:06}", u64::from(segment) + 1)
}

/// Checks the first bytes of a segment.
///
/// # Errors
/// Truncated bytes, another magic number or version.
pub fn check_header(bytes: &[u8]) -> Result<(), Error> {
    let header = bytes.get(..HEADER_LEN).ok_or(Error::truncated(WHAT, bytes.len()))?;
    if header[..4] != HEADER[..4] {
        return Err(Error::corrupt(WHAT, 0, "magic number is not that of a chunk segment"));
    }
    match header[4] {
        1 => Ok(()),
        version => {
            Err(Error(Case::Unsupported { what: WHAT, reason: format!("version {version}") }))
        }
    }
}

/// One chunk in a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    pub encoding: Encoding,
    pub data: &'a [u8],
    /// Bytes of the whole record: the next one begins after them.
    pub len: usize,
}

/// Bytes of the whole record that begins where `bytes` do, of which the first five suffice.
///
/// # Errors
/// When `bytes` end inside the length, and when the length is invalid.
pub fn record_len(bytes: &[u8]) -> Result<usize, Error> {
    let (data_len, len_len) = read_len(bytes)?;
    Ok(len_len + 1 + data_len + CRC_LEN)
}

/// The record that `bytes` begin with; more bytes may follow. Offsets in errors count from the
/// start of `bytes`.
///
/// # Errors
/// Truncated bytes, a wrong checksum, an unknown encoding.
pub fn parse_record(bytes: &[u8]) -> Result<Record<'_>, Error> {
    let (data_len, len_len) = read_len(bytes)?;
    let len = len_len + 1 + data_len + CRC_LEN;
    let record = bytes.get(len_len..len).ok_or(Error::truncated(WHAT, bytes.len()))?;
    let (body, crc) = record.split_at(1 + data_len);
    let stored = u32::from_be_bytes(crc.try_into().expect("four bytes"));
    let computed = crc32c::crc32c(body);
    if stored != computed {
        return Err(Error(Case::Checksum {
            what: WHAT,
            offset: (len - CRC_LEN) as u64,
            stored,
            computed,
        }));
    }
    let encoding = Encoding::from_byte(body[0])
        .ok_or(Error(Case::UnknownEncoding { encoding: body[0], offset: len_len as u64 }))?;
    Ok(Record { encoding, data: &body[1..], len })
}

#[inline]
fn read_len(bytes: &[u8]) -> Result<(usize, usize), Error> {
    let head = &bytes[..bytes.len().min(MAX_LEN_LEN)];
    match read_uvarint(head) {
        Some((len, read)) if len <= MAX_SEGMENT_LEN => Ok((len as usize, read)),
        None if head.len() < MAX_LEN_LEN => Err(Error::truncated(WHAT, bytes.len())),
        _ => Err(Error::corrupt(WHAT, 0, "length of a chunk exceeds that of a segment")),
    }
}

/// Arranges chunks in segments. It does no I/O: the caller [takes](Self::take) the bytes as they
/// come and appends them to the files.
#[derive(Debug)]
pub struct SegmentWriter {
    pending: VecDeque<SegmentBytes>,
    /// An empty buffer with the memory of what was taken before.
    spare: Vec<u8>,
    segment: u32,
    /// Bytes of the current segment so far, taken or not.
    len: u64,
    max_len: u64,
}

/// Bytes to append to a segment. Once bytes of a later segment come, this one is complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentBytes {
    /// Counted from 0; see [`segment_name`].
    pub segment: u32,
    pub bytes: Vec<u8>,
}

impl Default for SegmentWriter {
    fn default() -> SegmentWriter {
        SegmentWriter::new()
    }
}

impl SegmentWriter {
    pub fn new() -> SegmentWriter {
        SegmentWriter::with_max_len(MAX_SEGMENT_LEN)
    }

    /// Cuts segments at `max_len` bytes.
    fn with_max_len(max_len: u64) -> SegmentWriter {
        SegmentWriter { pending: VecDeque::new(), spare: Vec::new(), segment: 0, len: 0, max_len }
    }

    /// Appends a chunk.
    ///
    /// # Errors
    /// When the chunk is larger than a segment may be.
    pub fn push(&mut self, encoding: Encoding, data: &[u8]) -> Result<ChunkRef, Error> {
        let most = (MAX_LEN_LEN + 1 + data.len() + CRC_LEN) as u64;
        if HEADER_LEN as u64 + most > self.max_len {
            let reason = format!("a chunk of {} bytes does not fit into a segment", data.len());
            return Err(Error(Case::Limit { what: WHAT, reason }));
        }
        if self.len > 0 && self.len + most > self.max_len {
            self.segment += 1;
            self.len = 0;
        }
        let (segment, first) = (self.segment, self.len == 0);
        if self.pending.back().is_none_or(|last| last.segment != segment) {
            let bytes = std::mem::take(&mut self.spare);
            self.pending.push_back(SegmentBytes { segment, bytes });
        }
        let bytes = &mut self.pending.back_mut().expect("pushed above if there was none").bytes;
        let before = bytes.len();
        if first {
            bytes.extend_from_slice(&HEADER);
        }
        let offset = self.len as u32 + (bytes.len() - before) as u32;
        put_record(bytes, encoding, data);
        self.len += (bytes.len() - before) as u64;
        Ok(ChunkRef { segment, offset })
    }

    /// Bytes that wait to be taken.
    pub fn pending_len(&self) -> usize {
        self.pending.iter().map(|segment| segment.bytes.len()).sum()
    }

    /// The next bytes to write, in order; `None` when all are taken.
    pub fn take(&mut self) -> Option<SegmentBytes> {
        self.pending.pop_front()
    }

    /// Takes back the memory of what [`take`](Self::take) returned, to reuse it.
    pub fn reuse(&mut self, mut bytes: Vec<u8>) {
        bytes.clear();
        self.spare = bytes;
    }
}

fn put_record(out: &mut Vec<u8>, encoding: Encoding, data: &[u8]) {
    put_uvarint(out, data.len() as u64);
    let body = out.len();
    out.push(encoding as u8);
    out.extend_from_slice(data);
    let crc = crc32c::crc32c(&out[body..]);
    out.extend_from_slice(&crc.to_be_bytes());
}

#[cfg(test)]
mod tests;
