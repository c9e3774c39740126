//! What every [`Store`] must do, as a test suite: each implementation makes stores from the
//! datasets given here and is held to a naive evaluation of the same requests.
//!
//! The cases follow the behaviour that Thanos holds its own stores to: external labels win and are
//! matched like any other label, replica labels are removed before sorting, label names and values
//! come from matching series only.

mod memory;

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;

use futures::StreamExt;
use merge::{ChunkContent, Series};
use model::{Labels, MatchOp, Matcher, TimeRange};

pub use memory::{MemoryStore, float_series};

use crate::{
    Frame, Kind, LabelNamesRequest, LabelValuesRequest, PartialResponse, SeriesRequest, Shard,
    Store,
};

/// `(timestamp in ms, value)` in order of time.
pub type FloatSamples = Vec<(i64, f64)>;

/// What a store is to hold.
#[derive(Clone, Debug, Default)]
pub struct Dataset {
    pub external: Labels,
    /// Series with the labels that the data itself carries.
    pub series: Vec<(Labels, FloatSamples)>,
}

/// What the implementation under test may do differently.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Time of the first sample, in milliseconds.
    pub start: i64,
    /// A request whose matchers are all decided by external labels is refused, as by Thanos'
    /// sidecars, or answered.
    pub refuses_external_matchers_only: bool,
}

/// The label that the suite asks to remove in every request; implementations may add it to the
/// external labels.
pub const REPLICA: &str = "replica";

/// Samples of a series lie this far apart.
const STEP_MS: i64 = 15_000;

/// Runs all cases; panics at the first that fails, naming it.
pub async fn run<Make, Made>(options: Options, make: Make)
where
    Make: Fn(Dataset) -> Made,
    Made: Future<Output = Arc<dyn Store>>,
{
    let external = Labels::from_pairs([("region", "eu-west")]);
    empty_store(&make(Dataset { external: external.clone(), series: vec![] }).await).await;
    for (case, series) in datasets(options.start) {
        let data = Dataset { external: external.clone(), series };
        let suite = Suite { case, options, store: make(data.clone()).await, data };
        suite.series().await;
        suite.ranges().await;
        suite.labels().await;
        suite.refusals().await;
        suite.limits_and_shards().await;
    }
}

async fn empty_store(store: &Arc<dyn Store>) {
    let range = TimeRange::from_closed(i64::MIN, i64::MAX);
    let names = store
        .label_names(names_request(range, vec![matcher("foo", "=", "bar")]))
        .await
        .expect("label names");
    assert!(names.values.is_empty(), "an empty store has label names: {names:?}");
    let request = SeriesRequest::new(range, vec![matcher("foo", "=", "bar")]);
    assert_eq!(collect(store, request).await.0, [], "an empty store has series");
    let unnamed = store
        .label_values(values_request("", range, vec![]))
        .await
        .expect_err("label values of no label");
    assert_eq!(unnamed.kind(), Kind::Invalid);
    assert!(unnamed.to_string().contains("label name parameter cannot be empty"), "{unnamed}");
}

fn samples(start: i64, count: i64, first: f64) -> FloatSamples {
    (0..count).map(|i| (start + i * STEP_MS, first + i as f64)).collect()
}

fn datasets(start: i64) -> Vec<(&'static str, Vec<(Labels, FloatSamples)>)> {
    let set = |pairs: &[(&str, &str)]| Labels::from_pairs(pairs.iter().copied());
    let one = |pairs: &[(&str, &str)], first: f64| (set(pairs), samples(start, 10, first));
    vec![
        ("one series", vec![one(&[("foo", "foovalue1")], 1.0)]),
        (
            "three series",
            vec![
                one(&[("foo", "foovalue1"), ("bar", "barvalue1")], 1.0),
                one(&[("foo", "foovalue1"), ("bar", "barvalue2")], 2.0),
                one(&[("foo", "foovalue2")], 3.0),
            ],
        ),
        (
            "labels that conflict with external ones",
            vec![
                one(&[("__name__", "up"), ("region", "somewhere"), ("z", "1")], 1.0),
                one(&[("__name__", "up"), ("region", "nowhere"), ("a", "2")], 2.0),
                one(&[("__name__", "up"), ("zone", "3")], 3.0),
                one(&[("__name__", "down"), ("replica", "internal"), ("z", "1")], 4.0),
                one(&[("__name__", "down"), ("replica", "eternal"), ("y", "1")], 5.0),
            ],
        ),
        (
            "series that end where others go on",
            vec![
                one(&[("__name__", "up")], 1.0),
                one(&[("__name__", "up"), ("a", "1")], 2.0),
                one(&[("__name__", "up"), ("s", "1")], 3.0),
                one(&[("__name__", "up"), ("a", "1"), ("s", "1")], 4.0),
            ],
        ),
        (
            "empty and missing labels",
            vec![
                one(&[("n", "1")], 1.0),
                one(&[("n", "1"), ("i", "a")], 2.0),
                one(&[("n", "1"), ("i", "b")], 3.0),
                one(&[("n", "2")], 4.0),
                one(&[("n", "2.5")], 5.0),
            ],
        ),
        (
            "more samples than a chunk holds",
            vec![(set(&[("__name__", "long"), ("pod", "a")]), samples(start, 400, 0.0))],
        ),
    ]
}

