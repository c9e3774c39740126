mod resolutions;

use std::collections::BTreeMap;

use model::Labels;
use model::error::in_one_line;
use proptest::prelude::*;

use super::*;
use crate::Frame;
use crate::conformance::{Dataset, MemoryStore, float_series};
use crate::testing::{Faulty, StoreFault, clock, endpoint, fanout_of};

fn labels(name: &str) -> Labels {
    Labels::from_pairs([("__name__", name)])
}

fn store(region: &str, names: &[&str]) -> MemoryStore {
    let series = names.iter().map(|name| (labels(name), vec![(1000, 1.0), (2000, 2.0)])).collect();
    MemoryStore::new(&Dataset { external: Labels::from_pairs([("region", region)]), series })
}

fn request(strategy: PartialResponse) -> SeriesRequest {
    let any = Matcher::new(model::MatchOp::Regex, "__name__", ".+").unwrap();
    SeriesRequest {
        partial_response: strategy,
        ..SeriesRequest::new(TimeRange::new(0, 10_000), vec![any])
    }
}

async fn answer(store: &dyn Store, request: SeriesRequest) -> Result<(Vec<String>, Vec<String>)> {
    let mut frames = store.series(request).await?;
    let (mut series, mut warnings) = (Vec::new(), Vec::new());
    while let Some(frame) = frames.next().await {
        match frame? {
            Frame::Series(some) => series.extend(some.iter().map(|s| s.labels.to_string())),
            Frame::Warning(text) => warnings.push(text),
            Frame::Info(_) => {}
        }
    }
    Ok((series, warnings))
}

fn faulty_fanout(fault: StoreFault, settings: FanoutSettings) -> Fanout {
    let (good, bad) = (store("good", &["a", "c"]), store("bad", &["b", "d", "e", "f"]));
    let (good_info, bad_info) = (good.info.clone(), bad.info.clone());
    let endpoints = vec![
        endpoint("good:1", Arc::new(good), good_info),
        endpoint("bad:2", Arc::new(Faulty { inner: bad, fault }), bad_info),
    ];
    Fanout::new(Arc::new(endpoints), settings, clock())
}

