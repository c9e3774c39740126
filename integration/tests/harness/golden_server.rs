//! A real Prometheus over the golden blocks, and what the scenarios put around it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::binaries::Binaries;
use super::bucket::Bucket;
use super::fleet::{
    Component, Maker, Prometheus, PrometheusSettings, external_labels, query, sidecar_args,
};
use super::{copy_folder, golden, poll};

/// The name of the only external label of the golden Prometheus. Queriers treat it as a replica
/// label, so that it is in no answer, just as it is in none that Prometheus itself gave.
pub(crate) const SERVER_LABEL: &str = "server";

pub(crate) fn golden_prometheus(binaries: &Binaries, folder: &Path) -> Prometheus {
    let settings = PrometheusSettings {
        external_labels: external_labels(&[(SERVER_LABEL, "eu-0")]),
        blocks: golden::raw("eu-0")
            .iter()
            .map(|block| without_thanos(block, &folder.join("blocks")))
            .collect(),
        ..PrometheusSettings::default()
    };
    Prometheus::start(binaries, &folder.join("prometheus"), &settings)
}

/// A copy of a block as Prometheus alone would have left it: what a sidecar wrote into `meta.json`
/// is removed.
fn without_thanos(block: &Path, folder: &Path) -> PathBuf {
    let copy = folder.join(block.file_name().expect("a block id"));
    copy_folder(block, &copy);
    let meta = copy.join("meta.json");
    let mut value: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&meta).expect("read meta.json"))
            .expect("meta.json is JSON");
    value.as_object_mut().expect("an object").remove("thanos").expect("a thanos section");
    std::fs::write(&meta, value.to_string()).expect("write meta.json");
    copy
}

/// Waits until the blocks of the golden Prometheus are in the bucket.
pub(crate) fn wait_for_upload(bucket: &Bucket) {
    poll("the golden blocks are uploaded", Duration::from_secs(60), || {
        let complete = bucket.complete_blocks().len();
        anyhow::ensure!(complete == 2, "{complete} blocks");
        Ok(())
    });
}

/// The golden Prometheus, our sidecar beside it and our querier, which asks nothing else.
pub(crate) struct GoldenBehindSidecar {
    pub(crate) prometheus: Prometheus,
    /// Serves as long as this value lives.
    _sidecar: Component,
    pub(crate) querier: Component,
}

impl GoldenBehindSidecar {
    pub(crate) fn start(binaries: &Binaries, folder: &Path) -> GoldenBehindSidecar {
        let prometheus = golden_prometheus(binaries, folder);
        let sidecar = Component::start(
            binaries,
            Maker::Drumlin,
            folder,
            "sidecar",
            &sidecar_args(&prometheus, None),
        );
        let replica_label = format!("--query.replica-label={SERVER_LABEL}");
        let querier = query(binaries, Maker::Drumlin, folder, &[&sidecar.grpc], &[&replica_label]);
        GoldenBehindSidecar { prometheus, _sidecar: sidecar, querier }
    }
}
