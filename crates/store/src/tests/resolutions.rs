//! Raw, 5m and 1h blocks, in both formats, beside each other.

use merge::ChunkContent;
use model::{Labels, Resolution, TimeRange};
use storeapi::{AggregateKind, SeriesRequest};
use tsdb::chunk::Aggregate;

use super::support::*;

const FIVE_MINUTES: i64 = 300_000;

fn up(range: TimeRange) -> Vec<merge::Series> {
    vec![series(&[("__name__", "up")], &samples(range, 1.0))]
}

fn request(range: TimeRange, max_resolution_ms: i64, coarser_fallback: bool) -> SeriesRequest {
    let aggregates = vec![AggregateKind::Of(Aggregate::Count), AggregateKind::Of(Aggregate::Sum)];
    SeriesRequest { max_resolution_ms, coarser_fallback, aggregates, ..everything(range) }
}

/// Raw for two days, 5m for the first of them.
async fn two_days(bucket: &TestBucket) {
    let (first, second) = (
        Make::raw(1, hours(0, 24), up(hours(0, 24))),
        Make::raw(2, hours(24, 48), up(hours(24, 48))),
    );
    bucket.tsdb(&first).await;
    bucket.tsdb(&second).await;
    bucket.parquet(&first.at(3, Resolution::FiveMinutes)).await;
}

