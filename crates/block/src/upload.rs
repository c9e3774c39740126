//! Uploads and deletes blocks: the order of operations, and what an interrupted one leaves.
//!
//! A block exists when its `meta.json` exists. So that file is written last and deleted first; the
//! deletion mark is deleted last, so that an interrupted deletion is resumed.

use std::path::Path;

use futures::{StreamExt, TryStreamExt};
use tsdb::meta::{BlockMeta, File, META_FILE};

use crate::layout::{BlockLocation, INDEX_FILE};
use crate::marker::{DeletionMark, Marker};
use crate::{Bucket, Error, Kind, Result, invariants};

/// Uploads the block that lies in the local folder `dir` as a TSDB block: chunks (`concurrency` at
/// a time), index, then `meta.json`, which is `meta` with the upload time and the lists of files
/// and segments set, and signed. Returns the meta as written. What an interrupted upload leaves is overwritten
/// by the next.
pub async fn upload_block_dir(
    bucket: &Bucket,
    dir: &Path,
    meta: &BlockMeta,
    concurrency: usize,
) -> Result<BlockMeta> {
    let location = BlockLocation::tsdb(meta.ulid);
    let files = gather_files(dir)?;
    invariants::of_upload(&location, meta).map_err(|unmet| Error::passed(Kind::Invalid, unmet))?;
    let mut thanos = meta.thanos.clone().unwrap_or_default();
    let segments: Vec<&str> =
        files.iter().map(|f| f.rel_path.as_str()).filter(|f| f.starts_with("chunks/")).collect();
    futures::stream::iter(&segments)
        .map(|segment| {
            let path = location.file(segment);
            async move { bucket.upload_file(&path, &dir.join(segment)).await }
        })
        .buffer_unordered(concurrency.max(1))
        .try_collect::<Vec<u64>>()
        .await?;
    bucket.upload_file(&location.index(), &dir.join(INDEX_FILE)).await?;
    thanos.segment_files =
        segments.iter().filter_map(|f| f.strip_prefix("chunks/")).map(str::to_owned).collect();
    thanos.files = files;
    thanos.index_stats.get_or_insert_default();
    thanos.set_upload_time(bucket.clock().now());
    let mut meta = BlockMeta { thanos: Some(thanos), ..meta.clone() };
    meta.sign();
    bucket.put(&location.meta(), meta.to_json().into()).await?;
    Ok(meta)
}

/// The files of the block in a local folder as `meta.json` lists them: chunks, index, and
/// `meta.json` without a size.
pub fn gather_files(dir: &Path) -> Result<Vec<File>> {
    let chunks = dir.join("chunks");
    let mut files = vec![File { rel_path: META_FILE.into(), size_bytes: 0, hash: None }];
    for entry in std::fs::read_dir(&chunks).map_err(|e| Error::local("listing", &chunks, e))? {
        let entry = entry.map_err(|e| Error::local("listing", &chunks, e))?;
        let size_bytes =
            entry.metadata().map_err(|e| Error::local("looking up", &entry.path(), e))?.len();
        let name = entry.file_name();
        // tools sometimes leave other files there
        let Some(name) =
            name.to_str().filter(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
        else {
            continue;
        };
        files.push(File { rel_path: format!("chunks/{name}"), size_bytes, hash: None });
    }
    let index = dir.join(INDEX_FILE);
    let size_bytes =
        std::fs::metadata(&index).map_err(|e| Error::local("looking up", &index, e))?.len();
    files.push(File { rel_path: INDEX_FILE.into(), size_bytes, hash: None });
    files.sort_by(|a, b| a.rel_path.cmp(&b.rel_path));
    Ok(files)
}

/// Deletes a block: `meta.json`, then everything else, including markers of its folders, and the
/// deletion mark last.
pub async fn delete_block(bucket: &Bucket, location: &BlockLocation) -> Result<()> {
    bucket.delete(&location.meta()).await?;
    let mark = location.file(DeletionMark::FILE);
    let objects = bucket.list(Some(location.dir())).map_ok(|object| object.location);
    let mut objects: Vec<_> = objects.try_collect().await?;
    objects.retain(|path| *path != mark);
    futures::stream::iter(objects)
        .map(|path| async move { bucket.delete(&path).await })
        .buffer_unordered(8)
        .try_collect::<Vec<()>>()
        .await?;
    bucket.delete_markers(location.dir()).await?;
    bucket.delete(&mark).await
}

#[cfg(test)]
mod tests;
