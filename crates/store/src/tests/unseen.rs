//! Blocks that are listed but could not be looked at: requests that may miss them get a warning,
//! others do not.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use block::BlockLocation;
use block::marker::{DeletionMark, Marker};
use merge::{ChunkContent, SeriesChunk};
use model::{BlockId, Matcher, Resolution, TimeRange, TimestampMs};
use storeapi::conformance::FloatSamples;
use storeapi::{
    AggregateKind, Kind, LabelNamesRequest, LabelValuesRequest, PartialResponse, SeriesRequest,
    Store,
};
use testkit::{Fault, FaultPlan, MockClock, Op};
use tsdb::chunk::Aggregate;
use tsdb::meta::BlockMeta;

use super::support::*;
use crate::{Gateway, Settings, TimeBound};

const MINUTE: i64 = 60_000;

/// The id of a block that was made when the range ended.
fn born(n: u128, range: TimeRange) -> BlockId {
    BlockId::from_parts(range.end.unsigned_abs(), n)
}

/// A series with a sample every five minutes from one minute to another.
fn one(n: u128, from: i64, to: i64) -> Make {
    let range = TimeRange::new(START + from * MINUTE, START + to * MINUTE);
    let samples: FloatSamples =
        (from..to).step_by(5).map(|m| (START + m * MINUTE, m as f64)).collect();
    let make =
        Make::raw(n, range, vec![series(&[("__name__", "up"), ("n", &n.to_string())], &samples)]);
    Make { id: born(n, range), sources: vec![born(n, range)], ..make }
}

/// Twelve hours, 144 samples: 48, 25 and 71.
async fn three_blocks(bucket: &TestBucket) -> [BlockLocation; 3] {
    let [a, b, c] =
        [(1, 0, 240), (2, 240, 365), (3, 365, 720)].map(|(n, from, to)| one(n, from, to));
    [bucket.tsdb(&a).await, bucket.tsdb(&b).await, bucket.tsdb(&c).await]
}

/// Reads of objects that hold the text fail while it is set.
#[derive(Clone, Default)]
struct Refused(Arc<Mutex<Option<(String, Fault)>>>);

impl Refused {
    fn set(&self, what: Option<(&str, Fault)>) {
        *self.0.lock().unwrap() = what.map(|(text, fault)| (text.to_owned(), fault));
    }

    fn plan(&self) -> FaultPlan {
        let refused = self.clone();
        FaultPlan::new(move |call| {
            let refused = refused.0.lock().unwrap();
            let (text, fault) = refused.as_ref()?;
            (call.op == Op::Get && call.key.contains(text.as_str())).then_some(*fault)
        })
    }
}

fn samples_of(answer: &Answer) -> usize {
    answer.series.iter().map(|s| raw_samples(s).len()).sum()
}

fn abort(request: SeriesRequest) -> SeriesRequest {
    SeriesRequest { partial_response: PartialResponse::Abort, ..request }
}

async fn assert_told(store: &Arc<dyn Store>, block: &BlockLocation, range: TimeRange) {
    let answer = ask(store, everything(range)).await;
    let [warning] = &answer.warnings[..] else { panic!("{range:?}: {:?}", answer.warnings) };
    assert!(warning.starts_with(&format!("block={block} could not be looked at")), "{warning}");
    assert!(warning.contains("as planned") && !warning.contains('\n'), "{warning}");
    let error = try_ask(store, abort(everything(range))).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Aborted);
    assert!(error.to_string().contains(&block.to_string()), "{error}");
}

