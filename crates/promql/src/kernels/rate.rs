//! `rate`, `increase`, `delta`, `irate`, `idelta`, `resets`, `changes`.

use super::FloatColumn;
use super::interrupt::Interrupt;
use super::steps::WORD_STEPS;
use super::window::{Bounds, Samples, Steps};

/// Above this many resets in a window the sum over them comes from prefix sums.
const DIRECT_RESETS: usize = 64;
/// A window holds at least this share of a prefix sum, or rounding of the rest would show.
const LEAST_SHARE: f64 = 1e-5;

/// Where a counter's value fell, and what it fell from.
#[derive(Debug, Default)]
pub struct Resets {
    at: Vec<u32>,
    from: Vec<f64>,
    /// Sums of `from` up to each reset; not finite when a value is not.
    total: Vec<f64>,
    /// Whether any value fell from below zero, as no counter does.
    negative: bool,
}

impl Resets {
    /// One pass over a series.
    pub fn find(&mut self, v: &[f64]) {
        self.at.clear();
        self.from.clear();
        self.total.clear();
        self.negative = false;
        let (before, now) = (&v[..v.len().saturating_sub(1)], v.get(1..).unwrap_or_default());
        for (stretch, (before, now)) in before.chunks(LANES).zip(now.chunks(LANES)).enumerate() {
            // most stretches have none, which comparing several values at a time finds out
            let falls =
                before.iter().zip(now).fold(false, |falls, (before, now)| falls | (now < before));
            if falls {
                self.find_in(stretch * LANES, before, now);
            }
        }
    }

    fn find_in(&mut self, offset: usize, before: &[f64], now: &[f64]) {
        for (at, (before, now)) in before.iter().zip(now).enumerate() {
            if now < before {
                self.at.push((offset + at) as u32 + 1);
                self.from.push(*before);
                self.negative |= *before < 0.0;
                self.total.push(self.total.last().unwrap_or(&0.0) + before);
            }
        }
    }

    /// The indices into the resets that fall inside windows, moving forward with `cursor`.
    #[inline(always)]
    fn within(&self, window: Bounds, cursor: &mut (usize, usize)) -> (usize, usize) {
        while cursor.0 < self.at.len() && self.at[cursor.0] <= window.lo {
            cursor.0 += 1;
        }
        cursor.1 = cursor.1.max(cursor.0);
        while cursor.1 < self.at.len() && self.at[cursor.1] < window.hi {
            cursor.1 += 1;
        }
        *cursor
    }

    /// How many additions correcting a window may take.
    pub(super) fn most_work(&self, window: Bounds) -> usize {
        window.len().min(self.at.len())
    }

    /// A counter's difference with what the resets inside a window add to it.
    pub(super) fn within_window(&self, difference: f64, window: Bounds) -> f64 {
        let a = self.at.partition_point(|at| *at <= window.lo);
        let b = self.at.partition_point(|at| *at < window.hi);
        self.corrected(difference, a, b.max(a))
    }

    /// A counter's difference with the resets `a..b`, added one by one as Prometheus does: where
    /// values differ much in size, the order decides how much of the small ones is lost.
    #[inline(always)]
    fn corrected(&self, difference: f64, a: usize, b: usize) -> f64 {
        if b - a > DIRECT_RESETS && !self.negative {
            let (sum, total) =
                (self.total[b - 1] - self.total[a] + self.from[a], self.total[b - 1]);
            if sum.is_finite() && sum >= total * LEAST_SHARE {
                return difference + sum;
            }
        }
        self.from[a..b].iter().fold(difference, |sum, from| sum + from)
    }
}

/// What kind of extrapolated difference is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Extrapolation {
    Rate,
    Increase,
    Delta,
}

/// The difference over each window, extrapolated to its borders as Prometheus does it.
pub fn extrapolated(
    kind: Extrapolation,
    input: Windowed<'_>,
    resets: &mut Resets,
    out: &mut FloatColumn<'_>,
) {
    match kind {
        Extrapolation::Rate => counter::<true>(input, resets, out),
        Extrapolation::Increase => counter::<false>(input, resets, out),
        Extrapolation::Delta => {
            for (k, window) in input.bounds.iter().enumerate() {
                if window.len() >= 2 {
                    let difference =
                        last(input.samples, *window) - input.samples.v[window.lo as usize];
                    out.set(k, difference * sampled(&input, k, *window).factor(None));
                }
            }
        }
    }
}

