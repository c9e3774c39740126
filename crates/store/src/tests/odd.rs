//! Blocks that correct writers do not write are served like any other, and deleted samples are not
//! served.

use std::collections::BTreeMap;

use block::BlockLocation;
use merge::ChunkContent;
use model::TimeRange;
use storeapi::{Kind, PartialResponse, SeriesRequest};
use testkit::{OddSeries, odd_index};
use tsdb::tombstones::{Interval, Tombstones};

use super::support::*;
use crate::Settings;

/// Six blocks with tombstones files, of which one names some.
const WITH_TOMBSTONES: [&str; 6] = ["01M5H9", "01M5J5", "01M5K0", "01M5KW", "01M5MQ", "01M5NK"];

/// Samples by labels.
type Served = BTreeMap<String, Vec<(i64, u64)>>;

fn served(answer: &Answer) -> Served {
    assert!(answer.warnings.is_empty(), "{:?}", answer.warnings);
    answer.series.iter().map(|s| (s.labels.to_string(), raw_samples(s))).collect()
}

fn count(served: &Served) -> usize {
    served.values().map(Vec::len).sum()
}

fn all() -> SeriesRequest {
    everything(TimeRange::ALL)
}

#[tokio::test]
async fn deleted_samples_are_not_served_and_a_changed_file_is_seen_after_the_next_sync() {
    let bucket = TestBucket::new();
    let metas = bucket.case("7-tombstones-file", &WITH_TOMBSTONES).await;
    let gateway = bucket.gateway(Settings::default());
    gateway.sync().await.unwrap();
    let store = gateway.store();
    let live = served(&ask(&store, all()).await);
    assert_eq!((live.len(), count(&live)), (4, 2159));
    let labels_only = SeriesRequest { skip_chunks: true, ..all() };
    assert_eq!(ask(&store, labels_only).await.series.len(), 4);

    // what the blocks hold, and what their files delete of it
    let (mut files, sound) = (Vec::new(), TestBucket::new());
    for meta in &metas {
        let location = BlockLocation::tsdb(meta.ulid);
        let bytes = bucket.get(&location.tombstones()).await;
        files.push((meta.clone(), Tombstones::parse(&bytes).unwrap()));
        for file in ["chunks/000001", "index", "meta.json"] {
            sound.put(&location.file(file), bucket.get(&location.file(file)).await).await;
        }
    }
    let stored = served(&ask(&sound.served().await, all()).await);
    assert_eq!(count(&stored), 2304);
    let (meta, deleted) = files.iter().find(|(_, tombstones)| !tombstones.is_empty()).unwrap();
    let gone = |labels: &str, t: i64| {
        let series = match labels {
            l if l.contains("lat_total") => 5,
            l if l.contains("reqs_total") => 7,
            _ => return false,
        };
        meta.range().contains(t)
            && deleted.get(series).iter().any(|i| i.min_time <= t && t <= i.max_time)
    };
    let mut expected = stored.clone();
    expected.iter_mut().for_each(|(labels, samples)| samples.retain(|(t, _)| !gone(labels, *t)));
    assert_eq!(live, expected);

    // all of one block
    let mut tombstones = Tombstones::default();
    [5, 7, 9, 11]
        .into_iter()
        .for_each(|id| tombstones.add(id, Interval { min_time: i64::MIN, max_time: i64::MAX }));
    bucket.put(&BlockLocation::tsdb(meta.ulid).tombstones(), tombstones.to_bytes()).await;
    gateway.sync().await.unwrap();
    assert_eq!(count(&served(&ask(&store, all()).await)), 2304 - 4 * 96);
    let of_block = SeriesRequest { range: meta.range(), skip_chunks: true, ..all() };
    assert!(ask(&store, of_block).await.series.is_empty());
    bucket.delete(&BlockLocation::tsdb(meta.ulid).tombstones()).await;
    gateway.sync().await.unwrap();
    assert_eq!(served(&ask(&store, all()).await), stored);
}

#[tokio::test]
async fn a_block_with_a_broken_tombstones_file_is_left_out() {
    let bucket = TestBucket::new();
    let metas = bucket.case("7-tombstones-file", &WITH_TOMBSTONES).await;
    bucket.put(&BlockLocation::tsdb(metas[0].ulid).tombstones(), vec![7; 20]).await;
    let answer = ask(&bucket.served().await, all()).await;
    let [warning] = &answer.warnings[..] else { panic!("{:?}", answer.warnings) };
    assert!(
        warning.contains(&metas[0].ulid.to_string()) && warning.contains("tombstones"),
        "{warning}"
    );
}

