//! Which ranges to fetch so that all ranges wanted are covered by few requests.

use std::ops::Range;

use bytes::Bytes;

#[derive(Debug)]
pub(super) struct FetchPlan {
    wanted: Vec<Range<u64>>,
    /// Those of them that are not empty.
    sorted: Vec<Range<u64>>,
    /// Sorted, apart from each other.
    fetches: Vec<Range<u64>>,
}

/// Which ranges are joined.
#[derive(Clone, Copy, Debug)]
pub(super) struct Joining {
    /// Those that lie no further apart.
    pub(super) gap: u64,
    /// As long as the result is no longer.
    pub(super) max: u64,
}

impl FetchPlan {
    /// What lies between joined ranges is in memory for a while too; so all of it together is no
    /// more than what is wanted, or than a little, and the shortest gaps are closed first.
    pub(super) fn new(wanted: &[Range<u64>], joining: Joining) -> FetchPlan {
        let mut sorted: Vec<Range<u64>> =
            wanted.iter().filter(|r| r.start < r.end).cloned().collect();
        sorted.sort_unstable_by_key(|r| (r.start, r.end));
        let Joining { gap, max } = joining;
        let gap = affordable_gap(&sorted, gap);
        let mut fetches: Vec<Range<u64>> = Vec::new();
        for range in sorted.iter().cloned() {
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
        FetchPlan { wanted: wanted.to_vec(), sorted, fetches }
    }

    pub(super) fn fetches(&self) -> &[Range<u64>] {
        &self.fetches
    }

    /// What is kept of a fetch: all of it, or, where more than a quarter of it only lay between,
    /// copies of the rest, so that nothing else stays in memory. A short one is copied too, because
    /// it may be a part of a larger buffer of the connection.
    pub(super) fn kept(&self, fetched: Piece) -> Vec<Piece> {
        const SHORT: usize = 512 << 10;
        let runs = self.runs(&fetched.range);
        let wanted: u64 = runs.iter().map(|run| run.end - run.start).sum();
        if wanted >= fetched.bytes.len() as u64 / 4 * 3 {
            let is_short = fetched.bytes.len() < SHORT;
            let copy = || Bytes::copy_from_slice(&fetched.bytes);
            let bytes = if is_short { copy() } else { fetched.bytes.clone() };
            return vec![Piece { bytes, range: fetched.range }];
        }
        let copy = |run| Piece { bytes: Bytes::copy_from_slice(&fetched.cut(&run)), range: run };
        runs.into_iter().map(copy).collect()
    }

    /// The wanted parts of a fetch, those close together as one.
    fn runs(&self, fetch: &Range<u64>) -> Vec<Range<u64>> {
        /// What it costs to keep one more piece.
        const CLOSE: u64 = 512;
        let from = self.sorted.partition_point(|range| range.start < fetch.start);
        let inside = self.sorted[from..].iter().take_while(|range| range.start < fetch.end);
        let mut runs: Vec<Range<u64>> = Vec::new();
        for range in inside {
            match runs.last_mut().filter(|last| range.start <= last.end + CLOSE) {
                Some(last) => last.end = last.end.max(range.end),
                None => runs.push(range.clone()),
            }
        }
        runs
    }

    /// The ranges wanted out of pieces that hold them, in order and apart from each other; shorter
    /// where the object ended.
    pub(super) fn cut(&self, pieces: &[Piece]) -> Vec<Bytes> {
        let cut = |range: &Range<u64>| {
            let at = pieces.partition_point(|piece| piece.range.end < range.end);
            let piece = pieces.get(at).filter(|piece| piece.range.start <= range.start);
            piece.map(|piece| piece.cut(range)).unwrap_or_default()
        };
        self.wanted.iter().map(cut).collect()
    }
}

/// The longest gap, up to `most`, up to which all gaps together are affordable.
fn affordable_gap(sorted: &[Range<u64>], most: u64) -> u64 {
    const LITTLE: u64 = 1 << 20;
    let (mut gaps, mut wanted, mut end) = (Vec::new(), 0u64, None::<u64>);
    for range in sorted {
        wanted = wanted.saturating_add(range.end - range.start);
        let gap = end.map_or(0, |end| range.start.saturating_sub(end));
        if gap > 0 && gap <= most {
            gaps.push(gap);
        }
        end = Some(end.unwrap_or(0).max(range.end));
    }
    let affordable = wanted.max(LITTLE);
    if gaps.iter().sum::<u64>() <= affordable {
        return most;
    }
    gaps.sort_unstable();
    let mut sum = 0;
    let closed = gaps.iter().take_while(|gap| {
        sum += **gap;
        sum <= affordable
    });
    match closed.count() {
        0 => 0,
        // of gaps of one length, all or none
        count if gaps[count - 1] == gaps[count] => gaps[count] - 1,
        count => gaps[count - 1],
    }
}

/// A part of an object; its bytes are fewer than its range where the object ended.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    pub(super) range: Range<u64>,
    pub(super) bytes: Bytes,
}

