//! `changes` and `resets` over floats and histograms in the order of their time.

use super::{MixedInput, SampleIndex, each, histogram_units};
use crate::kernels::MixedColumn;
use crate::kernels::rate::{is_change, is_reset};

/// Buffers reused from series to series.
#[derive(Debug, Default)]
pub(super) struct EventScratch {
    /// The number of events up to and including each float, and each histogram.
    at_float: Vec<u32>,
    at_histogram: Vec<u32>,
}

pub(super) fn changes(
    input: &MixedInput<'_>,
    scratch: &mut EventScratch,
    out: &mut MixedColumn<'_>,
) {
    count(input, scratch, out, |before, now| match (before, now) {
        (SampleIndex::Float(before), SampleIndex::Float(now)) => {
            is_change(input.floats.v[before], input.floats.v[now])
        }
        (SampleIndex::Histogram(before), SampleIndex::Histogram(now)) => {
            !input.histogram(now).same_data(input.histogram(before))
        }
        _ => true,
    });
}

pub(super) fn resets(
    input: &MixedInput<'_>,
    scratch: &mut EventScratch,
    out: &mut MixedColumn<'_>,
) {
    count(input, scratch, out, |before, now| match (before, now) {
        (SampleIndex::Float(before), SampleIndex::Float(now)) => {
            is_reset(input.floats.v[before], input.floats.v[now])
        }
        (SampleIndex::Histogram(before), SampleIndex::Histogram(now)) => {
            input.histogram(now).detect_reset(input.histogram(before))
        }
        _ => true,
    });
}

/// Counts the events between neighbours in each window.
fn count(
    input: &MixedInput<'_>,
    scratch: &mut EventScratch,
    out: &mut MixedColumn<'_>,
    event: impl Fn(SampleIndex, SampleIndex) -> bool,
) {
    scratch.at_float.clear();
    scratch.at_histogram.clear();
    let (floats, histograms) = (input.floats.t, input.histograms.t);
    let (mut f, mut h, mut events) = (0, 0, 0u32);
    let mut before: Option<SampleIndex> = None;
    while f < floats.len() || h < histograms.len() {
        let float_next = h == histograms.len() || (f < floats.len() && floats[f] < histograms[h]);
        let now = if float_next { SampleIndex::Float(f) } else { SampleIndex::Histogram(h) };
        let units = if float_next { 1 } else { histogram_units(input.histogram(h)) };
        if input.interrupt.after(units) {
            return;
        }
        events += u32::from(before.is_some_and(|before| event(before, now)));
        if float_next {
            scratch.at_float.push(events);
            f += 1;
        } else {
            scratch.at_histogram.push(events);
            h += 1;
        }
        before = Some(now);
    }
    let up_to = |place: SampleIndex| match place {
        SampleIndex::Float(at) => scratch.at_float[at],
        SampleIndex::Histogram(at) => scratch.at_histogram[at],
    };
    each(input, out, |window, out, k| {
        out.set_float(k, f64::from(up_to(input.last(window)) - up_to(input.first(window))));
    });
}
