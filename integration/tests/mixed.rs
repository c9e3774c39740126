//! Fleets that are partly Thanos: each of our components next to each of theirs.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use anyhow::ensure;
use model::{Clock as _, Resolution, SystemClock};
use serde_json::Value;
use tsdb::meta::BlockMeta;

use crate::harness::answers::{Asked, Source, Tally, same_data};
use crate::harness::binaries::{Binaries, binaries};
use crate::harness::bucket::Bucket;
use crate::harness::fleet::{
    Component, Maker, Prometheus, PrometheusSettings, compact_args, external_labels, query,
    sidecar_args, store_args, wait_for_endpoints,
};
use crate::harness::golden::Recorded;
use crate::harness::golden_server::{SERVER_LABEL, golden_prometheus, wait_for_upload};
use crate::harness::process::run;
use crate::harness::synthetic_blocks::Blocks;
use crate::harness::{golden, http, poll, scratch};

/// Queries that Thanos' querier answers differently from Prometheus whatever it reads from, because
/// its PromQL is older.
const THANOS_DIFFERS: &[&str] = &[
    // takes its series by a hash of their labels
    "limit_ratio(0.3, http_requests_total)",
    "histogram_quantiles(sum(rate(rpc_latency_seconds[5m])), \"q\", 0.5, 0.9)",
];

/// The golden Prometheus with a sidecar whose blocks have reached a bucket.
struct Shipped {
    prometheus: Prometheus,
    bucket: Bucket,
    sidecar: Component,
}

fn ship(binaries: &Binaries, maker: Maker, folder: &Path) -> Shipped {
    let prometheus = golden_prometheus(binaries, folder);
    let bucket = Bucket::folder(folder);
    let args = sidecar_args(&prometheus, Some(&bucket.config));
    let sidecar = Component::start(binaries, maker, folder, "sidecar", &args);
    wait_for_upload(&bucket);
    Shipped { prometheus, bucket, sidecar }
}

/// The golden list through one querier over one endpoint.
#[track_caller]
fn golden_list(binaries: &Binaries, folder: &Path, querier: Maker, endpoint: &str, what: &str) {
    golden_list_with(binaries, folder, querier, &[endpoint], what);
}

/// The same, where the endpoint may be followed by flags of the querier.
#[track_caller]
fn golden_list_with(
    binaries: &Binaries,
    folder: &Path,
    querier: Maker,
    endpoint_and_flags: &[&str],
    what: &str,
) {
    let replica_label = format!("--query.replica-label={SERVER_LABEL}");
    let (endpoint, flags) = endpoint_and_flags.split_at(1);
    let flags = [flags, &[replica_label.as_str()]].concat();
    let querier_process = query(binaries, querier, folder, endpoint, &flags);
    let mut recorded = golden::answers("prometheus_answers");
    match querier {
        Maker::Drumlin => {
            let tally =
                Tally::of(&querier_process.http, &recorded, Source::Prometheus, Asked::Drumlin);
            tally.assert_all_equal(what);
        }
        Maker::Thanos => {
            recorded.retain(|line| !THANOS_DIFFERS.contains(&line.query()));
            let tally = Tally::of(&querier_process.http, &recorded, Source::Thanos, Asked::Thanos);
            tally.assert_all_equal(what);
        }
    }
}

#[test]
fn a_thanos_querier_reads_our_sidecar_and_our_store() {
    let Some(binaries) = binaries() else { return };
    let folder = scratch();
    let shipped = ship(binaries, Maker::Drumlin, folder.path());
    let args = store_args(folder.path(), &shipped.bucket.config);
    let store = Component::start(binaries, Maker::Drumlin, folder.path(), "store", &args);
    golden_list(
        binaries,
        folder.path(),
        Maker::Thanos,
        &shipped.sidecar.grpc,
        "thanos query over drumlin sidecar",
    );
    golden_list(
        binaries,
        folder.path(),
        Maker::Thanos,
        &store.grpc,
        "thanos query over drumlin store",
    );
    let theirs = folder.path().join("theirs");
    let args = store_args(&theirs, &shipped.bucket.config);
    let store = Component::start(binaries, Maker::Thanos, &theirs, "store", &args);
    golden_list(
        binaries,
        &theirs,
        Maker::Thanos,
        &store.grpc,
        "thanos store over what drumlin sidecar shipped",
    );
}

