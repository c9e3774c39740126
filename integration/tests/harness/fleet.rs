//! Prometheus, and the components of ours and of Thanos, which take the same flags.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::Value;

use super::binaries::Binaries;
use super::process::{Process, free_port};
use super::{copy_folder, http, poll};

/// Whose component it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Maker {
    Drumlin,
    Thanos,
}

impl Maker {
    pub(crate) fn program(self, binaries: &Binaries) -> PathBuf {
        match self {
            Maker::Drumlin => binaries.drumlin.clone(),
            Maker::Thanos => binaries.thanos(),
        }
    }

    fn name(self, component: &str) -> String {
        format!("{}-{component}", if self == Maker::Drumlin { "drumlin" } else { "thanos" })
    }
}

/// A running Prometheus.
#[derive(Debug)]
pub(crate) struct Prometheus {
    process: Option<Process>,
    program: PathBuf,
    folder: PathBuf,
    args: Vec<String>,
    pub(crate) url: String,
    pub(crate) data: PathBuf,
}

/// What a Prometheus is started with.
#[derive(Clone, Debug, Default)]
pub(crate) struct PrometheusSettings {
    pub(crate) external_labels: Vec<(String, String)>,
    /// Block folders to start from.
    pub(crate) blocks: Vec<PathBuf>,
    /// The YAML below `scrape_configs:`.
    pub(crate) scrape_configs: String,
    /// The length of blocks; 2h where empty.
    pub(crate) block_duration: String,
    /// Further features for `--enable-feature`.
    pub(crate) features: Vec<String>,
}

pub(crate) fn external_labels(labels: &[(&str, &str)]) -> Vec<(String, String)> {
    labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

impl Prometheus {
    pub(crate) fn start(
        binaries: &Binaries,
        folder: &Path,
        settings: &PrometheusSettings,
    ) -> Prometheus {
        Prometheus::start_program(binaries.prometheus(), folder, settings)
    }

    pub(crate) fn start_program(
        program: PathBuf,
        folder: &Path,
        settings: &PrometheusSettings,
    ) -> Prometheus {
        std::fs::create_dir_all(folder).expect("a folder for Prometheus");
        let data = folder.join("data");
        for block in &settings.blocks {
            copy_folder(block, &data.join(block.file_name().expect("a block id")));
        }
        let config = folder.join("prometheus.yml");
        std::fs::write(&config, prometheus_config(settings)).expect("write prometheus.yml");
        let address = format!("127.0.0.1:{}", free_port());
        let duration =
            if settings.block_duration.is_empty() { "2h" } else { &settings.block_duration };
        let mut args = vec![
            format!("--config.file={}", config.display()),
            format!("--storage.tsdb.path={}", data.display()),
            format!("--web.listen-address={address}"),
            "--web.enable-lifecycle".to_owned(),
            "--storage.tsdb.retention.time=100y".to_owned(),
            format!("--storage.tsdb.min-block-duration={duration}"),
            format!("--storage.tsdb.max-block-duration={duration}"),
            "--enable-feature=promql-experimental-functions,promql-per-step-stats".to_owned(),
        ];
        args.extend(settings.features.iter().map(|feature| format!("--enable-feature={feature}")));
        let (url, folder) = (format!("http://{address}"), folder.to_owned());
        let mut prometheus = Prometheus { process: None, program, folder, args, url, data };
        prometheus.resume();
        prometheus
    }

    /// Starts it, or starts it again.
    pub(crate) fn resume(&mut self) {
        let process = Process::start("prometheus", &self.program, &self.folder, &self.args);
        self.process.insert(process).wait_ready(&format!("{}/-/ready", self.url));
    }

    pub(crate) fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.terminate();
        }
    }

    pub(crate) fn pause(&self, paused: bool) {
        self.process.as_ref().expect("a running Prometheus").pause(paused);
    }
}

