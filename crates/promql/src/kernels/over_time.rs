//! The `*_over_time` functions: sums and means by prefix sums, extremes by a monotone queue,
//! quantiles by a sorted window, so that the cost of a step depends on the samples that enter and
//! leave, not on the samples inside.
//!
//! Where the windows do not overlap much, or a value is not finite, each window is computed on its
//! own.

use super::FloatColumn;
use super::Param;
use super::interrupt::{self, Interrupt};
use super::kahan::{self, Double};
use super::window::{Bounds, Samples};

/// A series, its windows, and whether to go on with them.
#[derive(Clone, Copy, Debug)]
pub struct OverTime<'a> {
    pub samples: Samples<'a>,
    pub bounds: &'a [Bounds],
    pub interrupt: &'a Interrupt<'a>,
}

/// Buffers reused from series to series.
#[derive(Debug, Default)]
pub struct OverTimeScratch {
    first: Vec<Double>,
    second: Vec<Double>,
    queue: Vec<u32>,
    sorted: Vec<f64>,
    /// The next window, its values that are not in the one before, and those that are no longer.
    merged: Vec<f64>,
    entering: Vec<f64>,
    leaving: Vec<f64>,
    deviations: Vec<f64>,
}

impl<'a> OverTime<'a> {
    /// Whether incremental evaluation pays: the windows together hold several times the samples of
    /// the series.
    fn overlaps(self) -> bool {
        let total: usize = self.bounds.iter().map(|b| b.len()).sum();
        total > 3 * self.samples.v.len()
    }

    /// The windows that are not empty, with their steps, until they are no longer wanted.
    fn windows(self) -> impl Iterator<Item = (usize, Bounds)> + use<'a> {
        let windows = self.bounds.iter().copied().enumerate();
        windows
            .filter(|(_, window)| !window.is_empty())
            .take_while(move |_| !self.interrupt.after(1))
    }

    fn each(self, out: &mut FloatColumn<'_>, mut f: impl FnMut(&[f64]) -> f64) {
        for (k, window) in self.windows() {
            self.interrupt.after(window.len());
            out.set(k, f(&self.samples.v[window.range()]));
        }
    }
}

/// Fills prefix sums, `prefix[i]` over the first `i` values; false when one is not finite.
fn prefix(values: impl Iterator<Item = f64>, into: &mut Vec<Double>) -> bool {
    into.clear();
    let mut sum = Double::default();
    into.push(sum);
    for v in values {
        sum = sum.plus(v);
        into.push(sum);
    }
    (sum.hi + sum.lo).is_finite()
}

/// `sum_over_time`.
pub fn sum(input: OverTime<'_>, scratch: &mut OverTimeScratch, out: &mut FloatColumn<'_>) {
    let values = input.samples.v.iter().copied();
    if !input.overlaps() || !prefix(values, &mut scratch.first) {
        return input.each(out, kahan::sum);
    }
    for (k, window) in input.windows() {
        out.set(k, scratch.first[window.hi as usize].minus(scratch.first[window.lo as usize]));
    }
}

/// `avg_over_time`.
pub fn avg(input: OverTime<'_>, scratch: &mut OverTimeScratch, out: &mut FloatColumn<'_>) {
    let values = input.samples.v.iter().copied();
    if !input.overlaps() || !prefix(values, &mut scratch.first) {
        return input.each(out, kahan::mean);
    }
    for (k, window) in input.windows() {
        let sum = scratch.first[window.hi as usize].minus(scratch.first[window.lo as usize]);
        out.set(k, sum / window.len() as f64);
    }
}

/// The population variance of values, by Welford's recurrence with compensation.
pub fn variance_of(values: &[f64]) -> f64 {
    let (mut mean, mut mean_c, mut aux, mut aux_c) = (0.0, 0.0, 0.0, 0.0);
    for (i, v) in values.iter().enumerate() {
        let delta = v - (mean + mean_c);
        (mean, mean_c) = kahan::add(delta / (i + 1) as f64, mean, mean_c);
        (aux, aux_c) = kahan::add(delta * (v - (mean + mean_c)), aux, aux_c);
    }
    (aux + aux_c) / values.len() as f64
}

