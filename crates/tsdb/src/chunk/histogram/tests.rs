use crate::error::Case;
use std::collections::BTreeMap;

use model::STALE_NAN;
use model::histogram::{BucketSpan, spans_of};
use proptest::prelude::*;

use super::super::bits::BitWriter;
use super::super::counts::Count;
use super::super::{
    Encoding, FloatHistogramEncoder, HistogramEncoder, Pushed, cut, decode_histograms,
    decode_integer_histograms, forget_reset, num_samples, reset_hint, transcode,
};
use super::*;

/// Absolute counts by bucket index.
type Buckets = BTreeMap<i32, i64>;

fn histogram(positive: &Buckets, negative: &Buckets, zero_count: u64) -> Histogram {
    let side = |buckets: &Buckets| {
        let counts: Vec<i64> = buckets.values().copied().collect();
        let before = std::iter::once(0).chain(counts.iter().copied());
        let deltas = counts.iter().zip(before).map(|(count, before)| count - before).collect();
        (spans_of(buckets.keys().copied()), deltas)
    };
    let ((positive_spans, positive_buckets), (negative_spans, negative_buckets)) =
        (side(positive), side(negative));
    let count = positive.values().chain(negative.values()).sum::<i64>() as u64 + zero_count;
    Histogram {
        schema: 3,
        zero_threshold: 0.001,
        zero_count,
        count,
        sum: count as f64 * 1.5,
        positive_spans,
        negative_spans,
        positive_buckets,
        negative_buckets,
        ..Histogram::default()
    }
}

/// What a reader may rely on: layouts may have gained empty buckets.
fn essence(histogram: &FloatHistogram) -> FloatHistogram {
    let mut essence = FloatHistogram { hint: ResetHint::Unknown, ..histogram.clone() };
    if essence.is_stale() {
        return FloatHistogram { sum: 0.0, ..FloatHistogram::default() };
    }
    essence.compact(0);
    essence
}

fn encode_integers(samples: &[(i64, Histogram)]) -> Vec<Vec<u8>> {
    let mut chunks = Vec::new();
    let mut encoder = HistogramEncoder::default();
    for (t, histogram) in samples {
        if let Pushed::NewChunk(header) = encoder.push(*t, histogram).unwrap() {
            let full = std::mem::replace(&mut encoder, HistogramEncoder::new(header));
            chunks.push(full.finish());
            assert_eq!(encoder.push(*t, histogram).unwrap(), Pushed::Appended);
        }
        assert!(!encoder.is_empty());
    }
    let len = encoder.bytes_len();
    chunks.push(encoder.finish());
    assert_eq!(chunks.last().unwrap().len(), len);
    chunks
}

fn encode_floats(samples: &[(i64, FloatHistogram)]) -> Vec<Vec<u8>> {
    let mut chunks = Vec::new();
    let mut encoder = FloatHistogramEncoder::default();
    for (t, histogram) in samples {
        if let Pushed::NewChunk(header) = encoder.push(*t, histogram).unwrap() {
            let full = std::mem::replace(&mut encoder, FloatHistogramEncoder::new(header));
            chunks.push(full.finish());
            assert_eq!(encoder.push(*t, histogram).unwrap(), Pushed::Appended);
        }
    }
    chunks.push(encoder.finish());
    chunks
}

/// Observations as `(bucket index, number)`.
type Observations = Vec<(i32, i64)>;
/// A step of a series: observations into positive, negative and zero buckets, and perhaps an event
/// that ends a chunk.
type Step = (Observations, Observations, u64, u8);

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let observations = || prop::collection::vec((-6..6i32, 0..4i64), 0..4);
    prop::collection::vec((observations(), observations(), 0..3u64, 0..20u8), 1..25)
}

