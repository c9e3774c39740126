//! The outcome of a query, in one form for both sides, and whether two outcomes are the same.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result};
use engine::{Answer, Error, Kind};
use model::error::in_one_line;
use model::{FloatHistogram, Labels};
use promql::value::{PointValue, ResultSeries};
use serde_json::Value;

use crate::harness::answers::same_number;

/// Prometheus' HTTP API shows at most this many warnings, and as many infos.
const SHOWN_ANNOTATIONS: usize = 10;
/// The share of a histogram's count that rounding may leave.
const RESIDUE: f64 = 1e-14;

#[derive(Clone, Debug)]
pub(super) enum Outcome {
    Failed { kind: String, text: String },
    Success(Success),
}

#[derive(Clone, Debug, Default)]
pub(super) struct Success {
    value_type: String,
    /// The series by labels; a scalar or string has no labels.
    pub(super) series: BTreeMap<String, Vec<(i64, Point)>>,
    /// The labels in the order of the answer.
    order: Vec<Labels>,
    warnings: BTreeSet<String>,
    infos: BTreeSet<String>,
}

#[derive(Clone, Debug)]
pub(super) enum Point {
    Float(f64),
    Text(String),
    /// Count and sum; code of the bounds, lower, upper and count of every bucket that is not empty.
    Histogram {
        totals: [f64; 2],
        buckets: Vec<[f64; 4]>,
    },
}

impl Point {
    /// The number times another; for a histogram, its count times that number.
    pub(super) fn scaled(&self, by: f64) -> Point {
        match self {
            Point::Float(value) => Point::Float(value * by),
            Point::Text(_) => self.clone(),
            Point::Histogram { totals: [count, sum], buckets } => {
                Point::Histogram { totals: [count * by, sum * by], buckets: buckets.clone() }
            }
        }
    }

    fn numbers(&self) -> Vec<f64> {
        match self {
            Point::Float(value) => vec![*value],
            Point::Text(_) => Vec::new(),
            Point::Histogram { totals, buckets } => {
                totals.iter().chain(buckets.iter().flatten()).copied().collect()
            }
        }
    }

    /// Without the buckets that hold only what rounding left of a sum that should be zero: whether
    /// there are any depends on the order of addition.
    fn without_residues(&self) -> Point {
        let Point::Histogram { totals, buckets } = self else { return self.clone() };
        let all: f64 = buckets.iter().map(|[.., count]| count.abs()).sum();
        let residue = |[.., count]: &[f64; 4]| count.abs() <= RESIDUE * all;
        Point::Histogram {
            totals: *totals,
            buckets: buckets.iter().filter(|b| !residue(b)).copied().collect(),
        }
    }

    fn same(&self, other: &Point, equal: fn(f64, f64) -> bool) -> bool {
        match (self, other) {
            (Point::Text(a), Point::Text(b)) => a == b,
            (Point::Float(_), Point::Float(_))
            | (Point::Histogram { .. }, Point::Histogram { .. }) => {
                let (a, b) = (self.numbers(), other.numbers());
                a.len() == b.len() && a.iter().zip(&b).all(|(a, b)| equal(*a, *b))
            }
            _ => false,
        }
    }
}

fn identical(a: f64, b: f64) -> bool {
    a == b || (a.is_nan() && b.is_nan())
}

/// How two outcomes are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exactness {
    /// Values within 1e-9, annotations and order too.
    Close,
    /// The same without annotations and order.
    CloseValues,
    /// Only values, to the last bit.
    Values,
}

impl Outcome {
    pub(super) fn success(&self) -> Option<&Success> {
        match self {
            Outcome::Success(success) => Some(success),
            Outcome::Failed { .. } => None,
        }
    }

    pub(super) fn is_non_empty(&self) -> bool {
        self.success().is_some_and(|success| !success.series.is_empty())
    }

