//! Which blocks answer a span of time.
//!
//! For each span: the coarsest resolution that is allowed; where it has no block, the next finer
//! (Thanos' `bucketBlockSet.getFor`); and only where nothing allowed exists, the next coarser, if
//! the caller takes that. A block that fills gaps answers only for the gaps.

use std::collections::{BTreeMap, HashSet};

use model::{BlockId, Resolution, TimeRange};
use storeapi::Spans;

/// What the choice knows of a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub(crate) range: TimeRange,
    pub(crate) resolution: Resolution,
    /// The blocks its data came from.
    pub(crate) sources: Vec<BlockId>,
    /// The block is marked for deletion.
    pub(crate) marked: bool,
}

/// What a request wants.
#[derive(Clone, Debug)]
pub(crate) struct WantedData {
    pub(crate) range: TimeRange,
    /// The coarsest resolution allowed.
    pub(crate) coarsest: Resolution,
    /// Where coarser ones are better than nothing.
    pub(crate) fallback: Spans,
}

impl WantedData {
    /// Where data comes coarser than allowed, its windows are longer than the range asked for, and
    /// those beside the range are read too.
    ///
    /// Queriers that know about resolutions ask for that reach themselves; then it is doubled,
    /// which costs a window at either end. It is still needed: older queriers ask only for their
    /// range, and so does a querier that does not know what this store holds.
    fn with_reach(&self, range: TimeRange, resolution: Resolution) -> TimeRange {
        if resolution <= self.coarsest {
            return range;
        }
        let reach = resolution.with_neighbours(self.range);
        let start = if range.start == self.range.start { reach.start } else { range.start };
        let end = if range.end == self.range.end { reach.end } else { range.end };
        TimeRange::new(start, end)
    }
}

/// The block at `index` answers for `range`, which lies within what was wanted, coarser data than
/// allowed a little beyond it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Chosen {
    pub(crate) index: usize,
    pub(crate) range: TimeRange,
}

/// Chooses among the blocks of one set of external labels, sorted by the start of their ranges.
/// Choices come in the same order.
pub(crate) fn choose(spans: &[Candidate], wanted: &WantedData) -> Vec<Chosen> {
    let mut chosen = Filled(BTreeMap::new());
    let mut gaps = if wanted.range.is_empty() { Vec::new() } else { vec![wanted.range] };
    let of = |resolution: Resolution,
              keep: &dyn Fn(&Candidate) -> bool|
     -> Vec<(usize, TimeRange)> {
        let kept = spans.iter().enumerate().filter(|(_, s)| s.resolution == resolution && keep(s));
        kept.map(|(index, s)| (index, s.range)).collect()
    };
    let (allowed, coarser): (Vec<Resolution>, Vec<Resolution>) =
        Resolution::ALL.into_iter().partition(|r| *r <= wanted.coarsest);
    for resolution in allowed.into_iter().rev() {
        gaps = chosen.fill(&gaps, &of(resolution, &|_| true));
    }
    let mut gaps: Vec<TimeRange> =
        gaps.into_iter().collect::<Spans>().intersect(&wanted.fallback).iter().collect();
    if !gaps.is_empty() {
        // A block that is marked for deletion is no reason to leave out another.
        let finer = spans.iter().filter(|s| s.resolution <= wanted.coarsest && !s.marked);
        let known: HashSet<BlockId> = finer.flat_map(|s| s.sources.iter().copied()).collect();
        // A block made only of blocks that exist has nothing to add: where they have a gap, it has
        // one too.
        let adds = |span: &Candidate| {
            span.sources.is_empty() || !span.sources.iter().all(|s| known.contains(s))
        };
        for resolution in coarser {
            let reaching: Vec<TimeRange> =
                gaps.iter().map(|gap| wanted.with_reach(*gap, resolution)).collect();
            let open = chosen.fill(&reaching, &of(resolution, &adds)).into_iter();
            gaps =
                open.map(|gap| gap.intersect(wanted.range)).filter(|gap| !gap.is_empty()).collect();
        }
    }
    let choice = |(index, range): (usize, TimeRange)| {
        let resolution = spans[index].resolution;
        // a gap may end in the middle of a window, whose time is its end
        let whole = resolution.to_whole_windows(range);
        Chosen { index, range: whole.intersect(wanted.with_reach(wanted.range, resolution)) }
    };
    chosen.0.into_iter().map(choice).collect()
}

/// The spans that each block answers for.
struct Filled(BTreeMap<usize, TimeRange>);

impl Filled {
    /// Takes the blocks that reach into a gap; returns what they leave open.
    fn fill(&mut self, gaps: &[TimeRange], blocks: &[(usize, TimeRange)]) -> Vec<TimeRange> {
        let mut open = Vec::new();
        for gap in gaps {
            let mut start = gap.start;
            for (index, range) in blocks.iter().filter(|(_, range)| range.overlaps(*gap)) {
                if range.start > start {
                    open.push(TimeRange::new(start, range.start));
                }
                start = start.max(range.end);
                let answers = self.0.entry(*index).or_insert(*gap);
                *answers = TimeRange::new(answers.start.min(gap.start), answers.end.max(gap.end));
            }
            if start < gap.end {
                open.push(TimeRange::new(start, gap.end));
            }
        }
        open
    }
}

#[cfg(test)]
mod tests;
