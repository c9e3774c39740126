//! Answers recorded from Prometheus and Thanos over the golden blocks.
//!
//! Compared as their README asks: label sets exactly, values within 1e-9 relative, NaN equal to
//! NaN, order only where PromQL defines one. The copies in this repository are a part of the full
//! set, which is used where it is at hand.

mod common;

use common::Asked;
use model::error::in_one_line;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use engine::testing::{TsdbSource, TsdbSourceSettings};
use engine::{Answer, Dedup, Engine, Error, Kind, SeriesSource};
use promql::value::{Grid, Point, PointValue, Value};
use serde_json::Value as Json;

/// Golden data: the full set where it lies beside the repository, else the copies in it.
fn golden(file: &str) -> Option<PathBuf> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let candidates = [
        here.join("../../../shared/data/golden").join(file),
        here.join("tests/data/golden").join(file),
    ];
    candidates.into_iter().find(|p| p.exists())
}

/// All block folders under a folder of golden data.
fn blocks(folder: &Path) -> Vec<PathBuf> {
    let mut blocks: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    blocks.retain(|b| b.join("meta.json").exists());
    blocks.sort();
    blocks
}

/// The time in milliseconds, and either one number, or count and sum of a histogram and four
/// numbers of each bucket: which bounds are inclusive, lower bound, upper bound, count.
type Sample = (i64, Vec<f64>);
/// By labels.
type Samples = BTreeMap<String, Vec<Sample>>;

fn millis(v: &Json) -> i64 {
    (v.as_f64().unwrap() * 1000.0).round() as i64
}

fn number(v: &Json) -> f64 {
    match v.as_str().unwrap() {
        "+Inf" => f64::INFINITY,
        "-Inf" => f64::NEG_INFINITY,
        text => text.parse().unwrap(),
    }
}

fn pair(v: &Json) -> Sample {
    (millis(&v[0]), vec![number(&v[1])])
}

fn recorded_histogram(v: &Json) -> Sample {
    let mut numbers = vec![number(&v[1]["count"]), number(&v[1]["sum"])];
    for bucket in v[1]["buckets"].as_array().into_iter().flatten() {
        numbers.push(bucket[0].as_f64().unwrap());
        numbers.extend((1..4).map(|i| number(&bucket[i])));
    }
    (millis(&v[0]), numbers)
}

fn own_sample(point: &Point) -> Sample {
    let histogram = match &point.value {
        PointValue::Float(v) => return (point.t_ms, vec![*v]),
        PointValue::Histogram(histogram) => histogram,
    };
    let mut numbers = vec![histogram.count, histogram.sum];
    for bucket in histogram.all_buckets().into_iter().filter(|b| b.count != 0.0) {
        let bounds = match (bucket.lower_inclusive, bucket.upper_inclusive) {
            (false, true) => 0.0,
            (true, false) => 1.0,
            (false, false) => 2.0,
            (true, true) => 3.0,
        };
        numbers.extend([bounds, bucket.lower, bucket.upper, bucket.count]);
    }
    (point.t_ms, numbers)
}

fn recorded(data: &Json) -> (Vec<String>, Samples) {
    let result = &data["result"];
    if matches!(data["resultType"].as_str(), Some("scalar" | "string")) {
        return (vec![String::new()], BTreeMap::from([(String::new(), vec![pair(result)])]));
    }
    let mut samples = Samples::new();
    let mut order = Vec::new();
    for series in result.as_array().unwrap() {
        let metric = series["metric"].as_object().unwrap();
        let labels = model::Labels::from_pairs(
            metric.iter().map(|(k, v)| (k.as_str(), v.as_str().unwrap())),
        );
        let list = |key: &str| series.get(key).and_then(Json::as_array).into_iter().flatten();
        let mut points: Vec<Sample> =
            series.get("value").into_iter().chain(list("values")).map(pair).collect();
        points.extend(
            series.get("histogram").into_iter().chain(list("histograms")).map(recorded_histogram),
        );
        points.sort_by_key(|(t, _)| *t);
        order.push(labels.to_string());
        samples.insert(labels.to_string(), points);
    }
    (order, samples)
}

