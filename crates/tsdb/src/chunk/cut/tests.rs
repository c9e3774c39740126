use bytes::Bytes;
use model::FloatHistogram;
use model::histogram::{BucketSpan, Histogram};
use proptest::prelude::*;

use super::super::{FloatHistogramEncoder, HistogramEncoder, Pushed, XorEncoder, num_samples};
use super::*;
use crate::index::Index;
use crate::segment::{ChunkRef, parse_record};

const AGGR: [&[u8]; 2] = [
    include_bytes!("../../../tests/data/aggr/01M81HXX0GS6A2F69HCM1Y84FY/index"),
    include_bytes!("../../../tests/data/aggr/01M81HXX0GS6A2F69HCM1Y84FY/chunks/000001"),
];

fn spans(closed: &[(i64, i64)]) -> Vec<Interval> {
    closed
        .iter()
        .map(|(min_time, max_time)| Interval { min_time: *min_time, max_time: *max_time })
        .collect()
}

fn float_chunk(samples: impl Iterator<Item = (i64, f64)>) -> Vec<u8> {
    let mut encoder = XorEncoder::new();
    samples.for_each(|(t, v)| encoder.push(t, v));
    encoder.finish()
}

fn floats_of(encoding: Encoding, data: &[u8]) -> Vec<(i64, u64)> {
    let (mut ts, mut values) = (Vec::new(), Vec::new());
    decode_floats(encoding, data, &mut ts, &mut values).unwrap();
    ts.into_iter().zip(values.into_iter().map(f64::to_bits)).collect()
}

fn growing(i: i64) -> Histogram {
    Histogram {
        count: 3 * i as u64 + 3,
        sum: i as f64 / 4.0,
        positive_spans: vec![BucketSpan { offset: 0, length: 2 }],
        positive_buckets: vec![i + 1, i + 1],
        ..Histogram::default()
    }
}

fn histogram_chunk(count: i64, header: ResetHint) -> Vec<u8> {
    let mut encoder = HistogramEncoder::new(header);
    for i in 0..count {
        assert_eq!(encoder.push(i * 10, &growing(i)).unwrap(), Pushed::Appended);
    }
    encoder.finish()
}

#[test]
fn what_is_not_touched_stays_as_it_is() {
    let data = float_chunk((0..10).map(|i| (i * 10, i as f64)));
    assert_eq!(cut(Encoding::Xor, &data, &spans(&[(-5, -1), (91, 100), (11, 19)])).unwrap(), None);
    assert_eq!(cut(Encoding::Xor, &data, &[]).unwrap(), None);
    assert_eq!(cut(Encoding::Xor, &data, &spans(&[(0, 90)])).unwrap(), Some(Vec::new()));
    assert_eq!(
        cut(
            Encoding::Histogram,
            &histogram_chunk(3, ResetHint::Unknown),
            &spans(&[(i64::MIN, i64::MAX)])
        )
        .unwrap(),
        Some(Vec::new())
    );
}

#[test]
fn histograms_say_of_resets_only_what_is_still_known() {
    let data = histogram_chunk(6, ResetHint::NotReset);
    let cut_at = |closed| {
        let left = cut(Encoding::Histogram, &data, &spans(&[closed])).unwrap().unwrap();
        let [Transcoded { encoding: Encoding::Histogram, data, min_time, max_time }] = &left[..]
        else {
            panic!("{left:?}")
        };
        (
            reset_hint(Encoding::Histogram, data).unwrap(),
            num_samples(Encoding::Histogram, data).unwrap(),
            (*min_time, *max_time),
        )
    };
    assert_eq!(cut_at((0, 10)), (ResetHint::Unknown, 4, (20, 50)));
    assert_eq!(cut_at((20, 30)), (ResetHint::NotReset, 4, (0, 50)));
    assert_eq!(cut_at((50, 50)), (ResetHint::NotReset, 5, (0, 40)));
    let forgotten = forget_reset(Encoding::Histogram, &data).unwrap();
    assert_eq!(reset_hint(Encoding::Histogram, &forgotten).unwrap(), ResetHint::Unknown);
    assert_eq!(forget_reset(Encoding::Histogram, &forgotten), None);
    let reset = histogram_chunk(6, ResetHint::Reset);
    assert_eq!(forget_reset(Encoding::Histogram, &reset), None, "what was reset stays so");
    assert_eq!(forget_reset(Encoding::Xor, &reset), None);
    assert_eq!(forget_reset(Encoding::Histogram, &[]), None);
}

#[test]
fn float_histograms_are_cut() {
    let at = |i: i64| FloatHistogram { hint: ResetHint::Gauge, ..growing(i).to_float() };
    let mut encoder = FloatHistogramEncoder::new(ResetHint::Unknown);
    (0..6).for_each(|i| assert_eq!(encoder.push(i * 10, &at(i)).unwrap(), Pushed::Appended));
    let left = cut(Encoding::FloatHistogram, &encoder.finish(), &spans(&[(0, 15), (40, 40)]))
        .unwrap()
        .unwrap();
    let (mut ts, mut values) = (Vec::new(), Vec::new());
    decode_histograms(left[0].encoding, &left[0].data, &mut ts, &mut values).unwrap();
    assert_eq!((left.len(), &ts[..]), (1, &[20, 30, 50][..]));
    for (t, value) in ts.iter().zip(&values) {
        assert!(value.hint == ResetHint::Gauge && value.same_data(&at(t / 10)), "{value:?}");
    }
}

