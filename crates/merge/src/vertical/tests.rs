use std::sync::Arc;

use bytes::Bytes;
use model::histogram::BucketSpan;
use proptest::prelude::*;

use super::*;
use crate::series::ChunkBytes;

fn floats(samples: &[(i64, f64)]) -> Vec<SeriesChunk> {
    let (ts, values) = samples.iter().copied().unzip();
    cut_floats(&Floats { ts, values }).unwrap()
}

fn steps(from: i64, to: i64, step: i64, value: f64) -> Vec<(i64, f64)> {
    (from..to).step_by(step as usize).map(|t| (t, value)).collect()
}

fn decoded(chunks: &[SeriesChunk]) -> Vec<(i64, f64)> {
    match read_run(chunks, ValueOf::Sum).unwrap() {
        Column::Floats(floats) => floats.ts.into_iter().zip(floats.values).collect(),
        Column::Mixed(_) => panic!("histograms"),
    }
}

#[test]
fn what_does_not_overlap_passes_as_bytes_and_identical_chunks_once() {
    let (a, b) = (floats(&steps(0, 120, 1, 1.0)), floats(&steps(120, 300, 1, 2.0)));
    let merged = merge_vertically(vec![b.clone(), a.clone(), a.clone()], Dedup::Chain).unwrap();
    assert_eq!(merged, [a, b].concat());
}

#[test]
fn overlap_is_encoded_anew_at_120_samples_and_the_rest_untouched() {
    let (a, b) = (floats(&steps(0, 2000, 10, 1.0)), floats(&steps(605, 1005, 10, 2.0)));
    let later = floats(&steps(2000, 2100, 10, 3.0));
    let merged = merge_vertically(vec![[a, later.clone()].concat(), b], Dedup::Chain).unwrap();
    let lengths: Vec<usize> =
        merged.iter().map(|c| decoded(std::slice::from_ref(c)).len()).collect();
    assert_eq!(lengths, [120, 40, 80, 10]);
    assert_eq!(merged.last(), later.last());
}

#[test]
fn the_penalty_merge_keeps_one_replica() {
    let a = steps(0, 3_600_000, 15_000, 1.0);
    let b = steps(4_000, 3_600_000, 15_000, 2.0);
    let merged = merge_vertically(vec![floats(&a), floats(&b)], Dedup::Penalty).unwrap();
    assert_eq!(decoded(&merged), a);
}

#[test]
fn overlapping_aggregates_are_refused() {
    let aggregates = |data: &'static [u8]| {
        let bytes = ChunkBytes { encoding: Encoding::Xor, data: Bytes::from_static(data) };
        let content = ChunkContent::Aggregates(Box::new([Some(bytes), None, None, None, None]));
        vec![SeriesChunk::new(0, 1, content)]
    };
    let refused = merge_vertically(vec![aggregates(b"a"), aggregates(b"b")], Dedup::Penalty);
    assert!(matches!(refused, Err(Error(Case::OverlappingAggregates))));
    assert_eq!(
        merge_vertically(vec![aggregates(b"a"), aggregates(b"a")], Dedup::Chain).unwrap(),
        aggregates(b"a")
    );
}

#[test]
fn integer_histograms_stay_integers() {
    let histogram = |t: i64| FloatHistogram {
        count: 3.0 + t as f64,
        sum: 1.5,
        positive_spans: vec![BucketSpan { offset: 0, length: 2 }],
        positive_buckets: vec![1.0, 2.0 + t as f64],
        ..FloatHistogram::default()
    };
    let sample = |t: i64| Sample { t, value: SampleValue::Histogram(Arc::new(histogram(t))) };
    let encode = |from: i64, to: i64| {
        cut_samples(&(from..to).map(sample).collect::<Vec<_>>(), true).unwrap()
    };
    let merged = merge_vertically(vec![encode(0, 100), encode(50, 150)], Dedup::Chain).unwrap();
    let encodings = merged.iter().map(|c| match &c.content {
        ChunkContent::Raw(raw) => raw.encoding,
        ChunkContent::Aggregates(_) => Encoding::Aggregate,
    });
    assert_eq!(encodings.collect::<Vec<_>>(), [Encoding::Histogram, Encoding::Histogram]);
    let samples = read_run(&merged, ValueOf::Sum).unwrap().into_samples();
    assert_eq!(samples.len(), 150);
    for (t, s) in samples.iter().enumerate() {
        let SampleValue::Histogram(h) = &s.value else { panic!("a float") };
        assert!(s.t == t as i64 && h.same_data(&histogram(s.t)), "{t}: {h:?}");
    }
}

