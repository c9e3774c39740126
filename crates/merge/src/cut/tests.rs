use model::FloatHistogram;
use model::histogram::BucketSpan;
use proptest::prelude::*;

use super::*;
use crate::column::Column;
use crate::downsample::{DownsampledSeries, Downsampler};
use crate::read::{ValueOf, read_run};

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;

fn raw_chunk(samples: &[(i64, f64)]) -> SeriesChunk {
    let mut encoder = XorEncoder::new();
    samples.iter().for_each(|(t, v)| encoder.push(*t, *v));
    let content = ChunkContent::Raw(ChunkBytes {
        encoding: Encoding::Xor,
        data: Bytes::from(encoder.finish()),
    });
    SeriesChunk::new(samples[0].0, samples[samples.len() - 1].0, content)
}

fn downsampled(samples: &[(i64, f64)], resolution: Resolution) -> Vec<SeriesChunk> {
    let mut fine = DownsampledSeries::default();
    Downsampler::new(Resolution::FiveMinutes).raw(&[raw_chunk(samples)], &mut fine).unwrap();
    let mut out = DownsampledSeries::default();
    match resolution {
        Resolution::OneHour => {
            Downsampler::new(resolution).coarser(Resolution::FiveMinutes, &fine, &mut out).unwrap()
        }
        _ => out = fine,
    }
    out.to_chunks().unwrap().into_iter().map(|c| c.with_resolution(resolution)).collect()
}

/// The samples of a run under an aggregate.
fn read(chunks: &[SeriesChunk], value: ValueOf) -> Vec<(i64, f64)> {
    match read_run(chunks, value).unwrap() {
        Column::Floats(floats) => floats.ts.into_iter().zip(floats.values).collect(),
        Column::Mixed(_) => panic!("histograms"),
    }
}

fn cut_all(chunks: &[SeriesChunk], range: TimeRange) -> Vec<SeriesChunk> {
    chunks.iter().flat_map(|chunk| cut(chunk, range, &[]).unwrap()).collect()
}

/// A sample a minute over three hours, with `value` of its number.
fn minutes(value: impl Fn(i64) -> f64) -> Vec<(i64, f64)> {
    (0..180).map(|i| (i * MINUTE, value(i))).collect()
}

#[test]
fn a_chunk_inside_stays_as_it_is_and_one_outside_goes() {
    let samples = minutes(|i| i as f64);
    for chunk in [raw_chunk(&samples), downsampled(&samples, Resolution::OneHour).remove(0)] {
        assert_eq!(
            cut(&chunk, TimeRange::new(0, 180 * MINUTE), &[]).unwrap(),
            std::slice::from_ref(&chunk)
        );
        assert_eq!(cut(&chunk, TimeRange::ALL, &[]).unwrap(), std::slice::from_ref(&chunk));
        assert_eq!(cut(&chunk, TimeRange::new(3 * HOUR, 4 * HOUR), &[]).unwrap(), []);
    }
}

#[test]
fn raw_chunks_lose_the_samples_outside() {
    let left =
        cut(&raw_chunk(&minutes(|i| i as f64)), TimeRange::new(10 * MINUTE, 12 * MINUTE), &[])
            .unwrap();
    assert_eq!(read(&left, ValueOf::Average), [(10 * MINUTE, 10.0), (11 * MINUTE, 11.0)]);
    assert_eq!((left[0].min_time, left[0].max_time), (10 * MINUTE, 11 * MINUTE));
}

#[test]
fn at_the_border_of_a_window_all_aggregates_are_whole() {
    let chunks = downsampled(&minutes(|i| i as f64), Resolution::OneHour);
    let left = cut_all(&chunks, TimeRange::new(HOUR, 2 * HOUR));
    let t = 2 * HOUR - 1;
    assert_eq!(read(&left, ValueOf::Count), [(t, 60.0)]);
    assert_eq!(read(&left, ValueOf::Sum), [(t, (60..120).sum::<i64>() as f64)]);
    assert_eq!(read(&left, ValueOf::Min), [(t, 60.0)]);
    assert_eq!(read(&left, ValueOf::Max), [(t, 119.0)]);
    assert_eq!(read(&left, ValueOf::Counter), [(t, 119.0)]);
    assert_eq!(
        (left[0].min_time, left[0].max_time, left[0].resolution()),
        (t, t, Resolution::OneHour)
    );
}

