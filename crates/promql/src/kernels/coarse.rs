//! Windows over downsampled data that is too coarse for them.
//!
//! A downsampled sample stands for a whole window of raw ones. Windows begin at multiples of their
//! length; a sample has the time of the end of its window, or, where nothing follows in its chunk,
//! that of the last raw sample. Where a range is shorter than such windows, it holds none or one of
//! them by chance. The answer is then read from the windows around: sums and counts take their
//! share of them, rates and differences go straight from sample to sample, anything else is that of
//! the window. A series continues between two samples of neighbouring windows, and has ended
//! otherwise.
//!
//! Where it is known when the samples of a window were taken, a downsampled sample has the time of
//! the last of them, a series begins and ends with its samples instead of its windows, and is gone
//! between two windows if the samples on both sides are too far apart.

use std::ops::Range;

use model::TimeRange;

use super::window::Bounds;

/// Neighbouring windows of one length; times are those of their samples, both included, in
/// milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stretch {
    pub first: i64,
    pub last: i64,
    /// How long each window is.
    pub resolution: i64,
}

/// The times of one series, some of them of downsampled samples.
#[derive(Clone, Copy, Debug)]
pub struct CoarseTimes<'a> {
    pub t: &'a [i64],
    /// In order of time.
    pub stretches: &'a [Stretch],
    /// From the first to the last of the samples that each stands for, where that is known; empty
    /// where it is of none.
    pub spans: &'a [Option<TimeRange>],
    /// How long a sample is current, in milliseconds.
    pub lookback: i64,
    /// A series whose samples are no further apart than this continues between them.
    pub reach: i64,
}

/// The window `(end - range, end]`, in milliseconds, and the samples in it.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    pub samples: Bounds,
    pub end: i64,
    pub range: i64,
}

impl Window {
    /// The last millisecond before it.
    pub fn start(self) -> i64 {
        self.end.saturating_sub(self.range)
    }

    fn lo_and_hi(self) -> (usize, usize) {
        (self.samples.lo as usize, self.samples.hi as usize)
    }
}

/// How the windows of a function are filled where they hold too little.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filling {
    /// The last sample, as lookback does.
    Last,
    /// The windows around.
    Around,
    /// Two samples around.
    Pair,
}

/// Where in its window the value of a downsampled sample belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueAt {
    /// At the end: it is that of the last raw sample, as for a counter.
    End,
    /// In the middle: it is that of the whole window, as for a mean.
    Middle,
}

/// A closed span of milliseconds.
#[derive(Clone, Copy, Debug)]
struct Spread {
    from: i64,
    to: i64,
}

/// How a series rises since some time: as it does between two samples.
#[derive(Clone, Copy, Debug)]
struct Slope {
    since: i64,
    pair: [usize; 2],
}

