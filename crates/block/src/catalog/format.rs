//! The bytes of a catalog: zstd-compressed text, a header and a line per block.

use std::io::{BufRead, BufReader, Read, Write};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::entry::CatalogEntry;
use super::members::members;
use super::sources::{leave_out, short_hex};
use super::{MAJOR, MINOR};
use crate::{Error, Kind, Result};

/// Larger catalogs are neither written nor read: a million blocks.
pub(super) const MAX_BYTES: u64 = 128 << 20;
const MAX_TEXT: u64 = 1 << 30;
const MAX_BLOCKS: u64 = 1_000_000;
/// A `meta.json` may be that long, and a line has little more.
const MAX_LINE: u64 = 8 << 20;

/// What a reader has to keep to unpack: 8 MiB. Blocks that share sources lie close together.
const WINDOW_LOG: u32 = 23;
const LEVEL: i32 = 6;

/// All blocks of a bucket at one time.
#[derive(Clone, Debug, PartialEq)]
pub struct Catalog {
    pub header: CatalogHeader,
    /// Sorted by location, each once.
    pub entries: Vec<CatalogEntry>,
}

/// What holds for the whole catalog.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CatalogHeader {
    /// The minor version of its writer.
    pub minor: u32,
    /// What wrote it: `compact` or `store`.
    pub writer: String,
    /// When it was written.
    pub written_ms: i64,
    /// When the full listing began that it is made from; whatever was in the bucket then is in it.
    pub listed_ms: i64,
    /// Fields that a newer minor version has.
    pub unknown: Unknown,
}

/// Fields that are not known here, with their values as they stand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unknown(Vec<(String, Box<str>)>);

impl Unknown {
    pub(super) fn of(object: &str, known: &[&str]) -> std::result::Result<Unknown, String> {
        let others = members(object)?.into_iter().filter(|(name, _)| !known.contains(&&**name));
        Ok(Unknown(others.map(|(name, text)| (name, text.into())).collect()))
    }