#[test]
fn a_window_that_is_cut_ends_at_the_cut_and_shrinks_with_its_length() {
    let chunks = downsampled(&minutes(|_| 10.0), Resolution::OneHour);
    let before = cut_all(&chunks, TimeRange::new(0, HOUR + 15 * MINUTE));
    let cut_at = HOUR + 15 * MINUTE - 1;
    assert_eq!(read(&before, ValueOf::Count), [(HOUR - 1, 60.0), (cut_at, 15.0)]);
    assert_eq!(read(&before, ValueOf::Sum), [(HOUR - 1, 600.0), (cut_at, 150.0)]);
    assert_eq!(read(&before, ValueOf::Average), [(HOUR - 1, 10.0), (cut_at, 10.0)]);
    assert_eq!(read(&before, ValueOf::Max).last(), Some(&(cut_at, 10.0)));
    assert_eq!(before[0].max_time, cut_at);
    let after = cut_all(&chunks, TimeRange::new(HOUR + 15 * MINUTE, 2 * HOUR));
    assert_eq!(read(&after, ValueOf::Count), [(2 * HOUR - 1, 45.0)]);
    assert_eq!(read(&after, ValueOf::Sum), [(2 * HOUR - 1, 450.0)]);
}

/// The other side of the cut begins seconds before or after a window does: no sample is missing.
#[test]
fn a_sliver_of_a_window_is_no_window() {
    let sliver = TimeRange::new(HOUR - 1000, HOUR + 7000);
    let samples = minutes(|_| 10.0);
    let with_count = downsampled(&samples, Resolution::OneHour);
    assert!(read(&cut_all(&with_count, sliver), ValueOf::Counter).len() <= 1);
    assert_eq!(read(&cut_all(&with_count, sliver), ValueOf::Count), []);
    let ChunkContent::Aggregates(mut parts) = with_count[0].content.clone() else { panic!("raw") };
    parts = Box::new([None, None, None, parts[Aggregate::Max as usize].take(), None]);
    let only_max =
        SeriesChunk { content: ChunkContent::Aggregates(parts), ..with_count[0].clone() };
    assert_eq!(cut(&only_max, sliver, &[]).unwrap(), []);
    assert_eq!(cut(&only_max, TimeRange::new(HOUR, 2 * HOUR), &[]).unwrap().len(), 1);
}

/// How much a counter grew, by the first and last value of its stitched column.
fn increase(chunks: &[SeriesChunk]) -> f64 {
    let column = read(chunks, ValueOf::Counter);
    column.windows(2).map(|w| if w[1].1 < w[0].1 { w[1].1 } else { w[1].1 - w[0].1 }).sum()
}

/// The chunks on one side of a cut, made with knowledge of those on the other, and those.
fn over_a_cut(coarse: &[SeriesChunk], range: TimeRange, raw: &[(i64, f64)]) -> Vec<SeriesChunk> {
    let raw: Vec<SeriesChunk> = raw.chunks(7).map(raw_chunk).collect();
    let mut all: Vec<SeriesChunk> =
        coarse.iter().flat_map(|chunk| cut(chunk, range, &raw).unwrap()).collect();
    all.extend(raw);
    all.sort_by_key(|chunk| (chunk.min_time, chunk.max_time));
    all
}

#[test]
fn a_counter_grows_over_a_cut_as_much_as_it_did_whatever_its_resets() {
    // it restarts at minutes 50, 70 and 130
    let starts = [0, 50, 70, 130];
    let value = |i: i64| {
        if i < 50 {
            1000.0 + i as f64
        } else {
            (i - starts.into_iter().rfind(|s| *s <= i).unwrap()) as f64
        }
    };
    let samples = minutes(value);
    let total = increase(&[raw_chunk(&samples)]);
    assert_eq!(total, 49.0 + 19.0 + 59.0 + 49.0);
    for resolution in [Resolution::FiveMinutes, Resolution::OneHour] {
        let chunks = downsampled(&samples, resolution);
        for minute in [1, 20, 50, 59, 60, 65, 70, 75, 119, 120, 121, 125, 131, 179] {
            let (before, after) = samples.split_at(minute);
            let cut_at = minute as i64 * MINUTE;
            let coarse_first = over_a_cut(&chunks, TimeRange::new(i64::MIN, cut_at), after);
            assert_eq!(increase(&coarse_first), total, "{resolution} up to minute {minute}");
            let coarse_last = over_a_cut(&chunks, TimeRange::new(cut_at, i64::MAX), before);
            assert_eq!(increase(&coarse_last), total, "{resolution} from minute {minute}");
        }
    }
}

