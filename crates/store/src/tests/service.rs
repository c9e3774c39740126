//! Readiness, the sync loop, Info and metrics.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt;
use model::{Budget, Resolution, TimeRange, TimestampMs};
use storeapi::{ComponentType, Kind, SeriesRequest};
use testkit::{Fault, FaultPlan, MockClock, Op};
use tower::ServiceExt;

use super::support::*;
use crate::{Settings, TimeBound};

fn one(n: u128, from: i64, to: i64) -> Make {
    Make::raw(
        n,
        hours(from, to),
        vec![series(&[("__name__", "up")], &samples(hours(from, to), 1.0))],
    )
}

#[tokio::test]
async fn nothing_is_answered_before_the_first_sync() {
    let bucket = TestBucket::new();
    bucket.tsdb(&one(1, 0, 2)).await;
    let gateway = bucket.gateway(Settings::default());
    let (store, ready) = (gateway.store(), gateway.ready());
    assert!(!*ready.borrow());
    assert_eq!(store.info().await.unwrap_err().kind(), Kind::Unavailable);
    assert_eq!(
        try_ask(&store, everything(hours(0, 2))).await.unwrap_err().kind(),
        Kind::Unavailable
    );
    gateway.sync().await.unwrap();
    assert!(*ready.borrow());
    assert_eq!(ask(&store, everything(hours(0, 2))).await.series.len(), 1);
}

#[tokio::test]
async fn an_empty_bucket_is_ready_and_holds_no_time() {
    let store = TestBucket::new().served().await;
    let info = store.info().await.unwrap();
    assert!(info.label_sets.is_empty() && info.tsdb_infos.is_empty());
    assert!(!info.range.overlaps(TimeRange::ALL), "{:?}", info.range);
}

