//! What a bucket in a folder needs beyond the library: a torn upload leaves files `name#n` that no listing shows.

use std::path::Path;
use std::time::{Duration, SystemTime};

use model::TimestampMs;

use crate::{Error, Result};

/// Removes files `name#<digits>` below `root` that were last written before `older_than`; says how many.
/// Younger ones may belong to an upload of another process that is still under way.
pub(super) fn sweep_torn_uploads(root: &Path, older_than: TimestampMs) -> Result<usize> {
    let limit = SystemTime::UNIX_EPOCH + Duration::from_millis(u64::try_from(older_than.0).unwrap_or(0));
    let mut folders = vec![root.to_path_buf()];
    let mut swept = 0;
    while let Some(folder) = folders.pop() {
        let entries = match std::fs::read_dir(&folder) {
            Ok(entries) => entries,
            // removed by another process in the meantime
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && folder != root => continue,
            Err(e) => return Err(Error::local("listing", &folder, &e)),
        };
        for entry in entries {
            let entry = entry.map_err(|e| Error::local("listing", &folder, &e))?;
            let Ok(metadata) = entry.metadata() else { continue };
            let path = entry.path();
            if metadata.is_dir() {
                folders.push(path);
                continue;
            }
            let old = metadata.modified().is_ok_and(|at| at < limit);
            if old && is_torn_upload(&entry.file_name().to_string_lossy()) {
                std::fs::remove_file(&path).map_err(|e| Error::local("removing", &path, &e))?;
                swept += 1;
            }
        }
    }
    Ok(swept)
}

fn is_torn_upload(name: &str) -> bool {
    let Some((_, suffix)) = name.split_once('#') else { return false };
    !suffix.is_empty() && suffix.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_old_torn_uploads_go() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("a/b");
        std::fs::create_dir_all(&folder).unwrap();
        for name in ["000001", "000001#1", "index#12", "odd#x", "odd#"] {
            std::fs::write(folder.join(name), "x").unwrap();
        }
        assert_eq!(sweep_torn_uploads(root.path(), TimestampMs(0)).unwrap(), 0);
        assert_eq!(sweep_torn_uploads(root.path(), TimestampMs(i64::from(u32::MAX) * 1000)).unwrap(), 2);
        let mut left: Vec<_> =
            std::fs::read_dir(&folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        left.sort();
        assert_eq!(left, ["000001", "odd#", "odd#x"]);
    }
}
