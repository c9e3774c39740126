//! Fleets whose stores hold the same streams at different resolutions answer as Prometheus does
//! over all raw samples, wherever any store has raw samples.

mod downs;
mod fleet;

use model::{Resolution, TimeRange};
use serde_json::Value;

use self::downs::{DAY, END, HOUR, MINUTE, START};
use self::fleet::{Fleet, Holding, Kind};

use Resolution::{FiveMinutes, OneHour, Raw};

const CLUSTER: &[(&str, &str)] = &[("cluster", "eu"), ("replica", "a")];

/// Half past one, and noon, of the last day.
const HALF_PAST: i64 = END - DAY + HOUR + 30 * MINUTE;
const NOON: i64 = END - DAY + 12 * HOUR;

fn all() -> TimeRange {
    TimeRange::new(START, END)
}

fn gateway(resolution: Resolution, range: TimeRange) -> Holding {
    Holding { kind: Kind::Gateway, external: CLUSTER, held: vec![(resolution, range)] }
}

fn raw(kind: Kind, range: TimeRange) -> Holding {
    Holding { kind, external: CLUSTER, held: vec![(Raw, range)] }
}

/// What Prometheus gives over the raw samples.
const TRUTH: &[(&str, i64, &str)] = &[
    (r#"increase(c_total{k="even"}[5m])"#, NOON, "300"),
    (r#"rate(c_total{k="even"}[5m])"#, NOON, "1"),
    (r#"count_over_time(g{k="ten"}[30m])"#, NOON, "30"),
    (r#"sum_over_time(g{k="ten"}[30m])"#, NOON, "300"),
    (r#"max_over_time(g{k="saw"}[30m])"#, HALF_PAST, "30"),
    (r#"min_over_time(g{k="saw"}[30m])"#, HALF_PAST, "1"),
    (r#"g{k="saw"}"#, HALF_PAST, "30"),
    (r#"max(g{k="saw"})"#, HALF_PAST, "30"),
    ("count(pod)", HALF_PAST, "1"),
];

#[tokio::test]
async fn raw_data_anywhere_is_what_answers() {
    let raw_stores = [Kind::Gateway, Kind::Sidecar, Kind::OldSidecar];
    for kind in raw_stores {
        for coarse in [vec![FiveMinutes], vec![OneHour], vec![FiveMinutes, OneHour]] {
            let mut stores = vec![raw(kind, all())];
            stores.extend(coarse.iter().map(|resolution| gateway(*resolution, all())));
            let fleet = Fleet::start(&stores).await;
            for (query, time, expected) in TRUTH {
                let answer = fleet.instant(query, *time, &[]).await;
                let what = format!("{query} with raw data in a {kind:?} and {coarse:?} beside it");
                assert_eq!(single(&answer), *expected, "{what}: {answer}");
                assert!(
                    answer["warnings"].is_null() && answer["infos"].is_null(),
                    "{what}: {answer}"
                );
            }
        }
    }
}

/// Raw data of the last two days; older data exists only as 5m or 1h data.
#[tokio::test]
async fn where_raw_data_ends_coarser_data_goes_on() {
    let border = END - 2 * DAY;
    for (kind, begins) in
        [(Kind::Gateway, border), (Kind::Sidecar, border), (Kind::Sidecar, border + 17 * MINUTE)]
    {
        for resolution in [FiveMinutes, OneHour] {
            let stores = [raw(kind, TimeRange::new(begins, END)), gateway(resolution, all())];
            let fleet = Fleet::start(&stores).await;
            let what = format!("{resolution} before {begins} of a {kind:?}");
            // all samples once, although the border is inside a window of coarse data
            let two_days =
                fleet.instant(r#"sum_over_time(g{k="ten"}[2d])"#, border + DAY, &[]).await;
            let sum: f64 = single(&two_days).parse().unwrap();
            assert!((sum - 28_800.0).abs() <= 10.0, "{what}: {two_days}");
            let grown =
                fleet.instant(r#"increase(c_total{k="reset"}[2d])"#, border + DAY, &[]).await;
            let grown: f64 = single(&grown).parse().unwrap();
            // 60 a minute, except for resets, and for the first window of coarse data, whose growth
            // is not known
            let truth = 2880.0 * 60.0;
            assert!(grown > 0.97 * truth && grown <= truth, "{what}: {grown}");
            let infos = two_days["infos"].as_array().map(Vec::as_slice).unwrap_or_default();
            let one_info = infos.first().filter(|_| infos.len() == 1).and_then(|i| i.as_str());
            assert!(
                one_info
                    .is_some_and(|info| info.contains(&format!("data of {resolution} resolution"))),
                "{what}: {two_days}"
            );
            let late =
                fleet.instant(r#"count_over_time(g{k="ten"}[30m])"#, begins + HOUR, &[]).await;
            assert_eq!(single(&late), "30", "{what}: {late}");
            assert!(late["infos"].is_null(), "{what}: {late}");
        }
    }
}

/// Sessions last from minute 20 to 30 of every hour, and the time of the window of coarse data for
/// one is the end of the hour. Pods exist for one, two and three hours, one after the other.
#[tokio::test]
async fn series_that_ended_are_not_revived() {
    let border = END - 2 * DAY;
    let truth = Fleet::start(&[raw(Kind::Gateway, all())]).await;
    for resolution in [FiveMinutes, OneHour] {
        let stores = [raw(Kind::Gateway, TimeRange::new(border, END)), gateway(resolution, all())];
        let fleet = Fleet::start(&stores).await;
        for query in ["count(pod)", "count(session)", "session"] {
            let times = (border + 10 * MINUTE, END - MINUTE, 5 * MINUTE);
            let (answer, expected) =
                (fleet.range(query, times, &[]).await, truth.range(query, times, &[]).await);
            assert_eq!(answer["data"], expected["data"], "{query}, {resolution}");
            let points = expected["data"]["result"][0]["values"].as_array().unwrap().len();
            assert!(points >= 48 * 2, "{query}: {points}");
        }
    }
}

/// At up to 1h it makes no difference whether one gateway holds everything or each resolution has
/// its own.
#[tokio::test]
async fn of_what_is_allowed_the_same_answers_whoever_holds_it() {
    let held = [
        (Raw, TimeRange::new(START + DAY, END)),
        (FiveMinutes, all()),
        (OneHour, TimeRange::new(START, END - DAY)),
    ];
    let together = Holding { kind: Kind::Gateway, external: CLUSTER, held: held.to_vec() };
    let apart: Vec<Holding> =
        held.iter().map(|(resolution, range)| gateway(*resolution, *range)).collect();
    let (one, many) = (Fleet::start(&[together]).await, Fleet::start(&apart).await);
    for resolution in ["0s", "5m", "1h"] {
        for query in [
            r#"sum_over_time(g{k="ten"}[6h])"#,
            r#"count_over_time(g{k="saw"}[6h])"#,
            r#"increase(c_total{k="reset"}[12h])"#,
            r#"max_over_time(g{k="saw"}[3h])"#,
        ] {
            let options = [("max_source_resolution", resolution)];
            let times = (START + 12 * HOUR, END - MINUTE, HOUR);
            let (expected, answer) =
                (one.range(query, times, &options).await, many.range(query, times, &options).await);
            assert_eq!(answer["data"], expected["data"], "{query} at {resolution}");
            assert_eq!(
                expected["data"]["result"].as_array().unwrap().len(),
                1,
                "{query} at {resolution}: {expected}"
            );
        }
    }
}

/// Replicas are one stream: the coarse data of one is not used beside the raw data of the other.
#[tokio::test]
async fn the_raw_data_of_one_replica_answers_for_both() {
    let other: &[(&str, &str)] = &[("cluster", "eu"), ("replica", "b")];
    let coarse = Holding { external: other, ..gateway(OneHour, all()) };
    let fleet = Fleet::start(&[raw(Kind::Sidecar, all()), coarse]).await;
    for (query, time, expected) in TRUTH {
        let answer = fleet.instant(query, *time, &[]).await;
        assert_eq!(single(&answer), *expected, "{query}: {answer}");
    }
    let apart = fleet.instant(r#"g{k="ten"}"#, NOON, &[("dedup", "false")]).await;
    assert_eq!(
        apart["data"]["result"].as_array().unwrap().len(),
        2,
        "told apart, each has what it has: {apart}"
    );
    let cluster: &[(&str, &str)] = &[("cluster", "us"), ("replica", "b")];
    let elsewhere = Holding { external: cluster, ..gateway(FiveMinutes, all()) };
    let fleet = Fleet::start(&[raw(Kind::Sidecar, all()), elsewhere]).await;
    let both = fleet.instant(r#"count(g{k="ten"})"#, NOON, &[]).await;
    assert_eq!(single(&both), "2", "another cluster is another stream: {both}");
}

#[tokio::test]
async fn a_querier_above_decides_as_one_over_all_stores_does() {
    let stores = [
        raw(Kind::Sidecar, TimeRange::new(END - 2 * DAY + 17 * MINUTE, END)),
        gateway(OneHour, all()),
    ];
    let flat = Fleet::start(&stores).await;
    let stacked = Fleet::start_stacked(&stores).await;
    for query in [
        r#"count_over_time(g{k="ten"}[30m])"#,
        r#"increase(c_total{k="reset"}[1h])"#,
        r#"max_over_time(g{k="saw"}[30m])"#,
    ] {
        let times = (END - 3 * DAY, END - MINUTE, 30 * MINUTE);
        let (expected, answer) =
            (flat.range(query, times, &[]).await, stacked.range(query, times, &[]).await);
        assert_eq!(answer["data"], expected["data"], "{query}");
    }
    for (query, time, expected) in TRUTH {
        let answer = stacked.instant(query, *time, &[]).await;
        assert_eq!(single(&answer), *expected, "{query}: {answer}");
    }
}

/// A gateway that does not report resolutions is expected to have raw data, and is used where no
/// other store has any.
#[tokio::test]
async fn gateways_of_before_are_asked_as_they_were() {
    let old = Holding { kind: Kind::OldGateway, ..gateway(FiveMinutes, all()) };
    let alone = Fleet::start(std::slice::from_ref(&old)).await;
    let answer = alone.instant(r#"sum_over_time(g{k="ten"}[6h])"#, NOON, &[]).await;
    assert_eq!(single(&answer), "3600", "{answer}");
    let fleet = Fleet::start(&[old, raw(Kind::Sidecar, all())]).await;
    for (query, time, expected) in TRUTH {
        let answer = fleet.instant(query, *time, &[]).await;
        assert_eq!(single(&answer), *expected, "{query}: {answer}");
    }
}

/// The value of the only series of an answer.
#[track_caller]
fn single(answer: &Value) -> &str {
    let result = answer["data"]["result"].as_array().map(Vec::as_slice);
    let Some([series]) = result else { panic!("not one series: {answer}") };
    series["value"][1].as_str().unwrap_or_else(|| panic!("no value: {answer}"))
}