fn matcher(name: &str, op: &str, value: &str) -> Matcher {
    let op = match op {
        "=" => MatchOp::Equal,
        "!=" => MatchOp::NotEqual,
        "=~" => MatchOp::Regex,
        _ => MatchOp::NotRegex,
    };
    Matcher::new(op, name, value).expect("the suite's own matcher")
}

fn selectors() -> Vec<Vec<Matcher>> {
    let all: &[&[(&str, &str, &str)]] = &[
        &[("foo", "=", "foovalue1")],
        &[("foo", "=", "foovalue1"), ("bar", "=", "barvalue2")],
        &[("foo", "=~", "foovalue.*"), ("region", "=", "eu-west")],
        &[("foo", "=~", "foovalue.*"), ("region", "=~", "eu-.*")],
        &[("foo", "=~", "foovalue.*"), ("region", "=", "somewhere")],
        &[("foo", "!=", "foovalue1")],
        &[("foo", "=~", "foovalue.*"), ("bar", "=", "")],
        &[("foo", "=~", "foovalue.*"), ("bar", "!=", "")],
        &[("__name__", "=", "up")],
        &[("__name__", "=~", "up|down")],
        &[("__name__", "=", "up"), ("region", "!=", "eu-west")],
        &[("__name__", "=", "up"), ("region", "=", "nowhere")],
        &[("__name__", "=~", ".+"), ("z", "=", "1")],
        &[("__name__", "=", "long"), ("pod", "=~", "a|b")],
        &[("n", "=", "1")],
        &[("n", "=", "1"), ("i", "=", "a")],
        &[("n", "=", "1"), ("i", "=", "missing")],
        &[("missing", "=", "")],
        &[("n", "=", "1"), ("i", "!=", "")],
        &[("n", "=", "1"), ("missing", "=", "")],
        &[("n", "=", "1"), ("i", "=", "")],
        &[("n", "!=", "1")],
        &[("i", "!=", "")],
        &[("missing", "!=", "")],
        &[("i", "!=", "a")],
        &[("n", "=", "1"), ("i", "!=", "b")],
        &[("n", "=~", "^1$")],
        &[("n", "=", "1"), ("i", "=~", "^a$")],
        &[("n", "=", "1"), ("i", "=~", "^a?$")],
        &[("i", "=~", "^$"), ("n", "=~", ".*")],
        &[("n", "=", "1"), ("i", "=~", "^.*$")],
        &[("n", "=", "1"), ("i", "=~", "^.+$")],
        &[("n", "!~", "^1$")],
        &[("n", "=", "1"), ("i", "!~", "^a$")],
        &[("n", "=", "1"), ("i", "!~", "^a?$")],
        &[("n", "=", "1"), ("i", "!~", "^$")],
        &[("n", "=", "1"), ("i", "!~", "^.*$")],
        &[("n", "=", "1"), ("i", "!~", "^.+$")],
        &[("n", "=", "1"), ("i", "!=", ""), ("i", "=", "a")],
        &[("n", "=", "1"), ("i", "!=", "b"), ("i", "=~", "^(b|a).*$")],
        &[("n", "=~", "(1|2)")],
        &[("i", "=~", "a|b")],
        &[("i", "=~", "(c||d)"), ("n", "!=", "")],
        &[("n", "=~", "2.?5?")],
    ];
    all.iter().map(|s| s.iter().map(|(n, o, v)| matcher(n, o, v)).collect()).collect()
}

fn names_request(range: TimeRange, matchers: Vec<Matcher>) -> LabelNamesRequest {
    let without_replica_labels = vec![REPLICA.to_owned()];
    LabelNamesRequest {
        range,
        matchers,
        partial_response: PartialResponse::Abort,
        without_replica_labels,
        limit: 0,
    }
}

fn values_request(label: &str, range: TimeRange, matchers: Vec<Matcher>) -> LabelValuesRequest {
    LabelValuesRequest {
        label: label.to_owned(),
        range,
        matchers,
        partial_response: PartialResponse::Abort,
        without_replica_labels: vec![REPLICA.to_owned()],
        limit: 0,
    }
}

