//! The numbers behind functions and aggregations: slices in, slices out, no labels and no I/O.
//!
//! Range functions work on one series at a time over all steps of a query: [`window`] finds the
//! samples of every step with two cursors, [`range`] evaluates a function over them, or [`mixed`]
//! where some are histograms. Which steps have a value is a set of [`steps`]. Results are those of
//! Prometheus 3.15; sums are compensated (Neumaier) where Prometheus compensates. Timestamps are
//! milliseconds. What may take long asks an [`interrupt::Interrupt`] whether to go on.

pub mod aggregate;
pub mod aggregate_histogram;
pub mod binary;
pub mod calendar;
pub mod coarse;
pub mod extended;
pub mod format;
pub mod histogram;
pub mod interrupt;
pub mod kahan;
pub mod labels;
pub mod math;
pub mod mixed;
pub mod native;
pub mod notes;
pub mod order;
pub mod over_time;
pub mod range;
pub mod rate;
pub mod regression;
pub mod steps;
pub mod window;
pub mod xrate;

use std::sync::Arc;

use model::histogram::FloatHistogram;

use self::steps::StepsMut;

/// A row of values, one per step, and the steps that have one.
#[derive(Debug)]
pub struct FloatColumn<'a> {
    pub values: &'a mut [f64],
    pub present: StepsMut<'a>,
}

impl FloatColumn<'_> {
    /// Sets the value of a step.
    #[inline]
    pub fn set(&mut self, step: usize, value: f64) {
        self.values[step] = value;
        self.present.insert(step);
    }
}

/// A row that may hold histograms too. Where a step is present, it has the histogram of
/// `histograms` if there is one there, else the float of `values`.
#[derive(Debug)]
pub struct MixedColumn<'a> {
    pub values: &'a mut [f64],
    pub present: StepsMut<'a>,
    pub histograms: &'a mut [Option<Arc<FloatHistogram>>],
}

impl MixedColumn<'_> {
    #[inline]
    pub fn set_float(&mut self, step: usize, value: f64) {
        self.floats().set(step, value);
    }

    #[inline]
    pub fn set_histogram(&mut self, step: usize, histogram: Arc<FloatHistogram>) {
        self.histograms[step] = Some(histogram);
        self.present.insert(step);
    }

    /// The row as one of floats; setting a value there does not remove a histogram.
    pub fn floats(&mut self) -> FloatColumn<'_> {
        FloatColumn { values: self.values, present: self.present.view_mut() }
    }
}

/// A parameter that is one number, or one per step.
#[derive(Clone, Copy, Debug)]
pub enum Param<'a> {
    One(f64),
    PerStep(&'a [f64]),
}

impl Param<'_> {
    #[inline]
    pub fn at(&self, step: usize) -> f64 {
        match self {
            Param::One(value) => *value,
            Param::PerStep(values) => values[step],
        }
    }
}
