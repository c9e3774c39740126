//! Blocks in Prometheus' folder.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use model::BlockId;
use model::error::in_one_line;
use tsdb::meta::{BlockMeta, META_FILE};

use super::ShipperSettings;
use crate::layout::{BlockLocation, INDEX_FILE};
use crate::upload::gather_files;
use crate::{Error, Kind, Result, invariants};

const CHUNKS_DIR: &str = "chunks";

/// What the folder holds.
pub(super) struct Local {
    /// The blocks, oldest first.
    pub(super) blocks: Vec<BlockMeta>,
    /// Blocks whose `meta.json` cannot be read and that are skipped.
    pub(super) corrupted: u64,
}

impl Local {
    /// # Errors
    /// A block whose `meta.json` cannot be read, unless such blocks are skipped.
    pub(super) fn scan(settings: &ShipperSettings) -> Result<Local> {
        let dir = &settings.tsdb_path;
        let failed = |e: std::io::Error| Error::local("listing", dir, e);
        let mut local = Local { blocks: Vec::new(), corrupted: 0 };
        for entry in fs::read_dir(dir).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let Some(id) = entry.file_name().to_str().and_then(|name| name.parse::<BlockId>().ok())
            else {
                continue;
            };
            if !entry.file_type().map_err(failed)?.is_dir() {
                continue;
            }
            match read_meta(id, &entry.path()) {
                Ok(Some(meta)) => local.blocks.push(meta),
                Ok(None) => {}
                Err(error) if settings.skip_corrupted_blocks => {
                    tracing::warn!(block = %id, error = %in_one_line(&error), "skip corrupted \
                        block");
                    local.corrupted += 1;
                }
                Err(error) => return Err(error),
            }
        }
        local.blocks.sort_by_key(|meta| (meta.min_time, meta.ulid));
        Ok(local)
    }
}

/// `None` when the block was deleted meanwhile.
fn read_meta(id: BlockId, dir: &Path) -> Result<Option<BlockMeta>> {
    let path = dir.join(META_FILE);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == ErrorKind::NotFound && !dir.exists() => return Ok(None),
        Err(e) => return Err(Error::local(&format!("block {id}: reading"), &path, e)),
    };
    let meta = BlockMeta::from_json(&bytes)
        .map_err(|e| Error::format(format_args!("block {id}: reading {}", path.display()), e))?;
    invariants::of_synced(&BlockLocation::tsdb(id), &meta)
        .map_err(|unmet| Error::passed(Kind::Corrupt, unmet))?;
    Ok(Some(meta))
}

/// Links a block's files to where Prometheus does not delete them, and lists its segments in the
/// meta.
pub(super) fn link_for_upload(
    tsdb_path: &Path,
    mut meta: BlockMeta,
) -> Result<(PathBuf, BlockMeta)> {
    let source = tsdb_path.join(meta.ulid.to_string());
    let target = tsdb_path.join("thanos").join("upload").join(meta.ulid.to_string());
    // What an interrupted upload left.
    remove_dir(&target)?;
    let chunks = target.join(CHUNKS_DIR);
    fs::create_dir_all(&chunks).map_err(|e| Error::local("creating", &chunks, e))?;
    link(&source, &target, INDEX_FILE)?;
    let segments = source.join(CHUNKS_DIR);
    let failed = |e: std::io::Error| Error::local("listing", &segments, e);
    for entry in fs::read_dir(&segments).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        link(&segments, &chunks, &name)?;
    }
    let files = gather_files(&target)?;
    let names = files
        .iter()
        .filter_map(|f| f.rel_path.strip_prefix("chunks/"))
        .map(str::to_owned)
        .collect();
    if let Some(thanos) = &mut meta.thanos {
        thanos.segment_files = names;
    }
    let path = target.join(META_FILE);
    fs::write(&path, meta.to_json()).map_err(|e| Error::local("writing", &path, e))?;
    Ok((target, meta))
}

fn link(from: &Path, to: &Path, name: impl AsRef<Path>) -> Result<()> {
    let (from, to) = (from.join(&name), to.join(&name));
    fs::hard_link(&from, &to).map_err(|e| Error::local("linking", &from, e))
}

/// Removes a folder; it is not an error if there is none.
pub(super) fn remove_dir(dir: &Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(Error::local("removing", dir, e)),
        _ => Ok(()),
    }
}