    /// The JSON object of `known` with these fields after its own.
    pub(super) fn added_to<T: Serialize>(&self, known: &T) -> String {
        let mut text = serde_json::to_string(known).expect("names are texts");
        for (name, value) in &self.0 {
            text.pop();
            let name = serde_json::to_string(name).expect("it is a text");
            text.extend([",", &name, ":", value, "}"]);
        }
        text
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct HeaderLine {
    drumlin_catalog: Version,
    #[serde(default)]
    writer: String,
    written_ms: i64,
    listed_ms: i64,
    blocks: u64,
}

/// The fields of the header that are known here.
const FIELDS: [&str; 5] = ["drumlin_catalog", "writer", "written_ms", "listed_ms", "blocks"];

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Version {
    major: u32,
    minor: u32,
}

#[derive(Deserialize)]
struct OfVersion {
    drumlin_catalog: Version,
}

/// A catalog as it is stored.
#[derive(Clone, Debug)]
pub struct EncodedCatalog {
    pub bytes: Vec<u8>,
    /// 16 digits of the SHA-256 of the text.
    pub hash: String,
}

impl Catalog {
    /// Sorts the entries, and leaves out sources that no two blocks share.
    pub fn new(header: CatalogHeader, mut entries: Vec<CatalogEntry>) -> Catalog {
        entries.sort_by(|a, b| a.location.cmp(&b.location));
        leave_out(&mut entries);
        Catalog { header, entries }
    }

    /// Takes over what a newer minor version says of the same blocks, and its number.
    pub(super) fn keep_unknown_of(&mut self, newer: &Catalog) {
        self.header.minor = self.header.minor.max(newer.header.minor);
        self.header.unknown = newer.header.unknown.clone();
        for entry in &mut self.entries {
            let same = newer.entries.binary_search_by(|e| e.location.cmp(&entry.location));
            if let Ok(at) = same {
                entry.unknown = newer.entries[at].unknown.clone();
            }
        }
    }

    /// # Errors
    /// `Limit` when it is larger than what is read.
    pub fn encode(&self) -> Result<EncodedCatalog> {
        let (blocks, minor) = (self.entries.len() as u64, self.header.minor);
        let header = HeaderLine {
            drumlin_catalog: Version { major: MAJOR, minor },
            writer: self.header.writer.clone(),
            written_ms: self.header.written_ms,
            listed_ms: self.header.listed_ms,
            blocks,
        };
        let failed = |e| Error::caused(Kind::Internal, "packing the catalog", e);
        let mut packer = zstd::stream::write::Encoder::new(Vec::new(), LEVEL).map_err(failed)?;
        packer.window_log(WINDOW_LOG).map_err(failed)?;
        packer.long_distance_matching(true).map_err(failed)?;
        packer.include_checksum(true).map_err(failed)?;
        let (mut hash, mut text) = (Sha256::new(), 0);
        let header = self.header.unknown.added_to(&header);
        for line in std::iter::once(header).chain(self.entries.iter().map(CatalogEntry::to_line)) {
            for part in [line.as_bytes(), b"\n"] {
                hash.update(part);
                packer.write_all(part).map_err(failed)?;
                text += part.len() as u64;
            }
        }
        let bytes = packer.finish().map_err(failed)?;
        if bytes.len() as u64 > MAX_BYTES || text > MAX_TEXT || blocks > MAX_BLOCKS {
            let text = format!(
                "writing the catalog: {blocks} blocks take {} bytes, and more than {MAX_BYTES} \
                 bytes or {MAX_BLOCKS} blocks are not read; processes list the bucket instead",
                bytes.len()
            );
            return Err(Error::new(Kind::Limit, text));
        }
        Ok(EncodedCatalog { bytes, hash: short_hex(&hash.finalize()) })
    }

    /// Reads the bytes of a catalog, whose text has the `hash`; without one, any text.
    ///
    /// # Errors
    /// `Unsupported` for another major version, else `Corrupt`.
    pub fn decode(bytes: &[u8], hash: Option<&str>) -> Result<Catalog> {
        let packed = zstd::stream::read::Decoder::with_buffer(bytes).and_then(|mut packed| {
            packed.window_log_max(WINDOW_LOG)?;
            Ok(packed.single_frame())
        });
        let packed = packed.map_err(|e| Error::caused(Kind::Corrupt, "unpacking", e))?;
        let mut lines = Lines {
            text: BufReader::with_capacity(64 << 10, packed.take(MAX_TEXT)),
            line: Vec::new(),
            hash: Sha256::new(),
        };
        let (header, blocks) = header_of(lines.next_line()?.ok_or_else(|| short(0))?)?;
        let keeps_unknown = header.minor > MINOR;
        let mut entries: Vec<CatalogEntry> = Vec::new();
        while let Some(line) = lines.next_line()? {
            if entries.len() as u64 == blocks {
                return Err(corrupt(format!("it has more than the {blocks} blocks it says")));
            }
            let entry = CatalogEntry::from_line(line, keeps_unknown)?;
            if entries.last().is_some_and(|last| last.location >= entry.location) {
                return Err(corrupt(format!("{} is out of order", entry.location)));
            }
            entries.push(entry);
        }
        if entries.len() as u64 != blocks {
            return Err(short(entries.len()));
        }
        let found = short_hex(&lines.hash.finalize());
        if hash.is_some_and(|hash| hash != found) {
            return Err(corrupt(format!("its text has the hash {found}")));
        }
        Ok(Catalog { header, entries })
    }
}

fn corrupt(reason: String) -> Error {
    Error::new(Kind::Corrupt, reason)
}

fn short(blocks: usize) -> Error {
    corrupt(format!("it ends after {blocks} blocks"))
}

/// The header, and how many blocks follow it.
fn header_of(line: &str) -> Result<(CatalogHeader, u64)> {
    let broken = |e: serde_json::Error| corrupt(format!("its header: {e}"));
    let OfVersion { drumlin_catalog: version } = serde_json::from_str(line).map_err(broken)?;
    if version.major != MAJOR {
        let text = format!(
            "it is of version {}.{} (only {MAJOR} is known); upgrade this process",
            version.major, version.minor
        );
        return Err(Error::new(Kind::Unsupported, text));
    }
    let header: HeaderLine = serde_json::from_str(line).map_err(broken)?;
    if header.blocks > MAX_BLOCKS {
        return Err(corrupt(format!("it says that it has {} blocks", header.blocks)));
    }
    let unknown = match version.minor > MINOR {
        true => Unknown::of(line, &FIELDS).map_err(corrupt)?,
        false => Unknown::default(),
    };
    let HeaderLine { writer, written_ms, listed_ms, blocks, .. } = header;
    let minor = version.minor;
    Ok((CatalogHeader { minor, writer, written_ms, listed_ms, unknown }, blocks))
}

/// The lines of a text, each of a bounded length.
struct Lines<R> {
    text: BufReader<R>,
    line: Vec<u8>,
    hash: Sha256,
}

impl<R: Read> Lines<R> {
    /// `None` at the end. The last line ends as the others do.
    fn next_line(&mut self) -> Result<Option<&str>> {
        self.line.clear();
        let mut bounded = (&mut self.text).take(MAX_LINE);
        bounded
            .read_until(b'\n', &mut self.line)
            .map_err(|e| Error::caused(Kind::Corrupt, "unpacking", e))?;
        if self.line.is_empty() {
            return Ok(None);
        }
        self.hash.update(&self.line);
        if self.line.pop() != Some(b'\n') {
            return Err(corrupt("a line has no end".into()));
        }
        let line = std::str::from_utf8(&self.line);
        line.map(Some).map_err(|e| Error::caused(Kind::Corrupt, "reading a line", e))
    }
}