#[tokio::test]
async fn what_an_unseen_block_may_hold_is_missed_with_a_warning() {
    for fault in [Fault::Unavailable, Fault::Denied] {
        let bucket = TestBucket::new();
        let [_, unseen, _] = three_blocks(&bucket).await;
        let refused = Refused::default();
        refused.set(Some((unseen.dir().as_ref(), fault)));
        let gateway = bucket.failing_gateway(Settings::default(), refused.plan());
        gateway.sync().await.unwrap();
        assert!(*gateway.ready().borrow(), "the others are served");
        let (store, all) = (gateway.store(), hours(0, 12));
        assert_eq!(samples_of(&ask(&store, everything(all)).await), 119);
        assert_told(&store, &unseen, all).await;

        // its samples are older than its id, so a request for later ones misses nothing
        let later = TimeRange::new(START + 365 * MINUTE, all.end);
        let answer = ask(&store, everything(later)).await;
        assert_eq!((samples_of(&answer), answer.warnings.len()), (71, 0));
        try_ask(&store, abort(everything(later))).await.unwrap();
        assert_told(&store, &unseen, TimeRange::new(later.start - 1, later.end)).await;

        // its labels are unknown, so no matcher excludes it
        let request = SeriesRequest::new(all, vec![Matcher::equal("cluster", "elsewhere")]);
        let answer = ask(&store, request).await;
        assert_eq!((answer.series.len(), answer.warnings.len()), (0, 1));
        let info = store.info().await.unwrap();
        assert!(storeapi::label_sets_match(
            &info.label_sets,
            &[Matcher::equal("cluster", "elsewhere")]
        ));
        assert!(info.range.contains(START - HOUR) && info.range.end == all.end);

        refused.set(None);
        gateway.sync().await.unwrap();
        let answer = ask(&store, everything(all)).await;
        assert_eq!((samples_of(&answer), answer.warnings.len()), (144, 0));
        let info = store.info().await.unwrap();
        assert_eq!((info.range, info.label_sets.len()), (all, 1));

        // what was seen once stays known
        refused.set(Some(("meta.json", fault)));
        gateway.sync().await.unwrap();
        let answer = ask(&store, everything(all)).await;
        assert_eq!((samples_of(&answer), answer.warnings.len()), (144, 0));
    }
}

#[tokio::test]
async fn names_and_values_tell_of_unseen_blocks_too() {
    let bucket = TestBucket::new();
    let [_, unseen, _] = three_blocks(&bucket).await;
    let refused = Refused::default();
    refused.set(Some((unseen.dir().as_ref(), Fault::Denied)));
    let gateway = bucket.failing_gateway(Settings::default(), refused.plan());
    gateway.sync().await.unwrap();
    let store = gateway.store();
    let values = |range, partial_response| LabelValuesRequest {
        label: "n".into(),
        range,
        matchers: vec![],
        partial_response,
        without_replica_labels: vec![],
        limit: 0,
    };
    let names = |range, partial_response| LabelNamesRequest {
        range,
        matchers: vec![],
        partial_response,
        without_replica_labels: vec![],
        limit: 0,
    };
    let (all, later) = (hours(0, 12), TimeRange::new(START + 365 * MINUTE, START + 12 * HOUR));
    let answer = store.label_values(values(all, PartialResponse::Warn)).await.unwrap();
    assert_eq!((answer.values, answer.warnings.len()), (vec!["1".to_owned(), "3".to_owned()], 1));
    assert_eq!(
        store.label_names(names(all, PartialResponse::Warn)).await.unwrap().warnings.len(),
        1
    );
    assert!(
        store
            .label_values(values(later, PartialResponse::Abort))
            .await
            .unwrap()
            .warnings
            .is_empty()
    );
    assert!(
        store.label_names(names(later, PartialResponse::Abort)).await.unwrap().warnings.is_empty()
    );
    for error in [
        store.label_values(values(all, PartialResponse::Abort)).await.unwrap_err(),
        store.label_names(names(all, PartialResponse::Abort)).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), Kind::Aborted);
    }
}

#[tokio::test]
async fn unseen_blocks_are_tried_again_soon() {
    let clock = MockClock::new(TimestampMs(START));
    let bucket = TestBucket::with_clock(Arc::new(clock.clone()));
    let [_, unseen, _] = three_blocks(&bucket).await;
    let failing = Arc::new(AtomicBool::new(true));
    let plan = FaultPlan::new({
        let (failing, folder) = (Arc::clone(&failing), unseen.to_string());
        move |call| {
            (call.key.starts_with(&folder) && failing.load(Ordering::Relaxed))
                .then_some(Fault::Denied)
        }
    });
    let settings = Settings { sync_interval: Duration::from_secs(3 * 3600), ..Settings::default() };
    let gateway = bucket.failing_gateway(settings, plan);
    let (store, mut ready) = (gateway.store(), gateway.ready());
    let running = tokio::spawn(gateway.run());
    ready.wait_for(|ready| *ready).await.unwrap();
    let looks = |bucket: &TestBucket| bucket.store.counts().lists;
    let passed = async |seconds: u64| {
        for _ in 0..seconds {
            clock.advance(Duration::from_secs(1));
            for _ in 0..200 {
                tokio::task::yield_now().await;
            }
        }
    };
    passed(10).await;
    let soon = looks(&bucket);
    assert!((3..=6).contains(&soon), "{soon} in the first ten seconds: it backs off");
    passed(300).await;
    let later = looks(&bucket) - soon;
    assert!((8..=14).contains(&later), "{later} in five minutes: every 30 s at last");
    failing.store(false, Ordering::Relaxed);
    passed(40).await;
    let answer = ask(&store, everything(hours(0, 12))).await;
    assert_eq!((samples_of(&answer), answer.warnings.len()), (144, 0));
    let at_rest = looks(&bucket);
    passed(200).await;
    assert_eq!(looks(&bucket), at_rest, "nothing is missing, so the interval holds");
    running.abort();
}

