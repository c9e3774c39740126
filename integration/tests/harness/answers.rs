//! How an answer is compared with a recorded one.
//!
//! Label sets exactly, values within 1e-9 relative (sums may be taken in another order), NaN equal
//! to NaN, order only where PromQL defines one, texts of parse errors exactly. Prometheus' texts
//! count; from Thanos, only code and type of errors do, because it words some of them differently.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use super::golden::Recorded;
use super::http;

/// Who recorded the answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Prometheus,
    Thanos,
}

/// Who is asked now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    Drumlin,
    Thanos,
}

/// The results for a list of recorded answers.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) equal: usize,
    pub(crate) wrong: Vec<String>,
}

impl Tally {
    /// Asks everything in `recorded` of the server at `base`.
    pub(crate) fn of(base: &str, recorded: &[Recorded], source: Source, asked: Asked) -> Tally {
        let mut tally = Tally::default();
        for line in recorded {
            match check(base, line, source, asked) {
                Ok(()) => tally.equal += 1,
                Err(error) => tally.wrong.push(format!("{}: {error:#}", line.name())),
            }
        }
        tally
    }

    #[track_caller]
    pub(crate) fn assert_all_equal(&self, what: &str) {
        println!("{what}: {} equal", self.equal);
        let wrong = &self.wrong;
        assert!(
            wrong.is_empty(),
            "{what}: {} wrong, {} equal:\n{}",
            wrong.len(),
            self.equal,
            wrong.join("\n")
        );
        assert!(self.equal > 0, "{what}: nothing was compared");
    }
}

fn check(base: &str, line: &Recorded, source: Source, asked: Asked) -> Result<()> {
    let url = format!("{base}{}", line.path);
    let answer = if line.path.ends_with("/values") {
        http::get(&format!("{url}?{}", http::encode(&line.fields)))?
    } else {
        http::post_form(&url, &line.fields)?
    };
    let body = answer.json()?;
    ensure!(answer.code == line.code, "code {}, not {}: {}", answer.code, line.code, short(&body));
    ensure!(body["status"] == line.body["status"], "status {}", body["status"]);
    if line.body["status"] == "error" {
        same_error(line, &body, source)?;
    } else if line.path.contains("/query") {
        same_data(line, &body["data"]).with_context(|| format!("got {}", short(&body)))?;
        if asked == Asked::Drumlin {
            same_annotations(line, &body, source)?;
        }
    } else {
        same_metadata(&line.body["data"], &body["data"])?;
    }
    Ok(())
}

fn short(body: &Value) -> String {
    body.to_string().chars().take(400).collect()
}

fn same_error(line: &Recorded, body: &Value, source: Source) -> Result<()> {
    let (want, got) = (&line.body, body);
    ensure!(
        got["errorType"] == want["errorType"],
        "error type {}, not {}",
        got["errorType"],
        want["errorType"]
    );
    if source == Source::Prometheus {
        let text = |body: &Value| body["error"].as_str().map(unordered).unwrap_or_default();
        ensure!(text(got) == text(want), "error {}, not {}", got["error"], want["error"]);
    }
    Ok(())
}

/// The text with the series that it lists in a fixed order: matching errors name two in any order.
fn unordered(text: &str) -> Vec<String> {
    let (Some(open), Some(close)) = (text.find('['), text.rfind(']')) else {
        return vec![text.to_owned()];
    };
    let mut parts: Vec<String> =
        text[open + 1..close].split("}, ").map(|s| s.trim_end_matches('}').into()).collect();
    parts.sort();
    parts.extend([text[..open].to_owned(), text[close..].to_owned()]);
    parts
}

/// Compares warnings and infos; Thanos has no infos and reports them among the warnings, without
/// positions.
fn same_annotations(line: &Recorded, body: &Value, source: Source) -> Result<()> {
    let texts = |body: &Value, keys: &[&str]| -> BTreeSet<String> {
        let list =
            keys.iter().filter_map(|key| body[*key].as_array()).flatten().filter_map(Value::as_str);
        // three infos count samples in a way that only Prometheus' own merge produces
        let cut = list.map(|text| text.split(", from buckets").next().unwrap_or_default());
        let position = if source == Source::Thanos { " (1:" } else { "\n" };
        cut.map(|text| text.split(position).next().unwrap_or_default().to_owned()).collect()
    };
    if source == Source::Prometheus {
        for key in ["warnings", "infos"] {
            let (want, got) = (texts(&line.body, &[key]), texts(body, &[key]));
            ensure!(want == got, "{key} {got:?}, not {want:?}");
        }
        return Ok(());
    }
    let (want, got) =
        (texts(&line.body, &["warnings", "infos"]), texts(body, &["warnings", "infos"]));
    // what Thanos' older PromQL does not say, and what only we do
    let of_ours =
        |text: &&String| text.contains("sort is ineffective") || text.starts_with("served ");
    ensure!(want.is_subset(&got), "annotations {got:?}, not {want:?}");
    let surplus: Vec<&String> = got.difference(&want).filter(|text| !of_ours(text)).collect();
    ensure!(surplus.is_empty(), "annotations {surplus:?} too much");
    Ok(())
}

/// Compares what a query gave.
pub(crate) fn same_data(line: &Recorded, got: &Value) -> Result<()> {
    let want = &line.body["data"];
    ensure!(
        got["resultType"] == want["resultType"],
        "type {}, not {}",
        got["resultType"],
        want["resultType"]
    );
    let (want, got) = (&want["result"], &got["result"]);
    if !matches!(line.body["data"]["resultType"].as_str(), Some("vector" | "matrix")) {
        return close(want, got);
    }
    if let Err(difference) = same_series(want, got) {
        // they may take any of tied series
        let chooses = ["topk(", "bottomk(", "limitk(", "limit_ratio("]
            .iter()
            .any(|f| line.query().contains(f));
        if !chooses || points(want) != points(got) {
            return Err(difference);
        }
    }
    if has_defined_order(line) {
        // tied series may stand in any order
        let values = |result: &Value| -> Vec<String> {
            result
                .as_array()
                .into_iter()
                .flatten()
                .map(|series| series["value"][1].to_string())
                .collect()
        };
        ensure!(values(want) == values(got), "order {:?}, not {:?}", values(got), values(want));
    }
    Ok(())
}

