//! `changes` and `resets` over floats and histograms in the order of their time.

use super::{MixedInput, Place, each};
use crate::kernels::MixedColumn;
use crate::kernels::rate::{is_change, is_reset};

/// Buffers reused from series to series.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    /// Events up to and with each float, and each histogram.
    at_float: Vec<u32>,
    at_histogram: Vec<u32>,
}

pub(super) fn changes(input: &MixedInput<'_>, scratch: &mut Scratch, out: &mut MixedColumn<'_>) {
    count(input, scratch, out, |before, now| match (before, now) {
        (Place::Float(before), Place::Float(now)) => {
            is_change(input.floats.v[before], input.floats.v[now])
        }
        (Place::Histogram(before), Place::Histogram(now)) => {
            !input.histogram(now).same_data(input.histogram(before))
        }
        _ => true,
    });
}

pub(super) fn resets(input: &MixedInput<'_>, scratch: &mut Scratch, out: &mut MixedColumn<'_>) {
    count(input, scratch, out, |before, now| match (before, now) {
        (Place::Float(before), Place::Float(now)) => {
            is_reset(input.floats.v[before], input.floats.v[now])
        }
        (Place::Histogram(before), Place::Histogram(now)) => {
            input.histogram(now).detect_reset(input.histogram(before))
        }
        _ => true,
    });
}

/// Counts the events between neighbours in each window.
fn count(
    input: &MixedInput<'_>,
    scratch: &mut Scratch,
    out: &mut MixedColumn<'_>,
    event: impl Fn(Place, Place) -> bool,
) {
    scratch.at_float.clear();
    scratch.at_histogram.clear();
    let (floats, histograms) = (input.floats.t, input.histograms.t);
    let (mut f, mut h, mut events) = (0, 0, 0u32);
    let mut before: Option<Place> = None;
    while f < floats.len() || h < histograms.len() {
        let float_next = h == histograms.len() || (f < floats.len() && floats[f] < histograms[h]);
        let now = if float_next { Place::Float(f) } else { Place::Histogram(h) };
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
    let up_to = |place: Place| match place {
        Place::Float(at) => scratch.at_float[at],
        Place::Histogram(at) => scratch.at_histogram[at],
    };
    each(input, out, |window, out, k| {
        out.set_float(k, f64::from(up_to(input.last(window)) - up_to(input.first(window))));
    });
}
