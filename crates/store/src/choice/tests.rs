use super::*;

const HOUR: i64 = 3_600_000;

/// `5m 0-48 a,b` is a block of that resolution over those hours, made of blocks named `a` and `b`;
/// with `marked` after it is to be deleted.
fn spans(text: &str) -> Vec<Candidate> {
    let parse = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let resolution = Resolution::ALL.into_iter().find(|r| r.to_string() == words[0]).unwrap();
        let sources = words.get(2).map_or(Vec::new(), |s| s.split(',').map(source).collect());
        Candidate {
            range: range(words[1]),
            resolution,
            sources,
            marked: words.get(3) == Some(&"marked"),
        }
    };
    let mut all: Vec<Candidate> =
        text.lines().map(str::trim).filter(|l| !l.is_empty()).map(parse).collect();
    all.sort_by_key(|s| s.range.start);
    all
}

fn source(name: &str) -> BlockId {
    BlockId::from_parts(0, name.bytes().fold(0, |n, b| n << 8 | u128::from(b)))
}

fn range(text: &str) -> TimeRange {
    let (start, end) = text.split_once('-').unwrap();
    TimeRange::new(start.parse::<i64>().unwrap() * HOUR, end.parse::<i64>().unwrap() * HOUR)
}

fn hours(range: TimeRange) -> String {
    format!("{}-{}", range.start / HOUR, range.end / HOUR)
}

/// Checks what is chosen, written as `resolution block for span`.
fn check(
    blocks: &str,
    request: &str,
    coarsest: Resolution,
    coarser_fallback: bool,
    expected: &[&str],
) {
    let fallback = if coarser_fallback { Spans::all() } else { Spans::default() };
    check_within(blocks, request, coarsest, fallback, expected);
}

fn check_within(
    blocks: &str,
    request: &str,
    coarsest: Resolution,
    fallback: Spans,
    expected: &[&str],
) {
    let (spans, wanted) = (spans(blocks), range(request));
    let chosen = choose(&spans, &WantedData { range: wanted, coarsest, fallback });
    let shown: Vec<String> = chosen
        .iter()
        .map(|c| {
            format!(
                "{} {} for {}",
                spans[c.index].resolution,
                hours(spans[c.index].range),
                hours(c.range.intersect(wanted))
            )
        })
        .collect();
    assert_eq!(shown, expected, "{blocks}, {request} up to {coarsest}");
}

use Resolution::{FiveMinutes, OneHour, Raw};

#[test]
fn only_blocks_that_touch_the_range_are_chosen() {
    let blocks = "raw 0-2\nraw 2-4\nraw 4-6";
    check(blocks, "2-4", Raw, false, &["raw 2-4 for 2-4"]);
    check(blocks, "1-3", Raw, false, &["raw 0-2 for 1-3", "raw 2-4 for 1-3"]);
    check(blocks, "6-9", Raw, false, &[]);
    check(blocks, "3-3", Raw, false, &[]);
    check("", "0-9", OneHour, true, &[]);
}

#[test]
fn overlapping_blocks_of_one_resolution_are_all_chosen() {
    check(
        "raw 0-4\nraw 2-6\nraw 3-5",
        "3-4",
        Raw,
        false,
        &["raw 0-4 for 3-4", "raw 2-6 for 3-4", "raw 3-5 for 3-4"],
    );
}

#[test]
fn the_coarsest_allowed_resolution_wins_and_finer_ones_fill_its_gaps() {
    let blocks = "raw 0-48\nraw 48-96\nraw 96-144\nraw 144-146\n5m 0-48\n5m 48-96\n1h 0-48";
    check(
        blocks,
        "0-150",
        OneHour,
        false,
        &[
            "1h 0-48 for 0-150",
            "5m 48-96 for 48-150",
            "raw 96-144 for 96-150",
            "raw 144-146 for 96-150",
        ],
    );
    check(
        blocks,
        "10-150",
        FiveMinutes,
        false,
        &[
            "5m 0-48 for 10-150",
            "5m 48-96 for 10-150",
            "raw 96-144 for 96-150",
            "raw 144-146 for 96-150",
        ],
    );
    check(blocks, "10-50", Raw, true, &["raw 0-48 for 10-50", "raw 48-96 for 10-50"]);
}

#[test]
fn a_gap_in_the_middle_is_filled_once() {
    let blocks = "raw 0-100\n5m 10-20\n5m 40-50\n5m 80-90";
    check(
        blocks,
        "10-90",
        FiveMinutes,
        false,
        &["raw 0-100 for 20-80", "5m 10-20 for 10-90", "5m 40-50 for 10-90", "5m 80-90 for 10-90"],
    );
}

