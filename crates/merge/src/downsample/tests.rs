use std::sync::Arc;

use bytes::Bytes;
use model::histogram::{BucketSpan, ResetHint};
use model::{FloatHistogram, Sample, SampleValue};
use proptest::prelude::*;
use tsdb::chunk::{Encoding, FloatHistogramEncoder, Pushed};

use super::*;
use crate::read::{ValueOf, read_run};
use crate::series::ChunkBytes;
use crate::{Column, Floats};

fn raw_chunk(samples: &[(i64, f64)]) -> SeriesChunk {
    let content = ChunkContent::Raw(aggregate::encode_xor(samples.iter().copied()));
    SeriesChunk::new(samples[0].0, samples[samples.len() - 1].0, content)
}

fn five_minutes(samples: &[(i64, f64)]) -> DownsampledSeries {
    let mut out = DownsampledSeries::default();
    Downsampler::new(Resolution::FiveMinutes).raw(&[raw_chunk(samples)], &mut out).unwrap();
    out
}

#[test]
fn windows_end_on_their_last_millisecond_and_the_last_at_the_last_sample() {
    let out = five_minutes(&[
        (10_000, 1.0),
        (290_000, 5.0),
        (300_000, 2.0),
        (310_000, f64::NAN),
        (320_000, 4.0),
    ]);
    let expected = Windows {
        t: vec![299_999, 320_000],
        first_t: vec![10_000, 300_000],
        last_t: vec![290_000, 320_000],
        count: vec![2, 2],
        sum: vec![6.0, 6.0],
        min: vec![1.0, 2.0],
        max: vec![5.0, 4.0],
        counter: vec![5.0, 9.0],
        batches: vec![Batch { start: 0, first_t: 10_000, first_v: 1.0, last_v: 4.0 }],
    };
    assert_eq!(out.floats, expected);
    assert!(out.histograms.is_empty());
}

#[test]
fn a_series_of_stale_markers_alone_has_no_windows() {
    assert!(five_minutes(&[(1, model::STALE_NAN), (2, f64::NAN)]).is_empty());
}

#[test]
fn overlapping_input_is_refused() {
    let chunks = [raw_chunk(&[(0, 1.0), (10, 1.0)]), raw_chunk(&[(10, 1.0)])];
    let refused =
        Downsampler::new(Resolution::FiveMinutes).raw(&chunks, &mut DownsampledSeries::default());
    assert!(
        matches!(refused, Err(Error(Case::OverlappingInput { end: 10, start: 10 }))),
        "{refused:?}"
    );
}

#[test]
fn batches_hold_about_140_windows() {
    let samples: Vec<_> = (0..20_160).map(|i| (i * 60_000, i as f64)).collect();
    let out = five_minutes(&samples).floats;
    assert_eq!(out.len(), 4032);
    let sizes: Vec<usize> = (0..out.batches.len()).map(|b| out.batch_rows(b).len()).collect();
    assert!(sizes.iter().all(|s| *s <= 141), "{sizes:?}");
    assert_eq!(out.count.iter().sum::<u32>(), 20_160);
}

/// What Thanos' chunks tell of the times of samples: where a batch of a counter begins, and where a
/// window that is cut short ends.
fn with_times_of_borders(windows: &DownsampledSeries, resolution: Resolution) -> DownsampledSeries {
    let mut known = windows.clone();
    let floats = &mut known.floats;
    for b in 0..floats.batches.len() {
        let rows = floats.batch_rows(b);
        floats.first_t[rows.start + 1..rows.end].fill(NO_TIME);
        forget_whole_windows(&floats.t[rows.clone()], &mut floats.last_t[rows], resolution);
    }
    let histograms = &mut known.histograms;
    histograms.first_t.fill(NO_TIME);
    for b in 0..histograms.batches.len() {
        let rows = histograms.batch_rows(b);
        forget_whole_windows(&histograms.t[rows.clone()], &mut histograms.last_t[rows], resolution);
    }
    known
}

fn forget_whole_windows(t: &[i64], last_t: &mut [i64], resolution: Resolution) {
    for (i, last) in last_t.iter_mut().enumerate() {
        if i + 1 < t.len() || !is_cut_short(t[i], resolution.millis()) {
            *last = NO_TIME;
        }
    }
}

/// Checks the times of windows by those of the samples.
fn check_times(samples: &[i64], t: &[i64], times: [&[i64]; 2]) {
    let mut start = 0;
    for (i, end) in t.iter().enumerate() {
        let next = samples.partition_point(|s| s <= end);
        assert_eq!([times[0][i], times[1][i]], [samples[start], samples[next - 1]], "at {end}");
        start = next;
    }
    assert_eq!(times.map(<[i64]>::len), [t.len(); 2]);
}

