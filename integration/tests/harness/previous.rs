//! The binary of an earlier state of this repository, built from its history.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use super::binaries::target_folder;
use super::root;

/// The last state that wrote and read `parquet/1` alone.
const COMMIT: &str = "c294096e5d38c9597d3af8ea101bef802c7990d6";

/// Builds it once, beside the target folder of this state: nothing is shared, so the first build
/// takes as long as any from scratch.
pub(crate) fn previous_drumlin() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(build)
}

fn build() -> PathBuf {
    let folder = target_folder().join("previous");
    let sources = folder.join(COMMIT);
    if !sources.join("Cargo.toml").exists() {
        extract(&folder, &sources);
    }
    let target = folder.join("target");
    // with the warnings that its own compiler had, not those of CI
    let status = Command::new(env!("CARGO"))
        .args(["build", "--locked", "--workspace", "--bin", "drumlin", "--target-dir"])
        .arg(&target)
        .current_dir(&sources)
        .status()
        .expect("cargo runs");
    assert!(status.success(), "building drumlin at {COMMIT}: {status}");
    target.join("debug/drumlin")
}

/// Unpacks the sources of the commit; they appear whole or not at all.
fn extract(folder: &Path, sources: &Path) {
    let is_known = Command::new("git")
        .args(["cat-file", "-e", &format!("{COMMIT}^{{commit}}")])
        .current_dir(root())
        .stderr(Stdio::null())
        .status();
    assert!(
        is_known.is_ok_and(|status| status.success()),
        "the upgrade test needs commit {COMMIT}, which is not in this clone: if it is shallow, run \
         `git fetch --unshallow`; without git and the history of the repository this test cannot run"
    );
    let (archive, partial) = (folder.join("previous.tar"), folder.join("partial"));
    let _ = std::fs::remove_dir_all(&partial);
    std::fs::create_dir_all(&partial).expect("a folder for the sources");
    let out = File::create(&archive).expect("a file for the archive");
    let packed =
        Command::new("git").args(["archive", COMMIT]).current_dir(root()).stdout(out).status();
    assert!(packed.is_ok_and(|status| status.success()), "git archive {COMMIT}");
    let unpacked = Command::new("tar").arg("-xf").arg(&archive).arg("-C").arg(&partial).status();
    assert!(unpacked.is_ok_and(|status| status.success()), "tar -xf {}", archive.display());
    std::fs::rename(&partial, sources).expect("the sources are in place");
}
