//! The main job: two clusters with a real Prometheus each, their blocks in one bucket, compacted
//! and downsampled, and one querier over all of it. On a folder, on S3 and on GCS' protocol, with
//! the same assertions.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, ensure};

use crate::harness::answers::same_number;
use crate::harness::binaries::{Binaries, binaries};
use crate::harness::bucket::{Bucket, Kind};
use crate::harness::fleet::{
    Component, Maker, Prometheus, PrometheusSettings, compact_args, external_labels, query,
    sidecar_args, store_args,
};
use crate::harness::process::run;
use crate::harness::synthetic_blocks::START_MS;
use crate::harness::{http, poll, scratch};

/// The backfilled time: 50 hours, so that a block of 2 days is compacted and downsampled and some
/// is left.
const HOURS: u64 = 50;
/// A sample every five minutes.
const STEP_S: u64 = 300;
const SAMPLES: u64 = HOURS * 3600 / STEP_S;
const SERIES: u64 = 8;
const CLUSTERS: [&str; 2] = ["eu", "us"];

/// The value of series `series` at sample `i`: a counter that restarts every 200 samples.
fn backfilled(series: u64, i: u64) -> u64 {
    (i % 200) * (series + 1)
}

/// What a query for the sum of all samples of a cluster must find.
fn backfilled_sum() -> f64 {
    (0..SERIES).flat_map(|series| (0..SAMPLES).map(move |i| backfilled(series, i) as f64)).sum()
}

/// What `increase` over all of it would find if scrapes were continuous: every step up, regardless
/// of resets.
fn backfilled_growth() -> f64 {
    let step = |series: u64, i: u64| {
        let (before, after) = (backfilled(series, i - 1), backfilled(series, i));
        (if after < before { after } else { after - before }) as f64
    };
    (0..SERIES).map(|series| (1..SAMPLES).map(|i| step(series, i)).sum::<f64>()).sum()
}

fn end_of_backfill() -> f64 {
    (START_MS / 1000) as f64 + (HOURS * 3600) as f64 - 1.0
}

/// Blocks made by promtool from OpenMetrics text.
fn backfill(binaries: &Binaries, folder: &Path) -> Vec<std::path::PathBuf> {
    let mut text = "# TYPE backfilled counter\n".to_owned();
    for series in 0..SERIES {
        for i in 0..SAMPLES {
            let t = START_MS as u64 / 1000 + i * STEP_S;
            text.push_str(&format!(
                "backfilled_total{{shard=\"{series}\"}} {} {t}\n",
                backfilled(series, i)
            ));
        }
    }
    text.push_str("# EOF\n");
    std::fs::create_dir_all(folder).expect("a folder for the backfill");
    let (input, output) = (folder.join("backfill.txt"), folder.join("blocks"));
    std::fs::write(&input, text).expect("write the samples");
    let args = ["tsdb", "create-blocks-from", "openmetrics", "--quiet"];
    let files = [input.as_os_str(), output.as_os_str()];
    let args = args.iter().map(std::ffi::OsStr::new).chain(files);
    run(&binaries.promtool(), args).expect_success("backfill");
    let ids = crate::harness::block_ids(&output);
    assert_eq!(ids.len() as u64, HOURS / 2, "a block for every two hours");
    ids.into_iter().map(|id| output.join(id)).collect()
}

/// Serves one counter that grows with every scrape, in the text format.
struct Exporter {
    address: SocketAddr,
    scrapes: Arc<AtomicU64>,
}

impl Exporter {
    fn start() -> Exporter {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let scrapes = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&scrapes);
        // ends with the test process; it only holds its port
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { continue };
                let mut request = [0; 4096];
                let _ = stream.read(&mut request);
                let scrape = counter.fetch_add(1, Ordering::Relaxed) + 1;
                let body =
                    format!("# TYPE exported_scrapes counter\nexported_scrapes_total {scrape}\n");
                let head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain; \
                    version=0.0.4\r\nConnection: close\r\n";
                let _ = write!(stream, "{head}Content-Length: {}\r\n\r\n{body}", body.len());
            }
        });
        Exporter { address, scrapes }
    }
}

