//! Windows over downsampled data that is too coarse for them.
//!
//! A downsampled sample stands for a whole window of raw ones. Windows begin at multiples of their
//! length; a sample has the time of the end of its window, or, where nothing follows in its chunk,
//! that of the last raw sample. Where a range is shorter than such windows, it holds none or one of
//! them by chance. The answer is then read from the windows around: sums and counts take their
//! share of them, rates and differences go straight from sample to sample, anything else is that of
//! the window. A series continues between two samples of neighbouring windows, and has ended
//! otherwise.

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
}

/// The window `(end - range, end]`, in milliseconds, and the samples in it.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    pub samples: Bounds,
    pub end: i64,
    pub range: i64,
}

impl Window {
    fn start(self) -> i64 {
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

impl CoarseTimes<'_> {
    /// How long the window of sample `i` is; 0 for a raw one.
    fn resolution(&self, i: usize) -> i64 {
        let t = self.t[i];
        let after = self.stretches.partition_point(|s| s.first <= t);
        let holding = self.stretches[..after].iter().rev().find(|s| t <= s.last);
        holding.map_or(0, |s| s.resolution)
    }

    /// Whether the series continues after sample `i` until the next one.
    fn goes_on(&self, i: usize) -> bool {
        if i + 1 == self.t.len() {
            return false;
        }
        let resolution = self.resolution(i).max(self.resolution(i + 1));
        resolution > 0
            && self.t[i + 1].div_euclid(resolution) - self.t[i].div_euclid(resolution) <= 1
    }

    /// The samples to use for a window where those inside it are not enough; `None` where they are,
    /// and where there are none at all.
    pub fn fill(&self, window: Window, filling: Filling) -> Option<Bounds> {
        let (lo, hi) = window.lo_and_hi();
        let bounds = |lo: usize, hi: usize| Some(Bounds { lo: lo as u32, hi: hi as u32 });
        let last = hi.checked_sub(1)?;
        let inside = hi - lo;
        let goes_on = || self.goes_on(last);
        match filling {
            Filling::Last => (inside == 0 && goes_on()).then(|| bounds(last, hi)).flatten(),
            Filling::Around => {
                let next = goes_on() && self.resolution(hi) > 0;
                match inside {
                    0 if next => bounds(hi, hi + 1),
                    0 if goes_on() => bounds(last, hi),
                    // what the window holds is complete, or its end lies in a window that is longer
                    // than it
                    1.. if next && self.resolution(hi) > window.range => bounds(lo, hi + 1),
                    _ => None,
                }
            }
            Filling::Pair if inside >= 2 => None,
            Filling::Pair if goes_on() => bounds(last, hi + 1),
            Filling::Pair => {
                let before = last.checked_sub(1).filter(|i| inside == 1 && self.goes_on(*i));
                before.and_then(|before| bounds(before, hi))
            }
        }
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
        let of = (window.lo_and_hi().0..self.t.len()).map_while(move |i| {
            let begin = self.begin(i);
            (begin <= window.end).then(|| (i, self.share(i, begin, window)))
        });
        of.filter(|(_, share)| *share > 0.0)
    }

    fn share(&self, i: usize, begin: i64, window: Window) -> f64 {
        let (from, end, t) = (window.start(), window.end, self.t[i]);
        if t == begin {
            return f64::from(u8::from(from < t && t <= end));
        }
        // it is not known when the first window of a series began
        if t > end && !(i > 0 && self.goes_on(i - 1)) {
            return 0.0;
        }
        (end.min(t) - from.max(begin)).max(0) as f64 / (t - begin).max(1) as f64
    }

    /// The time between sample `i` and a later one, in milliseconds, from where the value of one
    /// belongs to where that of the other does.
    pub fn apart(&self, i: usize, later: usize, at: ValueAt) -> i64 {
        let time = |i: usize| match at {
            ValueAt::End => self.t[i],
            ValueAt::Middle => self.t[i] - (self.t[i] - self.begin(i)) / 2,
        };
        time(later) - time(i)
    }

    /// How much a series rises in a window, straight from sample to sample; `None` where it does
    /// not exist.
    pub fn rise_of(&self, values: &[f64], window: Window, at: ValueAt) -> Option<f64> {
        let (from, end) = (window.start(), window.end);
        let lo = window.lo_and_hi().0.saturating_sub(1);
        let pairs = (lo..self.t.len().saturating_sub(1)).take_while(|i| self.t[*i] < end);
        // raw samples further apart than the range do not belong to one window
        let near = |i: usize| self.t[i + 1] - self.t[i] <= window.range;
        let linked = pairs.filter(|i| self.goes_on(*i) || (self.is_linked(*i) && near(*i)));
        let parts = linked.filter_map(|i| {
            let (t0, t1) = (self.t[i], self.t[i + 1]);
            let inside = end.min(t1) - from.max(t0);
            (inside > 0).then(|| {
                (values[i + 1] - values[i]) * (inside as f64 / self.apart(i, i + 1, at) as f64)
            })
        });
        parts.reduce(|a, b| a + b)
    }

    /// The sum of what falls into a window; `None` where nothing does.
    pub fn share_of(&self, values: &[f64], window: Window) -> Option<f64> {
        self.shares(window).map(|(i, share)| values[i] * share).reduce(|a, b| a + b)
    }
}

#[cfg(test)]
mod tests;