#[test]
fn clear_leaves_nothing() {
    let mut windows = five_minutes(&[(10_000, 1.0), (290_000, 5.0)]);
    windows.histograms = to_fine(&raw_histograms(&[(1, 2.0)])).histograms;
    windows.clear();
    assert_eq!(windows, DownsampledSeries::default());
}

#[test]
fn times_differ_windows() {
    let windows = five_minutes(&[(10_000, 1.0), (290_000, 5.0), (310_000, 5.0)]);
    assert_ne!(windows, five_minutes(&[(10_001, 1.0), (290_000, 5.0), (310_000, 5.0)]));
    let mut other = windows.clone();
    other.floats.last_t[0] = 280_000;
    assert_ne!(windows, other);
}

#[test]
fn a_coarse_window_knows_its_times_as_far_as_the_finer_ones_at_its_ends_do() {
    let mut fine = five_minutes(&[(10_000, 1.0), (310_000, 2.0), (620_000, 3.0)]);
    let times = |fine: &DownsampledSeries| {
        let floats = to_coarse(fine).floats;
        (floats.first_t, floats.last_t)
    };
    assert_eq!(times(&fine), (vec![10_000], vec![620_000]));
    (fine.floats.first_t[1], fine.floats.last_t[1]) = (NO_TIME, NO_TIME);
    assert_eq!(times(&fine), (vec![10_000], vec![620_000]));
    (fine.floats.first_t[0], fine.floats.last_t[2]) = (NO_TIME, NO_TIME);
    assert_eq!(times(&fine), (vec![NO_TIME], vec![NO_TIME]));
}

fn counter() -> impl Strategy<Value = Vec<(i64, f64)>> {
    proptest::collection::vec((1..90_000i64, 0..100u8), 1..400).prop_map(|steps| {
        let (mut t, mut v) = (1_000_000, 0.0);
        let mut grow = |(step, by): (i64, u8)| {
            t += step;
            match by {
                0 => return (t, model::STALE_NAN),
                1 => v = 3.0,
                _ => v += f64::from(by),
            }
            (t, v)
        };
        steps.into_iter().map(&mut grow).collect()
    })
}

fn increase(column: Column) -> f64 {
    let Column::Floats(Floats { mut values, .. }) = column else { panic!("histograms") };
    values.retain(|v| !v.is_nan());
    values.windows(2).map(|w| if w[1] < w[0] { w[1] } else { w[1] - w[0] }).sum()
}

proptest! {
    #[test]
    fn aggregates_and_increases_survive_both_steps(samples in counter(), cut in 1..400usize) {
        let (head, tail) = samples.split_at(cut.min(samples.len()));
        let chunks: Vec<_> = [head, tail].into_iter().filter(|c| !c.is_empty()).map(raw_chunk).collect();
        let mut fine = DownsampledSeries::default();
        Downsampler::new(Resolution::FiveMinutes).raw(&chunks, &mut fine).unwrap();
        let mut coarse = DownsampledSeries::default();
        Downsampler::new(Resolution::OneHour).coarser(Resolution::FiveMinutes, &fine, &mut coarse).unwrap();

        let values: Vec<f64> = samples.iter().map(|s| s.1).filter(|v| !v.is_nan()).collect();
        let times: Vec<i64> = samples.iter().filter(|s| !s.1.is_nan()).map(|s| s.0).collect();
        let raw = increase(read_run(&chunks, ValueOf::Counter).unwrap());
        let resolutions = [(&fine, Resolution::FiveMinutes), (&coarse, Resolution::OneHour)];
        for (windows, resolution) in resolutions {
            let floats = &windows.floats;
            check_times(&times, &floats.t, [&floats.first_t, &floats.last_t]);
            prop_assert_eq!(floats.count.iter().sum::<u32>() as usize, values.len());
            prop_assert_eq!(floats.sum.iter().sum::<f64>(), values.iter().sum::<f64>());
            let min = |v: &[f64]| v.iter().copied().fold(f64::MAX, f64::min);
            let max = |v: &[f64]| v.iter().copied().fold(f64::MIN, f64::max);
            prop_assert_eq!(min(&floats.min), min(&values));
            prop_assert_eq!(max(&floats.max), max(&values));
            prop_assert!(floats.t.windows(2).all(|w| w[0] < w[1]));
            let encoded = windows.to_chunks().unwrap();
            prop_assert_eq!(increase(read_run(&encoded, ValueOf::Counter).unwrap()), raw);
            let decoded = DownsampledSeries::from_chunks(&encoded, resolution).unwrap();
            prop_assert_eq!(decoded, with_times_of_borders(windows, resolution));
        }
    }
}