#[test]
fn our_querier_reads_a_thanos_sidecar_and_a_thanos_store() {
    let Some(binaries) = binaries() else { return };
    let folder = scratch();
    let shipped = ship(binaries, Maker::Thanos, folder.path());
    let args = store_args(folder.path(), &shipped.bucket.config);
    let store = Component::start(binaries, Maker::Thanos, folder.path(), "store", &args);
    golden_list(
        binaries,
        folder.path(),
        Maker::Drumlin,
        &shipped.sidecar.grpc,
        "drumlin query over thanos sidecar",
    );
    golden_list(
        binaries,
        folder.path(),
        Maker::Drumlin,
        &store.grpc,
        "drumlin query over thanos store",
    );
    let ours = folder.path().join("ours");
    let args = store_args(&ours, &shipped.bucket.config);
    let store = Component::start(binaries, Maker::Drumlin, &ours, "store", &args);
    golden_list(
        binaries,
        &ours,
        Maker::Drumlin,
        &store.grpc,
        "drumlin store over what thanos sidecar shipped",
    );
}

/// Thanos' clients that compress get nothing from servers that cannot unpack; its servers answer
/// compressed to whoever asks compressed.
/// What a store of Thanos would read, read by the querier's process itself.
#[test]
fn our_querier_reads_what_thanos_shipped_without_a_store() {
    let Some(binaries) = binaries() else { return };
    let folder = scratch();
    let shipped = ship(binaries, Maker::Thanos, folder.path());
    let mut args = store_args(folder.path(), &shipped.bucket.config);
    args.push(format!("--query.replica-label={SERVER_LABEL}"));
    args.push("--enable-feature=promql-experimental-functions".to_owned());
    let querier = Component::start(binaries, Maker::Drumlin, folder.path(), "query", &args);
    wait_for_endpoints(&querier.http, 1);
    let recorded = golden::answers("prometheus_answers");
    let tally = Tally::of(&querier.http, &recorded, Source::Prometheus, Asked::Drumlin);
    tally.assert_all_equal("drumlin query with the bucket inside");
}

#[test]
fn snappy_is_spoken_in_both_directions() {
    const SNAPPY: &str = "--grpc-compression=snappy";
    let Some(binaries) = binaries() else { return };
    for (servers, querier) in [(Maker::Drumlin, Maker::Thanos), (Maker::Thanos, Maker::Drumlin)] {
        let folder = scratch();
        let shipped = ship(binaries, servers, folder.path());
        let args = store_args(folder.path(), &shipped.bucket.config);
        let store = Component::start(binaries, servers, folder.path(), "store", &args);
        for endpoint in [&shipped.sidecar.grpc, &store.grpc] {
            let what = format!("{querier:?} query with snappy over {servers:?} at {endpoint}");
            let asked = [endpoint.as_str(), SNAPPY];
            golden_list_with(binaries, folder.path(), querier, &asked, &what);
        }
    }
}

/// What one querier over one endpoint says about labels and series without times, and for selectors
/// that external labels decide.
fn everything_of(binaries: &Binaries, folder: &Path, endpoint: &str, time: &str) -> Vec<Value> {
    let querier = query(binaries, Maker::Drumlin, folder, &[endpoint], &[]);
    let selector = format!("{{{SERVER_LABEL}=\"eu-0\"}}");
    let counted = format!("count({selector})");
    let ask = |(path, fields): (&str, Vec<(&str, &str)>)| {
        let body = http::api(&querier.http, path, &fields).expect("an answer");
        let is_empty = match &body["data"] {
            Value::Array(all) => all.is_empty(),
            data => data["result"].as_array().is_none_or(Vec::is_empty),
        };
        assert!(!is_empty && body["warnings"].is_null(), "{endpoint} {path} {fields:?}: {body}");
        body["data"].clone()
    };
    let asked = [
        ("/api/v1/labels", vec![]),
        ("/api/v1/label/__name__/values", vec![]),
        ("/api/v1/label/server/values", vec![]),
        ("/api/v1/series", vec![("match[]", "up")]),
        ("/api/v1/series", vec![("match[]", selector.as_str())]),
        ("/api/v1/labels", vec![("start", "-9223309901257974"), ("end", "9223309901257974")]),
        ("/api/v1/query", vec![("query", counted.as_str()), ("time", time)]),
    ];
    asked.map(ask).to_vec()
}

