use std::sync::Arc;

use model::histogram::Span;
use proptest::prelude::*;

use super::*;

fn floats(samples: &[(i64, f64)]) -> Vec<SeriesChunk> {
    let (ts, values) = samples.iter().copied().unzip();
    let mut out = Vec::new();
    encode_floats(&Floats { ts, values }, &mut out);
    out
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
    let merged = merge_vertically(vec![b.clone(), a.clone(), a.clone()], Vertical::Chain).unwrap();
    assert_eq!(merged, [a, b].concat());
}

#[test]
fn overlap_is_encoded_anew_at_120_samples_and_the_rest_untouched() {
    let (a, b) = (floats(&steps(0, 2000, 10, 1.0)), floats(&steps(605, 1005, 10, 2.0)));
    let later = floats(&steps(2000, 2100, 10, 3.0));
    let merged = merge_vertically(vec![[a, later.clone()].concat(), b], Vertical::Chain).unwrap();
    let lengths: Vec<usize> = merged.iter().map(|c| decoded(std::slice::from_ref(c)).len()).collect();
    assert_eq!(lengths, [120, 40, 80, 10]);
    assert_eq!(merged.last(), later.last());
}

#[test]
fn the_penalty_merge_keeps_one_replica() {
    let a = steps(0, 3_600_000, 15_000, 1.0);
    let b = steps(4_000, 3_600_000, 15_000, 2.0);
    let merged = merge_vertically(vec![floats(&a), floats(&b)], Vertical::Penalty).unwrap();
    assert_eq!(decoded(&merged), a);
}

#[test]
fn overlapping_aggregates_are_refused() {
    let aggregates = |data: &'static [u8]| {
        let bytes = ChunkBytes { encoding: Encoding::Xor, data: Bytes::from_static(data) };
        let content = ChunkContent::Aggregates(Box::new([Some(bytes), None, None, None, None]));
        vec![SeriesChunk { min_time: 0, max_time: 1, content }]
    };
    let refused = merge_vertically(vec![aggregates(b"a"), aggregates(b"b")], Vertical::Penalty);
    assert!(matches!(refused, Err(Error::OverlappingAggregates)));
    assert_eq!(merge_vertically(vec![aggregates(b"a"), aggregates(b"a")], Vertical::Chain).unwrap(), aggregates(b"a"));
}

#[test]
fn integer_histograms_stay_integers() {
    let histogram = |t: i64| FloatHistogram {
        count: 3.0 + t as f64,
        sum: 1.5,
        positive_spans: vec![Span { offset: 0, length: 2 }],
        positive_buckets: vec![1.0, 2.0 + t as f64],
        ..FloatHistogram::default()
    };
    let sample = |t: i64| Sample { t, value: SampleValue::Histogram(Arc::new(histogram(t))) };
    let encode = |from: i64, to: i64| {
        let mut out = Vec::new();
        encode_samples(&(from..to).map(sample).collect::<Vec<_>>(), true, &mut out).unwrap();
        out
    };
    let merged = merge_vertically(vec![encode(0, 100), encode(50, 150)], Vertical::Chain).unwrap();
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
        let merged = merge_vertically(lists.iter().map(|l| floats(l)).collect(), Vertical::Chain).unwrap();
        prop_assert!(merged.windows(2).all(|w| w[0].max_time < w[1].min_time));
        prop_assert_eq!(decoded(&merged), expected);
    }
}
