//! What is answered: the conformance suite, chunks as they were stored, few bytes read.

use std::sync::Arc;

use bytes::Bytes;
use merge::{ChunkBytes, ChunkContent, Series, SeriesChunk};
use model::{Labels, Matcher, TimeRange};
use storeapi::conformance::{self, Dataset, FloatSamples, Options, float_series};
use storeapi::{LabelNamesRequest, LabelValuesRequest, PartialResponse, SeriesRequest, Store};
use tsdb::chunk::Encoding;

use super::support::*;

const OPTIONS: Options = Options { start: START, refuses_external_matchers_only: false };

#[tokio::test]
async fn replicas_in_blocks_of_their_own_pass_the_suite() {
    conformance::run(OPTIONS, |data: Dataset| async move {
        let bucket = TestBucket::new();
        let stored: Vec<Series> =
            data.series.iter().map(|(l, s)| float_series(l.clone(), s)).collect();
        for (n, replica) in ["r1", "r2"].into_iter().enumerate().filter(|_| !stored.is_empty()) {
            let make = Make::raw(n as u128, hours(0, 2), stored.clone());
            let external = data.external.with(conformance::REPLICA, replica);
            bucket.tsdb(&Make { external, ..make }).await;
        }
        bucket.served().await
    })
    .await;
}

#[tokio::test]
async fn series_cut_over_blocks_pass_the_suite() {
    conformance::run(OPTIONS, |data: Dataset| async move {
        let bucket = TestBucket::new();
        // the first minute, the rest of the hour, what comes after
        let cuts = [START, START + 60_000, START + HOUR, START + 2 * HOUR];
        for (n, cut) in cuts.windows(2).enumerate().filter(|_| !data.series.is_empty()) {
            let range = TimeRange::new(cut[0], cut[1]);
            let part = |samples: &FloatSamples| -> FloatSamples {
                samples.iter().copied().filter(|(t, _)| range.contains(*t)).collect()
            };
            let stored =
                data.series.iter().map(|(l, s)| (l, part(s))).filter(|(_, s)| !s.is_empty());
            let stored = stored.map(|(l, s)| float_series(l.clone(), &s)).collect();
            let make =
                Make { external: data.external.clone(), ..Make::raw(n as u128, range, stored) };
            bucket.tsdb(&make).await;
        }
        bucket.served().await
    })
    .await;
}

/// What the block holds, as it was stored, with external labels.
fn stored_chunks(series: &[Series], external: &Labels) -> Vec<Series> {
    let over =
        |s: &Series| Series { labels: s.labels.overlaid(external), chunks: s.chunks.clone() };
    let mut all: Vec<Series> = series.iter().map(over).collect();
    all.sort_by(|a, b| a.labels.cmp(&b.labels));
    all
}

#[tokio::test]
async fn raw_chunks_pass_through_as_they_are() {
    let bucket = TestBucket::new();
    let all: Vec<Series> = (0..5)
        .map(|i| series(&[("__name__", "up"), ("pod", &i.to_string())], &samples(hours(0, 2), 1.0)))
        .collect();
    let make = Make::raw(1, hours(0, 2), all.clone());
    bucket.tsdb(&make).await;
    let answer = ask(&bucket.served().await, everything(hours(0, 2))).await;
    assert_eq!(answer.series, stored_chunks(&all, &make.external));
    assert_eq!((answer.warnings, answer.infos), (vec![], vec![]));
}

/// A real block that Prometheus wrote, read back whole.
#[tokio::test]
async fn a_block_of_prometheus_is_served_to_the_last_chunk() {
    let bucket = TestBucket::new();
    let meta = bucket.fixture("raw/01M81HXMY0XQF1A6MF7S68NK18").await;
    let store = bucket.served().await;
    let answer = ask(&store, everything(TimeRange::ALL)).await;
    assert_eq!(answer.series.len() as u64, meta.stats.num_series);
    assert_eq!(
        answer.series.iter().map(|s| s.chunks.len() as u64).sum::<u64>(),
        meta.stats.num_chunks
    );
    let external = meta.external_labels();
    assert!(answer.series.iter().all(|s| external.iter().all(|(n, v)| s.labels.get(n) == Some(v))));
    let info = store.info().await.unwrap();
    assert_eq!((info.label_sets, info.range), (vec![external], meta.range()));
}

