//! Functions of `anchored` and `smoothed` selectors.
//!
//! Both look past their range by the lookback. An anchored range begins with the last sample at or
//! before its start and is not extrapolated. A smoothed one has values at its borders that are
//! interpolated between the samples on both sides of them. Windows here are those that [`reach`]
//! gives, wider than the range.

use std::sync::Arc;

use super::MixedColumn;
use super::mixed::{MixedInput, histogram_units};
use super::notes::{Note, Notes};
use super::rate::{Extrapolation, Resets, is_change, is_reset};
use super::window::{Bounds, Samples, Steps};
use crate::ast::Extension;

mod histograms;

/// A function that takes extended ranges.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ExtendedFunction {
    Anchored(Extrapolation),
    Smoothed(Extrapolation),
    /// A function of anchored ranges, as is `resets`.
    Changes,
    Resets,
}

impl ExtendedFunction {
    /// The kind of ranges it takes here.
    pub fn extension(self) -> Extension {
        match self {
            ExtendedFunction::Smoothed(_) => Extension::Smoothed,
            _ => Extension::Anchored,
        }
    }

    /// The function of that name in PromQL, if it takes such ranges.
    pub fn from_name(name: &str, extension: Extension) -> Option<ExtendedFunction> {
        let difference = match name {
            "rate" => Some(Extrapolation::Rate),
            "increase" => Some(Extrapolation::Increase),
            "delta" => Some(Extrapolation::Delta),
            _ => None,
        };
        match (extension, difference) {
            (Extension::Smoothed, difference) => difference.map(ExtendedFunction::Smoothed),
            (Extension::Anchored, Some(difference)) => Some(ExtendedFunction::Anchored(difference)),
            (Extension::Anchored, None) => match name {
                "changes" => Some(ExtendedFunction::Changes),
                "resets" => Some(ExtendedFunction::Resets),
                _ => None,
            },
        }
    }
}

/// The windows that hold what ranges of this length need: where they end, and how long they are.
pub fn reach(extension: Extension, steps: &Steps, range: i64, lookback: i64) -> (Steps, i64) {
    let longer = range.saturating_add(lookback);
    match extension {
        Extension::Anchored => (*steps, longer),
        Extension::Smoothed => (
            Steps { offset: steps.offset.saturating_sub(lookback), ..*steps },
            longer.saturating_add(lookback),
        ),
    }
}

/// The borders of a range; it is open at its start.
#[derive(Clone, Copy, Debug)]
pub struct Range {
    pub start: i64,
    pub end: i64,
}

/// The samples that stand for, or next to, the borders of a range.
#[derive(Clone, Copy)]
struct Borders {
    first: usize,
    last: usize,
}

/// The values at the borders of a range.
#[derive(Clone, Copy)]
struct BorderValues<T> {
    left: T,
    right: T,
}

/// The windows of floats and of histograms with their ranges, step by step.
fn windows<'a>(
    input: &'a MixedInput<'_>,
) -> impl Iterator<Item = (usize, Range, Bounds, Bounds)> + use<'a> {
    let bounds = input.float_bounds.iter().zip(input.histogram_bounds);
    bounds.enumerate().map(|(k, (floats, histograms))| {
        let end = input.steps.end(k);
        (k, Range { start: end.saturating_sub(input.range), end }, *floats, *histograms)
    })
}

/// Evaluates `function` at every step; `out` must come without any value present. The bounds are
/// those of the windows that [`reach`] gives, steps and range those of the ranges.
pub fn evaluate(
    function: ExtendedFunction,
    input: MixedInput<'_>,
    resets: &mut Resets,
    notes: &mut Notes,
    out: &mut MixedColumn<'_>,
) {
    match function {
        ExtendedFunction::Anchored(kind) => {
            differences(Difference { kind, smoothed: false }, input, resets, notes, out)
        }
        ExtendedFunction::Smoothed(kind) => {
            differences(Difference { kind, smoothed: true }, input, resets, notes, out)
        }
        ExtendedFunction::Changes => {
            events(input, is_change, |before, now| !now.same_data(before), out)
        }
        ExtendedFunction::Resets => {
            events(input, is_reset, |before, now| now.detect_reset(before), out)
        }
    }
}

/// What is computed from the values at both borders.
#[derive(Clone, Copy)]
struct Difference {
    kind: Extrapolation,
    smoothed: bool,
}

impl Difference {
    fn is_counter(self) -> bool {
        self.kind != Extrapolation::Delta
    }

