use merge::{Batch, DownsampledSeries, HistogramWindows, NO_TIME, Windows};
use model::histogram::{BucketSpan, CUSTOM_BUCKETS_SCHEMA, ResetHint};
use model::{FloatHistogram, Labels, STALE_NAN};
use parquet_block::SeriesWindows;

const WINDOW_MS: i64 = 300_000;
const INTERVAL_MS: i64 = 60_000;
const WINDOWS: usize = 24;
const SAMPLES: usize = 5;
const HISTOGRAM_WINDOWS: usize = 8;

/// What the kept block of format 2 holds: something in every column, in every way that numbers are
/// stored.
pub(crate) fn format_2() -> Vec<SeriesWindows> {
    let float = |name: &str, floats: Windows| {
        let series = DownsampledSeries { floats, ..DownsampledSeries::default() };
        (Labels::from_pairs([("__name__", name), ("job", "a")]), series)
    };
    let native = |name: &str, histograms: HistogramWindows| {
        let series = DownsampledSeries { histograms, ..DownsampledSeries::default() };
        (Labels::from_pairs([("__name__", name), ("job", "b")]), series)
    };
    let integers = |i: usize| ((i * 7919) % 1000) as f64;
    let mut all = vec![
        float("integers", gauge(integers)),
        float("hundredths", gauge(|i| ((i * 7919) % 10_000) as f64 / 100.0)),
        float("products", gauge(|i| (i * 7919) as f64 * 1e-6)),
        float("full_mantissas", gauge(|i| ((i + 2) as f64).sqrt())),
        float("not_decimals", not_decimals()),
        float("counter_total", counter()),
        float("decimal_counter_total", in_batches(|i| (i % 50) as f64 * 0.1, &[0, 9, 10])),
        float("never_reset_total", gauge(|i| i as f64)),
        float("no_counter", no_counter()),
        float("times_unknown", times_unknown(gauge(integers), 0..WINDOWS)),
        float("times_known_later", times_unknown(gauge(integers), 0..WINDOWS / 2)),
        native("requests", histograms(requests, &[0, 5])),
        native("temperatures", histograms(temperatures, &[0])),
        native("custom", histograms(custom, &[0])),
        native("empty", histograms(|_| FloatHistogram::default(), &[0])),
    ];
    let (labels, mut both) = float("both", gauge(integers));
    both.histograms = histograms(requests, &[0, 5]);
    // the columns of these two labels have one id, so that the second is stored with the rare ones
    all.push((labels.with("zone_25023", b"x").with("zone_37882", b"y"), both));
    let (labels, series) = float("not_utf8", gauge(integers));
    all.push((labels.with("job", b"\xff\xfe"), series));
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

fn gauge(value: impl Fn(usize) -> f64) -> Windows {
    in_batches(value, &[0])
}

/// Windows of the samples that `value` gives; batches begin at these windows.
fn in_batches(value: impl Fn(usize) -> f64, starts: &[usize]) -> Windows {
    let mut out = Windows::default();
    let (mut last, mut total) = (0.0, 0.0);
    for w in 0..WINDOWS {
        let samples: Vec<f64> = (0..SAMPLES).map(|i| value(SAMPLES * w + i)).collect();
        let first_t = w as i64 * WINDOW_MS + 10;
        let last_t = first_t + (SAMPLES as i64 - 1) * INTERVAL_MS;
        if starts.contains(&w) {
            (last, total) = (samples[0], samples[0]);
            out.batches.push(Batch { start: w, first_t, first_v: samples[0], last_v: samples[0] });
        }
        for sample in &samples {
            total += if *sample < last { *sample } else { *sample - last };
            last = *sample;
        }
        // a batch ends at its last sample
        let is_last = w + 1 == WINDOWS || starts.contains(&(w + 1));
        out.t.push(if is_last { last_t } else { window_end(w) });
        out.first_t.push(first_t);
        out.last_t.push(last_t);
        out.count.push(SAMPLES as u32);
        out.sum.push(samples.iter().sum());
        out.min.push(samples.iter().copied().fold(f64::INFINITY, f64::min));
        out.max.push(samples.iter().copied().fold(f64::NEG_INFINITY, f64::max));
        out.counter.push(total);
        if let Some(batch) = out.batches.last_mut() {
            batch.last_v = last;
        }
    }
    out
}

fn window_end(window: usize) -> i64 {
    (window as i64 + 1) * WINDOW_MS - 1
}

/// Two batches; the counter is reset in the middle of each.
fn counter() -> Windows {
    in_batches(|i| 1_000_000_000.0 + (i % 35 * 15) as f64, &[0, 13])
}

/// Decimals, and among them numbers that are none.
fn not_decimals() -> Windows {
    let mut out = gauge(|i| ((i * 31) % 700) as f64 / 10.0);
    (out.max[1], out.sum[1], out.counter[1]) = (f64::INFINITY, f64::INFINITY, f64::INFINITY);
    (out.min[2], out.sum[2]) = (f64::NEG_INFINITY, f64::NEG_INFINITY);
    (out.min[3], out.max[3], out.sum[3]) = (-0.0, 0.0, -0.0);
    let other_nan = f64::from_bits(f64::NAN.to_bits() | 0xbeef);
    (out.min[4], out.max[4], out.sum[4], out.counter[4]) = (f64::NAN, other_nan, f64::NAN, -0.0);
    out.batches[0].first_v = f64::NAN;
    out.batches[0].last_v = f64::NEG_INFINITY;
    out
}

/// What was downsampled by someone who wrote no counter.
fn no_counter() -> Windows {
    let mut out = gauge(|i| i as f64);
    out.counter.fill(STALE_NAN);
    out.batches[0].first_v = STALE_NAN;
    out
}

fn times_unknown(mut windows: Windows, rows: std::ops::Range<usize>) -> Windows {
    windows.first_t[rows.clone()].fill(NO_TIME);
    windows.last_t[rows].fill(NO_TIME);
    windows
}

fn span(offset: i32, length: u32) -> BucketSpan {
    BucketSpan { offset, length }
}

/// A counter of whole numbers.
fn requests(w: usize) -> FloatHistogram {
    FloatHistogram {
        schema: 2,
        hint: if w == 0 { ResetHint::Unknown } else { ResetHint::NotReset },
        zero_threshold: 0.001,
        zero_count: w as f64,
        count: (20 * w + 7) as f64,
        sum: 0.3 * w as f64,
        positive_spans: vec![span(-3, 2), span(4, 1)],
        negative_spans: vec![span(1, 1)],
        positive_buckets: vec![(3 * w + 1) as f64, (4 * w + 2) as f64, (7 * w + 3) as f64],
        negative_buckets: vec![(5 * w + 1) as f64],
        custom_values: Vec::new(),
    }
}

/// A gauge of fractions; its buckets change.
fn temperatures(w: usize) -> FloatHistogram {
    FloatHistogram {
        schema: -1,
        hint: ResetHint::Gauge,
        zero_threshold: 1e-128,
        zero_count: 0.5,
        count: 0.5 + 1.25 * w as f64,
        sum: -7.75,
        positive_spans: vec![span(w as i32, 1)],
        positive_buckets: vec![1.25 * w as f64],
        ..FloatHistogram::default()
    }
}

fn custom(w: usize) -> FloatHistogram {
    FloatHistogram {
        schema: CUSTOM_BUCKETS_SCHEMA,
        count: (3 * w) as f64,
        sum: 1e17 + w as f64,
        positive_spans: vec![span(0, 3)],
        positive_buckets: vec![w as f64, 0.0, (2 * w) as f64],
        custom_values: vec![0.1, 0.25],
        ..FloatHistogram::default()
    }
}

/// Windows of which the counters are these histograms; batches begin at these windows, where the
/// counter was reset.
fn histograms(of: impl Fn(usize) -> FloatHistogram, starts: &[usize]) -> HistogramWindows {
    let mut out = HistogramWindows { batches: starts.to_vec(), ..HistogramWindows::default() };
    for w in 0..HISTOGRAM_WINDOWS {
        let first_t = w as i64 * WINDOW_MS + 20;
        let last_t = first_t + (SAMPLES as i64 - 1) * INTERVAL_MS;
        let is_last = w + 1 == HISTOGRAM_WINDOWS || starts.contains(&(w + 1));
        let start = starts.iter().copied().filter(|start| *start <= w).max().unwrap_or(0);
        let mut counter = of(w - start);
        if start > 0 && w == start {
            counter.hint = ResetHint::Reset;
        }
        out.t.push(if is_last { last_t } else { window_end(w) });
        out.first_t.push(first_t);
        out.last_t.push(last_t);
        out.count.push(SAMPLES as u32);
        out.sum.push(sum_of(&counter));
        out.counter.push(counter);
    }
    out
}

/// What the samples of a window add up to.
fn sum_of(counter: &FloatHistogram) -> FloatHistogram {
    let most = SAMPLES as f64;
    let mut sum = counter.clone();
    sum.hint = ResetHint::Gauge;
    sum.count = most * counter.count - 1.0;
    sum.sum *= most;
    for bucket in sum.positive_buckets.iter_mut().chain(&mut sum.negative_buckets) {
        *bucket = most * *bucket - (*bucket / 3.0).floor();
    }
    sum
}
