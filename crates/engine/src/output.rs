//! Queries and their answers.

use std::sync::Arc;
use std::time::Duration;

use model::{FloatHistogram, Labels};

use crate::{Operation, Points, SampleCounts, SeriesSource};

/// How samples of replicas become one series.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dedup {
    /// Overlapping chunks of one series are one replica's; where they overlap the first wins.
    #[default]
    Off,
    /// Thanos' penalty algorithm.
    Penalty,
    /// All samples interleaved, equal timestamps once.
    Chain,
}

/// The points in time a query is evaluated at: `start, start + step, … ≤ end`. An instant query has one.
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

/// One query to run.
#[derive(Clone, Debug)]
pub struct Query {
    pub text: String,
    pub grid: Grid,
    pub lookback_ms: i64,
    /// Lookback bridges the windows of downsampled data that the user allows, however long; where only such data
    /// exists, it always does.
    pub dynamic_lookback: bool,
    pub dedup: Dedup,
    pub timeout: Duration,
    pub source: Arc<dyn SeriesSource>,
    pub detail: Detail,
}

/// What a query is to tell besides its value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Detail {
    /// Count samples as Prometheus does.
    pub stats: bool,
    /// Measure each operator.
    pub analyze: bool,
}

/// A float or a histogram at a time in milliseconds.
#[derive(Clone, Debug, PartialEq)]
pub enum PointValue {
    Float(f64),
    Histogram(Arc<FloatHistogram>),
}

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

/// What evaluating cost, as Prometheus counts it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stats {
    /// Points that selectors and windows gave: what Prometheus holds of them at once.
    pub peak_samples: u64,
    /// Raw samples decoded.
    pub decoded_samples: u64,
    /// Waiting for other queries to end.
    pub queue_seconds: f64,
    /// Parsing and planning.
    pub plan_seconds: f64,
    /// Running the plan.
    pub eval_seconds: f64,
    /// Putting the result in order.
    pub sort_seconds: f64,
    /// Counted when the query asks for it.
    pub samples: Option<SampleCounts>,
    /// The operators, measured, when the query asks for it.
    pub analysis: Option<Operation>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    pub value: Value,
    pub warnings: Vec<String>,
    pub infos: Vec<String>,
    pub stats: Stats,
}

/// Why a query has no answer; the kinds are the error types of Prometheus' HTTP API.
#[derive(Clone, Debug, thiserror::Error)]
pub enum QueryError {
    /// The text does not parse or type-check: HTTP 400.
    #[error("{0}")]
    BadData(String),
    /// Evaluation failed: HTTP 422.
    #[error("{0}")]
    Execution(String),
    #[error("{0}")]
    Timeout(String),
    #[error("{0}")]
    Canceled(String),
    #[error("{0}")]
    Internal(String),
}
