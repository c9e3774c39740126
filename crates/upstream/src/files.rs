//! Addresses in files, in the format of Prometheus' file discovery.

use std::path::{Path, PathBuf};

use model::secret::Unquoted;
use serde::Deserialize;

use crate::{Error, Kind, Result};

#[derive(Deserialize)]
struct TargetGroup {
    targets: Vec<String>,
}

/// The targets of a file, JSON or YAML. Labels are ignored.
///
/// # Errors
/// `Unavailable` when it cannot be read now, or is not of this format; the file is not named.
pub fn targets(path: &Path) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(path).map_err(|e| Error::passed(Kind::Unavailable, e))?;
    // JSON is YAML too
    let groups: Vec<TargetGroup> = serde_yaml_ng::from_str(&text)
        .map_err(|e| Error::passed(Kind::Unavailable, Unquoted::of(&e)))?;
    Ok(groups.into_iter().flat_map(|group| group.targets).collect())
}

/// The files a path stands for: its last part may hold `*`.
pub fn matching_files(pattern: &Path) -> Vec<PathBuf> {
    let name = pattern.file_name().and_then(|n| n.to_str()).unwrap_or_default();
    let Some((head, tail)) = name.split_once('*') else { return vec![pattern.to_owned()] };
    let folder = pattern.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let fits = |name: &str| {
        name.len() >= head.len() + tail.len() && name.starts_with(head) && name.ends_with(tail)
    };
    let mut files: Vec<PathBuf> = entries
        .flatten()
        .filter(|entry| entry.file_name().to_str().is_some_and(fits))
        .map(|entry| entry.path())
        .collect();
    files.sort();
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_discovery_reads_json_and_yaml_by_pattern() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(
            dir.path().join("a.json"),
            r#"[{"targets": ["a:1", "b:2"], "labels": {"x": "y"}}]"#,
        )
        .unwrap();
        std::fs::write(dir.path().join("b.yml"), "- targets: ['c:3']\n").unwrap();
        assert_eq!(matching_files(&dir.path().join("*.json")), [dir.path().join("a.json")]);
        assert_eq!(matching_files(&dir.path().join("b.yml")), [dir.path().join("b.yml")]);
        let addresses = |name| targets(&dir.path().join(name)).unwrap();
        assert_eq!(addresses("a.json"), ["a:1", "b:2"]);
        assert_eq!(addresses("b.yml"), ["c:3"]);
    }
}
