use bytes::Bytes;
use proptest::prelude::*;
use tsdb::chunk::{Encoding, XorEncoder};

use super::*;

fn chunk(min_time: i64, max_time: i64, samples: &[(i64, f64)]) -> SeriesChunk {
    let mut encoder = XorEncoder::new();
    samples.iter().for_each(|(t, v)| encoder.push(*t, *v));
    let bytes = ChunkBytes { encoding: Encoding::Xor, data: Bytes::from(encoder.finish()) };
    SeriesChunk::new(min_time, max_time, ChunkContent::Raw(bytes))
}

fn read(chunks: &[SeriesChunk], value: ValueOf) -> Vec<(i64, f64)> {
    match read_run(chunks, value).unwrap() {
        Column::Floats(floats) => floats.ts.into_iter().zip(floats.values).collect(),
        Column::Mixed(_) => panic!("histograms"),
    }
}

#[test]
fn raw_chunks_that_reach_into_each_other_keep_all_times_and_the_first_of_equal_ones() {
    let run = [
        chunk(0, 20, &[(0, 1.0), (10, 2.0), (20, 3.0), (40, 4.0), (60, 5.0)]),
        chunk(30, 50, &[(30, 6.0), (40, 7.0), (50, 8.0)]),
        chunk(70, 80, &[(70, 9.0), (80, 10.0)]),
    ];
    let expected = [
        (0, 1.0),
        (10, 2.0),
        (20, 3.0),
        (30, 6.0),
        (40, 4.0),
        (50, 8.0),
        (60, 5.0),
        (70, 9.0),
        (80, 10.0),
    ];
    for value in [ValueOf::Average, ValueOf::Sum, ValueOf::Max] {
        assert_eq!(read(&run, value), expected);
    }
}

#[test]
fn raw_counters_are_read_as_they_are() {
    let run = [
        chunk(0, 20, &[(0, 10.0), (20, 20.0), (40, 30.0), (60, 40.0)]),
        chunk(30, 50, &[(30, 25.0), (50, 5.0)]),
    ];
    let expected = [(0, 10.0), (20, 20.0), (30, 25.0), (40, 30.0), (50, 5.0), (60, 40.0)];
    assert_eq!(read(&run, ValueOf::Counter), expected);
}

#[test]
fn beside_downsampled_chunks_what_reaches_back_is_skipped() {
    let raw = chunk(0, 50, &[(0, 1.0), (50, 2.0)]);
    let ChunkContent::Raw(sum) = chunk(0, 0, &[(40, 3.0), (80, 4.0)]).content else {
        panic!("raw")
    };
    let content = ChunkContent::Aggregates(Box::new([None, Some(sum), None, None, None]));
    let aggregates = SeriesChunk::new(40, 80, content);
    assert_eq!(read(&[raw, aggregates], ValueOf::Sum), [(0, 1.0), (50, 2.0), (80, 4.0)]);
}

fn sums(min_time: i64, max_time: i64, windows: &[(i64, f64)]) -> SeriesChunk {
    let ChunkContent::Raw(sum) = chunk(0, 0, windows).content else { panic!("raw") };
    let content = ChunkContent::Aggregates(Box::new([None, Some(sum), None, None, None]));
    SeriesChunk::new(min_time, max_time, content).with_resolution(Resolution::FiveMinutes)
}

#[test]
fn of_overlapping_downsampled_chunks_every_window_is_read_once() {
    const W: i64 = 300_000;
    // the first has a gap, and its last window ends with its last sample
    let first =
        sums(W - 1, 6 * W - 20_000, &[(W - 1, 1.0), (2 * W - 1, 2.0), (6 * W - 20_000, 6.0)]);
    let second = sums(
        2 * W - 1,
        7 * W - 1,
        &[(2 * W - 1, 20.0), (3 * W - 1, 30.0), (6 * W - 1, 60.0), (7 * W - 1, 70.0)],
    );
    let expected = [
        (W - 1, 1.0),
        (2 * W - 1, 2.0),
        (3 * W - 1, 30.0),
        (6 * W - 20_000, 6.0),
        (7 * W - 1, 70.0),
    ];
    assert_eq!(read(&[first, second], ValueOf::Sum), expected);
}

proptest! {
    #[test]
    fn chunks_out_of_order_are_read_in_order(
        chunks in prop::collection::vec(prop::collection::btree_map(0i64..100, 0u8..50, 1..12), 1..5),
    ) {
        let mut all = std::collections::BTreeMap::new();
        let mut run = Vec::new();
        for samples in &chunks {
            let samples: Vec<(i64, f64)> = samples.iter().map(|(t, v)| (*t, f64::from(*v))).collect();
            for (t, v) in &samples {
                all.entry(*t).or_insert(*v);
            }
            run.push(chunk(samples[0].0, samples[samples.len() - 1].0, &samples));
        }
        let in_order: Vec<(i64, f64)> = all.into_iter().collect();
        prop_assert_eq!(read(&run, ValueOf::Average), in_order.clone());
        prop_assert_eq!(read(&run, ValueOf::Counter), in_order);
    }
}