fn answered(answer: &Answer) -> (Vec<String>, Samples) {
    let series = match &answer.value {
        Value::Scalar { t_ms, value } => {
            return (
                vec![String::new()],
                BTreeMap::from([(String::new(), vec![(*t_ms, vec![*value])])]),
            );
        }
        Value::String { t_ms, value } => {
            let value = value.parse().unwrap_or(f64::NAN);
            return (
                vec![String::new()],
                BTreeMap::from([(String::new(), vec![(*t_ms, vec![value])])]),
            );
        }
        Value::Vector(series) | Value::Matrix(series) => series,
    };
    let points =
        |s: &promql::value::ResultSeries| s.points.iter().map(|p| own_sample(&p)).collect();
    let order = series.iter().map(|s| s.labels.to_string()).collect();
    (order, series.iter().map(|s| (s.labels.to_string(), points(s))).collect())
}

fn close(a: f64, b: f64) -> bool {
    a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= 1e-9 * a.abs().max(b.abs())
}

/// Thanos divides the buckets of an averaged histogram again each time it looks at them, so that
/// its answer is not a valid histogram: for those whose buckets do not add up to the count,
/// everything but the bucket counts is compared.
fn same_numbers(expected: &[f64], got: &[f64]) -> bool {
    let is_bucket_count = |i: usize| i >= 2 && (i - 2) % 4 == 3;
    let total: f64 =
        expected.iter().enumerate().filter(|(i, _)| is_bucket_count(*i)).map(|(_, v)| v).sum();
    let spoilt = expected.len() > 2 && (total - expected[0]).abs() > 1e-6 * expected[0].abs();
    expected.len() == got.len()
        && expected
            .iter()
            .zip(got)
            .enumerate()
            .all(|(i, (a, b))| (spoilt && is_bucket_count(i)) || close(*a, *b))
}

fn difference(expected: &Samples, got: &Samples) -> Option<String> {
    for (labels, points) in expected {
        let Some(own) = got.get(labels) else { return Some(format!("no series {labels}")) };
        if own.len() != points.len() {
            return Some(format!("{labels}: {} points, not {}", own.len(), points.len()));
        }
        for (a, b) in points.iter().zip(own) {
            if a.0 != b.0 || !same_numbers(&a.1, &b.1) {
                return Some(format!("{labels}: {b:?}, not {a:?}"));
            }
        }
    }
    got.keys()
        .find(|labels| !expected.contains_key(*labels))
        .map(|labels| format!("series {labels} too much"))
}

/// Whether the order is defined: `topk` may take any of tied series, and only sorts define an
/// order.
fn has_defined_order(query: &str, range: bool) -> bool {
    !range
        && (query.starts_with("sort")
            || query.starts_with("topk(")
            || query.starts_with("bottomk("))
}

fn texts(body: &Json, key: &str) -> Vec<String> {
    let list = body.get(key).and_then(Json::as_array);
    let cut = |t: &Json| t.as_str().unwrap().split(", from buckets").next().unwrap().to_owned();
    list.map(|l| l.iter().map(cut).collect()).unwrap_or_default()
}

fn cut(list: &[String]) -> Vec<String> {
    list.iter().map(|t| t.split(", from buckets").next().unwrap().to_owned()).collect()
}

#[derive(Default)]
struct Tally {
    equal: usize,
    wrong: Vec<String>,
}

fn grid(params: &Json) -> Grid {
    match params.get("time") {
        Some(time) => Grid::instant(millis(time)),
        None => Grid {
            start_ms: millis(&params["start"]),
            end_ms: millis(&params["end"]),
            step_ms: millis(&params["step"]),
        },
    }
}

