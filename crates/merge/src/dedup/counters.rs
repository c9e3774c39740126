//! The replicas of a counter as one counter.

use model::histogram::ResetHint;

use super::{Dedup, PickedSample, SeriesReplica, picks, take_only};
use crate::replicas::GoesOn;

mod column;

pub use column::CounterColumn;

#[cfg(test)]
mod tests;

/// Merges the replicas of one counter into one, so that neither its increase nor its resets differ
/// from what the replicas saw. NaN is left out.
///
/// All replicas watch the same counter, so their values are returned as they are. Where another
/// replica takes over and its value is below the last one returned, either the counter was reset
/// between the two, or the replica lags, by one scrape at most: a value is read some time after the
/// time of its sample. The replica's own samples show which it is: it has a sample at or before the
/// last one returned, and between its own samples a counter falls only by a reset. A reset that two
/// replicas saw at overlapping times is the same one, and shows once. Where the replica has no
/// sample that early, those of the replica it takes over from decide; where that has ended, a
/// replica whose next sample is as high as the last one returned only lagged.
///
/// For a replica that lags, the last returned value is repeated until it has caught up. Where the
/// chosen samples would skip a reset, those on both sides of it are returned too. Replicas at other
/// heights, such as downsampled ones whose earlier resets are added up, are moved to the height of
/// the last returned value.
pub fn counters<C: CounterColumn>(replicas: Vec<SeriesReplica<C>>, dedup: Dedup) -> C {
    counters_while(replicas, dedup, &|_| true)
}

pub(crate) fn counters_while<C: CounterColumn>(
    mut replicas: Vec<SeriesReplica<C>>,
    dedup: Dedup,
    goes_on: GoesOn<'_>,
) -> C {
    replicas.iter_mut().for_each(|replica| replica.column.leave_out_nan());
    if let Some(only) = take_only(&mut replicas) {
        return only;
    }
    let mut walk = CounterWalk::new(&replicas);
    picks(&replicas, dedup, goes_on).into_iter().for_each(|pick| walk.go_to(pick));
    walk.out
}

/// The time after one sample of a replica, up to another.
#[derive(Clone, Copy, Debug)]
struct Between {
    after: i64,
    to: i64,
}

/// The last returned sample.
struct GivenValue<V> {
    pick: PickedSample,
    value: V,
    /// Its replica lags, so an earlier value was returned again.
    is_held: bool,
}

/// What the samples of other replicas show.
enum Told {
    Reset,
    /// A reset within a time so long that it may be a later one.
    ResetSomewhere,
    NoReset,
    Nothing,
}

/// Walks from one chosen sample to the next.
struct CounterWalk<'a, C: CounterColumn> {
    replicas: &'a [SeriesReplica<C>],
    /// For each replica, the first sample after the last returned one, as far as it was looked for.
    ahead: Vec<usize>,
    /// How far the values of each replica are lifted.
    heights: Vec<Option<C::Value>>,
    /// Whether the next reset of each replica already shows.
    late: Vec<bool>,
    /// For each replica, the sample after the last reset that was looked at.
    looked_at: Vec<usize>,
    given: Option<GivenValue<C::Value>>,
    /// Where the last reset that was shown lies.
    shown: Option<Between>,
    out: C,
}

