//! Broken blocks and limits: the rest is served, and the reason reported.

use std::sync::Arc;

use model::{Budget, Resolution};
use storeapi::{Kind, LabelValuesRequest, PartialResponse, SeriesLimits, SeriesRequest};
use testkit::{Fault, FaultPlan};
use tsdb::meta::BlockMeta;

use super::support::*;
use crate::Settings;

/// A block of cluster eu with a series per pod, and one of cluster us.
async fn two_blocks(bucket: &TestBucket) -> (block::BlockLocation, block::BlockLocation) {
    let pods = |cluster: &str| -> Vec<merge::Series> {
        let name = |i: i32| format!("{cluster}-{i}");
        (0..20)
            .map(|i| {
                series(&[("__name__", "up"), ("pod", &name(i))], &samples(hours(0, 2), i.into()))
            })
            .collect()
    };
    let eu = bucket.tsdb(&Make::raw(1, hours(0, 2), pods("eu"))).await;
    let us = bucket.tsdb(&Make::raw(2, hours(0, 2), pods("us")).of(&[("cluster", "us")])).await;
    (eu, us)
}

fn abort(request: SeriesRequest) -> SeriesRequest {
    SeriesRequest { partial_response: PartialResponse::Abort, ..request }
}

/// Checks that without the block of cluster eu, the answer is that of cluster us with a warning.
async fn assert_left_out(bucket: &TestBucket, what: &str) {
    let store = bucket.served().await;
    let answer = ask(&store, everything(hours(0, 2))).await;
    assert_eq!(answer.series.len(), 20, "{what}");
    assert!(names(&answer).iter().all(|n| n.contains("us-")), "{what}");
    let [warning] = &answer.warnings[..] else { panic!("{what}: {:?}", answer.warnings) };
    assert!(warning.contains(&format!("block={} is left out", id(1))), "{what}: {warning}");
    assert!(warning.ends_with("restore its files"), "{what}: {warning}");
    assert_eq!(bucket.metric("thanos_bucket_store_block_load_failures_total"), Some(1.0), "{what}");
    let error = try_ask(&store, abort(everything(hours(0, 2)))).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Aborted, "{what}");
    assert!(error.to_string().contains(&id(1).to_string()), "{what}: {error}");
}

#[tokio::test]
async fn a_block_with_a_broken_index_is_left_out() {
    for (what, change) in [
        ("truncated", (|index| index.truncate(100)) as fn(&mut Vec<u8>)),
        ("flipped in the symbols", |index| index[30] ^= 0xff),
        ("flipped at the end", |index| *index.last_mut().unwrap() ^= 1),
    ] {
        let bucket = TestBucket::new();
        let (eu, _) = two_blocks(&bucket).await;
        let mut index = bucket.get(&eu.index()).await;
        change(&mut index);
        bucket.put(&eu.index(), index).await;
        assert_left_out(&bucket, what).await;
    }
}

#[tokio::test]
async fn a_block_without_its_files_is_left_out() {
    let bucket = TestBucket::new();
    let (eu, _) = two_blocks(&bucket).await;
    bucket.delete(&eu.index()).await;
    assert_left_out(&bucket, "no index").await;
    let bucket = TestBucket::new();
    let (eu, _) = two_blocks(&bucket).await;
    bucket.delete(&eu.segment(1)).await;
    assert_left_out(&bucket, "no segment").await;
}

#[tokio::test]
async fn a_block_whose_reads_hang_is_left_out() {
    for hung in ["index", "chunks/000001"] {
        let bucket = TestBucket::new();
        two_blocks(&bucket).await;
        let object = format!("{}/{hung}", id(1));
        let plan = FaultPlan::new(move |call| (call.key == object).then_some(Fault::Hung));
        let gateway = bucket.failing_gateway(Settings::default(), plan);
        gateway.sync().await.unwrap();
        let answer = ask(&gateway.store(), everything(hours(0, 2))).await;
        assert_eq!(answer.series.len(), 20, "{hung}: the block of cluster us is whole");
        assert!(names(&answer).iter().all(|n| n.contains("us-")), "{hung}");
        assert!(!answer.warnings.is_empty(), "{hung}");
        let named = answer.warnings.iter().all(|warning| warning.contains(&id(1).to_string()));
        assert!(named, "{hung}: {:?}", answer.warnings);
    }
}

