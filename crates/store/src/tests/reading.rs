//! How often and how deep the bucket is read.

use std::time::Duration;

use model::Resolution;
use storeapi::{LabelValuesRequest, SeriesRequest};

use super::support::*;
use crate::Settings;

/// So many series of each block, over two hours.
const SERIES: usize = 40;

fn many() -> Vec<merge::Series> {
    let one = |at: usize| {
        let number = format!("{at:03}");
        series(&[("__name__", "up"), ("instance", &number)], &samples(hours(0, 48), at as f64))
    };
    (0..SERIES).map(one).collect()
}

/// A raw block, and one in Parquet of two days later.
async fn bucket() -> TestBucket {
    let bucket = TestBucket::new();
    bucket.tsdb(&Make::raw(1, hours(0, 48), many())).await;
    let coarse = Make::raw(2, hours(0, 48), many()).of(&[("cluster", "us")]);
    bucket.parquet(&coarse.at(3, Resolution::FiveMinutes)).await;
    bucket
}

fn of_raw(range: model::TimeRange) -> SeriesRequest {
    SeriesRequest::new(range, vec![matcher("instance", "01.*"), matcher("cluster", "eu")])
}

fn of_parquet() -> SeriesRequest {
    let matchers = vec![matcher("instance", "01.*"), matcher("cluster", "us")];
    SeriesRequest { max_resolution_ms: 300_000, ..SeriesRequest::new(hours(0, 48), matchers) }
}

#[tokio::test]
async fn a_question_asked_again_costs_no_request() {
    let bucket = bucket().await;
    let store = bucket.served().await;
    let values = LabelValuesRequest {
        matchers: vec![matcher("__name__", "up")],
        ..values_of("instance", hours(0, 48))
    };
    let mut answers = Vec::new();
    for round in 0..2 {
        bucket.store.reset();
        let raw = ask(&store, of_raw(hours(0, 48))).await;
        let parquet = ask(&store, of_parquet()).await;
        let found = store.label_values(values.clone()).await.unwrap().values;
        assert_eq!((raw.series.len(), parquet.series.len(), found.len()), (10, 10, SERIES));
        let counts = bucket.store.counts();
        assert_eq!(counts.gets > 0, round == 0, "{counts:?}");
        assert_eq!((counts.heads, counts.lists), (0, 0), "{counts:?}");
        answers.push((raw.series, parquet.series, found));
    }
    assert!(answers[0] == answers[1]);
    // a part of the time that was read
    bucket.store.reset();
    assert_eq!(ask(&store, of_raw(hours(10, 20))).await.series.len(), 10);
    assert_eq!(bucket.store.counts().gets, 0);
}

/// The answer, and how many reads each had to wait for another.
async fn rounds(bucket: &TestBucket, settings: &Settings, request: SeriesRequest) -> [u32; 2] {
    let store = bucket.anew(settings.clone()).await;
    bucket.store.read_takes(Duration::from_secs(1));
    let mut rounds = [0; 2];
    for round in &mut rounds {
        let start = tokio::time::Instant::now();
        let answer = ask(&store, request.clone()).await;
        assert_eq!(answer.series.len(), 10);
        *round = start.elapsed().as_secs() as u32;
    }
    bucket.store.read_takes(Duration::ZERO);
    rounds
}

#[tokio::test(start_paused = true)]
async fn few_reads_wait_for_others() {
    let bucket = bucket().await;
    let settings = Settings::default();
    let without_data = Settings { bucket_cache_bytes: 0, ..Settings::default() };
    // header, postings, series, chunks
    let [cold, warm] = rounds(&bucket, &settings, of_raw(hours(0, 48))).await;
    assert!(cold <= 4 && warm == 0, "{cold} {warm}");
    let [cold, warm] = rounds(&bucket, &without_data, of_raw(hours(0, 48))).await;
    assert!(cold <= 4 && warm == 1, "{cold} {warm}");
    // footers, series, windows
    let [cold, warm] = rounds(&bucket, &settings, of_parquet()).await;
    assert!(cold <= 3 && warm == 0, "{cold} {warm}");
    let [cold, warm] = rounds(&bucket, &without_data, of_parquet()).await;
    assert!(cold <= 3 && warm <= 2, "{cold} {warm}");
}

#[tokio::test(start_paused = true)]
async fn a_block_that_was_opened_ahead_is_asked_for_its_series_at_once() {
    let bucket = bucket().await;
    let gateway = bucket.gateway(Settings::default());
    gateway.sync().await.unwrap();
    gateway.opening_ahead().unwrap().await;
    let store = gateway.store();
    bucket.store.reset();
    bucket.store.read_takes(Duration::from_secs(1));
    let start = tokio::time::Instant::now();
    ask(&store, of_raw(hours(0, 48))).await;
    assert_eq!(start.elapsed().as_secs(), 2);
    // the ten series lie side by side
    assert_eq!(bucket.store.counts().gets, 2);
}

#[tokio::test]
async fn files_that_are_restored_in_place_are_read_again() {
    let bucket = TestBucket::new();
    let location = bucket.tsdb(&Make::raw(1, hours(0, 48), many())).await;
    for file in [location.segment(1), location.index()] {
        let sound = bucket.get(&file).await;
        let mut damaged = sound.clone();
        // the headers of both files stay as they are
        damaged[40..].iter_mut().for_each(|byte| *byte ^= 0x55);
        bucket.put(&file, damaged).await;
        let store = bucket.anew(Settings::default()).await;
        let answer = ask(&store, of_raw(hours(0, 48))).await;
        assert!(!answer.warnings.is_empty());
        bucket.put(&file, sound).await;
        // what is forgotten is forgotten beside the answer
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        let answer = ask(&store, of_raw(hours(0, 48))).await;
        assert_eq!((answer.series.len(), answer.warnings.len()), (10, 0), "{:?}", answer.warnings);
    }
}
