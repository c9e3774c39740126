use super::*;

const H: i64 = HOUR_MS;

fn block(n: u128, min_time: i64, max_time: i64) -> BlockMeta {
    let text = format!(
        r#"{{"ulid":"{}","minTime":{min_time},"maxTime":{max_time},"compaction":{{"level":1}},"version":1}}"#,
        BlockId::from_parts(1, n)
    );
    BlockMeta::from_json(text.as_bytes()).unwrap()
}

/// Blocks of the given hours, numbered from 0; the numbers that the planner picks.
fn picks(hours: &[(i64, i64)], excluded: &[usize]) -> Vec<usize> {
    let blocks: Vec<_> =
        hours.iter().enumerate().map(|(n, (a, b))| block(n as u128, a * H, b * H)).collect();
    picks_of(&blocks, excluded)
}

fn picks_of(blocks: &[BlockMeta], excluded: &[usize]) -> Vec<usize> {
    let marked = excluded.iter().map(|n| blocks[*n].ulid).collect();
    let refs: Vec<_> = blocks.iter().collect();
    let number = |b: &&BlockMeta| blocks.iter().position(|x| x.ulid == b.ulid).unwrap();
    plan(&refs, &marked).iter().map(number).collect()
}

#[test]
fn nothing_to_do_for_none_one_or_an_open_range() {
    assert_eq!(picks(&[], &[]), [0; 0]);
    assert_eq!(picks(&[(0, 2)], &[]), [0; 0]);
    assert_eq!(picks(&[(0, 2), (2, 4), (4, 6)], &[]), [0; 0]);
    assert_eq!(
        picks(&[(0, 2), (2, 4), (4, 6), (6, 8)], &[]),
        [0; 0],
        "the newest block closes no range"
    );
}

#[test]
fn a_full_range_is_compacted_once_a_newer_block_is_there() {
    assert_eq!(picks(&[(0, 2), (2, 4), (4, 6), (6, 8), (8, 10)], &[]), [0, 1, 2, 3]);
}

#[test]
fn a_range_with_gaps_is_compacted_once_it_is_past() {
    assert_eq!(
        picks(&[(0, 2), (4, 6), (8, 10)], &[]),
        [0; 0],
        "the block before the newest must be past the range"
    );
    assert_eq!(picks(&[(0, 2), (4, 6), (8, 10), (10, 12)], &[]), [0, 1]);
}

#[test]
fn smaller_ranges_go_first_and_alignment_is_kept() {
    assert_eq!(picks(&[(0, 8), (8, 16), (16, 18), (18, 20), (24, 26), (26, 28)], &[]), [2, 3]);
    assert_eq!(picks(&[(6, 8), (8, 10), (10, 12), (16, 18), (18, 20)], &[]), [1, 2]);
    assert_eq!(
        picks(&[(0, 8), (8, 16), (16, 24), (24, 32), (32, 40), (40, 48), (48, 56)], &[]),
        [0, 1, 2, 3, 4, 5]
    );
}

#[test]
fn overlaps_go_first_even_with_the_newest_block() {
    assert_eq!(picks(&[(0, 2), (2, 4), (3, 5), (5, 7)], &[]), [1, 2]);
    assert_eq!(picks(&[(0, 2), (0, 2)], &[]), [0, 1]);
    assert_eq!(
        picks(&[(0, 10), (2, 3), (9, 12), (20, 30), (25, 26)], &[]),
        [0, 1, 2],
        "one run at a time"
    );
}

#[test]
fn an_excluded_block_splits_its_range() {
    let hours = [(0, 2), (2, 4), (4, 6), (6, 8), (8, 10)];
    assert_eq!(picks(&hours, &[0]), [1, 2, 3]);
    assert_eq!(picks(&hours, &[2]), [0, 1]);
    assert_eq!(picks(&hours, &[1]), [2, 3]);
    assert_eq!(picks(&hours, &[1, 2]), [0; 0]);
    assert_eq!(picks(&[(0, 2), (1, 3)], &[1]), [0; 0], "an excluded block overlaps nothing");
}

#[test]
fn a_failed_block_keeps_its_range_from_being_planned() {
    let mut blocks: Vec<_> = (0..5).map(|n| block(n as u128, n * 2 * H, (n + 1) * 2 * H)).collect();
    blocks[1].compaction.failed = true;
    assert_eq!(picks_of(&blocks, &[]), [0; 0]);
}

#[test]
fn a_block_with_many_tombstones_is_rewritten_alone() {
    let mut blocks = vec![block(0, 0, 8 * H), block(1, 8 * H, 16 * H), block(2, 16 * H, 24 * H)];
    blocks[1].stats.num_series = 99;
    blocks[1].stats.num_tombstones = 6;
    assert_eq!(picks_of(&blocks, &[]), [1]);
    blocks[1].stats.num_tombstones = 5;
    assert_eq!(picks_of(&blocks, &[]), [0; 0]);
}

#[test]
fn ranges_before_the_epoch_align_downwards() {
    assert_eq!(picks(&[(-8, -6), (-6, -4), (-4, -2), (-2, 0), (0, 2)], &[]), [0, 1, 2, 3]);
}
