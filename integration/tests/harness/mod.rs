//! What the scenarios share: peers and our own binary, processes that end with the test, HTTP,
//! golden data and how answers are compared.

pub(crate) mod answers;
pub(crate) mod binaries;
pub(crate) mod bucket;
pub(crate) mod fleet;
pub(crate) mod golden;
pub(crate) mod golden_server;
pub(crate) mod http;
#[cfg(feature = "upgrade")]
pub(crate) mod previous;
pub(crate) mod process;
pub(crate) mod synthetic_blocks;

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// The root of the repository.
pub(crate) fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// The runtime below the blocking tests: HTTP client and object server.
pub(crate) fn runtime() -> &'static tokio::runtime::Runtime {
    static RUNTIME: OnceLock<tokio::runtime::Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime starts")
    })
}

/// Real time, for deadlines of real processes.
#[expect(clippy::disallowed_methods, reason = "processes under test run in real time")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Asks until there is an answer or `limit` is over; then fails with what the last attempt said.
#[track_caller]
pub(crate) fn poll<T>(
    what: &str,
    limit: Duration,
    mut attempt: impl FnMut() -> anyhow::Result<T>,
) -> T {
    let deadline = now() + limit;
    loop {
        match attempt() {
            Ok(value) => return value,
            Err(error) if now() > deadline => panic!("{what}: not within {limit:?}: {error:#}"),
            Err(_) => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}

/// Copies a folder with everything in it.
pub(crate) fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap_or_else(|e| panic!("create {}: {e}", to.display()));
    for entry in std::fs::read_dir(from).unwrap_or_else(|e| panic!("list {}: {e}", from.display()))
    {
        let entry = entry.expect("a listed entry");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("a type").is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), &target)
                .unwrap_or_else(|e| panic!("copy to {}: {e}", target.display()));
        }
    }
}

/// All files below a folder, sorted, relative to it.
pub(crate) fn files_below(folder: &Path) -> Vec<PathBuf> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        let Ok(entries) = std::fs::read_dir(folder) else { return };
        for entry in entries.flatten() {
            let path = entry.path();
            if path.is_dir() { walk(&path, found) } else { found.push(path) }
        }
    }
    let mut found = Vec::new();
    walk(folder, &mut found);
    let mut relative: Vec<PathBuf> = found
        .iter()
        .map(|path| path.strip_prefix(folder).expect("below the folder").to_owned())
        .collect();
    relative.sort();
    relative
}

/// The names of the folders directly in one that are block ids, sorted.
pub(crate) fn block_ids(folder: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut ids: Vec<String> =
        names.filter(|name| name.parse::<model::BlockId>().is_ok()).collect();
    ids.sort();
    ids
}

/// The folder of one scenario; gone when it ends.
pub(crate) fn scratch() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("drumlin-integration-").tempdir().expect("a temporary folder")
}