#[tokio::test]
async fn only_those_who_may_miss_an_unseen_block_are_told() {
    let bucket = TestBucket::new();
    let [_, unseen, _] = three_blocks(&bucket).await;
    let refused = Refused::default();
    refused.set(Some((unseen.dir().as_ref(), Fault::Denied)));
    let min_time = TimeBound::At(TimestampMs(START + 365 * MINUTE));
    let gateway =
        bucket.failing_gateway(Settings { min_time, ..Settings::default() }, refused.plan());
    gateway.sync().await.unwrap();
    let answer = ask(&gateway.store(), everything(hours(0, 12))).await;
    assert_eq!(
        (samples_of(&answer), answer.warnings.len()),
        (71, 0),
        "this gateway does not serve that time"
    );

    let bucket = TestBucket::new();
    three_blocks(&bucket).await;
    let coarse = bucket.parquet(&one(1, 0, 240).at(9, Resolution::FiveMinutes)).await;
    refused.set(Some((coarse.dir().as_ref(), Fault::Unavailable)));
    let gateway = bucket.failing_gateway(Settings::default(), refused.plan());
    gateway.sync().await.unwrap();
    let raw = SeriesRequest { coarser_fallback: false, ..everything(hours(-12, 12)) };
    assert_eq!(ask(&gateway.store(), raw.clone()).await.warnings.len(), 0, "it holds nothing raw");
    let fallback = SeriesRequest { coarser_fallback: true, ..raw.clone() };
    assert_eq!(ask(&gateway.store(), fallback).await.warnings.len(), 1);
    let coarse = SeriesRequest { max_resolution_ms: 300_000, ..raw };
    assert_eq!(ask(&gateway.store(), coarse).await.warnings.len(), 1);
}

/// Whether it is to be deleted is unknown, but it is known to exist.
#[tokio::test]
async fn a_block_is_served_although_its_mark_cannot_be_read() {
    let bucket = TestBucket::new();
    let [first, second, _] = three_blocks(&bucket).await;
    let make = one(4, 0, 365);
    let cover = bucket.tsdb(&Make { sources: vec![first.id(), second.id()], ..make }).await;
    let mark = DeletionMark::new(cover.id(), TimestampMs(START), "test");
    bucket.put(&cover.file(DeletionMark::FILE), tsdb::meta::to_marker_json(&mark)).await;
    let refused = Refused::default();
    refused.set(Some((DeletionMark::FILE, Fault::Denied)));
    let gateway = bucket.failing_gateway(Settings::default(), refused.plan());
    gateway.sync().await.unwrap();
    let answer = ask(&gateway.store(), everything(hours(0, 12))).await;
    assert!(answer.warnings.is_empty(), "{:?}", answer.warnings);
    assert_eq!(answer.series.len(), 4, "and it hides nobody");
}

/// What a newer version writes: the meta of a block, under another format.
async fn in_newer_format(bucket: &TestBucket, location: &BlockLocation) {
    in_format(bucket, location, "parquet/9").await;
}

async fn in_format(bucket: &TestBucket, location: &BlockLocation, format: &str) {
    let meta = bucket.get(&location.meta()).await;
    let meta = BlockMeta::from_json(&meta).unwrap();
    let other = BlockMeta { format: Some(format.to_owned()), ..meta };
    bucket.put(&location.meta(), other.to_json()).await;
}

