//! A table of requests over the whole HTTP API of the querier, beside Prometheus and a querier of
//! Thanos over the same data: the same status, type of error and shape of data, but for the
//! differences that the table lists with their reasons.

mod raw;
mod requests;
mod summary;

use crate::harness::binaries::binaries;
use crate::harness::fleet::{Component, Maker, query, sidecar_args};
use crate::harness::golden_server::{GoldenBehindSidecar, SERVER_LABEL};
use crate::harness::scratch;
use requests::Request;
use summary::Summary;

const TABLE: &str = include_str!("http_table/requests.txt");

/// Both peers, as the table names them.
const PEERS: [&str; 2] = ["prometheus", "thanos"];

#[test]
fn the_table_covers_every_endpoint_and_what_grafana_asks_for() {
    let requests = requests::parse(TABLE);
    assert!(requests.len() >= 202, "{} requests", requests.len());
    let of_grafana = requests.iter().filter(|r| r.section.starts_with("Grafana")).count();
    assert!(of_grafana >= 51, "{of_grafana} requests of Grafana");
    for path in [
        "query",
        "query_range",
        "query_exemplars",
        "labels",
        "label/",
        "series",
        "metadata",
        "rules",
        "alerts",
        "targets",
        "stores",
        "format_query",
        "parse_query",
        "status/buildinfo",
        "status/flags",
        "status/runtimeinfo",
        "status/config",
        "status/tsdb",
    ] {
        let full = format!("/api/v1/{path}");
        assert!(requests.iter().any(|r| r.target.starts_with(&full)), "{path}");
    }
}

#[test]
fn requests_are_answered_as_by_prometheus_and_thanos_but_for_listed_differences() {
    let Some(binaries) = binaries() else { return };
    let folder = scratch();
    let GoldenBehindSidecar { prometheus, querier: ours, .. } =
        &GoldenBehindSidecar::start(binaries, folder.path());
    let sidecar = Component::start(
        binaries,
        Maker::Thanos,
        folder.path(),
        "sidecar",
        &sidecar_args(prometheus, None),
    );
    let replica_label = format!("--query.replica-label={SERVER_LABEL}");
    let thanos = query(binaries, Maker::Thanos, folder.path(), &[&sidecar.grpc], &[&replica_label]);

    let requests = requests::parse(TABLE);
    let peers = [prometheus.url.as_str(), thanos.http.as_str()];
    let (mut wrong, mut differing) = (Vec::new(), [0, 0]);
    for request in &requests {
        let own = Summary::of(request, raw::ask(&ours.http, request));
        if let Some(flaw) = own.flaw() {
            wrong.push(format!("{}\n  ours {own}: {flaw}", request.name()));
        }
        for (i, peer) in peers.into_iter().enumerate() {
            let theirs = Summary::of(request, raw::ask_following(peer, request));
            let differs = !own.is_like(&theirs, PEERS[i] == "thanos");
            differing[i] += u32::from(differs);
            wrong.extend(judge(request, PEERS[i], differs, [&own, &theirs]));
        }
    }
    let [from_prometheus, from_thanos] = differing;
    println!(
        "{} requests: {from_prometheus} differ from Prometheus, {from_thanos} from Thanos",
        requests.len()
    );
    assert!(wrong.is_empty(), "{} are not as listed:\n{}", wrong.len(), wrong.join("\n"));
}

/// What is wrong with a pair of answers, given what the table says of it.
fn judge(
    request: &Request,
    peer: &str,
    differs: bool,
    [own, theirs]: [&Summary; 2],
) -> Option<String> {
    let listed = request.differences.iter().find(|difference| difference.peer == peer);
    let problem = match listed {
        None if differs => "is not listed",
        Some(listed) if listed.answer == "varies" => return None,
        Some(_) if !differs => "is listed, but there is no difference",
        Some(listed) if listed.answer != theirs.to_string() => "is listed otherwise",
        _ => return None,
    };
    Some(format!("{}\n  {peer} {theirs}: {problem}; ours {own}", request.name()))
}