/// More series than are read, merged or fetched at once, half of them in both blocks.
#[tokio::test]
async fn many_series_come_in_order_and_whole() {
    let bucket = TestBucket::new();
    let block = |n: i64, pods: std::ops::Range<u32>| {
        let at = START + n * HOUR;
        let one = |pod: u32| {
            series(
                &[("__name__", "up"), ("pod", &format!("{pod:05}"))],
                &vec![(at, f64::from(pod))],
            )
        };
        Make::raw(n as u128 + 1, hours(n, n + 1), pods.map(one).collect())
    };
    bucket.tsdb(&block(0, 0..6000)).await;
    bucket.tsdb(&block(1, 3000..9000)).await;
    let store = bucket.served().await;
    let answer = ask(&store, everything(hours(0, 2))).await;
    assert_eq!(answer.series.len(), 9000);
    for (pod, series) in answer.series.iter().enumerate() {
        let value = (pod as f64).to_bits();
        let mut expected = vec![(START, value), (START + HOUR, value)];
        expected.retain(|(t, _)| if *t == START { pod < 6000 } else { pod >= 3000 });
        assert_eq!(raw_samples(series), expected, "pod {pod}");
    }
    let bare = ask(&store, SeriesRequest { skip_chunks: true, ..everything(hours(0, 2)) }).await;
    assert!(bare.series.iter().map(|s| &s.labels).eq(answer.series.iter().map(|s| &s.labels)));
}

