//! Answers over downsampled data that says when its samples were taken, beside those over the raw
//! samples.

mod common;
#[path = "common/points.rs"]
mod points;

use std::collections::BTreeSet;
use std::sync::Arc;

use common::Asked;
use engine::testing::MemorySource;
use engine::{Dedup, Select, SeriesSource, SourceEvent, SourceStream};
use futures::StreamExt;
use merge::{
    ChunkSelection, DownsampledSeries, Downsampler, Series, SeriesChunk, merge_series_chunks,
};
use model::{FloatHistogram, Labels, Resolution, Sample, SampleValue, TimeRange};
use points::points;
use promql::value::{Grid, Value};
use proptest::prelude::*;
use tsdb::chunk::Aggregate;

const SECOND: i64 = 1000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
const LOOKBACK: i64 = 5 * MINUTE;
const COARSE: [Resolution; 2] = [Resolution::FiveMinutes, Resolution::OneHour];

use Resolution::Raw;

/// All chunks of all series, whatever time is asked for.
#[derive(Debug)]
struct Whole(MemorySource);

impl SeriesSource for Whole {
    fn select(&self, select: Select) -> SourceStream {
        self.0.select(Select { range: TimeRange::ALL, ..select })
    }
}

fn floats(samples: impl IntoIterator<Item = (i64, f64)>) -> Vec<Sample> {
    let sample = |(t, value)| Sample { t, value: SampleValue::Float(value) };
    samples.into_iter().map(sample).collect()
}

fn histogram(count: f64) -> SampleValue {
    let histogram =
        FloatHistogram { count, zero_count: count, sum: count, ..FloatHistogram::default() };
    SampleValue::Histogram(Arc::new(histogram))
}

/// Every so many seconds from one time up to another, the value by the time.
fn scraped(from: i64, to: i64, every: i64, value: impl Fn(i64) -> f64) -> Vec<(i64, f64)> {
    (from..to).step_by(every as usize).map(|t| (t, value(t))).collect()
}

fn raw_chunks(samples: &[Sample]) -> Vec<SeriesChunk> {
    let labels = Labels::from_pairs([("__name__", "x")]);
    let source = MemorySource::new([(labels, samples.to_vec())]).unwrap();
    let select = Select {
        matchers: Vec::new(),
        range: TimeRange::ALL,
        max_resolution_ms: 0,
        aggregates: Vec::new(),
        times_from_ms: 1,
        memory: model::Budget::unlimited(),
    };
    let events: Vec<_> = futures::executor::block_on(source.select(select).collect());
    let series = events.into_iter().flat_map(|event| match event.unwrap() {
        SourceEvent::Series(series) => series,
        SourceEvent::Warning(text) | SourceEvent::Info(text) => panic!("{text}"),
    });
    series.flat_map(|series| series.chunks).collect()
}

/// The chunks of a replica at a resolution, with the times of samples.
fn chunks(samples: &[Sample], resolution: Resolution, replica: u64) -> Vec<SeriesChunk> {
    let raw = raw_chunks(samples);
    let (mut fine, mut coarse) = (DownsampledSeries::default(), DownsampledSeries::default());
    Downsampler::new(Resolution::FiveMinutes).raw(&raw, &mut fine).unwrap();
    let windows = match resolution {
        Raw => return raw.into_iter().map(|c| c.with_replica(Some(replica))).collect(),
        Resolution::FiveMinutes => &fine,
        Resolution::OneHour => {
            Downsampler::new(resolution)
                .coarser(Resolution::FiveMinutes, &fine, &mut coarse)
                .unwrap();
            &coarse
        }
    };
    let selection =
        ChunkSelection { range: TimeRange::ALL, aggregates: &Aggregate::ALL, times: true };
    let chunks = windows.chunks_within(selection).unwrap();
    let sent = |c: SeriesChunk| c.with_resolution(resolution).with_replica(Some(replica));
    chunks.into_iter().map(sent).collect()
}

/// Series `x`, each of them the replicas with these samples.
fn source(series: &[Vec<Vec<Sample>>], resolution: Resolution) -> Arc<dyn SeriesSource> {
    let one = |(i, replicas): (usize, &Vec<Vec<Sample>>)| {
        let chunks = replicas.iter().zip(1..).flat_map(|(r, n)| chunks(r, resolution, n));
        Series {
            labels: Labels::from_pairs([("__name__", "x"), ("i", &format!("{i:04}"))]),
            chunks: merge_series_chunks(chunks.collect()),
        }
    };
    let series = series.iter().enumerate().map(one).collect();
    Arc::new(Whole(MemorySource::from_series(series)))
}

