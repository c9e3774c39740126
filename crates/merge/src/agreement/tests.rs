use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;
use tsdb::chunk::{Encoding, FloatHistogramEncoder, HistogramEncoder, XorEncoder};

use super::*;
use crate::series::ChunkBytes;

fn raw(min_time: i64, max_time: i64, encoding: Encoding, data: Vec<u8>) -> SeriesChunk {
    let content = ChunkContent::Raw(ChunkBytes { encoding, data: Bytes::from(data) });
    SeriesChunk::new(min_time, max_time, content)
}

fn floats(samples: &[(i64, f64)]) -> SeriesChunk {
    let mut encoder = XorEncoder::new();
    samples.iter().for_each(|(t, v)| encoder.push(*t, *v));
    raw(samples[0].0, samples[samples.len() - 1].0, Encoding::Xor, encoder.finish())
}

fn histogram(count: f64) -> FloatHistogram {
    FloatHistogram { count, sum: 2.0, zero_count: count, ..FloatHistogram::default() }
}

fn float_histograms(samples: &[(i64, f64)]) -> SeriesChunk {
    let mut encoder = FloatHistogramEncoder::new(model::histogram::ResetHint::Unknown);
    samples.iter().for_each(|(t, count)| {
        encoder.push(*t, &histogram(*count)).unwrap();
    });
    let (min_time, max_time) = (samples[0].0, samples[samples.len() - 1].0);
    raw(min_time, max_time, Encoding::FloatHistogram, encoder.finish())
}

fn of(shared: u64, differing: u64) -> Agreement {
    Agreement { shared, differing }
}

/// A chunk that claims to have `samples` samples and cannot be decoded.
fn undecodable(min_time: i64, max_time: i64, samples: u8) -> SeriesChunk {
    raw(min_time, max_time, Encoding::Xor, vec![0, samples])
}

#[test]
fn samples_at_equal_times_are_compared_bit_by_bit() {
    let nan = f64::from_bits(0x7ff8_0000_0000_0001);
    let a = floats(&[(0, 1.0), (10, 2.0), (20, model::STALE_NAN), (30, nan), (40, 0.0), (50, 5.0)]);
    let b = floats(&[
        (5, 1.0),
        (10, 2.0),
        (20, model::STALE_NAN),
        (30, nan),
        (40, -0.0),
        (50, 6.0),
        (60, 1.0),
    ]);
    assert_eq!(agreement(&[vec![a.clone()], vec![b]]).unwrap(), of(5, 2));
    let other_nan = floats(&[(20, nan), (30, nan), (31, 0.0)]);
    assert_eq!(agreement(&[vec![a], vec![other_nan]]).unwrap(), of(2, 1));
}

#[test]
fn a_time_counts_once_however_many_hold_it() {
    let a = floats(&[(0, 1.0), (10, 2.0), (20, 3.0)]);
    let b = floats(&[(0, 1.0), (10, 2.0)]);
    let c = floats(&[(0, 1.0), (10, 7.0), (21, 0.0)]);
    assert_eq!(agreement(&[vec![a], vec![b], vec![c]]).unwrap(), of(2, 1));
}

#[test]
fn identical_chunks_and_those_apart_are_not_decoded() {
    let (same, apart) = (undecodable(0, 100, 7), undecodable(101, 200, 9));
    let lists = [vec![apart, same.clone()], vec![same.clone()], vec![same]];
    assert_eq!(agreement(&lists).unwrap(), of(7, 0));
    // Where another chunk overlaps them they must be.
    let lists = [lists[0].clone(), lists[1].clone(), vec![floats(&[(50, 1.0)])]];
    assert!(matches!(agreement(&lists), Err(Error(Case::Decode(_)))));
}

#[test]
fn what_one_source_holds_twice_is_not_shared() {
    let (a, b) = (floats(&[(0, 1.0), (10, 2.0)]), floats(&[(0, 9.0), (10, 2.0), (20, 3.0)]));
    assert_eq!(agreement(&[vec![b.clone(), a.clone(), a.clone()], vec![]]).unwrap(), of(0, 0));
    assert_eq!(agreement(&[]).unwrap(), of(0, 0));
    // Its own first chunk's sample is the one compared.
    assert_eq!(agreement(&[vec![b, a.clone()], vec![a]]).unwrap(), of(2, 0));
}