/// A series and its windows.
#[derive(Clone, Copy, Debug)]
pub struct Windowed<'a> {
    pub samples: Samples<'a>,
    pub bounds: &'a [Bounds],
    pub steps: &'a Steps,
    /// The length of the windows.
    pub range: i64,
    pub interrupt: &'a Interrupt<'a>,
}

/// This few windows, such as those of an instant query, are not worth the lanes of a [`RateLanes`].
const FEW_WINDOWS: usize = 8;

/// How many steps are worked on together: those of one word of the bitmap.
const LANES: usize = WORD_STEPS;

/// The inputs for the rates of some windows, column by column, so that the divisions run several at
/// a time. Times are in milliseconds. A lane without a window holds numbers that give 0.
struct RateLanes {
    first: [f64; LANES],
    increase: [f64; LANES],
    to_start: [f64; LANES],
    to_end: [f64; LANES],
    sampled: [f64; LANES],
    gaps: [f64; LANES],
}

impl RateLanes {
    fn new() -> RateLanes {
        let (zero, one) = ([0.0; LANES], [1.0; LANES]);
        RateLanes {
            first: zero,
            increase: zero,
            to_start: zero,
            to_end: zero,
            sampled: one,
            gaps: one,
        }
    }

    fn clear_lane(&mut self, lane: usize) {
        (self.first[lane], self.increase[lane], self.to_start[lane], self.to_end[lane]) =
            (0.0, 0.0, 0.0, 0.0);
        (self.sampled[lane], self.gaps[lane]) = (1.0, 1.0);
    }

    /// As [`Sampled::factor`] for one window, without branches, times the increase.
    fn increases(&self, range_seconds: Option<f64>, out: &mut [f64; LANES]) {
        for (lane, out) in out.iter_mut().enumerate() {
            let (first, increase) = (self.first[lane], self.increase[lane]);
            let sampled = self.sampled[lane] / 1000.0;
            let between = sampled / self.gaps[lane];
            let threshold = between * 1.1;
            let (to_start, to_end) = (self.to_start[lane] / 1000.0, self.to_end[lane] / 1000.0);
            let to_start = if to_start >= threshold { between / 2.0 } else { to_start };
            let to_zero = sampled * (first / increase);
            let is_shorter = (increase > 0.0) & (first >= 0.0) & (to_zero < to_start);
            let to_start = if is_shorter { to_zero } else { to_start };
            let to_end = if to_end >= threshold { between / 2.0 } else { to_end };
            *out = (sampled + to_start + to_end) / sampled;
        }
        if let Some(seconds) = range_seconds {
            out.iter_mut().for_each(|factor| *factor /= seconds);
        }
        out.iter_mut().zip(&self.increase).for_each(|(out, increase)| *out *= increase);
    }
}

fn counter<const RATE: bool>(input: Windowed<'_>, resets: &mut Resets, out: &mut FloatColumn<'_>) {
    let Samples { t, v } = input.samples;
    resets.find(v);
    let range_seconds = RATE.then_some(input.range as f64 / 1000.0);
    if input.bounds.len() < FEW_WINDOWS {
        for (k, window) in input.bounds.iter().enumerate().filter(|(_, window)| window.len() >= 2) {
            let first = v[window.lo as usize];
            let increase = resets.within_window(last(input.samples, *window) - first, *window);
            let factor = sampled(&input, k, *window).factor(Some((first, increase)));
            out.set(k, range_seconds.map_or(factor, |seconds| factor / seconds) * increase);
        }
        return;
    }
    let mut cursor = (0, 0);
    let (mut block, mut results) = (RateLanes::new(), [0.0; LANES]);
    for (word, windows) in input.bounds.chunks(LANES).enumerate() {
        if input.interrupt.after(LANES) {
            return;
        }
        let mut present = 0u64;
        for (lane, window) in windows.iter().enumerate() {
            if window.len() < 2 {
                block.clear_lane(lane);
                continue;
            }
            let (lo, hi) = (window.lo as usize, window.hi as usize - 1);
            let mut increase = v[hi] - v[lo];
            if !resets.at.is_empty() {
                let (a, b) = resets.within(*window, &mut cursor);
                if b > a {
                    input.interrupt.after(b - a);
                    increase = resets.corrected(increase, a, b);
                }
            }
            let end = input.steps.end(word * LANES + lane);
            block.first[lane] = v[lo];
            block.increase[lane] = increase;
            block.to_start[lane] = (t[lo] - (end - input.range)) as f64;
            block.to_end[lane] = (end - t[hi]) as f64;
            block.sampled[lane] = (t[hi] - t[lo]) as f64;
            block.gaps[lane] = (hi - lo) as f64;
            present |= 1 << lane;
        }
        if present != 0 {
            block.increases(range_seconds, &mut results);
            let from = word * LANES;
            out.values[from..from + windows.len()].copy_from_slice(&results[..windows.len()]);
            out.present.insert_word(from, present);
        }
    }
}