/// A chunk of longer windows gives its first raw sample: a minute of growth is not known, and no
/// reset is invented.
#[test]
fn a_counter_goes_on_into_longer_windows() {
    let samples = minutes(|i| (i % 25) as f64 + 500.0);
    let fine = downsampled(&samples, Resolution::FiveMinutes);
    let coarse = downsampled(&samples[120..], Resolution::OneHour);
    let total = increase(&[raw_chunk(&samples)]);
    let mut run: Vec<SeriesChunk> = fine
        .iter()
        .flat_map(|chunk| cut(chunk, TimeRange::new(i64::MIN, 2 * HOUR), &coarse).unwrap())
        .collect();
    run.extend(coarse);
    assert!((increase(&run) - total).abs() <= 1.0, "{} of {total}", increase(&run));
    let coarse = downsampled(&samples[..120], Resolution::OneHour);
    let fine = fine
        .iter()
        .flat_map(|chunk| cut(chunk, TimeRange::new(2 * HOUR, i64::MAX), &coarse).unwrap());
    let run = [coarse.clone(), fine.collect()].concat();
    assert!((increase(&run) - total).abs() <= 1.0, "{} of {total}", increase(&run));
}

/// Without samples on the other side, a chunk still knows the raw value wherever at most one reset
/// lies before the cut.
#[test]
fn a_counter_with_one_reset_is_cut_by_what_its_chunk_tells() {
    let samples = minutes(|i| (if i < 90 { i + 1000 } else { i - 89 }) as f64);
    let chunks = downsampled(&samples, Resolution::OneHour);
    for minute in [61, 121, 150] {
        let mut run = cut_all(&chunks, TimeRange::new(i64::MIN, minute as i64 * MINUTE));
        run.push(raw_chunk(&samples[minute..]));
        assert_eq!(increase(&run), 89.0 + 90.0, "up to minute {minute}");
    }
}

fn histogram(count: f64) -> FloatHistogram {
    FloatHistogram {
        count,
        sum: count * 2.0,
        positive_spans: vec![BucketSpan { offset: 0, length: 2 }],
        positive_buckets: vec![count / 2.0, count / 2.0],
        ..FloatHistogram::default()
    }
}

#[test]
fn native_histograms_are_cut_as_floats_are() {
    let mut encoder = FloatHistogramEncoder::new(ResetHint::Unknown);
    for i in 0..180 {
        assert_eq!(encoder.push(i * MINUTE, &histogram(i as f64)).unwrap(), Pushed::Appended);
    }
    let bytes =
        ChunkBytes { encoding: Encoding::FloatHistogram, data: Bytes::from(encoder.finish()) };
    let raw = SeriesChunk::new(0, 179 * MINUTE, ChunkContent::Raw(bytes));
    let (mut fine, mut coarse) = (DownsampledSeries::default(), DownsampledSeries::default());
    Downsampler::new(Resolution::FiveMinutes).raw(std::slice::from_ref(&raw), &mut fine).unwrap();
    Downsampler::new(Resolution::OneHour)
        .coarser(Resolution::FiveMinutes, &fine, &mut coarse)
        .unwrap();
    let chunks = coarse.to_chunks().unwrap();
    let chunk = chunks[0].clone().with_resolution(Resolution::OneHour);
    let cut_at = HOUR + 30 * MINUTE;
    let [left] = &cut(&chunk, TimeRange::new(0, cut_at), &[]).unwrap()[..] else {
        panic!("not one chunk")
    };
    let column = |aggregate| {
        let bytes = left.aggregate(aggregate).unwrap();
        let (mut ts, mut values) = (Vec::new(), Vec::new());
        decode_histograms(bytes.encoding, &bytes.data, &mut ts, &mut values).unwrap();
        ts.into_iter().zip(values.iter().map(|h: &FloatHistogram| h.count)).collect::<Vec<_>>()
    };
    let sum = |range: std::ops::Range<i64>| range.sum::<i64>() as f64;
    assert_eq!(column(Aggregate::Sum), [(HOUR - 1, sum(0..60)), (cut_at - 1, sum(60..120) / 2.0)]);
    assert_eq!(column(Aggregate::Counter), [(HOUR - 1, 59.0)]);
    assert_eq!(
        read(std::slice::from_ref(left), ValueOf::Count),
        [(HOUR - 1, 60.0), (cut_at - 1, 30.0)]
    );
    let [raw] = &cut(&raw, TimeRange::new(cut_at, i64::MAX), &[]).unwrap()[..] else {
        panic!("not one chunk")
    };
    assert_eq!((raw.min_time, raw.max_time), (cut_at, 179 * MINUTE));
}