/// A chunk of some samples; its span may cover less than it holds.
#[derive(Clone, Debug)]
struct Piece {
    start: i64,
    step: i64,
    count: i64,
    /// How many samples of the front and of the back the span leaves out.
    untold: (i64, i64),
}

impl Piece {
    fn times(&self) -> impl Iterator<Item = i64> {
        let Piece { start, step, count, .. } = *self;
        (0..count).map(move |i| start + i * step)
    }

    /// The value at a time is the same in all chunks.
    fn chunk(&self, histograms: bool) -> SeriesChunk {
        let mut out = match histograms {
            true => {
                let sample =
                    |t| Sample { t, value: SampleValue::Histogram(Arc::new(histogram_at(t))) };
                cut_samples(&self.times().map(sample).collect::<Vec<_>>(), true).unwrap()
            }
            false => {
                let values = self.times().map(|t| t as f64).collect();
                cut_floats(&Floats { ts: self.times().collect(), values }).unwrap()
            }
        };
        let [chunk] = &mut out[..] else { panic!("one chunk: {out:?}") };
        chunk.min_time += self.untold.0 * self.step;
        chunk.max_time = (chunk.max_time - self.untold.1 * self.step).max(chunk.min_time);
        out.swap_remove(0)
    }
}

fn histogram_at(t: i64) -> FloatHistogram {
    FloatHistogram {
        count: 3.0 + t as f64,
        sum: t as f64,
        positive_spans: vec![BucketSpan { offset: 0, length: 2 }],
        positive_buckets: vec![1.0, 2.0 + t as f64],
        ..FloatHistogram::default()
    }
}

fn piece(untold: impl Strategy<Value = (i64, i64)>) -> impl Strategy<Value = Piece> {
    (0i64..300, 1i64..5, 1i64..40, untold).prop_map(|(start, step, count, untold)| Piece {
        start,
        step,
        count,
        untold,
    })
}

fn told() -> impl Strategy<Value = (i64, i64)> {
    Just((0, 0))
}

fn partly_told() -> impl Strategy<Value = (i64, i64)> {
    prop_oneof![2 => Just((0, 0)), 1 => (0i64..10, 0i64..10)]
}

fn permutations(of: usize) -> Vec<Vec<usize>> {
    if of == 0 {
        return vec![Vec::new()];
    }
    let insert = |shorter: Vec<usize>| {
        (0..of).map(move |at| [&shorter[..at], &[of - 1], &shorter[at..]].concat())
    };
    permutations(of - 1).into_iter().flat_map(insert).collect()
}

fn union(pieces: &[Piece]) -> Vec<i64> {
    let all: std::collections::BTreeSet<i64> = pieces.iter().flat_map(Piece::times).collect();
    all.into_iter().collect()
}

/// Every time of a run; checks that each sample is that of its time.
fn times_of(chunks: &[SeriesChunk]) -> Vec<i64> {
    let sample = |s: Sample| {
        match s.value {
            SampleValue::Float(v) => assert_eq!(v, s.t as f64),
            SampleValue::Histogram(h) => assert!(h.same_data(&histogram_at(s.t)), "{}: {h:?}", s.t),
        }
        s.t
    };
    read_run(chunks, ValueOf::Sum).unwrap().into_samples().into_iter().map(sample).collect()
}

/// Checks the samples chunk by chunk, as a reader that trusts the spans sees them.
fn assert_sorted_and_apart(chunks: &[SeriesChunk]) {
    assert!(chunks.windows(2).all(|w| w[0].max_time < w[1].min_time), "{chunks:?}");
    for chunk in chunks {
        let times = times_of(std::slice::from_ref(chunk));
        assert_eq!((times[0], times[times.len() - 1]), (chunk.min_time, chunk.max_time));
    }
}