fn has_defined_order(line: &Recorded) -> bool {
    !line.is_range()
        && ["sort", "topk(", "bottomk("].iter().any(|start| line.query().starts_with(start))
}

/// The points of all series, however they are spread over them.
fn points(result: &Value) -> Vec<String> {
    let all = result.as_array().into_iter().flatten().flat_map(|series| {
        let many = series["values"].as_array().into_iter().flatten();
        series.get("value").into_iter().chain(many).map(Value::to_string).collect::<Vec<_>>()
    });
    let mut points: Vec<String> = all.collect();
    points.sort();
    points
}

/// Series by their labels.
fn by_labels(result: &Value) -> Result<BTreeMap<String, &Value>> {
    let mut series = BTreeMap::new();
    for entry in result.as_array().context("a list of series")? {
        let metric = entry["metric"].as_object().context("labels")?;
        let labels: BTreeMap<&str, String> =
            metric.iter().map(|(k, v)| (k.as_str(), v.to_string())).collect();
        let labels = format!("{labels:?}");
        ensure!(series.insert(labels.clone(), entry).is_none(), "{labels} twice");
    }
    Ok(series)
}

fn same_series(want: &Value, got: &Value) -> Result<()> {
    let (want, got) = (by_labels(want)?, by_labels(got)?);
    for (labels, series) in &want {
        let own = got.get(labels).with_context(|| format!("no series {labels}"))?;
        for key in ["value", "values", "histogram", "histograms"] {
            let (mut want, mut got) = (series[key].clone(), own[key].clone());
            forget_spoilt_buckets(&mut want, &mut got);
            close(&want, &got).with_context(|| format!("{labels} {key}"))?;
        }
    }
    match got.keys().find(|labels| !want.contains_key(*labels)) {
        Some(labels) => bail!("series {labels} too much"),
        None => Ok(()),
    }
}

/// Thanos divides the buckets of an averaged histogram again each time it looks at them, so that
/// its answer is not a valid histogram: for those whose buckets do not add up to the count,
/// everything but the bucket counts is compared.
fn forget_spoilt_buckets(want: &mut Value, got: &mut Value) {
    if let (Value::Array(want), Value::Array(got)) = (&mut *want, &mut *got) {
        want.iter_mut().zip(got).for_each(|(want, got)| forget_spoilt_buckets(want, got));
        return;
    }
    let number = |v: &Value| v.as_str().and_then(as_number).unwrap_or(f64::NAN);
    let buckets = want["buckets"].as_array().into_iter().flatten();
    let (total, count) =
        (buckets.map(|bucket| number(&bucket[3])).sum::<f64>(), number(&want["count"]));
    if want["buckets"].is_array() && (total - count).abs() > 1e-6 * count {
        for histogram in [want, got] {
            for bucket in histogram["buckets"].as_array_mut().into_iter().flatten() {
                bucket[3] = Value::Null;
            }
        }
    }
}

fn as_number(text: &str) -> Option<f64> {
    match text {
        "+Inf" => Some(f64::INFINITY),
        "-Inf" => Some(f64::NEG_INFINITY),
        _ => text.parse().ok(),
    }
}

/// Compares samples and everything in them.
fn close(want: &Value, got: &Value) -> Result<()> {
    match (want, got) {
        (Value::Array(a), Value::Array(b)) => {
            ensure!(a.len() == b.len(), "{} entries, not {}", b.len(), a.len());
            a.iter().zip(b).try_for_each(|(a, b)| close(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            ensure!(a.len() == b.len(), "{got}, not {want}");
            a.iter().try_for_each(|(key, value)| close(value, b.get(key).unwrap_or(&Value::Null)))
        }
        (Value::String(a), Value::String(b)) => {
            let same = match (as_number(a), as_number(b)) {
                (Some(a), Some(b)) => same_number(a, b),
                _ => a == b,
            };
            ensure!(same, "{b}, not {a}");
            Ok(())
        }
        // times, in seconds
        (Value::Number(a), Value::Number(b)) => {
            let difference = a.as_f64().unwrap_or(f64::NAN) - b.as_f64().unwrap_or(f64::NAN);
            ensure!(difference.abs() < 1e-4, "{b}, not {a}");
            Ok(())
        }
        _ => {
            ensure!(want == got, "{got}, not {want}");
            Ok(())
        }
    }
}

pub(crate) fn same_number(a: f64, b: f64) -> bool {
    a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= 1e-9 * a.abs().max(b.abs())
}

/// Compares names, values or label sets; only the order of label sets is free.
fn same_metadata(want: &Value, got: &Value) -> Result<()> {
    let listed = |data: &Value| -> Vec<String> {
        let mut list: Vec<String> = data.as_array().into_iter().flatten().map(canonical).collect();
        if data[0].is_object() {
            list.sort();
        }
        list
    };
    ensure!(listed(want) == listed(got), "{got}, not {want}");
    Ok(())
}

fn canonical(entry: &Value) -> String {
    match entry.as_object() {
        Some(labels) => {
            let sorted: BTreeMap<&str, String> =
                labels.iter().map(|(k, v)| (k.as_str(), v.to_string())).collect();
            format!("{sorted:?}")
        }
        None => entry.to_string(),
    }
}