fn one_series(samples: Vec<Sample>, resolution: Resolution) -> Arc<dyn SeriesSource> {
    source(&[vec![samples]], resolution)
}

fn asked(grid: Grid, allowed: Resolution) -> Asked {
    Asked { dedup: Some(Dedup::Penalty), max_resolution_ms: allowed.millis(), ..Asked::raw(grid) }
}

fn ask(source: &Arc<dyn SeriesSource>, text: &str, grid: Grid) -> Vec<(i64, f64)> {
    let answer = common::run(&common::engine(1, false), source, text, asked(grid, Raw));
    points(&answer.unwrap())
}

/// The steps at which there is a value, whichever.
fn steps(source: &Arc<dyn SeriesSource>, text: &str, grid: Grid) -> BTreeSet<i64> {
    let answer = common::run(&common::engine(1, false), source, text, asked(grid, Raw)).unwrap();
    let Value::Matrix(series) = answer.value else { panic!("no range was asked for") };
    series.iter().flat_map(|s| s.points.iter().map(|p| p.t_ms).collect::<Vec<_>>()).collect()
}

fn grid(from: i64, to: i64, step_ms: i64) -> Grid {
    Grid { start_ms: from, end_ms: to, step_ms }
}

#[test]
fn sessions_are_counted_as_they_were() {
    // one after another and four at a time, each of ten minutes
    for every in [10 * MINUTE, 150 * SECOND] {
        let begin = |session: i64| 3 * HOUR + 7 * SECOND + session * every;
        let life = |session: i64| {
            floats(scraped(begin(session), begin(session) + 10 * MINUTE, 15 * SECOND, |_| 1.0))
        };
        let sessions: Vec<_> = (0..40).map(|session| vec![life(session)]).collect();
        let at = grid(2 * HOUR, begin(42), MINUTE);
        let truth = ask(&source(&sessions, Raw), "count(x)", at);
        for resolution in COARSE {
            let coarse = source(&sessions, resolution);
            for text in ["count(x)", "sum(x)", "count(max(x) by (i))"] {
                assert_eq!(ask(&coarse, text, at), truth, "{resolution}: {text}");
            }
        }
    }
}

#[test]
fn a_gauge_begins_with_its_first_sample_and_has_a_value_from_there_on() {
    let begin = 3 * HOUR + 20 * MINUTE + 7 * SECOND;
    let life = floats(scraped(begin, begin + 2 * HOUR, 15 * SECOND, |_| 5.0));
    let at = grid(2 * HOUR, 7 * HOUR, 13 * SECOND);
    let texts = [
        "x",
        "avg_over_time(x[4m])",
        "max_over_time(x[4m])",
        "last_over_time(x[4m])",
        "sum_over_time(x[4m]) * 0 + 5",
        "present_over_time(x[4m]) * 5",
    ];
    let raw = one_series(life.clone(), Raw);
    for resolution in COARSE {
        let coarse = one_series(life.clone(), resolution);
        for text in texts {
            let (truth, found) = (ask(&raw, text, at), ask(&coarse, text, at));
            let off = truth.len().abs_diff(found.len());
            assert!(off <= 2, "{resolution} {text}: {} of {}", found.len(), truth.len());
            assert!(found.iter().all(|(_, v)| (v - 5.0).abs() < 1e-9), "{resolution} {text}");
        }
    }
}

#[test]
fn short_lives_have_the_rate_of_a_counter_over_any_range() {
    for minutes in [20, 45, 70, 110, 180] {
        let begin = 3 * HOUR + 17 * MINUTE + 3 * SECOND;
        let end = begin + minutes * MINUTE;
        let life = floats(scraped(begin, end, 15 * SECOND, |t| (t - begin) as f64 / 500.0));
        let raw = one_series(life.clone(), Raw);
        let at = grid(2 * HOUR, end + 5 * HOUR, MINUTE);
        for range in ["5m", "30m", "1h", "2h", "4h"] {
            for resolution in COARSE {
                let coarse = one_series(life.clone(), resolution);
                let text = format!("increase(x[{range}])");
                let (truth, found) = (ask(&raw, &text, at), ask(&coarse, &text, at));
                let what = format!("{minutes} min at {resolution}: {text}");
                let lacking: Vec<_> = truth
                    .iter()
                    .filter(|(t, _)| !found.iter().any(|(found, _)| found == t))
                    .collect();
                assert!(lacking.is_empty(), "{what} lacks {lacking:?}");
                // extrapolation differs by half a scrape where the life begins or ends
                let most = truth.iter().map(|(_, v)| *v).fold(0.0, f64::max);
                let off = |t: i64, v: f64| {
                    let of = truth.iter().find(|(of, _)| *of == t).map_or(0.0, |(_, v)| *v);
                    (v - of).abs()
                };
                let wrong: Vec<_> =
                    found.iter().filter(|(t, v)| off(*t, *v) > 0.11 * most).collect();
                assert!(wrong.is_empty(), "{what}: {wrong:?} up to {most}");
            }
        }
    }
}