#[test]
fn labels_without_times_and_selectors_of_external_labels_are_the_same_over_all_stores() {
    let Some(binaries) = binaries() else { return };
    let folder = scratch();
    let shipped = ship(binaries, Maker::Thanos, folder.path());
    let ours = folder.path().join("ours");
    let args = sidecar_args(&shipped.prometheus, None);
    let sidecar = Component::start(binaries, Maker::Drumlin, &ours, "sidecar", &args);
    let args = store_args(&ours, &shipped.bucket.config);
    let store = Component::start(binaries, Maker::Drumlin, &ours, "store", &args);
    let recorded = golden::answers("prometheus_answers");
    let time = recorded
        .iter()
        .find(|line| line.is_range())
        .expect("a range query")
        .field("end")
        .to_owned();
    let endpoints = [("theirs", &shipped.sidecar), ("sidecar", &sidecar), ("store", &store)];
    let answers = endpoints.map(|(name, endpoint)| {
        let folder = folder.path().join(name);
        std::fs::create_dir_all(&folder).expect("a folder for the querier");
        everything_of(binaries, &folder, &endpoint.grpc, &time)
    });
    assert_eq!(answers[0], answers[1], "their sidecar and ours");
    assert_eq!(answers[1], answers[2], "our sidecar and our store");
}

/// Queries whose answers must be the same from both, at one resolution.
///
/// Over downsampled data, only those that do not depend on which spans are already downsampled:
/// there, PromQL counts windows, and takes increases between them.
fn questions(blocks: &Blocks, resolution: &str) -> Vec<Vec<(String, String)>> {
    let mut queries = Vec::new();
    for function in ["sum_over_time", "max_over_time", "min_over_time"] {
        queries.push(format!("sum by (job) ({function}(node_load1[60h]))"));
        queries.push(format!("sum by (status) ({function}(http_requests_total[60h]))"));
    }
    if resolution == "0s" {
        queries.push("sum by (job) (count_over_time(node_load1[60h]))".to_owned());
        queries.push("sum by (status) (increase(http_requests_total[48h]))".to_owned());
        queries
            .push("sum by (le) (increase(http_request_duration_seconds_bucket[48h]))".to_owned());
        queries.push("count by (job) (up)".to_owned());
    }
    let fields = |query: String| {
        let fields = [
            ("query", query),
            ("time", blocks.end().to_string()),
            ("max_source_resolution", resolution.into()),
        ];
        fields.map(|(name, value)| (name.to_owned(), value)).to_vec()
    };
    queries.into_iter().map(fields).collect()
}

/// The answers of a querier, none of them empty.
#[track_caller]
fn ask(querier: &Component, blocks: &Blocks, resolution: &str) -> Vec<Recorded> {
    let ask = |fields: Vec<(String, String)>| {
        let path = "/api/v1/query".to_owned();
        let answer =
            http::post_form(&format!("{}{path}", querier.http), &fields).expect("an answer");
        let body = answer.json().expect("JSON");
        let recorded = Recorded { path, fields, code: answer.code, body };
        let (name, body) = (recorded.name(), &recorded.body);
        assert!(body["warnings"].is_null(), "{name} at {resolution}: {}", body["warnings"]);
        let found = body["data"]["result"].as_array().map_or(0, Vec::len);
        assert!(found > 0, "{name} at {resolution}: nothing in {body}");
        recorded
    };
    questions(blocks, resolution).into_iter().map(ask).collect()
}

#[track_caller]
fn assert_same_answers(what: &str, want: &[Recorded], got: &[Recorded]) {
    assert_eq!(want.len(), got.len());
    for (want, got) in want.iter().zip(got) {
        same_data(want, &got.body["data"])
            .unwrap_or_else(|e| panic!("{what}: {}: {e:#}", want.name()));
    }
}