proptest! {
    #[test]
    fn every_permutation_comes_out_sorted_without_overlap_and_whole(
        pieces in proptest::collection::vec(piece(told()), 3..=4),
        histograms in any::<bool>(),
    ) {
        let chunks: Vec<SeriesChunk> = pieces.iter().map(|p| p.chunk(histograms)).collect();
        let expected = union(&pieces);
        for order in permutations(chunks.len()) {
            let list: Vec<SeriesChunk> = order.iter().map(|i| chunks[*i].clone()).collect();
            for how in [Dedup::Chain, Dedup::Penalty] {
                let merged = merge_vertically(vec![list.clone()], how).unwrap();
                assert_sorted_and_apart(&merged);
                prop_assert_eq!(times_of(&merged), expected.clone(), "{:?} {:?}", how, order);
            }
            // over two blocks
            for cut in 1..list.len() {
                let lists = vec![list[..cut].to_vec(), list[cut..].to_vec()];
                let merged = merge_vertically(lists, Dedup::Chain).unwrap();
                assert_sorted_and_apart(&merged);
                prop_assert_eq!(times_of(&merged), expected.clone());
            }
        }
    }

    #[test]
    fn floats_and_histograms_in_disorder_keep_every_time(
        pieces in proptest::collection::vec((piece(told()), any::<bool>()), 1..6),
    ) {
        let list = pieces.iter().map(|(p, histograms)| p.chunk(*histograms)).collect();
        let merged = merge_vertically(vec![list], Dedup::Chain).unwrap();
        assert_sorted_and_apart(&merged);
        let pieces: Vec<Piece> = pieces.into_iter().map(|(p, _)| p).collect();
        prop_assert_eq!(times_of(&merged), union(&pieces));
    }

    #[test]
    fn spans_that_do_not_tell_all_lose_no_samples(
        pieces in proptest::collection::vec(piece(partly_told()), 1..6),
        histograms in any::<bool>(),
    ) {
        let chunks: Vec<SeriesChunk> = pieces.iter().map(|p| p.chunk(histograms)).collect();
        let lists = chunks.iter().map(|c| vec![c.clone()]).collect();
        let merged = merge_vertically(lists, Dedup::Chain).unwrap();
        prop_assert!(merged.windows(2).all(|w| w[0].max_time < w[1].min_time));
        prop_assert_eq!(times_of(&merged), union(&pieces));
        let mut sorted = chunks;
        sorted.sort_by(by_span);
        prop_assert_eq!(times_of(&sorted), union(&pieces), "the samples of a run that nobody \
            merged");
    }
}

#[test]
fn what_a_decoded_chunk_holds_beyond_its_span_is_merged_with_what_it_overlaps() {
    let piece = |start, count, untold| Piece { start, step: 10, count, untold };
    // the second reaches back over the first and on over the fourth, which the spans do not show
    let pieces = [
        piece(0, 20, (0, 0)),
        piece(100, 30, (12, 5)),
        piece(250, 8, (0, 0)),
        piece(350, 20, (0, 0)),
    ];
    let lists = pieces.iter().map(|p| vec![p.chunk(false)]).collect();
    let merged = merge_vertically(lists, Dedup::Chain).unwrap();
    assert_sorted_and_apart(&merged);
    assert_eq!(times_of(&merged), union(&pieces));
}

proptest! {
    #[test]
    fn chained_lists_hold_every_time_once(lists in proptest::collection::vec(proptest::collection::vec(1..500i64, 1..300), 1..4)) {
        let lists: Vec<Vec<(i64, f64)>> = lists.into_iter().map(|steps| {
            let mut t = 0;
            steps.into_iter().map(|s| { t += s; (t, t as f64) }).collect()
        }).collect();
        let mut expected: Vec<(i64, f64)> = lists.concat();
        expected.sort_by_key(|s| s.0);
        expected.dedup();
        let merged = merge_vertically(lists.iter().map(|l| floats(l)).collect(), Dedup::Chain).unwrap();
        prop_assert!(merged.windows(2).all(|w| w[0].max_time < w[1].min_time));
        prop_assert_eq!(decoded(&merged), expected);
    }
}