#[tokio::test]
async fn a_broken_chunk_costs_its_series_alone() {
    let bucket = TestBucket::new();
    let (eu, _) = two_blocks(&bucket).await;
    let mut segment = bucket.get(&eu.segment(1)).await;
    let middle = segment.len() / 2;
    segment[middle] ^= 0xff;
    bucket.put(&eu.segment(1), segment).await;
    let store = bucket.served().await;
    let answer = ask(&store, everything(hours(0, 2))).await;
    assert_eq!(answer.series.len(), 39);
    let [warning] = &answer.warnings[..] else { panic!("{:?}", answer.warnings) };
    assert!(
        warning.starts_with("a series is left out: block=") && warning.contains("pod=\"eu-"),
        "{warning}"
    );
    let error = try_ask(&store, abort(everything(hours(0, 2)))).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Aborted);
}

#[tokio::test]
async fn a_broken_meta_costs_its_block_alone() {
    let bucket = TestBucket::new();
    let (eu, _) = two_blocks(&bucket).await;
    bucket.put(&eu.meta(), b"{\"ulid\":".to_vec()).await;
    let gateway = bucket.gateway(Settings::default());
    gateway.sync().await.unwrap();
    gateway.sync().await.unwrap();
    assert_eq!(ask(&gateway.store(), everything(hours(0, 2))).await.series.len(), 20);
    assert_eq!(
        bucket.metric("thanos_bucket_store_block_load_failures_total"),
        Some(1.0),
        "once, not per sync"
    );
    assert_eq!(bucket.metric("thanos_bucket_store_block_loads_total"), Some(1.0));
}

#[tokio::test]
async fn a_broken_parquet_block_is_left_out() {
    let change_footer = |bytes: &mut Vec<u8>| {
        let at = bytes.len() - 20;
        bytes[at..].fill(0xee);
    };
    for file in ["0.series.parquet", "0.samples.parquet"] {
        let bucket = TestBucket::new();
        two_blocks(&bucket).await;
        let old = vec![series(&[("__name__", "up"), ("pod", "old")], &samples(hours(-24, 0), 1.0))];
        let location =
            bucket.parquet(&Make::raw(7, hours(-24, 0), old).at(8, Resolution::FiveMinutes)).await;
        let mut bytes = bucket.get(&location.file(file)).await;
        change_footer(&mut bytes);
        bucket.put(&location.file(file), bytes).await;
        let store = bucket.served().await;
        let request = SeriesRequest { max_resolution_ms: 300_000, ..everything(hours(-24, 2)) };
        let answer = ask(&store, request).await;
        assert_eq!(answer.series.len(), 40);
        assert!(
            answer.warnings[0].contains(&format!("block={} is left out", id(8))),
            "{:?}",
            answer.warnings
        );
    }
}

#[tokio::test]
async fn labels_of_broken_blocks_are_missed_with_a_warning() {
    let bucket = TestBucket::new();
    let (eu, _) = two_blocks(&bucket).await;
    bucket.put(&eu.index(), vec![0; 64]).await;
    let store = bucket.served().await;
    let request =
        |partial_response| LabelValuesRequest { partial_response, ..values_of("pod", hours(0, 2)) };
    let answer = store.label_values(request(PartialResponse::Warn)).await.unwrap();
    assert_eq!(answer.values.len(), 20);
    assert!(answer.warnings[0].contains(&format!("block={}", id(1))), "{:?}", answer.warnings);
    let error = store.label_values(request(PartialResponse::Abort)).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Aborted);
}

#[tokio::test]
async fn limits_end_a_request_whatever_the_strategy() {
    let bucket = TestBucket::new();
    two_blocks(&bucket).await;
    let series =
        Settings { limits: SeriesLimits { series: 10, samples: 0 }, ..Settings::default() };
    let error =
        try_ask(&bucket.served_with(series).await, everything(hours(0, 2))).await.unwrap_err();
    assert_eq!(error.to_string(), "failed to send series: limit 10 violated (got 40)");
    let bucket = TestBucket::new();
    two_blocks(&bucket).await;
    let bytes = Settings { downloaded_bytes_limit: 1000, ..Settings::default() };
    let error =
        try_ask(&bucket.served_with(bytes).await, everything(hours(0, 2))).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Limit);
    assert!(
        error.to_string().starts_with("exceeded bytes limit: limit 1000 violated (got "),
        "{error}"
    );
    assert!(bucket.metric("thanos_bucket_store_queries_dropped_total") >= Some(1.0));
}

#[tokio::test]
async fn what_does_not_fit_into_the_budget_is_refused_and_given_back() {
    let bucket = TestBucket::new();
    two_blocks(&bucket).await;
    let budget = Budget::new(4096);
    let settings = Settings {
        budget: budget.clone(),
        index_cache_bytes: 0,
        bucket_cache_bytes: 0,
        ..Settings::default()
    };
    let store = bucket.served_with(settings).await;
    let error = try_ask(&store, everything(hours(0, 2))).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Memory);
    assert!(error.to_string().contains("--memory-budget"), "{error}");
    let one = SeriesRequest::new(hours(0, 2), vec![model::Matcher::equal("pod", "us-3")]);
    assert_eq!(ask(&store, one).await.series.len(), 1);
    let deadline = std::time::Duration::from_secs(10);
    let freed = async {
        // tasks that were told to end release what they hold when they next run
        while budget.used() > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(deadline, freed).await.expect("everything is given back");
}

