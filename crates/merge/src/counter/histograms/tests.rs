use super::*;

/// In milliseconds, so that a window of five minutes is a hundred.
const TIME: i64 = 3000;

fn samples(samples: &[(i64, f64)]) -> Vec<Sample> {
    let sample = |(i, (t, count)): (usize, &(i64, f64))| {
        let hint = if i == 0 { ResetHint::Unknown } else { ResetHint::NotReset };
        let histogram =
            FloatHistogram { hint, count: *count, zero_count: *count, ..FloatHistogram::default() };
        Sample { t: t * TIME, value: SampleValue::Histogram(Arc::new(histogram)) }
    };
    samples.iter().enumerate().map(sample).collect()
}

const TOTALS: ChunkKind =
    ChunkKind { header: ResetHint::NotReset, resolution: Resolution::FiveMinutes };
const RAW: ChunkKind = ChunkKind { resolution: Resolution::Raw, ..TOTALS };

/// Counts, each with whether it is marked as following a reset.
fn stitched(chunks: &[(&[(i64, f64)], ChunkKind)]) -> Vec<(i64, f64, bool)> {
    let mut stitch = HistogramStitch::default();
    let mut all = Vec::new();
    for (chunk, kind) in chunks {
        let mut chunk = samples(chunk);
        if stitch.stitch(&mut chunk, *kind) {
            all.pop();
        }
        all.append(&mut chunk);
    }
    let told = all
        .iter()
        .filter_map(|s| counted(s).map(|h| (s.t / TIME, h.count, h.hint == ResetHint::Reset)));
    for pair in all.windows(2).filter_map(|w| counted(&w[0]).zip(counted(&w[1]))) {
        assert_eq!(
            pair.1.detect_reset(pair.0),
            pair.1.hint == ResetHint::Reset,
            "a reader must not have to guess"
        );
    }
    told.collect()
}

/// A batch in which the counter, which grows by ten a window, was reset at 60.
const WITH_RESET: (&[(i64, f64)], ChunkKind) =
    (&[(100, 60.0), (200, 70.0), (300, 130.0), (400, 140.0)], TOTALS);

#[test]
fn a_total_that_begins_below_the_one_before_goes_on_where_it_holds_many_windows() {
    let out = stitched(&[
        WITH_RESET,
        (&[(500, 90.0), (600, 100.0)], TOTALS),
        (&[(700, 110.0), (800, 120.0)], TOTALS),
    ]);
    let expected = [
        (100, 60.0),
        (200, 70.0),
        (300, 130.0),
        (400, 140.0),
        (500, 150.0),
        (600, 160.0),
        (700, 170.0),
        (800, 180.0),
    ];
    assert_eq!(out, expected.map(|(t, count)| (t, count, false)));
    // a single window is judged by those before
    let out = stitched(&[WITH_RESET, (&[(500, 90.0)], TOTALS)]);
    assert_eq!(out[4], (500, 150.0, false));
}

#[test]
fn a_total_of_about_a_window_is_that_of_a_counter_reset_at_the_border() {
    let out = stitched(&[WITH_RESET, (&[(500, 8.0), (600, 18.0)], TOTALS)]);
    assert_eq!(out[4..], [(500, 8.0, true), (600, 18.0, false)]);
    // what was lifted before is not after a reset
    let out = stitched(&[
        WITH_RESET,
        (&[(500, 90.0), (600, 100.0)], TOTALS),
        (&[(700, 3.0), (800, 13.0)], TOTALS),
    ]);
    assert_eq!(out[5..], [(600, 160.0, false), (700, 3.0, true), (800, 13.0, false)]);
}

#[test]
fn the_part_of_a_window_before_a_reset_is_in_the_window() {
    let header = ChunkKind { header: ResetHint::Reset, ..TOTALS };
    let before: (&[(i64, f64)], ChunkKind) = (&[(199, 20.0), (299, 30.0), (340, 34.0)], TOTALS);
    let after: (&[(i64, f64)], ChunkKind) = (&[(399, 5.0), (499, 15.0)], header);
    let expected = [(199, 20.0, false), (299, 30.0, false), (399, 9.0, true), (499, 19.0, false)];
    assert_eq!(stitched(&[before, after]), expected);
    // and so are all parts of it
    let between: (&[(i64, f64)], ChunkKind) = (&[(350, 2.0)], header);
    let expected = [(299, 30.0, false), (399, 11.0, true), (499, 21.0, false)];
    assert_eq!(stitched(&[before, between, after])[1..], expected);
    // how much the very first window grew is not known
    assert_eq!(
        stitched(&[(&[(340, 34.0)], TOTALS), after])[..2],
        [(340, 34.0, false), (399, 5.0, true)]
    );
}

#[test]
fn a_header_that_says_reset_is_believed() {
    let header = ChunkKind { header: ResetHint::Reset, ..TOTALS };
    for first in [90.0, 300.0] {
        let out = stitched(&[WITH_RESET, (&[(500, first), (600, 310.0)], header)]);
        assert_eq!(out[4], (500, first, true));
    }
}

#[test]
fn raw_chunks_fall_by_resets_only_but_after_a_total() {
    let out = stitched(&[(&[(1, 60.0), (2, 61.0)], RAW), (&[(3, 50.0), (4, 51.0)], RAW)]);
    assert_eq!(out[2..], [(3, 50.0, true), (4, 51.0, false)]);
    let out = stitched(&[WITH_RESET, (&[(401, 80.0), (402, 80.5)], RAW), (&[(403, 81.0)], RAW)]);
    assert_eq!(out[4..], [(401, 140.5, false), (402, 141.0, false), (403, 141.5, false)]);
}

#[test]
fn totals_that_overlap_go_on_by_their_own_growth() {
    let out =
        stitched(&[WITH_RESET, (&[(300, 70.0), (400, 80.0), (500, 95.0), (600, 100.0)], TOTALS)]);
    assert_eq!(out[3..], [(400, 140.0, false), (500, 155.0, false), (600, 160.0, false)]);
    let out = stitched(&[WITH_RESET, (&[(350, 70.0), (390, 80.0)], TOTALS)]);
    assert_eq!(out.len(), 4);
}

#[test]
fn gauges_pass() {
    let gauge = ChunkKind { header: ResetHint::Gauge, ..TOTALS };
    let mut stitch = HistogramStitch::default();
    for values in [[(1, 5.0), (2, 3.0)], [(3, 1.0), (4, 2.0)]] {
        let mut chunk = samples(&values);
        stitch.stitch(&mut chunk, gauge);
        let counts: Vec<f64> = chunk.iter().filter_map(counted).map(|h| h.count).collect();
        assert_eq!(counts, values.map(|v| v.1));
    }
}
