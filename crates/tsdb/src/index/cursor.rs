//! Reads from front to back and checks every length.

use crate::error::{Case, Error};
use crate::varint::{read_uvarint, read_varint};

/// A place in bytes that lie at `base` of the index; errors name `what` and the offset in the file.
#[derive(Clone)]
pub(super) struct Cursor<'a> {
    what: &'static str,
    bytes: &'a [u8],
    base: u64,
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(what: &'static str, bytes: &'a [u8], base: u64) -> Cursor<'a> {
        Cursor { what, bytes, base, at: 0 }
    }

    /// How far it has come in its bytes.
    pub(super) fn position(&self) -> usize {
        self.at
    }

    pub(super) fn offset(&self) -> u64 {
        self.base.saturating_add(self.at as u64)
    }

    pub(super) fn rest(&self) -> &'a [u8] {
        &self.bytes[self.at..]
    }

    pub(super) fn is_empty(&self) -> bool {
        self.at == self.bytes.len()
    }

    pub(super) fn truncated(&self) -> Error {
        Error(Case::Truncated { what: self.what, offset: self.offset() })
    }

    pub(super) fn corrupt(&self, reason: impl Into<String>) -> Error {
        Error(Case::Corrupt { what: self.what, offset: self.offset(), reason: reason.into() })
    }

    pub(super) fn take(&mut self, len: u64) -> Result<&'a [u8], Error> {
        let len = usize::try_from(len).map_err(|_| self.truncated())?;
        let bytes = self.rest().get(..len).ok_or_else(|| self.truncated())?;
        self.at += len;
        Ok(bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Error> {
        let bytes = self.rest().first_chunk::<4>().ok_or_else(|| self.truncated())?;
        self.at += 4;
        Ok(u32::from_be_bytes(*bytes))
    }

    pub(super) fn u64(&mut self) -> Result<u64, Error> {
        let bytes = self.rest().first_chunk::<8>().ok_or_else(|| self.truncated())?;
        self.at += 8;
        Ok(u64::from_be_bytes(*bytes))
    }

    #[inline]
    pub(super) fn uvarint(&mut self) -> Result<u64, Error> {
        let Some((value, len)) = read_uvarint(self.rest()) else { return Err(self.bad_varint()) };
        self.at += len;
        Ok(value)
    }

    #[inline]
    pub(super) fn varint(&mut self) -> Result<i64, Error> {
        let Some((value, len)) = read_varint(self.rest()) else { return Err(self.bad_varint()) };
        self.at += len;
        Ok(value)
    }

    /// Bytes preceded by their length.
    pub(super) fn string(&mut self) -> Result<&'a [u8], Error> {
        let len = self.uvarint()?;
        self.take(len)
    }

    #[cold]
    fn bad_varint(&self) -> Error {
        if self.rest().len() < 10 {
            self.truncated()
        } else {
            self.corrupt("varint of more than 64 bits")
        }
    }
}

/// The content of `len u32 │ content │ crc u32` at the front of `bytes`, checked.
pub(super) fn section<'a>(
    what: &'static str,
    bytes: &'a [u8],
    base: u64,
) -> Result<Cursor<'a>, Error> {
    let mut cursor = Cursor::new(what, bytes, base);
    let len = cursor.u32()?;
    let content_at = cursor.offset();
    let content = cursor.take(u64::from(len))?;
    let stored = cursor.u32()?;
    check(what, base, content, stored)?;
    Ok(Cursor::new(what, content, content_at))
}

pub(super) fn check(
    what: &'static str,
    offset: u64,
    content: &[u8],
    stored: u32,
) -> Result<(), Error> {
    let computed = crc32c::crc32c(content);
    if computed != stored {
        return Err(Error(Case::Checksum { what, offset, stored, computed }));
    }
    Ok(())
}