fn series(steps: Vec<Step>, gauge: bool) -> Vec<(i64, Histogram)> {
    let (mut positive, mut negative, mut zero) = (Buckets::new(), Buckets::new(), 0);
    let mut samples = Vec::new();
    for (i, (to_positive, to_negative, to_zero, event)) in steps.into_iter().enumerate() {
        if event == 0 {
            (positive, negative, zero) = Default::default();
        }
        for (buckets, observed) in [(&mut positive, to_positive), (&mut negative, to_negative)] {
            if event == 1 {
                buckets.retain(|_, count| *count != 0);
            }
            observed.into_iter().for_each(|(index, n)| *buckets.entry(index).or_default() += n);
        }
        zero += to_zero;
        let mut sample = histogram(&positive, &negative, zero);
        match event {
            2 => sample = Histogram { sum: STALE_NAN, ..Histogram::default() },
            3 => sample.schema = 2,
            4 => sample.hint = ResetHint::Reset,
            _ => {}
        }
        if gauge {
            sample.hint = ResetHint::Gauge;
        }
        samples.push((i as i64 * 15_000 - 40_000, sample));
    }
    samples
}

proptest! {
    #[test]
    fn integer_histograms_come_back(steps in steps(), gauge in any::<bool>()) {
        let samples = series(steps, gauge);
        let (mut ts, mut values, mut floats) = (Vec::new(), Vec::new(), Vec::new());
        for data in encode_integers(&samples) {
            let before = values.len();
            decode_integer_histograms(Encoding::Histogram, &data, &mut ts, &mut values).unwrap();
            decode_histograms(Encoding::Histogram, &data, &mut Vec::new(), &mut floats).unwrap();
            prop_assert_eq!(num_samples(Encoding::Histogram, &data).unwrap(), values.len() - before);
            let is_gauge = reset_hint(Encoding::Histogram, &data).unwrap() == ResetHint::Gauge;
            prop_assert_eq!(is_gauge, gauge);
        }
        prop_assert_eq!(values.len(), samples.len());
        for (i, (t, sample)) in samples.iter().enumerate() {
            prop_assert_eq!(*t, ts[i]);
            prop_assert_eq!(essence(&values[i].to_float()), essence(&sample.to_float()));
            prop_assert_eq!(essence(&floats[i]), essence(&sample.to_float()));
            if values[i].hint == ResetHint::NotReset {
                let unhinted = FloatHistogram { hint: ResetHint::Unknown, ..floats[i].clone() };
                prop_assert!(floats[i].is_stale() || !unhinted.detect_reset(&floats[i - 1]));
            }
        }
    }

    #[test]
    fn float_histograms_come_back(steps in steps(), gauge in any::<bool>()) {
        let samples: Vec<(i64, FloatHistogram)> =
            series(steps, gauge).into_iter().map(|(t, histogram)| (t, histogram.to_float())).collect();
        let (mut ts, mut values) = (Vec::new(), Vec::new());
        for data in encode_floats(&samples) {
            decode_histograms(Encoding::FloatHistogram, &data, &mut ts, &mut values).unwrap();
        }
        prop_assert_eq!(values.len(), samples.len());
        for (i, (t, sample)) in samples.iter().enumerate() {
            prop_assert_eq!(*t, ts[i]);
            prop_assert_eq!(essence(&values[i]), essence(sample));
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic_nor_overallocate(
        encoding in prop::sample::select(vec![2u8, 3, 5, 6]),
        samples in 0..2000u16,
        data in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let encoding = Encoding::from_byte(encoding).unwrap();
        // small counts get further than random ones
        let data: Vec<u8> = samples.to_be_bytes().into_iter().chain(data).collect();
        let (mut ts, mut values) = (Vec::new(), Vec::new());
        if decode_histograms(encoding, &data, &mut ts, &mut values).is_err() {
            prop_assert!(ts.is_empty() && values.is_empty());
        }
        let _ = transcode(encoding, &data);
    }

    #[test]
    fn damaged_chunks_never_panic(steps in steps(), flip in any::<prop::sample::Index>(), cut in 0..40usize) {
        for data in encode_integers(&series(steps, false)) {
            let mut damaged = data.clone();
            damaged[flip.index(data.len())] ^= 0x55;
            let _ = decode_histograms(Encoding::Histogram, &damaged, &mut Vec::new(), &mut Vec::new());
            let _ = decode_histograms(Encoding::FloatHistogram, &damaged, &mut Vec::new(), &mut Vec::new());
            let short = &data[..data.len().saturating_sub(cut + 1)];
            prop_assert!(decode_histograms(Encoding::Histogram, short, &mut Vec::new(), &mut Vec::new()).is_err());
        }
    }
}

#[test]
fn chunks_end_where_prometheus_ends_them() {
    let base = || histogram(&Buckets::from([(1, 5), (2, 3)]), &Buckets::new(), 2);
    let with = |change: &dyn Fn(&mut Histogram)| {
        let mut changed = base();
        change(&mut changed);
        changed
    };
    let pushed = |first: &Histogram, second: &Histogram| {
        let (mut integers, mut floats) =
            (HistogramEncoder::default(), FloatHistogramEncoder::default());
        integers.push(1, first).unwrap();
        floats.push(1, &first.to_float()).unwrap();
        (integers.push(2, second).unwrap(), floats.push(2, &second.to_float()).unwrap())
    };
    let new = |hint| (Pushed::NewChunk(hint), Pushed::NewChunk(hint));
    let gauge = with(&|h| h.hint = ResetHint::Gauge);
    let stale = with(&|h| h.sum = STALE_NAN);
    assert_eq!(pushed(&base(), &base()), (Pushed::Appended, Pushed::Appended));
    assert_eq!(pushed(&base(), &with(&|h| h.count -= 1)), new(ResetHint::Reset));
    assert_eq!(pushed(&base(), &with(&|h| h.zero_count -= 1)), new(ResetHint::Reset));
    assert_eq!(pushed(&base(), &with(&|h| h.positive_buckets[0] -= 1)), new(ResetHint::Reset));
    assert_eq!(pushed(&base(), &with(&|h| h.positive_spans[0].offset += 1)), new(ResetHint::Reset));
    assert_eq!(pushed(&base(), &with(&|h| h.hint = ResetHint::Reset)), new(ResetHint::Reset));
    assert_eq!(pushed(&base(), &with(&|h| h.schema += 1)), new(ResetHint::Unknown));
    assert_eq!(pushed(&base(), &with(&|h| h.zero_threshold = 0.5)), new(ResetHint::Unknown));
    assert_eq!(pushed(&base(), &gauge), new(ResetHint::Gauge));
    assert_eq!(
        pushed(&gauge, &base()),
        (Pushed::NewChunk(ResetHint::NotReset), Pushed::NewChunk(ResetHint::Unknown))
    );
    assert_eq!(pushed(&base(), &stale), (Pushed::Appended, Pushed::Appended));
    assert_eq!(pushed(&stale, &stale), (Pushed::Appended, Pushed::Appended));
    assert_eq!(pushed(&stale, &base()), new(ResetHint::Unknown));
    let wrong = with(&|h| h.positive_buckets.push(1));
    assert!(matches!(
        HistogramEncoder::default().push(1, &wrong),
        Err(Error(Case::Invalid { .. }))
    ));
}

#[test]
fn custom_bounds_come_back_and_their_change_ends_the_chunk() {
    let bounds = vec![-1.0, 0.0, 0.005, 0.1, 1.0 / 3.0, 33_554.43, 1e9];
    let custom = |bounds: &[f64]| Histogram {
        schema: CUSTOM_BUCKETS_SCHEMA,
        count: 5,
        sum: 7.0,
        positive_spans: vec![
            BucketSpan { offset: 1, length: 2 },
            BucketSpan { offset: 3, length: 1 },
        ],
        positive_buckets: vec![1, 0, 2],
        custom_values: bounds.to_vec(),
        ..Histogram::default()
    };
    let mut encoder = HistogramEncoder::default();
    encoder.push(1, &custom(&bounds)).unwrap();
    assert_eq!(encoder.push(2, &custom(&bounds)).unwrap(), Pushed::Appended);
    assert_eq!(encoder.push(3, &custom(&bounds[1..])).unwrap(), Pushed::NewChunk(ResetHint::Reset));
    let mut values = Vec::new();
    decode_integer_histograms(Encoding::Histogram, &encoder.finish(), &mut Vec::new(), &mut values)
        .unwrap();
    assert_eq!(values[0], custom(&bounds));
    assert!(values[1].to_float().validate().is_ok());
}

#[test]
fn finer_schemas_than_are_in_use_are_reduced_and_unknown_ones_refused() {
    let mut fine = histogram(&Buckets::from([(1, 1), (2, 1), (3, 2), (4, 4)]), &Buckets::new(), 0);
    fine.schema = 9;
    let (mut floats, mut integers) = (Vec::new(), Vec::new());
    let data = encode_integers(&[(1, fine.clone())]).remove(0);
    decode_histograms(Encoding::Histogram, &data, &mut Vec::new(), &mut floats).unwrap();
    decode_integer_histograms(Encoding::Histogram, &data, &mut Vec::new(), &mut integers).unwrap();
    assert_eq!((floats[0].schema, floats[0].positive_buckets.as_slice()), (8, &[2.0, 6.0][..]));
    assert_eq!(integers[0].to_float(), floats[0]);
    fine.schema = 53;
    let data = encode_integers(&[(1, fine)]).remove(0);
    let error =
        decode_histograms(Encoding::Histogram, &data, &mut Vec::new(), &mut floats).unwrap_err();
    assert_eq!(error.to_string(), "histogram chunk: not supported: histogram schema 53");
}

/// Writes a chunk of encoding 5 or 6 whose histograms have no buckets, with start times as the
/// format says.
fn with_start_times<C: Count>(samples: &[(i64, Option<i64>, C)], hint: ResetHint) -> Vec<u8> {
    let first_known = samples[0].1.is_some();
    let changed_on = (1..samples.len()).find(|&i| samples[i].1 != samples[i - 1].1).unwrap_or(0);
    let count = (samples.len() as u16) | u16::from(flags_of(hint)) << 8;
    let mut header = count.to_be_bytes().to_vec();
    header.push(u8::from(first_known) << 7 | changed_on as u8);
    let mut out = BitWriter::from_bytes(header);
    ChunkLayout::default().put(&mut out);
    let (mut before, mut delta, mut diff) = (0, 0, 0);
    let mut states = None;
    let mut sum = super::super::xor::XorWriter::new(1.5);
    for (i, &(t, start, count)) in samples.iter().enumerate() {
        match &mut states {
            None => {
                varbit::put_int(&mut out, t);
                let total = |out: &mut BitWriter| C::put_first(out, CountField::Total, count);
                states = Some((total(&mut out), total(&mut out)));
                out.put(1.5f64.to_bits(), 64);
                if let Some(start) = start {
                    let mut varint = Vec::new();
                    crate::varint::put_varint(&mut varint, t - start);
                    out.put_bytes(&varint);
                }
            }
            Some((total, zero)) => {
                varbit::put_int(&mut out, t - before - delta);
                delta = t - before;
                C::put_next(&mut out, total, count);
                C::put_next(&mut out, zero, count);
                sum.put(&mut out, 1.5);
                if changed_on > 0 && i >= changed_on {
                    let now = before - start.unwrap_or(0);
                    varbit::put_int(&mut out, now - diff);
                    diff = now;
                }
            }
        }
        before = t;
    }
    out.finish()
}

#[test]
fn start_times_are_read_over_and_lost_in_transcoding() {
    let starts = [None, None, Some(7_000), Some(7_000), Some(50_000)];
    for known in [0, 2] {
        let starts = &starts[known..];
        let samples = |i: usize| (10_000 * i as i64 + 5, starts[i]);
        let integers: Vec<_> =
            (0..starts.len()).map(|i| (samples(i).0, samples(i).1, 3 * i as i64)).collect();
        let floats: Vec<_> =
            (0..starts.len()).map(|i| (samples(i).0, samples(i).1, 1.5 * i as f64)).collect();
        for (encoding, plain, data) in [
            (
                Encoding::HistogramSt,
                Encoding::Histogram,
                with_start_times(&integers, ResetHint::Reset),
            ),
            (
                Encoding::FloatHistogramSt,
                Encoding::FloatHistogram,
                with_start_times(&floats, ResetHint::Reset),
            ),
        ] {
            let (mut ts, mut values) = (Vec::new(), Vec::new());
            decode_histograms(encoding, &data, &mut ts, &mut values).unwrap();
            assert_eq!(ts, integers.iter().map(|s| s.0).collect::<Vec<_>>());
            let factor = if plain == Encoding::Histogram { 3.0 } else { 1.5 };
            assert!(
                values
                    .iter()
                    .enumerate()
                    .all(|(i, h)| h.count == factor * i as f64 && h.sum == 1.5)
            );
            assert_eq!(reset_hint(encoding, &data).unwrap(), ResetHint::Reset);
            let chunks = transcode(encoding, &data).unwrap();
            assert_eq!(chunks.len(), 1);
            assert_eq!((chunks[0].encoding, chunks[0].min_time), (plain, ts[0]));
            assert_eq!(chunks[0].max_time, *ts.last().unwrap());
            assert_eq!(reset_hint(plain, &chunks[0].data).unwrap(), ResetHint::Reset);
            let (mut ts_again, mut again) = (Vec::new(), Vec::new());
            decode_histograms(plain, &chunks[0].data, &mut ts_again, &mut again).unwrap();
            assert_eq!((ts_again, again), (ts, values));
        }
    }
}

#[test]
fn histograms_with_start_times_are_cut() {
    let starts = [None, Some(7_000), Some(7_000), Some(50_000)];
    let t = |i: usize| 10_000 * i as i64 + 5;
    let integers: Vec<_> = (0..starts.len()).map(|i| (t(i), starts[i], 3 * i as i64)).collect();
    let floats: Vec<_> = (0..starts.len()).map(|i| (t(i), starts[i], 1.5 * i as f64)).collect();
    let deleted = [crate::tombstones::Interval { min_time: t(1), max_time: t(1) }];
    for (encoding, plain, data) in [
        (Encoding::HistogramSt, Encoding::Histogram, with_start_times(&integers, ResetHint::Reset)),
        (
            Encoding::FloatHistogramSt,
            Encoding::FloatHistogram,
            with_start_times(&floats, ResetHint::Reset),
        ),
    ] {
        let (mut ts, mut values) = (Vec::new(), Vec::new());
        decode_histograms(encoding, &data, &mut ts, &mut values).unwrap();
        ts.remove(1);
        values.remove(1);
        let left = cut(encoding, &data, &deleted).unwrap().unwrap();
        assert_eq!(
            (left.len(), left[0].encoding, left[0].min_time, left[0].max_time),
            (1, plain, t(0), t(3))
        );
        assert_eq!(reset_hint(plain, &left[0].data).unwrap(), ResetHint::Reset);
        let (mut ts_again, mut again) = (Vec::new(), Vec::new());
        decode_histograms(plain, &left[0].data, &mut ts_again, &mut again).unwrap();
        assert_eq!((ts_again, again), (ts, values));
        assert_eq!(cut(encoding, &data, &[]).unwrap(), None);
    }
    let known = with_start_times(&integers, ResetHint::NotReset);
    let forgotten = forget_reset(Encoding::HistogramSt, &known).unwrap();
    assert_eq!(reset_hint(Encoding::HistogramSt, &forgotten).unwrap(), ResetHint::Unknown);
    assert_eq!(num_samples(Encoding::HistogramSt, &forgotten).unwrap(), starts.len());
}
