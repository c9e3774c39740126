//! What one server recorded over a span of time, series by series.

use model::histogram::Histogram;
use model::{STALE_NAN, TimeRange};

use crate::fleet::{Fleet, Replica, SeriesSpec};
use crate::schedule::{Outcome, Scrapes};
use crate::signal::Signal;

/// The samples of one series, reused from one to the next. Either `floats` or `histograms` is as
/// long as `ts`, the other is empty.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GeneratedSamples {
    pub ts: Vec<i64>,
    pub floats: Vec<f64>,
    pub histograms: Vec<Histogram>,
    /// The indices of those that mark the end of the series.
    pub stale: Vec<usize>,
}

impl GeneratedSamples {
    pub fn len(&self) -> usize {
        self.ts.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ts.is_empty()
    }

    pub fn clear(&mut self) {
        self.ts.clear();
        self.floats.clear();
        self.histograms.clear();
        self.stale.clear();
    }
}

/// One server over one span: the scrapes of all targets, worked out once for all series.
#[derive(Debug)]
pub struct ServerScrapes<'a> {
    fleet: &'a Fleet,
    cluster: usize,
    range: TimeRange,
    scrapes: Vec<Scrapes>,
}

impl<'a> ServerScrapes<'a> {
    pub fn new(fleet: &'a Fleet, replica: &Replica, range: TimeRange) -> ServerScrapes<'a> {
        ServerScrapes {
            fleet,
            cluster: replica.cluster(),
            range,
            scrapes: fleet.scrapes(replica, range, None),
        }
    }

    /// The scrapes for one series and the others of its target alone.
    pub(crate) fn of_series(
        fleet: &'a Fleet,
        replica: &Replica,
        range: TimeRange,
        series: &SeriesSpec,
    ) -> ServerScrapes<'a> {
        let scrapes = fleet.scrapes(replica, range, Some(series.target));
        ServerScrapes { fleet, cluster: replica.cluster(), range, scrapes }
    }

    pub fn range(&self) -> TimeRange {
        self.range
    }

    /// The series that may have samples here, sorted by labels.
    pub fn series(&self) -> impl Iterator<Item = &'a SeriesSpec> + '_ {
        self.fleet.clusters()[self.cluster].series().iter().filter(|series| self.may_hold(series))
    }

    pub(crate) fn may_hold(&self, series: &SeriesSpec) -> bool {
        // a marker comes after the end
        let tail = 2 * self.fleet.settings().scrape_interval_ms;
        TimeRange::new(series.life.start, series.life.end.saturating_add(tail)).overlaps(self.range)
    }

    /// Replaces what is in `out` by the samples of `series`; leaves it empty where there are none.
    pub fn samples(&self, series: &SeriesSpec, out: &mut GeneratedSamples) {
        out.clear();
        let scrapes = &self.scrapes[series.target];
        let Some(before) = scrapes.ts.first().copied() else { return };
        let last = scrapes.ts.last().copied().unwrap_or(before);
        if scrapes.clean && series.life.contains(before) && series.life.contains(last) {
            out.ts.extend_from_slice(&scrapes.ts[1..]);
        } else {
            select(series, scrapes, out);
        }
        match &series.signal {
            Signal::Native { native, starts } => native.fill(starts, &out.ts, &mut out.histograms),
            signal => signal.fill(&out.ts, &mut out.floats),
        }
        if matches!(series.signal, Signal::Up) && !scrapes.clean {
            mark_failures(scrapes, out);
        }
        for &i in &out.stale {
            match out.histograms.get_mut(i) {
                Some(histogram) => {
                    *histogram = Histogram { sum: STALE_NAN, ..Histogram::default() }
                }
                None => out.floats[i] = STALE_NAN,
            }
        }
    }
}

/// The scrapes that recorded `series`, and a stale marker at the first that no longer did.
fn select(series: &SeriesSpec, scrapes: &Scrapes, out: &mut GeneratedSamples) {
    let recorded = |i: usize| {
        let answered = match scrapes.outcomes[i] {
            Outcome::Ok => true,
            Outcome::Failed => series.of_scraper,
            Outcome::Gap => false,
        };
        answered && series.life.contains(scrapes.ts[i])
    };
    let mut was_recorded = recorded(0);
    for i in 1..scrapes.ts.len() {
        let is_recorded = recorded(i);
        // after a gap the server has forgotten what it saw before
        if was_recorded && !is_recorded && scrapes.outcomes[i] != Outcome::Gap {
            out.stale.push(out.ts.len());
            out.ts.push(scrapes.ts[i]);
        } else if is_recorded {
            out.ts.push(scrapes.ts[i]);
        }
        was_recorded = is_recorded;
    }
}

/// `up` reads 0 where the target did not answer.
fn mark_failures(scrapes: &Scrapes, out: &mut GeneratedSamples) {
    let mut at = 0;
    for (t, value) in out.ts.iter().zip(&mut out.floats) {
        while scrapes.ts[at] < *t {
            at += 1;
        }
        if scrapes.outcomes[at] == Outcome::Failed {
            *value = 0.0;
        }
    }
}