impl CoarseTimes<'_> {
    /// How long the window of sample `i` is; 0 for a raw one.
    fn resolution(&self, i: usize) -> i64 {
        let t = self.t[i];
        let after = self.stretches.partition_point(|s| s.first <= t);
        let holding = self.stretches[..after].iter().rev().find(|s| t <= s.last);
        holding.map_or(0, |s| s.resolution)
    }

    /// From the first to the last of the samples that sample `i` stands for.
    fn span(&self, i: usize) -> Option<TimeRange> {
        self.spans.get(i).copied().flatten()
    }

    /// How long there is none between the samples that `i` and the next one stand for.
    fn gap(&self, i: usize) -> Option<i64> {
        Some(self.span(i + 1)?.start.saturating_sub(self.span(i)?.last()))
    }

    /// Whether the series continues after sample `i` until the next one.
    fn goes_on(&self, i: usize) -> bool {
        if i + 1 >= self.t.len() {
            return false;
        }
        let resolution = self.resolution(i).max(self.resolution(i + 1));
        let are_near = || match self.gap(i) {
            Some(gap) => gap <= self.reach,
            None => self.t[i + 1].div_euclid(resolution) - self.t[i].div_euclid(resolution) <= 1,
        };
        resolution > 0 && are_near()
    }

    /// Whether sample `i` is that of a window, the first of whose samples is known to be at or
    /// before `t`.
    fn has_begun(&self, i: usize, t: i64) -> bool {
        i < self.t.len() && self.resolution(i) > 0 && self.span(i).is_some_and(|s| s.start <= t)
    }

    /// Whether a sample that sample `i` stands for is known to be after `t`.
    fn reaches_beyond(&self, i: usize, t: i64) -> bool {
        self.span(i).is_some_and(|span| span.last() > t)
    }

    /// Whether `t` is known to be between the first and the last sample of a window.
    pub fn is_inside(&self, t: i64) -> bool {
        self.has_begun(self.t.partition_point(|x| *x <= t), t)
    }

    /// When the first sample after `t` was taken, as far as it is known from a window: at most the
    /// time between two scrapes too early.
    pub fn first_after(&self, t: i64) -> Option<i64> {
        let next = self.t.partition_point(|x| *x <= t);
        let known = next < self.t.len() && self.resolution(next) > 0;
        known.then(|| self.span(next)).flatten().map(|span| span.start.max(t))
    }

    /// The samples to use for a window where those inside it are not enough; `None` where they are,
    /// and where there are none at all.
    pub fn fill(&self, window: Window, filling: Filling) -> Option<Bounds> {
        let (lo, hi) = window.lo_and_hi();
        let found = match filling {
            Filling::Last if lo < hi => None,
            Filling::Last => self.current(window),
            Filling::Around => self.around(window),
            Filling::Pair if hi - lo >= 2 => None,
            Filling::Pair => self.pair(window),
        };
        found.map(|samples| Bounds { lo: samples.start as u32, hi: samples.end as u32 })
    }

    /// The sample that is still current at the end of an empty window, or that of the window which
    /// a series begins in.
    fn current(&self, window: Window) -> Option<Range<usize>> {
        let (_, hi) = window.lo_and_hi();
        let before = hi.checked_sub(1);
        let is_current = |i: &usize| self.reaches_beyond(*i, window.start()) || self.goes_on(*i);
        match before.filter(is_current) {
            Some(before) => Some(before..hi),
            None => self.has_begun(hi, window.end).then_some(hi..hi + 1),
        }
    }

    fn around(&self, window: Window) -> Option<Range<usize>> {
        let (lo, hi) = window.lo_and_hi();
        let before = hi.checked_sub(1);
        let goes_on = || before.is_some_and(|before| self.goes_on(before));
        let is_window = hi < self.t.len() && self.resolution(hi) > 0;
        let next = is_window
            && match self.span(hi) {
                Some(_) => self.has_begun(hi, window.end),
                None => goes_on(),
            };
        if lo < hi {
            // what the window holds is complete, or its end lies in a window that is longer than it
            return (next && self.resolution(hi) > window.range).then_some(lo..hi + 1);
        }
        let before_reaches = before.filter(|before| self.reaches_beyond(*before, window.start()));
        match (next, before_reaches) {
            (true, _) => Some(hi..hi + 1),
            (false, Some(before)) => Some(before..hi),
            (false, None) if goes_on() && is_window => Some(hi..hi + 1),
            (false, None) if goes_on() => before.map(|before| before..hi),
            (false, None) => None,
        }
    }

    /// Two samples, of which the window has one or none.
    fn pair(&self, window: Window) -> Option<Range<usize>> {
        let (lo, hi) = window.lo_and_hi();
        let goes_on = |i: &usize| self.goes_on(*i);
        if let Some(last) = hi.checked_sub(1).filter(goes_on) {
            return Some(last..hi + 1);
        }
        if let Some(before) = hi.checked_sub(2).filter(|i| lo < hi && self.goes_on(*i)) {
            return Some(before..hi);
        }
        (self.has_begun(hi, window.end) && self.goes_on(hi)).then_some(hi..hi + 2)
    }

    /// Whether a window holds nothing, or there are windows inside or around it that are longer
    /// than `most`.
    pub fn is_short(&self, window: Window, most: i64) -> bool {
        let (lo, hi) = window.lo_and_hi();
        let longer = |i: usize| i < self.t.len() && self.resolution(i) > most;
        let around =
            || [lo.checked_sub(1), Some(lo), hi.checked_sub(1), Some(hi)].into_iter().flatten();
        !self.t.is_empty() && (lo == hi || around().any(longer))
    }

    /// Whether a series is known to begin or to end in a window: nothing is to be guessed about how
    /// far it reaches beyond its samples.
    pub fn is_at_an_end(&self, window: Window) -> bool {
        let (lo, hi) = window.lo_and_hi();
        let is_known = |i: usize| self.resolution(i) > 0 && self.span(i).is_some();
        let is_first = |i: usize| i == 0 || !self.is_linked(i - 1);
        let is_last = |i: usize| i + 1 == self.t.len() || !self.is_linked(i);
        let begins = |i: usize| self.has_begun(i, window.end) && is_first(i);
        begins(lo) || begins(hi) || (lo < hi && is_known(hi - 1) && is_last(hi - 1))
    }

    /// Whether the samples of a series that continues beyond both ends of a window have distances
    /// so different that their mean says nothing about how far it reaches beyond its samples: they
    /// are of several resolutions, or they are few and include a chunk's last and the next one's
    /// first raw sample.
    pub fn is_uneven(&self, window: Window) -> bool {
        const FEW: usize = 12;
        let (lo, hi) = window.lo_and_hi();
        if lo == 0 || hi == self.t.len() || !self.is_linked(lo - 1) || !self.is_linked(hi - 1) {
            return false;
        }
        let first = self.resolution(lo - 1);
        if [lo, hi - 1, hi].into_iter().any(|i| self.resolution(i) != first) {
            return true;
        }
        first > 0 && hi - lo <= FEW && (lo + 1..hi).any(|i| self.t[i] - self.t[i - 1] < first / 2)
    }

    /// Whether nothing is known to end between sample `i` and the next.
    fn is_linked(&self, i: usize) -> bool {
        self.goes_on(i) || (self.resolution(i) == 0 && self.resolution(i + 1) == 0)
    }

    /// The beginning of the time that a sample stands for, which is that of its window.
    fn begin(&self, i: usize) -> i64 {
        match self.resolution(i) {
            0 => self.t[i],
            resolution => self.t[i].div_euclid(resolution).saturating_mul(resolution),
        }
    }

    /// The samples, by index, whose windows overlap this one, and by which share, as if what each
    /// stands for were spread evenly.
    pub fn shares(&self, window: Window) -> impl Iterator<Item = (usize, f64)> + '_ {
        // one whose last sample is before the window may stand for a time that is not
        let of = (window.lo_and_hi().0.saturating_sub(1)..self.t.len()).map_while(move |i| {
            let spread = self.spread(i);
            (spread.from <= window.end).then(|| (i, self.share(i, spread, window)))
        });
        of.filter(|(_, share)| *share > 0.0)
    }

    /// Over which time that which a sample stands for is spread: over its window, or from its first
    /// sample if the series begins there, and to its last one if it ends.
    fn spread(&self, i: usize) -> Spread {
        let Some(span) = self.span(i) else { return Spread { from: self.begin(i), to: self.t[i] } };
        let resolution = self.resolution(i);
        if resolution == 0 {
            return Spread { from: self.t[i], to: self.t[i] };
        }
        let begin = self.begin(i);
        let end = begin.saturating_add(resolution - 1);
        let is_near = |i: usize| self.gap(i).is_none_or(|gap| gap <= self.lookback);
        let from = match i.checked_sub(1).filter(|before| is_near(*before)) {
            // a window in two parts
            Some(before) => self.t[before].max(begin),
            None => span.start,
        };
        let to = match self.t.get(i + 1).filter(|_| is_near(i)) {
            Some(next) if *next <= end => self.t[i],
            Some(_) => end,
            None => span.last(),
        };
        Spread { from, to }
    }

    fn share(&self, i: usize, spread: Spread, window: Window) -> f64 {
        let (start, end, t) = (window.start(), window.end, self.t[i]);
        if spread.to <= spread.from {
            return f64::from(u8::from(start < t && t <= end));
        }
        // it is not known when the first window of a series began
        if self.span(i).is_none() && t > end && !(i > 0 && self.goes_on(i - 1)) {
            return 0.0;
        }
        let inside = end.min(spread.to).saturating_sub(start.max(spread.from)).max(0);
        inside as f64 / spread.to.saturating_sub(spread.from) as f64
    }

    /// The time between sample `i` and a later one, in milliseconds, from where the value of one
    /// belongs to where that of the other does.
    pub fn apart(&self, i: usize, later: usize, at: ValueAt) -> i64 {
        let middle = |from: i64, to: i64| to - to.saturating_sub(from) / 2;
        let time = |i: usize| match (at, self.span(i)) {
            (ValueAt::End, _) => self.t[i],
            (ValueAt::Middle, Some(span)) => middle(span.start, span.last()),
            (ValueAt::Middle, None) => middle(self.begin(i), self.t[i]),
        };
        time(later).saturating_sub(time(i)).max(1)
    }

    /// How much a series rises in a window, straight from sample to sample; `None` where it does
    /// not exist.
    pub fn rise_of(&self, values: &[f64], window: Window, at: ValueAt) -> Option<f64> {
        let (from, end) = (window.start(), window.end);
        let lo = window.lo_and_hi().0;
        let up_to = (lo..self.t.len()).take_while(|i| *i == 0 || self.t[*i - 1] < end);
        let parts = up_to.filter_map(|i| {
            let Slope { since, pair } = self.slope_up_to(i, window)?;
            let inside = end.min(self.t[i]) - from.max(since);
            (inside > 0).then(|| {
                let [a, b] = pair;
                (values[b] - values[a]) * (inside as f64 / self.apart(a, b, at) as f64)
            })
        });
        parts.reduce(|a, b| a + b)
    }

    /// The slope before sample `i`: that from the sample before it, or where the series begins
    /// with the samples that it stands for, that to the next one.
    fn slope_up_to(&self, i: usize, window: Window) -> Option<Slope> {
        // raw samples further apart than the range do not belong to one window
        let near = |i: usize| self.t[i + 1] - self.t[i] <= window.range;
        let is_linked = |i: &usize| self.goes_on(*i) || (self.is_linked(*i) && near(*i));
        if let Some(before) = i.checked_sub(1).filter(is_linked) {
            return Some(Slope { since: self.t[before], pair: [before, i] });
        }
        let since = self.span(i)?.start;
        match i.checked_sub(1) {
            _ if self.goes_on(i) => Some(Slope { since, pair: [i, i + 1] }),
            Some(before) => Some(Slope { since, pair: [before, i] }),
            None => None,
        }
    }

    /// The sum of what falls into a window; `None` where nothing does.
    pub fn share_of(&self, values: &[f64], window: Window) -> Option<f64> {
        self.shares(window).map(|(i, share)| values[i] * share).reduce(|a, b| a + b)
    }
}

#[cfg(test)]
mod tests;