#[tokio::test]
async fn a_failing_endpoint_is_a_warning_that_names_it_and_the_rest_is_served() {
    let fanout = faulty_fanout(StoreFault::Refuse, FanoutSettings::default());
    let (series, warnings) = answer(&fanout, request(PartialResponse::Warn)).await.unwrap();
    assert_eq!(series, [r#"{__name__="a", region="good"}"#, r#"{__name__="c", region="good"}"#]);
    assert_eq!(warnings, ["receive series from bad:2: not today"]);
    let error = answer(&fanout, request(PartialResponse::Abort)).await.unwrap_err();
    assert_eq!(
        (error.kind(), in_one_line(&error).to_string().as_str()),
        (Kind::Aborted, "receive series from bad:2: not today")
    );
}

#[tokio::test]
async fn what_came_before_a_stream_broke_is_kept() {
    let fanout = faulty_fanout(StoreFault::BreakOff, FanoutSettings::default());
    let (series, warnings) = answer(&fanout, request(PartialResponse::Warn)).await.unwrap();
    assert_eq!(series.len(), 4);
    assert_eq!(warnings, ["receive series from bad:2: connection lost"]);
    assert_eq!(
        answer(&fanout, request(PartialResponse::Abort)).await.unwrap_err().kind(),
        Kind::Aborted
    );
}

/// An answer in part would look as if the rest did not exist.
#[tokio::test]
async fn an_endpoint_without_memory_ends_the_whole() {
    let fanout = faulty_fanout(StoreFault::NoMemory, FanoutSettings::default());
    let names = LabelNamesRequest {
        range: TimeRange::new(0, 10_000),
        matchers: Vec::new(),
        partial_response: PartialResponse::Warn,
        without_replica_labels: Vec::new(),
        limit: 0,
    };
    for error in [
        answer(&fanout, request(PartialResponse::Warn)).await.unwrap_err(),
        fanout.label_names(names).await.unwrap_err(),
    ] {
        let text = in_one_line(&error).to_string();
        assert_eq!(error.kind(), Kind::Memory, "{text}");
        assert!(text.contains("from bad:2: an answer needs 2 bytes, but 0 of the 1 "), "{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_falls_silent_is_given_up() {
    let settings =
        FanoutSettings { response_timeout: Duration::from_secs(3), ..FanoutSettings::default() };
    let fanout = faulty_fanout(StoreFault::Hang, settings);
    let (series, warnings) = answer(&fanout, request(PartialResponse::Warn)).await.unwrap();
    assert_eq!(series.len(), 4);
    assert_eq!(warnings, ["receive series from bad:2: failed to receive any data in 3s"]);
}

#[tokio::test(start_paused = true)]
async fn a_deadline_ends_with_what_the_others_sent() {
    let scope = Scope { deadline: Some(Duration::from_secs(7)), ..Scope::default() };
    let fanout = faulty_fanout(StoreFault::Hang, FanoutSettings::default()).scoped(scope);
    let (series, warnings) = answer(&fanout, request(PartialResponse::Warn)).await.unwrap();
    assert_eq!(series.len(), 4);
    assert_eq!(warnings, ["receive series from bad:2: not done after 7s"]);
    let values = fanout.label_values(values_request("__name__")).await.unwrap();
    assert_eq!(values.values, ["a", "c"]);
    assert_eq!(values.warnings, ["receive labels from bad:2: not done after 7s"]);
}

fn values_request(label: &str) -> LabelValuesRequest {
    LabelValuesRequest {
        label: label.to_owned(),
        range: TimeRange::new(0, 10_000),
        matchers: vec![],
        partial_response: PartialResponse::Warn,
        without_replica_labels: vec![],
        limit: 0,
    }
}

#[tokio::test]
async fn endpoints_that_cannot_hold_a_match_are_not_asked() {
    let fanout = faulty_fanout(StoreFault::Refuse, FanoutSettings::default());
    let mut wanted = request(PartialResponse::Abort);
    wanted.matchers.push(Matcher::equal("region", "good"));
    assert_eq!(answer(&fanout, wanted).await.unwrap().0.len(), 2);
    let early = SeriesRequest { range: TimeRange::new(0, 1000), ..request(PartialResponse::Abort) };
    assert_eq!(answer(&fanout, early).await.unwrap().0, [""; 0]);
    let store_matches = vec![vec![Matcher::equal("__address__", "good:1")]];
    let scoped = fanout.scoped(Scope { store_matches, deadline: None });
    assert_eq!(answer(&scoped, request(PartialResponse::Abort)).await.unwrap().0.len(), 2);
}

#[tokio::test]
async fn without_endpoints_partial_answers_are_empty_and_whole_ones_fail() {
    let fanout = Fanout::new(Arc::new(Vec::new()), FanoutSettings::default(), clock());
    assert_eq!(answer(&fanout, request(PartialResponse::Warn)).await.unwrap().0, [""; 0]);
    let error = answer(&fanout, request(PartialResponse::Abort)).await.unwrap_err();
    assert_eq!(error.to_string(), "No StoreAPIs available");
}

#[tokio::test]
async fn an_endpoint_that_sends_series_out_of_order_is_named() {
    struct Backwards;
    #[async_trait]
    impl Store for Backwards {
        async fn info(&self) -> Result<StoreInfo> {
            Ok(store("x", &["a"]).info)
        }
        async fn series(&self, _request: SeriesRequest) -> Result<FrameStream> {
            let series = ["b", "a"].map(|name| float_series(labels(name), &[(1, 1.0)])).to_vec();
            Ok(futures::stream::iter([Ok(Frame::Series(series))]).boxed())
        }
        async fn label_names(&self, _request: LabelNamesRequest) -> Result<Metadata> {
            Ok(Metadata::default())
        }
        async fn label_values(&self, _request: LabelValuesRequest) -> Result<Metadata> {
            Ok(Metadata::default())
        }
    }
    let info = Backwards.info().await.unwrap();
    let endpoints = vec![endpoint("odd:1", Arc::new(Backwards), info)];
    let fanout = Fanout::new(Arc::new(endpoints), FanoutSettings::default(), clock());
    let (_, warnings) = answer(&fanout, request(PartialResponse::Warn)).await.unwrap();
    assert!(warnings[0].starts_with("receive series from odd:1: series"), "{warnings:?}");
}

#[tokio::test]
async fn info_is_the_union_and_carries_the_selector_labels() {
    let stores = [store("a", &["x"]), store("b", &["x"])];
    let endpoints: Vec<_> =
        stores.iter().map(|s| endpoint("e", Arc::new(s.clone()), s.info.clone())).collect();
    let selector_labels = Labels::from_pairs([("tier", "1")]);
    let settings = FanoutSettings { selector_labels, ..FanoutSettings::default() };
    let fanout = Fanout::new(Arc::new(endpoints), settings, clock());
    let info = fanout.info().await.unwrap();
    let sets: Vec<String> = info.label_sets.iter().map(Labels::to_string).collect();
    assert_eq!(sets, [r#"{region="a", tier="1"}"#, r#"{region="b", tier="1"}"#]);
    assert_eq!((info.range, info.tsdb_infos.len()), (TimeRange::new(1000, 2001), 2));
    assert!(info.tsdb_infos.iter().all(|tsdb| tsdb.announced == ["tier"]));
}

#[tokio::test]
async fn endpoints_without_store_api_are_neither_asked_nor_counted() {
    let ruler = Faulty { inner: store("rules", &["b"]), fault: StoreFault::Refuse };
    let info =
        StoreInfo { label_sets: Vec::new(), range: TimeRange::ALL, ..ruler.inner.info.clone() };
    let ruler = Endpoint {
        capabilities: Capabilities { rules: true, ..Capabilities::default() },
        ..(*endpoint("ruler:1", Arc::new(ruler), info)).clone()
    };
    let alone =
        Fanout::new(Arc::new(vec![Arc::new(ruler.clone())]), FanoutSettings::default(), clock());
    let error = answer(&alone, request(PartialResponse::Abort)).await.unwrap_err();
    assert_eq!(error.to_string(), "No StoreAPIs available");

    let held = store("a", &["x"]);
    let info = held.info.clone();
    let both = vec![endpoint("store:1", Arc::new(held), info.clone()), Arc::new(ruler)];
    let both = Fanout::new(Arc::new(both), FanoutSettings::default(), clock());
    let (series, warnings) = answer(&both, request(PartialResponse::Warn)).await.unwrap();
    assert_eq!((series.len(), warnings.len()), (1, 0));
    let announced = both.info().await.unwrap();
    assert_eq!((announced.label_sets, announced.range), (info.label_sets, info.range));
}

/// Stores that refuse to be asked without a matcher are asked with one that excludes nothing.
#[tokio::test]
async fn matchers_on_external_and_selector_labels_alone_are_answered() {
    let stores = [
        store("a", &["x"]),
        MemoryStore::new(&Dataset {
            external: Labels::from_pairs([("region", "b")]),
            series: vec![(Labels::from_pairs([("pod", "nameless")]), vec![(1000, 1.0)])],
        }),
    ];
    let endpoints: Vec<_> =
        stores.iter().map(|s| endpoint("e", Arc::new(s.clone()), s.info.clone())).collect();
    let selector_labels = Labels::from_pairs([("tier", "1")]);
    let settings = FanoutSettings { selector_labels, ..FanoutSettings::default() };
    let fanout = Fanout::new(Arc::new(endpoints), settings, clock());
    let (a, b) = (r#"{__name__="x", region="a"}"#, r#"{pod="nameless", region="b"}"#);
    for (matchers, expected) in [
        (vec![Matcher::equal("region", "a")], vec![a]),
        (vec![Matcher::equal("region", "b")], vec![b]),
        (vec![Matcher::equal("tier", "1")], vec![a, b]),
        (vec![Matcher::equal("tier", "1"), Matcher::equal("region", "a")], vec![a]),
    ] {
        let wanted = SeriesRequest { matchers, ..request(PartialResponse::Abort) };
        assert_eq!(answer(&fanout, wanted).await.unwrap().0, expected);
    }
    let labels_alone = SeriesRequest { skip_chunks: true, ..request(PartialResponse::Abort) };
    let labels_alone =
        SeriesRequest { matchers: vec![Matcher::equal("region", "a")], ..labels_alone };
    assert_eq!(answer(&fanout, labels_alone).await.unwrap().0, [a]);
    let nothing = SeriesRequest { matchers: Vec::new(), ..request(PartialResponse::Abort) };
    assert_eq!(answer(&fanout, nothing).await.unwrap_err().kind(), Kind::Invalid);
}

fn shared_series() -> impl Strategy<Value = Vec<(usize, u8, u8)>> {
    prop::collection::vec((0usize..4, 0u8..12, 0u8..3), 0..60)
}

proptest! {
    /// However series and chunks are spread over stores: each label set comes once, in order, with
    /// each chunk once.
    #[test]
    fn spread_series_come_together(spread in shared_series()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let chunk = |i: u8| float_series(Labels::empty(), &[(i64::from(i) * 100, f64::from(i))]).chunks;
        let mut stores = vec![BTreeMap::<u8, Vec<u8>>::new(); 4];
        let mut expected = BTreeMap::<String, Vec<u8>>::new();
        for (at, series, part) in spread {
            stores[at].entry(series).or_default().push(part);
            expected.entry(labels(&format!("s{series:02}")).to_string()).or_default().push(part);
        }
        expected.values_mut().for_each(|parts| { parts.sort_unstable(); parts.dedup(); });
        let stores = stores.into_iter().map(|held| {
            let series = held.into_iter().map(|(series, parts)| merge::Series {
                labels: labels(&format!("s{series:02}")),
                chunks: parts.into_iter().flat_map(chunk).collect(),
            });
            let mut store = MemoryStore::from_series(Labels::empty(), series.collect());
            store.info.range = TimeRange::ALL;
            store
        });
        let fanout = fanout_of(stores.collect());
        let got = runtime.block_on(async {
            let mut frames = fanout.series(request(PartialResponse::Abort)).await.unwrap();
            let mut all = Vec::new();
            while let Some(frame) = frames.next().await {
                if let Frame::Series(series) = frame.unwrap() {
                    all.extend(series);
                }
            }
            all
        });
        let got: Vec<(String, Vec<u8>)> = got
            .into_iter()
            .map(|s| (s.labels.to_string(), s.chunks.iter().map(|c| (c.min_time / 100) as u8).collect()))
            .collect();
        prop_assert_eq!(got, Vec::from_iter(expected));
    }
}

/// What is held to sort an answer is the request's, where it brings a share of the budget.
#[tokio::test]
async fn sorting_is_charged_to_the_request() {
    let series = store("east", &["a", "b"]);
    let info = StoreInfo { supports_without_replica_labels: false, ..series.info.clone() };
    let budget = Budget::new(1 << 20);
    let settings = FanoutSettings { budget: budget.clone(), ..FanoutSettings::default() };
    let fanout =
        Fanout::new(Arc::new(vec![endpoint("east:1", Arc::new(series), info)]), settings, clock());
    let asked = |memory: &Budget| SeriesRequest {
        without_replica_labels: vec!["region".to_owned()],
        memory: Some(memory.clone()),
        ..request(PartialResponse::Warn)
    };
    let share = Budget::new(1 << 20);
    let (found, _) = answer(&fanout, asked(&share)).await.unwrap();
    assert_eq!(found, [r#"{__name__="a"}"#, r#"{__name__="b"}"#]);
    assert!(share.peak() > 0 && budget.peak() == 0, "{} {}", share.peak(), budget.peak());
    let error = answer(&fanout, asked(&Budget::new(10))).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Memory);
}
