//! Compares what the bucket and the querier say with what the generator knows.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use anyhow::{bail, ensure};
use model::error::in_one_line;
use model::{Labels, Resolution, TimeRange};
use synthetic::{Fleet, Kind, Replica, Truth};

use crate::api::{ApiClient, FloatAnswer, ReadChoice};
use crate::inventory::{Aggregated, Downsampled, SamplesByMetric};

/// Sums are added up in another order than the generator's.
const RELATIVE_ERROR: f64 = 1e-9;
const DAY_MS: i64 = 86_400_000;

/// One thing that has to be true, and whether it is.
#[derive(Debug)]
pub(crate) struct Check {
    name: String,
    /// What was seen, or what is wrong.
    result: anyhow::Result<String>,
}

impl Check {
    fn new(name: impl Into<String>, result: anyhow::Result<String>) -> Check {
        Check { name: name.into(), result }
    }

    pub(crate) fn passed(&self) -> bool {
        self.result.is_ok()
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.result {
            Ok(seen) => write!(f, "ok    {}: {seen}", self.name),
            Err(wrong) => write!(f, "FAIL  {}: {}", self.name, in_one_line(&**wrong)),
        }
    }
}

/// Checks the samples per cluster and metric in raw blocks, stale markers included; `when` names
/// the blocks.
pub(crate) fn raw_samples(
    fleet: &Fleet,
    found: &anyhow::Result<SamplesByMetric>,
    when: &str,
) -> Vec<Check> {
    let expected = counts_of(fleet, |replica| {
        let counts = fleet.counts(replica, TimeRange::ALL).into_iter();
        counts.map(|(metric, c)| (metric.to_owned(), c.samples + c.stale_markers)).collect()
    });
    let compare = |cluster: &str| match found {
        Ok(found) => same_counts(&of_cluster(&expected, cluster), &of_cluster(found, cluster)),
        Err(error) => bail!("{}", in_one_line(&**error)),
    };
    clusters(fleet)
        .map(|name| Check::new(format!("samples of {name} {when}"), compare(name)))
        .collect()
}

fn clusters(fleet: &Fleet) -> impl Iterator<Item = &str> {
    fleet.clusters().iter().map(|cluster| cluster.name())
}

fn counts_of(fleet: &Fleet, count: impl Fn(&Replica) -> BTreeMap<String, u64>) -> SamplesByMetric {
    let replicas = fleet.replicas().iter();
    replicas
        .flat_map(|replica| {
            count(replica)
                .into_iter()
                .map(|(metric, n)| ((replica.external_labels().clone(), metric), n))
        })
        .collect()
}

fn of_cluster(counts: &SamplesByMetric, cluster: &str) -> SamplesByMetric {
    let inside = counts
        .iter()
        .filter(|((external, _), _)| external.get("cluster") == Some(cluster.as_bytes()));
    inside.map(|(key, count)| (key.clone(), *count)).collect()
}

fn same_counts(expected: &SamplesByMetric, found: &SamplesByMetric) -> anyhow::Result<String> {
    ensure!(!expected.is_empty(), "nothing was generated");
    for key @ (external, metric) in expected.keys().chain(found.keys()) {
        let (wanted, got) = (expected.get(key), found.get(key));
        ensure!(wanted == got, "{metric} of {external}: generated {wanted:?}, found {got:?}");
    }
    let metrics: BTreeSet<&String> = expected.keys().map(|(_, metric)| metric).collect();
    let samples: u64 = expected.values().sum();
    Ok(format!("{samples} in {} metrics of each replica, exactly as generated", metrics.len()))
}