/// Checked with every AggrChunk of a block that Thanos wrote.
#[test]
fn windows_go_out_of_all_aggregates_alike() {
    let index = Index::open(Bytes::from_static(AGGR[0])).unwrap();
    let mut seen = (0, 0);
    for entry in index.all_series().unwrap() {
        for chunk in entry.unwrap().chunks {
            let at = ChunkRef::from_raw(chunk.reference).offset as usize;
            let record = parse_record(&AGGR[1][at..]).unwrap();
            if record.encoding != Encoding::Aggregate {
                continue;
            }
            let parts = split_aggregates(record.data).unwrap();
            let (encoding, count) = parts[Aggregate::Count as usize].unwrap();
            let windows = times(encoding, count).unwrap();
            let [first, .., last] = windows[..] else { continue };
            for closed in [
                (first, first),
                (last, last),
                (windows[1], windows[windows.len() - 2]),
                (i64::MIN, first),
            ] {
                check_aggregates(record.data, &windows, spans(&[closed]));
            }
            seen.0 += 1;
            seen.1 += usize::from(parts[Aggregate::Counter as usize].is_some());
        }
    }
    assert!(seen.0 > 20 && seen.1 > 20, "{seen:?}");
}

fn check_aggregates(data: &[u8], windows: &[i64], deleted: Vec<Interval>) {
    let left: Vec<i64> = windows.iter().copied().filter(|t| !covers(&deleted, *t)).collect();
    let parts = split_aggregates(data).unwrap();
    let Some(cut) = cut(Encoding::Aggregate, data, &deleted).unwrap() else {
        assert_eq!(left, windows);
        return;
    };
    let Some(chunk) = cut.first() else {
        assert!(left.is_empty());
        return;
    };
    assert_eq!((chunk.min_time, chunk.max_time), (left[0], left[left.len() - 1]));
    let cut_parts = split_aggregates(&chunk.data).unwrap();
    for aggregate in [Aggregate::Count, Aggregate::Sum, Aggregate::Min, Aggregate::Max] {
        let (before, after) = (parts[aggregate as usize], cut_parts[aggregate as usize]);
        let Some((encoding, before)) = before else { continue };
        let after = after.unwrap();
        assert_eq!(times(after.0, after.1).unwrap(), left);
        if !encoding.is_histogram() {
            let kept = floats_of(encoding, before).into_iter().filter(|(t, _)| left.contains(t));
            assert!(kept.eq(floats_of(after.0, after.1)));
        }
    }
    let Some((encoding, after)) = cut_parts[Aggregate::Counter as usize] else { return };
    let ts = times(encoding, after).unwrap();
    if encoding.is_histogram() {
        assert_eq!(ts, left);
        return;
    }
    let [front, inner @ .., back] = &ts[..] else { panic!("{ts:?}") };
    assert!(
        inner == left && *front <= inner[0] && *back == inner[inner.len() - 1],
        "{ts:?} {left:?}"
    );
    let before = floats_of(encoding, parts[Aggregate::Counter as usize].unwrap().1);
    let after = floats_of(encoding, after);
    if left[0] == windows[0] {
        assert_eq!(after[0], before[0], "the first raw sample stays");
    }
    if left[left.len() - 1] == windows[windows.len() - 1] {
        assert_eq!(after[after.len() - 1], before[before.len() - 1], "the last raw value stays");
    }
    assert!(after[1..after.len() - 1].iter().all(|window| before[1..].contains(window)));
}

proptest! {
    #[test]
    fn exactly_what_is_deleted_goes(
        steps in prop::collection::vec(1i64..9, 1..80),
        deleted in prop::collection::vec((0i64..300, 0i64..40), 0..6),
    ) {
        let mut tombstones = crate::tombstones::Tombstones::default();
        for (min_time, len) in deleted {
            tombstones.add(1, Interval { min_time, max_time: min_time + len });
        }
        let deleted = tombstones.get(1);
        let mut t = 0;
        let samples: Vec<(i64, f64)> = steps.iter().map(|s| { t += s; (t, t as f64 / 3.0) }).collect();
        let kept = |s: &&(i64, f64)| !covers(&deleted, s.0);
        let expected: Vec<(i64, u64)> = samples.iter().filter(kept).map(|(t, v)| (*t, v.to_bits())).collect();
        let data = float_chunk(samples.iter().copied());
        match cut(Encoding::Xor, &data, &deleted).unwrap() {
            None => prop_assert_eq!(expected.len(), samples.len()),
            Some(left) if left.is_empty() => prop_assert!(expected.is_empty()),
            Some(left) => {
                prop_assert_eq!(left.len(), 1);
                prop_assert_eq!((left[0].min_time, left[0].max_time), (expected[0].0, expected[expected.len() - 1].0));
                prop_assert_eq!(floats_of(left[0].encoding, &left[0].data), expected);
            }
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(encoding in 0u8..8, data in prop::collection::vec(any::<u8>(), 0..80)) {
        let encoding = Encoding::from_byte(encoding).unwrap_or(Encoding::Aggregate);
        let _ = cut(encoding, &data, &spans(&[(i64::MIN, -1), (5, 70)]));
        let _ = forget_reset(encoding, &data);
    }

    #[test]
    fn parts_of_arbitrary_bytes_never_panic(data in prop::collection::vec(any::<u8>(), 0..60), part in 1u8..7) {
        let encoding = Encoding::from_byte(part).unwrap();
        let whole = join_aggregates(&[Some((encoding, &data)), None, None, None, Some((encoding, &data))]);
        let _ = cut(Encoding::Aggregate, &whole, &spans(&[(0, 70)]));
    }
}
