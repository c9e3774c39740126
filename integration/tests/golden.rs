//! Our processes, wired as in production, give the answers that were recorded from Prometheus and
//! Thanos.

use std::path::Path;

use crate::harness::answers::{Asked, Source, Tally};
use crate::harness::binaries::{Binaries, binaries};
use crate::harness::bucket::Bucket;
use crate::harness::fleet::{Component, Maker, query, sidecar_args, store_args};
use crate::harness::golden_server::{
    GoldenBehindSidecar, SERVER_LABEL, golden_prometheus, wait_for_upload,
};
use crate::harness::{golden, http, scratch};

#[test]
fn answers_of_prometheus_come_through_sidecar_store_and_querier() {
    let Some(binaries) = binaries() else { return };
    let folder = scratch();
    let prometheus = golden_prometheus(binaries, folder.path());
    let bucket = Bucket::folder(folder.path());
    let args = sidecar_args(&prometheus, Some(&bucket.config));
    let sidecar = Component::start(binaries, Maker::Drumlin, folder.path(), "sidecar", &args);
    wait_for_upload(&bucket);
    let args = store_args(folder.path(), &bucket.config);
    let store = Component::start(binaries, Maker::Drumlin, folder.path(), "store", &args);
    let replica_label = format!("--query.replica-label={SERVER_LABEL}");
    let endpoints = [sidecar.grpc.as_str(), store.grpc.as_str()];
    let querier = query(binaries, Maker::Drumlin, folder.path(), &endpoints, &[&replica_label]);

    let recorded = golden::answers("prometheus_answers");
    assert_eq!(recorded.len(), 334);
    Tally::of(&querier.http, &recorded, Source::Prometheus, Asked::Drumlin)
        .assert_all_equal("prometheus_answers");
}

/// The bucket of all golden replicas behind a store gateway of ours.
fn all_replicas(binaries: &Binaries, folder: &Path) -> (Bucket, Component) {
    let bucket = Bucket::folder(folder);
    for replica in golden::REPLICAS {
        bucket.fill(&golden::raw(replica));
    }
    let store = Component::start(
        binaries,
        Maker::Drumlin,
        folder,
        "store",
        &store_args(folder, &bucket.config),
    );
    (bucket, store)
}

#[test]
fn dedup_answers_and_metadata_of_thanos_come_through_store_and_querier() {
    let Some(binaries) = binaries() else { return };
    let folder = scratch();
    let (_bucket, store) = all_replicas(binaries, folder.path());
    let endpoints = [store.grpc.as_str()];
    let replica_label = "--query.replica-label=replica";
    let querier = query(binaries, Maker::Drumlin, folder.path(), &endpoints, &[replica_label]);
    for (name, count) in [("thanos_dedup_penalty_answers", 110), ("thanos_nodedup_answers", 20)] {
        let recorded = golden::answers(name);
        assert_eq!(recorded.len(), count);
        Tally::of(&querier.http, &recorded, Source::Thanos, Asked::Drumlin).assert_all_equal(name);
    }
    let metadata = golden::answers("thanos_metadata");
    Tally::of(&querier.http, &metadata, Source::Thanos, Asked::Drumlin)
        .assert_all_equal("thanos_metadata");

    let chain = query(
        binaries,
        Maker::Drumlin,
        folder.path(),
        &endpoints,
        &[replica_label, "--deduplication.func=chain"],
    );
    let recorded = golden::answers("thanos_dedup_chain_answers");
    assert_eq!(recorded.len(), 60);
    let tally = Tally::of(&chain.http, &recorded, Source::Thanos, Asked::Drumlin);
    tally.assert_all_equal("thanos_dedup_chain_answers");
}

/// The metadata calls recorded from Prometheus, through a querier that has only its sidecar.
#[test]
fn metadata_of_prometheus_comes_through_the_sidecar() {
    let Some(binaries) = binaries() else { return };
    let folder = scratch();
    let served = GoldenBehindSidecar::start(binaries, folder.path());
    let mut recorded = golden::answers("prometheus_metadata");
    for line in recorded.iter_mut().filter(|line| line.path.ends_with("/labels")) {
        // label calls have no replica labels, in Thanos as here
        let limit = line.field("limit").parse().unwrap_or(usize::MAX);
        let names = line.body["data"].as_array_mut().expect("names");
        if !names.is_empty() {
            names.push(SERVER_LABEL.into());
            names.sort_by_key(ToString::to_string);
            names.truncate(limit);
        }
    }
    assert_eq!(recorded.len(), 9);
    let tally = Tally::of(&served.querier.http, &recorded, Source::Prometheus, Asked::Drumlin);
    tally.assert_all_equal("metadata");
}

#[test]
fn downsampled_answers_of_thanos_come_through_store_and_querier() {
    let Some(binaries) = binaries() else { return };
    let Some(blocks) = golden::downsampled() else {
        println!("skipped: the downsampled golden blocks are not beside the repository");
        return;
    };
    let folder = scratch();
    let bucket = Bucket::folder(folder.path());
    bucket.fill(&blocks);
    let args = store_args(folder.path(), &bucket.config);
    let store = Component::start(binaries, Maker::Drumlin, folder.path(), "store", &args);
    let querier = query(
        binaries,
        Maker::Drumlin,
        folder.path(),
        &[&store.grpc],
        &["--query.replica-label=replica"],
    );
    for resolution in ["0s", "5m", "1h"] {
        let name = format!("thanos_downsampled_{resolution}_answers");
        let recorded = golden::answers(&name);
        assert_eq!(recorded.len(), 52);
        let is_any = |line: &golden::Recorded, begins: &[&str]| {
            begins.iter().any(|b| line.query().starts_with(b))
        };
        let (as_raw, others): (Vec<_>, Vec<_>) =
            recorded.into_iter().partition(|line| is_any(line, &AS_RAW));
        for line in &as_raw {
            let ask = |resolution: &str| {
                let fields = line.fields.iter().map(|(name, value)| {
                    (
                        name.as_str(),
                        if name == "max_source_resolution" { resolution } else { value.as_str() },
                    )
                });
                let fields: Vec<(&str, &str)> = fields.collect();
                http::api(&querier.http, &line.path, &fields).expect("an answer")["data"]["result"]
                    .clone()
            };
            assert_eq!(ask(resolution), ask("0s"), "{} at {resolution}", line.name());
        }
        let left = |line: &golden::Recorded| resolution == "0s" || !is_any(line, &NEARER);
        let others: Vec<_> = others.into_iter().filter(left).collect();
        assert!(others.len() >= 40, "{}", others.len());
        Tally::of(&querier.http, &others, Source::Thanos, Asked::Drumlin).assert_all_equal(&name);
    }
}

/// Queries for which our answers are those of the raw samples and Thanos' are not, at any
/// resolution; the engine's golden test says why and compares them with the raw answers.
const AS_RAW: [&str; 4] =
    ["resets(", "quantile_over_time(", "stddev_over_time(", "count_over_time("];

/// Queries for which ours are sometimes nearer to the raw answers; the engine's golden test checks
/// that.
const NEARER: [&str; 2] = ["increase(http_requests_total", "avg_over_time("];