impl<'a, C: CounterColumn> CounterWalk<'a, C> {
    fn new(replicas: &'a [SeriesReplica<C>]) -> CounterWalk<'a, C> {
        let count = replicas.len();
        CounterWalk {
            replicas,
            ahead: vec![0; count],
            heights: vec![None; count],
            late: vec![false; count],
            looked_at: vec![0; count],
            given: None,
            shown: None,
            out: C::default(),
        }
    }

    fn go_to(&mut self, pick: PickedSample) {
        if let Some(given) = &self.given {
            let begin = self.first_ahead(pick.replica, given.pick.t);
            for at in begin.max(1)..=pick.index {
                if self.is_reset(pick.replica, at) {
                    self.give_passed(pick, at - 1);
                    self.give_passed(pick, at);
                }
            }
        }
        self.give(pick);
    }

    /// Returns a sample that was not chosen, if it lies between the last returned one and `next`.
    fn give_passed(&mut self, next: PickedSample, index: usize) {
        let t = self.replicas[next.replica].column.time(index);
        if self.given.as_ref().is_some_and(|given| t > given.pick.t) && t < next.t {
            self.give(PickedSample { t, index, ..next });
        }
    }

    fn give(&mut self, pick: PickedSample) {
        let value = self.replicas[pick.replica].column.value(pick.index);
        let Some(given) = self.given.take() else {
            self.push(GivenValue { pick, value, is_held: false }, ResetHint::Unknown);
            return;
        };
        let goes_on = given.pick.comes_before(pick) && !given.is_held;
        if goes_on && !self.replicas[pick.replica].column.is_reset(pick.index) {
            let value = self.lifted(pick.replica, value);
            self.push(GivenValue { pick, value, is_held: false }, ResetHint::NotReset);
            return;
        }
        let begin = self.first_ahead(pick.replica, given.pick.t);
        if pick.index > 0 && self.is_reset(pick.replica, pick.index) {
            self.looked_at[pick.replica] = pick.index;
        }
        if let Some(span) = self.reset_between(&given, pick, begin) {
            self.shown = Some(span);
            // all heights were those of the counter before it
            self.heights.fill(None);
            self.late[pick.replica] = false;
            self.push(GivenValue { pick, value, is_held: false }, ResetHint::Reset);
            return;
        }
        let next = self.without_reset(given, pick, begin);
        self.push(next, ResetHint::NotReset);
    }

    fn push(&mut self, next: GivenValue<C::Value>, hint: ResetHint) {
        self.out.push_value(next.pick.t, &next.value, hint);
        self.given = Some(next);
    }

    /// The first sample of a replica after `t`; `t` must not be before that of the last call.
    fn first_ahead(&mut self, replica: usize, t: i64) -> usize {
        let column = &self.replicas[replica].column;
        let ahead = &mut self.ahead[replica];
        while *ahead < column.len() && column.time(*ahead) <= t {
            *ahead += 1;
        }
        *ahead
    }

    /// Where a reset lies between the last returned sample and `pick`, if it has to show and can;
    /// `begin` is the first sample of the replica after the last returned one.
    fn reset_between(
        &self,
        given: &GivenValue<C::Value>,
        pick: PickedSample,
        begin: usize,
    ) -> Option<Between> {
        let PickedSample { replica, index, t } = pick;
        let column = &self.replicas[replica].column;
        if !C::fell(&column.value(index), &given.value) {
            return None;
        }
        let is_reset = index > 0 && self.is_reset(replica, index);
        let after = if is_reset { column.time(index - 1).max(given.pick.t) } else { given.pick.t };
        let span = Between { after, to: t };
        if is_reset && !self.is_shown(given, pick) {
            return Some(span);
        }
        let goes_on = !is_reset && begin > 0;
        if goes_on && (begin..=index).all(|at| self.is_close(replica, at)) {
            return self.was_ahead(given, replica, begin - 1).then_some(span);
        }
        // heights are only approximate
        if !C::fell(
            &column.value(index),
            &self.replicas[given.pick.replica].column.value(given.pick.index),
        ) {
            return None;
        }
        let lags = t - given.pick.t <= self.scrape(replica, index).unwrap_or(i64::MAX);
        let shows = match self.told_by_others(given, pick) {
            Told::NoReset => false,
            Told::Reset => !lags || self.is_after_reset(given, pick),
            Told::Nothing if goes_on => false,
            Told::ResetSomewhere | Told::Nothing => !lags || !self.catches_up(pick, &given.value),
        };
        shows.then_some(span)
    }

    /// Whether the reset that the replica saw right before `pick` already shows: it is the one that
    /// another replica saw, or the last returned value is less than what the replica had before.
    fn is_shown(&self, given: &GivenValue<C::Value>, pick: PickedSample) -> bool {
        let (column, before) = (&self.replicas[pick.replica].column, pick.index - 1);
        let t = column.time(before);
        let is_passed = || {
            t <= given.pick.t
                && C::fell(&given.value, &self.lifted(pick.replica, column.value(before)))
        };
        self.late[pick.replica] || self.shown.is_some_and(|shown| t < shown.to) || is_passed()
    }

    /// Whether the replica saw a reset right before its sample `before` which the replica of the
    /// last returned sample, a moment later, had not seen yet.
    fn was_ahead(&self, given: &GivenValue<C::Value>, replica: usize, before: usize) -> bool {
        let column = &self.replicas[replica].column;
        let is_recent = || {
            let scrape = self.scrape(replica, before).unwrap_or(0);
            let is_shown = self.shown.is_some_and(|shown| column.time(before - 1) < shown.to);
            given.pick.t - column.time(before) <= scrape && !is_shown
        };
        before > self.looked_at[replica] && self.is_reset(replica, before) && is_recent()
    }

    /// Whether sample `at` of a replica is about a scrape after the one before it. If so the
    /// counter cannot have been reset in between without that being seen.
    fn is_close(&self, replica: usize, at: usize) -> bool {
        let column = &self.replicas[replica].column;
        let step = column.time(at) - column.time(at - 1);
        self.scrape(replica, at).is_none_or(|scrape| step <= scrape.saturating_mul(2))
    }

    /// How long a replica waits between scrapes, by the samples around the one at `at`.
    fn scrape(&self, replica: usize, at: usize) -> Option<i64> {
        let column = &self.replicas[replica].column;
        let last = (at + 1).min(column.len() - 1);
        (at.saturating_sub(1)..=last)
            .filter(|i| *i > 0)
            .map(|i| column.time(i) - column.time(i - 1))
            .min()
    }

    /// What the other replicas show about the time between the last returned sample and `pick`,
    /// which is lower: first the replica of the last returned sample.
    fn told_by_others(&self, given: &GivenValue<C::Value>, pick: PickedSample) -> Told {
        if self.late[given.pick.replica] {
            // it has not yet seen the reset that shows
            return Told::Nothing;
        }
        let column = &self.replicas[given.pick.replica].column;
        for at in given.pick.index + 1..column.len() {
            let is_close = self.is_close(given.pick.replica, at);
            if self.is_reset(given.pick.replica, at) {
                return if is_close { Told::Reset } else { Told::ResetSomewhere };
            }
            if !is_close {
                break;
            }
            if column.time(at) >= pick.t {
                return Told::NoReset;
            }
        }
        let span = Between { after: given.pick.t, to: pick.t };
        let others = (0..self.replicas.len())
            .filter(|other| *other != pick.replica && *other != given.pick.replica);
        let seen: Vec<bool> = others.filter_map(|other| self.saw_another(other, span)).collect();
        match &seen[..] {
            [] => Told::Nothing,
            seen if seen.contains(&true) => Told::Reset,
            _ => Told::ResetSomewhere,
        }
    }

    /// Whether a replica that saw a reset which does not show yet, within a span of time or across
    /// it, saw it between two scrapes.
    fn saw_another(&self, replica: usize, span: Between) -> Option<bool> {
        if self.late[replica] {
            return None;
        }
        let column = &self.replicas[replica].column;
        let end = column.first_after(span.to - 1).min(column.len().saturating_sub(1));
        let shown = self.shown.map_or(i64::MIN, |shown| shown.to);
        let mut seen = column.first_after(span.after).max(1)..=end;
        let at = seen.find(|at| self.is_reset(replica, *at) && column.time(at - 1) >= shown)?;
        Some(self.is_close(replica, at))
    }

    /// Whether a reset that lies somewhere near is before `pick`: a replica that is only a little
    /// lower and soon as high only lags.
    fn is_after_reset(&self, given: &GivenValue<C::Value>, pick: PickedSample) -> bool {
        let value = self.replicas[pick.replica].column.value(pick.index);
        let is_low =
            C::height(&value, &given.value).is_some_and(|lacking| C::fell(&value, &lacking));
        !self.is_reset_next(pick) && (is_low || !self.catches_up(pick, &given.value))
    }

    /// Whether the next sample of the replica is as high as `level`, or the counter is reset before
    /// it, as for a replica that lags.
    fn catches_up(&self, pick: PickedSample, level: &C::Value) -> bool {
        let (column, next) = (&self.replicas[pick.replica].column, pick.index + 1);
        next < column.len()
            && (self.is_reset(pick.replica, next) || !C::fell(&column.value(next), level))
    }

    /// What to return for `pick` where no reset has to show before it.
    fn without_reset(
        &mut self,
        given: GivenValue<C::Value>,
        pick: PickedSample,
        begin: usize,
    ) -> GivenValue<C::Value> {
        let PickedSample { replica, index, .. } = pick;
        if given.pick.replica != replica
            && self.is_reset_next(pick)
            && self.is_too_high(&given, pick, begin)
        {
            // it has not yet seen the reset that shows
            self.late[replica] = true;
            return GivenValue { pick, is_held: true, ..given };
        }
        let value = self.replicas[replica].column.value(index);
        let is_after_reset = index > 0 && self.is_reset(replica, index);
        if is_after_reset {
            // it shows already
            self.heights[replica] = None;
            self.late[replica] = false;
        } else if given.pick.replica != replica && self.is_too_high(&given, pick, begin) {
            self.heights[replica] =
                C::height(&self.standing(pick, begin, given.pick.t), &given.value);
        }
        let mut lifted = self.lifted(replica, value.clone());
        if C::fell(&lifted, &given.value) && self.stays_below(pick, &given.value) {
            // it is at another height, instead of only lagging
            let standing = if is_after_reset {
                value.clone()
            } else {
                self.standing(pick, begin, given.pick.t)
            };
            self.heights[replica] = C::height(&standing, &given.value);
            lifted = self.lifted(replica, value);
        }
        let is_held = C::fell(&lifted, &given.value);
        GivenValue { pick, value: if is_held { given.value } else { lifted }, is_held }
    }

    /// Whether the sample after `pick` is still less than `level`. False where another reset comes
    /// first: before that, a counter of the same height lags.
    fn stays_below(&self, pick: PickedSample, level: &C::Value) -> bool {
        let (column, next) = (&self.replicas[pick.replica].column, pick.index + 1);
        next < column.len()
            && !self.is_reset_next(pick)
            && C::fell(&self.lifted(pick.replica, column.value(next)), level)
    }

    /// Whether the replica is higher than the others: higher than another will soon be, if there is
    /// one, and higher than the last returned value even before that time.
    fn is_too_high(&self, given: &GivenValue<C::Value>, pick: PickedSample, begin: usize) -> bool {
        let column = &self.replicas[pick.replica].column;
        let reached = self.next_of_another(given, pick);
        let value = self.lifted(pick.replica, column.value(pick.index));
        if let Some(reached) = &reached
            && !C::fell(reached, &value)
        {
            return false;
        }
        let is_after_reset = pick.index > 0 && self.is_reset(pick.replica, pick.index);
        match begin.checked_sub(1).filter(|_| !is_after_reset) {
            Some(before) => {
                let stood = self.lifted(pick.replica, column.value(before));
                !self.is_before_reset(before, pick) && C::fell(&given.value, &stood)
            }
            None => reached.is_some(),
        }
    }

    /// What another replica has one scrape after `pick`, which may be ahead by as much, without a
    /// reset since the last returned sample: preferably the replica of that sample.
    fn next_of_another(
        &self,
        given: &GivenValue<C::Value>,
        pick: PickedSample,
    ) -> Option<C::Value> {
        let others = (0..self.replicas.len())
            .filter(|other| *other != pick.replica && *other != given.pick.replica);
        let mut replicas = std::iter::once(given.pick.replica).chain(others);
        let until = pick.t.saturating_add(self.scrape(pick.replica, pick.index).unwrap_or(0));
        replicas.find_map(|replica| {
            let column = &self.replicas[replica].column;
            let begin = column.first_after(given.pick.t);
            let at =
                (begin..column.len()).find(|at| column.time(*at) >= until).filter(|_| begin > 0)?;
            let goes_on =
                (begin..=at).all(|at| !self.is_reset(replica, at) && self.is_close(replica, at));
            goes_on.then(|| self.lifted(replica, column.value(at)))
        })
    }

    /// Whether the sample `before` of the replica was taken before the reset that was shown last,
    /// and `pick` was not: it may lag by a scrape.
    fn is_before_reset(&self, before: usize, pick: PickedSample) -> bool {
        let column = &self.replicas[pick.replica].column;
        let next = pick.index + 1;
        self.shown.is_some_and(|shown| {
            let scrape = if next < column.len() {
                column.time(next) - pick.t
            } else {
                shown.to - shown.after
            };
            column.time(before) < shown.to && pick.t - shown.to > scrape
        })
    }

    /// The value of the replica of `pick` at `t`, interpolated between its samples; `begin` is the
    /// first one after that. The value of the pick if it has none before.
    fn standing(&self, pick: PickedSample, begin: usize, t: i64) -> C::Value {
        let column = &self.replicas[pick.replica].column;
        let Some(before) = begin.checked_sub(1) else { return column.value(pick.index) };
        let span = (column.time(begin) - column.time(before)) as f64;
        let share = (t - column.time(before)) as f64 / span;
        C::between(column.value(before), &column.value(begin), share)
    }

    fn lifted(&self, replica: usize, value: C::Value) -> C::Value {
        match &self.heights[replica] {
            Some(height) => C::lifted(value, height),
            None => value,
        }
    }

    fn is_reset_next(&self, pick: PickedSample) -> bool {
        let next = pick.index + 1;
        next < self.replicas[pick.replica].column.len() && self.is_reset(pick.replica, next)
    }

    /// Whether the counter was reset between two neighbours of a column. Where they may be of two
    /// replicas, one of which lags, the other columns are considered.
    fn is_reset(&self, replica: usize, at: usize) -> bool {
        let SeriesReplica { column, joints, .. } = &self.replicas[replica];
        if !column.is_reset(at) {
            return false;
        }
        let span = Between { after: column.time(at - 1), to: column.time(at) };
        joints.binary_search(&span.to).is_err() || self.others_agree(replica, span)
    }

    fn others_agree(&self, replica: usize, span: Between) -> bool {
        let mut is_denied = false;
        for (_, SeriesReplica { column, .. }) in
            self.replicas.iter().enumerate().filter(|(other, _)| *other != replica)
        {
            let begin = column.first_after(span.after);
            let end = column.first_after(span.to - 1);
            let reaches = end < column.len();
            if (begin.max(1)..end + usize::from(reaches)).any(|at| column.is_reset(at)) {
                return true;
            }
            is_denied |= begin > 0 && reaches;
        }
        !is_denied
    }
}
