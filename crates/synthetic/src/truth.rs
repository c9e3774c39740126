//! What queries over the fleet's data have to find.

use std::collections::BTreeMap;

use model::TimeRange;

use crate::fleet::{Fleet, Replica, SeriesSpec};
use crate::window::{Samples, Window};

/// What one server recorded of one series over a span of time. Stale markers are counted apart and are in nothing
/// else.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Truth {
    /// Samples, stale markers left out.
    pub samples: u64,
    pub stale_markers: u64,
    /// Added up in order of time; of histograms, their sums. 0 without samples.
    pub sum: f64,
    /// Infinity without samples, and for histograms.
    pub min: f64,
    /// Negative infinity without samples, and for histograms.
    pub max: f64,
}

impl Truth {
    fn empty() -> Truth {
        Truth { samples: 0, stale_markers: 0, sum: 0.0, min: f64::INFINITY, max: f64::NEG_INFINITY }
    }

    fn add(&mut self, samples: &Samples) {
        let mut stale = samples.stale.iter().copied().peekable();
        for i in 0..samples.len() {
            if stale.next_if_eq(&i).is_some() {
                self.stale_markers += 1;
                continue;
            }
            self.samples += 1;
            match samples.histograms.get(i) {
                Some(histogram) => self.sum += histogram.sum,
                None => {
                    let value = samples.floats[i];
                    self.sum += value;
                    self.min = self.min.min(value);
                    self.max = self.max.max(value);
                }
            }
        }
    }
}

/// How much of one metric there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MetricCounts {
    /// Series with at least one sample or marker.
    pub series: u64,
    /// Samples, stale markers left out.
    pub samples: u64,
    pub stale_markers: u64,
}

/// A day at a time, so that nothing grows with the span.
const CHUNK_MS: i64 = 24 * 3_600_000;

fn windows<'a, 'r>(
    fleet: &'a Fleet,
    replica: &'r Replica,
    range: TimeRange,
) -> impl Iterator<Item = Window<'a>> + use<'a, 'r> {
    let range = range.intersect(fleet.settings().range);
    (range.start..range.end)
        .step_by(CHUNK_MS as usize)
        .map(move |t| Window::new(fleet, replica, TimeRange::new(t, range.end.min(t + CHUNK_MS))))
}

impl Fleet {
    /// What `replica` recorded of `series`, which is of the same cluster, in `range`.
    pub fn truth(&self, replica: &Replica, series: &SeriesSpec, range: TimeRange) -> Truth {
        let mut truth = Truth::empty();
        let mut samples = Samples::default();
        for window in windows(self, replica, range) {
            window.samples(series, &mut samples);
            truth.add(&samples);
        }
        truth
    }

    /// Everything `replica` recorded, by name of the metric.
    pub fn counts<'a>(&'a self, replica: &Replica) -> BTreeMap<&'a str, MetricCounts> {
        let all = self.clusters()[replica.cluster()].series();
        let mut seen = vec![false; all.len()];
        let mut counts: BTreeMap<&'a str, MetricCounts> = BTreeMap::new();
        let mut samples = Samples::default();
        for window in windows(self, replica, self.settings().range) {
            for series in window.series() {
                window.samples(series, &mut samples);
                if samples.is_empty() {
                    continue;
                }
                let of_metric = counts.entry(series.metric()).or_default();
                of_metric.samples += (samples.len() - samples.stale.len()) as u64;
                of_metric.stale_markers += samples.stale.len() as u64;
                let at = all.partition_point(|other| other.labels() < series.labels());
                of_metric.series += u64::from(!std::mem::replace(&mut seen[at], true));
            }
        }
        counts
    }

    /// How much the counter truly grew in the closed span `[start, end]` while it lived, whatever resets hid and
    /// before it is rounded to what it counts in; of a native histogram, its observations. `None` for gauges.
    pub fn growth(&self, series: &SeriesSpec, span: TimeRange) -> Option<f64> {
        let alive = span.intersect(series.life());
        if alive.is_empty() {
            return series.signal.growth(span.start, span.start);
        }
        series.signal.growth(alive.start, alive.end)
    }
}