/// Two compactors of different settings may write the same data in two versions of the format,
/// until one of the copies is marked. It makes no difference whether the gateway reads the newer one.
#[tokio::test]
async fn of_copies_in_two_versions_one_is_served() {
    let five_minutes = |n, from, to| one(n, from, to).at(n + 10, Resolution::FiveMinutes);
    let (first, second) = (one(1, 0, 240), one(2, 240, 720));
    for newer_of_first_alone in [false, true] {
        for newer in ["parquet/2", "parquet/9"] {
            let bucket = TestBucket::new();
            let all = Make { sources: vec![first.id, second.id], ..five_minutes(3, 0, 720) };
            bucket.parquet(&all).await;
            let gateway = bucket.gateway(Settings::default());
            let alone = ask_windows(&gateway).await;
            assert_eq!(alone.0, 144, "every window of five minutes");

            let other = match newer_of_first_alone {
                true => Make { sources: vec![first.id], ..five_minutes(4, 0, 240) },
                false => Make { id: born(40, all.range), ..all.clone() },
            };
            let location = bucket.parquet(&other).await;
            in_format(&bucket, &location, newer).await;
            assert_eq!(ask_windows(&gateway).await, alone, "{newer_of_first_alone} {newer}");
        }
    }
}

/// How many windows a gateway returns, counted as often as they come, and its warnings.
async fn ask_windows(gateway: &Gateway) -> (usize, Vec<String>) {
    gateway.sync().await.unwrap();
    let request = SeriesRequest {
        max_resolution_ms: Resolution::FiveMinutes.millis(),
        aggregates: vec![AggregateKind::Of(Aggregate::Count)],
        ..everything(hours(0, 12))
    };
    let answer = ask(&gateway.store(), request).await;
    let count = |chunk: &SeriesChunk| match &chunk.content {
        ChunkContent::Aggregates(parts) => {
            let part = parts[Aggregate::Count as usize].as_ref().unwrap();
            tsdb::chunk::num_samples(part.encoding, &part.data).unwrap()
        }
        ChunkContent::Raw(_) => panic!("raw data"),
    };
    let windows = answer.series.iter().flat_map(|series| &series.chunks).map(count).sum();
    (windows, answer.warnings)
}

#[tokio::test]
async fn a_block_of_a_newer_format_is_named_where_it_is_missed() {
    let bucket = TestBucket::new();
    let raw = one(1, 0, 240);
    bucket.tsdb(&raw).await;
    let coarse = one(2, 240, 720).at(3, Resolution::FiveMinutes);
    let location = bucket.parquet(&coarse).await;
    in_newer_format(&bucket, &location).await;
    let gateway = bucket.gateway(Settings::default());
    gateway.sync().await.unwrap();
    let (store, all) = (gateway.store(), hours(0, 12));

    let wanted = |range, cluster: &str| SeriesRequest {
        max_resolution_ms: Resolution::FiveMinutes.millis(),
        ..SeriesRequest::new(range, vec![Matcher::equal("cluster", cluster)])
    };
    let answer = ask(&store, wanted(all, "eu")).await;
    let [warning] = &answer.warnings[..] else { panic!("{:?}", answer.warnings) };
    assert!(warning.starts_with(&format!("block={location} is left out")), "{warning}");
    assert!(warning.contains("\"parquet/9\"") && warning.contains("upgrade"), "{warning}");
    assert_eq!(samples_of(&answer), 48);
    let error = try_ask(&store, abort(wanted(all, "eu"))).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Aborted);

    // other labels, other times and requests for raw data alone miss nothing
    for request in [
        wanted(all, "us"),
        wanted(TimeRange::new(all.start, START + 240 * MINUTE), "eu"),
        SeriesRequest { max_resolution_ms: 0, ..wanted(all, "eu") },
    ] {
        assert_eq!(ask(&store, request).await.warnings, [""; 0]);
    }
    // queriers ask it for that time, to learn what is missing
    let info = store.info().await.unwrap();
    assert_eq!(info.range, all);
    let spans = |info: &storeapi::TsdbInfo| info.coverage.clone().unwrap();
    assert!(info.tsdb_infos.iter().any(|info| spans(info).is_empty()), "{info:?}");

    // with the data it was made of beside it, nothing is missed
    bucket.tsdb(&one(2, 240, 720)).await;
    gateway.sync().await.unwrap();
    let answer = ask(&store, wanted(all, "eu")).await;
    assert_eq!((samples_of(&answer), answer.warnings.len()), (144, 0));
}
