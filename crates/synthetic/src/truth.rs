//! What queries over the fleet's data must return.

use std::collections::BTreeMap;

use model::TimeRange;

use crate::fleet::{Fleet, Replica, SeriesSpec};
use crate::server_scrapes::{GeneratedSamples, ServerScrapes};

/// What one server recorded of one series over a span of time. Stale markers are counted separately
/// and are in nothing else.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Truth {
    /// Samples, stale markers left out.
    pub samples: u64,
    pub stale_markers: u64,
    /// The values added up in order of time; for histograms, their sums. 0 without samples.
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

    /// Whether there is neither a sample nor a marker.
    pub fn is_empty(&self) -> bool {
        self.samples == 0 && self.stale_markers == 0
    }

    fn add(&mut self, samples: &GeneratedSamples) {
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
const STRETCH_MS: i64 = 24 * 3_600_000;

fn stretches(fleet: &Fleet, range: TimeRange) -> impl Iterator<Item = TimeRange> + use<> {
    let TimeRange { start, end } = range.intersect(fleet.settings().range);
    (start..end)
        .step_by(STRETCH_MS as usize)
        .map(move |t| TimeRange::new(t, end.min(t + STRETCH_MS)))
}

impl Fleet {
    /// What `replica` recorded of `series`, which is of the same cluster, in `range`.
    pub fn truth(&self, replica: &Replica, series: &SeriesSpec, range: TimeRange) -> Truth {
        let mut truth = Truth::empty();
        let mut samples = GeneratedSamples::default();
        for stretch in stretches(self, range) {
            ServerScrapes::of_series(self, replica, stretch, series).samples(series, &mut samples);
            truth.add(&samples);
        }
        truth
    }

    /// What `replica` recorded of each series of its cluster in `range`, sorted by labels; series
    /// of which it recorded nothing are left out.
    pub fn truths(&self, replica: &Replica, range: TimeRange) -> Vec<(&SeriesSpec, Truth)> {
        let all = self.clusters()[replica.cluster()].series();
        let mut truths = vec![Truth::empty(); all.len()];
        let mut samples = GeneratedSamples::default();
        for stretch in stretches(self, range) {
            let window = ServerScrapes::new(self, replica, stretch);
            for (series, truth) in
                all.iter().zip(&mut truths).filter(|(series, _)| window.may_hold(series))
            {
                window.samples(series, &mut samples);
                truth.add(&samples);
            }
        }
        all.iter().zip(truths).filter(|(_, truth)| !truth.is_empty()).collect()
    }

    /// Everything `replica` recorded in `range`, by name of the metric.
    pub fn counts(&self, replica: &Replica, range: TimeRange) -> BTreeMap<&str, MetricCounts> {
        let mut counts: BTreeMap<&str, MetricCounts> = BTreeMap::new();
        for (series, truth) in self.truths(replica, range) {
            let of_metric = counts.entry(series.metric()).or_default();
            of_metric.series += 1;
            of_metric.samples += truth.samples;
            of_metric.stale_markers += truth.stale_markers;
        }
        counts
    }

    /// How much the counter truly grew in the closed span `[start, end]` while it existed,
    /// including what resets hid and before rounding to the unit it counts in; for a native
    /// histogram, its observations. `None` for gauges.
    pub fn growth(&self, series: &SeriesSpec, span: TimeRange) -> Option<f64> {
        let alive = span.intersect(series.life());
        if alive.is_empty() {
            return series.signal.growth(span.start, span.start);
        }
        series.signal.growth(alive.start, alive.end)
    }

    /// How often the process behind the counter started in `range`, which sets it to zero; 0 for
    /// what is not a counter.
    pub fn resets(&self, series: &SeriesSpec, range: TimeRange) -> usize {
        series.signal.starts().iter().filter(|start| range.contains(**start)).count()
    }
}
