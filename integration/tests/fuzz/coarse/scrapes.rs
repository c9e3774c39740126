//! When the raw samples of a series were taken. Downsampled data depends on it: on how far apart
//! samples are, where a series begins inside a window, and how much of its last window a chunk
//! covers.

use std::collections::BTreeMap;

use model::{METRIC_NAME, Matcher, Resolution, SampleValue, TimeRange, is_stale_nan};

use super::super::data::Series;

/// The times of the samples of one series, in order.
#[derive(Default)]
pub(super) struct Scrapes {
    times: Vec<i64>,
    /// The last scrapes before histograms were reset: chunks end there.
    before_resets: Vec<i64>,
}

/// What a span of time holds.
pub(super) struct Nearby {
    /// The longest time between two scrapes in one window or in neighbouring ones, in milliseconds.
    pub(super) interval: i64,
    /// The shortest part of a window that the last samples of chunks cover, in milliseconds.
    pub(super) part: i64,
}

impl Scrapes {
    /// The scrapes of the series that match, by their labels with and without the name.
    pub(super) fn of(all: &[Series], matchers: &[Matcher]) -> BTreeMap<String, Scrapes> {
        let mut found: BTreeMap<String, Scrapes> = BTreeMap::new();
        let matches = |series: &&Series| {
            matchers.iter().all(|matcher| {
                matcher.matches(series.labels.get(&matcher.name).unwrap_or_default())
            })
        };
        for series in all.iter().filter(matches) {
            for labels in [series.labels.clone(), series.labels.without(&[METRIC_NAME])] {
                found.entry(labels.to_string()).or_default().add(series);
            }
        }
        found
    }

    fn add(&mut self, series: &Series) {
        let mut before: Option<(i64, f64)> = None;
        for sample in &series.samples {
            let count = match &sample.value {
                SampleValue::Float(value) if is_stale_nan(*value) => continue,
                SampleValue::Histogram(histogram) if histogram.is_stale() => continue,
                SampleValue::Float(_) => f64::MAX,
                SampleValue::Histogram(histogram) => histogram.count,
            };
            if let Some((t, before)) = before
                && count < before
            {
                self.before_resets.push(t);
            }
            before = Some((sample.t, count));
            self.times.push(sample.t);
        }
        self.times.sort_unstable();
        self.before_resets.sort_unstable();
    }

    pub(super) fn shortest_interval(&self) -> i64 {
        self.times.windows(2).map(|pair| pair[1] - pair[0]).min().unwrap_or(0)
    }

    /// Whether a time lies in the first window of a series, before its end, which is the time of
    /// the window's sample.
    pub(super) fn begins_at(&self, t: i64, resolution: Resolution) -> bool {
        let window = |t: i64| t.div_euclid(resolution.millis());
        let first = self.times.partition_point(|at| window(*at) < window(t));
        let lives = self.times.get(first).is_some_and(|at| window(*at) == window(t));
        lives
            && first.checked_sub(1).is_none_or(|before| window(t) - window(self.times[before]) > 1)
    }

    pub(super) fn nearby(&self, range: TimeRange, resolution: Resolution) -> Nearby {
        let length = resolution.millis();
        let from = self.times.partition_point(|t| *t < range.start).saturating_sub(1);
        let to = self.times.partition_point(|t| *t < range.end);
        let mut nearby = Nearby { interval: 0, part: length };
        for (i, t) in self.times[..to].iter().enumerate().skip(from) {
            let next = self.times.get(i + 1).copied();
            let goes_on =
                next.is_some_and(|next| next.div_euclid(length) - t.div_euclid(length) <= 1);
            match next {
                Some(next) if goes_on => nearby.interval = nearby.interval.max(next - t),
                _ => {}
            }
            if !goes_on || self.before_resets.binary_search(t).is_ok() {
                nearby.part = nearby.part.min(t.rem_euclid(length));
            }
        }
        nearby
    }
}