    /// The error, if it says that something is missing in our engine.
    pub(super) fn not_supported(&self) -> Option<&str> {
        match self {
            Outcome::Failed { text, .. } if text.contains("supported yet") => Some(text),
            _ => None,
        }
    }

    /// A panic inside Prometheus, which cannot be compared.
    pub(super) fn is_peer_bug(&self) -> bool {
        // the second is what it panics with when it prints a histogram of custom buckets that was
        // made NaN
        let panics = |text: &str| {
            text.starts_with("unexpected error: ")
                || text == "histograms with custom buckets have no zero bucket"
        };
        matches!(self, Outcome::Failed { text, .. } if panics(text))
    }

    /// How `got` differs from this, which is Prometheus' outcome.
    pub(super) fn difference(&self, got: &Outcome, exactness: Exactness) -> Option<String> {
        match (self, got) {
            (Outcome::Failed { kind, text }, Outcome::Failed { kind: own_kind, text: own }) => {
                let same = kind == own_kind && same_text(comparable(text), comparable(own));
                (!same).then(|| format!("error {own_kind}: {own}\n  not {kind}: {text}"))
            }
            (Outcome::Failed { text, .. }, Outcome::Success(_)) => {
                Some(format!("no error, not {text}"))
            }
            (Outcome::Success(_), Outcome::Failed { text, .. }) => Some(format!("error {text}")),
            (Outcome::Success(want), Outcome::Success(got)) => want.difference(got, exactness),
        }
    }
}

/// An error text without the parts whose order is not defined: which match group is met first, and
/// its listed series.
fn comparable(text: &str) -> &str {
    let cut = ["for the match group", "matching labels must be unique"]
        .iter()
        .filter_map(|mark| text.find(mark))
        .min();
    cut.map_or(text, |at| &text[..at])
}

impl Success {
    fn difference(&self, got: &Success, exactness: Exactness) -> Option<String> {
        if self.value_type != got.value_type {
            return Some(format!("a {}, not a {}", got.value_type, self.value_type));
        }
        if got.order.len() > got.series.len() {
            return Some(format!("a series twice: {:?}", got.order));
        }
        let equal = if exactness == Exactness::Values { identical } else { same_number };
        for (labels, points) in &self.series {
            let Some(own) = got.series.get(labels) else {
                return Some(format!("no series {labels}"));
            };
            let same = |((t, a), (own_t, b)): &(&(i64, Point), &(i64, Point))| {
                let residues = exactness != Exactness::Values
                    && a.without_residues().same(&b.without_residues(), equal);
                t == own_t && (a.same(b, equal) || residues)
            };
            if let Some((want, own)) = points.iter().zip(own).find(|pair| !same(pair)) {
                return Some(format!("{labels}: {own:?}\n  not {want:?}"));
            }
            if points.len() != own.len() {
                return Some(format!("{labels}: {} points, not {}", own.len(), points.len()));
            }
        }
        if let Some(labels) = got.series.keys().find(|labels| !self.series.contains_key(*labels)) {
            return Some(format!("series {labels} too much"));
        }
        if exactness != Exactness::Close {
            return None;
        }
        for (what, want, own) in
            [("warnings", &self.warnings, &got.warnings), ("infos", &self.infos, &got.infos)]
        {
            if !same_annotations(want, own) {
                return Some(format!("{what} {own:#?}\n  not {want:#?}"));
            }
        }
        None
    }

    /// The values in the order of the answer.
    pub(super) fn in_order(&self) -> Vec<f64> {
        let points = self.order.iter().filter_map(|labels| self.series.get(&labels.to_string()));
        points.flatten().flat_map(|(_, point)| point.numbers()).collect()
    }

    /// Whether some histogram holds a NaN.
    pub(super) fn has_unclear_histograms(&self) -> bool {
        let unclear = |point: &Point| {
            matches!(point, Point::Histogram { .. }) && point.numbers().iter().any(|n| n.is_nan())
        };
        self.series.values().flatten().any(|(_, point)| unclear(point))
    }

