//! What the answer to a query consists of: the times it is evaluated at, and the resulting series
//! of points.

mod points;

use std::sync::Arc;

use model::{FloatHistogram, Labels};

pub use points::{Points, PointsView, StepRows};

/// The points in time a query is evaluated at: `start, start + step, … ≤ end`. An instant query has
/// one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grid {
    pub start_ms: i64,
    pub end_ms: i64,
    /// 0 for an instant query.
    pub step_ms: i64,
}

impl Grid {
    pub fn instant(t_ms: i64) -> Grid {
        Grid { start_ms: t_ms, end_ms: t_ms, step_ms: 0 }
    }

    pub fn is_instant(self) -> bool {
        self.step_ms == 0
    }

    /// How many points in time: 0 when the end is before the start.
    pub fn steps(self) -> usize {
        if self.step_ms <= 0 {
            return 1;
        }
        if self.end_ms < self.start_ms {
            return 0;
        }
        (self.end_ms.saturating_sub(self.start_ms) / self.step_ms) as usize + 1
    }

    /// The time of a step.
    pub fn time(self, step: usize) -> i64 {
        self.start_ms + self.step_ms * step as i64
    }
}

#[derive(Clone, Debug, PartialEq)]
pub enum PointValue {
    Float(f64),
    Histogram(Arc<FloatHistogram>),
}

/// A float or a histogram at a time in milliseconds.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    pub t_ms: i64,
    pub value: PointValue,
}

#[derive(Clone, Debug, PartialEq)]
pub struct ResultSeries {
    pub labels: Labels,
    pub points: Points,
}

/// The value of a query. A vector's series have one point each.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Scalar { t_ms: i64, value: f64 },
    String { t_ms: i64, value: String },
    Vector(Vec<ResultSeries>),
    Matrix(Vec<ResultSeries>),
}
