//! What speaks against a block that says it holds the data of another one, as far as their
//! `meta.json` tell.
//!
//! A block claims the data of all blocks whose sources are among its own. Anybody can write that,
//! so nothing may be deleted because of it; but who only reads has no time to count what is in the
//! blocks.

use tsdb::meta::BlockMeta;

/// Whether the time of `outer` has all of that of `inner`. What is made of blocks spans them.
pub fn spans(outer: &BlockMeta, inner: &BlockMeta) -> bool {
    outer.min_time <= inner.min_time && inner.max_time <= outer.max_time
}

/// Whether `outer` can hold what `inner` holds. How many series and samples it has decides nothing,
/// unless it has none: those of replicas become one, and what was deleted is gone on purpose.
pub fn can_hold(outer: &BlockMeta, inner: &BlockMeta) -> bool {
    let lacks = |outer: u64, inner: u64| outer == 0 && inner > 0;
    let (theirs, ours) = (&outer.stats, &inner.stats);
    spans(outer, inner)
        && !lacks(theirs.num_series, ours.num_series)
        && !lacks(theirs.num_samples, ours.num_samples)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta(min_time: i64, max_time: i64, series: u64, samples: u64) -> BlockMeta {
        let json = format!(
            r#"{{"ulid":"01KE0000000000000000000001","minTime":{min_time},"maxTime":{max_time},"stats":{{"numSeries":{series},"numSamples":{samples}}},"compaction":{{"level":1}},"version":1}}"#
        );
        BlockMeta::from_json(json.as_bytes()).unwrap()
    }

    #[test]
    fn only_what_cannot_be_speaks_against_a_claim() {
        let inner = meta(10, 20, 5, 100);
        assert!(can_hold(&meta(10, 20, 5, 100), &inner));
        assert!(can_hold(&meta(0, 30, 9, 900), &inner));
        assert!(can_hold(&meta(0, 30, 1, 1), &inner), "the rest may be deleted");
        assert!(!can_hold(&meta(11, 30, 9, 900), &inner));
        assert!(!can_hold(&meta(0, 19, 9, 900), &inner));
        assert!(!can_hold(&meta(0, 30, 0, 900), &inner));
        assert!(!can_hold(&meta(0, 30, 9, 0), &inner));
        let unstated = meta(10, 20, 0, 0);
        assert!(can_hold(&meta(0, 30, 0, 0), &unstated));
        assert!(!can_hold(&meta(0, 30, 0, 0), &inner));
    }
}
