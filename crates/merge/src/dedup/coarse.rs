//! Which samples are chosen where some replicas hold downsampled windows.
//!
//! There, the distance of samples says nothing about scrapes: Thanos' penalty of twice the last
//! step would hide another replica for two windows, which may be hours of raw data. But windows of
//! one length are the same ones in every replica, so one of each is chosen, from any replica that
//! has it.

use super::{Dedup, INITIAL_PENALTY_MS, PickedSample, SeriesReplica};
use crate::column::SampleColumn;
use crate::replicas::GoesOn;

/// A span of a column, both ends included, whose samples stand for windows of one length, in
/// milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CoarseSpan {
    pub first: i64,
    pub last: i64,
    pub resolution: i64,
}

/// A replica, and how far it was read.
struct CoarseSide<'a, C> {
    replica: &'a SeriesReplica<C>,
    at: usize,
    /// How long after the last chosen sample its raw samples are ignored.
    penalty: i64,
}

impl<C: SampleColumn> CoarseSide<'_, C> {
    /// The window that a sample stands for; `None` for a raw one.
    fn window(&self, t: i64) -> Option<WindowNumber> {
        let spans = &self.replica.coarse;
        let after = spans.partition_point(|span| span.first <= t);
        let span = spans[..after].iter().rev().find(|span| t <= span.last)?;
        Some(WindowNumber { resolution: span.resolution, number: t.div_euclid(span.resolution) })
    }

    /// Moves to the first sample that may be chosen after `given`, and returns its time.
    fn seek(&mut self, given: Option<GivenSample>, is_same: bool) -> Option<i64> {
        let behind = |side: &Self, t: i64| {
            let Some(given) = given else { return false };
            match side.window(t) {
                _ if is_same || t <= given.t => t <= given.t,
                None => t <= given.t.saturating_add(side.penalty),
                window => window == given.window,
            }
        };
        let column = &self.replica.column;
        while self.at < column.len() {
            let t = column.time(self.at);
            if !behind(self, t) {
                return Some(t);
            }
            self.at += 1;
        }
        None
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct WindowNumber {
    /// Its length in milliseconds.
    resolution: i64,
    /// Counted from the epoch.
    number: i64,
}

/// The last chosen sample.
#[derive(Clone, Copy)]
struct GivenSample {
    t: i64,
    replica: usize,
    /// `None` for a raw sample.
    window: Option<WindowNumber>,
}

/// The chosen samples, in order of time; `spans` are those of the replicas.
pub(super) fn picks<C: SampleColumn>(
    replicas: &[SeriesReplica<C>],
    dedup: Dedup,
    goes_on: GoesOn<'_>,
) -> Vec<PickedSample> {
    let side = |replica| CoarseSide { replica, at: 0, penalty: 0 };
    let mut sides: Vec<CoarseSide<'_, C>> = replicas.iter().map(side).collect();
    let mut picks = Vec::new();
    let mut given: Option<GivenSample> = None;
    loop {
        if !goes_on(4 * sides.len()) {
            return picks;
        }
        let is_same = |replica: usize| given.is_some_and(|given| given.replica == replica);
        let next = sides.iter_mut().enumerate();
        let next = next
            .filter_map(|(replica, side)| side.seek(given, is_same(replica)).map(|t| (t, replica)));
        let Some((t, replica)) = next.min() else { return picks };
        picks.push(PickedSample { t, replica, index: sides[replica].at });
        let window = sides[replica].window(t);
        let step = given
            .filter(|given| given.window.or(window).is_none())
            .map(|given| t.saturating_sub(given.t));
        let penalty = match dedup {
            Dedup::Penalty => step.map_or(INITIAL_PENALTY_MS, |step| step.saturating_mul(2)),
            Dedup::Chain => 0,
        };
        sides.iter_mut().for_each(|side| side.penalty = penalty);
        sides[replica].penalty = 0;
        given = Some(GivenSample { t, replica, window });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::column::Floats;

    const HOUR: i64 = 3_600_000;

    fn replica(times: &[i64], coarse: Vec<CoarseSpan>) -> SeriesReplica<Floats> {
        let values = times.iter().map(|t| *t as f64).collect();
        SeriesReplica { column: Floats { ts: times.to_vec(), values }, joints: Vec::new(), coarse }
    }

    fn hours(first: i64, last: i64) -> Vec<CoarseSpan> {
        vec![CoarseSpan { first, last, resolution: HOUR }]
    }

    /// The number of the replica and the time of each sample given.
    fn given(replicas: [SeriesReplica<Floats>; 2], dedup: Dedup) -> Vec<(usize, i64)> {
        picks(&replicas, dedup, &|_| true).into_iter().map(|pick| (pick.replica, pick.t)).collect()
    }

    #[test]
    fn of_each_window_one_sample_is_given() {
        // the times of the last windows are those of their last raw samples, which differ
        let a = [HOUR - 1, 2 * HOUR - 7_000];
        let b = [HOUR - 1, 2 * HOUR - 3_000, 3 * HOUR - 1];
        for dedup in [Dedup::Penalty, Dedup::Chain] {
            let found = given([replica(&a, hours(0, a[1])), replica(&b, hours(0, b[2]))], dedup);
            assert_eq!(found, [(0, a[0]), (0, a[1]), (1, b[2])], "{dedup:?}");
        }
    }

    #[test]
    fn a_missing_window_is_that_of_the_other_replica() {
        let a = [HOUR - 1, 3 * HOUR - 1];
        let b = [HOUR - 1, 2 * HOUR - 1, 3 * HOUR - 1];
        let found =
            given([replica(&a, hours(0, a[1])), replica(&b, hours(0, b[2]))], Dedup::Penalty);
        assert_eq!(found, [(0, a[0]), (1, b[1]), (0, a[1])]);
    }

    #[test]
    fn raw_samples_of_another_replica_begin_where_windows_end() {
        let a = [HOUR - 1, 2 * HOUR - 9_000];
        let b: Vec<i64> = (0..4).map(|i| 2 * HOUR + i * 15_000).collect();
        let found = given([replica(&a, hours(0, a[1])), replica(&b, Vec::new())], Dedup::Penalty);
        assert_eq!(found[2..], b.iter().map(|t| (1, *t)).collect::<Vec<_>>());
    }

    #[test]
    fn raw_samples_keep_to_one_replica() {
        let a: Vec<i64> = (0..4).map(|i| HOUR + i * 15_000).collect();
        let b: Vec<i64> = a.iter().map(|t| t + 4_000).collect();
        let a = [vec![HOUR - 1], a].concat();
        let found =
            given([replica(&a, hours(0, HOUR - 1)), replica(&b, Vec::new())], Dedup::Penalty);
        assert_eq!(found, a.iter().map(|t| (0, *t)).collect::<Vec<_>>());
    }

    #[test]
    fn finer_windows_go_on_where_a_coarse_one_is_cut() {
        let minutes = |minutes: i64| minutes * 60_000;
        let a = [HOUR + minutes(20)];
        let b: Vec<i64> = (5..=8).map(|i| HOUR + minutes(5 * i) - 1).collect();
        let finer = vec![CoarseSpan { first: b[0], last: b[3], resolution: minutes(5) }];
        let found = given([replica(&a, hours(0, a[0])), replica(&b, finer)], Dedup::Penalty);
        assert_eq!(found[1..], b.iter().map(|t| (1, *t)).collect::<Vec<_>>());
    }

    #[test]
    fn windows_that_a_replica_has_in_two_parts_are_both_given() {
        // its histogram was reset in between
        let a = [HOUR + 60_000, 2 * HOUR - 1];
        let found =
            given([replica(&a, hours(0, a[1])), replica(&a, hours(0, a[1]))], Dedup::Penalty);
        assert_eq!(found, [(0, a[0]), (0, a[1])]);
    }
}