#[tokio::test]
async fn info_joins_adjacent_blocks_of_a_label_set() {
    let bucket = TestBucket::new();
    for (n, from, to) in [(1, 0, 2), (2, 2, 4), (3, 6, 8)] {
        bucket.tsdb(&one(n, from, to)).await;
    }
    bucket.parquet(&one(4, 0, 3).at(5, Resolution::FiveMinutes)).await;
    bucket.tsdb(&one(6, 20, 22).of(&[("cluster", "us")])).await;
    let info = bucket.served().await.info().await.unwrap();
    assert_eq!(info.component, ComponentType::Store);
    let joined: Vec<(String, TimeRange)> =
        info.tsdb_infos.iter().map(|i| (i.labels.to_string(), i.range)).collect();
    let (eu, us) = (r#"{cluster="eu"}"#.to_owned(), r#"{cluster="us"}"#.to_owned());
    assert_eq!(joined, [(eu.clone(), hours(0, 4)), (eu, hours(6, 8)), (us, hours(20, 22))]);
    assert_eq!((info.label_sets.len(), info.range), (2, hours(0, 22)));
}

#[tokio::test]
async fn the_loop_takes_in_new_blocks_and_drops_those_that_are_gone() {
    let clock = MockClock::new(TimestampMs(START));
    let bucket = TestBucket::with_clock(Arc::new(clock.clone()));
    let first = bucket.tsdb(&one(1, 0, 2)).await;
    let gateway = bucket.gateway(Settings::default());
    let (store, mut ready) = (gateway.store(), gateway.ready());
    let running = tokio::spawn(gateway.run());
    ready.wait_for(|ready| *ready).await.unwrap();
    assert_eq!(store.info().await.unwrap().range, hours(0, 2));
    bucket.tsdb(&one(2, 2, 4)).await;
    bucket.delete(&first.meta()).await;
    let deadline = Duration::from_secs(20);
    let changed = async {
        while store.info().await.unwrap().range != hours(2, 4) {
            clock.advance(Duration::from_secs(60));
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(deadline, changed).await.expect("the next sync sees it");
    running.abort();
    assert_eq!(bucket.metric("thanos_bucket_store_block_loads_total"), Some(2.0));
    assert_eq!(bucket.metric("thanos_bucket_store_block_drops_total"), Some(1.0));
    assert_eq!(bucket.metric("thanos_bucket_store_blocks_loaded"), Some(1.0));
}

#[tokio::test]
async fn blocks_outside_of_the_time_or_relabelled_away_are_not_served() {
    let bucket = TestBucket::new();
    bucket.tsdb(&one(1, 0, 2)).await;
    bucket.tsdb(&one(2, 10, 12)).await;
    bucket.tsdb(&one(3, 10, 12).of(&[("cluster", "us")])).await;
    let relabel =
        block::sync::parse_relabel_configs("[{action: keep, source_labels: [cluster], regex: eu}]")
            .unwrap();
    let min_time = TimeBound::At(TimestampMs(START + 5 * HOUR));
    let store = bucket.served_with(Settings { min_time, relabel, ..Settings::default() }).await;
    let info = store.info().await.unwrap();
    assert_eq!((info.range, info.label_sets), (hours(10, 12), vec![labels(&[("cluster", "eu")])]));
    let max_time = TimeBound::At(TimestampMs(START + 11 * HOUR - 1));
    let bucket = TestBucket { registry: prometheus::Registry::new(), ..bucket };
    let store = bucket.served_with(Settings { min_time, max_time, ..Settings::default() }).await;
    assert_eq!(
        store.info().await.unwrap().range,
        hours(10, 11),
        "blocks reach beyond the time that is served"
    );
    assert!(ask(&store, everything(hours(11, 12))).await.series.is_empty());
}

#[tokio::test]
async fn a_compacted_block_replaces_its_sources() {
    let bucket = TestBucket::new();
    bucket.tsdb(&one(1, 0, 2)).await;
    bucket.tsdb(&one(2, 2, 4)).await;
    bucket.tsdb(&Make { sources: vec![id(1), id(2)], ..one(3, 0, 4) }).await;
    let store = bucket.served().await;
    let answer = ask(&store, everything(hours(0, 4))).await;
    assert_eq!(raw_samples(&answer.series[0]).len(), 240);
    assert_eq!(bucket.metric("thanos_bucket_store_blocks_loaded"), Some(1.0));
}

#[tokio::test]
async fn more_requests_than_the_gate_lets_through_wait() {
    let bucket = TestBucket::new();
    bucket.tsdb(&one(1, 0, 2)).await;
    let store =
        bucket.served_with(Settings { series_max_concurrency: 1, ..Settings::default() }).await;
    let held = store.series(everything(hours(0, 2))).await.unwrap();
    let waiting = tokio::spawn({
        let store = Arc::clone(&store);
        async move { ask(&store, everything(hours(0, 2))).await.series.len() }
    });
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    let labels = tokio::spawn({
        let store = Arc::clone(&store);
        async move { store.label_values(values_of("__name__", hours(0, 2))).await.unwrap().values }
    });
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(!waiting.is_finished() && !labels.is_finished());
    assert_eq!(bucket.metric("thanos_bucket_store_series_gate_queries_in_flight"), Some(1.0));
    drop(held);
    assert_eq!(waiting.await.unwrap(), 1);
    assert_eq!(labels.await.unwrap(), ["up"]);
    assert_eq!(bucket.metric("thanos_bucket_store_series_gate_queries_in_flight"), Some(0.0));
    assert_eq!(bucket.metric("thanos_bucket_store_series_gate_duration_seconds"), Some(3.0));
}

#[tokio::test]
async fn the_metrics_of_dashboards_are_there_from_the_start() {
    let bucket = TestBucket::new();
    bucket.tsdb(&one(1, 0, 2)).await;
    let store = bucket.served().await;
    let store_names = [
        "block_loads_total",
        "block_load_failures_total",
        "block_drops_total",
        "block_drop_failures_total",
        "blocks_loaded",
        "series_data_touched",
        "series_data_fetched",
        "series_blocks_queried",
        "series_result_series",
        "series_gate_duration_seconds",
        "series_get_all_duration_seconds",
        "series_merge_duration_seconds",
        "sent_chunk_size_bytes",
        "queries_dropped_total",
    ];
    for name in store_names {
        assert!(bucket.metric(&format!("thanos_bucket_store_{name}")).is_some(), "{name}");
    }
    for name in ["requests_total", "hits_total", "items_added_total", "items_evicted_total"] {
        assert!(bucket.metric(&format!("thanos_store_index_cache_{name}")).is_some(), "{name}");
    }
    for name in ["syncs_total", "sync_failures_total", "sync_duration_seconds", "synced"] {
        assert!(bucket.metric(&format!("thanos_blocks_meta_{name}")).is_some(), "{name}");
    }
    ask(&store, everything(hours(0, 2))).await;
    for name in ["series_blocks_queried", "series_result_series", "sent_chunk_size_bytes"] {
        assert_eq!(bucket.metric(&format!("thanos_bucket_store_{name}")), Some(1.0), "{name}");
    }
    for name in ["series_get_all_duration_seconds", "series_merge_duration_seconds"] {
        assert_eq!(bucket.metric(&format!("thanos_bucket_store_{name}")), Some(1.0), "{name}");
    }
}

async fn blocks(routes: &axum::Router, view: &str) -> serde_json::Value {
    let request = http::Request::get(format!("/api/v1/blocks?view={view}"));
    let request = request.body(axum::body::Body::empty()).unwrap();
    let response = routes.clone().oneshot(request).await.unwrap();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    serde_json::from_slice(&body).unwrap()
}

#[tokio::test]
async fn blocks_are_shown_as_loaded_and_as_the_bucket_holds_them() {
    let bucket = TestBucket::new();
    bucket.tsdb(&one(1, 0, 2)).await;
    bucket.tsdb(&one(2, 2, 4)).await;
    let until = TimestampMs(hours(0, 1).end);
    let settings = Settings { max_time: TimeBound::At(until), ..Settings::default() };
    let gateway = bucket.gateway(settings);
    gateway.sync().await.unwrap();
    let routes = gateway.into_component().unwrap().served.routes;
    for (view, expected) in [("loaded", 1), ("global", 2)] {
        let body = blocks(&routes, view).await;
        let found = body["data"]["blocks"].as_array().unwrap();
        assert_eq!(found.len(), expected, "{view}: {body}");
        assert_eq!(found[0]["thanos"]["labels"]["cluster"], "eu", "{body}");
    }
}

#[tokio::test]
async fn a_failed_sync_is_shown_beside_what_was_known() {
    let bucket = TestBucket::new();
    bucket.tsdb(&one(1, 0, 2)).await;
    let plan = FaultPlan::new(|call| (call.op == Op::List).then_some(Fault::Denied));
    let gateway = bucket.failing_gateway(Settings::default(), plan);
    let parts = gateway.into_parts();
    let working = tokio::spawn(parts.run);
    let failed = async {
        loop {
            let body = blocks(&parts.routes, "loaded").await;
            if !body["data"]["err"].is_null() {
                break body;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let body = tokio::time::timeout(Duration::from_secs(20), failed).await.unwrap();
    assert!(body["data"]["err"].as_str().unwrap().contains("listing"), "{body}");
    assert_eq!(body["data"]["blocks"], serde_json::json!([]));
    assert!(!*parts.ready.borrow());
    working.abort();
}

/// A caller in this process has a share already; waiting for another one could be for ever.
#[tokio::test]
async fn a_caller_with_a_share_of_the_budget_is_charged_and_does_not_wait() {
    let bucket = TestBucket::new();
    bucket.tsdb(&one(1, 0, 2)).await;
    let budget = Budget::new(64 << 20);
    let settings =
        Settings { index_cache_bytes: 1 << 20, budget: budget.clone(), ..Settings::default() };
    let store = bucket.served_with(settings).await;
    let share = budget.share("the query", budget.limit()).await.unwrap();
    let request = SeriesRequest { memory: Some(share.clone()), ..everything(hours(0, 2)) };
    let answer = tokio::time::timeout(Duration::from_secs(20), try_ask(&store, request)).await;
    assert_eq!(answer.expect("it does not wait").unwrap().series.len(), 1);
    assert!(share.peak() > 0, "what was read was charged to the share");
    assert_eq!(share.used(), 0, "and given back");

    let nearly_all = budget.limit();
    let mut held = share.reserve("a test");
    held.grow(nearly_all).unwrap();
    let request = SeriesRequest { memory: Some(share.clone()), ..everything(hours(0, 2)) };
    let error = try_ask(&store, request).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Memory, "{error}");
    assert!(share.refused().is_some(), "the query knows how much it needs");
}
