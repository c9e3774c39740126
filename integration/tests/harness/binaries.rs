//! The binaries under test: ours, built by cargo now, and the peers, built by Go where they are
//! missing.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, OnceLock, PoisonError};

use serde_json::Value;

use super::root;

/// A Go module in `integration/peers` and what is built from it.
struct Peer {
    module: &'static str,
    name: &'static str,
    package: &'static str,
    flags: &'static [&'static str],
}

const PEERS: [Peer; 4] = [
    Peer {
        module: "prometheus",
        name: "prometheus",
        package: "github.com/prometheus/prometheus/cmd/prometheus",
        flags: &[],
    },
    Peer {
        module: "prometheus",
        name: "promtool",
        package: "github.com/prometheus/prometheus/cmd/promtool",
        flags: &[],
    },
    Peer {
        module: "thanos",
        name: "thanos",
        package: "github.com/thanos-io/thanos/cmd/thanos",
        // without slicelabels it crashes on the first gRPC call
        flags: &[
            "-tags",
            "netgo,slicelabels",
            "-ldflags",
            "-X github.com/prometheus/common/version.Version=0.42.4",
        ],
    },
    Peer { module: "minio", name: "minio", package: "github.com/minio/minio", flags: &[] },
];

#[derive(Debug)]
pub(crate) struct Binaries {
    pub(crate) drumlin: PathBuf,
    peers: PathBuf,
}

#[cfg(feature = "upgrade")]
impl Binaries {
    /// Ours of this state, for tests without peers.
    pub(crate) fn of_this_state() -> Binaries {
        static DRUMLIN: OnceLock<PathBuf> = OnceLock::new();
        Binaries::of_program(DRUMLIN.get_or_init(build_drumlin).clone())
    }

    /// A program that is ours, for tests without peers.
    pub(crate) fn of_program(drumlin: PathBuf) -> Binaries {
        Binaries { drumlin, peers: target_folder().join("peers") }
    }
}

impl Binaries {
    pub(crate) fn prometheus(&self) -> PathBuf {
        self.peers.join("prometheus")
    }

    pub(crate) fn promtool(&self) -> PathBuf {
        self.peers.join("promtool")
    }

    pub(crate) fn thanos(&self) -> PathBuf {
        self.peers.join("thanos")
    }

    pub(crate) fn minio(&self) -> PathBuf {
        self.peers.join("minio")
    }
}

/// Builds what is missing, once. `None` where Go is missing, which prints one line and is a failure
/// in CI.
pub(crate) fn binaries() -> Option<&'static Binaries> {
    static BINARIES: OnceLock<Option<Binaries>> = OnceLock::new();
    BINARIES.get_or_init(build).as_ref()
}

/// Prometheus alone, for tests that evaluate in their own process. `None` as for [`binaries`].
pub(crate) fn prometheus() -> Option<PathBuf> {
    let peers = build_peers(|peer| peer.name == "prometheus")?;
    Some(peers.join("prometheus"))
}

fn build() -> Option<Binaries> {
    let peers = build_peers(|_| true)?;
    Some(Binaries { drumlin: build_drumlin(), peers })
}

/// Builds the wanted peers where they are missing and returns their folder.
fn build_peers(wanted: impl Fn(&Peer) -> bool) -> Option<PathBuf> {
    // one at a time: two builds would write the same files
    static BUILDING: Mutex<()> = Mutex::new(());
    let _building = BUILDING.lock().unwrap_or_else(PoisonError::into_inner);
    let peers = target_folder().join("peers");
    let missing: Vec<&Peer> =
        PEERS.iter().filter(|peer| wanted(peer) && is_outdated(peer, &peers)).collect();
    if !missing.is_empty() && Command::new("go").arg("version").output().is_err() {
        let in_ci = std::env::var_os("CI").is_some_and(|value| value == "true");
        assert!(!in_ci, "go is missing, so the peers cannot be built");
        // bypasses the capture of test output, because it must be seen
        use std::io::Write as _;
        let _ = writeln!(
            std::io::stderr(),
            "peer suite skipped: go is missing, so Prometheus and Thanos cannot be built"
        );
        return None;
    }
    for peer in missing {
        build_peer(peer, &peers);
    }
    Some(peers)
}

/// Whether the binary is not there or older than the versions its module asks for.
fn is_outdated(peer: &Peer, folder: &Path) -> bool {
    let changed = |path: PathBuf| std::fs::metadata(path).and_then(|meta| meta.modified()).ok();
    let module = root().join("integration/peers").join(peer.module).join("go.mod");
    changed(folder.join(peer.name))
        .is_none_or(|built| changed(module).is_some_and(|asked| asked > built))
}

fn build_peer(peer: &Peer, folder: &Path) {
    let output = Command::new("go")
        .args(["build", "-buildvcs=false", "-o"])
        .arg(folder.join(peer.name))
        .args(peer.flags)
        .arg(peer.package)
        .current_dir(root().join("integration/peers").join(peer.module))
        .output()
        .expect("go runs");
    assert!(
        output.status.success(),
        "build {}: {}",
        peer.package,
        String::from_utf8_lossy(&output.stderr)
    );
}

/// `cargo` in the profile of this test, so that its work is shared with the test's own build.
fn cargo(args: &[&str]) -> Vec<Value> {
    let output =
        Command::new(env!("CARGO")).args(args).current_dir(root()).output().expect("cargo runs");
    assert!(output.status.success(), "cargo {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("cargo prints UTF-8");
    text.lines().map(|line| serde_json::from_str(line).expect("cargo prints JSON")).collect()
}

pub(crate) fn target_folder() -> PathBuf {
    let metadata = cargo(&["metadata", "--format-version=1", "--no-deps", "--offline"]);
    PathBuf::from(metadata[0]["target_directory"].as_str().expect("a target folder"))
}

fn build_drumlin() -> PathBuf {
    // The same selection as the test's own build, test target and all: only then are the features
    // of dependencies the same, and nothing is built twice.
    let mut args = vec!["build", "--workspace", "--bin", "drumlin", "--test", "integration"];
    let features =
        if cfg!(feature = "upgrade") { "integration/upgrade" } else { "integration/peers" };
    args.extend(["--features", features, "--locked", "--message-format=json"]);
    if !cfg!(debug_assertions) {
        args.push("--release");
    }
    let messages = cargo(&args);
    let is_ours = |m: &&Value| m["target"]["name"] == "drumlin" && m["executable"].is_string();
    let built = messages.iter().find(is_ours).expect("cargo names the binary");
    PathBuf::from(built["executable"].as_str().expect("a path"))
}
