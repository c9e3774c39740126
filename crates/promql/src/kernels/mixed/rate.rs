//! `rate`, `increase`, `delta`, `irate`, `idelta` of histograms.

use std::sync::Arc;

use model::histogram::{FloatHistogram, HistogramError, Reconciled, ResetHint};

use super::{MixedInput, SampleIndex, StepSamples, each, histogram_units};
use crate::kernels::MixedColumn;
use crate::kernels::notes::{HistogramOperation, Note, Notes};
use crate::kernels::range::RangeFunction;
use crate::kernels::rate::{Sampled, instant_difference};
use crate::kernels::window::Bounds;

/// What one pass over a series finds for all its windows.
#[derive(Debug, Default)]
pub(super) struct Prepared {
    /// The indices of the histograms before which the counter was reset.
    resets: Vec<u32>,
    /// The indices of gauges.
    gauges: Vec<u32>,
    /// The indices of the histograms whose schema differs from that of the one before.
    schema_changes: Vec<u32>,
}

impl Prepared {
    fn find(&mut self, input: &MixedInput<'_>, counter: bool) {
        let histograms = input.histograms.h;
        self.resets.clear();
        self.gauges.clear();
        self.schema_changes.clear();
        if !counter {
            return;
        }
        for (at, now) in histograms.iter().enumerate() {
            if input.interrupt.after(histogram_units(now)) {
                return;
            }
            if now.hint == ResetHint::Gauge {
                self.gauges.push(at as u32);
            }
            let Some(before) = at.checked_sub(1).map(|before| &histograms[before]) else {
                continue;
            };
            if now.schema != before.schema {
                self.schema_changes.push(at as u32);
            }
            if now.detect_reset(before) {
                self.resets.push(at as u32);
            }
        }
    }
}

/// The sorted `indices` that are in `lo..hi`.
fn within(indices: &[u32], lo: u32, hi: u32) -> &[u32] {
    let from = &indices[indices.partition_point(|at| *at < lo)..];
    &from[..from.partition_point(|at| *at < hi)]
}

/// `rate`, `increase` or else `delta`, in the windows that hold histograms only.
pub(super) fn extrapolated(
    function: RangeFunction,
    input: &MixedInput<'_>,
    prepared: &mut Prepared,
    notes: &mut Notes,
    out: &mut MixedColumn<'_>,
) {
    let counter = matches!(function, RangeFunction::Rate | RangeFunction::Increase);
    prepared.find(input, counter);
    for (k, window) in input.histogram_windows().filter(|(_, window)| window.len() >= 2) {
        // the first and the last one are looked at, and those around resets
        let resets = within(&prepared.resets, window.lo + 1, window.hi).len();
        let schemas = within(&prepared.schema_changes, window.lo + 1, window.hi).len();
        let others = if schemas > 0 { window.len() } else { 0 };
        let work = input.histogram_work(window.last_two());
        if input.interrupt.after(work + resets.saturating_mul(work) + others) {
            return;
        }
        let difference = if counter {
            increase(input, window, prepared, notes)
        } else {
            delta(input, window, notes)
        };
        let Some(mut result) = difference else { continue };
        let (first, last) = (window.lo as usize, window.hi as usize - 1);
        let sampled = Sampled {
            first: input.histograms.t[first],
            last: input.histograms.t[last],
            count: window.len(),
            end: input.steps.end(k),
            range: input.range,
        };
        let mut factor =
            sampled.factor(counter.then(|| (input.histogram(first).count, result.count)));
        if function == RangeFunction::Rate {
            factor /= input.range as f64 / 1000.0;
        }
        result.mul(factor);
        out.set_histogram(k, Arc::new(result));
    }
}

/// The last histogram of the window less the first, as a gauge.
fn delta(input: &MixedInput<'_>, window: Bounds, notes: &mut Notes) -> Option<FloatHistogram> {
    let (first, last) =
        (input.histogram(window.lo as usize), input.histogram(window.hi as usize - 1));
    // if buckets do not fit, subtraction notes it
    let fit = first.uses_custom_buckets() == last.uses_custom_buckets();
    let mut result = last.copy_to_schema(if fit { first.schema } else { last.schema });
    if !subtract(&mut result, first, notes) {
        return None;
    }
    if first.hint != ResetHint::Gauge || last.hint != ResetHint::Gauge {
        notes.push(Note::NotAGaugeHistogram);
    }
    result.hint = ResetHint::Gauge;
    result.compact(0);
    Some(result)
}

/// How much the counter grew over the window, corrected for resets, as a gauge.
fn increase(
    input: &MixedInput<'_>,
    window: Bounds,
    prepared: &Prepared,
    notes: &mut Notes,
) -> Option<FloatHistogram> {
    let Bounds { lo, hi } = window;
    let mut resets = within(&prepared.resets, lo + 1, hi);
    // a reset right after the first histogram: that one does not matter, whatever buckets it has
    let starts_anew = resets.first() == Some(&(lo + 1));
    let schema = window_schema(input, window, starts_anew, prepared, notes)?;
    if !within(&prepared.gauges, lo, hi).is_empty() {
        notes.push(Note::NotACounterHistogram);
    }
    let (first, last) = (input.histogram(lo as usize), input.histogram(hi as usize - 1));
    let alike = (!starts_anew && schema == last.schema).then(|| last.minus_alike(first)).flatten();
    let mut result = match alike {
        Some(difference) => difference,
        None => {
            let mut result = last.copy_to_schema(schema);
            let subtracted = if starts_anew {
                resets = &resets[1..];
                start_anew(&mut result, input.histogram(lo as usize + 1), notes)
            } else {
                subtract(&mut result, first, notes)
            };
            if !subtracted {
                return None;
            }
            result
        }
    };
    for reset in resets {
        if !add(&mut result, input.histogram(*reset as usize - 1), notes) {
            return None;
        }
    }
    result.hint = ResetHint::Gauge;
    result.compact(0);
    Some(result)
}