/// A cluster: Prometheus with backfilled blocks, cutting its head into blocks of ten seconds.
fn cluster(binaries: &Binaries, folder: &Path, name: &str, exporter: &Exporter) -> Prometheus {
    let folder = folder.join(name);
    let settings = PrometheusSettings {
        external_labels: external_labels(&[("cluster", name), ("replica", "a")]),
        blocks: backfill(binaries, &folder),
        scrape_configs: format!(
            "- job_name: exporter\n  static_configs: [{{targets: ['{}']}}]\n\
             - job_name: drumlin\n  file_sd_configs: [{{files: ['{}'], refresh_interval: 1s}}]\n",
            exporter.address,
            folder.join("targets.json").display()
        ),
        block_duration: "10s".to_owned(),
        ..PrometheusSettings::default()
    };
    Prometheus::start(binaries, &folder, &settings)
}

/// Tells a Prometheus which component of ours to scrape.
fn scrape(prometheus: &Prometheus, component: &Component) {
    let target = component.http.trim_start_matches("http://");
    let file = prometheus.data.parent().expect("a folder").join("targets.json");
    std::fs::write(file, format!("[{{\"targets\": [\"{target}\"]}}]")).expect("write the targets");
}

/// Runs the compactor once.
fn compact(binaries: &Binaries, folder: &Path, bucket: &Bucket) {
    let mut compactor = Component::start_unready(
        binaries,
        Maker::Drumlin,
        folder,
        "compact",
        &compact_args(folder, &bucket.config),
    );
    let status = compactor.process.wait(Duration::from_secs(120));
    assert!(status.success(), "compact: {status}\n{}", compactor.process.log());
}

/// Checks the backfilled data, wherever it is read from.
fn assert_backfill(querier: &str, resolution: &str) {
    let time = end_of_backfill().to_string();
    let window = format!("[{HOURS}h]");
    let ask = |query: &str| -> anyhow::Result<f64> {
        let fields = [("query", query), ("time", &time), ("max_source_resolution", resolution)];
        let body = http::api(querier, "/api/v1/query", &fields)?;
        ensure!(body["status"] == "success" && body["warnings"].is_null(), "{query}: {body}");
        let value = body["data"]["result"][0]["value"][1]
            .as_str()
            .with_context(|| format!("{query}: {body}"))?;
        Ok(value.parse()?)
    };
    for cluster in CLUSTERS {
        let series = format!("backfilled_total{{cluster=\"{cluster}\"}}{window}");
        let count = ask(&format!("sum(count_over_time({series}))")).expect("a count");
        assert_eq!(count, (SAMPLES * SERIES) as f64, "samples of {cluster} at {resolution}");
        let sum = ask(&format!("sum(sum_over_time({series}))")).expect("a sum");
        assert!(same_number(sum, backfilled_sum()), "sum of {cluster} at {resolution}: {sum}");
        let max = ask(&format!("max(max_over_time({series}))")).expect("a maximum");
        assert_eq!(max, (199 * SERIES) as f64, "maximum of {cluster} at {resolution}");
        let growth = ask(&format!("sum(increase({series}))")).expect("an increase");
        let (truth, scrape) = (backfilled_growth(), (1..=SERIES).sum::<u64>() as f64);
        assert!(
            (growth - truth).abs() <= 2.0 * scrape,
            "increase of {cluster} at {resolution}: {growth}, not {truth}"
        );
    }
}