/// Runs a compactor once; it has to succeed.
#[track_caller]
pub(crate) fn compact_once(
    binaries: &Binaries,
    maker: Maker,
    folder: &Path,
    bucket: &Bucket,
    args: &[&str],
) {
    let mut all = compact_args(folder, &bucket.config);
    all.extend(args.iter().map(|arg| (*arg).to_owned()));
    let mut compactor = Component::start_unready(binaries, maker, folder, "compact", &all);
    let status = compactor.process.wait(Duration::from_secs(180));
    let log = compactor.process.log();
    assert!(status.success(), "{maker:?} compact: {status}\n{log}");
}

/// A querier with a store gateway over the bucket.
fn reader(
    binaries: &Binaries,
    maker: Maker,
    folder: &Path,
    bucket: &Bucket,
) -> (Component, Component) {
    let folder = folder.join(format!("{maker:?}"));
    let store =
        Component::start(binaries, maker, &folder, "store", &store_args(&folder, &bucket.config));
    let querier =
        query(binaries, maker, &folder, &[&store.grpc], &["--query.replica-label=replica"]);
    (store, querier)
}

/// What our compactor wrote is an ordinary bucket to Thanos: its store serves it, its compactor
/// continues with it, its verifier finds nothing. And what its compactor leaves is an ordinary
/// bucket to us.
#[test]
fn thanos_reads_verifies_and_compacts_what_our_compactor_wrote() {
    let Some(binaries) = binaries() else { return };
    let folder = scratch();
    let blocks = Blocks::write(&folder.path().join("made"), 11, 30, &["a"]);
    let bucket = Bucket::folder(folder.path());
    bucket.fill(&blocks.folders);
    let raw = {
        let (_store, querier) =
            reader(binaries, Maker::Thanos, &folder.path().join("before"), &bucket);
        ask(&querier, &blocks, "0s")
    };

    let both = ["--downsample.format=both"];
    compact_once(binaries, Maker::Drumlin, &folder.path().join("first"), &bucket, &both);
    let written = bucket.live_blocks();
    assert!(written.len() < 30, "nothing was compacted: {written:?}");
    {
        let (_store, thanos) =
            reader(binaries, Maker::Thanos, &folder.path().join("after"), &bucket);
        let (_store, drumlin) =
            reader(binaries, Maker::Drumlin, &folder.path().join("after"), &bucket);
        assert_same_answers("thanos after our compactor", &raw, &ask(&thanos, &blocks, "0s"));
        assert_same_answers("drumlin after our compactor", &raw, &ask(&drumlin, &blocks, "0s"));
        let downsampled = ask(&thanos, &blocks, "5m");
        assert_same_answers("drumlin at 5m", &downsampled, &ask(&drumlin, &blocks, "5m"));
    }

    // what was merged is deleted for good, so that the verifier sees what is left
    let clean = ["--downsample.format=both", "--delete-delay=0s"];
    compact_once(binaries, Maker::Drumlin, &folder.path().join("clean"), &bucket, &clean);
    assert_eq!(bucket.complete_blocks(), written, "marked blocks are deleted, others are not");
    verify(binaries, &bucket);

    // theirs finds nothing left to compact, and ours nothing that theirs undid
    compact_once(binaries, Maker::Thanos, &folder.path().join("second"), &bucket, &[]);
    assert_eq!(bucket.live_blocks(), written, "thanos compact changed our blocks");
    compact_once(binaries, Maker::Drumlin, &folder.path().join("third"), &bucket, &both);
    assert_eq!(bucket.live_blocks(), written, "a second run changed our blocks");
}

/// As if a sidecar of Thanos had uploaded the blocks just now.
fn upload_as_thanos(bucket: &Bucket, blocks: &Blocks) {
    bucket.fill(&blocks.folders);
    for id in bucket.complete_blocks() {
        let path = bucket.path().join(id).join("meta.json");
        let text = std::fs::read(&path).expect("a meta.json");
        let mut meta = BlockMeta::from_json(&text).expect("a block's");
        let thanos = meta.thanos.as_mut().expect("a section of Thanos");
        thanos.extensions = None;
        thanos.set_upload_time(SystemClock::new(|_| Box::pin(std::future::ready(()))).now());
        std::fs::write(&path, meta.to_json()).expect("write it back");
    }
}