#[tokio::test]
async fn coarse_data_serves_where_it_exists_and_raw_fills_the_rest() {
    let bucket = TestBucket::new();
    two_days(&bucket).await;
    let store = bucket.served().await;
    let answer = ask(&store, request(hours(0, 48), FIVE_MINUTES, false)).await;
    assert_eq!(names(&answer), [r#"{__name__="up", cluster="eu"}"#]);
    let kinds = kinds(&answer.series[0]);
    assert!(kinds.iter().all(|(kind, hour)| (*kind == "aggregates") == (*hour < 24)), "{kinds:?}");
    assert!(kinds.iter().any(|k| k.0 == "raw") && kinds.iter().any(|k| k.0 == "aggregates"));
    assert_eq!(
        answer.infos,
        ["served 5m data for 2026-01-01T00:04:59.999Z to 2026-01-01T23:59:00Z"]
    );
    let raw = ask(&store, request(hours(0, 48), 0, false)).await;
    assert_eq!(raw_samples(&raw.series[0]).len(), 48 * 60);
    assert_eq!(raw.infos, [""; 0]);
}

#[tokio::test]
async fn only_the_aggregates_asked_for_are_sent() {
    let bucket = TestBucket::new();
    let make = Make::raw(1, hours(0, 24), up(hours(0, 24))).at(3, Resolution::FiveMinutes);
    for parquet in [true, false] {
        let bucket_of_one = TestBucket::new();
        if parquet {
            bucket_of_one.parquet(&make).await
        } else {
            bucket_of_one.tsdb(&make).await
        };
        let answer =
            ask(&bucket_of_one.served().await, request(hours(0, 24), FIVE_MINUTES, false)).await;
        for chunk in &answer.series[0].chunks {
            let has: Vec<bool> =
                Aggregate::ALL.iter().map(|a| chunk.aggregate(*a).is_some()).collect();
            assert_eq!(has, [true, true, false, false, false], "parquet: {parquet}");
        }
    }
    // the two formats give the same bytes
    bucket.parquet(&make).await;
    let parquet = ask(&bucket.served().await, request(hours(0, 24), FIVE_MINUTES, false)).await;
    let other = TestBucket::new();
    other.tsdb(&make).await;
    assert_eq!(
        ask(&other.served().await, request(hours(0, 24), FIVE_MINUTES, false)).await.series,
        parquet.series
    );
}

#[tokio::test]
async fn where_raw_is_gone_coarser_data_serves_those_who_take_it() {
    let bucket = TestBucket::new();
    let old = Make::raw(1, hours(0, 24), up(hours(0, 24)));
    bucket.parquet(&old.at(2, Resolution::FiveMinutes)).await;
    bucket.parquet(&old.at(3, Resolution::OneHour)).await;
    bucket.tsdb(&Make::raw(4, hours(24, 48), up(hours(24, 48)))).await;
    let store = bucket.served().await;
    let without = ask(&store, request(hours(0, 48), 0, false)).await;
    assert!(kinds(&without.series[0]).iter().all(|(kind, hour)| *kind == "raw" && *hour >= 24));
    assert_eq!(without.infos, [""; 0]);
    let with = ask(&store, request(hours(0, 48), 0, true)).await;
    assert!(
        kinds(&with.series[0]).iter().all(|(kind, hour)| (*kind == "aggregates") == (*hour < 24))
    );
    assert!(with.infos[0].starts_with("served 5m data"), "{:?}", with.infos);
    assert_eq!(with.infos.len(), 1);
    let bare = SeriesRequest { skip_chunks: true, ..request(hours(0, 24), 0, true) };
    let bare = ask(&store, bare).await;
    assert_eq!((names(&bare).len(), bare.infos.len()), (1, 0));
}

#[tokio::test]
async fn of_two_copies_of_the_same_data_one_is_served() {
    let bucket = TestBucket::new();
    let make = Make::raw(1, hours(0, 24), up(hours(0, 24)));
    bucket.tsdb(&make.at(2, Resolution::FiveMinutes)).await;
    bucket.parquet(&make.at(3, Resolution::FiveMinutes)).await;
    // made of the same and of more
    let more = Make { sources: vec![id(1), id(9)], ..make.at(4, Resolution::OneHour) };
    bucket.tsdb(&more).await;
    bucket.parquet(&make.at(5, Resolution::OneHour)).await;
    let gateway = bucket.gateway(crate::Settings::default());
    gateway.sync().await.unwrap();
    assert_eq!(bucket.metric("thanos_bucket_store_blocks_loaded"), Some(2.0));
    bucket.store.reset();
    ask(&gateway.store(), request(hours(0, 24), FIVE_MINUTES, false)).await;
    assert_eq!(
        bucket.metric("thanos_store_index_cache_requests_total"),
        Some(0.0),
        "the Parquet copy of 5m"
    );
    ask(&gateway.store(), request(hours(0, 24), HOUR, false)).await;
    assert_eq!(
        bucket.metric("thanos_store_index_cache_requests_total"),
        Some(1.0),
        "the TSDB block of 1h"
    );
}

/// Internal labels that external ones hide, and replica labels in the data, reorder series of
/// Parquet blocks too.
#[tokio::test]
async fn parquet_series_are_sorted_by_their_final_labels() {
    let bucket = TestBucket::new();
    let range = hours(0, 24);
    let one = |pairs: &[(&str, &str)]| series(pairs, &samples(range, 1.0));
    let all = vec![
        one(&[("__name__", "a"), ("cluster", "1"), ("z", "2")]),
        one(&[("__name__", "a"), ("cluster", "2"), ("z", "1")]),
        one(&[("__name__", "a"), ("pod", "x")]),
        one(&[("__name__", "b"), ("replica", "1"), ("y", "2")]),
        one(&[("__name__", "b"), ("replica", "2"), ("y", "1")]),
    ];
    bucket.parquet(&Make::raw(1, range, all).at(2, Resolution::FiveMinutes)).await;
    let request = SeriesRequest {
        without_replica_labels: vec!["replica".into()],
        ..request(range, FIVE_MINUTES, false)
    };
    let answer = ask(&bucket.served().await, request).await;
    let expected = [
        r#"{__name__="a", cluster="eu", pod="x"}"#,
        r#"{__name__="a", cluster="eu", z="1"}"#,
        r#"{__name__="a", cluster="eu", z="2"}"#,
        r#"{__name__="b", cluster="eu", y="1"}"#,
        r#"{__name__="b", cluster="eu", y="2"}"#,
    ];
    assert_eq!(names(&answer), expected);
}

/// Thanos' own 1h block: the sub-chunks are sent byte for byte, those not asked for are not.
#[tokio::test]
async fn a_downsampled_block_of_thanos_is_served_as_it_is() {
    let bucket = TestBucket::new();
    let meta = bucket.fixture("aggr/01M81HXX0GS6A2F69HCM1Y84FY").await;
    let store = bucket.served().await;
    let aggregates = vec![AggregateKind::Of(Aggregate::Counter)];
    let counters = SeriesRequest { aggregates, ..request(TimeRange::ALL, HOUR, false) };
    let (all, counters) = (
        ask(&store, SeriesRequest { aggregates: vec![], ..counters.clone() }).await,
        ask(&store, counters).await,
    );
    assert_eq!(all.series.len() as u64, meta.stats.num_series);
    assert_eq!(
        all.series.iter().map(|s| s.chunks.len() as u64).sum::<u64>(),
        meta.stats.num_chunks
    );
    for (whole, part) in all.series.iter().zip(&counters.series) {
        assert_eq!(whole.labels, part.labels);
        for (whole, part) in whole.chunks.iter().zip(&part.chunks) {
            assert_eq!(whole.aggregate(Aggregate::Counter), part.aggregate(Aggregate::Counter));
            let ChunkContent::Aggregates(parts) = &part.content else { panic!("a raw chunk") };
            assert_eq!(
                parts.iter().flatten().count(),
                usize::from(part.aggregate(Aggregate::Counter).is_some())
            );
        }
    }
    assert!(
        counters.infos[0].starts_with("served 1h data for 2026-01-01T"),
        "{:?}",
        counters.infos
    );
    assert_eq!(all.series[0].labels.get("cluster"), meta.external_labels().get("cluster"));
    assert_ne!(meta.external_labels(), Labels::empty());
}
