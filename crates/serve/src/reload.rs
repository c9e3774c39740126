//! Files that may change while the process runs, and what is made of them.

use std::fmt;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use model::error::in_one_line;
use model::secret::shown_path;
use sha2::{Digest, Sha256};

use crate::{Error, Kind, Result};

/// No certificate, key or configuration is longer.
const MAX_FILE_BYTES: u64 = 4 << 20;

/// One of the files, as it was read.
#[derive(Debug)]
pub struct ReadFile {
    path: PathBuf,
    content: std::result::Result<Vec<u8>, Arc<io::Error>>,
}

impl ReadFile {
    pub(crate) fn read(path: &Path) -> ReadFile {
        let read = || {
            let mut content = Vec::new();
            std::fs::File::open(path)?.take(MAX_FILE_BYTES + 1).read_to_end(&mut content)?;
            if content.len() as u64 > MAX_FILE_BYTES {
                let text = format!("the file is longer than {MAX_FILE_BYTES} bytes");
                return Err(io::Error::new(io::ErrorKind::FileTooLarge, text));
            }
            Ok(content)
        };
        ReadFile { path: path.to_owned(), content: read().map_err(Arc::new) }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// # Errors
    /// `Invalid` when the file could not be read; `what` names it in the error.
    pub fn content(&self, what: &str) -> Result<&[u8]> {
        self.content.as_deref().map_err(|error| {
            let attempt = format!("read {what} {}", shown_path(&self.path));
            Error::caused(Kind::Invalid, attempt, Arc::clone(error))
        })
    }

    fn update(&self, digest: &mut Sha256) {
        let (tag, bytes) = match &self.content {
            Ok(content) => (0_u8, content.clone()),
            Err(error) => (1, error.to_string().into_bytes()),
        };
        digest.update([tag]);
        digest.update((bytes.len() as u64).to_le_bytes());
        digest.update(&bytes);
    }
}

type Make<T> = dyn Fn(&[ReadFile]) -> Result<T> + Send + Sync;

/// What was made of files as they are now. Whether they changed is decided by what they hold,
/// because rotating may keep their times. Files that became unreadable or do not fit together
/// leave the last good version in place: rotating writes several files one after the other.
pub struct Reloader<T> {
    what: &'static str,
    paths: Vec<PathBuf>,
    make: Box<Make<T>>,
    state: Mutex<State<T>>,
}

struct State<T> {
    /// Of the contents that were looked at last; the contents themselves may be secret.
    seen: [u8; 32],
    good: Arc<T>,
    /// Why what was seen last could not be used.
    failure: Option<String>,
}

impl<T> fmt::Debug for Reloader<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reloader").field("what", &self.what).field("paths", &self.paths).finish()
    }
}

impl<T> Reloader<T> {
    /// `make` is given the files in the order of `paths`; `what` names its result in logs.
    ///
    /// # Errors
    /// Those of `make` for the files as they are at the start.
    pub fn new(
        what: &'static str,
        paths: Vec<PathBuf>,
        make: impl Fn(&[ReadFile]) -> Result<T> + Send + Sync + 'static,
    ) -> Result<Reloader<T>> {
        let files = read(&paths);
        let good = Arc::new(make(&files)?);
        let state = Mutex::new(State { seen: digest(&files), good, failure: None });
        Ok(Reloader { what, paths, make: Box::new(make), state })
    }

    pub fn current(&self) -> Arc<T> {
        let files = read(&self.paths);
        let now = digest(&files);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        // what failed is tried again, because it may rest on more than these files
        if now == state.seen && state.failure.is_none() {
            return Arc::clone(&state.good);
        }
        match (self.make)(&files) {
            Ok(good) => {
                tracing::info!(what = self.what, files = %self.named(), "read changed files");
                *state = State { seen: now, good: Arc::new(good), failure: None };
            }
            Err(error) => {
                let text = in_one_line(&error).to_string();
                if now != state.seen || state.failure.as_ref() != Some(&text) {
                    tracing::warn!(
                        what = self.what,
                        error = text,
                        "read changed files, keeping the last good version"
                    );
                }
                (state.seen, state.failure) = (now, Some(text));
            }
        }
        Arc::clone(&state.good)
    }

    fn named(&self) -> String {
        let names: Vec<String> = self.paths.iter().map(|p| p.display().to_string()).collect();
        names.join(",")
    }
}

fn read(paths: &[PathBuf]) -> Vec<ReadFile> {
    paths.iter().map(|path| ReadFile::read(path)).collect()
}

fn digest(files: &[ReadFile]) -> [u8; 32] {
    let mut digest = Sha256::new();
    for file in files {
        file.update(&mut digest);
    }
    digest.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(files: &[ReadFile]) -> Result<i32> {
        let text = String::from_utf8_lossy(files[0].content("number")?).into_owned();
        text.trim().parse().map_err(|e| Error::caused(Kind::Invalid, "read number", e))
    }

    #[test]
    fn contents_count_and_broken_ones_change_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("number");
        let changed = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1000);
        let write = |text: &str| {
            std::fs::write(&path, text).unwrap();
            let file = std::fs::File::options().write(true).open(&path).unwrap();
            file.set_modified(changed).unwrap();
        };
        write("1");
        let reloader = Reloader::new("number", vec![path.clone()], number).unwrap();
        let first = reloader.current();
        assert!(Arc::ptr_eq(&first, &reloader.current()));
        write("2");
        assert_eq!(*reloader.current(), 2);
        write("x");
        assert_eq!(*reloader.current(), 2);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(*reloader.current(), 2);
        write("3");
        assert_eq!(*reloader.current(), 3);
    }

    #[test]
    fn a_file_without_end_is_refused() {
        let error = Reloader::new("number", vec!["/dev/zero".into()], number).unwrap_err();
        assert!(in_one_line(&error).to_string().contains("longer than"), "{error}");
    }

    #[test]
    fn what_rests_on_something_else_is_tried_again() {
        let dir = tempfile::tempdir().unwrap();
        let (path, other) = (dir.path().join("a"), dir.path().join("b"));
        std::fs::write(&path, "1").unwrap();
        let beside = other.clone();
        let make = move |files: &[ReadFile]| match number(files)? {
            1 => Ok(1),
            _ => number(&[ReadFile::read(&beside)]),
        };
        let reloader = Reloader::new("number", vec![path.clone()], make).unwrap();
        std::fs::write(&path, "2").unwrap();
        assert_eq!(*reloader.current(), 1);
        std::fs::write(&other, "7").unwrap();
        assert_eq!(*reloader.current(), 7);
    }
}