    /// Whether some series have a label and others do not.
    pub(super) fn is_partly_labelled(&self, name: &str) -> bool {
        let has = |labels: &Labels| labels.get(name).is_some();
        self.order.iter().any(has) && !self.order.iter().all(has)
    }

    /// Whether some step has two series of the same value, for functions that choose by value.
    pub(super) fn has_ties(&self) -> bool {
        let mut by_time: BTreeMap<i64, Vec<f64>> = BTreeMap::new();
        for (t, point) in self.series.values().flatten() {
            if let Point::Float(value) = point {
                by_time.entry(*t).or_default().push(*value);
            }
        }
        by_time.values_mut().any(|values| {
            values.sort_by(f64::total_cmp);
            values.windows(2).any(|pair| same_number(pair[0], pair[1]))
        })
    }
}

fn same_annotations(want: &BTreeSet<String>, own: &BTreeSet<String>) -> bool {
    // Prometheus shows only some of many, those that its map returns first
    let shown: BTreeSet<&String> =
        want.iter().filter(|text| !text.contains("annotations omitted")).collect();
    if shown.len() < want.len() {
        return own.len() > SHOWN_ANNOTATIONS && shown.iter().all(|text| own.contains(*text));
    }
    want.len() == own.len() && want.iter().zip(own).all(|(a, b)| same_text(a, b))
}

/// Equal words; numbers within 1e-9, as they are in results.
fn same_text(a: &str, b: &str) -> bool {
    let same = |(a, b): (&str, &str)| match (a.parse(), b.parse()) {
        (Ok(a), Ok(b)) => same_number(a, b),
        _ => a == b,
    };
    let same = |(a, b): (&str, &str)| match (a.strip_suffix(','), b.strip_suffix(',')) {
        (Some(a), Some(b)) => same((a, b)),
        _ => same((a, b)),
    };
    a.split(' ').count() == b.split(' ').count() && a.split(' ').zip(b.split(' ')).all(same)
}

/// Three infos count samples and buckets in a way that only Prometheus' own order of merging gives.
fn annotations<'a>(texts: impl Iterator<Item = &'a str>) -> BTreeSet<String> {
    texts.map(|text| text.split(", from buckets").next().unwrap_or_default().to_owned()).collect()
}

pub(super) fn ours(result: Result<Answer, Error>) -> Outcome {
    let answer = match result {
        Ok(answer) => answer,
        Err(error) => {
            let kind = match error.kind() {
                Kind::BadData => "bad_data",
                Kind::Execution => "execution",
                Kind::Timeout => "timeout",
                Kind::Canceled => "canceled",
                Kind::Internal => "internal",
            };
            return Outcome::Failed {
                kind: kind.to_owned(),
                text: in_one_line(&error).to_string(),
            };
        }
    };
    let mut success = Success {
        warnings: annotations(answer.warnings.iter().map(String::as_str)),
        infos: annotations(answer.infos.iter().map(String::as_str)),
        ..Success::default()
    };
    let alone = |point| BTreeMap::from([(String::new(), vec![point])]);
    let (value_type, list) = match answer.value {
        promql::value::Value::Scalar { t_ms, value } => {
            success.series = alone((t_ms, Point::Float(value)));
            ("scalar", Vec::new())
        }
        promql::value::Value::String { t_ms, value } => {
            success.series = alone((t_ms, Point::Text(value)));
            ("string", Vec::new())
        }
        promql::value::Value::Vector(list) => ("vector", list),
        promql::value::Value::Matrix(list) => ("matrix", list),
    };
    success.value_type = value_type.to_owned();
    for ResultSeries { labels, points } in list {
        let point = |value: &PointValue| match value {
            PointValue::Float(value) => Point::Float(*value),
            PointValue::Histogram(histogram) => histogram_point(histogram),
        };
        let points = points.iter().map(|p| (p.t_ms, point(&p.value))).collect();
        success.series.insert(labels.to_string(), points);
        success.order.push(labels);
    }
    Outcome::Success(success)
}