/// Who swaps only the compactor keeps stores that do not know Parquet. They miss nothing, until
/// somebody says that there are none.
#[test]
fn a_compactor_of_ours_hides_nothing_from_stores_of_thanos() {
    let Some(binaries) = binaries() else { return };
    let folder = scratch();
    let blocks = Blocks::write(&folder.path().join("made"), 17, 30, &["a"]);
    let bucket = Bucket::folder(folder.path());
    upload_as_thanos(&bucket, &blocks);
    let moved_on = Bucket::folder(&folder.path().join("moved-on"));
    upload_as_thanos(&moved_on, &blocks);
    let downsampled = |bucket: &Bucket| {
        let metas = bucket.live_blocks().into_iter().map(|id| {
            let path = bucket.path().join(id).join("meta.json");
            BlockMeta::from_json(&std::fs::read(path).expect("a meta.json")).expect("a block's")
        });
        metas.filter(|meta| meta.resolution() != Resolution::Raw).count()
    };

    compact_once(binaries, Maker::Drumlin, &folder.path().join("first"), &bucket, &[]);
    assert!(downsampled(&bucket) > 0, "blocks in Thanos' format");
    assert!(bucket.keys().iter().any(|key| key.starts_with("parquet/")), "and Parquet");
    {
        let (_store, thanos) = reader(binaries, Maker::Thanos, folder.path(), &bucket);
        let (_store, drumlin) = reader(binaries, Maker::Drumlin, folder.path(), &bucket);
        let theirs = ask(&thanos, &blocks, "5m");
        assert_same_answers("at 5m", &theirs, &ask(&drumlin, &blocks, "5m"));
    }

    let parquet = ["--downsample.format=parquet"];
    compact_once(binaries, Maker::Drumlin, &folder.path().join("second"), &moved_on, &parquet);
    compact_once(binaries, Maker::Drumlin, &folder.path().join("third"), &moved_on, &[]);
    assert_eq!(downsampled(&moved_on), 0, "the bucket remembers");
}

/// The statistics in our blocks are in nobody's way: Thanos' compactor downloads such blocks whole to
/// downsample them, its tools copy them without, and ours works on the copy as on any other.
#[test]
fn statistics_in_our_blocks_are_in_nobodys_way() {
    let Some(binaries) = binaries() else { return };
    let folder = scratch();
    let blocks = Blocks::write(&folder.path().join("made"), 13, 30, &["a"]);
    let bucket = Bucket::folder(&folder.path().join("one"));
    bucket.fill(&blocks.folders);
    let raw_only = ["--downsampling.disable", "--delete-delay=0s"];
    compact_once(binaries, Maker::Drumlin, &folder.path().join("first"), &bucket, &raw_only);
    compact_once(binaries, Maker::Drumlin, &folder.path().join("clean"), &bucket, &raw_only);
    let ours: BTreeSet<String> = bucket.live_blocks().into_iter().collect();
    let with_statistics = |bucket: &Bucket| {
        let keys = bucket.keys();
        keys.iter().filter(|key| key.ends_with("/statistics.parquet")).count()
    };
    assert!(with_statistics(&bucket) > 1, "{:?}", bucket.keys());

    let copy = Bucket::folder(&folder.path().join("other"));
    let from = format!("--objstore.config-file={}", bucket.config.display());
    let to = format!("--objstore-to.config-file={}", copy.config.display());
    let args = ["tools", "bucket", "replicate", "--single-run"].map(str::to_owned);
    let levels = (1..=4).map(|level| format!("--compaction={level}"));
    let args = args.into_iter().chain([from, to]).chain(levels);
    run(&binaries.thanos(), args).expect_success("thanos tools bucket replicate");
    assert_eq!(copy.live_blocks(), bucket.live_blocks());
    assert_eq!(with_statistics(&copy), 0, "replicate copies them now");
    compact_once(binaries, Maker::Drumlin, &folder.path().join("third"), &copy, &[]);
    let left: BTreeSet<String> = copy.live_blocks().into_iter().collect();
    assert!(ours.is_subset(&left), "a copy without statistics lost {ours:?}, left is {left:?}");

    compact_once(binaries, Maker::Thanos, &folder.path().join("second"), &bucket, &[]);
    let now: BTreeSet<String> = bucket.live_blocks().into_iter().collect();
    assert!(ours.is_subset(&now) && ours.len() < now.len(), "{ours:?} were not downsampled");
    verify(binaries, &bucket);
}

