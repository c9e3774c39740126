use proptest::prelude::*;

use super::*;
use crate::read::{ValueOf, read_run};
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
    let out = five_minutes(&[(10_000, 1.0), (290_000, 5.0), (300_000, 2.0), (310_000, f64::NAN), (320_000, 4.0)]);
    let expected = Windows {
        t: vec![299_999, 320_000],
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
    let refused = Downsampler::new(Resolution::FiveMinutes).raw(&chunks, &mut DownsampledSeries::default());
    assert!(matches!(refused, Err(Error::OverlappingInput { end: 10, start: 10 })), "{refused:?}");
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
        let raw = increase(read_run(&chunks, ValueOf::Counter).unwrap());
        for windows in [&fine, &coarse] {
            let floats = &windows.floats;
            prop_assert_eq!(floats.count.iter().sum::<u32>() as usize, values.len());
            prop_assert_eq!(floats.sum.iter().sum::<f64>(), values.iter().sum::<f64>());
            let min = |v: &[f64]| v.iter().copied().fold(f64::MAX, f64::min);
            let max = |v: &[f64]| v.iter().copied().fold(f64::MIN, f64::max);
            prop_assert_eq!(min(&floats.min), min(&values));
            prop_assert_eq!(max(&floats.max), max(&values));
            prop_assert!(floats.t.windows(2).all(|w| w[0] < w[1]));
            let encoded = windows.to_chunks().unwrap();
            prop_assert_eq!(increase(read_run(&encoded, ValueOf::Counter).unwrap()), raw);
            let decoded = DownsampledSeries::from_chunks(&encoded, Resolution::FiveMinutes).unwrap();
            prop_assert_eq!(&decoded, windows);
        }
    }
}