impl Tally {
    fn check(&mut self, line: &Json, result: Result<Answer, Error>, thanos: bool) {
        let query = line["params"]["query"].as_str().unwrap().to_owned();
        let what = format!("{query} {}", line["params"]);
        let body = &line["body"];
        let fault = match (body["status"].as_str(), result) {
            (Some("success"), Err(error)) => Some(format!("error {}", in_one_line(&error))),
            (Some("success"), Ok(answer)) => self.compare(line, &query, &answer, thanos),
            (_, Ok(_)) => Some(format!("no error, not {}", body["error"])),
            (_, Err(error)) => {
                let text = body["error"].as_str().unwrap();
                let own = in_one_line(&error).to_string();
                let own = match error.kind() {
                    Kind::BadData => ("bad_data", format!("invalid parameter \"query\": {own}")),
                    Kind::Execution => ("execution", own),
                    _ => ("other", own),
                };
                let same =
                    own.0 == body["errorType"].as_str().unwrap() && (thanos || own.1 == text);
                (!same).then(|| format!("error {own:?}, not {text}"))
            }
        };
        match fault {
            None => self.equal += 1,
            Some(fault) => self.wrong.push(format!("{what}: {fault}")),
        }
    }

    fn compare(&self, line: &Json, query: &str, answer: &Answer, thanos: bool) -> Option<String> {
        let body = &line["body"];
        if body["data"]["resultType"] == "string" {
            let Value::String { value, .. } = &answer.value else {
                return Some("no string".to_owned());
            };
            return (body["data"]["result"][1] != value.as_str()).then(|| value.clone());
        }
        let (order, expected) = recorded(&body["data"]);
        let (own_order, own) = answered(answer);
        if let Some(difference) = difference(&expected, &own) {
            return Some(difference);
        }
        // Series of equal values may stand in any order.
        let values =
            |order: &[String]| order.iter().map(|l| format!("{:?}", own[l])).collect::<Vec<_>>();
        if has_defined_order(query, line["params"].get("start").is_some())
            && values(&order) != values(&own_order)
        {
            return Some(format!("order {own_order:?}, not {order:?}"));
        }
        if !thanos
            && (texts(body, "warnings") != cut(&answer.warnings)
                || texts(body, "infos") != cut(&answer.infos))
        {
            return Some(format!("annotations {:?} {:?}", answer.warnings, answer.infos));
        }
        None
    }

    /// Fails on any wrong answer.
    #[expect(clippy::print_stdout, reason = "tests report what they counted")]
    fn finish(self, what: &str) {
        println!("{what}: {} equal, {} wrong", self.equal, self.wrong.len());
        assert!(
            self.wrong.is_empty(),
            "{what}: {} wrong\n{}",
            self.wrong.len(),
            self.wrong.join("\n")
        );
        assert!(self.equal > 0, "{what}: nothing was compared");
    }
}

fn lines(file: &str) -> Vec<Json> {
    let path = golden(file).unwrap();
    let text = std::fs::read_to_string(path).unwrap();
    let mut lines: Vec<Json> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    for line in &mut lines {
        if let Some(text) = line["body"].as_str() {
            line["body"] = serde_json::from_str(text).unwrap();
        }
    }
    lines
}

fn open(folders: &[&str], settings: TsdbSourceSettings) -> Arc<dyn SeriesSource> {
    let blocks = folders.iter().flat_map(|f| blocks(&golden(f).unwrap()));
    Arc::new(TsdbSource::open(blocks, settings).unwrap())
}

const ALL_RAW: [&str; 4] = ["raw/eu-0", "raw/eu-1", "raw/us-0", "raw/us-1"];

fn thanos(
    engine: &Engine,
    file: &str,
    source: &Arc<dyn SeriesSource>,
    dedup: Option<Dedup>,
) -> Tally {
    let mut tally = Tally::default();
    for line in lines(file) {
        let text = line["params"]["query"].as_str().unwrap();
        let asked = Asked { dedup, ..Asked::raw(grid(&line["params"])) };
        let result = common::run(engine, source, text, asked);
        tally.check(&line, result, true);
    }
    tally
}

#[test]
fn prometheus_answers() {
    let engine = common::engine(2, false);
    let source = open(&["raw/eu-0"], TsdbSourceSettings::default());
    let mut tally = Tally::default();
    for line in lines("prometheus_answers.jsonl") {
        let text = line["params"]["query"].as_str().unwrap();
        let result = common::run(&engine, &source, text, Asked::raw(grid(&line["params"])));
        tally.check(&line, result, false);
    }
    tally.finish("prometheus_answers");
}