fn prometheus_config(settings: &PrometheusSettings) -> String {
    let mut yaml = "global:\n  scrape_interval: 1s\n".to_owned();
    if !settings.external_labels.is_empty() {
        yaml.push_str("  external_labels:\n");
        for (name, value) in &settings.external_labels {
            yaml.push_str(&format!("    {name}: '{value}'\n"));
        }
    }
    if !settings.scrape_configs.is_empty() {
        yaml.push_str(&format!("scrape_configs:\n{}", settings.scrape_configs));
    }
    yaml
}

/// A running component of ours or of Thanos.
#[derive(Debug)]
pub(crate) struct Component {
    pub(crate) process: Process,
    /// `http://host:port`.
    pub(crate) http: String,
    /// `host:port`.
    pub(crate) grpc: String,
}

impl Component {
    /// Starts it and waits until it is ready.
    pub(crate) fn start(
        binaries: &Binaries,
        maker: Maker,
        folder: &Path,
        subcommand: &str,
        args: &[String],
    ) -> Component {
        let mut component = Component::start_unready(binaries, maker, folder, subcommand, args);
        component.process.wait_ready(&format!("{}/-/ready", component.http));
        component
    }

    pub(crate) fn start_unready(
        binaries: &Binaries,
        maker: Maker,
        folder: &Path,
        subcommand: &str,
        args: &[String],
    ) -> Component {
        std::fs::create_dir_all(folder).expect("a folder for the component");
        let (http, grpc) =
            (format!("127.0.0.1:{}", free_port()), format!("127.0.0.1:{}", free_port()));
        let mut all = vec![subcommand.to_owned(), format!("--http-address={http}")];
        if subcommand != "compact" {
            all.push(format!("--grpc-address={grpc}"));
        }
        all.extend_from_slice(args);
        let process =
            Process::start(&maker.name(subcommand), &maker.program(binaries), folder, &all);
        Component { process, http: format!("http://{http}"), grpc }
    }

    pub(crate) fn metrics(&self) -> String {
        http::get(&format!("{}/metrics", self.http)).expect("metrics are served").text()
    }
}

pub(crate) fn sidecar_args(prometheus: &Prometheus, objstore: Option<&Path>) -> Vec<String> {
    let mut args = vec![
        format!("--prometheus.url={}", prometheus.url),
        format!("--tsdb.path={}", prometheus.data.display()),
    ];
    args.extend(objstore.map(|file| format!("--objstore.config-file={}", file.display())));
    args
}

pub(crate) fn store_args(folder: &Path, objstore: &Path) -> Vec<String> {
    vec![
        format!("--data-dir={}", folder.join("store-data").display()),
        format!("--objstore.config-file={}", objstore.display()),
        "--sync-block-duration=1s".to_owned(),
    ]
}

pub(crate) fn compact_args(folder: &Path, objstore: &Path) -> Vec<String> {
    vec![
        format!("--data-dir={}", folder.join("compact-data").display()),
        format!("--objstore.config-file={}", objstore.display()),
        "--consistency-delay=0s".to_owned(),
    ]
}

/// Starts a querier and waits until it knows all endpoints to be healthy.
pub(crate) fn query(
    binaries: &Binaries,
    maker: Maker,
    folder: &Path,
    endpoints: &[&str],
    args: &[&str],
) -> Component {
    let mut all: Vec<String> =
        endpoints.iter().map(|endpoint| format!("--endpoint={endpoint}")).collect();
    all.push("--enable-feature=promql-experimental-functions".to_owned());
    all.extend(args.iter().map(|arg| (*arg).to_owned()));
    let querier = Component::start(binaries, maker, folder, "query", &all);
    wait_for_endpoints(&querier.http, endpoints.len());
    querier
}

/// Waits until a querier knows `count` endpoints and none of them has an error.
#[track_caller]
pub(crate) fn wait_for_endpoints(querier: &str, count: usize) {
    poll("the querier finds its endpoints", Duration::from_secs(30), || {
        let body = http::api(querier, "/api/v1/stores", &[])?;
        let kinds = body["data"].as_object().context("endpoints by kind")?;
        let healthy = |entry: &&Value| entry["lastError"].is_null();
        let found = kinds.values().filter_map(Value::as_array).flatten().filter(healthy).count();
        ensure!(found == count, "{found} healthy endpoints: {body}");
        Ok(())
    });
}
