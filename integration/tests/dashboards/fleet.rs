//! A whole fleet of one maker, and the Prometheus that watches it.

use std::path::Path;
use std::time::Duration;

use crate::harness::binaries::Binaries;
use crate::harness::bucket::Bucket;
use crate::harness::fleet::{
    Component, Maker, Prometheus, PrometheusSettings, compact_args, query, sidecar_args, store_args,
};
use crate::harness::golden_server::{SERVER_LABEL, golden_prometheus};
use crate::harness::synthetic_blocks::Blocks;
use crate::harness::{http, now};

/// How long the load lasts: some scrapes more than a rate needs.
const LOAD: Duration = Duration::from_secs(15);

/// An instant of the golden data.
const TIME: &str = "1767234600";

pub(super) struct Observed {
    querier: Component,
    pub(super) meta: Prometheus,
    _others: (Prometheus, Bucket, [Component; 3]),
}

impl Observed {
    pub(super) fn start(binaries: &Binaries, maker: Maker, folder: &Path) -> Observed {
        std::fs::create_dir_all(folder).expect("a folder for the fleet");
        let source = golden_prometheus(binaries, folder);
        let bucket = Bucket::folder(folder);
        // four of them become one, since a later one follows
        let blocks = Blocks::write(&folder.join("made"), 1, 5, &["0"]);
        bucket.fill(&blocks.folders);
        let start = |name, args: &[String]| Component::start(binaries, maker, folder, name, args);
        let sidecar = start("sidecar", &sidecar_args(&source, Some(&bucket.config)));
        let store = start("store", &store_args(folder, &bucket.config));
        let replica_label = format!("--query.replica-label={SERVER_LABEL}");
        let endpoints = [sidecar.grpc.as_str(), store.grpc.as_str()];
        let querier = query(binaries, maker, folder, &endpoints, &[&replica_label]);
        let mut args = compact_args(folder, &bucket.config);
        let often = ["--wait", "--wait-interval=1s", "--compact.cleanup-interval=1s"];
        args.extend(often.map(str::to_owned));
        let compactor = start("compact", &args);
        let jobs = [
            ("sidecar", &sidecar),
            ("store", &store),
            ("query", &querier),
            ("compact", &compactor),
        ];
        let settings = PrometheusSettings {
            scrape_configs: jobs.iter().map(|(job, one)| scrape(job, &one.http)).collect(),
            ..PrometheusSettings::default()
        };
        let meta = Prometheus::start(binaries, &folder.join("meta"), &settings);
        Observed { querier, meta, _others: (source, bucket, [sidecar, store, compactor]) }
    }
}

/// A job under the name that the dashboards look for.
fn scrape(component: &str, address: &str) -> String {
    let target = address.strip_prefix("http://").unwrap_or(address);
    format!(
        "- job_name: thanos-{component}\n  static_configs:\n  - targets: ['{target}']\n    \
         labels: {{namespace: monitoring, pod: thanos-{component}-0}}\n"
    )
}

/// Good and bad requests, side by side.
pub(super) fn load(fleets: &[&Observed]) {
    let until = now() + LOAD;
    while now() < until {
        for fleet in fleets {
            for path in requests() {
                // what it answers is compared elsewhere
                http::get(&format!("{}/api/v1/{path}", fleet.querier.http)).expect("an answer");
            }
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn requests() -> Vec<String> {
    let at = |query: &str| format!("query?query={query}&time={TIME}");
    let range = "start=1767231000&end=1767234600&step=60";
    vec![
        at("sum(up)"),
        at("http_requests_total"),
        at("up%20%2B%20on(job)%20up"),
        at("up%7B"),
        format!("{}&timeout=1e-9", at("up")),
        format!("query_range?query=rate(http_requests_total%5B5m%5D)&{range}"),
        format!("query_range?query=up&{range}&timeout=1e-9"),
        "query_range?query=up&start=2&end=1&step=1".to_owned(),
        "labels".to_owned(),
        "label/job/values".to_owned(),
        "series?match%5B%5D=up".to_owned(),
    ]
}
