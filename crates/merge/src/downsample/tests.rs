use bytes::Bytes;
use proptest::prelude::*;
use tsdb::chunk::{Aggregate, Encoding};

use super::*;
use crate::read::{ValueOf, read_run};
use crate::series::ChunkBytes;
use crate::{Column, Floats};

fn raw_chunk(samples: &[(i64, f64)]) -> SeriesChunk {
    let content = ChunkContent::Raw(aggregate::encode_xor(samples.iter().copied()));
    SeriesChunk { min_time: samples[0].0, max_time: samples[samples.len() - 1].0, content }
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
    let Column::Floats(Floats { values, .. }) = column else { panic!("histograms") };
    values.last().unwrap_or(&0.0) - values.first().unwrap_or(&0.0)
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

/// Blocks that Thanos 0.42 compacted and downsampled; see the README beside them.
mod golden {
    use std::path::PathBuf;

    use super::*;

    struct Block {
        series: Vec<(model::Labels, Vec<SeriesChunk>)>,
    }

    fn open(id: &str) -> Option<Block> {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/golden/downsampled").join(id);
        let index = tsdb::index::Index::open(Bytes::from(std::fs::read(folder.join("index")).ok()?)).unwrap();
        let segment = Bytes::from(std::fs::read(folder.join("chunks/000001")).unwrap());
        let chunk = |meta: &tsdb::index::ChunkMeta| {
            let (content, (min_time, max_time)) = (record(&segment, meta.reference), (meta.min_time, meta.max_time));
            SeriesChunk { min_time, max_time, content }
        };
        let series = index.all_series().unwrap().map(|entry| {
            let entry = entry.unwrap();
            (entry.labels, entry.chunks.iter().map(chunk).collect())
        });
        Some(Block { series: series.collect() })
    }

    fn uvarint(bytes: &[u8]) -> (usize, usize) {
        let (mut value, mut at) = (0, 0);
        loop {
            value |= usize::from(bytes[at] & 0x7f) << (7 * at);
            at += 1;
            if bytes[at - 1] < 0x80 {
                return (value, at);
            }
        }
    }

    fn record(segment: &Bytes, reference: u64) -> ChunkContent {
        let at = (reference & 0xffff_ffff) as usize;
        let (len, prefix) = uvarint(&segment[at..]);
        let encoding = Encoding::from_byte(segment[at + prefix]).unwrap();
        let data = segment.slice(at + prefix + 1..at + prefix + 1 + len);
        if encoding != Encoding::Aggregate {
            return ChunkContent::Raw(ChunkBytes { encoding, data });
        }
        let mut rest = data;
        let parts = Aggregate::ALL.map(|_| {
            let (len, prefix) = uvarint(&rest);
            let part = (len > 0).then(|| ChunkBytes {
                encoding: Encoding::from_byte(rest[prefix]).unwrap(),
                data: rest.slice(prefix + 1..prefix + 1 + len),
            });
            rest = rest.slice(prefix + len + usize::from(len > 0)..);
            part
        });
        ChunkContent::Aggregates(Box::new(parts))
    }

    const RAW: &str = "01M81HXWNC0A0S5M3B3JFKCXKR";
    const FIVE_MINUTES: &str = "01M81HXWQFQ2GBAYGTHD5KSMEG";
    const ONE_HOUR: &str = "01M81HXX0GS6A2F69HCM1Y84FY";

    #[test]
    fn thanos_blocks_are_reproduced_byte_for_byte() {
        let (Some(raw), Some(fine), Some(coarse)) = (open(RAW), open(FIVE_MINUTES), open(ONE_HOUR)) else {
            println!("skipped: the golden blocks are not here");
            return;
        };
        assert_eq!((raw.series.len(), fine.series.len()), (276, 276));
        let mut to_fine = Downsampler::new(Resolution::FiveMinutes);
        let mut to_coarse = Downsampler::new(Resolution::OneHour);
        let (mut out, mut joined) = (DownsampledSeries::default(), DownsampledSeries::default());
        for ((labels, chunks), (other, expected)) in raw.series.iter().zip(&fine.series) {
            assert_eq!(labels, other);
            to_fine.raw(chunks, &mut out).unwrap();
            assert_same(labels, &out.to_chunks().unwrap(), expected);
            let decoded = DownsampledSeries::from_chunks(expected, Resolution::FiveMinutes).unwrap();
            assert_eq!(decoded.floats, out.floats, "{labels}");
            assert_same(labels, &decoded.to_chunks().unwrap(), expected);
            to_coarse.coarser(Resolution::FiveMinutes, &out, &mut joined).unwrap();
            let (_, expected) = coarse.series.iter().find(|(l, _)| l == labels).unwrap();
            assert_same(labels, &joined.to_chunks().unwrap(), expected);
        }
    }

    fn assert_same(labels: &model::Labels, ours: &[SeriesChunk], golden: &[SeriesChunk]) {
        let spans = |chunks: &[SeriesChunk]| chunks.iter().map(|c| (c.min_time, c.max_time)).collect::<Vec<_>>();
        assert_eq!(spans(ours), spans(golden), "{labels}");
        for (a, b) in ours.iter().zip(golden) {
            for aggregate in Aggregate::ALL {
                assert_eq!(a.aggregate(aggregate), b.aggregate(aggregate), "{labels} {aggregate:?} at {}", a.min_time);
            }
        }
    }
}