/// `stdvar_over_time`, or its root.
pub fn variance(
    input: OverTime<'_>,
    root: bool,
    scratch: &mut OverTimeScratch,
    out: &mut FloatColumn<'_>,
) {
    let (samples, finish) = (input.samples, |v: f64| if root { v.sqrt() } else { v });
    // Distances are taken from the mean of the series, so that the squares stay small compared with
    // the variance.
    let center = kahan::mean(samples.v);
    let fits = center.is_finite()
        && input.overlaps()
        && prefix(samples.v.iter().map(|v| v - center), &mut scratch.first)
        && prefix_of_squares(samples.v, center, &mut scratch.second);
    if !fits {
        return input.each(out, |values| finish(variance_of(values)));
    }
    for (k, window) in input.windows() {
        let n = window.len() as f64;
        let (lo, hi) = (window.lo as usize, window.hi as usize);
        let sum = scratch.first[hi].minus(scratch.first[lo]);
        let squares = scratch.second[hi].minus(scratch.second[lo]);
        let v = (squares - sum * sum / n) / n;
        // What is left after cancellation must be well above the rounding of what was cancelled.
        let sound = v > squares / n * 1e-4;
        if !sound {
            input.interrupt.after(4 * window.len());
        }
        out.set(k, finish(if sound { v } else { variance_of(&samples.v[lo..hi]) }));
    }
}

fn prefix_of_squares(values: &[f64], center: f64, into: &mut Vec<Double>) -> bool {
    into.clear();
    let mut sum = Double::default();
    into.push(sum);
    for v in values {
        let d = v - center;
        sum = sum.plus_product(d, d);
        into.push(sum);
    }
    (sum.hi + sum.lo).is_finite()
}

/// `min_over_time` (`MAX` false) and `max_over_time`, and with `TIME` the time of the last of them
/// in seconds. NaN counts only where nothing else is in the window.
pub fn extreme<const MAX: bool, const TIME: bool>(
    input: OverTime<'_>,
    scratch: &mut OverTimeScratch,
    out: &mut FloatColumn<'_>,
) {
    let (samples, queue) = (input.samples, &mut scratch.queue);
    queue.clear();
    let (mut head, mut next) = (0, 0usize);
    // For the time of an extreme the latest of equal ones counts, so an equal newcomer replaces
    // those before it.
    let gives_way = |old: f64, new: f64| if MAX { old <= new } else { old >= new };
    for (k, window) in input.windows() {
        next = next.max(window.lo as usize);
        input.interrupt.after((window.hi as usize).saturating_sub(next));
        while next < window.hi as usize {
            let v = samples.v[next];
            if !v.is_nan() {
                while queue.len() > head && gives_way(samples.v[queue[queue.len() - 1] as usize], v)
                {
                    queue.pop();
                }
                queue.push(next as u32);
            }
            next += 1;
        }
        while head < queue.len() && queue[head] < window.lo {
            head += 1;
        }
        // If there is only NaN, the latest is taken.
        let at = if head < queue.len() { queue[head] as usize } else { window.hi as usize - 1 };
        out.set(k, if TIME { samples.t[at] as f64 / 1000.0 } else { samples.v[at] });
    }
}

/// `quantile_over_time`.
pub fn quantile(
    input: OverTime<'_>,
    q: Param<'_>,
    scratch: &mut OverTimeScratch,
    out: &mut FloatColumn<'_>,
) {
    let OverTime { samples, interrupt, .. } = input;
    scratch.sorted.clear();
    if !input.overlaps() {
        let sorted = &mut scratch.sorted;
        for (k, window) in input.windows() {
            sorted.clear();
            sorted.extend_from_slice(&samples.v[window.range()]);
            interrupt::sort(sorted, order, interrupt);
            out.set(k, quantile_of_sorted(q.at(k), sorted));
        }
        return;
    }
    let mut held = Bounds::default();
    for (k, window) in input.windows() {
        if window.lo >= held.hi {
            scratch.sorted.clear();
            held = Bounds { lo: window.lo, hi: window.lo };
        }
        let leave = &samples.v[held.lo as usize..window.lo as usize];
        let enter = &samples.v[held.hi as usize..window.hi as usize];
        if leave.len() + enter.len() <= FEW_CHANGES {
            interrupt.after((leave.len() + enter.len()) * (1 + scratch.sorted.len() / MOVED));
            exchange_one_by_one(&mut scratch.sorted, leave, enter);
        } else {
            exchange(scratch, leave, enter, interrupt);
        }
        held = window;
        out.set(k, quantile_of_sorted(q.at(k), &scratch.sorted));
    }
}

