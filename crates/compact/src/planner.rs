//! Which blocks of one group to compact next.
//!
//! The rules are those of Prometheus' leveled planner as Thanos applies it to a bucket, so that a
//! bucket ends up with the same raw blocks whichever compactor works on it: overlapping blocks
//! first, then the smallest range that is complete, then blocks with many tombstones. The newest
//! block is left alone: more may still come for its range.

use std::collections::BTreeSet;

use model::BlockId;
use tsdb::meta::BlockMeta;

const HOUR_MS: i64 = 3_600_000;

/// The ranges blocks grow through, in milliseconds: 2 h, 8 h, 2 d, 14 d.
pub(crate) const RANGES_MS: [i64; 4] = [2 * HOUR_MS, 8 * HOUR_MS, 48 * HOUR_MS, 14 * 24 * HOUR_MS];

/// Blocks at least this long are rewritten for their tombstones alone.
const TOMBSTONE_MIN_RANGE_MS: i64 = 8 * HOUR_MS;
const TOMBSTONE_MIN_SHARE: f64 = 0.05;

/// The blocks to compact together next; empty when nothing is to do. `blocks` are one group's, in
/// any order; `no_compact` are those that carry a no-compact mark.
pub(crate) fn plan<'a>(
    blocks: &[&'a BlockMeta],
    no_compact: &BTreeSet<BlockId>,
) -> Vec<&'a BlockMeta> {
    let mut all = blocks.to_vec();
    all.sort_by_key(|b| (b.min_time, b.max_time, b.ulid));
    let mut included: Vec<&BlockMeta> =
        all.iter().copied().filter(|b| !no_compact.contains(&b.ulid)).collect();

    let overlapping = first_overlap(&included);
    if !overlapping.is_empty() {
        return overlapping;
    }
    if let Some(newest) = all.pop()
        && !no_compact.contains(&newest.ulid)
    {
        included.pop();
    }
    let by_range = complete_range(&all, no_compact);
    if !by_range.is_empty() {
        return by_range;
    }
    many_tombstones(&included)
}

/// All blocks of the first run of overlapping ones.
fn first_overlap<'a>(sorted: &[&'a BlockMeta]) -> Vec<&'a BlockMeta> {
    let mut run: Vec<&BlockMeta> = Vec::new();
    let Some(first) = sorted.first() else { return run };
    let mut run_end = first.max_time;
    for (previous, block) in sorted.iter().zip(&sorted[1..]) {
        if block.min_time < run_end {
            if run.is_empty() {
                run.push(previous);
            }
            run.push(block);
        } else if !run.is_empty() {
            break;
        }
        run_end = run_end.max(block.max_time);
    }
    run
}

/// The blocks of the first range, smallest ranges first, that is full or lies before the newest
/// block.
fn complete_range<'a>(
    sorted: &[&'a BlockMeta],
    no_compact: &BTreeSet<BlockId>,
) -> Vec<&'a BlockMeta> {
    let Some(newest) = sorted.last() else { return Vec::new() };
    for range_ms in RANGES_MS {
        for part in split_by_range(sorted, range_ms) {
            if part.len() < 2 || part.iter().any(|b| b.compaction.failed) {
                continue;
            }
            let (start, end) = (part[0].min_time, part[part.len() - 1].max_time);
            if end - start != range_ms && end > newest.min_time {
                continue;
            }
            // an excluded block splits the range, the parts on both sides keep their alignment
            let is_excluded = |b: &&BlockMeta| no_compact.contains(&b.ulid);
            if let Some(piece) = part.split(is_excluded).find(|piece| piece.len() > 1) {
                return piece.to_vec();
            }
        }
    }
    Vec::new()
}

/// Cuts blocks into those that share one aligned range; blocks that straddle a border are left out.
fn split_by_range<'a>(sorted: &[&'a BlockMeta], range_ms: i64) -> Vec<Vec<&'a BlockMeta>> {
    let mut parts: Vec<(i64, Vec<&BlockMeta>)> = Vec::new();
    for block in sorted {
        let start = block.min_time.div_euclid(range_ms) * range_ms;
        match parts.last_mut() {
            // what fits behind the block before it belongs to that block's range
            Some((open, part)) if block.max_time <= *open + range_ms => part.push(block),
            _ if block.max_time <= start + range_ms => parts.push((start, vec![block])),
            _ => {}
        }
    }
    parts.into_iter().map(|(_, part)| part).collect()
}

fn many_tombstones<'a>(sorted: &[&'a BlockMeta]) -> Vec<&'a BlockMeta> {
    let long_enough = |b: &&&BlockMeta| b.max_time - b.min_time >= TOMBSTONE_MIN_RANGE_MS;
    let share = |b: &BlockMeta| b.stats.num_tombstones as f64 / (b.stats.num_series + 1) as f64;
    let found =
        sorted.iter().rev().take_while(long_enough).find(|b| share(b) > TOMBSTONE_MIN_SHARE);
    found.map(|b| vec![*b]).unwrap_or_default()
}

#[cfg(test)]
mod tests;
