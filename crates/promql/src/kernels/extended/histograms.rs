//! Extended ranges of native histograms.

use std::sync::Arc;

use model::FloatHistogram;
use model::histogram::{HistogramError, Reconciled, ResetHint};

use super::{BorderValues, Borders, Difference, Range, at_or_after};
use crate::kernels::notes::{HistogramOperation, Note, Notes};
use crate::kernels::rate::Extrapolation;
use crate::kernels::window::{Bounds, HistogramSamples};

type Result<T> = std::result::Result<T, HistogramError>;

/// The difference between the borders of a range, with resets added for counters.
pub(super) fn difference(
    difference: Difference,
    samples: HistogramSamples<'_>,
    window: Bounds,
    range: Range,
    notes: &mut Notes,
) -> Option<FloatHistogram> {
    let borders = difference.borders(samples.t, window, range)?;
    match between(difference, samples, BorderedRange { borders, window, range }, notes) {
        Ok(increase) => Some(increase),
        Err(_) => {
            notes.push(Note::MixedExponentialAndCustom);
            None
        }
    }
}

/// A difference as the function gives it.
pub(super) fn finished(
    mut increase: FloatHistogram,
    kind: Extrapolation,
    seconds: f64,
) -> FloatHistogram {
    if kind == Extrapolation::Rate {
        increase.div(seconds);
    }
    increase.hint = ResetHint::Gauge;
    increase.compact(0);
    increase
}

/// A range, the samples that may be looked at for it, and those at its borders.
struct BorderedRange {
    borders: Borders,
    window: Bounds,
    range: Range,
}

fn between(
    difference: Difference,
    samples: HistogramSamples<'_>,
    place: BorderedRange,
    notes: &mut Notes,
) -> Result<FloatHistogram> {
    let BorderedRange { borders: Borders { first, last }, window, range } = place;
    let (is_counter, smoothed) = (difference.is_counter(), difference.smoothed);
    for histogram in &samples.h[first..=last] {
        if histogram.uses_custom_buckets() != samples.h[first].uses_custom_buckets() {
            return Err(HistogramError::IncompatibleSchemas);
        }
        if is_counter && histogram.hint == ResetHint::Gauge {
            notes.push(Note::NotACounterHistogram);
        }
    }
    let left = if smoothed && samples.t[first] < range.start {
        interpolate(samples, first, range.start, is_counter, notes)?
    } else {
        FloatHistogram::clone(&samples.h[first])
    };
    let right = if smoothed && last > window.lo as usize && samples.t[last] > range.end {
        interpolate(samples, last - 1, range.end, is_counter, notes)?
    } else {
        FloatHistogram::clone(&samples.h[last])
    };
    if !is_counter && (left.hint != ResetHint::Gauge || right.hint != ResetHint::Gauge) {
        notes.push(Note::NotAGaugeHistogram);
    }
    let mut increase = right.clone();
    note(increase.sub(&left)?, HistogramOperation::Subtraction, notes);
    if is_counter {
        let crossed = smoothed && samples.t[first] < range.start;
        let borders = BorderValues { left: &left, right: &right };
        if let Some(correction) = correction(borders, &samples.h[first..=last], crossed, notes)? {
            note(increase.add(&correction)?, HistogramOperation::Addition, notes);
        }
    }
    Ok(increase)
}

fn note(reconciled: Reconciled, operation: HistogramOperation, notes: &mut Notes) {
    if reconciled.custom_bounds_intersected {
        notes.push(Note::MismatchedCustomBuckets(operation));
    }
}

/// The histogram at time `t` between the samples `at` and `at + 1`. A counter that was reset
/// between them began empty.
fn interpolate(
    samples: HistogramSamples<'_>,
    at: usize,
    t: i64,
    is_counter: bool,
    notes: &mut Notes,
) -> Result<FloatHistogram> {
    let (before, after) = (&samples.h[at], &samples.h[at + 1]);
    let (begin, end) = (samples.t[at], samples.t[at + 1]);
    if t == begin {
        return Ok(FloatHistogram::clone(before));
    }
    let mut result = FloatHistogram::clone(after);
    if t == end {
        return Ok(result);
    }
    let fraction = (t - begin) as f64 / (end - begin) as f64;
    if is_counter && after.detect_reset(before) {
        result.mul(fraction);
        return Ok(result);
    }
    note(result.sub(before)?, HistogramOperation::Subtraction, notes);
    result.mul(fraction);
    note(result.add(before)?, HistogramOperation::Addition, notes);
    Ok(result)
}

/// The sum of the counter's values before each reset in a range; `crossed` says that the left
/// border lies between the first two histograms.
///
/// The first and the last histogram are already in the borders' values. Comparing the last one
/// itself would count its reset twice, because the right border inherits its hint.
fn correction(
    borders: BorderValues<&FloatHistogram>,
    histograms: &[Arc<FloatHistogram>],
    crossed: bool,
    notes: &mut Notes,
) -> Result<Option<FloatHistogram>> {
    let BorderValues { left, right } = borders;
    let last = histograms.len() - 1;
    let (mut previous, mut first) = (left, 1);
    if crossed && last > 0 && histograms[1].detect_reset(&histograms[0]) {
        (previous, first) = (&histograms[1], 2);
    }
    if first > last {
        return Ok(None);
    }
    let mut sum: Option<FloatHistogram> = None;
    for next in histograms[first..last].iter().map(AsRef::as_ref).chain([right]) {
        if next.detect_reset(previous) {
            match &mut sum {
                None => sum = Some(previous.clone()),
                Some(sum) => note(sum.add(previous)?, HistogramOperation::Addition, notes),
            }
        }
        previous = next;
    }
    Ok(sum)
}

/// The histogram at a time: a sample, or one between the samples around it, or the last one where
/// none follows.
pub(super) fn smoothed(
    samples: HistogramSamples<'_>,
    window: Bounds,
    at: i64,
    notes: &mut Notes,
) -> Option<Arc<FloatHistogram>> {
    let next = at_or_after(samples.t, window, at);
    let follows = next < window.hi as usize;
    if follows && samples.t[next] == at {
        return Some(Arc::clone(&samples.h[next]));
    }
    if next == window.lo as usize {
        return None;
    }
    let before = &samples.h[next - 1];
    if !follows {
        // The hint is about the sample before, which the value at this time does not follow.
        return Some(Arc::new(FloatHistogram {
            hint: ResetHint::Unknown,
            ..FloatHistogram::clone(before)
        }));
    }
    let is_counter = before.hint != ResetHint::Gauge || samples.h[next].hint != ResetHint::Gauge;
    let mixed = before.uses_custom_buckets() != samples.h[next].uses_custom_buckets();
    let between = match mixed {
        true => Err(HistogramError::IncompatibleSchemas),
        false => interpolate(samples, next - 1, at, is_counter, notes),
    };
    match between {
        Ok(histogram) => Some(Arc::new(histogram)),
        Err(_) => {
            notes.push(Note::MixedExponentialAndCustom);
            None
        }
    }
}
