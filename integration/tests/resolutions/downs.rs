//! Four days of samples a minute apart, at three resolutions.

use merge::{DownsampledSeries, Downsampler};
use model::{Labels, Resolution, TimeRange};
use storeapi::conformance::{FloatSamples, float_series};

pub(super) const MINUTE: i64 = 60_000;
pub(super) const HOUR: i64 = 60 * MINUTE;
pub(super) const DAY: i64 = 24 * HOUR;
/// 2026-11-20T00:00:00Z
pub(super) const END: i64 = 1_795_132_800_000;
pub(super) const START: i64 = END - 4 * DAY;

/// Samples per run of the counter that restarts.
const RUN: i64 = 1000;

/// All series with their samples inside a range, in order of their labels.
pub(super) fn series(range: TimeRange) -> Vec<(Labels, FloatSamples)> {
    let labels = |name: &str, key: &str| Labels::from_pairs([("__name__", name), ("k", key)]);
    let every = |value: &dyn Fn(i64) -> f64, lives: TimeRange| -> FloatSamples {
        let minutes = (0..(END - START) / MINUTE).map(|i| (START + i * MINUTE, value(i)));
        minutes.filter(|(t, _)| range.contains(*t) && lives.contains(*t)).collect()
    };
    let whole = TimeRange::new(START, END);
    let mut all = vec![
        (labels("c_total", "even"), every(&|i| (i * 60) as f64, whole)),
        (labels("c_total", "reset"), every(&|i| (i % RUN * 60) as f64, whole)),
        (labels("g", "saw"), every(&|i| (i % 60) as f64, whole)),
        (labels("g", "ten"), every(&|_| 10.0, whole)),
    ];
    let mut born = START;
    for number in 0.. {
        let lives = TimeRange::new(born, born + (number % 3 + 1) * HOUR);
        if born >= END {
            break;
        }
        all.push((labels("pod", &format!("{number:03}")), every(&|_| 1.0, lives)));
        born = lives.end;
    }
    let mut session = every(&|_| 1.0, whole);
    session.retain(|(t, _)| (20 * MINUTE..30 * MINUTE).contains(&(t % HOUR)));
    all.push((labels("session", "often"), session));
    all.retain(|(_, samples)| !samples.is_empty());
    all
}

/// The windows of samples.
pub(super) fn downsampled(samples: &FloatSamples, resolution: Resolution) -> DownsampledSeries {
    let raw = float_series(Labels::empty(), samples).chunks;
    let (mut fine, mut coarse) = (DownsampledSeries::default(), DownsampledSeries::default());
    Downsampler::new(Resolution::FiveMinutes).raw(&raw, &mut fine).expect("raw chunks in order");
    if resolution == Resolution::FiveMinutes {
        return fine;
    }
    let mut downsampler = Downsampler::new(Resolution::OneHour);
    downsampler.coarser(Resolution::FiveMinutes, &fine, &mut coarse).expect("windows in order");
    coarse
}