/// A histogram of so many observations, half of them in each of two buckets.
fn histogram(count: f64) -> FloatHistogram {
    FloatHistogram {
        count,
        sum: count * 1.5,
        positive_spans: vec![BucketSpan { offset: 0, length: 2 }],
        positive_buckets: vec![(count / 2.0).floor(), count - (count / 2.0).floor()],
        ..FloatHistogram::default()
    }
}

fn raw_histograms(samples: &[(i64, f64)]) -> Vec<SeriesChunk> {
    let mut chunks = Vec::new();
    let mut begin = 0;
    let mut encoder = FloatHistogramEncoder::new(ResetHint::Unknown);
    let mut finish = |encoder: FloatHistogramEncoder, samples: &[(i64, f64)]| {
        let content = ChunkContent::Raw(ChunkBytes {
            encoding: Encoding::FloatHistogram,
            data: Bytes::from(encoder.finish()),
        });
        chunks.push(SeriesChunk::new(samples[0].0, samples[samples.len() - 1].0, content));
    };
    for (i, (t, count)) in samples.iter().enumerate() {
        let full = i - begin == 120;
        let pushed = if full {
            Pushed::NewChunk(ResetHint::Unknown)
        } else {
            encoder.push(*t, &histogram(*count)).unwrap()
        };
        if let Pushed::NewChunk(header) = pushed {
            let full = std::mem::replace(&mut encoder, FloatHistogramEncoder::new(header));
            finish(full, &samples[begin..i]);
            begin = i;
            encoder.push(*t, &histogram(*count)).unwrap();
        }
    }
    finish(encoder, &samples[begin..]);
    chunks
}

/// The counts of a counter of histograms as a reader sees them, each with what it grew by.
fn grown(chunks: &[SeriesChunk]) -> Vec<(i64, f64)> {
    let samples = read_run(chunks, ValueOf::Counter).unwrap().into_samples();
    let value = |s: &Sample| match &s.value {
        SampleValue::Histogram(h) => Arc::clone(h),
        SampleValue::Float(_) => panic!("a float at {}", s.t),
    };
    let growth = |w: &[Sample]| {
        let (before, now) = (value(&w[0]), value(&w[1]));
        (w[1].t, if now.detect_reset(&before) { now.count } else { now.count - before.count })
    };
    samples.windows(2).map(growth).collect()
}

fn total(growth: &[(i64, f64)], after: i64, until: i64) -> f64 {
    growth.iter().filter(|(t, _)| *t > after && *t <= until).map(|(_, by)| by).sum()
}

/// Two days of scrapes each 15 s, of a counter that grows by four each and is reset in minute 430.
fn two_days_with_a_reset() -> Vec<(i64, f64)> {
    let reset = 430 * 60_000 + 7_000;
    let count = |t: i64| {
        if t < reset { 1000.0 + (t / 15_000 * 4) as f64 } else { ((t - reset) / 15_000 * 4) as f64 }
    };
    (0..48 * 240).map(|i| (i * 15_000, count(i * 15_000))).collect()
}

fn to_fine(raw: &[SeriesChunk]) -> DownsampledSeries {
    let mut fine = DownsampledSeries::default();
    Downsampler::new(Resolution::FiveMinutes).raw(raw, &mut fine).unwrap();
    fine
}

fn to_coarse(fine: &DownsampledSeries) -> DownsampledSeries {
    let mut coarse = DownsampledSeries::default();
    Downsampler::new(Resolution::OneHour)
        .coarser(Resolution::FiveMinutes, fine, &mut coarse)
        .unwrap();
    coarse
}

