//! Rows as samples, for windows over the steps of a subquery.

use std::sync::Arc;

use model::FloatHistogram;
use model::histogram::ResetHint;
use promql::kernels::window::Samples;

use crate::batch::Rows;
use crate::grid::StepGrid;
use crate::read::{HistogramColumn, SeriesSamples};

/// A subquery's steps skip and repeat samples, so what those say about counter resets is
/// meaningless.
fn without_hint(histogram: &Arc<FloatHistogram>) -> Arc<FloatHistogram> {
    match histogram.hint {
        ResetHint::Unknown | ResetHint::Gauge => Arc::clone(histogram),
        ResetHint::Reset | ResetHint::NotReset => {
            Arc::new(FloatHistogram { hint: ResetHint::Unknown, ..(**histogram).clone() })
        }
    }
}

/// The present steps of a row as samples.
#[derive(Default)]
pub(crate) struct RowPoints {
    t: Vec<i64>,
    v: Vec<f64>,
    histograms: HistogramColumn,
}

impl RowPoints {
    /// Those of a row of floats with so many steps.
    pub(crate) fn bytes(steps: usize) -> usize {
        steps * (size_of::<i64>() + size_of::<f64>())
    }

    pub(crate) fn samples(&self) -> SeriesSamples<'_> {
        SeriesSamples {
            floats: Samples { t: &self.t, v: &self.v },
            histograms: self.histograms.samples(),
        }
    }

    /// Reads a row of this grid.
    pub(crate) fn read(&mut self, rows: &Rows, row: usize, grid: StepGrid) {
        self.t.clear();
        self.v.clear();
        self.histograms.clear();
        let (values, histograms) = (rows.values(row), rows.histograms(row));
        rows.present(row).for_each(|k| {
            let t = grid.start + grid.step * k as i64;
            match histograms.and_then(|h| h[k].as_ref()) {
                Some(histogram) => self.histograms.push(t, without_hint(histogram)),
                None => {
                    self.t.push(t);
                    self.v.push(values[k]);
                }
            }
        });
    }
}
