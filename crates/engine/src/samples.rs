//! Samples as Prometheus counts them in the statistics of a query.
//!
//! *Total* is how many samples selectors and windows look at: each step counts its whole window, so
//! that a step costs as much as an instant query at its time. *Read* counts a sample once, at the
//! first step whose window holds it. A histogram counts as one sample per 16 of its bytes. *Peak*
//! is the most that Prometheus would hold at once; only what selectors and windows hold is in it,
//! not what operators above them copy.

use std::sync::{Arc, Mutex, PoisonError};

use model::FloatHistogram;
use promql::kernels::window::Bounds;

use crate::batch::Rows;
use crate::grid::StepGrid;

/// Which steps of the query the samples that an operator looks at count for.
#[derive(Clone, Debug)]
pub(crate) struct Attribution {
    totals: Totals,
    reads: Reads,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Totals {
    /// Step by step.
    Same,
    /// What is evaluated once and repeated counts at every step.
    Every,
    /// At the query's first step, this many times.
    First(u64),
    /// All samples, for a range vector that is the value of the query.
    Value,
    /// The steps of a subquery count where a function looks at them, not where they are made.
    Nowhere,
}

#[derive(Clone, Debug)]
enum Reads {
    Same,
    First,
    Subquery(Arc<SubqueryReads>),
}

/// How the steps of a subquery belong to those of the query around it.
#[derive(Debug)]
struct SubqueryReads {
    inner: StepGrid,
    outer: StepGrid,
    offset: i64,
    range: i64,
    then: Reads,
}

impl Reads {
    /// The query's step for step `k` of the operator; `None` where no window holds it.
    fn step(&self, k: usize) -> Option<usize> {
        match self {
            Reads::Same => Some(k),
            Reads::First => Some(0),
            Reads::Subquery(subquery) => subquery.step(k),
        }
    }
}

impl SubqueryReads {
    fn step(&self, k: usize) -> Option<usize> {
        let outer = self.outer;
        if outer.count <= 1 {
            return self.then.step(0);
        }
        let t =
            self.inner.start.saturating_add(self.inner.step * k as i64).saturating_add(self.offset);
        // the first step at or after it
        let after = t.saturating_sub(outer.start).max(0) as u64;
        let step = after.div_ceil(outer.step.unsigned_abs()).min(outer.count as u64 - 1);
        let end = outer.start + outer.step * step as i64;
        if t <= end.saturating_sub(self.range) { None } else { self.then.step(step as usize) }
    }
}

impl Attribution {
    /// For what is evaluated at the query's own steps.
    pub(crate) const QUERY: Attribution = Attribution { totals: Totals::Same, reads: Reads::Same };

    /// For what is evaluated once for `count` steps.
    pub(crate) fn repeated(&self, count: usize) -> Attribution {
        let totals = match self.totals {
            Totals::Same => Totals::Every,
            Totals::First(times) => Totals::First(times.saturating_mul(count as u64)),
            other => other,
        };
        Attribution { totals, reads: self.reads.clone() }
    }

    /// For a subquery's steps, over which a function has windows, or which are the value of the
    /// query.
    pub(crate) fn subquery(
        &self,
        inner: StepGrid,
        outer: StepGrid,
        offset: i64,
        range: i64,
    ) -> Attribution {
        if self.totals == Totals::Value {
            return Attribution { totals: Totals::First(1), reads: Reads::First };
        }
        let reads = SubqueryReads { inner, outer, offset, range, then: self.reads.clone() };
        Attribution { totals: Totals::Nowhere, reads: Reads::Subquery(Arc::new(reads)) }
    }

    /// For a range vector that is the value of the query.
    pub(crate) const VALUE: Attribution =
        Attribution { totals: Totals::Value, reads: Reads::First };
}

/// What was counted for a query.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SampleCounts {
    pub total: u64,
    pub read: u64,
    /// By step of the query.
    pub total_per_step: Vec<u64>,
    pub read_per_step: Vec<u64>,
}

/// Counts the samples of a query.
#[derive(Debug)]
pub(crate) struct SampleCounter(Mutex<SampleCounts>);

impl SampleCounter {
    pub(crate) fn new(steps: usize) -> SampleCounter {
        let (total_per_step, read_per_step) = (vec![0; steps], vec![0; steps]);
        SampleCounter(Mutex::new(SampleCounts {
            total_per_step,
            read_per_step,
            ..SampleCounts::default()
        }))
    }