fn series_request(range: TimeRange, matchers: Vec<Matcher>) -> SeriesRequest {
    SeriesRequest {
        partial_response: PartialResponse::Abort,
        without_replica_labels: vec![REPLICA.to_owned()],
        ..SeriesRequest::new(range, matchers)
    }
}

/// The series in the order they came, joined where they span frames, and the warnings.
async fn collect(store: &Arc<dyn Store>, request: SeriesRequest) -> (Vec<Series>, Vec<String>) {
    let what = format!("series {:?}", request.matchers);
    let mut frames = store.series(request).await.unwrap_or_else(|e| panic!("{what}: {e}"));
    let (mut all, mut warnings) = (Vec::<Series>::new(), Vec::new());
    while let Some(frame) = frames.next().await {
        match frame.unwrap_or_else(|e| panic!("{what}: {e}")) {
            Frame::Series(series) => all.extend(series),
            Frame::Warning(text) => warnings.push(text),
            Frame::Info(_) => {}
        }
    }
    all.dedup_by(|next, first| {
        let same = next.labels == first.labels;
        if same {
            first.chunks.append(&mut next.chunks);
        }
        same
    });
    (all, warnings)
}

/// The samples of a series inside a range, in order, each once.
fn decoded(series: &Series, range: TimeRange) -> Vec<(i64, u64)> {
    let mut all = BTreeSet::new();
    for chunk in &series.chunks {
        let ChunkContent::Raw(raw) = &chunk.content else {
            panic!("{}: a raw store sent aggregates", series.labels)
        };
        let (mut ts, mut values) = (Vec::new(), Vec::new());
        tsdb::chunk::decode_floats(raw.encoding, &raw.data, &mut ts, &mut values)
            .unwrap_or_else(|e| panic!("{}: {e}", series.labels));
        let span = (ts.first().copied(), ts.last().copied());
        assert_eq!(
            span,
            (Some(chunk.min_time), Some(chunk.max_time)),
            "{}: times of a chunk",
            series.labels
        );
        all.extend(ts.into_iter().zip(values.iter().map(|v| v.to_bits())));
    }
    all.into_iter().filter(|(t, _)| range.contains(*t)).collect()
}

struct Suite {
    case: &'static str,
    options: Options,
    store: Arc<dyn Store>,
    data: Dataset,
}

type Expected = Vec<(Labels, Vec<(i64, u64)>)>;

impl Suite {
    fn everything(&self) -> TimeRange {
        TimeRange::from_closed(self.options.start, self.options.start + 400 * STEP_MS)
    }

    /// The naive answer: add external labels, match, remove replica labels, sort.
    fn expected(&self, matchers: &[Matcher], range: TimeRange) -> Expected {
        let mut all = Expected::new();
        for (labels, samples) in &self.data.series {
            let seen = labels.overlaid(&self.data.external);
            let hit = matchers.iter().all(|m| m.matches(seen.get(&m.name).unwrap_or_default()));
            let inside: Vec<_> = samples
                .iter()
                .filter(|(t, _)| range.contains(*t))
                .map(|(t, v)| (*t, v.to_bits()))
                .collect();
            if hit && !inside.is_empty() {
                all.push((seen.without(&[REPLICA]), inside));
            }
        }
        all.sort();
        all
    }

    fn left_to_data(&self, matchers: &[Matcher]) -> bool {
        matchers.iter().any(|m| self.data.external.get(&m.name).is_none())
    }

    async fn series(&self) {
        let range = self.everything();
        for matchers in selectors() {
            let expected = self.expected(&matchers, range);
            let (got, warnings) =
                collect(&self.store, series_request(range, matchers.clone())).await;
            assert_eq!(warnings, [""; 0], "{}: {matchers:?}", self.case);
            let got: Expected = got.iter().map(|s| (s.labels.clone(), decoded(s, range))).collect();
            assert_eq!(got, expected, "{}: {matchers:?}", self.case);
            let request =
                SeriesRequest { skip_chunks: true, ..series_request(range, matchers.clone()) };
            let (bare, _) = collect(&self.store, request).await;
            assert!(
                bare.iter().all(|s| s.chunks.is_empty()),
                "{}: {matchers:?}: chunks were to be left out",
                self.case
            );
            let labels: Vec<_> = expected.into_iter().map(|(labels, _)| labels).collect();
            let bare: Vec<_> = bare.into_iter().map(|s| s.labels).collect();
            assert_eq!(bare, labels, "{}: {matchers:?}, without chunks", self.case);
        }
    }