#[inline(always)]
fn last(samples: Samples<'_>, window: Bounds) -> f64 {
    samples.v[window.hi as usize - 1]
}

#[inline(always)]
fn sampled(input: &Windowed<'_>, k: usize, window: Bounds) -> Sampled {
    Sampled {
        first: input.samples.t[window.lo as usize],
        last: input.samples.t[window.hi as usize - 1],
        count: window.len(),
        end: input.steps.end(k),
        range: input.range,
    }
}

/// The times in a window: those of its first and last sample, how many samples there are, the
/// window's end and length.
pub(super) struct Sampled {
    pub(super) first: i64,
    pub(super) last: i64,
    pub(super) count: usize,
    pub(super) end: i64,
    pub(super) range: i64,
}

impl Sampled {
    /// By which factor the window counts as longer than the span of its samples. For counters
    /// (first value and increase given) it is never so large that the counter would have been below
    /// zero at the start.
    #[inline(always)]
    pub(super) fn factor(self, counter: Option<(f64, f64)>) -> f64 {
        let mut to_start = (self.first - (self.end - self.range)) as f64 / 1000.0;
        let mut to_end = (self.end - self.last) as f64 / 1000.0;
        let sampled = (self.last - self.first) as f64 / 1000.0;
        let between = sampled / (self.count - 1) as f64;
        let threshold = between * 1.1;
        if to_start >= threshold {
            to_start = between / 2.0;
        }
        if let Some((first, increase)) = counter
            && increase > 0.0
            && first >= 0.0
        {
            let to_zero = sampled * (first / increase);
            if to_zero < to_start {
                to_start = to_zero;
            }
        }
        if to_end >= threshold {
            to_end = between / 2.0;
        }
        (sampled + to_start + to_end) / sampled
    }
}

/// `irate` (per second, resets corrected) or `idelta` of the last two samples of each window.
pub fn instant<const RATE: bool>(
    samples: Samples<'_>,
    bounds: &[Bounds],
    out: &mut FloatColumn<'_>,
) {
    for (k, window) in bounds.iter().enumerate() {
        if window.len() < 2 {
            continue;
        }
        let at = window.hi as usize - 1;
        let interval = samples.t[at] - samples.t[at - 1];
        if interval == 0 {
            continue;
        }
        out.set(k, instant_difference::<RATE>(samples.v[at - 1], samples.v[at], interval));
    }
}

/// The difference of two values `interval` milliseconds apart; for `RATE`, per second and corrected
/// for a reset.
#[inline(always)]
pub(super) fn instant_difference<const RATE: bool>(before: f64, now: f64, interval: i64) -> f64 {
    let difference = if RATE && now < before { now } else { now - before };
    if RATE { difference / (interval as f64 / 1000.0) } else { difference }
}

/// Counts the events between neighbours in each window: falls for `resets`, differences for
/// `changes`.
pub fn count_events(
    samples: Samples<'_>,
    bounds: &[Bounds],
    event: fn(f64, f64) -> bool,
    out: &mut FloatColumn<'_>,
) {
    let mut before = Vec::with_capacity(samples.v.len());
    let mut count = 0u32;
    for (i, now) in samples.v.iter().enumerate() {
        count += u32::from(i > 0 && event(samples.v[i - 1], *now));
        before.push(count);
    }
    for (k, window) in bounds.iter().enumerate() {
        if !window.is_empty() {
            out.set(k, f64::from(before[window.hi as usize - 1] - before[window.lo as usize]));
        }
    }
}

/// A counter reset.
pub fn is_reset(before: f64, now: f64) -> bool {
    now < before
}

/// A change of value; NaN equals NaN here.
pub fn is_change(before: f64, now: f64) -> bool {
    now != before && !(now.is_nan() && before.is_nan())
}
