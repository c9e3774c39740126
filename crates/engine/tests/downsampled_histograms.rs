//! Queries over downsampled counters of native histograms.

mod common;

use common::Asked;
use std::sync::Arc;

use engine::testing::MemorySource;
use engine::{Dedup, Select, SeriesSource, SourceEvent};
use futures::StreamExt;
use merge::{DownsampledSeries, Downsampler, HistogramWindows, Series, SeriesChunk};
use model::histogram::{BucketSpan, ResetHint};
use model::{FloatHistogram, Labels, Resolution, Sample, SampleValue, TimeRange};
use promql::value::{Grid, PointValue, Value};

const MINUTE: i64 = 60_000;

/// Two days of scrapes each 15 s of a counter that grows by four each, with other buckets every
/// time, and is reset in minute 430.
fn raw() -> Vec<Sample> {
    let reset = 430 * MINUTE;
    let sample = |i: i64| {
        let t = i * 15_000;
        let count =
            if t < reset { 4000.0 + 4.0 * i as f64 } else { ((t - reset) / 15_000 * 4) as f64 };
        let low = (count / 3.0).floor();
        let histogram = FloatHistogram {
            count,
            sum: count * 1.5,
            positive_spans: vec![BucketSpan { offset: 0, length: 2 }],
            positive_buckets: vec![low, count - low],
            ..FloatHistogram::default()
        };
        Sample { t, value: SampleValue::Histogram(Arc::new(histogram)) }
    };
    (0..48 * 240).map(sample).collect()
}

fn labels() -> Labels {
    Labels::from_pairs([("__name__", "h")])
}

fn raw_source() -> Arc<dyn SeriesSource> {
    Arc::new(MemorySource::new([(labels(), raw())]).unwrap())
}

fn raw_chunks() -> Vec<SeriesChunk> {
    let select = Select {
        matchers: Vec::new(),
        range: TimeRange::ALL,
        max_resolution_ms: 0,
        aggregates: Vec::new(),
        times_from_ms: 1,
        memory: model::Budget::unlimited(),
    };
    let events: Vec<_> = futures::executor::block_on(raw_source().select(select).collect());
    let series = events.into_iter().flat_map(|event| match event.unwrap() {
        SourceEvent::Series(series) => series,
        SourceEvent::Warning(text) | SourceEvent::Info(text) => panic!("{text}"),
    });
    series.flat_map(|series| series.chunks).collect()
}

/// Batches with resets in them, as Thanos makes them: the total continues over a reset, and the
/// next batch begins with the counter's value.
fn without_cuts(windows: &HistogramWindows) -> DownsampledSeries {
    let mut joined = windows.clone();
    let is_cut = |start: usize| start > 0 && windows.counter[start].hint == ResetHint::Reset;
    for (b, start) in windows.batches.iter().enumerate().filter(|(_, start)| is_cut(**start)) {
        let before = joined.counter[start - 1].clone();
        for row in windows.batch_rows(b) {
            joined.counter[row].add(&before).unwrap();
            joined.counter[row].hint = ResetHint::NotReset;
        }
    }
    joined.batches.retain(|start| !is_cut(*start));
    DownsampledSeries { histograms: joined, ..DownsampledSeries::default() }
}

/// The same at five minutes and at an hour, of blocks of ours and of Thanos'.
fn downsampled() -> [(&'static str, Resolution, DownsampledSeries); 4] {
    let coarser = |fine: &DownsampledSeries| {
        let mut coarse = DownsampledSeries::default();
        Downsampler::new(Resolution::OneHour)
            .coarser(Resolution::FiveMinutes, fine, &mut coarse)
            .unwrap();
        coarse
    };
    let mut fine = DownsampledSeries::default();
    Downsampler::new(Resolution::FiveMinutes).raw(&raw_chunks(), &mut fine).unwrap();
    let theirs = without_cuts(&fine.histograms);
    let (coarse, mended) = (coarser(&fine), coarser(&theirs));
    [
        ("ours", Resolution::FiveMinutes, fine),
        ("ours", Resolution::OneHour, coarse),
        ("theirs", Resolution::FiveMinutes, theirs),
        ("ours of theirs", Resolution::OneHour, mended),
    ]
}

fn ask(source: &Arc<dyn SeriesSource>, text: &str, dedup: Option<Dedup>) -> Vec<(i64, f64)> {
    let grid = Grid { start_ms: 400 * MINUTE, end_ms: 700 * MINUTE, step_ms: MINUTE };
    let answer =
        common::run(&common::engine(1, false), source, text, Asked { dedup, ..Asked::raw(grid) })
            .unwrap();
    let Value::Matrix(series) = &answer.value else { panic!("{:?}", answer.value) };
    let value = |p: promql::value::Point| match p.value {
        PointValue::Float(v) => (p.t_ms, v),
        PointValue::Histogram(_) => panic!("a histogram"),
    };
    series.iter().flat_map(|s| s.points.iter().map(value)).collect()
}

#[test]
fn a_reset_is_counted_once_at_every_step_around_it() {
    for (whose, resolution, windows) in downsampled() {
        let chunks = windows
            .to_chunks()
            .unwrap()
            .into_iter()
            .map(|c| c.with_resolution(resolution))
            .collect();
        let series = Series { labels: labels(), chunks };
        let source: Arc<dyn SeriesSource> = Arc::new(MemorySource::from_series(vec![series]));
        let range = if resolution == Resolution::OneHour { "4h" } else { "30m" };
        for (function, dedup) in
            [("rate", None), ("increase", Some(Dedup::Penalty)), ("rate", Some(Dedup::Chain))]
        {
            for of in ["histogram_count", "histogram_sum"] {
                let text = format!("{of}({function}(h[{range}]))");
                let (truth, got) = (ask(&raw_source(), &text, None), ask(&source, &text, dedup));
                assert_eq!((truth.len(), got.len()), (301, 301));
                for ((t, expected), (_, v)) in truth.into_iter().zip(got) {
                    let off = v / expected - 1.0;
                    let minute = t / MINUTE;
                    assert!(
                        off.abs() < 0.02,
                        "{whose} {resolution:?} {text}: {v}, not {expected} in minute {minute}"
                    );
                }
            }
        }
    }
}
