use std::ops::Range;

use block::marker::DeletionMark;
use model::TimestampMs;

use super::*;

fn synced(n: u128, resolution: Resolution, parquet: bool, sources: &[u128]) -> SyncedBlock {
    let id = |n| BlockId::from_parts(0, n);
    let json = format!(
        r#"{{"ulid":"{}","minTime":0,"maxTime":10,"stats":{{}},"compaction":{{"level":1,"sources":[]}},"version":1,"thanos":{{"labels":{{"a":"b"}},"downsample":{{"resolution":{}}},"source":"test"}}}}"#,
        id(n),
        resolution.millis()
    );
    let mut meta = BlockMeta::from_json(json.as_bytes()).unwrap();
    meta.compaction.sources = sources.iter().map(|n| id(*n)).collect();
    let labels = meta.external_labels();
    let location = if parquet {
        BlockLocation::parquet(&labels, resolution, id(n))
    } else {
        BlockLocation::tsdb(id(n))
    };
    SyncedBlock {
        location,
        labels,
        meta: Arc::new(meta),
        deletion_mark: None,
        no_compact_mark: None,
        no_downsample_mark: None,
        tombstones: None,
        bytes: 0,
    }
}

/// The numbers of those of these blocks (number, is Parquet, sources) at one resolution that are
/// served.
fn kept(resolution: Resolution, blocks: &[(u128, bool, &[u128])]) -> Vec<u128> {
    kept_with_marks(resolution, blocks, &[])
}

/// As [`kept`], where the blocks of these numbers are to be deleted.
fn kept_with_marks(
    resolution: Resolution,
    blocks: &[(u128, bool, &[u128])],
    marked: &[u128],
) -> Vec<u128> {
    let one = |(n, parquet, sources): &(u128, bool, &[u128])| {
        let mut block = synced(*n, resolution, *parquet, sources);
        let mark = DeletionMark::new(block.id(), TimestampMs(0), "test");
        block.deletion_mark = marked.contains(n).then_some(mark);
        block
    };
    let all: Vec<SyncedBlock> = blocks.iter().map(one).collect();
    let served = ServedBlocks::new(&all, TimeRange::ALL);
    let number = |b: &Arc<ServedBlock>| {
        blocks.iter().find(|(n, ..)| BlockId::from_parts(0, *n) == b.id()).unwrap().0
    };
    let mut numbers: Vec<u128> = served.blocks().map(number).collect();
    numbers.sort_unstable();
    numbers
}

#[test]
fn of_two_formats_the_one_that_holds_more_is_kept_and_of_equals_parquet() {
    let r = Resolution::FiveMinutes;
    assert_eq!(kept(r, &[(1, false, &[1, 2]), (2, true, &[1, 2])]), [2]);
    assert_eq!(kept(r, &[(1, false, &[1, 2, 3]), (2, true, &[1, 2])]), [1]);
    assert_eq!(kept(r, &[(1, false, &[1]), (2, false, &[2]), (3, true, &[1, 2])]), [3]);
    assert_eq!(
        kept(r, &[(1, false, &[1, 4]), (2, true, &[1, 2])]),
        [1, 2],
        "each has something of its own"
    );
    assert_eq!(kept(r, &[(1, false, &[]), (2, true, &[])]), [1, 2], "each is its own source");
    assert_eq!(kept(r, &[(1, false, &[]), (2, true, &[1])]), [2]);
    assert_eq!(
        kept(r, &[(1, true, &[1]), (2, true, &[1, 2])]),
        [1, 2],
        "one format is the sync's business"
    );
}

#[test]
fn a_marked_copy_hides_no_unmarked_one() {
    let r = Resolution::FiveMinutes;
    let equal: [(u128, bool, &[u128]); 2] = [(1, false, &[1, 2]), (2, true, &[1, 2])];
    assert_eq!(kept_with_marks(r, &equal, &[2]), [1]);
    assert_eq!(kept_with_marks(r, &equal, &[1]), [2]);
    assert_eq!(kept_with_marks(r, &equal, &[1, 2]), [1, 2]);
    assert_eq!(kept_with_marks(r, &[(1, false, &[1]), (2, true, &[1, 2])], &[2]), [1, 2]);
    assert_eq!(kept_with_marks(r, &[(1, false, &[1]), (2, true, &[1, 2])], &[1]), [2]);
}

#[test]
fn a_copy_that_spans_less_hides_nothing() {
    let (copy, other) =
        (spanning(1, Resolution::OneHour, 0..10), synced(2, Resolution::OneHour, false, &[1]));
    assert_eq!(ServedBlocks::new(&[copy, other.clone()], TimeRange::ALL).blocks().count(), 1);
    let shorter = spanning(1, Resolution::OneHour, 0..9);
    assert_eq!(ServedBlocks::new(&[shorter, other], TimeRange::ALL).blocks().count(), 2);
}

#[test]
fn other_labels_are_other_groups() {
    let mut other = synced(2, Resolution::FiveMinutes, true, &[1]);
    other.labels = Labels::from_pairs([("a", "c")]);
    let served = ServedBlocks::new(
        &[synced(1, Resolution::FiveMinutes, false, &[1]), other],
        TimeRange::ALL,
    );
    assert_eq!(served.blocks().count(), 2);
    let wanted = WantedData {
        range: TimeRange::ALL,
        coarsest: Resolution::OneHour,
        fallback: Spans::default(),
    };
    let matchers = [Matcher::equal("a", "c"), Matcher::equal("x", "y")];
    let picks = served.pick(&matchers, &wanted);
    let [pick] = &picks[..] else { panic!("{picks:?}") };
    assert_eq!(
        (pick.block.labels.to_string(), &pick.matchers[..]),
        (r#"{a="c"}"#.into(), &matchers[1..])
    );
}

fn spanning(n: u128, resolution: Resolution, range: Range<i64>) -> SyncedBlock {
    let mut block = synced(n, resolution, resolution != Resolution::Raw, &[n]);
    let mut meta = (*block.meta).clone();
    (meta.min_time, meta.max_time) = (range.start, range.end);
    block.meta = Arc::new(meta);
    block
}

#[test]
fn what_is_said_of_resolutions_has_the_gaps_they_have() {
    use Resolution::{FiveMinutes, OneHour, Raw};
    let blocks = [
        spanning(1, Raw, 0..10),
        spanning(2, Raw, 10..20),
        spanning(3, Raw, 30..40),
        spanning(4, FiveMinutes, 0..50),
        spanning(5, OneHour, 60..80),
    ];
    let info = ServedBlocks::new(&blocks, TimeRange::new(5, 70)).info();
    let spans = |spans: &[(i64, i64)]| {
        spans.iter().map(|(start, end)| TimeRange::new(*start, *end)).collect::<Spans>()
    };
    let [first, second] = &info.tsdb_infos[..] else { panic!("{info:?}") };
    assert_eq!((first.range, second.range), (TimeRange::new(0, 50), TimeRange::new(60, 80)));
    let fine = Coverage::default()
        .with(Raw, spans(&[(5, 20), (30, 40)]))
        .with(FiveMinutes, spans(&[(5, 50)]));
    assert_eq!(first.coverage, Some(fine));
    assert_eq!(second.coverage, Some(Coverage::default().with(OneHour, spans(&[(60, 70)]))));
}
