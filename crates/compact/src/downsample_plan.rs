//! Which raw blocks still lack their downsampled copies.
//!
//! Parquet: a raw block of at least 40 h (the 2 d blocks and up) is downsampled at once; shorter
//! ones once the 2 d range they lie in ended more than 2 d ago, because then nothing will complete
//! it any more. Thanos' own blocks follow Thanos' rules: 5m from raw blocks of at least 40 h, 1h
//! from 5m blocks of at least 10 d.

use std::collections::BTreeSet;

use model::{BlockId, Resolution};
use tsdb::meta::BlockMeta;

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;

/// A raw block at least this long is worth downsampling at once.
pub(crate) const MIN_RAW_SPAN_MS: i64 = 40 * HOUR_MS;
/// Thanos makes 1h blocks from 5m blocks at least this long.
pub(crate) const MIN_5M_SPAN_MS: i64 = 10 * DAY_MS;

/// One block to read and the resolutions to write from it, finest first.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Downsampling<'a> {
    pub(crate) input: &'a BlockMeta,
    pub(crate) resolutions: Vec<Resolution>,
}

/// What to write as Parquet. `raw` and `parquet` are the blocks of one label set.
pub(crate) fn plan_parquet<'a>(
    raw: &[&'a BlockMeta],
    parquet: &[&BlockMeta],
    now_ms: i64,
) -> Vec<Downsampling<'a>> {
    let due = |block: &BlockMeta| {
        let range_end = (block.max_time - 1).div_euclid(2 * DAY_MS) * 2 * DAY_MS + 2 * DAY_MS;
        span(block) >= MIN_RAW_SPAN_MS || range_end.saturating_add(2 * DAY_MS) < now_ms
    };
    let mut work = Vec::new();
    for input in raw.iter().filter(|b| b.resolution() == Resolution::Raw && due(b)) {
        let lacking = |resolution: &Resolution| !is_covered(input, parquet, *resolution);
        let resolutions: Vec<_> =
            [Resolution::FiveMinutes, Resolution::OneHour].into_iter().filter(lacking).collect();
        if !resolutions.is_empty() {
            work.push(Downsampling { input, resolutions });
        }
    }
    work
}

/// What to write as Thanos' downsampled blocks. `blocks` are all TSDB blocks of one label set, of
/// every resolution.
pub(crate) fn plan_thanos<'a>(blocks: &[&'a BlockMeta]) -> Vec<Downsampling<'a>> {
    let mut work = Vec::new();
    for input in blocks {
        let (next, min_span) = match input.resolution() {
            Resolution::Raw => (Resolution::FiveMinutes, MIN_RAW_SPAN_MS),
            Resolution::FiveMinutes => (Resolution::OneHour, MIN_5M_SPAN_MS),
            Resolution::OneHour => continue,
        };
        if span(input) >= min_span && !is_covered_together(input, blocks, next) {
            work.push(Downsampling { input, resolutions: vec![next] });
        }
    }
    work
}

/// How long a block is, in milliseconds.
pub(crate) fn span(block: &BlockMeta) -> i64 {
    block.max_time - block.min_time
}

/// Whether one block of `resolution` was made from everything that went into `input`.
pub(crate) fn is_covered(input: &BlockMeta, copies: &[&BlockMeta], resolution: Resolution) -> bool {
    let holds = |copy: &&&BlockMeta| copy.resolution() == resolution && has_sources_of(copy, input);
    copies.iter().any(|copy| holds(&copy))
}

/// Whether blocks of `resolution` hold, all together, what went into `input`; Thanos' rule.
fn is_covered_together(input: &BlockMeta, blocks: &[&BlockMeta], resolution: Resolution) -> bool {
    let of_resolution = blocks.iter().filter(|b| b.resolution() == resolution);
    let held: BTreeSet<BlockId> = of_resolution.flat_map(|b| b.sources().iter().copied()).collect();
    input.sources().iter().all(|source| held.contains(source))
}

/// Whether everything that went into `inner` went into `outer` too.
pub(crate) fn has_sources_of(outer: &BlockMeta, inner: &BlockMeta) -> bool {
    inner.sources().iter().all(|source| outer.sources().contains(source))
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use super::*;

    /// A block over the given hours, made of the sources with the given numbers.
    fn block(resolution: Resolution, hours: Range<i64>, sources: &[u128]) -> BlockMeta {
        let sources: Vec<_> = sources.iter().map(|n| BlockId::from_parts(1, *n)).collect();
        let value = serde_json::json!({
            "ulid": BlockId::from_parts(9, hours.start as u128),
            "minTime": hours.start * HOUR_MS,
            "maxTime": hours.end * HOUR_MS,
            "compaction": {"level": 1, "sources": sources}, "version": 1,
            "thanos": {"labels": {"a": "b"}, "downsample": {"resolution": resolution.millis()}, "source": "test"},
        });
        BlockMeta::from_json(value.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn long_blocks_are_downsampled_at_once_and_short_ones_when_their_range_is_past() {
        let long = block(Resolution::Raw, 0..48, &[1]);
        let short = block(Resolution::Raw, 48..56, &[2]);
        let both = [&long, &short];
        let five_and_hour = vec![Resolution::FiveMinutes, Resolution::OneHour];
        let planned = plan_parquet(&both, &[], 57 * HOUR_MS);
        assert_eq!(planned, [Downsampling { input: &long, resolutions: five_and_hour.clone() }]);
        assert_eq!(
            plan_parquet(&both, &[], 144 * HOUR_MS).len(),
            1,
            "the range may still be completed"
        );
        assert_eq!(plan_parquet(&both, &[], 144 * HOUR_MS + 1).len(), 2);
    }

    #[test]
    fn only_what_lacks_is_written() {
        let raw = block(Resolution::Raw, 0..336, &[1, 2]);
        let part = block(Resolution::FiveMinutes, 0..48, &[1]);
        let whole = block(Resolution::OneHour, 0..336, &[1, 2, 3]);
        let planned = plan_parquet(&[&raw], &[&part, &whole], 0);
        assert_eq!(
            planned[0].resolutions,
            [Resolution::FiveMinutes],
            "a copy of a part does not count"
        );
    }

    #[test]
    fn thanos_blocks_follow_thanos_rules() {
        let raw = block(Resolution::Raw, 0..336, &[1, 2]);
        let five = block(Resolution::FiveMinutes, 0..336, &[1, 2]);
        let short = block(Resolution::Raw, 336..344, &[3]);
        assert_eq!(plan_thanos(&[&raw, &short])[0].resolutions, [Resolution::FiveMinutes]);
        let planned = plan_thanos(&[&raw, &five, &short]);
        assert_eq!(
            planned,
            [Downsampling { input: &five, resolutions: vec![Resolution::OneHour] }]
        );
        let half = block(Resolution::FiveMinutes, 0..168, &[1]);
        let other = block(Resolution::FiveMinutes, 168..336, &[2]);
        let planned = plan_thanos(&[&raw, &half, &other]);
        assert!(planned.iter().all(|w| w.input != &raw), "covered by two blocks together");
    }
}
