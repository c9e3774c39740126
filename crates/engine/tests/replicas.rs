//! Queries over the replicas of one counter.

mod common;
#[path = "common/points.rs"]
mod points;

use common::Asked;
use std::sync::Arc;

use engine::testing::MemorySource;
use engine::{Dedup, Select, SeriesSource, SourceEvent, SourceStream};
use futures::StreamExt;
use merge::{Series, SeriesChunk, merge_series_chunks};
use model::{FloatHistogram, Labels, Sample, SampleValue};
use points::points;
use promql::value::Grid;

const SECOND: i64 = 1000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
const ALL: [Option<Dedup>; 2] = [Some(Dedup::Penalty), Some(Dedup::Chain)];

/// Samples each 15 s from one second to another.
fn scraped(from: i64, to: i64, value: impl Fn(i64) -> f64) -> Vec<Sample> {
    let sample = |t: i64| Sample { t: t * SECOND, value: SampleValue::Float(value(t)) };
    (from..to).step_by(15).map(sample).collect()
}

/// The same as native histograms with the value as count.
fn as_histograms(samples: &[Sample]) -> Vec<Sample> {
    let histogram = |sample: &Sample| {
        let SampleValue::Float(count) = sample.value else { panic!("a histogram") };
        let histogram =
            FloatHistogram { count, zero_count: count, sum: count, ..FloatHistogram::default() };
        Sample { t: sample.t, value: SampleValue::Histogram(Arc::new(histogram)) }
    };
    samples.iter().map(histogram).collect()
}

