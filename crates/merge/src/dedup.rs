//! Replica dedup on decoded columns: penalty and chain, sample by sample as Thanos and Prometheus
//! choose.
//!
//! Which samples are chosen depends only on their times, for gauges and counters alike; what
//! becomes of the values of counters is described at [`counters`].

mod coarse;
mod counters;

use crate::column::SampleColumn;
use crate::replicas::GoesOn;

pub use coarse::CoarseSpan;
pub(crate) use counters::counters_while;
pub use counters::{CounterColumn, counters};

#[cfg(test)]
mod tests;

/// How long the other replica is ignored after the first sample, when no scrape interval is known
/// yet.
const INITIAL_PENALTY_MS: i64 = 5000;

/// How samples are chosen from several replicas of a series, at query time and where compaction
/// merges blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dedup {
    /// Samples of one replica, and of another only where the first has a gap of more than twice its
    /// last step: Thanos' `dedupSeriesIterator`, folded over the replicas from the left.
    Penalty,
    /// All samples; where times are equal, one, chosen as Prometheus' `chainSampleIterator` does.
    Chain,
}

/// One replica of a series.
#[derive(Clone, Debug, Default)]
pub struct SeriesReplica<C> {
    pub column: C,
    /// The times at which the column continues with a chunk that may be of another replica than the
    /// one before it, in order.
    pub joints: Vec<i64>,
    /// The spans whose samples are downsampled windows, in order of time.
    pub coarse: Vec<CoarseSpan>,
}

impl<C> SeriesReplica<C> {
    /// A replica whose samples are all raw and its own.
    pub fn raw(column: C) -> SeriesReplica<C> {
        SeriesReplica { column, joints: Vec::new(), coarse: Vec::new() }
    }

    /// The same replica, its samples in another column.
    pub(crate) fn map<D>(self, column: impl FnOnce(C) -> D) -> SeriesReplica<D> {
        SeriesReplica { column: column(self.column), joints: self.joints, coarse: self.coarse }
    }
}

/// Merges the raw replicas of one series into one, see [`Dedup::Penalty`]. The result depends on
/// where the columns begin: trim them to the selected range before.
pub fn penalty<C: SampleColumn>(replicas: Vec<C>) -> C {
    deduplicated(replicas.into_iter().map(SeriesReplica::raw).collect(), Dedup::Penalty)
}

/// Merges the raw replicas of one series into one, see [`Dedup::Chain`].
pub fn chain<C: SampleColumn>(replicas: Vec<C>) -> C {
    deduplicated(replicas.into_iter().map(SeriesReplica::raw).collect(), Dedup::Chain)
}

/// Merges the replicas of one series that is not a counter into one.
pub fn deduplicated<C: SampleColumn>(replicas: Vec<SeriesReplica<C>>, dedup: Dedup) -> C {
    deduplicated_while(replicas, dedup, &|_| true)
}

pub(crate) fn deduplicated_while<C: SampleColumn>(
    mut replicas: Vec<SeriesReplica<C>>,
    dedup: Dedup,
    goes_on: GoesOn<'_>,
) -> C {
    if let Some(only) = take_only(&mut replicas) {
        return only;
    }
    let mut out = C::default();
    let mut before: Option<PickedSample> = None;
    for pick in picks(&replicas, dedup, goes_on) {
        let consecutive = before.is_some_and(|before| before.comes_before(pick));
        out.push_from(&replicas[pick.replica].column, pick.index, consecutive);
        before = Some(pick);
    }
    out
}

/// The result where there is nothing to choose from: no samples, one replica, or the same floats
/// in all of them.
fn take_only<C: SampleColumn>(replicas: &mut Vec<SeriesReplica<C>>) -> Option<C> {
    let mut filled = (0..replicas.len()).filter(|i| !replicas[*i].column.is_empty());
    let Some(first) = filled.next() else { return Some(C::default()) };
    let same = filled.all(|other| replicas[first].column.same_floats(&replicas[other].column));
    same.then(|| replicas.swap_remove(first).column)
}

