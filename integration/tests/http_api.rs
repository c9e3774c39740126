//! What the HTTP API reports about a query besides its value is what Prometheus reports: tree,
//! layout, statistics.

use serde_json::Value;

use crate::harness::binaries::binaries;
use crate::harness::fleet::{Maker, query};
use crate::harness::golden_server::{GoldenBehindSidecar, golden_prometheus};
use crate::harness::{golden, http, scratch};

/// Each kind of node, and texts that are broken into lines.
const EXPRESSIONS: &[&str] = &[
    "1",
    "-1",
    "+Inf",
    "NaN",
    "1h30m",
    "0x1F",
    "\"a \\\"string\\\"\"",
    "up",
    "{\"odd name\", \"odd.label\"=~\"x.*\", job!=\"\"}",
    "up{job!~\"a|b\"} @ 12.345 offset -5m",
    "up @ start()",
    "rate(http_requests_total{job=\"api\"}[5m] @ end() offset 1h)",
    "-up",
    "+(up)",
    "sum(up)",
    "sum without (instance, \"odd.label\") (up)",
    "topk by (job) (3, up)",
    "count_values(\"version\", build_info)",
    "quantile(0.9, up)",
    "limitk(2, up)",
    "1 + 2 * 3 ^ 2 ^ 0.5",
    "a and b or c unless on (job) d",
    "a * on (job, instance) group_left (version) b",
    "a / ignoring (code) group_right () b",
    "a == bool 1",
    "a atan2 b",
    "max_over_time(rate(up[5m])[1h:30s] @ 100 offset 10m)",
    "up[1h:]",
    "time()",
    "label_join(up, \"dst\", \",\", \"a\", \"b\")",
    "round(up)",
    "histogram_quantile(0.9, sum by (le, namespace, handler) \
     (rate(http_request_duration_seconds_bucket[5m])))",
    "sum by (namespace) (rate(http_requests_total{status=~\"5..\"}[5m])) / sum by (namespace) \
     (rate(http_requests_total[5m])) > 0.05",
    "max_over_time((sum by (namespace) (rate(http_requests_total[5m])) / on (namespace) group_left \
     () sum(http_requests_total))[1d:5m])",
    "label_replace(avg by (namespace) (rate(http_request_duration_seconds_sum[5m])), \
     \"destination\", \"$1\", \"namespace\", \"(.*)\")",
    "-(sum by (namespace) (rate(http_requests_total{status=~\"5..\"}[5m])) + sum by (namespace) \
     (rate(http_requests_total[5m])))",
    // errors
    "",
    "up{",
    "sum(",
    "rate(up)",
    "1 + \"a\"",
];

#[test]
fn expressions_are_parsed_and_formatted_as_prometheus_does() {
    let Some(binaries) = binaries() else { return };
    let folder = scratch();
    let prometheus = golden_prometheus(binaries, folder.path());
    let querier = query(binaries, Maker::Drumlin, folder.path(), &[], &[]);
    for path in ["/api/v1/parse_query", "/api/v1/format_query"] {
        for expression in EXPRESSIONS {
            let ask = |server: &str| -> (u16, Value) {
                let fields = [("query".to_owned(), (*expression).to_owned())];
                let answer =
                    http::post_form(&format!("{server}{path}"), &fields).expect("an answer");
                (answer.code, answer.json().expect("JSON"))
            };
            assert_eq!(ask(&querier.http), ask(&prometheus.url), "{path} {expression}");
        }
    }
}

/// What is counted depends on what reads the samples, and on its place in the query.
const COUNTED: &[&str] = &[
    "http_requests_total",
    "sum by (namespace) (http_requests_total)",
    "rate(http_requests_total[5m])",
    "sum(rate(http_requests_total[5m])) / sum(http_requests_total)",
    "rate(http_requests_total[20s])",
    "increase(http_requests_total[1h] offset 10m)",
    "http_requests_total @ end()",
    "sum(http_requests_total @ start()) + rate(http_requests_total[5m])",
    "rate(http_requests_total[5m] @ end())",
    "predict_linear(http_requests_total[5m] @ end(), 60)",
    "timestamp(http_requests_total)",
    "absent_over_time(nonexistent[5m])",
    "max_over_time(http_requests_total[10m:1m])",
    "max_over_time(rate(http_requests_total[5m])[10m:1m] offset 5m)",
    "avg_over_time(sum(http_requests_total)[1m:30s])",
    "max_over_time(min_over_time(http_requests_total[2m:1m])[10m:2m])",
    "max_over_time(http_requests_total[10m:1m] @ end())",
    "rpc_latency_seconds",
    "rate(rpc_latency_seconds[5m])",
    "histogram_count(sum(rate(rpc_latency_seconds[10m])))",
    "sum_over_time(queue_age_seconds[10m])",
    "topk(scalar(count(http_requests_total)) - 1, http_requests_total) or vector(1)",
    "quantile_over_time(0.5, http_requests_total[5m]) > bool 1",
    "1 + 2",
];

#[test]
fn samples_are_counted_as_prometheus_counts_them() {
    let Some(binaries) = binaries() else { return };
    let folder = scratch();
    let GoldenBehindSidecar { prometheus, querier, .. } =
        &GoldenBehindSidecar::start(binaries, folder.path());
    let recorded = golden::answers("prometheus_answers");
    let range = recorded.iter().find(|line| line.is_range()).expect("a range query");
    let times =
        ["start", "end", "step"].map(|name| (name.to_owned(), range.field(name).to_owned()));
    let mut differing = Vec::new();
    let (mut compared, mut same_peaks) = (0, 0);
    let instant = |text: &&'static str| {
        ("/api/v1/query", *text, vec![("time".to_owned(), range.field("end").to_owned())])
    };
    let ranges = COUNTED.iter().map(|text| ("/api/v1/query_range", *text, times.to_vec()));
    let instants =
        COUNTED.iter().chain(&["http_requests_total[5m]", "rpc_latency_seconds[5m]"]).map(instant);
    let subquery: [&'static str; 2] =
        ["(http_requests_total @ 1)[5m:1m]", "rate(http_requests_total[5m])[10m:1m]"];
    for (path, text, mut fields) in ranges.chain(instants).chain(subquery.iter().map(instant)) {
        fields.extend([
            ("query".to_owned(), text.to_owned()),
            ("stats".to_owned(), "all".to_owned()),
        ]);
        let ask = |server: &str| -> Value {
            let answer = http::post_form(&format!("{server}{path}"), &fields).expect("an answer");
            let mut samples = answer.json().expect("JSON")["data"]["stats"]["samples"].take();
            assert!(samples.is_object(), "{text}: {}", answer.text());
            samples["peak"] = samples["peakSamples"].take();
            samples
        };
        let (mut own, mut theirs) = (ask(&querier.http), ask(&prometheus.url));
        compared += 1;
        same_peaks += u32::from(own["peak"].take() == theirs["peak"].take());
        if own != theirs {
            differing.push(format!("{path} {text}\n  ours       {own}\n  prometheus {theirs}"));
        }
    }
    println!("{compared} queries, {same_peaks} with the same peak");
    assert!(
        differing.is_empty(),
        "{} of {compared} differ:\n{}",
        differing.len(),
        differing.join("\n")
    );
}