#[tokio::test]
async fn few_bytes_are_read_for_one_series() {
    let bucket = TestBucket::new();
    let one = |i: u64| {
        let noise =
            |t: i64| ((t as u64 ^ i).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as f64 / 7.0;
        let (name, pod) = (format!("metric_{}", i % 20), format!("pod-{i:05}"));
        let samples: FloatSamples =
            samples(hours(0, 2), 0.0).into_iter().map(|(t, _)| (t, noise(t))).collect();
        series(&[("__name__", &name), ("job", "node"), ("pod", &pod)], &samples)
    };
    let location = bucket.tsdb(&Make::raw(1, hours(0, 2), (0..3000).map(one).collect())).await;
    let size =
        bucket.get(&location.index()).await.len() + bucket.get(&location.segment(1)).await.len();
    let store = bucket.served().await;
    let matchers = vec![Matcher::equal("__name__", "metric_7"), Matcher::equal("pod", "pod-00027")];
    bucket.store.reset();
    let answer = ask(&store, SeriesRequest::new(hours(0, 2), matchers.clone())).await;
    assert_eq!(
        names(&answer),
        [r#"{__name__="metric_7", cluster="eu", job="node", pod="pod-00027"}"#]
    );
    let cold = bucket.store.counts();
    assert!(cold.bytes_read * 10 <= size as u64, "{} of {size} bytes", cold.bytes_read);
    bucket.store.reset();
    ask(&store, SeriesRequest::new(hours(0, 2), matchers)).await;
    let warm = bucket.store.counts();
    assert!(
        warm.gets < cold.gets && warm.bytes_read * 3 < cold.bytes_read,
        "{warm:?} after {cold:?}"
    );
    assert_eq!(bucket.metric("thanos_store_index_cache_hits_total"), Some(1.0));
    assert_eq!(bucket.metric("thanos_store_index_cache_items_added_total"), Some(1.0));
}

/// An XOR2 chunk of one sample: count, no start times, time, value.
fn xor2_chunk(t: i64, value: f64) -> SeriesChunk {
    let mut data = vec![0, 1, 0];
    let mut zigzag = ((t << 1) ^ (t >> 63)) as u64;
    while zigzag >= 0x80 {
        data.push(zigzag as u8 | 0x80);
        zigzag >>= 7;
    }
    data.push(zigzag as u8);
    data.extend_from_slice(&value.to_be_bytes());
    let content =
        ChunkContent::Raw(ChunkBytes { encoding: Encoding::Xor2, data: Bytes::from(data) });
    SeriesChunk::new(t, t, content)
}

#[tokio::test]
async fn newer_encodings_are_recoded_unless_the_caller_reads_them() {
    let bucket = TestBucket::new();
    let newer =
        Series { labels: labels(&[("__name__", "a")]), chunks: vec![xor2_chunk(START + 5, 2.5)] };
    bucket.tsdb(&Make::raw(1, hours(0, 2), vec![newer.clone()])).await;
    let store = bucket.served().await;
    let plain = ask(&store, everything(hours(0, 2))).await;
    assert_eq!(plain.series[0].chunks, float_series(Labels::empty(), &[(START + 5, 2.5)]).chunks);
    let request = SeriesRequest { newer_encodings: true, ..everything(hours(0, 2)) };
    assert_eq!(ask(&store, request).await.series[0].chunks, newer.chunks);
}

fn values(label: &str, matchers: Vec<Matcher>) -> LabelValuesRequest {
    LabelValuesRequest {
        label: label.into(),
        range: hours(0, 48),
        matchers,
        partial_response: PartialResponse::Abort,
        without_replica_labels: vec!["replica".into()],
        limit: 0,
    }
}

/// The suite covers raw blocks only; this covers groups, formats and ranges.
#[tokio::test]
async fn labels_come_from_blocks_of_all_kinds() {
    let bucket = TestBucket::new();
    let old = Make::raw(
        1,
        hours(0, 24),
        vec![series(&[("__name__", "old"), ("pod", "a")], &samples(hours(0, 24), 1.0))],
    );
    bucket
        .parquet(
            &old.at(2, model::Resolution::FiveMinutes).of(&[("cluster", "eu"), ("replica", "0")]),
        )
        .await;
    let new = vec![series(
        &[("__name__", "new"), ("node", "n"), ("zone", "z")],
        &samples(hours(24, 26), 1.0),
    )];
    bucket.tsdb(&Make::raw(3, hours(24, 26), new).of(&[("cluster", "us"), ("replica", "0")])).await;
    let store = bucket.served().await;
    let get = |label: &'static str, matchers| {
        let store: Arc<dyn Store> = Arc::clone(&store);
        async move { store.label_values(values(label, matchers)).await.unwrap().values }
    };
    assert_eq!(get("__name__", vec![]).await, ["new", "old"]);
    assert_eq!(get("cluster", vec![]).await, ["eu", "us"]);
    assert_eq!(get("replica", vec![]).await, [""; 0]);
    assert_eq!(get("cluster", vec![Matcher::equal("pod", "a")]).await, ["eu"]);
    assert_eq!(
        get("cluster", vec![Matcher::equal("node", "n"), Matcher::equal("cluster", "eu")]).await,
        [""; 0]
    );
    assert_eq!(get("zone", vec![matcher("cluster", "u.")]).await, ["z"]);
    let names = |matchers, range| LabelNamesRequest {
        range,
        matchers,
        partial_response: PartialResponse::Abort,
        without_replica_labels: vec!["replica".into()],
        limit: 0,
    };
    let all = store.label_names(names(vec![], hours(0, 48))).await.unwrap().values;
    assert_eq!(all, ["__name__", "cluster", "node", "pod", "zone"]);
    let old = store.label_names(names(vec![], hours(0, 1))).await.unwrap().values;
    assert_eq!(old, ["__name__", "cluster", "pod"]);
    let none = store
        .label_names(names(vec![Matcher::equal("pod", "b")], hours(0, 48)))
        .await
        .unwrap()
        .values;
    assert_eq!(none, [""; 0]);
}

#[tokio::test]
async fn chunks_say_of_which_replica_they_are_where_its_labels_are_taken_away() {
    let bucket = TestBucket::new();
    let every_other = |phase: usize| -> FloatSamples {
        samples(hours(0, 2), 1.0).into_iter().skip(phase).step_by(2).collect()
    };
    for (n, (phase, replica)) in [(0, "a"), (1, "a"), (0, "b")].into_iter().enumerate() {
        let make = Make::raw(
            n as u128,
            hours(0, 2),
            vec![series(&[("__name__", "up")], &every_other(phase))],
        );
        bucket.tsdb(&make.of(&[("cluster", "eu"), ("replica", replica)])).await;
    }
    let make =
        Make::raw(3, hours(2, 4), vec![series(&[("__name__", "up")], &samples(hours(2, 4), 1.0))]);
    let coarse =
        make.of(&[("cluster", "eu"), ("replica", "b")]).at(4, model::Resolution::FiveMinutes);
    bucket.parquet(&coarse).await;
    let store = bucket.served().await;
    let request = SeriesRequest { max_resolution_ms: 300_000, ..everything(hours(0, 4)) };
    let apart = ask(&store, request.clone()).await;
    assert!(apart.series.iter().flat_map(|s| &s.chunks).all(|c| c.replica.is_none()));
    let together = ask(
        &store,
        SeriesRequest { without_replica_labels: vec!["replica".to_owned()], ..request },
    )
    .await;
    assert_eq!(names(&together), [r#"{__name__="up", cluster="eu"}"#]);
    let of = |replica: &str| Some(labels(&[("replica", replica)]).hash64());
    // the first two blocks are one replica's, of which the second begins a minute later
    let found: Vec<_> = together.series[0]
        .chunks
        .iter()
        .map(|c| ((c.min_time - START) / 60_000, c.replica))
        .collect();
    let count = |replica: &str| found.iter().filter(|(_, r)| *r == of(replica)).count();
    assert_eq!(
        (count("a"), count("b"), found.len()),
        (2, 1, 3),
        "identical chunks are one: {found:?}"
    );
    assert!(found[..2].iter().all(|(_, replica)| *replica == of("a")), "{found:?}");
}
