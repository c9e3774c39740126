//! Windows over downsampled data that is too coarse for them.
//!
//! A downsampled sample stands for a whole window of raw ones. Windows begin at multiples of their length; a sample has
//! the time of the end of its window, or, where nothing follows in its chunk, that of the last raw sample. Where a range
//! is shorter than such windows, it holds none or one of them by chance. What is asked is then read from the windows
//! around: sums and counts take their share of them, rates and differences go straight from sample to sample, anything
//! else is that of the window. A series goes on between two samples of neighbouring windows, and has ended otherwise.

use super::window::Bounds;

/// Neighbouring windows of one length; times are those of their samples, both included, in milliseconds.
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

impl CoarseTimes<'_> {
    /// How long the window of sample `i` is; 0 of a raw one.
    fn resolution(&self, i: usize) -> i64 {
        let t = self.t[i];
        let after = self.stretches.partition_point(|s| s.first <= t);
        let holding = self.stretches[..after].iter().rev().find(|s| t <= s.last);
        holding.map_or(0, |s| s.resolution)
    }

    /// Whether the series goes on after sample `i` until the next one.
    fn goes_on(&self, i: usize) -> bool {
        if i + 1 == self.t.len() {
            return false;
        }
        let resolution = self.resolution(i).max(self.resolution(i + 1));
        resolution > 0 && self.t[i + 1].div_euclid(resolution) - self.t[i].div_euclid(resolution) <= 1
    }

    /// Samples up to a time.
    fn up_to(&self, t: i64) -> usize {
        self.t.partition_point(|x| *x <= t)
    }

    /// The coarsest resolution among the samples of a window that was filled.
    pub fn coarsest(&self, bounds: Bounds) -> i64 {
        bounds.range().map(|i| self.resolution(i)).max().unwrap_or(0)
    }

    /// The samples that tell of `(end - range, end]`, where those inside tell too little; `None` where those do, and
    /// where there are none at all.
    pub fn fill(&self, end: i64, range: i64, filling: Filling) -> Option<Bounds> {
        let (lo, hi) = (self.up_to(end.saturating_sub(range)), self.up_to(end));
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
                    // what the window holds is whole, or the end of it lies in a window that is longer than it
                    1.. if next && self.resolution(hi) > range => bounds(lo, hi + 1),
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

    /// Whether `(end - range, end]` holds nothing, or has windows inside or around it that are longer than `most`.
    pub fn is_short(&self, end: i64, range: i64, most: i64) -> bool {
        let (inside, mut around) = self.around(end, range);
        !self.t.is_empty() && (!inside || around.any(|resolution| resolution > most))
    }

    /// Whether a series that goes on beyond both ends of `(end - range, end]` stands there at distances so different
    /// that their mean tells nothing of how far it reaches beyond its samples: they are of several resolutions, or few
    /// and with a chunk's last and the next one's first raw sample among them.
    pub fn is_uneven(&self, end: i64, range: i64) -> bool {
        const FEW: usize = 12;
        let (lo, hi) = (self.up_to(end.saturating_sub(range)), self.up_to(end));
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

    /// Whether a window holds samples, and the resolutions of the first and last of them and of those beside it.
    fn around(&self, end: i64, range: i64) -> (bool, impl Iterator<Item = i64> + '_) {
        let (lo, hi) = (self.up_to(end.saturating_sub(range)), self.up_to(end));
        let around = [lo.checked_sub(1), Some(lo), hi.checked_sub(1), Some(hi)].into_iter().flatten();
        (lo < hi, around.filter(|i| *i < self.t.len()).map(|i| self.resolution(i)))
    }

    /// From after which time to its own a sample stands for: from the begin of its window.
    fn begin(&self, i: usize) -> i64 {
        match self.resolution(i) {
            0 => self.t[i],
            resolution => self.t[i].div_euclid(resolution).saturating_mul(resolution),
        }
    }

    /// The parts of the samples, by index, that fall into `(end - range, end]`, as if what each stands for were spread
    /// evenly over its window.
    pub fn shares(&self, end: i64, range: i64) -> impl Iterator<Item = (usize, f64)> + '_ {
        let from = end.saturating_sub(range);
        (self.up_to(from)..self.t.len()).map_while(move |i| {
            let begin = self.begin(i);
            (begin <= end).then(|| (i, self.share(i, begin, (from, end))))
        })
    }

    fn share(&self, i: usize, begin: i64, (from, end): (i64, i64)) -> f64 {
        let t = self.t[i];
        if t == begin {
            return f64::from(u8::from(from < t && t <= end));
        }
        // of the first window of a life it is not known when it began
        if t > end && !(i > 0 && self.goes_on(i - 1)) {
            return 0.0;
        }
        (end.min(t) - from.max(begin)).max(0) as f64 / (t - begin).max(1) as f64
    }

    /// How much a series rises in `(end - range, end]`, straight from sample to sample; `None` where it does not live.
    pub fn rise_of(&self, values: &[f64], end: i64, range: i64) -> Option<f64> {
        let from = end.saturating_sub(range);
        let lo = self.up_to(from).saturating_sub(1);
        let pairs = (lo..self.t.len().saturating_sub(1)).take_while(|i| self.t[*i] < end);
        // raw samples further apart than the range are not of one window
        let near = |i: usize| self.t[i + 1] - self.t[i] <= range;
        let linked = pairs.filter(|i| self.goes_on(*i) || (self.is_linked(*i) && near(*i)));
        let parts = linked.filter_map(|i| {
            let (t0, t1) = (self.t[i], self.t[i + 1]);
            let inside = end.min(t1) - from.max(t0);
            (inside > 0).then(|| (values[i + 1] - values[i]) * (inside as f64 / (t1 - t0) as f64))
        });
        parts.reduce(|a, b| a + b)
    }

    /// The sum of what falls into a window; `None` where nothing does.
    pub fn share_of(&self, values: &[f64], end: i64, range: i64) -> Option<f64> {
        let parts = self.shares(end, range).filter(|(_, share)| *share > 0.0);
        parts.map(|(i, share)| values[i] * share).reduce(|a, b| a + b)
    }
}

#[cfg(test)]
mod tests;