#[test]
fn histograms_are_compared_by_content() {
    let mut encoder = HistogramEncoder::new(model::histogram::ResetHint::Unknown);
    for (t, count) in [(0, 1u64), (10, 2), (20, 3)] {
        let integers = model::histogram::Histogram {
            count,
            zero_count: count,
            sum: 2.0,
            ..model::histogram::Histogram::default()
        };
        encoder.push(t, &integers).unwrap();
    }
    let integers = raw(0, 20, Encoding::Histogram, encoder.finish());
    let others = float_histograms(&[(0, 1.0), (10, 2.0), (20, 4.0)]);
    assert_eq!(agreement(&[vec![integers.clone()], vec![others]]).unwrap(), of(3, 1));
    let floats = floats(&[(0, 1.0), (10, 2.0)]);
    assert_eq!(agreement(&[vec![integers], vec![floats]]).unwrap(), of(2, 2));
}

#[test]
fn windows_of_downsampled_chunks_are_compared_by_their_sums() {
    let windows = |sums: &[(i64, f64)]| {
        let ChunkContent::Raw(sum) = floats(sums).content else { unreachable!("raw") };
        let content = ChunkContent::Aggregates(Box::new([None, Some(sum), None, None, None]));
        SeriesChunk::new(0, 20, content)
    };
    let a = windows(&[(0, 1.0), (10, 2.0), (20, 3.0)]);
    let b = windows(&[(0, 1.0), (10, 3.0), (20, 4.0)]);
    assert_eq!(agreement(&[vec![a.clone()], vec![b]]).unwrap(), of(3, 2));
    assert_eq!(agreement(&[vec![a.clone()], vec![a.clone()]]).unwrap(), of(3, 0));
    let content = ChunkContent::Aggregates(Box::new([None, None, None, None, None]));
    let empty = SeriesChunk { content, ..a };
    let refused = agreement(&[vec![empty.clone()], vec![empty]]);
    assert!(matches!(refused, Err(Error(Case::MissingAggregate { .. }))));
}

/// Samples of one list: rising times on a grid of few points, few values, cut into chunks and
/// shuffled.
fn list() -> impl Strategy<Value = (Vec<(i64, f64)>, Vec<SeriesChunk>)> {
    let samples = proptest::collection::vec((1..4i64, 0..3u8), 0..60);
    (samples, 1..20usize, any::<u64>()).prop_map(|(steps, size, order)| {
        let mut t = 0;
        let samples: Vec<(i64, f64)> = steps
            .into_iter()
            .map(|(step, value)| {
                t += step;
                (t, if value == 0 { model::STALE_NAN } else { f64::from(value) })
            })
            .collect();
        let mut chunks: Vec<SeriesChunk> = samples.chunks(size).map(floats).collect();
        if !chunks.is_empty() {
            let middle = order as usize % chunks.len();
            chunks.rotate_left(middle);
            chunks.swap(0, middle);
        }
        (samples, chunks)
    })
}

proptest! {
    #[test]
    fn it_counts_as_a_map_of_times_does(mut lists in proptest::collection::vec(list(), 0..4), twice in any::<bool>()) {
        if twice && let Some(first) = lists.first().cloned() {
            lists.push(first);
        }
        let mut times: BTreeMap<i64, Vec<u64>> = BTreeMap::new();
        for (t, v) in lists.iter().flat_map(|(samples, _)| samples) {
            times.entry(*t).or_default().push(v.to_bits());
        }
        let shared = times.values().filter(|v| v.len() > 1);
        let differing = shared.clone().filter(|v| v.iter().any(|bits| *bits != v[0]));
        let expected = of(shared.clone().count() as u64, differing.count() as u64);
        let chunks: Vec<Vec<SeriesChunk>> = lists.into_iter().map(|(_, chunks)| chunks).collect();
        prop_assert_eq!(agreement(&chunks).unwrap(), expected);
    }
}