/// Compares every series of a resolution with the generator: samples, sum, least and greatest
/// value.
pub(crate) fn downsampled(
    fleet: &Fleet,
    resolution: Resolution,
    found: &anyhow::Result<Downsampled>,
) -> Vec<Check> {
    let found = match found {
        Ok(found) => found,
        Err(error) => {
            return vec![Check::new(
                format!("Parquet of {resolution}"),
                Err(anyhow::anyhow!("{}", in_one_line(&**error))),
            )];
        }
    };
    let mut checks = Vec::new();
    let mut truths = BTreeMap::new();
    for replica in fleet.replicas() {
        let spans = found.spans.get(replica.external_labels());
        for span in joined(spans.map(Vec::as_slice).unwrap_or_default()) {
            truths.extend(fleet.truths(replica, span).into_iter().map(|(series, truth)| {
                let key = (replica.external_labels().clone(), series.labels().clone());
                (key, (series.kind(), truth))
            }));
        }
    }
    for name in clusters(fleet) {
        let in_cluster = |external: &Labels| external.get("cluster") == Some(name.as_bytes());
        let of: Truths =
            truths.iter().filter(|(key, _)| in_cluster(&key.0)).map(|(k, t)| (k, *t)).collect();
        let counts = same_counts(&true_counts(&of), &of_cluster(&found.samples(), name));
        checks.push(Check::new(format!("samples of {name} in Parquet of {resolution}"), counts));
        let aspects: [(&str, Aspect); 3] = [
            ("sums", |seen, truth| close(seen.sum, truth.sum)),
            ("least values", |seen, truth| seen.min == truth.min),
            ("greatest values", |seen, truth| seen.max == truth.max),
        ];
        for (what, equal) in aspects {
            let result = same_series(&of, found, equal);
            checks.push(Check::new(format!("{what} of {name} in Parquet of {resolution}"), result));
        }
    }
    checks
}

type Aspect = fn(&Aggregated, &Truth) -> bool;
type Truths<'a> = BTreeMap<&'a (Labels, Labels), (Kind, Truth)>;

/// Spans that touch as one, so that no truth is asked for twice.
fn joined(spans: &[TimeRange]) -> Vec<TimeRange> {
    let mut sorted = spans.to_vec();
    sorted.sort_by_key(|span| span.start);
    let mut joined: Vec<TimeRange> = Vec::new();
    for span in sorted {
        match joined.last_mut() {
            Some(last) if last.end == span.start => last.end = span.end,
            _ => joined.push(span),
        }
    }
    joined
}

/// A series of which only stale markers fall into the span has no windows.
fn true_counts(truths: &Truths<'_>) -> SamplesByMetric {
    let mut counts = SamplesByMetric::new();
    for ((external, labels), (_, truth)) in
        truths.iter().filter(|(_, (_, truth))| truth.samples > 0)
    {
        let metric = String::from_utf8_lossy(labels.metric_name().unwrap_or_default()).into_owned();
        *counts.entry((external.clone(), metric)).or_default() += truth.samples;
    }
    counts
}

fn same_series(truths: &Truths<'_>, found: &Downsampled, equal: Aspect) -> anyhow::Result<String> {
    let mut compared = 0;
    for (key, (kind, truth)) in truths {
        if *kind == Kind::Histogram || truth.samples == 0 {
            continue;
        }
        let Some(seen) = found.floats.get(*key) else { bail!("{} of {} is missing", key.1, key.0) };
        ensure!(equal(seen, truth), "{} of {}: generated {truth:?}, found {seen:?}", key.1, key.0);
        compared += 1;
    }
    ensure!(compared > 0, "nothing was downsampled");
    Ok(format!("{compared} series as generated"))
}

fn close(a: f64, b: f64) -> bool {
    a == b || (a - b).abs() <= RELATIVE_ERROR * a.abs().max(b.abs())
}

/// Checks the growth of counters over a day, as the querier finds it. It may differ by what one
/// scrape interval holds (per reset: what came between the last scrape before it and the first
/// after it).
pub(crate) async fn increases(fleet: &Fleet, api: &ApiClient) -> Vec<Check> {
    let mut checks = Vec::new();
    for metric in ["node_network_receive_bytes_total", "node_network_transmit_bytes_total"] {
        checks.push(Check::new(
            format!("increase({metric}[1d])"),
            increase(fleet, api, metric).await,
        ));
    }
    checks
}

