//! Downsampling against what Thanos 0.42 made of the same samples, byte for byte.

mod support;

use merge::{DownsampledSeries, Downsampler, SeriesChunk};
use model::{Labels, Resolution};
use support::GoldenSeries;
use tsdb::chunk::Aggregate;

#[test]
fn the_excerpt_is_reproduced_byte_for_byte() {
    let series = support::excerpt();
    assert_eq!(series.len(), 6);
    check(&series);
}

#[test]
fn whole_blocks_are_reproduced_byte_for_byte() {
    if let Some(blocks) = support::blocks() {
        assert!(blocks.folder.is_dir());
        check(&blocks.series);
    }
}

fn check(all: &[GoldenSeries]) {
    let mut to_fine = Downsampler::new(Resolution::FiveMinutes);
    let mut to_coarse = Downsampler::new(Resolution::OneHour);
    let (mut fine, mut coarse) = (DownsampledSeries::default(), DownsampledSeries::default());
    for GoldenSeries { labels, raw, five_minutes, one_hour } in all {
        to_fine.raw(raw, &mut fine).unwrap();
        assert_same(labels, &fine.to_chunks().unwrap(), five_minutes);
        to_coarse.coarser(Resolution::FiveMinutes, &fine, &mut coarse).unwrap();
        assert_same(labels, &coarse.to_chunks().unwrap(), one_hour);

        // The same, starting from the chunks that Thanos wrote.
        let decoded = DownsampledSeries::from_chunks(five_minutes, Resolution::FiveMinutes).unwrap();
        assert_eq!(decoded.floats, fine.floats, "{labels}");
        assert_same(labels, &decoded.to_chunks().unwrap(), five_minutes);
        to_coarse.coarser(Resolution::FiveMinutes, &decoded, &mut coarse).unwrap();
        assert_same(labels, &coarse.to_chunks().unwrap(), one_hour);
    }
}

fn assert_same(labels: &Labels, ours: &[SeriesChunk], golden: &[SeriesChunk]) {
    let spans = |chunks: &[SeriesChunk]| chunks.iter().map(|c| (c.min_time, c.max_time)).collect::<Vec<_>>();
    assert_eq!(spans(ours), spans(golden), "{labels}");
    for (a, b) in ours.iter().zip(golden) {
        for aggregate in Aggregate::ALL {
            assert_eq!(a.aggregate(aggregate), b.aggregate(aggregate), "{labels} {aggregate:?} at {}", a.min_time);
        }
    }
}