#[test]
fn an_increase_lies_where_its_samples_are() {
    // steps between scrapes far apart: the last one of a window is two minutes before its end
    let every = 3 * MINUTE;
    let begin = 2 * HOUR + MINUTE;
    let life = floats(scraped(begin, begin + 4 * HOUR, every, |t| (t - begin) as f64 / 1000.0));
    let last = life[life.len() - 1].t;
    let at = grid(begin + HOUR, last, every);
    for resolution in COARSE {
        let coarse = one_series(life.clone(), resolution);
        for (t, v) in ask(&coarse, "increase(x[9m])", at) {
            assert!((v - 540.0).abs() < 1e-6, "{resolution}: {v} at {t}");
        }
    }
}

#[test]
fn resets_are_counted_where_times_are_known() {
    let begin = 2 * HOUR + 40 * SECOND;
    let value = |t: i64| ((t - begin) % (97 * MINUTE)) as f64 / 1000.0;
    let life = floats(scraped(begin, begin + 6 * HOUR, 20 * SECOND, value));
    let raw = one_series(life.clone(), Raw);
    let at = grid(begin + 5 * MINUTE, begin + 6 * HOUR, 11 * MINUTE);
    for resolution in COARSE {
        let coarse = one_series(life.clone(), resolution);
        let (truth, found) =
            (ask(&raw, "increase(x[4h])", at), ask(&coarse, "increase(x[4h])", at));
        assert_eq!(truth.len(), found.len(), "{resolution}");
        for ((t, expected), (_, v)) in truth.iter().zip(&found) {
            assert!(
                (v - expected).abs() <= 0.1 * 14_400.0,
                "{resolution}: {v}, not {expected} at {t}"
            );
        }
    }
}

#[test]
fn times_are_those_of_samples() {
    let begin = 3 * HOUR + 20 * MINUTE + 7 * SECOND;
    let every = 15 * SECOND;
    let life = floats(scraped(begin, begin + 2 * HOUR, every, |_| 5.0));
    let raw = one_series(life.clone(), Raw);
    let at = grid(2 * HOUR, 7 * HOUR, 70 * SECOND);
    for resolution in COARSE {
        let coarse = one_series(life.clone(), resolution);
        for text in ["timestamp(x)", "ts_of_last_over_time(x[6m])", "ts_of_first_over_time(x[6m])"]
        {
            let (truth, found) = (ask(&raw, text, at), ask(&coarse, text, at));
            assert!(truth.len().abs_diff(found.len()) <= 1, "{resolution} {text}");
            for (t, expected) in truth {
                let Some((_, v)) = found.iter().find(|(of, _)| *of == t) else { continue };
                let off = (v - expected).abs();
                assert!(off <= 15.0, "{resolution} {text}: {v}, not {expected} at {t}");
            }
        }
    }
}

#[test]
fn a_replica_that_was_down_hides_nothing() {
    let value = |t: i64| t as f64 / 1000.0;
    let down = [
        scraped(2 * HOUR, 2 * HOUR + 20 * MINUTE, 15 * SECOND, value),
        scraped(4 * HOUR + 10 * MINUTE, 6 * HOUR, 15 * SECOND, value),
    ];
    let whole = scraped(2 * HOUR + 4 * SECOND, 6 * HOUR, 15 * SECOND, value);
    let (down, whole) = (floats(down.concat()), floats(whole));
    let at = grid(HOUR, 8 * HOUR, 37 * SECOND);
    let inner = grid(2 * HOUR + 6 * MINUTE, 6 * HOUR - 6 * MINUTE, 37 * SECOND);
    for replicas in [[down.clone(), whole.clone()], [whole, down]] {
        let all = [replicas.to_vec()];
        let truth = steps(&source(&all, Raw), "x", at);
        for resolution in COARSE {
            let coarse = source(&all, resolution);
            assert_eq!(steps(&coarse, "x", at), truth, "{resolution}");
            let rates = ask(&coarse, "rate(x[5m])", inner);
            assert_eq!(rates.len(), inner.steps(), "{resolution}");
            // of each window one replica is chosen, which may have seen a part of its growth; the
            // next window makes up for it
            let mean = rates.iter().map(|(_, v)| v).sum::<f64>() / rates.len() as f64;
            assert!((mean - 1.0).abs() < 0.05, "{resolution}: {mean}");
            let wrong = rates.iter().any(|(_, v)| (v - 1.0).abs() > 0.1);
            assert!(!wrong || resolution == Resolution::OneHour, "{rates:?}");
        }
    }
}

