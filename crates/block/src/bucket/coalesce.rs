//! Which ranges to fetch so that all ranges wanted are covered by few requests.

use std::ops::Range;

use bytes::Bytes;

#[derive(Debug)]
pub(super) struct FetchPlan {
    wanted: Vec<Range<u64>>,
    /// Sorted, apart from each other.
    fetches: Vec<Range<u64>>,
}

impl FetchPlan {
    /// Ranges closer than `gap` are joined as long as the result is no longer than `max`.
    pub(super) fn new(wanted: &[Range<u64>], gap: u64, max: u64) -> FetchPlan {
        let mut sorted: Vec<Range<u64>> =
            wanted.iter().filter(|r| r.start < r.end).cloned().collect();
        sorted.sort_unstable_by_key(|r| (r.start, r.end));
        let mut fetches: Vec<Range<u64>> = Vec::new();
        for range in sorted {
            match fetches.last_mut() {
                // what overlaps must be one, however long: each range wanted is cut from one fetch
                Some(last)
                    if range.start < last.end
                        || (range.start - last.end <= gap
                            && range.end.saturating_sub(last.start) <= max) =>
                {
                    last.end = last.end.max(range.end);
                }
                _ => fetches.push(range),
            }
        }
        FetchPlan { wanted: wanted.to_vec(), fetches }
    }

    pub(super) fn fetches(&self) -> &[Range<u64>] {
        &self.fetches
    }

    /// The ranges wanted out of what was fetched; shorter where the object ended.
    pub(super) fn cut(&self, fetched: &[Bytes]) -> Vec<Bytes> {
        let cut = |range: &Range<u64>| {
            let at = self.fetches.partition_point(|f| f.end < range.end);
            let Some((fetch, bytes)) = self.fetches.get(at).zip(fetched.get(at)) else {
                return Bytes::new();
            };
            if range.start < fetch.start {
                return Bytes::new();
            }
            let clamp =
                |offset: u64| usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
            let (from, to) = (clamp(range.start - fetch.start), clamp(range.end - fetch.start));
            bytes.slice(from..to.max(from))
        };
        self.wanted.iter().map(cut).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn neighbours_join_and_far_ones_do_not() {
        let plan = FetchPlan::new(&[100..110, 0..10, 15..20], 5, 1000);
        assert_eq!(plan.fetches(), [0..20, 100..110]);
        assert_eq!(FetchPlan::new(&[0..10, 10..20, 20..30], 5, 20).fetches(), [0..20, 20..30]);
    }

    proptest! {
        #[test]
        fn every_range_gets_its_bytes(
            wanted in proptest::collection::vec((0..300u64, 0..40u64), 0..20),
            gap in 0..20u64,
            max in 1..200u64,
        ) {
            let object: Vec<u8> = (0..250).collect();
            let wanted: Vec<Range<u64>> = wanted.into_iter().map(|(start, len)| start..start + len).collect();
            let plan = FetchPlan::new(&wanted, gap, max);
            prop_assert!(plan.fetches().windows(2).all(|w| w[0].end <= w[1].start));
            let part = |r: &Range<u64>| object[(r.start as usize).min(250)..(r.end as usize).min(250)].to_vec();
            let fetched: Vec<Bytes> = plan.fetches().iter().map(|r| part(r).into()).collect();
            for (range, bytes) in wanted.iter().zip(plan.cut(&fetched)) {
                prop_assert_eq!(bytes, part(range));
            }
        }
    }
}