/// The coarsest schema of the window; none, with a note, where exponential and custom buckets are
/// mixed.
fn window_schema(
    input: &MixedInput<'_>,
    window: Bounds,
    starts_anew: bool,
    prepared: &Prepared,
    notes: &mut Notes,
) -> Option<i32> {
    let histograms = &input.histograms.h[window.range()];
    let (first, last) = (&histograms[usize::from(starts_anew)], &histograms[histograms.len() - 1]);
    if within(&prepared.schema_changes, window.lo + 1, window.hi).is_empty() {
        return Some(last.schema);
    }
    let custom = first.uses_custom_buckets();
    if last.uses_custom_buckets() != custom {
        if histograms[0].hint == ResetHint::Gauge || last.hint == ResetHint::Gauge {
            notes.push(Note::NotACounterHistogram);
        }
        notes.push(Note::MixedExponentialAndCustom);
        return None;
    }
    let between = &histograms[1..histograms.len() - 1];
    if between.iter().any(|histogram| histogram.uses_custom_buckets() != custom) {
        notes.push(Note::MixedExponentialAndCustom);
        return None;
    }
    between.iter().chain([first, last]).map(|histogram| histogram.schema).min()
}

/// Subtracts an empty histogram in place of the first one. It has the buckets of the second, which
/// matters where custom bounds differ.
fn start_anew(result: &mut FloatHistogram, second: &FloatHistogram, notes: &mut Notes) -> bool {
    if !second.uses_custom_buckets() {
        return true;
    }
    let nothing = FloatHistogram {
        schema: second.schema,
        custom_values: second.custom_values.clone(),
        ..FloatHistogram::default()
    };
    subtract(result, &nothing, notes)
        && (!second.detect_reset(&nothing) || add(result, &nothing, notes))
}

fn subtract(result: &mut FloatHistogram, other: &FloatHistogram, notes: &mut Notes) -> bool {
    compatible(result.sub(other), HistogramOperation::Subtraction, notes)
}

fn add(result: &mut FloatHistogram, other: &FloatHistogram, notes: &mut Notes) -> bool {
    compatible(result.add(other), HistogramOperation::Addition, notes)
}

/// Whether the operation could be done. Conflicting hints do not matter: resets are dealt with one
/// by one.
fn compatible(
    done: Result<Reconciled, HistogramError>,
    operation: HistogramOperation,
    notes: &mut Notes,
) -> bool {
    match done {
        Ok(done) => {
            if done.custom_bounds_intersected {
                notes.push(Note::MismatchedCustomBuckets(operation));
            }
            true
        }
        Err(_) => {
            notes.push(Note::MixedExponentialAndCustom);
            false
        }
    }
}

/// `irate` (per second, corrected for resets) or else `idelta` of the last two samples of each
/// window.
pub(super) fn instant<const RATE: bool>(
    input: &MixedInput<'_>,
    notes: &mut Notes,
    out: &mut MixedColumn<'_>,
) {
    each(input, out, |window, out, k| {
        if window.f.len() + window.h.len() < 2 {
            return;
        }
        if input.interrupt.after(input.histogram_work(window.h.last_two())) {
            return;
        }
        let now = input.last(window);
        let before = input.last(without(window, now));
        let interval = input.time(now) - input.time(before);
        if interval == 0 {
            return;
        }
        match (before, now) {
            (SampleIndex::Float(before), SampleIndex::Float(now)) => {
                let (before, now) = (input.floats.v[before], input.floats.v[now]);
                out.set_float(k, instant_difference::<RATE>(before, now, interval));
            }
            (SampleIndex::Histogram(before), SampleIndex::Histogram(now)) => {
                let (before, now) = (input.histogram(before), input.histogram(now));
                if let Some(mut result) = histogram_difference::<RATE>(before, now, notes) {
                    if RATE {
                        result.div(interval as f64 / 1000.0);
                    }
                    out.set_histogram(k, Arc::new(result));
                }
            }
            _ => notes.push(Note::MixedFloatsAndHistograms),
        }
    });
}

/// The window without its last sample.
fn without(window: StepSamples, last: SampleIndex) -> StepSamples {
    match last {
        SampleIndex::Float(at) => StepSamples { f: Bounds { hi: at as u32, ..window.f }, ..window },
        SampleIndex::Histogram(at) => {
            StepSamples { h: Bounds { hi: at as u32, ..window.h }, ..window }
        }
    }
}

fn histogram_difference<const RATE: bool>(
    before: &FloatHistogram,
    now: &FloatHistogram,
    notes: &mut Notes,
) -> Option<FloatHistogram> {
    let gauges = [before, now].map(|histogram| histogram.hint == ResetHint::Gauge);
    if RATE && gauges.contains(&true) {
        notes.push(Note::NotACounterHistogram);
    }
    if !RATE && gauges.contains(&false) {
        notes.push(Note::NotAGaugeHistogram);
    }
    let mut result = now.clone();
    let reset = RATE && now.detect_reset(before);
    if !reset && !subtract(&mut result, before, notes) {
        return None;
    }
    result.hint = ResetHint::Gauge;
    result.compact(0);
    Some(result)
}