/// The chunks of a series of these samples.
fn chunks(samples: Vec<Sample>) -> Vec<SeriesChunk> {
    let source = MemorySource::new([(Labels::from_pairs([("__name__", "x")]), samples)]).unwrap();
    let select = Select {
        matchers: Vec::new(),
        range: model::TimeRange::ALL,
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

/// What a store gives of one series: the chunks of its replicas, in order.
#[derive(Debug)]
struct Replicas(MemorySource);

impl Replicas {
    fn source(replicas: &[Vec<SeriesChunk>]) -> Arc<dyn SeriesSource> {
        let labels = Labels::from_pairs([("__name__", "x")]);
        let series = Series { labels, chunks: merge_series_chunks(replicas.concat()) };
        Arc::new(Replicas(MemorySource::from_series(vec![series])))
    }
}

impl SeriesSource for Replicas {
    fn select(&self, select: Select) -> SourceStream {
        self.0.select(select)
    }
}

fn ask(
    source: &Arc<dyn SeriesSource>,
    text: &str,
    grid: Grid,
    dedup: Option<Dedup>,
) -> Vec<(i64, f64)> {
    let asked = Asked { dedup, ..Asked::raw(grid) };
    let answer = common::run(&common::engine(1, false), source, text, asked).unwrap();
    points(&answer)
}

fn each_minute(from: i64, to: i64) -> Grid {
    Grid { start_ms: from * MINUTE, end_ms: to * MINUTE, step_ms: MINUTE }
}

/// One counter that rises by one a second and is reset after half an hour; the other replica begins
/// after that.
fn reset_before_the_other_replica_began() -> [Vec<Sample>; 2] {
    let counter = |t: i64| if t < 1800 { 100_000.0 + t as f64 } else { (t - 1800) as f64 };
    [scraped(0, 3600, counter), scraped(2407, 3600, counter)]
}

#[test]
fn a_replica_that_began_after_a_reset_makes_no_others() {
    let floats = reset_before_the_other_replica_began();
    let histograms = floats.each_ref().map(|samples| as_histograms(samples));
    for (replicas, of) in [(floats, "x"), (histograms, "histogram_count")] {
        let source = Replicas::source(&replicas.map(chunks));
        for dedup in ALL {
            let rate =
                if of == "x" { "rate(x[5m])".to_owned() } else { format!("{of}(rate(x[5m]))") };
            let rates = ask(&source, &rate, each_minute(45, 59), dedup);
            assert_eq!(rates.len(), 15);
            assert!(rates.iter().all(|(_, v)| (v - 1.0).abs() < 1e-9), "{of} {dedup:?} {rates:?}");
            // No sample covers the fifteen seconds before the reset, and where samples are closer
            // together, the window's edge is further away than they are from each other.
            let before = ask(&source, &rate, each_minute(6, 44), dedup);
            assert!(
                before.iter().all(|(_, v)| (0.94..1.0 + 1e-9).contains(v)),
                "{of} {dedup:?} {before:?}"
            );
            let resets = ask(&source, "resets(x[1h])", Grid::instant(HOUR - 1), dedup);
            assert_eq!(resets, [(HOUR - 1, 1.0)], "{of} {dedup:?}");
        }
    }
}

#[test]
fn a_reset_while_a_replica_is_down_is_neither_hidden_nor_counted_again() {
    // reset every 100 minutes; the replicas are down in turns, one of them at each reset
    let counter = |t: i64| (t % 6000) as f64 * 2.0;
    let up = |samples: Vec<Sample>, down: &[(i64, i64)]| -> Vec<Sample> {
        let is_up =
            |s: &Sample| !down.iter().any(|(from, to)| (from * MINUTE..to * MINUTE).contains(&s.t));
        samples.into_iter().filter(is_up).collect()
    };
    let a = up(scraped(0, 36_000, counter), &[(90, 115), (295, 310)]);
    let b = up(scraped(4, 36_000, counter), &[(150, 160), (198, 203), (399, 430)]);
    for histograms in [false, true] {
        let of = |samples: &Vec<Sample>| {
            if histograms { as_histograms(samples) } else { samples.clone() }
        };
        let each = [of(&a), of(&b)].map(chunks);
        let alone = each.each_ref().map(|chunks| Replicas::source(std::slice::from_ref(chunks)));
        let both = Replicas::source(&each);
        let count =
            |text: String| if histograms { format!("histogram_count({text})") } else { text };
        for dedup in ALL {
            let grid = Grid { start_ms: 6 * HOUR, end_ms: 10 * HOUR, step_ms: MINUTE };
            let seen = alone.each_ref().map(|source| ask(source, "resets(x[6h])", grid, dedup));
            let merged = ask(&both, "resets(x[6h])", grid, dedup);
            assert_eq!((seen[0].len(), seen[1].len(), merged.len()), (241, 241, 241));
            for ((a, b), (t, resets)) in seen[0].iter().zip(&seen[1]).zip(merged) {
                assert!(
                    resets >= a.1.min(b.1) && resets <= a.1.max(b.1),
                    "{dedup:?} {a:?} {b:?} {resets} at {t}"
                );
            }
            // 7200 an hour, less the growth since the last sample before each reset
            let grown = ask(&both, &count("increase(x[6h])".to_owned()), grid, dedup);
            let is_right = |v: &f64| (0.99..=1.0).contains(&(v / (6.0 * 7200.0)));
            assert!(grown.iter().all(|(_, v)| is_right(v)), "{histograms} {dedup:?} {grown:?}");
        }
    }
}

/// A stream in two blocks, each with every other sample, in one of which a part is missing.
fn blocks_of_one_stream(replica: u64, offset: i64) -> [Vec<SeriesChunk>; 2] {
    let every_other = |phase: i64| -> Vec<Sample> {
        let all = scraped(offset, 7200 + offset, |t| t as f64);
        all.into_iter()
            .enumerate()
            .filter(|(i, _)| *i as i64 % 2 == phase)
            .map(|(_, sample)| sample)
            .collect()
    };
    [0, 1].map(|phase| {
        chunks(every_other(phase))
            .into_iter()
            .map(|chunk| chunk.with_replica(Some(replica)))
            .collect()
    })
}

#[test]
fn interleaved_blocks_of_one_stream_are_counted_whole() {
    let at_end = Grid::instant(7200 * SECOND - 1);
    let count = |source: &Arc<dyn SeriesSource>, dedup| {
        ask(source, "count_over_time(x[2h])", at_end, dedup)[0].1
    };
    let one = Replicas::source(&blocks_of_one_stream(1, 0));
    for dedup in [None].into_iter().chain(ALL) {
        assert_eq!(count(&one, dedup), 480.0, "{dedup:?}");
        let rates = ask(&one, "rate(x[5m])", each_minute(6, 119), dedup);
        assert!(rates.iter().all(|(_, v)| (v - 1.0).abs() < 1e-9), "{dedup:?} {rates:?}");
    }
    // with the same of another replica
    let blocks = [blocks_of_one_stream(1, 0), blocks_of_one_stream(2, 4)].concat();
    let both = Replicas::source(&blocks);
    assert_eq!(count(&both, Some(Dedup::Penalty)), 480.0);
    assert_eq!(count(&both, Some(Dedup::Chain)), 960.0);
}
