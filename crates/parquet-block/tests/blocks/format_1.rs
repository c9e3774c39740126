use merge::{Batch, DownsampledSeries, HistogramWindows, NO_TIME, Windows};
use model::histogram::{BucketSpan, ResetHint};
use model::{FloatHistogram, Labels};
use parquet_block::SeriesWindows;

/// What the kept block of format 1 holds.
pub(crate) fn format_1() -> Vec<SeriesWindows> {
    let series = |i: usize| {
        let labels = Labels::from_pairs([("__name__", "up"), ("i", &i.to_string())]);
        let windows = match i % 2 {
            0 => DownsampledSeries { floats: floats(), ..DownsampledSeries::default() },
            _ => DownsampledSeries { histograms: histograms(), ..DownsampledSeries::default() },
        };
        (labels, windows)
    };
    (0..4).map(series).collect()
}

fn floats() -> Windows {
    const WINDOWS: i64 = 12;
    Windows {
        t: (0..WINDOWS).map(|w| w * 300_000 + 299_999).collect(),
        first_t: vec![NO_TIME; WINDOWS as usize],
        last_t: vec![NO_TIME; WINDOWS as usize],
        count: vec![20; WINDOWS as usize],
        sum: (0..WINDOWS).map(|w| (w * 7) as f64).collect(),
        min: vec![0.25; WINDOWS as usize],
        max: (0..WINDOWS).map(|w| w as f64).collect(),
        counter: (0..WINDOWS).map(|w| if w < 8 { w as f64 } else { 1.5 * w as f64 }).collect(),
        batches: vec![
            Batch { start: 0, first_t: 10, first_v: 0.0, last_v: 1.0 },
            Batch { start: 8, first_t: 8 * 300_000, first_v: 3.5, last_v: 16.5 },
        ],
    }
}

fn histograms() -> HistogramWindows {
    const WINDOWS: i64 = 5;
    let histogram = |w: i64| FloatHistogram {
        schema: 1,
        hint: if w == 0 { ResetHint::Unknown } else { ResetHint::NotReset },
        zero_threshold: 0.001,
        zero_count: 1.0,
        count: (10 * w + 4) as f64,
        sum: 2.5 * w as f64,
        positive_spans: vec![
            BucketSpan { offset: -1, length: 2 },
            BucketSpan { offset: 3, length: 1 },
        ],
        negative_spans: vec![BucketSpan { offset: 0, length: 1 }],
        positive_buckets: vec![1.0, 1.0 + w as f64, (4 * w) as f64],
        negative_buckets: vec![(5 * w) as f64],
        custom_values: Vec::new(),
    };
    HistogramWindows {
        t: (0..WINDOWS).map(|w| w * 300_000 + 299_999).collect(),
        first_t: vec![NO_TIME; WINDOWS as usize],
        last_t: vec![NO_TIME; WINDOWS as usize],
        count: vec![20; WINDOWS as usize],
        sum: (0..WINDOWS).map(histogram).collect(),
        counter: (0..WINDOWS).map(histogram).collect(),
        batches: vec![0],
    }
}