    pub(crate) fn counts(&self) -> SampleCounts {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn add(&self, at: &Attribution, tally: &Tally) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let counts = &mut *counts;
        for (k, n) in tally.totals.iter().enumerate().filter(|(_, n)| **n > 0) {
            let (steps, times) = match at.totals {
                Totals::Same => (k..k + 1, 1),
                Totals::Every => (0..counts.total_per_step.len(), 1),
                Totals::First(times) => (0..1, times),
                Totals::Value => (0..1, 1),
                Totals::Nowhere => (0..0, 0),
            };
            for step in counts.total_per_step.get_mut(steps).into_iter().flatten() {
                *step += n * times;
                counts.total += n * times;
            }
        }
        for (k, n) in tally.reads.iter().enumerate().filter(|(_, n)| **n > 0) {
            if let Some(step) = at.reads.step(k).and_then(|step| counts.read_per_step.get_mut(step))
            {
                *step += n;
                counts.read += n;
            }
        }
    }
}

/// What one worker of an operator counted, by step of the operator.
#[derive(Debug)]
pub(crate) struct Tally {
    totals: Vec<u64>,
    reads: Vec<u64>,
    /// Sizes of the histograms of a series, summed up.
    sizes: Vec<u64>,
    /// The steps of a subquery were read where its selectors were.
    of_subquery: bool,
}

impl Tally {
    pub(crate) fn new(steps: usize, of_subquery: bool) -> Tally {
        Tally { totals: vec![0; steps], reads: vec![0; steps], sizes: Vec::new(), of_subquery }
    }

    /// Counts the samples that a selector found, one per step.
    pub(crate) fn instants(&mut self, rows: &Rows) {
        for row in 0..rows.len() {
            let histograms = rows.histograms(row);
            rows.present(row).for_each(|k| {
                let n = histograms.and_then(|h| h[k].as_deref()).map_or(1, size);
                self.totals[k] += n;
                self.reads[k] += n;
            });
        }
    }

    /// Counts the windows of a series of floats.
    pub(crate) fn windows(&mut self, bounds: &[Bounds]) {
        let mut read = 0;
        for (k, b) in bounds.iter().enumerate() {
            self.window(k, b.len() as u64, u64::from(b.hi.saturating_sub(b.lo.max(read))));
            read = b.hi;
        }
    }

    /// Counts the windows of a series of histograms.
    pub(crate) fn histogram_windows(
        &mut self,
        bounds: &[Bounds],
        histograms: &[Arc<FloatHistogram>],
    ) {
        let mut sum = 0;
        self.sizes.clear();
        self.sizes.push(0);
        self.sizes.extend(histograms.iter().map(|h| {
            sum += size(h);
            sum
        }));
        let mut read = 0;
        for (k, b) in bounds.iter().enumerate() {
            let from = |lo: u32| self.sizes[b.hi as usize] - self.sizes[lo.min(b.hi) as usize];
            let (total, fresh) = (from(b.lo), from(b.lo.max(read)));
            self.window(k, total, fresh);
            read = b.hi;
        }
    }

    fn window(&mut self, k: usize, total: u64, read: u64) {
        self.totals[k] += total;
        self.reads[k] += read;
    }

    /// Counts the samples of a range vector that is the value of the query.
    pub(crate) fn range(&mut self, floats: usize, histograms: &[Arc<FloatHistogram>]) {
        let n = floats as u64 + histograms.iter().map(|h| size(h)).sum::<u64>();
        self.window(0, n, n);
    }

    /// Passes the counts to `counter`, returns how many samples there were, and starts anew.
    pub(crate) fn flush(&mut self, counter: &SampleCounter, at: &Attribution) -> u64 {
        if self.of_subquery {
            self.reads.fill(0);
        }
        counter.add(at, self);
        let total = self.totals.iter().sum();
        self.totals.fill(0);
        self.reads.fill(0);
        total
    }
}

/// How many samples a histogram counts as.
fn size(histogram: &FloatHistogram) -> u64 {
    let spans = histogram.positive_spans.len() + histogram.negative_spans.len();
    let buckets = histogram.positive_buckets.len()
        + histogram.negative_buckets.len()
        + histogram.custom_values.len();
    // the bytes of Prometheus' struct
    (168 + (spans + buckets) * 8 + 8) as u64 / 16
}