#[test]
fn a_counter_of_histograms_grows_as_the_raw_one_at_every_window() {
    let raw = raw_histograms(&two_days_with_a_reset());
    let (truth, fine) = (grown(&raw), to_fine(&raw));
    let coarse = to_coarse(&fine);
    for (windows, resolution) in [(&fine, Resolution::FiveMinutes), (&coarse, Resolution::OneHour)]
    {
        let chunks = windows.to_chunks().unwrap();
        let growth = grown(&chunks);
        let mut before = windows.histograms.t[0];
        for (t, by) in &growth {
            assert_eq!(*by, total(&truth, before, *t), "from {before} to {t}");
            before = *t;
        }
        let samples: u32 = windows.histograms.count.iter().sum();
        assert_eq!(samples as usize, two_days_with_a_reset().len());
        // the chunks hold everything that the windows do, but for times
        assert_eq!(
            DownsampledSeries::from_chunks(&chunks, resolution).unwrap(),
            with_times_of_borders(windows, resolution)
        );
    }
    let resets = |w: &DownsampledSeries| {
        w.histograms.counter.iter().filter(|h| h.hint == ResetHint::Reset).count()
    };
    assert_eq!((resets(&fine), resets(&coarse)), (1, 1));
}

/// Batches with resets in them, as Thanos makes them and we used to: the total continues over a
/// reset.
fn without_cuts(windows: &HistogramWindows) -> HistogramWindows {
    let mut joined = windows.clone();
    for (b, start) in windows.batches.iter().enumerate() {
        let is_cut = b > 0 && windows.counter[*start].hint == ResetHint::Reset;
        let lift = is_cut.then(|| joined.counter[start - 1].clone());
        for row in windows.batch_rows(b) {
            if let Some(lift) = &lift {
                joined.counter[row].add(lift).unwrap();
                joined.counter[row].hint = ResetHint::NotReset;
            }
        }
    }
    joined.batches.retain(|start| *start == 0 || windows.counter[*start].hint != ResetHint::Reset);
    joined
}

#[test]
fn batches_with_a_reset_in_them_are_read_without_another_one_after_it() {
    let raw = raw_histograms(&two_days_with_a_reset());
    let (truth, fine) = (grown(&raw), to_fine(&raw));
    let theirs = DownsampledSeries {
        histograms: without_cuts(&fine.histograms),
        ..DownsampledSeries::default()
    };
    let coarse = to_coarse(&theirs);
    for windows in [&theirs, &coarse] {
        assert!(windows.histograms.counter.iter().all(|h| h.hint != ResetHint::Reset));
        let mut before = windows.histograms.t[0];
        for (t, by) in grown(&windows.to_chunks().unwrap()) {
            let true_growth = total(&truth, before, t);
            assert!(
                (by - true_growth).abs() <= 0.01 * true_growth,
                "{by}, not {true_growth} from {before} to {t}"
            );
            before = t;
        }
    }
}

fn resets_of_histograms() -> impl Strategy<Value = Vec<(i64, f64)>> {
    proptest::collection::vec((1..90_000i64, 0..100u8), 2..600).prop_map(|steps| {
        let (mut t, mut v) = (1_000_000, 0.0);
        let mut grow = |(step, by): (i64, u8)| {
            t += step;
            v = if by == 1 { 3.0 } else { v + f64::from(by) };
            (t, v)
        };
        steps.into_iter().map(&mut grow).collect()
    })
}

proptest! {
    #[test]
    fn histograms_grow_by_as_much_whatever_the_resolution(samples in resets_of_histograms()) {
        let raw = raw_histograms(&samples);
        let truth = grown(&raw);
        let mut fine = DownsampledSeries::default();
        Downsampler::new(Resolution::FiveMinutes).raw(&raw, &mut fine).unwrap();
        let mut coarse = DownsampledSeries::default();
        Downsampler::new(Resolution::OneHour).coarser(Resolution::FiveMinutes, &fine, &mut coarse).unwrap();
        let times: Vec<i64> = samples.iter().map(|s| s.0).collect();
        let resolutions = [(&fine, Resolution::FiveMinutes), (&coarse, Resolution::OneHour)];
        for (windows, resolution) in resolutions {
            let histograms = &windows.histograms;
            check_times(&times, &histograms.t, [&histograms.first_t, &histograms.last_t]);
            prop_assert!(windows.histograms.t.windows(2).all(|w| w[0] < w[1]));
            let chunks = windows.to_chunks().unwrap();
            let begin = windows.histograms.t[0];
            prop_assert_eq!(total(&grown(&chunks), begin, i64::MAX), total(&truth, begin, i64::MAX));
            let decoded = DownsampledSeries::from_chunks(&chunks, resolution).unwrap();
            prop_assert_eq!(decoded, with_times_of_borders(windows, resolution));
            let selection = ChunkSelection {
                range: TimeRange::ALL,
                aggregates: &Aggregate::ALL,
                times: true,
            };
            let timed = windows.chunks_within(selection).unwrap();
            prop_assert_eq!(&DownsampledSeries::from_chunks(&timed, resolution).unwrap(), windows);
        }
    }
}