/// Samples a quarter of a minute to two minutes apart, of a counter that sometimes restarts.
fn counter() -> impl Strategy<Value = Vec<(i64, f64)>> {
    prop::collection::vec((15_000..2 * MINUTE, 0u8..100, 0u8..60), 2..300).prop_map(|steps| {
        let (mut t, mut v) = (7 * HOUR + 12_345, 100.0);
        let mut one = |(step, by, chance): (i64, u8, u8)| {
            t += step;
            v = if chance == 0 { f64::from(by) } else { v + f64::from(by) };
            (t, v)
        };
        steps.into_iter().map(&mut one).collect()
    })
}

proptest! {
    /// No sample twice and none missing, and no time outside.
    #[test]
    fn two_sides_of_a_cut_are_the_whole(samples in counter(), at in 0.0f64..1.0, hour in any::<bool>()) {
        let resolution = if hour { Resolution::OneHour } else { Resolution::FiveMinutes };
        let chunks = downsampled(&samples, resolution);
        let (first, last) = (samples[0].0, samples[samples.len() - 1].0);
        let cut_at = first + ((last - first) as f64 * at) as i64;
        let border = window_start(cut_at, resolution);
        let count = |chunks: &[SeriesChunk]| -> f64 {
            read(chunks, ValueOf::Count).iter().map(|(_, n)| n).sum()
        };
        for cut_at in [border, cut_at] {
            let (past, future) = (TimeRange::new(i64::MIN, cut_at), TimeRange::new(cut_at, i64::MAX));
            let (before, after) = (cut_all(&chunks, past), cut_all(&chunks, future));
            for (side, range) in [(&before, past), (&after, future)] {
                for value in [ValueOf::Count, ValueOf::Sum, ValueOf::Min, ValueOf::Max] {
                    prop_assert!(read(side, value).iter().all(|(t, _)| range.contains(*t)));
                }
                prop_assert!(read(side, ValueOf::Counter).iter().all(|(t, _)| range.contains(*t)));
                for chunk in side.iter() {
                    prop_assert!(range.contains(chunk.min_time) && range.contains(chunk.max_time));
                    prop_assert_eq!(cut(chunk, range, &[]).unwrap(), [chunk.clone()], "cut once more");
                }
            }
            let both = count(&before) + count(&after);
            prop_assert!((both - samples.len() as f64).abs() <= 1.0, "{both} of {}", samples.len());
            if cut_at == border {
                let truth = samples.iter().filter(|(t, _)| *t < border).count();
                prop_assert_eq!(count(&before), truth as f64);
            }
        }
    }

    #[test]
    fn a_counter_grows_over_any_cut_as_much_as_it_did(
        samples in counter(), at in 0.0f64..1.0, hour in any::<bool>(),
    ) {
        let resolution = if hour { Resolution::OneHour } else { Resolution::FiveMinutes };
        let chunks = downsampled(&samples, resolution);
        let at = (samples.len() as f64 * at) as usize;
        let (before, after) = samples.split_at(at);
        let cut_at = samples[at].0;
        let total = increase(&[raw_chunk(&samples)]);
        for range in [TimeRange::new(i64::MIN, cut_at), TimeRange::new(cut_at, i64::MAX)] {
            let raw = if range.contains(cut_at) { before } else { after };
            let run = over_a_cut(&chunks, range, raw);
            let grown = read(&run, ValueOf::Counter);
            prop_assert_eq!(grown[0], samples[0]);
            prop_assert!((increase(&run) - total).abs() <= total * 1e-9, "{} of {total}", increase(&run));
        }
    }
}
