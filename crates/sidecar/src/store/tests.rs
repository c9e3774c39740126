use model::TimestampMs;
use storeapi::PartialResponse;
use storeapi::conformance::{Options, REPLICA, run};

use super::*;
use crate::settings::MinTime;
use crate::testing::{FakePrometheus, clock};

const OPTIONS: Options =
    Options { start: 1_700_000_000_000, refuses_external_matchers_only: false };

async fn store_of(fake: Arc<FakePrometheus>, min_time: i64) -> PrometheusStore {
    let external = fake.data.external.clone();
    let url = fake.serve().await;
    let client =
        PrometheusClient::new(&url, upstream::HttpClient::new("").unwrap(), Budget::unlimited())
            .unwrap();
    let state = State::new(MinTime::At(TimestampMs(min_time)), clock());
    state.set_labels(external);
    state.set_ready(true);
    PrometheusStore::new(client, Arc::new(state), Budget::unlimited())
}

async fn conforming(data: storeapi::conformance::Dataset, streams: bool) -> Arc<dyn Store> {
    let external = data.external.with(REPLICA, "r1");
    let data = storeapi::conformance::Dataset { external, ..data };
    let fake = FakePrometheus { streams, ..FakePrometheus::new(data) };
    Arc::new(store_of(Arc::new(fake), 0).await)
}

#[tokio::test]
async fn streamed_chunks_conform() {
    run(OPTIONS, async |data| conforming(data, true).await).await;
}

#[tokio::test]
async fn samples_conform() {
    run(OPTIONS, async |data| conforming(data, false).await).await;
}

fn data(series: usize) -> storeapi::conformance::Dataset {
    let one = |i: usize| {
        let labels = Labels::from_pairs([("__name__", "up"), ("pod", &format!("{i:04}"))]);
        (labels, (0..10).map(|t| (1_000_000 + t * 1000, i as f64)).collect())
    };
    storeapi::conformance::Dataset {
        external: Labels::from_pairs([("cluster", "a")]),
        series: (0..series).map(one).collect(),
    }
}

fn request(range: TimeRange) -> SeriesRequest {
    let matchers = vec![Matcher::equal("__name__", "up")];
    SeriesRequest {
        partial_response: PartialResponse::Abort,
        ..SeriesRequest::new(range, matchers)
    }
}

async fn frames(store: &PrometheusStore, request: SeriesRequest) -> Vec<storeapi::Result<Frame>> {
    match store.series(request).await {
        Ok(frames) => frames.collect().await,
        Err(error) => vec![Err(error)],
    }
}

#[tokio::test]
async fn nothing_older_than_the_limit_is_served() {
    let store = store_of(Arc::new(FakePrometheus::new(data(1))), 1_005_000).await;
    assert_eq!(store.info().await.unwrap().range, TimeRange::new(1_005_000, i64::MAX));
    assert!(frames(&store, request(TimeRange::new(0, 1_005_000))).await.is_empty());
    assert_eq!(frames(&store, request(TimeRange::new(0, 1_006_000))).await.len(), 1);
}

#[tokio::test]
async fn external_labels_alone_select_all_and_no_matchers_nothing() {
    let mut data = data(2);
    data.series.push((Labels::from_pairs([("pod", "nameless")]), vec![(1_000_000, 1.0)]));
    let store = store_of(Arc::new(FakePrometheus::new(data)), 0).await;
    let cluster =
        SeriesRequest { matchers: vec![Matcher::equal("cluster", "a")], ..request(TimeRange::ALL) };
    let series = async |request| {
        let found = frames(&store, request).await.into_iter().map(|frame| match frame.unwrap() {
            Frame::Series(series) => series.len(),
            other => panic!("{other:?}"),
        });
        found.sum::<usize>()
    };
    assert_eq!(series(cluster.clone()).await, 3, "a series without a name is one");
    assert_eq!(series(SeriesRequest { skip_chunks: true, ..cluster.clone() }).await, 2);
    let nothing =
        frames(&store, SeriesRequest { matchers: Vec::new(), ..cluster }).await.pop().unwrap();
    assert_eq!(nothing.unwrap_err().kind(), Kind::Invalid);
}

#[tokio::test]
async fn all_it_has_is_said_to_be_raw() {
    let store = store_of(Arc::new(FakePrometheus::new(data(1))), 1_005_000).await;
    let info = store.info().await.unwrap();
    let coverage = info.tsdb_infos[0].coverage.clone();
    assert_eq!(coverage, Some(Coverage::raw(TimeRange::new(1_005_000, i64::MAX))));
}

#[tokio::test]
async fn without_labels_it_is_not_ready() {
    let fake = Arc::new(FakePrometheus::new(data(1)));
    let store = store_of(fake, 0).await;
    store.state.set_labels(Labels::empty());
    assert_eq!(store.info().await.unwrap_err().kind(), Kind::Unavailable);
    let failed = frames(&store, request(TimeRange::ALL)).await;
    assert_eq!(failed[0].as_ref().unwrap_err().kind(), Kind::Unavailable);
}

#[tokio::test]
async fn series_that_nothing_reorders_are_not_held_back() {
    const SERIES: usize = 20_000;
    let mut store = store_of(Arc::new(FakePrometheus::new(data(SERIES))), 0).await;
    // Far less than the series of that metric take, but enough for what arrives at once.
    store.budget = Budget::new(3_000_000);
    let all = frames(&store, request(TimeRange::ALL)).await;
    assert!(all.iter().all(Result::is_ok), "{:?}", all.last());
    assert!(store.budget.peak() < 1_500_000, "{}", store.budget.peak());

    let mut touched = data(SERIES);
    touched.series.push((Labels::from_pairs([("cluster", "inner")]), vec![(1_000_000, 1.0)]));
    let mut store = store_of(Arc::new(FakePrometheus::new(touched)), 0).await;
    store.budget = Budget::new(3_000_000);
    let error = frames(&store, request(TimeRange::ALL)).await.pop().unwrap().unwrap_err();
    assert_eq!(error.kind(), Kind::Memory);
    let text = in_one_line(&error).to_string();
    assert!(text.starts_with("reading from Prometheus 127.0.0.1:"), "{text}");
    assert!(text.contains(": sorting series of Prometheus needs "), "{text}");
}

#[tokio::test]
async fn what_prometheus_says_of_an_error_is_told() {
    let fake = Arc::new(FakePrometheus::new(data(1)));
    fake.up.store(false, std::sync::atomic::Ordering::Relaxed);
    let store = store_of(fake, 0).await;
    let error = frames(&store, request(TimeRange::ALL)).await.pop().unwrap().unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable);
    let expected =
        "Prometheus /prefix/api/v1/read answered 503 Service Unavailable: Service Unavailable";
    assert_eq!(error.to_string(), expected);
}