    /// The samples at the borders of the range; `None` where nothing is inside it.
    fn borders(self, t: &[i64], window: Bounds, range: Range) -> Option<Borders> {
        let borders = borders(t, window, range, self.smoothed);
        let outside =
            t[borders.last] <= range.start || (self.smoothed && t[borders.first] > range.end);
        (!outside).then_some(borders)
    }

    fn border_values(
        self,
        samples: Samples<'_>,
        borders: Borders,
        window: Bounds,
        range: Range,
    ) -> BorderValues<f64> {
        let (Borders { first, last }, is_counter) = (borders, self.is_counter());
        let left = if self.smoothed && samples.t[first] < range.start {
            interpolate(samples, first, range.start, is_counter)
        } else {
            samples.v[first]
        };
        let right = if self.smoothed && last > window.lo as usize && samples.t[last] > range.end {
            interpolate(samples, last - 1, range.end, is_counter)
        } else {
            samples.v[last]
        };
        BorderValues { left, right }
    }
}

/// The last sample at or before the start of the range, or else the first one; and the last sample,
/// or for smoothed ranges the first one at or after the end.
fn borders(t: &[i64], window: Bounds, range: Range, smoothed: bool) -> Borders {
    let (lo, last) = (window.lo as usize, window.hi as usize - 1);
    let first = lo + t[lo..last].partition_point(|x| *x <= range.start).saturating_sub(1);
    let last = if smoothed { lo + t[lo..last].partition_point(|x| *x < range.end) } else { last };
    Borders { first, last }
}

fn differences(
    difference: Difference,
    input: MixedInput<'_>,
    resets: &mut Resets,
    notes: &mut Notes,
    out: &mut MixedColumn<'_>,
) {
    resets.find(input.floats.v);
    let seconds = input.range as f64 / 1000.0;
    for (k, range, floats, histograms) in windows(&input) {
        if input.interrupt.after(1 + resets.most_work(floats) + input.histogram_work(histograms)) {
            return;
        }
        match (floats.is_empty(), histograms.is_empty()) {
            (true, true) => {}
            (false, false) => notes.push(Note::MixedFloatsAndHistograms),
            (false, true) => {
                if let Some(increase) = of_floats(difference, input.floats, floats, range, resets) {
                    let is_rate = difference.kind == Extrapolation::Rate;
                    out.set_float(k, if is_rate { increase / seconds } else { increase });
                }
            }
            (true, false) => {
                let increase =
                    histograms::difference(difference, input.histograms, histograms, range, notes);
                if let Some(increase) = increase {
                    out.set_histogram(
                        k,
                        Arc::new(histograms::finished(increase, difference.kind, seconds)),
                    );
                }
            }
        }
    }
}

fn of_floats(
    difference: Difference,
    samples: Samples<'_>,
    window: Bounds,
    range: Range,
    resets: &Resets,
) -> Option<f64> {
    let borders = difference.borders(samples.t, window, range)?;
    let values = difference.border_values(samples, borders, window, range);
    let increase = values.right - values.left;
    if !difference.is_counter() {
        return Some(increase);
    }
    // The samples at or beyond the borders are already in the values of the borders.
    let from = borders.first + usize::from(samples.t[borders.first] <= range.start);
    let to = borders.last + usize::from(samples.t[borders.last] < range.end);
    Some(increase + correction(values, samples.v, from..to, resets))
}

/// The value at time `t` between the samples `at` and `at + 1`. A counter that was reset between
/// them began at zero.
fn interpolate(samples: Samples<'_>, at: usize, t: i64, is_counter: bool) -> f64 {
    let (before, after) = (samples.v[at], samples.v[at + 1]);
    let from = if is_counter && after < before { 0.0 } else { before };
    from + (after - from) * (t - samples.t[at]) as f64 / (samples.t[at + 1] - samples.t[at]) as f64
}

/// What the resets from one border over the samples inside to the other add to a counter's
/// difference.
fn correction(
    borders: BorderValues<f64>,
    v: &[f64],
    inside: std::ops::Range<usize>,
    resets: &Resets,
) -> f64 {
    let (BorderValues { left, right }, std::ops::Range { start: from, end: to }) =
        (borders, inside);
    if from >= to {
        return if right < left { left } else { 0.0 };
    }
    let mut sum = if v[from] < left { left } else { 0.0 };
    sum = resets.within_window(sum, Bounds { lo: from as u32, hi: to as u32 });
    if right < v[to - 1] { sum + v[to - 1] } else { sum }
}

