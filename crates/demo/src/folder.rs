//! The folder that holds the bucket, and a note of what was made in it.

use std::path::{Path, PathBuf};

use anyhow::Context;
use model::TimeRange;
use serde_json::{Value, json};

use crate::Settings;

const NOTE: &str = "demo.json";

/// The user's folder, or a temporary one that is removed when this is dropped.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    is_temporary: bool,
}

impl Folder {
    pub(crate) fn open(chosen: Option<PathBuf>) -> anyhow::Result<Folder> {
        let is_temporary = chosen.is_none();
        let temporary =
            || std::env::temp_dir().join(format!("drumlin-demo-{}", std::process::id()));
        let folder = Folder { path: chosen.unwrap_or_else(temporary), is_temporary };
        std::fs::create_dir_all(folder.bucket())
            .with_context(|| format!("create {}", folder.path.display()))?;
        Ok(folder)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn bucket(&self) -> PathBuf {
        self.path.join("bucket")
    }

    /// The span of the data that an earlier demo left here.
    ///
    /// # Errors
    /// When the folder holds something else: another demo's data, or half of one.
    pub(crate) fn kept(&self, settings: &Settings) -> anyhow::Result<Option<TimeRange>> {
        let name = self.path.join(NOTE);
        let text = match std::fs::read(&name) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                let is_empty = std::fs::read_dir(self.bucket())?.next().is_none();
                anyhow::ensure!(
                    is_empty,
                    "{} holds blocks of a demo that was not finished; remove it or name an empty \
                     --data-dir",
                    self.bucket().display()
                );
                return Ok(None);
            }
            Err(e) => return Err(e).with_context(|| format!("read {}", name.display())),
        };
        let note: Value =
            serde_json::from_slice(&text).with_context(|| format!("read {}", name.display()))?;
        anyhow::ensure!(
            note["seed"] == settings.seed && note["days"] == settings.days,
            "{} holds a demo of --seed={} --days={}; ask for that or name an empty --data-dir",
            self.path.display(),
            note["seed"],
            note["days"]
        );
        let (Some(start), Some(end)) = (note["start"].as_i64(), note["end"].as_i64()) else {
            anyhow::bail!("{}: start or end is missing", name.display());
        };
        Ok(Some(TimeRange::new(start, end)))
    }

    /// Records that the bucket is complete.
    pub(crate) fn keep(&self, settings: &Settings, range: TimeRange) -> anyhow::Result<()> {
        let note = json!({
            "seed": settings.seed, "days": settings.days, "start": range.start, "end": range.end,
        });
        let name = self.path.join(NOTE);
        std::fs::write(&name, note.to_string()).with_context(|| format!("write {}", name.display()))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if self.is_temporary {
            // what cannot be removed is left for the system to clean up
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Budgets;

    fn settings(seed: u64) -> Settings {
        Settings {
            data_dir: None,
            days: 7,
            seed,
            check: false,
            prometheus_url: None,
            http_address: "127.0.0.1:0".into(),
            threads: 1,
            budgets: Budgets::unlimited(),
            build: serve::BuildInfo { version: "0".into(), revision: String::new() },
        }
    }

    #[test]
    fn an_earlier_demo_is_found_again_and_another_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let folder = Folder::open(Some(folder.path().join("data"))).unwrap();
        let range = TimeRange::new(7_200_000, 14_400_000);
        assert_eq!(folder.kept(&settings(1)).unwrap(), None);
        folder.keep(&settings(1), range).unwrap();
        assert_eq!(folder.kept(&settings(1)).unwrap(), Some(range));
        assert!(folder.kept(&settings(2)).unwrap_err().to_string().contains("--seed=1"));
    }

    #[test]
    fn half_a_demo_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let folder = Folder::open(Some(folder.path().join("data"))).unwrap();
        std::fs::create_dir(folder.bucket().join("01M81HXMY0XQF1A6MF7S68NK18")).unwrap();
        assert!(folder.kept(&settings(1)).unwrap_err().to_string().contains("not finished"));
    }

    #[test]
    fn a_temporary_folder_goes_with_its_owner() {
        let folder = Folder::open(None).unwrap();
        let path = folder.path().to_owned();
        assert!(path.join("bucket").is_dir());
        drop(folder);
        assert!(!path.exists());
    }
}
