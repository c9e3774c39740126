//! Queries where only data coarser than their windows exists.

mod common;

use std::sync::Arc;

use bytes::Bytes;
use engine::source::memory::MemorySource;
use engine::{Answer, Dedup, Grid, Select, SeriesSource, SourceStream, Value};
use merge::{ChunkBytes, ChunkContent, DownsampledSeries, Downsampler, Series, SeriesChunk};
use model::{Labels, Resolution};
use tsdb::chunk::{Encoding, XorEncoder};

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;

/// A counter that rises by one a second, sampled each 15 s, from one hour to another.
fn raw(from_hour: i64, to_hour: i64) -> Vec<SeriesChunk> {
    let times: Vec<i64> = (from_hour * HOUR..to_hour * HOUR).step_by(15_000).collect();
    let chunk = |times: &[i64]| {
        let mut encoder = XorEncoder::new();
        times.iter().for_each(|t| encoder.push(*t, *t as f64 / 1000.0));
        let data = Bytes::from(encoder.finish());
        let content = ChunkContent::Raw(ChunkBytes { encoding: Encoding::Xor, data });
        SeriesChunk::new(times[0], times[times.len() - 1], content)
    };
    times.chunks(120).map(chunk).collect()
}

fn downsampled(from_hour: i64, to_hour: i64) -> Vec<SeriesChunk> {
    let mut windows = DownsampledSeries::default();
    Downsampler::new(Resolution::FiveMinutes).raw(&raw(from_hour, to_hour), &mut windows).unwrap();
    windows.to_chunks().unwrap()
}

/// What a querier's source gives where retention has removed finer blocks.
#[derive(Debug)]
struct RawOnlyAllowed(MemorySource);

impl SeriesSource for RawOnlyAllowed {
    fn select(&self, select: Select) -> SourceStream {
        self.0.select(select)
    }

    fn max_resolution_ms(&self) -> i64 {
        0
    }
}

fn ask(chunks: Vec<SeriesChunk>, text: &str, grid: Grid) -> (Vec<(i64, f64)>, Vec<String>) {
    let labels = Labels::from_pairs([("__name__", "c_total")]);
    let source = MemorySource::from_series(vec![Series { labels, chunks }]);
    let source: Arc<dyn SeriesSource> = Arc::new(RawOnlyAllowed(source));
    let answer = common::run(&common::engine(1, false), &source, text, (grid, Dedup::Off)).unwrap();
    let infos = answer.infos.clone();
    (points(&answer), infos)
}

fn points(answer: &Answer) -> Vec<(i64, f64)> {
    let Value::Matrix(series) = &answer.value else { panic!("{:?}", answer.value) };
    let value = |p: engine::Point| match p.value {
        engine::PointValue::Float(v) => (p.t_ms, v),
        engine::PointValue::Histogram(_) => panic!("a histogram"),
    };
    series.iter().flat_map(|s| s.points.iter().map(value)).collect()
}

fn each_minute(from_hour: i64, to_hour: i64) -> Grid {
    Grid { start_ms: from_hour * HOUR, end_ms: to_hour * HOUR - MINUTE, step_ms: MINUTE }
}

#[test]
fn the_range_of_a_rate_widens_to_twice_the_resolution_and_says_so() {
    let (points, infos) = ask(downsampled(0, 10), "rate(c_total[1m])", each_minute(2, 4));
    assert_eq!(points.len(), 120);
    assert!(points.iter().all(|(_, v)| (v - 1.0).abs() < 0.05), "{points:?}");
    assert_eq!(infos, ["PromQL info: range of 1m widened to 10m where only data of 5m resolution exists (1:6)"],);
}

#[test]
fn only_steps_whose_windows_reach_into_coarser_data_widen() {
    let mut chunks = downsampled(0, 3);
    chunks.extend(raw(3, 6));
    let grid = each_minute(2, 5);
    let (mixed, _) = ask(chunks, "count_over_time(c_total[2m])", grid);
    let (fine, infos) = ask(raw(3, 6), "count_over_time(c_total[2m])", grid);
    assert!(infos.is_empty(), "{infos:?}");
    let after = |points: &[(i64, f64)]| -> Vec<(i64, f64)> {
        points.iter().copied().filter(|(t, _)| *t >= 3 * HOUR + 2 * MINUTE).collect()
    };
    assert_eq!(after(&mixed), after(&fine));
    assert!(mixed.iter().filter(|(t, _)| *t < 3 * HOUR - 5 * MINUTE).count() >= 55, "{mixed:?}");
}

#[test]
fn an_instant_selector_looks_back_as_far_as_the_resolution() {
    let grid = Grid { start_ms: 2 * HOUR, end_ms: 4 * HOUR, step_ms: MINUTE };
    let mut windows = DownsampledSeries::default();
    Downsampler::new(Resolution::FiveMinutes).raw(&raw(0, 10), &mut windows).unwrap();
    let mut hours = DownsampledSeries::default();
    Downsampler::new(Resolution::OneHour).coarser(Resolution::FiveMinutes, &windows, &mut hours).unwrap();
    let (points, infos) = ask(hours.to_chunks().unwrap(), "c_total", grid);
    assert_eq!(points.len(), 121);
    let text = "PromQL info: lookback of 5m widened to 1h where only data of 1h resolution exists (1:1)";
    assert_eq!(infos, [text]);
}