impl Piece {
    /// A range that begins in this piece, as far as there are bytes.
    pub(super) fn cut(&self, range: &Range<u64>) -> Bytes {
        let place = |at: u64| {
            let offset = usize::try_from(at - self.range.start).unwrap_or(usize::MAX);
            offset.min(self.bytes.len())
        };
        self.bytes.slice(place(range.start)..place(range.end.max(range.start)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_only_lay_between_is_not_kept() {
        let joining = Joining { gap: 1 << 20, max: 1 << 20 };
        let plan = FetchPlan::new(&[0..1000, 1100..2000, 90_000..91_000], joining);
        let fetched = Piece { range: 0..91_000, bytes: vec![7; 91_000].into() };
        let kept: Vec<_> = plan.kept(fetched).into_iter().map(|piece| piece.range).collect();
        assert_eq!(kept, [0..2000, 90_000..91_000]);
        let whole = Piece { range: 0..2000, bytes: vec![7; 2000].into() };
        let plan = FetchPlan::new(&[0..1000, 1100..2000], joining);
        assert_eq!(plan.kept(whole).len(), 1);
    }

    #[test]
    fn what_lies_between_is_no_more_than_what_is_wanted() {
        let mib = |from: u64, to: u64| from << 20..to << 20;
        let joining = Joining { gap: 64 << 20, max: 1 << 30 };
        // gaps of 1, 2 and 4 MiB between 4 MiB
        let wanted = [mib(0, 1), mib(2, 3), mib(5, 6), mib(10, 11)];
        assert_eq!(FetchPlan::new(&wanted, joining).fetches(), [mib(0, 6), mib(10, 11)]);
        // of equal gaps all or none
        let wanted = [mib(0, 1), mib(3, 4), mib(6, 7), mib(9, 10)];
        assert_eq!(FetchPlan::new(&wanted, joining).fetches(), wanted);
        // a little is always affordable
        let wanted = [0..10, 500_000..500_010, 1_000_000..1_000_010];
        let whole = std::slice::from_ref(&(0..1_000_010));
        assert_eq!(FetchPlan::new(&wanted, joining).fetches(), whole);
    }

    #[test]
    fn neighbours_join_and_far_ones_do_not() {
        let plan = FetchPlan::new(&[100..110, 0..10, 15..20], Joining { gap: 5, max: 1000 });
        assert_eq!(plan.fetches(), [0..20, 100..110]);
        let joining = Joining { gap: 5, max: 20 };
        assert_eq!(FetchPlan::new(&[0..10, 10..20, 20..30], joining).fetches(), [0..20, 20..30]);
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
            let plan = FetchPlan::new(&wanted, Joining { gap, max });
            prop_assert!(plan.fetches().windows(2).all(|w| w[0].end <= w[1].start));
            let part = |r: &Range<u64>| object[(r.start as usize).min(250)..(r.end as usize).min(250)].to_vec();
            let fetched = plan.fetches().iter();
            let fetched = fetched.map(|r| Piece { range: r.clone(), bytes: part(r).into() });
            let pieces: Vec<Piece> = fetched.flat_map(|piece| plan.kept(piece)).collect();
            prop_assert!(pieces.windows(2).all(|w| w[0].range.end <= w[1].range.start));
            for (range, bytes) in wanted.iter().zip(plan.cut(&pieces)) {
                prop_assert_eq!(bytes, part(range));
            }
        }
    }
}