/// Refusing would be no answer to many requests at once.
#[tokio::test]
async fn requests_that_do_not_fit_together_take_turns() {
    let served = |budget: Budget| async {
        let bucket = TestBucket::new();
        two_blocks(&bucket).await;
        bucket
            .served_with(Settings {
                budget,
                index_cache_bytes: 0,
                bucket_cache_bytes: 0,
                ..Settings::default()
            })
            .await
    };
    let alone = Budget::unlimited();
    let expected = ask(&served(alone.clone()).await, everything(hours(0, 2))).await;
    let budget = Budget::new(alone.peak() * 3 / 2);
    let store = served(budget.clone()).await;
    let all = (0..12).map(|_| {
        let store = Arc::clone(&store);
        tokio::spawn(async move { ask(&store, everything(hours(0, 2))).await })
    });
    for answer in futures::future::join_all(all).await {
        let answer = answer.unwrap();
        assert_eq!((names(&answer), answer.warnings.len()), (names(&expected), 0));
    }
    assert!(budget.peak() <= budget.limit());
}

#[tokio::test]
async fn labels_that_do_not_fit_into_the_budget_are_no_partial_answer() {
    let bucket = TestBucket::new();
    two_blocks(&bucket).await;
    let budget = Budget::new(1500);
    let settings = Settings {
        budget: budget.clone(),
        index_cache_bytes: 0,
        bucket_cache_bytes: 0,
        ..Settings::default()
    };
    let store = bucket.served_with(settings).await;
    let error = store.label_values(values_of("pod", hours(0, 2))).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Memory);
    let text = error.to_string();
    assert!(text.contains("of the 1500 bytes"), "{text}");
    assert_eq!(budget.used(), 0, "everything is given back");
}

/// What is served of two real blocks beside one that claims both: the metrics found, and how many
/// blocks are loaded.
async fn served_beside(claiming: Make, samples_stated: u64) -> (Vec<String>, f64) {
    let bucket = TestBucket::new();
    let named = |name: &str, range| vec![series(&[("__name__", name)], &samples(range, 1.0))];
    let real = [
        Make::raw(1, hours(0, 2), named("first", hours(0, 2))),
        Make::raw(2, hours(2, 4), named("second", hours(2, 4))),
    ];
    for make in &real {
        let location = bucket.tsdb(make).await;
        state_samples(&bucket, &location, 120).await;
    }
    let claiming = Make {
        series: named("claiming", claiming.range),
        sources: real.iter().map(|make| make.id).collect(),
        ..claiming
    };
    let location = bucket.tsdb(&claiming).await;
    state_samples(&bucket, &location, samples_stated).await;
    let answer = ask(&bucket.served().await, everything(hours(0, 4))).await;
    let found = answer.series.iter().map(|s| s.labels.get("__name__").unwrap_or_default().to_vec());
    let found = found.map(|name| String::from_utf8(name).unwrap()).collect();
    (found, bucket.metric("thanos_bucket_store_blocks_loaded").unwrap())
}

async fn state_samples(bucket: &TestBucket, location: &block::BlockLocation, samples: u64) {
    let mut meta = BlockMeta::from_json(&bucket.get(&location.meta()).await).unwrap();
    meta.stats.num_samples = samples;
    bucket.put(&location.meta(), meta.to_json()).await;
}

#[tokio::test]
async fn a_block_that_cannot_hold_what_it_claims_hides_nothing() {
    let claiming = |range| Make::raw(3, range, Vec::new());
    let all = ["claiming", "first", "second"].map(str::to_owned);
    for (range, samples) in [(hours(1, 3), 240), (hours(0, 4), 0), (hours(4, 9), 240)] {
        let (found, loaded) = served_beside(claiming(range), samples).await;
        let expected = if range.start == hours(4, 9).start { &all[1..] } else { &all[..] };
        assert_eq!((&found[..], loaded), (expected, 3.0), "{range:?} with {samples}");
    }
    let (found, loaded) = served_beside(claiming(hours(0, 4)), 240).await;
    assert_eq!((&found[..], loaded), (&all[..1], 1.0), "one that can stands for them");
    let (found, _) = served_beside(claiming(hours(0, 2)), 240).await;
    assert_eq!(found, ["claiming", "second"]);
}