#[test]
fn coarser_blocks_serve_only_where_nothing_allowed_exists_and_only_when_asked() {
    let blocks = "5m 0-48 a,b\n1h 0-48 a,b\nraw 48-96 c";
    check(blocks, "0-96", Raw, false, &["raw 48-96 for 0-96"]);
    check(blocks, "0-96", Raw, true, &["5m 0-48 for 0-48", "raw 48-96 for 0-96"]);
    check(
        "1h 0-48 a,b\nraw 48-96 c",
        "0-96",
        FiveMinutes,
        true,
        &["1h 0-48 for 0-48", "raw 48-96 for 0-96"],
    );
}

/// Prometheus was down from 2 to 4: the 5m block over the whole span has nothing at that time
/// either.
#[test]
fn a_gap_that_coarser_blocks_have_too_is_left_open() {
    check(
        "raw 0-2 a\nraw 4-6 b\n5m 0-6 a,b",
        "0-6",
        Raw,
        true,
        &["raw 0-2 for 0-6", "raw 4-6 for 0-6"],
    );
    check("raw 4-6 b\n5m 0-6 a,b", "0-6", Raw, true, &["5m 0-6 for 0-4", "raw 4-6 for 0-6"]);
}

/// The block over everything, which is about to be deleted, says nothing about what the coarser one
/// holds between those that stay.
#[test]
fn what_is_marked_for_deletion_is_no_reason_to_leave_out_a_coarser_block() {
    let chosen = ["raw 0-2 for 0-6", "5m 0-6 for 2-4", "raw 4-6 for 0-6"];
    check("raw 0-2 a marked\nraw 4-6 b\n5m 0-6 a,b", "0-6", Raw, true, &chosen);
    check(
        "raw 0-2 a\nraw 4-6 b\n5m 0-6 a,b marked",
        "0-6",
        Raw,
        true,
        &["raw 0-2 for 0-6", "raw 4-6 for 0-6"],
    );
}

#[test]
fn a_gap_that_ends_in_a_window_is_answered_to_the_end_of_that_window() {
    let minutes = |start: i64, end: i64| TimeRange::new(start * 60_000, end * 60_000);
    let block =
        |range, resolution| Candidate { range, resolution, sources: Vec::new(), marked: false };
    let blocks = [block(minutes(0, 180), OneHour), block(minutes(75, 180), Raw)];
    let wanted = |end| WantedData { range: minutes(0, end), coarsest: Raw, fallback: Spans::all() };
    assert_eq!(choose(&blocks, &wanted(180))[0], Chosen { index: 0, range: minutes(-120, 120) });
    assert_eq!(choose(&blocks, &wanted(90))[0], Chosen { index: 0, range: minutes(-120, 120) });
}

#[test]
fn coarser_blocks_reach_beyond_the_range_by_their_windows() {
    let blocks = spans("1h 0-48\n1h 48-96\nraw 96-144");
    let wanted =
        |text: &str, coarsest| WantedData { range: range(text), coarsest, fallback: Spans::all() };
    let chosen = choose(&blocks, &wanted("49-50", Raw));
    let reach = |index| Chosen { index, range: TimeRange::new(47 * HOUR, 51 * HOUR) };
    assert_eq!(chosen, [reach(0), reach(1)]);
    let allowed = choose(&blocks, &wanted("49-50", OneHour));
    assert_eq!(allowed, [Chosen { index: 1, range: range("49-50") }]);
}

#[test]
fn coarser_blocks_serve_only_the_spans_they_are_asked_for() {
    let blocks = "5m 0-48 a\n5m 48-96 b\nraw 96-144 c";
    let within = |texts: &[&str]| texts.iter().map(|t| range(t)).collect::<Spans>();
    let raw = "raw 96-144 for 0-144";
    check_within(blocks, "0-144", Raw, within(&["10-20"]), &["5m 0-48 for 10-20", raw]);
    check_within(
        blocks,
        "0-144",
        Raw,
        within(&["40-60", "90-120"]),
        &["5m 0-48 for 40-60", "5m 48-96 for 40-96", raw],
    );
    check_within(blocks, "0-144", Raw, within(&["100-120"]), &[raw]);
    check_within(
        blocks,
        "0-144",
        FiveMinutes,
        within(&["10-20"]),
        &["5m 0-48 for 0-144", "5m 48-96 for 0-144", "raw 96-144 for 96-144"],
    );
}