/// Counts the events between neighbours from the anchor on, of either kind; between a float and a
/// histogram there is always an event.
fn events(
    input: MixedInput<'_>,
    of_floats: fn(f64, f64) -> bool,
    of_histograms: fn(&model::FloatHistogram, &model::FloatHistogram) -> bool,
    out: &mut MixedColumn<'_>,
) {
    let (floats, histograms) = (input.floats, input.histograms);
    let total = floats.t.len() + histograms.t.len();
    let (mut times, mut before) = (Vec::with_capacity(total), Vec::with_capacity(total));
    let (mut f, mut h, mut count) = (0, 0, 0u32);
    let mut was_float = None;
    while f + h < total {
        let is_float =
            h >= histograms.t.len() || (f < floats.t.len() && floats.t[f] < histograms.t[h]);
        let units = if is_float { 1 } else { histogram_units(&histograms.h[h]) };
        if input.interrupt.after(units) {
            return;
        }
        count += u32::from(match (was_float, is_float) {
            (None, _) => false,
            (Some(true), true) => of_floats(floats.v[f - 1], floats.v[f]),
            (Some(false), false) => of_histograms(&histograms.h[h - 1], &histograms.h[h]),
            _ => true,
        });
        times.push(if is_float { floats.t[f] } else { histograms.t[h] });
        before.push(count);
        if is_float {
            f += 1
        } else {
            h += 1
        }
        was_float = Some(is_float);
    }
    for (k, range, floats, histograms) in windows(&input) {
        let (lo, hi) = ((floats.lo + histograms.lo) as usize, (floats.hi + histograms.hi) as usize);
        let inside = lo + times[lo..hi].partition_point(|t| *t <= range.start);
        if inside < hi {
            let anchor = inside.saturating_sub(1).max(lo);
            out.set_float(k, f64::from(before[hi - 1] - before[anchor]));
        }
    }
}

/// The smoothed instant value at every step: between the samples around it, or that of the last
/// sample where none follows. The windows are those that [`reach`] gives for a range of no length.
pub fn smoothed_instant(input: MixedInput<'_>, notes: &mut Notes, out: &mut MixedColumn<'_>) {
    for (k, Range { end: at, .. }, floats, histograms) in windows(&input) {
        if input.interrupt.after(1 + input.histogram_work(histograms.last_two())) {
            return;
        }
        match (floats.is_empty(), histograms.is_empty()) {
            (true, true) => {}
            (false, false) => notes.push(Note::MixedFloatsAndHistograms),
            (false, true) => {
                if let Some(value) = smoothed_float(input.floats, floats, at) {
                    out.set_float(k, value);
                }
            }
            (true, false) => {
                if let Some(value) = histograms::smoothed(input.histograms, histograms, at, notes) {
                    out.set_histogram(k, value);
                }
            }
        }
    }
}

/// The first sample of a window at or after a time, or its end.
fn at_or_after(t: &[i64], window: Bounds, at: i64) -> usize {
    window.lo as usize + t[window.range()].partition_point(|x| *x < at)
}

fn smoothed_float(samples: Samples<'_>, window: Bounds, at: i64) -> Option<f64> {
    let next = at_or_after(samples.t, window, at);
    let follows = next < window.hi as usize;
    match next > window.lo as usize {
        _ if follows && samples.t[next] == at => Some(samples.v[next]),
        true if follows => Some(interpolate(samples, next - 1, at, false)),
        true => Some(samples.v[next - 1]),
        false => None,
    }
}

/// An extended range as samples: those inside the range, between values at its borders.
pub fn framed(samples: Samples<'_>, range: Range, smoothed: bool) -> (Vec<i64>, Vec<f64>) {
    let (Range { start, end }, window) = (range, Bounds { lo: 0, hi: samples.t.len() as u32 });
    if window.is_empty() {
        return (Vec::new(), Vec::new());
    }
    let at = borders(samples.t, window, range, smoothed);
    let Borders { first, last } = at;
    if samples.t[last] <= start {
        return (Vec::new(), Vec::new());
    }
    let gauge = Difference { kind: Extrapolation::Delta, smoothed };
    let BorderValues { left, right } = gauge.border_values(samples, at, window, range);
    let from = first + usize::from(samples.t[first] <= start);
    let to = (last + usize::from(samples.t[last] < end)).max(from);
    let mut t = vec![start];
    let mut v = vec![left];
    t.extend_from_slice(&samples.t[from..to]);
    v.extend_from_slice(&samples.v[from..to]);
    t.push(end);
    v.push(right);
    (t, v)
}

#[cfg(test)]
mod tests;