#[test]
fn histograms_exist_as_floats_do() {
    let lives = [(190, 207), (230, 262), (270, 271), (400, 600)];
    let samples: Vec<Sample> = lives
        .iter()
        .flat_map(|(from, to)| scraped(from * MINUTE, to * MINUTE, 20 * SECOND, |t| t as f64))
        // reset in between
        .map(|(t, v)| (t, if t > 450 * MINUTE { v - 450.0 * MINUTE as f64 } else { v }))
        .map(|(t, v)| Sample { t, value: histogram(v) })
        .collect();
    let at = grid(2 * HOUR, 12 * HOUR, 33 * SECOND);
    let truth = steps(&one_series(samples.clone(), Raw), "x", at);
    for resolution in COARSE {
        let found = steps(&one_series(samples.clone(), resolution), "x", at);
        let beyond: Vec<i64> = found.symmetric_difference(&truth).copied().collect();
        match resolution {
            Resolution::FiveMinutes => assert!(beyond.is_empty(), "{beyond:?}"),
            // both gaps of more than five minutes lie in one hour with what is around them
            _ => {
                assert!(truth.is_subset(&found) && beyond.iter().all(|t| is_in_an_hour(*t, &lives)))
            }
        }
    }
}

/// Whether a time is in a gap whose ends are in the same hour.
fn is_in_an_hour(t: i64, lives: &[(i64, i64)]) -> bool {
    lives.windows(2).any(|pair| {
        let (end, begin) = (pair[0].1 * MINUTE, pair[1].0 * MINUTE);
        (end..begin).contains(&t) && end / HOUR == begin / HOUR
    })
}

/// Samples with steps of up to `most`, and now and then one of up to three hours.
fn lives(most: i64) -> impl Strategy<Value = Vec<Sample>> {
    let step = prop_oneof![30 => SECOND..=most, 1 => SECOND..3 * HOUR];
    (HOUR..3 * HOUR, prop::collection::vec(step, 1..150)).prop_map(|(begin, steps)| {
        let mut t = begin;
        floats(steps.into_iter().map(|step| {
            t += step;
            (t, t as f64)
        }))
    })
}

/// The times in a gap longer than the lookback that no border of hours shows.
fn hidden(samples: &[Sample], t: i64) -> bool {
    let before = samples.partition_point(|s| s.t <= t);
    let around = before.checked_sub(1).and_then(|i| Some((samples[i].t, samples.get(before)?.t)));
    around.is_some_and(|(a, b)| b - a > LOOKBACK && a / HOUR == b / HOUR)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Over 5m data, a series exists exactly at the steps at which it does over raw data, however
    /// its samples are spread: a gap longer than the lookback always ends in another window. Over
    /// 1h data the same holds, except that gaps inside a window are not seen.
    #[test]
    fn a_series_exists_when_it_does_in_raw_data(
        samples in prop_oneof![lives(LOOKBACK), lives(30 * SECOND)],
        step in 20..200i64,
    ) {
        let last = samples[samples.len() - 1].t;
        let at = grid(HOUR, last + 2 * HOUR, step * SECOND);
        let truth = steps(&one_series(samples.clone(), Raw), "x", at);
        for text in ["x", "count(x)", "max(x)"] {
            let fine = one_series(samples.clone(), Resolution::FiveMinutes);
            prop_assert_eq!(&steps(&fine, text, at), &truth);
            let coarse = one_series(samples.clone(), Resolution::OneHour);
            let found = steps(&coarse, text, at);
            prop_assert!(truth.is_subset(&found));
            let beyond: Vec<_> = found.difference(&truth).filter(|t| !hidden(&samples, **t)).collect();
            prop_assert!(beyond.is_empty(), "{:?}", beyond);
        }
    }
}
