//! Answers over downsampled data, beside those over the raw samples.

mod common;
#[path = "common/levels.rs"]
mod levels;
#[path = "common/points.rs"]
mod points;

use common::Asked;
use std::sync::Arc;

use engine::{Answer, SeriesSource};
use levels::{Levels, RawSeries};
use model::{Labels, Resolution};
use points::points;
use promql::value::Grid;

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;
/// 2026-11-20.
const T0: i64 = 1_795_132_800_000;

use Resolution::{FiveMinutes, OneHour, Raw};

fn series(pairs: &[(&str, &str)], samples: impl Iterator<Item = (i64, f64)>) -> RawSeries {
    RawSeries { labels: Labels::from_pairs(pairs.iter().copied()), samples: samples.collect() }
}

/// Four days of a sample a minute that end at [`T0`].
fn minutes() -> impl Iterator<Item = (i64, i64)> {
    (0..4 * 24 * 60).map(|i| (i, T0 - 4 * DAY + i * MINUTE))
}

fn downs() -> Vec<RawSeries> {
    let mut all = vec![
        series(
            &[("__name__", "c_total"), ("k", "even")],
            minutes().map(|(i, t)| (t, 60.0 * i as f64)),
        ),
        series(
            &[("__name__", "c_total"), ("k", "reset")],
            minutes().map(|(i, t)| (t, 60.0 * (i % 1000) as f64)),
        ),
        series(&[("__name__", "g"), ("k", "ten")], minutes().map(|(_, t)| (t, 10.0))),
        series(&[("__name__", "g"), ("k", "saw")], minutes().map(|(i, t)| (t, (i % 60) as f64))),
    ];
    for pod in 0..48_i64 {
        // pods that live one, two and three hours, one after another
        let begin = T0 - 4 * DAY + pod * 2 * HOUR + 7 * MINUTE;
        let life = (0..(pod % 3 + 1) * 60).map(move |i| (begin + i * MINUTE, 1.0));
        all.push(series(&[("__name__", "pod"), ("pod", &pod.to_string())], life));
    }
    for hours in 1..=8_i64 {
        let begin = T0 - 2 * DAY + 13 * MINUTE;
        let life = (0..hours * 60).map(move |i| (begin + i * MINUTE, 30.0 * i as f64));
        all.push(series(&[("__name__", "life_total"), ("hours", &hours.to_string())], life));
    }
    for session in 0..576_i64 {
        // four at a time: one begins every two and a half minutes and lasts ten
        let begin = T0 - DAY + session * 150_000;
        let life = (0..10).map(move |i| (begin + i * MINUTE, 1.0));
        all.push(series(&[("__name__", "sessions"), ("id", &session.to_string())], life));
    }
    all
}

fn ask(source: &Levels, text: &str, grid: Grid) -> Answer {
    let asked = Asked { max_resolution_ms: source.allowed.millis(), ..Asked::raw(grid) };
    let source: Arc<dyn SeriesSource> = Arc::new(source.clone());
    common::run(&common::engine(1, false), &source, text, asked).unwrap()
}

/// Every seven minutes of a day, two days before the end.
fn grid() -> Grid {
    Grid { start_ms: T0 - 2 * DAY, end_ms: T0 - DAY, step_ms: 7 * MINUTE }
}

/// Every step is this, but for the minute by which the last window of a chunk is shorter than the
/// others.
fn every(answer: &Answer, steps: usize, value: f64) {
    let points = points(answer);
    assert_eq!(points.len(), steps);
    let exact = points.iter().filter(|(_, v)| (v - value).abs() <= value.abs() * 0.02).count();
    let wrong: Vec<_> =
        points.iter().filter(|(_, v)| (v - value).abs() > value.abs() * 0.25).collect();
    assert!(wrong.is_empty(), "not {value}: {wrong:?}");
    assert!(exact * 10 >= steps * 9, "only {exact} of {steps} are {value}: {points:?}");
}