/// A sample that was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PickedSample {
    pub(crate) t: i64,
    pub(crate) replica: usize,
    /// The index in the column of the replica.
    pub(crate) index: usize,
}

impl PickedSample {
    /// Whether `next` is the sample after this one in the column of the same replica.
    fn comes_before(self, next: PickedSample) -> bool {
        self.replica == next.replica && self.index + 1 == next.index
    }
}

/// The chosen samples, in order of time.
pub(crate) fn picks<C: SampleColumn>(
    replicas: &[SeriesReplica<C>],
    dedup: Dedup,
    goes_on: GoesOn<'_>,
) -> Vec<PickedSample> {
    match dedup {
        _ if replicas.iter().any(|r| !r.coarse.is_empty()) => {
            coarse::picks(replicas, dedup, goes_on)
        }
        Dedup::Penalty => penalty_picks(replicas, goes_on),
        Dedup::Chain => chain_picks(replicas, goes_on),
    }
}

fn penalty_picks<C: SampleColumn>(
    replicas: &[SeriesReplica<C>],
    goes_on: GoesOn<'_>,
) -> Vec<PickedSample> {
    let all = replicas.iter().enumerate();
    let all = all.map(|(replica, SeriesReplica { column, .. })| Whole { column, replica });
    let mut runs = all.filter(|run| !run.column.is_empty());
    let Some(first) = runs.next() else { return Vec::new() };
    match runs.next() {
        None => (0..first.len()).map(|at| first.pick(at)).collect(),
        Some(second) => {
            let mut picks = take_turns(&first, &second);
            for next in runs {
                if !goes_on(4 * (picks.len() + next.len())) {
                    break;
                }
                picks = take_turns(&picks, &next);
            }
            picks
        }
    }
}

/// Samples in order of time.
trait SampleRun {
    fn len(&self) -> usize;
    fn pick(&self, at: usize) -> PickedSample;
    fn time(&self, at: usize) -> i64;
}

/// All samples of a replica.
struct Whole<'a, C> {
    column: &'a C,
    replica: usize,
}

impl<C: SampleColumn> SampleRun for Whole<'_, C> {
    #[inline]
    fn len(&self) -> usize {
        self.column.len()
    }

    #[inline]
    fn pick(&self, at: usize) -> PickedSample {
        PickedSample { t: self.column.time(at), replica: self.replica, index: at }
    }

    #[inline]
    fn time(&self, at: usize) -> i64 {
        self.column.time(at)
    }
}

impl SampleRun for Vec<PickedSample> {
    #[inline]
    fn len(&self) -> usize {
        Vec::len(self)
    }

    #[inline]
    fn pick(&self, at: usize) -> PickedSample {
        self[at]
    }

    #[inline]
    fn time(&self, at: usize) -> i64 {
        self[at].t
    }
}

/// A run, its current sample, and for how long after the last chosen sample it is ignored.
struct RunCursor<'a, R> {
    run: &'a R,
    at: usize,
    penalty: i64,
}