/// `thanos tools bucket verify` with every check it has.
#[track_caller]
fn verify(binaries: &Binaries, bucket: &Bucket) {
    let config = format!("--objstore.config-file={}", bucket.config.display());
    let issues = ["index_known_issues", "overlapped_blocks", "duplicated_compaction"]
        .map(|i| format!("--issues={i}"));
    let args = ["tools", "bucket", "verify"]
        .map(str::to_owned)
        .into_iter()
        .chain([config])
        .chain(issues.clone());
    let verified = run(&binaries.thanos(), args).expect_success("thanos tools bucket verify");
    let found: Vec<&str> = verified
        .errors
        .lines()
        .filter(|l| l.contains("level=warn") || l.contains("level=error"))
        .collect();
    assert!(found.is_empty(), "thanos tools bucket verify: {found:#?}");
    let started = verified.errors.matches("started verifying issue").count();
    let completed = verified.errors.contains("verify task completed");
    assert!(started == issues.len() && completed, "all checks ran: {}", verified.errors);
}

/// A bucket with the blocks of one replica as our sidecar shipped them.
fn shipped_by_us(binaries: &Binaries, folder: &Path, blocks: &Blocks) -> Bucket {
    let settings = PrometheusSettings {
        external_labels: external_labels(&[("cluster", "eu"), ("replica", "a")]),
        blocks: blocks.folders.clone(),
        ..PrometheusSettings::default()
    };
    let prometheus = Prometheus::start(binaries, &folder.join("prometheus"), &settings);
    let bucket = Bucket::folder(folder);
    let args = sidecar_args(&prometheus, Some(&bucket.config));
    let _sidecar = Component::start(binaries, Maker::Drumlin, folder, "sidecar", &args);
    poll("all blocks are shipped", Duration::from_secs(120), || {
        let complete = bucket.complete_blocks().len();
        ensure!(complete == blocks.folders.len(), "{complete} blocks");
        Ok(())
    });
    bucket
}

/// The opposite direction: Thanos' compactor works on what our sidecar shipped, and our components
/// continue with what it wrote.
#[test]
fn we_read_and_compact_what_the_compactor_of_thanos_wrote() {
    let Some(binaries) = binaries() else { return };
    let folder = scratch();
    let blocks = Blocks::write(&folder.path().join("made"), 12, 30, &["a"]);
    let bucket = shipped_by_us(binaries, folder.path(), &blocks);
    let raw = {
        let (_store, querier) =
            reader(binaries, Maker::Thanos, &folder.path().join("before"), &bucket);
        ask(&querier, &blocks, "0s")
    };
    compact_once(binaries, Maker::Thanos, &folder.path().join("first"), &bucket, &[]);
    let (_store, thanos) = reader(binaries, Maker::Thanos, &folder.path().join("after"), &bucket);
    let downsampled = ask(&thanos, &blocks, "5m");
    {
        let (_store, drumlin) =
            reader(binaries, Maker::Drumlin, &folder.path().join("after"), &bucket);
        assert_same_answers("drumlin after thanos compact", &raw, &ask(&drumlin, &blocks, "0s"));
        assert_same_answers("drumlin at 5m of thanos", &downsampled, &ask(&drumlin, &blocks, "5m"));
    }
    let left: BTreeSet<String> = bucket.live_blocks().into_iter().collect();
    compact_once(binaries, Maker::Drumlin, &folder.path().join("second"), &bucket, &[]);
    let now: BTreeSet<String> = bucket.live_blocks().into_iter().collect();
    assert!(left.is_subset(&now), "our compactor took blocks away: {left:?}, now {now:?}");
    let (_store, drumlin) = reader(binaries, Maker::Drumlin, &folder.path().join("last"), &bucket);
    assert_same_answers("drumlin after both compactors", &raw, &ask(&drumlin, &blocks, "0s"));
    assert_same_answers("drumlin at 5m after both", &downsampled, &ask(&drumlin, &blocks, "5m"));
}