async fn increase(fleet: &Fleet, api: &ApiClient, metric: &str) -> anyhow::Result<String> {
    let end = fleet.settings().range.end - DAY_MS / 24;
    let day = TimeRange::new(end - DAY_MS, end);
    let answer = api.instant(&format!("increase({metric}[1d])"), end, ReadChoice::RAW).await?;
    let (mut compared, mut worst) = (0, 0.0f64);
    for cluster in fleet.clusters() {
        for series in cluster.series().iter().filter(|series| series.metric() == metric) {
            let truth = fleet.growth(series, day).unwrap_or_default();
            let instance =
                series.labels().get("instance").map(String::from_utf8_lossy).unwrap_or_default();
            let is_it = |s: &&crate::api::FloatSeries| {
                s.label("cluster") == cluster.name() && s.label("instance") == instance
            };
            let Some(seen) = answer.series.iter().find(is_it) else {
                bail!("no answer for {}", series.labels())
            };
            let per_scrape = truth * fleet.settings().scrape_interval_ms as f64 / DAY_MS as f64;
            let off = (seen.value() - truth).abs() / per_scrape;
            let allowed = (1 + fleet.resets(series, day)) as f64;
            ensure!(
                off <= allowed,
                "{}: truly {truth}, answered {}: {off:.2} scrapes",
                series.labels(),
                seen.value()
            );
            (compared, worst) = (compared + 1, worst.max(off));
        }
    }
    ensure!(compared > 0, "no series of {metric}");
    Ok(format!("{compared} series, at most {worst:.2} mean scrape intervals off"))
}

/// Checks that replicas count once when they are deduplicated and twice when they are not.
pub(crate) async fn replicas_once(fleet: &Fleet, api: &ApiClient) -> Vec<Check> {
    let t = fleet.settings().range.end - 60_000;
    let mut checks = Vec::new();
    for cluster in fleet.clusters() {
        let name = cluster.name();
        let up =
            cluster.series().iter().filter(|s| s.metric() == "up" && s.life().contains(t)).count();
        let cluster = Scraped { name, targets: up, replicas: fleet.settings().replicas.len() };
        let result = count_up(api, cluster, t).await;
        checks.push(Check::new(format!("replicas of {name} are counted once"), result));
    }
    checks
}

/// A cluster, and how much of it is scraped at a time.
struct Scraped<'a> {
    name: &'a str,
    targets: usize,
    /// Servers that scrape each of them.
    replicas: usize,
}

async fn count_up(api: &ApiClient, cluster: Scraped<'_>, t: i64) -> anyhow::Result<String> {
    let Scraped { name, targets, replicas } = cluster;
    let query = format!("count(up{{cluster=\"{name}\"}})");
    let once = api.instant(&query, t, ReadChoice::RAW).await?;
    let each = api.instant(&query, t, ReadChoice { dedup: false, ..ReadChoice::RAW }).await?;
    let value = |answer: &FloatAnswer| answer.series.first().map_or(0.0, |series| series.value());
    ensure!(value(&once) == targets as f64, "{} of {targets} targets", value(&once));
    let all = (targets * replicas) as f64;
    ensure!(value(&each) == all, "{} of {all} series without deduplication", value(&each));
    Ok(format!("{targets} targets, {all} series without deduplication"))
}

/// Checks that every query of the Kubernetes list has a complete answer.
pub(crate) async fn kubernetes_queries(fleet: &Fleet, api: &ApiClient) -> Vec<Check> {
    let t = fleet.settings().range.end - 60_000;
    let mut checks = Vec::new();
    for query in synthetic::kubernetes_queries() {
        checks.push(Check::new(query, answered(api, query, t).await));
    }
    checks
}

async fn answered(api: &ApiClient, query: &str, t: i64) -> anyhow::Result<String> {
    let answer = api.instant(query, t, ReadChoice::COARSE).await?;
    ensure!(!answer.series.is_empty(), "no data");
    ensure!(answer.warnings.is_empty(), "incomplete: {}", answer.warnings.join("; "));
    let numbers = answer.series.iter().filter(|series| !series.value().is_nan()).count();
    ensure!(numbers > 0, "only NaN");
    Ok(format!("{} series", answer.series.len()))
}

/// Checks that the clusters are known by their label and that every endpoint is healthy.
pub(crate) async fn topology(fleet: &Fleet, api: &ApiClient) -> Vec<Check> {
    let known = async {
        let values = api.label_values("cluster").await?;
        let expected: Vec<&str> = clusters(fleet).collect();
        ensure!(values == expected, "{values:?} instead of {expected:?}");
        anyhow::Ok(values.join(", "))
    };
    let healthy = async {
        let stores = api.healthy_stores().await?;
        ensure!(stores.get("store").copied() == Some(1), "{stores:?}");
        anyhow::Ok("the store gateway answers".to_owned())
    };
    vec![
        Check::new("label values of cluster", known.await),
        Check::new("endpoints of the querier", healthy.await),
    ]
}

#[cfg(test)]
mod tests;
