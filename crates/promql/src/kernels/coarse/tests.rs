use super::*;

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;

fn bounds(lo: u32, hi: u32) -> Option<Bounds> {
    Some(Bounds { lo, hi })
}

/// One sample an hour, at its end, of the hours named.
fn hours(hours: &[i64]) -> Vec<i64> {
    hours.iter().map(|h| (h + 1) * HOUR - 1).collect()
}

fn window(t: &[i64], end: i64, range: i64) -> Window {
    let up_to = |end: i64| t.partition_point(|t| *t <= end) as u32;
    Window { samples: Bounds { lo: up_to(end - range), hi: up_to(end) }, end, range }
}

fn near(value: Option<f64>, expected: f64) {
    assert!(
        value.is_some_and(|value| (value - expected).abs() < 1e-3),
        "{value:?}, not {expected}"
    );
}

fn coarse<'a>(t: &'a [i64], stretches: &'a [Stretch]) -> CoarseTimes<'a> {
    CoarseTimes { t, stretches, spans: &[], lookback: 5 * MINUTE, reach: 5 * MINUTE }
}

fn stretch(t: &[i64]) -> [Stretch; 1] {
    [Stretch { first: t[0], last: t[t.len() - 1], resolution: HOUR }]
}

#[test]
fn a_short_window_is_that_of_the_hour_around_it() {
    let t = hours(&[0, 1, 2]);
    let s = stretch(&t);
    let times = coarse(&t, &s);
    let at = HOUR + 30 * MINUTE;
    assert_eq!(times.fill(window(&t, at, 5 * MINUTE), Filling::Around), bounds(1, 2));
    assert_eq!(times.fill(window(&t, at, 5 * MINUTE), Filling::Last), bounds(0, 1));
    assert_eq!(times.fill(window(&t, at, 5 * MINUTE), Filling::Pair), bounds(0, 2));
    // one that reaches into the hour before has both
    assert_eq!(times.fill(window(&t, HOUR + MINUTE, 5 * MINUTE), Filling::Around), bounds(0, 2));
    // one that is long enough is left alone
    assert_eq!(times.fill(window(&t, at, 2 * HOUR), Filling::Around), None);
}

#[test]
fn a_series_has_ended_after_its_last_sample() {
    let t = hours(&[0, 1, 5]);
    let s = stretch(&t);
    let times = coarse(&t, &s);
    for filling in [Filling::Last, Filling::Around, Filling::Pair] {
        assert_eq!(times.fill(window(&t, 3 * HOUR, 5 * MINUTE), filling), None, "{filling:?}");
        assert_eq!(times.fill(window(&t, 7 * HOUR, 5 * MINUTE), filling), None, "{filling:?}");
    }
    assert_eq!(times.share_of(&[1.0, 1.0, 1.0], window(&t, 3 * HOUR, 5 * MINUTE)), None);
}

#[test]
fn sums_are_shared_evenly_and_add_up() {
    let t = hours(&[0, 1, 2, 3]);
    let s = stretch(&t);
    let times = coarse(&t, &s);
    let values = [60.0, 120.0, 180.0, 240.0];
    // on both sides of the border between two hours
    let at = 2 * HOUR + 4 * MINUTE;
    near(
        times.share_of(&values, window(&t, at, 10 * MINUTE)),
        6.0 / 60.0 * 120.0 + 4.0 / 60.0 * 180.0,
    );
    let parts: f64 = (0..24)
        .filter_map(|k| {
            times.share_of(&values, window(&t, t[0] + (k + 1) * 5 * MINUTE, 5 * MINUTE))
        })
        .sum();
    near(Some(parts), 300.0);
}

#[test]
fn raw_samples_beside_a_stretch_count_as_they_are() {
    let mut t = hours(&[0, 1]);
    t.extend((0..10).map(|m| 2 * HOUR + m * MINUTE));
    let s = [Stretch { first: t[0], last: t[1], resolution: HOUR }];
    let times = coarse(&t, &s);
    let mut values = vec![60.0, 60.0];
    values.extend([1.0; 10]);
    near(times.share_of(&values, window(&t, 2 * HOUR + 9 * MINUTE, 30 * MINUTE)), 21.0 + 10.0);
}

#[test]
fn the_first_window_of_a_life_says_nothing_before_its_sample() {
    let t = hours(&[3, 4]);
    let s = stretch(&t);
    let times = coarse(&t, &s);
    for filling in [Filling::Last, Filling::Around, Filling::Pair] {
        assert_eq!(
            times.fill(window(&t, 3 * HOUR + 30 * MINUTE, 5 * MINUTE), filling),
            None,
            "{filling:?}"
        );
    }
    assert_eq!(times.share_of(&[1.0, 1.0], window(&t, 3 * HOUR + 30 * MINUTE, 5 * MINUTE)), None);
}

#[test]
fn a_rise_goes_straight_from_sample_to_sample() {
    let mut t = hours(&[0, 1, 2]);
    t.extend((0..10).map(|m| 3 * HOUR + m * MINUTE));
    let s = [Stretch { first: t[0], last: t[2], resolution: HOUR }];
    let times = coarse(&t, &s);
    let values: Vec<f64> = t.iter().map(|t| *t as f64 / 1000.0).collect();
    let rise = |end: i64| times.rise_of(&values, window(&t, end, 5 * MINUTE), ValueAt::End);
    for minute in 70..189 {
        near(rise(minute * MINUTE), 300.0);
    }
    // half a window before the first sample, and after the last
    near(rise(t[0] + 150_000), 150.0);
    near(rise(3 * HOUR + 11 * MINUTE), 180.0);
    let window = |end: i64| window(&t, end, 5 * MINUTE);
    assert_eq!(times.rise_of(&values, window(59 * MINUTE), ValueAt::End), None);
    assert_eq!(times.rise_of(&values, window(4 * HOUR), ValueAt::End), None);
}

#[test]
fn means_rise_from_middle_to_middle() {
    // the series exists for ten minutes of the last hour
    let t = [HOUR - 1, 2 * HOUR - 1, 2 * HOUR + 10 * MINUTE];
    let s = stretch(&t);
    let times = coarse(&t, &s);
    // a line: the means are what it has in the middle
    let values = [1800.0, 5400.0, 7500.0];
    for minute in [65, 100, 119, 121, 125, 130] {
        near(
            times.rise_of(&values, window(&t, minute * MINUTE, 5 * MINUTE), ValueAt::Middle),
            300.0,
        );
    }
}