/// Waits for the head's samples: our own metrics and the exporter's.
fn wait_for_head(querier: &str, exporter: &Exporter) {
    poll("the heads' samples are answered", Duration::from_secs(60), || {
        let body =
            http::api(querier, "/api/v1/query", &[("query", "count by (cluster, job) (up == 1)")])?;
        let result = body["data"]["result"].as_array().context("a vector")?;
        ensure!(result.len() == 4, "two jobs of two clusters: {body}");
        let body = http::api(
            querier,
            "/api/v1/query",
            &[("query", "max by (cluster) (exported_scrapes_total)")],
        )?;
        let result = body["data"]["result"].as_array().context("a vector")?;
        ensure!(result.len() == 2, "both clusters scrape the exporter: {body}");
        let most = exporter.scrapes.load(Ordering::Relaxed) as f64;
        for series in result {
            let seen: f64 = series["value"][1].as_str().context("a value")?.parse()?;
            ensure!(seen >= 1.0 && seen <= most, "{seen} of {most} scrapes");
        }
        let own = "count by (cluster) (thanos_sidecar_prometheus_up == 1)";
        let body = http::api(querier, "/api/v1/query", &[("query", own)])?;
        ensure!(
            body["data"]["result"].as_array().is_some_and(|r| r.len() == 2),
            "our own metrics: {body}"
        );
        Ok(())
    });
}

fn main_job(kind: Kind) {
    let Some(binaries) = binaries() else { return };
    let folder = scratch();
    let exporter = Exporter::start();
    let bucket = Bucket::new(kind, binaries, folder.path());
    let clusters = CLUSTERS.map(|name| cluster(binaries, folder.path(), name, &exporter));
    let sidecars: Vec<Component> = clusters
        .iter()
        .zip(CLUSTERS)
        .map(|(prometheus, name)| {
            let args = sidecar_args(prometheus, Some(&bucket.config));
            let sidecar = Component::start(
                binaries,
                Maker::Drumlin,
                &folder.path().join(name),
                "sidecar",
                &args,
            );
            scrape(prometheus, &sidecar);
            sidecar
        })
        .collect();

    // the backfill of both clusters, and from each at least one block cut from its head
    let backfill = 2 * (HOURS / 2) as usize;
    poll("all blocks are uploaded", Duration::from_secs(120), || {
        let complete = bucket.complete_blocks().len();
        ensure!(complete >= backfill + 2, "{complete} blocks");
        Ok(())
    });
    let args = store_args(folder.path(), &bucket.config);
    let store = Component::start(binaries, Maker::Drumlin, folder.path(), "store", &args);
    let endpoints: Vec<&str> =
        sidecars.iter().chain([&store]).map(|component| component.grpc.as_str()).collect();
    let querier = query(
        binaries,
        Maker::Drumlin,
        folder.path(),
        &endpoints,
        &["--query.replica-label=replica"],
    );
    wait_for_head(&querier.http, &exporter);
    assert_backfill(&querier.http, "0s");

    compact(binaries, folder.path(), &bucket);
    let keys = bucket.keys();
    let parquet =
        |key: &&String| key.starts_with("parquet/v1/") && key.ends_with(".samples.parquet");
    assert!(
        keys.iter().filter(parquet).count() >= 2,
        "each cluster's two days are downsampled: {keys:#?}"
    );
    assert!(
        bucket.live_blocks().len() < backfill,
        "blocks were merged: {:?}",
        bucket.live_blocks()
    );
    // everything, and then only what is in the bucket
    assert_backfill(&querier.http, "0s");
    let bucket_only = query(
        binaries,
        Maker::Drumlin,
        &folder.path().join("bucket-only"),
        &[&store.grpc],
        &["--query.replica-label=replica"],
    );
    poll("the store has the compacted blocks", Duration::from_secs(30), || {
        let metrics = store.metrics();
        let loaded = metrics
            .lines()
            .find_map(|l| l.strip_prefix("thanos_bucket_store_blocks_loaded "))
            .context("blocks")?;
        ensure!(loaded.parse::<f64>()? < backfill as f64, "{loaded} blocks are loaded");
        Ok(())
    });
    for resolution in ["0s", "5m"] {
        assert_backfill(&bucket_only.http, resolution);
    }
    assert_eq!(
        http::api(&querier.http, "/api/v1/label/cluster/values", &[]).expect("values")["data"],
        serde_json::json!(CLUSTERS)
    );
}

#[test]
fn main_job_on_a_folder() {
    main_job(Kind::Folder);
}

#[test]
fn main_job_on_s3() {
    main_job(Kind::S3);
}

#[test]
fn main_job_on_gcs() {
    main_job(Kind::Gcs);
}