fn replicas(labels: &[&str]) -> TsdbSourceSettings {
    let replica_labels = labels.iter().map(|l| (*l).to_owned()).collect();
    TsdbSourceSettings { external_labels: true, replica_labels }
}

#[test]
fn thanos_penalty_answers() {
    let source = open(&ALL_RAW, replicas(&["replica"]));
    thanos(
        &common::engine(2, false),
        "thanos_dedup_penalty_answers.jsonl",
        &source,
        Some(Dedup::Penalty),
    )
    .finish("thanos_dedup_penalty");
}

#[test]
fn thanos_chain_answers() {
    let source = open(&ALL_RAW, replicas(&["replica"]));
    thanos(
        &common::engine(2, false),
        "thanos_dedup_chain_answers.jsonl",
        &source,
        Some(Dedup::Chain),
    )
    .finish("thanos_dedup_chain");
}

#[test]
fn thanos_answers_without_dedup() {
    let source = open(&ALL_RAW, replicas(&[]));
    thanos(&common::engine(2, false), "thanos_nodedup_answers.jsonl", &source, None)
        .finish("thanos_nodedup");
}

#[test]
fn thanos_downsampled_answers() {
    if golden("thanos_downsampled_5m_answers.jsonl").is_none() {
        println!("thanos_downsampled: the golden blocks are not there, nothing was compared");
        return;
    }
    let raw = open(&["downsampled"], replicas(&["replica"]));
    for (name, max_resolution_ms) in [("0s", 0), ("5m", 300_000), ("1h", 3_600_000)] {
        let source = open(&["downsampled"], replicas(&["replica"]));
        let file = format!("thanos_downsampled_{name}_answers.jsonl");
        let engine = common::engine(2, false);
        let mut tally = Tally::default();
        for line in lines(&file) {
            let text = line["params"]["query"].as_str().unwrap();
            let grid = grid(&line["params"]);
            let asked = Asked { grid, dedup: Some(Dedup::Penalty), max_resolution_ms };
            let result = common::run(&engine, &source, text, asked);
            if AS_RAW.iter().any(|function| text.contains(function)) {
                let truth = common::run(&engine, &raw, text, Asked::raw(grid)).unwrap();
                assert_eq!(answered(&result.unwrap()), answered(&truth), "{text} at {name}");
            } else if name != "0s" && NEARER.iter().any(|begin| text.starts_with(begin)) {
                let truth = common::run(&engine, &raw, text, Asked::raw(grid)).unwrap();
                are_nearer(
                    &recorded(&line["body"]["data"]).1,
                    &answered(&result.unwrap()).1,
                    &answered(&truth).1,
                );
            } else {
                tally.check(&line, result, true);
            }
        }
        tally.finish(&file);
    }
}

/// Where a range of few windows holds the border of two chunks, Thanos takes the distance of the
/// two samples there as that of all samples, and its result is too small or too large. Its means
/// give windows with few samples the same weight as those with many.
const NEARER: [&str; 2] = ["increase(http_requests_total", "avg_over_time("];

/// Our answers are those of Thanos, or nearer to those of the raw samples.
fn are_nearer(thanos: &Samples, ours: &Samples, raw: &Samples) {
    assert!(!thanos.is_empty() && thanos.keys().eq(ours.keys()), "{:?}", ours.keys());
    for (labels, theirs) in thanos {
        for ((t, theirs), (own_t, own)) in theirs.iter().zip(&ours[labels]) {
            let truth =
                raw[labels].iter().find(|(raw_t, _)| raw_t == t).map_or(f64::NAN, |(_, v)| v[0]);
            let (theirs, own) = (theirs[0], own[0]);
            let same = (theirs - own).abs() <= 1e-9 * theirs.abs();
            assert!(
                t == own_t && (same || (own - truth).abs() < (theirs - truth).abs()),
                "{labels} at {t}: {own}"
            );
        }
    }
}

/// Queries for which our answers are those of the raw samples and Thanos' are not: it evens out
/// resets when it merges replicas, takes quantiles and deviations of averages, and counts windows
/// instead of samples.
const AS_RAW: [&str; 4] =
    ["resets(", "quantile_over_time(", "stddev_over_time(", "count_over_time("];