/// What is served of the malformed block of a bucket.
async fn served_of(case: &str) -> Served {
    let bucket = TestBucket::new();
    bucket.case(case, &["01M5H33SR0"]).await;
    let answer = ask(&bucket.served().await, all()).await;
    for series in &answer.series {
        let spans = series.chunks.iter().map(|c| (c.min_time, c.max_time));
        assert!(
            spans.clone().is_sorted()
                && series.chunks.iter().all(|c| matches!(c.content, ChunkContent::Raw(_)))
        );
    }
    served(&answer)
}

#[tokio::test]
async fn blocks_with_disorder_in_their_index_are_served_whole() {
    for (case, expected) in [
        ("2-ooo-chunks", &[r#"{__name__="bad", cluster="a"}"#][..]),
        (
            "11-labels-unsorted",
            &[
                r#"{__name__="a", b="1", cluster="a"}"#,
                r#"{__name__="zz", cluster="a", cmd="1", job="x"}"#,
            ],
        ),
        (
            "12-label-name-twice",
            &[r#"{__name__="a", cluster="a", ns="1"}"#, r#"{__name__="b", cluster="a"}"#],
        ),
        (
            "9-series-unsorted",
            &[
                r#"{__name__="a", cluster="a"}"#,
                r#"{__name__="b", cluster="a"}"#,
                r#"{__name__="c", cluster="a"}"#,
            ],
        ),
        ("13-wrong-index-size", &[r#"{__name__="a", cluster="a"}"#]),
    ] {
        let served = served_of(case).await;
        assert!(served.keys().eq(expected.iter()), "{case}: {:?}", served.keys());
        for (labels, samples) in &served {
            // a sample a minute
            let times: Vec<i64> = samples.iter().map(|(t, _)| *t).collect();
            assert_eq!(times.len(), 120, "{case} {labels}");
            assert!(times.windows(2).all(|w| w[1] - w[0] == 60_000), "{case} {labels}");
        }
    }
}

/// A block of this many series in order, except that the first stands last.
async fn late_disorder(series: usize) -> TestBucket {
    let bucket = TestBucket::new();
    let samples = samples(hours(0, 2), 1.0);
    let one =
        Make::raw(1, hours(0, 2), vec![super::support::series(&[("__name__", "up")], &samples)]);
    let location = bucket.tsdb(&one).await;
    let span = (8, hours(0, 2).start, hours(0, 2).end - 60_000);
    let named = |i: usize| OddSeries {
        labels: vec![("__name__".into(), "up".into()), ("pod".into(), format!("{i:06}"))],
        chunks: vec![span],
    };
    let odd: Vec<OddSeries> = (1..series).chain([0]).map(named).collect();
    bucket.put(&location.index(), odd_index(&odd)).await;
    bucket
}

#[tokio::test]
async fn disorder_that_shows_before_anything_was_given_costs_nothing() {
    let bucket = late_disorder(3000).await;
    let store = bucket.served().await;
    for strategy in [PartialResponse::Abort, PartialResponse::Warn] {
        let answer =
            ask(&store, SeriesRequest { partial_response: strategy, skip_chunks: true, ..all() })
                .await;
        assert_eq!(answer.series.len(), 3000);
        assert!(answer.warnings.is_empty(), "{:?}", answer.warnings);
        assert!(names(&answer)[0].contains("000000"), "{}", names(&answer)[0]);
    }
    assert_eq!(bucket.metric("thanos_bucket_store_block_load_failures_total"), Some(0.0));
}

#[tokio::test]
async fn disorder_that_shows_too_late_is_told_and_the_next_answer_is_whole() {
    const SERIES: usize = 40_000;
    for strategy in [PartialResponse::Warn, PartialResponse::Abort] {
        let bucket = late_disorder(SERIES).await;
        let store = bucket.served().await;
        let request = SeriesRequest { partial_response: strategy, skip_chunks: true, ..all() };
        match try_ask(&store, request.clone()).await {
            Ok(answer) => {
                assert_eq!(strategy, PartialResponse::Warn);
                let [warning] = &answer.warnings[..] else { panic!("{:?}", answer.warnings) };
                assert!(
                    warning.contains(&format!("block={} is left out from here on", id(1))),
                    "{warning}"
                );
                assert!(answer.series.len() < SERIES);
            }
            Err(error) => {
                assert_eq!((strategy, error.kind()), (PartialResponse::Abort, Kind::Aborted));
                assert!(error.to_string().contains(&id(1).to_string()), "{error}");
            }
        }
        let answer = ask(&store, request).await;
        assert_eq!((answer.series.len(), answer.warnings.len()), (SERIES, 0));
    }
}