impl<'a, R: SampleRun> RunCursor<'a, R> {
    fn new(run: &'a R) -> RunCursor<'a, R> {
        RunCursor { run, at: 0, penalty: 0 }
    }

    /// Moves forward to the first sample that may be chosen at `from` or later, and returns its
    /// time.
    #[inline]
    fn seek(&mut self, from: i64) -> Option<i64> {
        let from = from.saturating_add(self.penalty);
        while self.at < self.run.len() {
            let t = self.run.time(self.at);
            if t >= from {
                return Some(t);
            }
            self.at += 1;
        }
        None
    }
}

fn take_turns<A: SampleRun, B: SampleRun>(a: &A, b: &B) -> Vec<PickedSample> {
    let (mut a, mut b) = (RunCursor::new(a), RunCursor::new(b));
    let mut picks: Vec<PickedSample> = Vec::with_capacity(a.run.len().max(b.run.len()));
    let mut last: Option<i64> = None;
    loop {
        let from = last.map_or(i64::MIN, |t| t.saturating_add(1));
        let times = (a.seek(from), b.seek(from));
        let (a_chosen, t) = match times {
            (None, None) => return picks,
            (Some(of_a), Some(of_b)) => (of_a <= of_b, of_a.min(of_b)),
            (Some(of_a), None) => (true, of_a),
            (None, Some(of_b)) => (false, of_b),
        };
        let both = times.0.is_some() && times.1.is_some();
        let penalty =
            last.map_or(INITIAL_PENALTY_MS, |last| 2i64.saturating_mul(t.saturating_sub(last)));
        if a_chosen {
            picks.push(a.run.pick(a.at));
            a.penalty = 0;
            b.penalty = if both { penalty } else { b.penalty };
        } else {
            picks.push(b.run.pick(b.at));
            b.penalty = 0;
            a.penalty = if both { penalty } else { a.penalty };
        }
        last = Some(t);
    }
}

/// This many picks are made before it is asked whether to go on.
const PICKS_AT_ONCE: usize = 1024;

/// Follows Go's heap, so that equal times are resolved in the same way.
fn chain_picks<C: SampleColumn>(
    replicas: &[SeriesReplica<C>],
    goes_on: GoesOn<'_>,
) -> Vec<PickedSample> {
    let mut picks: Vec<PickedSample> =
        Vec::with_capacity(replicas.iter().map(|r| r.column.len()).sum());
    let sample = |replica: usize, index: usize| {
        let column = &replicas[replica].column;
        (index < column.len()).then(|| PickedSample { t: column.time(index), replica, index })
    };
    // the present samples of the replicas other than `current`
    let mut heap: Vec<PickedSample> = Vec::with_capacity(replicas.len());
    (1..replicas.len()).filter_map(|i| sample(i, 0)).for_each(|pick| heap_push(&mut heap, pick));
    let (mut current, mut next_at, mut last_t) = (0, 0, None);
    loop {
        let here = sample(current, next_at);
        if here.is_some_and(|here| Some(here.t) == last_t) {
            next_at += 1;
            continue;
        }
        let chosen = match (here, heap.first()) {
            (None, None) => return picks,
            (Some(here), None) => here,
            (Some(here), Some(top)) if here.t < top.t => here,
            (_, Some(_)) => {
                if let Some(here) = here {
                    heap_push(&mut heap, here);
                }
                heap_pop(&mut heap)
            }
        };
        (current, next_at) = (chosen.replica, chosen.index + 1);
        if Some(chosen.t) != last_t {
            if picks.len().is_multiple_of(PICKS_AT_ONCE) && !goes_on(16 * PICKS_AT_ONCE) {
                return picks;
            }
            picks.push(chosen);
            last_t = Some(chosen.t);
        }
    }
}

/// The heap is ordered by time.
fn heap_push(heap: &mut Vec<PickedSample>, pick: PickedSample) {
    heap.push(pick);
    let mut at = heap.len() - 1;
    while at > 0 {
        let parent = (at - 1) / 2;
        if heap[at].t >= heap[parent].t {
            break;
        }
        heap.swap(at, parent);
        at = parent;
    }
}

/// The heap must not be empty.
fn heap_pop(heap: &mut Vec<PickedSample>) -> PickedSample {
    let top = heap.swap_remove(0);
    let mut at = 0;
    loop {
        let mut child = 2 * at + 1;
        if child >= heap.len() {
            return top;
        }
        if child + 1 < heap.len() && heap[child + 1].t < heap[child].t {
            child += 1;
        }
        if heap[child].t >= heap[at].t {
            return top;
        }
        heap.swap(at, child);
        at = child;
    }
}