#[test]
fn short_windows_over_long_ones_take_their_share() {
    for only in [FiveMinutes, OneHour] {
        let source = Levels::new(&downs(), &[only], Raw);
        let steps = grid().steps();
        every(&ask(&source, r#"increase(c_total{k="even"}[4m])"#, grid()), steps, 240.0);
        every(&ask(&source, r#"rate(c_total{k="even"}[4m])"#, grid()), steps, 1.0);
        every(&ask(&source, r#"sum_over_time(g{k="ten"}[4m])"#, grid()), steps, 40.0);
        every(&ask(&source, r#"count_over_time(g{k="saw"}[4m])"#, grid()), steps, 4.0);
        every(&ask(&source, r#"avg_over_time(g{k="ten"}[4m])"#, grid()), steps, 10.0);
        every(&ask(&source, r#"delta(g{k="ten"}[4m])"#, grid()), steps, 0.0);
    }
    let source = Levels::new(&downs(), &[OneHour], Raw);
    every(&ask(&source, r#"increase(c_total{k="even"}[5m])"#, grid()), grid().steps(), 300.0);
    every(&ask(&source, r#"sum_over_time(g{k="ten"}[30m])"#, grid()), grid().steps(), 300.0);
}

#[test]
fn what_was_scaled_or_widened_is_said_once() {
    let source = Levels::new(&downs(), &[OneHour], Raw);
    let infos = |text: &str| ask(&source, text, grid()).infos;
    assert_eq!(
        infos(r#"increase(c_total{k="even"}[5m])"#),
        ["PromQL info: increase over 5m scaled from windows of 1h where only data of 1h \
             resolution exists (1:10)"]
    );
    assert_eq!(
        infos(r#"max_over_time(g{k="saw"}[5m])"#),
        ["PromQL info: range of 5m widened to 1h where only data of 1h resolution exists (1:15)"]
    );
    assert_eq!(
        infos(r#"g{k="saw"}"#),
        ["PromQL info: lookback of 5m widened to 1h where only data of 1h resolution exists (1:1)"]
    );
    assert_eq!(
        infos(r#"g{k="saw"} + increase(c_total{k="even"}[5m]) or max_over_time(g{k="saw"}[5m])"#),
        ["PromQL info: lookback of 5m widened to 1h where only data of 1h resolution exists (1:1)"],
        "one for the whole answer"
    );
    let mut allowed = source.clone();
    allowed.allowed = OneHour;
    for text in [r#"g{k="saw"}"#, r#"max_over_time(g{k="saw"}[5m])"#, r#"increase(c_total[5m])"#] {
        assert!(ask(&allowed, text, grid()).infos.is_empty(), "{text}: it was asked for");
    }
    allowed.allowed = FiveMinutes;
    assert_eq!(ask(&allowed, r#"g{k="saw"}"#, grid()).infos.len(), 1, "not that of an hour");
}

#[test]
fn what_no_aggregate_tells_warns_once_and_leaves_no_gap() {
    let source = Levels::new(&downs(), &[OneHour], Raw);
    for function in ["changes", "resets", "idelta", "stddev_over_time"] {
        let answer = ask(&source, &format!(r#"{function}(g{{k="saw"}}[5m])"#), grid());
        assert_eq!(points(&answer).len(), grid().steps(), "{function}");
        let position = function.len() + 2;
        let text = format!(
            "PromQL warning: {function} needs raw samples where only data of 1h resolution exists: \
             the answer is of its windows (1:{position})"
        );
        assert_eq!(answer.warnings, [text]);
    }
    // where finer data exists it is read, whatever is allowed
    let source = Levels::new(&downs(), &[Raw, FiveMinutes, OneHour], OneHour);
    let exact = Levels::new(&downs(), &[Raw], Raw);
    for text in [
        r#"changes(g{k="saw"}[6h])"#,
        r#"resets(c_total{k="reset"}[1d])"#,
        r#"quantile_over_time(0.9, g{k="saw"}[2h])"#,
        r#"count_values("v", g{k="saw"})"#,
    ] {
        let answer = ask(&source, text, grid());
        assert!(answer.warnings.is_empty(), "{:?}", answer.warnings);
        assert_eq!(points(&answer), points(&ask(&exact, text, grid())), "{text}");
    }
}

#[test]
fn the_range_caps_the_resolution_of_every_range_function() {
    let source = Levels::new(&downs(), &[Raw, FiveMinutes, OneHour], OneHour);
    let at = Grid { start_ms: T0 - 2 * DAY, end_ms: T0 - DAY, step_ms: 5 * MINUTE };
    every(&ask(&source, r#"sum_over_time(g{k="ten"}[30m])"#, at), at.steps(), 300.0);
    every(&ask(&source, r#"count_over_time(g{k="saw"}[6h])"#, at), at.steps(), 360.0);
    assert!(ask(&source, r#"sum_over_time(g{k="ten"}[30m])"#, at).infos.is_empty());
}

#[test]
fn an_aggregate_is_chosen_by_what_is_done_to_the_samples_themselves() {
    let source = Levels::new(&downs(), &[OneHour], OneHour);
    let at = Grid::instant(T0 - DAY);
    let only = |text: &str| {
        let found = points(&ask(&source, text, at));
        assert_eq!(found.len(), 1, "{text}: {found:?}");
        found[0].1
    };
    assert_eq!(only(r#"sum_over_time(g{k="ten"}[6h:5m])"#), 720.0);
    assert_eq!(only(r#"max(-g{k="saw"})"#), -29.5);
    assert_eq!(only(r#"max(g{k="saw"} * 2)"#), 59.0);
    assert_eq!(only(r#"max((g{k="saw"}))"#), 59.0);
    assert_eq!(only(r#"count_over_time(g{k="saw"}[6h])"#), 360.0);
}

#[test]
fn short_lives_have_a_rate_at_any_resolution() {
    let raw = Levels::new(&downs(), &[Raw], Raw);
    for (levels, allowed) in
        [(&[OneHour][..], Raw), (&[OneHour], OneHour), (&[FiveMinutes], FiveMinutes)]
    {
        let source = Levels::new(&downs(), levels, allowed);
        for hours in 1..=8_i64 {
            let begin = T0 - 2 * DAY + 13 * MINUTE;
            // one minute after its second sample to its last
            let grid = Grid {
                start_ms: begin + 2 * MINUTE,
                end_ms: begin + (hours * 60 - 1) * MINUTE,
                step_ms: MINUTE,
            };
            let text = format!(r#"rate(life_total{{hours="{hours}"}}[5m])"#);
            let answer = ask(&source, &text, grid);
            let found = points(&answer);
            assert_eq!(found.len(), grid.steps(), "{hours} h, {levels:?}, {allowed:?}");
            // the last sample of a window has the time of its end, which is up to a minute too late
            let exact = points(&ask(&raw, &text, grid));
            let off: Vec<_> =
                found.iter().zip(&exact).filter(|(a, b)| (a.1 - b.1).abs() > 0.1001).collect();
            assert!(off.is_empty(), "{hours} h, {levels:?}: {off:?}");
        }
    }
}

#[test]
fn series_that_ended_are_not_looked_back_to() {
    let exact = Levels::new(&downs(), &[Raw], Raw);
    let at = Grid { start_ms: T0 - DAY + 2 * HOUR, end_ms: T0 - HOUR, step_ms: MINUTE };
    for (only, allowed) in [(OneHour, OneHour), (OneHour, Raw), (FiveMinutes, FiveMinutes)] {
        let source = Levels::new(&downs(), &[only], allowed);
        let (most, found) =
            (points(&ask(&exact, "sum(sessions)", at)), points(&ask(&source, "sum(sessions)", at)));
        for ((t, exact), (_, coarse)) in most.iter().zip(&found) {
            assert!(coarse <= exact, "at {t}: {coarse} sessions of {exact}");
        }
    }
    let pods = |source: &Levels| {
        let at = Grid { start_ms: T0 - 4 * DAY, end_ms: T0, step_ms: MINUTE };
        points(&ask(source, r#"pod{pod="9"}"#, at)).len()
    };
    let coarse = Levels::new(&downs(), &[FiveMinutes], FiveMinutes);
    assert!(
        pods(&coarse) <= pods(&exact) && pods(&coarse) >= pods(&exact) - 5,
        "{} {}",
        pods(&coarse),
        pods(&exact)
    );
}

#[test]
fn the_border_to_raw_data_does_not_jump() {
    let border = T0 - 2 * DAY + 12 * HOUR;
    let old: Vec<RawSeries> = downs()
        .into_iter()
        .map(|s| RawSeries {
            samples: s.samples.into_iter().filter(|(t, _)| *t < border).collect(),
            ..s
        })
        .filter(|s| !s.samples.is_empty())
        .collect();
    let mut mixed = Vec::new();
    for s in downs() {
        let mut chunks = match old.iter().find(|o| o.labels == s.labels) {
            Some(old) => levels::chunks_at(&old.samples, OneHour),
            None => Vec::new(),
        };
        let new: Vec<(i64, f64)> = s.samples.into_iter().filter(|(t, _)| *t >= border).collect();
        chunks.extend(levels::raw_chunks(&new));
        mixed.push(merge::Series { labels: s.labels, chunks });
    }
    mixed.sort_by(|a, b| a.labels.cmp(&b.labels));
    let source: Arc<dyn SeriesSource> = Arc::new(engine::testing::MemorySource::from_series(mixed));
    let near = Grid { start_ms: border - 2 * HOUR, end_ms: border + 2 * HOUR, step_ms: MINUTE };
    let ask = |text: &str| {
        common::run(&common::engine(1, false), &source, text, Asked::raw(near)).unwrap()
    };
    for (text, value) in [
        (r#"increase(c_total{k="even"}[5m])"#, 300.0),
        (r#"rate(c_total{k="even"}[5m])"#, 1.0),
        (r#"sum_over_time(g{k="ten"}[30m])"#, 300.0),
        (r#"count_over_time(g{k="ten"}[5m])"#, 5.0),
        (r#"g{k="ten"}"#, 10.0),
    ] {
        every(&ask(text), near.steps(), value);
    }
}
