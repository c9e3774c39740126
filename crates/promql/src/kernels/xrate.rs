//! `xrate`, `xincrease` and `xdelta` of Thanos' engine: differences that begin at the last sample
//! before the range and are extrapolated only where the samples cover the range.
//!
//! Each step is computed from its own window. Thanos' engine carries samples from step to step and,
//! where exactly one sample lies between two ranges, takes the one before it as the beginning; its
//! instant queries do not.

use super::FloatColumn;
use super::interrupt::Interrupt;
use super::rate::Resets;
use super::window::{Bounds, Samples, Steps};

/// How far before a range the sample may be at which its difference begins.
pub const REACH_MS: i64 = 3_600_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ExtendedRate {
    Rate,
    Increase,
    Delta,
}

impl ExtendedRate {
    /// The function of that name in PromQL.
    pub fn from_name(name: &str) -> Option<ExtendedRate> {
        Some(match name {
            "xrate" => ExtendedRate::Rate,
            "xincrease" => ExtendedRate::Increase,
            "xdelta" => ExtendedRate::Delta,
            _ => return None,
        })
    }
}

/// One series and its windows, which are longer than the range by [`REACH_MS`].
#[derive(Clone, Copy, Debug)]
pub struct Reaching<'a> {
    /// The samples from the first one that the query reads: there a counter counts as new.
    pub samples: Samples<'a>,
    pub bounds: &'a [Bounds],
    pub steps: &'a Steps,
    /// The length of the range.
    pub range: i64,
    pub interrupt: &'a Interrupt<'a>,
}

/// Evaluates `function` at every step; `out` must come without any value present.
pub fn evaluate(
    function: ExtendedRate,
    input: Reaching<'_>,
    resets: &mut Resets,
    out: &mut FloatColumn<'_>,
) {
    let Samples { t, v } = input.samples;
    resets.find(v);
    let mut changes = 0u32;
    let changes: Vec<u32> = (0..v.len())
        .map(|i| {
            changes += u32::from(i > 0 && v[i - 1] != v[i]);
            changes
        })
        .collect();
    for (k, window) in input.bounds.iter().enumerate() {
        if window.is_empty() {
            continue;
        }
        if input.interrupt.after(1 + resets.most_work(*window)) {
            return;
        }
        let end = input.steps.end(k);
        let start = end.saturating_sub(input.range);
        let before = t[window.range()].partition_point(|x| *x <= start).saturating_sub(1);
        let (first, last) = (window.lo as usize + before, window.hi as usize - 1);
        let is_new = end <= t[0].saturating_add(input.range);
        if function == ExtendedRate::Increase && changes[first] == changes[last] && is_new {
            // A counter that has just appeared was zero before.
            out.set(k, v[first]);
            continue;
        }
        out.set(k, difference(function, ReachedRange { first, last, start, end }, &input, resets));
    }
}

/// A range, open at its start, and the first and the last sample that its result is computed from.
struct ReachedRange {
    first: usize,
    last: usize,
    start: i64,
    end: i64,
}

fn difference(
    function: ExtendedRate,
    stretch: ReachedRange,
    input: &Reaching<'_>,
    resets: &Resets,
) -> f64 {
    let ReachedRange { mut first, last, start, end } = stretch;
    let Samples { t, v } = input.samples;
    let extrapolates = function != ExtendedRate::Increase;
    let sampled = |first: usize| (t[last] - t[first]) as f64;
    // NaN for a single sample, for which no comparison below holds.
    let mut between = sampled(first) / (last - first) as f64;
    if extrapolates && (start - t[first]) as f64 > between {
        // Too far from the range to say anything about its beginning.
        if last - first < 2 {
            return 0.0;
        }
        first += 1;
        between = sampled(first) / (last - first) as f64;
    }
    let mut value = v[last] - v[first];
    if function != ExtendedRate::Delta {
        value = resets.within_window(value, Bounds { lo: first as u32, hi: last as u32 + 1 });
    }
    // Thanos counts whole seconds of the range only.
    let range_seconds = (input.range / 1000) as f64;
    if extrapolates && t[first] <= start && ((end - t[last]) as f64) < between {
        value *= range_seconds / (sampled(first) / 1000.0);
    }
    if function == ExtendedRate::Rate { value / range_seconds } else { value }
}

#[cfg(test)]
mod tests;