/// Up to this many values enter and leave a sorted window one by one, ...
const FEW_CHANGES: usize = 8;
/// ... each of which moves those behind it: that many in about the time of one addition.
const MOVED: usize = 16;

fn exchange_one_by_one(sorted: &mut Vec<f64>, leave: &[f64], enter: &[f64]) {
    for v in leave {
        let at = sorted.partition_point(|x| order(x, v).is_lt());
        sorted.remove(at);
    }
    for v in enter {
        let at = sorted.partition_point(|x| order(x, v).is_lt());
        sorted.insert(at, *v);
    }
}

/// Takes values out of the sorted window and others in, in one pass over it.
fn exchange(
    scratch: &mut OverTimeScratch,
    leave: &[f64],
    enter: &[f64],
    interrupt: &Interrupt<'_>,
) {
    let OverTimeScratch { sorted, leaving, entering, merged, .. } = scratch;
    for (changes, values) in [(&mut *leaving, leave), (&mut *entering, enter)] {
        changes.clear();
        changes.extend_from_slice(values);
        interrupt::sort(changes, order, interrupt);
    }
    interrupt.after(2 * (sorted.len() + entering.len()));
    merged.clear();
    merged.reserve(sorted.len() + entering.len());
    let (mut gone, mut new) = (0, 0);
    for v in sorted.iter() {
        if leaving.get(gone).is_some_and(|gone| order(gone, v).is_eq()) {
            gone += 1;
            continue;
        }
        while let Some(next) = entering.get(new).filter(|next| order(next, v).is_lt()) {
            merged.push(*next);
            new += 1;
        }
        merged.push(*v);
    }
    merged.extend_from_slice(&entering[new..]);
    std::mem::swap(sorted, merged);
}

/// NaN before everything else, then by value.
pub fn order(a: &f64, b: &f64) -> std::cmp::Ordering {
    match (a.is_nan(), b.is_nan()) {
        (false, false) => a.total_cmp(b),
        (x, y) => y.cmp(&x),
    }
}

/// The φ-quantile by linear interpolation between neighbours; below 0 is -Inf, above 1 is +Inf.
pub fn quantile_of_sorted(q: f64, sorted: &[f64]) -> f64 {
    if sorted.is_empty() || q.is_nan() {
        return f64::NAN;
    }
    if q < 0.0 {
        return f64::NEG_INFINITY;
    }
    if q > 1.0 {
        return f64::INFINITY;
    }
    let n = sorted.len() as f64;
    let rank = q * (n - 1.0);
    let lower = rank.floor().max(0.0);
    let upper = (lower + 1.0).min(n - 1.0);
    let weight = rank - rank.floor();
    sorted[lower as usize] * (1.0 - weight) + sorted[upper as usize] * weight
}

/// `mad_over_time`: the median of the distances to the median; NaN when any value is.
pub fn mad(input: OverTime<'_>, scratch: &mut OverTimeScratch, out: &mut FloatColumn<'_>) {
    let (sorted, deviations) = (&mut scratch.sorted, &mut scratch.deviations);
    input.each(out, |values| {
        if values.iter().any(|v| v.is_nan()) {
            return f64::NAN;
        }
        sorted.clear();
        sorted.extend_from_slice(values);
        interrupt::sort(sorted, order, input.interrupt);
        let median = quantile_of_sorted(0.5, sorted);
        deviations.clear();
        deviations.extend(values.iter().map(|v| (v - median).abs()));
        interrupt::sort(deviations, order, input.interrupt);
        quantile_of_sorted(0.5, deviations)
    });
}