fn histogram_point(histogram: &FloatHistogram) -> Point {
    let filled = histogram.all_buckets().into_iter().filter(|bucket| bucket.count != 0.0);
    let buckets = filled.map(|bucket| {
        let code = match (bucket.lower_inclusive, bucket.upper_inclusive) {
            (false, true) => 0.0,
            (true, false) => 1.0,
            (false, false) => 2.0,
            (true, true) => 3.0,
        };
        [code, bucket.lower, bucket.upper, bucket.count]
    });
    Point::Histogram { totals: [histogram.count, histogram.sum], buckets: buckets.collect() }
}

pub(super) fn theirs(body: &Value) -> Result<Outcome> {
    if body["status"] == "error" {
        let text = |key: &str| body[key].as_str().unwrap_or_default().to_owned();
        let error = text("error");
        let error =
            error.strip_prefix("invalid parameter \"query\": ").unwrap_or(&error).to_owned();
        return Ok(Outcome::Failed { kind: text("errorType"), text: error });
    }
    let list = |key: &str| {
        annotations(body[key].as_array().into_iter().flatten().filter_map(Value::as_str))
    };
    let value_type = body["data"]["resultType"].as_str().context("a type")?.to_owned();
    let mut success = Success {
        warnings: list("warnings"),
        infos: list("infos"),
        value_type,
        ..Success::default()
    };
    let result = &body["data"]["result"];
    match success.value_type.as_str() {
        "scalar" => _ = success.series.insert(String::new(), vec![float_point(result)?]),
        "string" => {
            let text = result[1].as_str().context("a text")?.to_owned();
            success.series.insert(String::new(), vec![(millis(&result[0])?, Point::Text(text))]);
        }
        _ => {
            for entry in result.as_array().context("a list")? {
                let (labels, points) = series(entry)?;
                success.series.insert(labels.to_string(), points);
                success.order.push(labels);
            }
        }
    }
    Ok(Outcome::Success(success))
}

fn series(entry: &Value) -> Result<(Labels, Vec<(i64, Point)>)> {
    let metric = entry["metric"].as_object().context("labels")?;
    let labels = Labels::from_pairs(
        metric.iter().map(|(k, v)| (k.as_str(), v.as_str().unwrap_or_default())),
    );
    let mut points = Vec::new();
    for (one, many, read) in [
        ("value", "values", float_point as fn(&Value) -> Result<(i64, Point)>),
        ("histogram", "histograms", histogram_pair),
    ] {
        for pair in entry.get(one).into_iter().chain(entry[many].as_array().into_iter().flatten()) {
            points.push(read(pair)?);
        }
    }
    points.sort_by_key(|(t, _)| *t);
    Ok((labels, points))
}

fn millis(value: &Value) -> Result<i64> {
    Ok((value.as_f64().context("a time")? * 1000.0).round() as i64)
}

fn number(value: &Value) -> Result<f64> {
    Ok(match value.as_str().context("a number as text")? {
        "+Inf" => f64::INFINITY,
        "-Inf" => f64::NEG_INFINITY,
        text => text.parse()?,
    })
}

fn float_point(pair: &Value) -> Result<(i64, Point)> {
    Ok((millis(&pair[0])?, Point::Float(number(&pair[1])?)))
}

fn histogram_pair(pair: &Value) -> Result<(i64, Point)> {
    let histogram = &pair[1];
    let mut buckets = Vec::new();
    for bucket in histogram["buckets"].as_array().into_iter().flatten() {
        let code = bucket[0].as_f64().context("a code")?;
        buckets.push([code, number(&bucket[1])?, number(&bucket[2])?, number(&bucket[3])?]);
    }
    let totals = [number(&histogram["count"])?, number(&histogram["sum"])?];
    Ok((millis(&pair[0])?, Point::Histogram { totals, buckets }))
}
