//! Compares downsampling with what Thanos 0.42 made of the same samples, byte for byte.

mod support;

use std::sync::Arc;

use merge::{Column, DownsampledSeries, Downsampler, SeriesChunk, ValueOf, Windows};
use model::histogram::ResetHint;
use model::{FloatHistogram, Labels, Resolution, SampleValue};
use support::GoldenSeries;
use tsdb::chunk::{Aggregate, reset_hint};

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
        to_coarse.coarser(Resolution::FiveMinutes, &fine, &mut coarse).unwrap();
        let decoded =
            DownsampledSeries::from_chunks(five_minutes, Resolution::FiveMinutes).unwrap();
        assert_same(labels, &decoded.to_chunks().unwrap(), five_minutes);
        if has_histogram_resets(&fine) {
            assert_same_but_for_resets(labels, &fine.to_chunks().unwrap(), five_minutes);
            assert_same_but_for_resets(labels, &coarse.to_chunks().unwrap(), one_hour);
            check_growth(
                labels,
                raw,
                &[fine.to_chunks().unwrap(), coarse.to_chunks().unwrap()],
                five_minutes,
            );
            continue;
        }
        assert_same(labels, &fine.to_chunks().unwrap(), five_minutes);
        assert_same(labels, &coarse.to_chunks().unwrap(), one_hour);

        // The same, starting from the chunks that Thanos wrote.
        assert_eq!(without_times(&decoded.floats), without_times(&fine.floats), "{labels}");
        to_coarse.coarser(Resolution::FiveMinutes, &decoded, &mut coarse).unwrap();
        assert_same(labels, &coarse.to_chunks().unwrap(), one_hour);
    }
}

/// The windows as Thanos' chunks have them.
fn without_times(windows: &Windows) -> Windows {
    Windows { first_t: Vec::new(), last_t: Vec::new(), ..windows.clone() }
}

fn has_histogram_resets(series: &DownsampledSeries) -> bool {
    series.histograms.counter.iter().any(|h| h.hint == ResetHint::Reset)
}

/// Where a counter of native histograms was reset, Thanos' chunks continue with a total that the
/// counter does not have, and the next one begins below it, which all readers take for a reset.
/// Ours end there. What lies before the first reset is the same byte for byte, and so are the total
/// numbers of samples.
fn assert_same_but_for_resets(labels: &Labels, ours: &[SeriesChunk], golden: &[SeriesChunk]) {
    let samples = |chunks: &[SeriesChunk]| -> f64 {
        let Column::Floats(counts) = merge::read_run(chunks, ValueOf::Count).unwrap() else {
            panic!("{labels}")
        };
        counts.values.iter().sum()
    };
    assert_eq!(samples(ours), samples(golden), "{labels}");
    let differs = ours
        .iter()
        .zip(golden)
        .position(|(a, b)| a.max_time != b.max_time)
        .expect("a chunk ends at a reset");
    assert_same(labels, &ours[..differs], &golden[..differs]);
    let counter = ours[differs + 1].aggregate(Aggregate::Counter).unwrap();
    assert_eq!(reset_hint(counter.encoding, &counter.data), Ok(ResetHint::Reset), "{labels}");
}

/// Checks that ours grows by what the raw counter grew, and Thanos' version, as we read it, by
/// about as much.
fn check_growth(
    labels: &Labels,
    raw: &[SeriesChunk],
    ours: &[Vec<SeriesChunk>],
    golden: &[SeriesChunk],
) {
    for chunks in ours {
        let begin = chunks[0].min_time;
        assert_eq!(observed(chunks, begin), observed(raw, begin), "{labels}");
    }
    let begin = golden[0].min_time;
    let (read, truth) = (observed(golden, begin), observed(raw, begin));
    assert!((read / truth - 1.0).abs() < 0.01, "{labels}: {read} of {truth}");
}

/// How many observations a counter of histograms grew from `begin` on.
fn observed(chunks: &[SeriesChunk], begin: i64) -> f64 {
    let samples = merge::read_run(chunks, ValueOf::Counter).unwrap().into_samples();
    let histograms = samples.iter().filter_map(|sample| match &sample.value {
        SampleValue::Histogram(h) => Some((sample.t, h)),
        SampleValue::Float(_) => None,
    });
    let histograms: Vec<_> = histograms.collect();
    let from = histograms.partition_point(|(t, _)| *t <= begin).saturating_sub(1);
    let growth = |pair: &[(i64, &Arc<FloatHistogram>)]| {
        let (before, now) = (pair[0].1, pair[1].1);
        if now.detect_reset(before) { now.count } else { now.count - before.count }
    };
    histograms[from..].windows(2).map(growth).sum()
}

fn assert_same(labels: &Labels, ours: &[SeriesChunk], golden: &[SeriesChunk]) {
    let spans = |chunks: &[SeriesChunk]| {
        chunks.iter().map(|c| (c.min_time, c.max_time)).collect::<Vec<_>>()
    };
    assert_eq!(spans(ours), spans(golden), "{labels}");
    for (a, b) in ours.iter().zip(golden) {
        for aggregate in Aggregate::ALL {
            assert_eq!(
                a.aggregate(aggregate),
                b.aggregate(aggregate),
                "{labels} {aggregate:?} at {}",
                a.min_time
            );
        }
    }
}
