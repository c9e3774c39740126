//! The bytes of the object; the layout is in the module above.

use tsdb::varint::put_uvarint;

use super::{Checksums, FileChecksums, MAX_RANGE_BYTES};

const MAGIC: &[u8; 4] = b"DCRC";
const VERSION: u8 = 1;
const CRC_LEN: usize = 4;
/// One byte each: length of the name, name, size, footer start, number of ranges.
const MIN_FILE_LEN: usize = 5;
/// A length and a checksum.
const MIN_RANGE_LEN: usize = 1 + CRC_LEN;
const MAX_NAME_LEN: usize = 255;

/// What is wrong with an object of checksums.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("checksums of a block: {0}")]
pub struct InvalidChecksums(String);

impl InvalidChecksums {
    pub(super) fn new(reason: impl Into<String>) -> InvalidChecksums {
        InvalidChecksums(reason.into())
    }
}

type Result<T> = std::result::Result<T, InvalidChecksums>;

fn invalid<T>(reason: impl Into<String>) -> Result<T> {
    Err(InvalidChecksums::new(reason))
}

/// A name chooses a path in the bucket, so it must stay within the folder.
pub(super) fn check_name(name: &str) -> Result<()> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let is_name = (1..=MAX_NAME_LEN).contains(&name.len())
        && name.bytes().all(allowed)
        && !name.starts_with('.');
    if is_name { Ok(()) } else { invalid(format!("{name:?} is no name of a file")) }
}

impl Checksums {
    /// The bytes of the object.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.push(VERSION);
        put_uvarint(&mut out, self.files.len() as u64);
        for file in &self.files {
            file.encode(&mut out);
        }
        let crc = crc32c::crc32c(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        out
    }

    /// The checksum at the end of an object, which tells it apart from others.
    pub(crate) fn own_checksum(bytes: &[u8]) -> Option<u32> {
        bytes.last_chunk::<CRC_LEN>().map(|crc| u32::from_le_bytes(*crc))
    }

    /// # Errors
    /// The bytes are not exactly what [`encode`](Checksums::encode) gives for some files.
    pub fn decode(bytes: &[u8]) -> Result<Checksums> {
        let Some((content, crc)) = bytes.split_last_chunk::<CRC_LEN>() else {
            return invalid(format!("{} bytes are too few", bytes.len()));
        };
        let Some(versioned) = content.strip_prefix(MAGIC) else {
            return invalid("they do not begin as such");
        };
        let mut rest = Cursor(versioned);
        match rest.byte()? {
            VERSION => {}
            other => return invalid(format!("version {other} is not one this version reads")),
        }
        if crc32c::crc32c(content) != u32::from_le_bytes(*crc) {
            return invalid("they do not match their own checksum");
        }
        let count = rest.count(MIN_FILE_LEN, "files")?;
        let mut files: Vec<FileChecksums> = Vec::with_capacity(count);
        for _ in 0..count {
            let file = rest.file()?;
            if files.last().is_some_and(|last| last.name >= file.name) {
                return invalid(format!("{} is out of order or there twice", file.name));
            }
            files.push(file);
        }
        match rest.0.len() {
            0 => Ok(Checksums { files }),
            more => invalid(format!("{more} bytes behind the last file")),
        }
    }
}

impl FileChecksums {
    fn encode(&self, out: &mut Vec<u8>) {
        put_uvarint(out, self.name.len() as u64);
        out.extend_from_slice(self.name.as_bytes());
        put_uvarint(out, self.size());
        put_uvarint(out, self.footer_start);
        put_uvarint(out, self.ends.len() as u64);
        for (range, crc) in self.ranges() {
            put_uvarint(out, range.end - range.start);
            out.extend_from_slice(&crc.to_le_bytes());
        }
    }
}

/// What is left to be read.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn bytes(&mut self, len: usize) -> Result<&'a [u8]> {
        match self.0.split_at_checked(len) {
            Some((bytes, rest)) => {
                self.0 = rest;
                Ok(bytes)
            }
            None => invalid("they end too early"),
        }
    }

    fn byte(&mut self) -> Result<u8> {
        Ok(self.bytes(1)?[0])
    }

    fn uvarint(&mut self) -> Result<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if bits << shift >> shift != bits || (byte == 0 && shift > 0) {
                break;
            }
            value |= bits << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        invalid("a number is too large, or longer than it has to be")
    }

    /// A number of things of at least so many bytes, all of which must still come.
    fn count(&mut self, min_len: usize, what: &str) -> Result<usize> {
        let count = self.uvarint()?;
        match usize::try_from(count) {
            Ok(fits) if fits <= self.0.len() / min_len => Ok(fits),
            _ => invalid(format!("{count} {what} in {} bytes", self.0.len())),
        }
    }

    fn name(&mut self) -> Result<&'a str> {
        let len = self.count(1, "bytes of a name")?;
        if len > MAX_NAME_LEN {
            return invalid(format!("a name of {len} bytes"));
        }
        let name = std::str::from_utf8(self.bytes(len)?);
        let name = name.map_err(|_| InvalidChecksums::new("a name is not text"))?;
        check_name(name)?;
        Ok(name)
    }

    fn file(&mut self) -> Result<FileChecksums> {
        let name = self.name()?;
        let (size, footer_start) = (self.uvarint()?, self.uvarint()?);
        let count = self.count(MIN_RANGE_LEN, "ranges")?;
        let (mut ends, mut crcs) = (Vec::with_capacity(count), Vec::with_capacity(count));
        let mut end = 0u64;
        for _ in 0..count {
            let len = self.uvarint()?;
            if !(1..=MAX_RANGE_BYTES).contains(&len) {
                return invalid(format!("a range of {len} bytes of {name}"));
            }
            // no overflow: as many ranges as fit in memory
            end += len;
            ends.push(end);
            let crc = self.bytes(CRC_LEN)?;
            crcs.push(crc.iter().rev().fold(0, |sum, byte| sum << 8 | u32::from(*byte)));
        }
        if end != size || footer_start > size {
            let claims = format!("{size} bytes of {name}, its footer from {footer_start}");
            return invalid(format!("{claims}, and ranges of {end} bytes"));
        }
        Ok(FileChecksums { name: name.into(), footer_start, ends: ends.into(), crcs: crcs.into() })
    }
}
