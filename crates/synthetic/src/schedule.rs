//! When a replica scrapes a target, and whether that succeeds.

use std::ops::Range;

use model::TimeRange;

use crate::rng::{self, Rng};

/// How one scrape went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The replica itself was down: nothing was recorded, not even `up`.
    Gap,
    /// The target did not answer: `up` is 0, its series go stale.
    Failed,
    Ok,
}

/// The scrapes of one target by one replica. Scrape `k` happens at `k × interval + offset`, now and
/// then some milliseconds late.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Schedule<'a> {
    pub(crate) interval_ms: i64,
    /// The seed of the target as this replica sees it.
    pub(crate) seed: u64,
    /// When this replica was down.
    pub(crate) gaps: &'a [TimeRange],
    /// When the target did not answer any replica.
    pub(crate) outages: &'a [TimeRange],
}

/// One scrape in this many is late.
const LATE_ONE_IN: u64 = 24;
/// The longest delay in milliseconds. Prometheus itself evens out delays of up to 2 ms.
const LATEST_MS: u64 = 40;

/// Scrape times in order, the first of them the last before the range asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scrapes {
    pub(crate) ts: Vec<i64>,
    pub(crate) outcomes: Vec<Outcome>,
    /// Whether every scrape went well.
    pub(crate) clean: bool,
}

impl Schedule<'_> {
    fn offset_ms(&self) -> i64 {
        let room = (self.interval_ms - LATEST_MS as i64).max(1);
        (rng::hash(self.seed, 0) % room as u64) as i64
    }

    fn time(&self, k: i64) -> i64 {
        let dice = rng::hash(self.seed ^ 0x006a_6974_7465_7200, k as u64);
        let late = if dice.is_multiple_of(LATE_ONE_IN) { (dice >> 32) % LATEST_MS } else { 0 };
        k * self.interval_ms + self.offset_ms() + late as i64
    }

    fn outcome(&self, t: i64) -> Outcome {
        if within(self.gaps, t) {
            Outcome::Gap
        } else if within(self.outages, t) {
            Outcome::Failed
        } else {
            Outcome::Ok
        }
    }

    /// The scrapes in `range`, and the one before it.
    pub(crate) fn scrapes(&self, range: TimeRange) -> Scrapes {
        let mut k = (range.start - self.offset_ms()).div_euclid(self.interval_ms) - 1;
        while self.time(k + 1) < range.start {
            k += 1;
        }
        let len = (range.duration_ms() / self.interval_ms) as usize + 2;
        let mut scrapes =
            Scrapes { ts: Vec::with_capacity(len), outcomes: Vec::with_capacity(len), clean: true };
        loop {
            let t = self.time(k);
            if t >= range.end {
                return scrapes;
            }
            let outcome = self.outcome(t);
            scrapes.ts.push(t);
            scrapes.outcomes.push(outcome);
            scrapes.clean &= outcome == Outcome::Ok;
            k += 1;
        }
    }
}

/// Whether `t` lies in one of the sorted, disjoint spans.
fn within(spans: &[TimeRange], t: i64) -> bool {
    let after = spans.partition_point(|span| span.start <= t);
    after > 0 && spans[after - 1].contains(t)
}

/// Sorted, disjoint spans in `range`: about one in `every_ms`, each of a length in `lengths_ms`.
pub(crate) fn random_spans(
    rng: &mut Rng,
    range: TimeRange,
    every_ms: i64,
    lengths_ms: Range<i64>,
) -> Vec<TimeRange> {
    let mut spans = Vec::new();
    let mut t = range.start;
    loop {
        let start = t + rng.between_ms(every_ms / 2, every_ms * 3 / 2);
        let end = start + rng.between_ms(lengths_ms.start, lengths_ms.end);
        if end >= range.end {
            return spans;
        }
        spans.push(TimeRange::new(start, end));
        t = end;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule<'a>(gaps: &'a [TimeRange], outages: &'a [TimeRange]) -> Schedule<'a> {
        Schedule { interval_ms: 15_000, seed: 42, gaps, outages }
    }

    #[test]
    fn windows_join_without_seam() {
        let s = schedule(&[], &[]);
        let whole = s.scrapes(TimeRange::new(0, 7_200_000));
        let first = s.scrapes(TimeRange::new(0, 3_600_000));
        let second = s.scrapes(TimeRange::new(3_600_000, 7_200_000));
        assert_eq!(
            first.ts.last(),
            second.ts.first(),
            "a window starts with the last scrape before it"
        );
        assert_eq!(whole.ts, [&first.ts[..], &second.ts[1..]].concat());
        assert!(whole.ts[0] < 0 && whole.ts[1] >= 0);
        assert!(whole.ts.windows(2).all(|w| w[0] < w[1]));
        assert_eq!(whole.ts.len(), 481);
    }

    #[test]
    fn outcomes_follow_gaps_and_outages() {
        let gaps = [TimeRange::new(100_000, 200_000)];
        let outages = [TimeRange::new(150_000, 300_000)];
        let scrapes = schedule(&gaps, &outages).scrapes(TimeRange::new(0, 400_000));
        assert!(!scrapes.clean);
        for (t, outcome) in scrapes.ts.iter().zip(&scrapes.outcomes) {
            let expected = match t {
                100_000..200_000 => Outcome::Gap,
                200_000..300_000 => Outcome::Failed,
                _ => Outcome::Ok,
            };
            assert_eq!(*outcome, expected, "at {t}");
        }
    }

    #[test]
    fn random_spans_are_sorted_and_inside() {
        let range = TimeRange::new(0, 10_000_000);
        let spans = random_spans(&mut Rng::new(1), range, 500_000, 1_000..50_000);
        assert!(spans.len() > 10);
        assert!(spans.windows(2).all(|w| w[0].end < w[1].start));
        assert!(spans.iter().all(|s| range.contains(s.start) && range.contains(s.end)));
    }
}
