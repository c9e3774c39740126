//! `thanos.shipper.json`: which blocks were shipped.
//!
//! `{"version": 1, "uploaded": [ULIDs]}`, indented by tabs with a newline at the end, `null` for
//! none; only blocks that still lie in the TSDB folder. Prometheus reads it while we write it, so a
//! new one replaces the old one whole.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use model::BlockId;
use model::error::in_one_line;
use serde::{Deserialize, Serialize};
use tsdb::meta::BlockMeta;

use super::{BlockIds, run_blocking};
use crate::{Error, Result};

const VERSION: u32 = 1;

#[derive(Deserialize, Serialize)]
struct Document {
    version: u32,
    #[serde(default)]
    uploaded: Option<Vec<BlockId>>,
}

/// What was shipped, in the order of the blocks.
pub(super) struct Ledger {
    path: PathBuf,
    /// Every block of the folder, in order of time.
    local: Vec<BlockId>,
    shipped: BlockIds,
    /// The file as it is on disk; `None` until that is known.
    saved: Option<Vec<u8>>,
}

impl Ledger {
    pub(super) fn new(path: PathBuf, shipped: BlockIds, blocks: &[BlockMeta]) -> Ledger {
        Ledger { path, local: blocks.iter().map(|meta| meta.ulid).collect(), shipped, saved: None }
    }

    pub(super) fn holds(&self, id: BlockId) -> bool {
        self.shipped.contains(&id)
    }

    pub(super) fn add(&mut self, id: BlockId) {
        self.shipped.insert(id);
    }

    /// Writes the file if it would change.
    pub(super) async fn save(&mut self) -> Result<()> {
        let uploaded: Vec<BlockId> =
            self.local.iter().copied().filter(|id| self.shipped.contains(id)).collect();
        let bytes = document(uploaded);
        if self.saved.as_ref() == Some(&bytes) {
            return Ok(());
        }
        let path = self.path.clone();
        self.saved = Some(run_blocking(move || replace(&path, &bytes).map(|()| bytes)).await?);
        Ok(())
    }
}

/// The blocks that the file names. A file that is missing or broken only costs asking the bucket.
pub(super) fn read(path: &Path) -> BlockIds {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) => {
            if error.kind() != std::io::ErrorKind::NotFound {
                tracing::warn!(
                    file = %path.display(),
                    error = %in_one_line(&error),
                    "read shipper file, starting anew"
                );
            }
            return BlockIds::new();
        }
    };
    match serde_json::from_slice::<Document>(&bytes) {
        Ok(document) if document.version == VERSION => {
            document.uploaded.unwrap_or_default().into_iter().collect()
        }
        Ok(document) => {
            tracing::warn!(file = %path.display(), version = document.version, "unknown version of \
                shipper file");
            BlockIds::new()
        }
        Err(error) => {
            tracing::warn!(file = %path.display(), error = %in_one_line(&error), "parse shipper \
                file, starting anew");
            BlockIds::new()
        }
    }
}

fn document(uploaded: Vec<BlockId>) -> Vec<u8> {
    let document =
        Document { version: VERSION, uploaded: Some(uploaded).filter(|u| !u.is_empty()) };
    let mut bytes = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"\t");
    document
        .serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, formatter))
        .expect("writing to memory cannot fail");
    bytes.push(b'\n');
    bytes
}

/// Replaces the file so that readers see the old one or the new one, even after a crash.
fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let failed = |attempt: &str, e: std::io::Error| Error::local(attempt, path, e);
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".tmp");
    let temporary = PathBuf::from(temporary);
    let mut file = File::create(&temporary).map_err(|e| failed("creating", e))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(|e| failed("writing", e))?;
    std::fs::rename(&temporary, path).map_err(|e| failed("replacing", e))?;
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(|e| failed("replacing", e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_has_the_bytes_that_thanos_writes() {
        assert_eq!(document(vec![]), b"{\n\t\"version\": 1,\n\t\"uploaded\": null\n}\n");
        let ids: Vec<BlockId> = ["01M81HXMY0XQF1A6MF7S68NK18", "01M81HXMZYSNVAVNH9TD4YA0FP"]
            .map(|id| id.parse().unwrap())
            .to_vec();
        let expected = "{\n\t\"version\": 1,\n\t\"uploaded\": \
            [\n\t\t\"01M81HXMY0XQF1A6MF7S68NK18\",\n\t\t\"01M81HXMZYSNVAVNH9TD4YA0FP\"\n\t]\n}\n";
        assert_eq!(String::from_utf8(document(ids)).unwrap(), expected);
    }

    #[test]
    fn a_broken_file_only_costs_asking() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("thanos.shipper.json");
        assert!(read(&path).is_empty());
        for text in ["", "{", r#"{"version": 2, "uploaded": ["01M81HXMY0XQF1A6MF7S68NK18"]}"#] {
            std::fs::write(&path, text).unwrap();
            assert!(read(&path).is_empty(), "{text}");
        }
        replace(&path, r#"{"version": 1, "uploaded": ["01M81HXMY0XQF1A6MF7S68NK18"]}"#.as_bytes())
            .unwrap();
        assert_eq!(read(&path).len(), 1);
    }
}