    /// Ends are inclusive on the wire; nothing is found where there is no data.
    async fn ranges(&self) {
        let (start, matchers) =
            (self.options.start, vec![matcher("absent", "=", ""), matcher("nope", "=", "")]);
        for (from, to) in [
            (start, start),
            (start + 1, start + STEP_MS - 1),
            (start + STEP_MS, start + 3 * STEP_MS),
        ] {
            let range = TimeRange::from_closed(from, to);
            let (got, _) = collect(&self.store, series_request(range, matchers.clone())).await;
            let got: Expected = got.iter().map(|s| (s.labels.clone(), decoded(s, range))).collect();
            let got: Expected =
                got.into_iter().filter(|(_, samples)| !samples.is_empty()).collect();
            assert_eq!(got, self.expected(&matchers, range), "{}: {range:?}", self.case);
        }
        let before = TimeRange::from_closed(start - 100_000_000, start - 90_000_000);
        let (got, _) = collect(&self.store, series_request(before, matchers)).await;
        assert_eq!(got, [], "{}: before the data begins", self.case);
    }

    async fn labels(&self) {
        let range = self.everything();
        for matchers in selectors().into_iter().chain([vec![]]) {
            let expected = self.expected(&matchers, range);
            let names: BTreeSet<String> = expected
                .iter()
                .flat_map(|(l, _)| l.iter().map(|(n, _)| text(n)).collect::<Vec<_>>())
                .collect();
            let answer = self.store.label_names(names_request(range, matchers.clone())).await;
            let answer =
                answer.unwrap_or_else(|e| panic!("{}: label names {matchers:?}: {e}", self.case));
            assert_eq!(
                answer.values,
                Vec::from_iter(names),
                "{}: label names {matchers:?}",
                self.case
            );
            for label in ["region", "foo", "bar", "n", "i", "__name__", "missing", REPLICA] {
                let values: BTreeSet<String> =
                    expected.iter().filter_map(|(l, _)| l.get(label).map(text)).collect();
                let answer =
                    self.store.label_values(values_request(label, range, matchers.clone())).await;
                let answer =
                    answer.unwrap_or_else(|e| panic!("{}: {label} {matchers:?}: {e}", self.case));
                assert_eq!(
                    answer.values,
                    Vec::from_iter(values),
                    "{}: values of {label} {matchers:?}",
                    self.case
                );
            }
        }
    }

    async fn refusals(&self) {
        let matchers = vec![matcher("region", "=", "eu-west")];
        assert!(!self.left_to_data(&matchers));
        let answer = self.store.series(series_request(self.everything(), matchers)).await;
        let first = match answer {
            Ok(mut frames) => frames.next().await.transpose(),
            Err(error) => Err(error),
        };
        if self.options.refuses_external_matchers_only {
            let error = first
                .err()
                .unwrap_or_else(|| panic!("{}: matchers on external labels alone", self.case));
            assert_eq!(error.kind(), Kind::Invalid, "{error}");
            assert!(error.to_string().contains("no matchers specified"), "{error}");
        } else {
            assert!(
                first.is_ok_and(|frame| frame.is_some()),
                "{}: matchers on external labels alone",
                self.case
            );
        }
    }

    async fn limits_and_shards(&self) {
        let (range, matchers) = (self.everything(), vec![matcher("absent", "=", "")]);
        let all: Vec<Labels> =
            self.expected(&matchers, range).into_iter().map(|(labels, _)| labels).collect();
        let request = SeriesRequest { limit: 1, ..series_request(range, matchers.clone()) };
        let (got, _) = collect(&self.store, request).await;
        let got: Vec<Labels> = got.into_iter().map(|s| s.labels).collect();
        assert_eq!(got, all[..1], "{}: limit", self.case);
        let values = LabelValuesRequest { limit: 1, ..values_request("foo", range, vec![]) };
        assert!(
            self.store.label_values(values).await.expect("label values").values.len() <= 1,
            "{}",
            self.case
        );

        if !self.store.info().await.expect("info").supports_sharding {
            return;
        }
        for by in [true, false] {
            let labels = vec!["foo".to_owned(), "i".to_owned(), "a".to_owned()];
            let mut union = Vec::new();
            for index in 0..3 {
                let shard = Shard { index, total: 3, by, labels: labels.clone() };
                let request = SeriesRequest {
                    shard: Some(shard.clone()),
                    ..series_request(range, matchers.clone())
                };
                let (got, _) = collect(&self.store, request).await;
                assert!(got.iter().all(|s| shard.holds(&s.labels)), "{}: {shard:?}", self.case);
                union.extend(got.into_iter().map(|s| s.labels));
            }
            union.sort();
            assert_eq!(union, all, "{}: the union of all shards", self.case);
        }
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests;
