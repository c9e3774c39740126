//! Queries and their answers.

use std::sync::Arc;
use std::time::Duration;

use merge::Dedup;
use promql::value::{Grid, Value};

use crate::explain::ExplainedOperator;
use crate::samples::SampleCounts;
use crate::source::SeriesSource;

/// One query to run.
#[derive(Clone, Debug)]
pub struct Query {
    pub text: String,
    pub grid: Grid,
    pub lookback_ms: i64,
    /// Lookback bridges the windows of downsampled data that the user allows, however long; where
    /// only such data exists, it always does.
    pub dynamic_lookback: bool,
    /// How samples of replicas become one series; `None` where series have no replicas: the first
    /// of overlapping chunks wins.
    pub dedup: Option<Dedup>,
    /// The coarsest resolution the user allows, in milliseconds; 0 = raw only.
    pub max_resolution_ms: i64,
    pub timeout: Duration,
    pub source: Arc<dyn SeriesSource>,
    pub detail: Detail,
}

/// What a query is to report besides its value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Detail {
    /// Count samples as Prometheus does.
    pub stats: bool,
    /// Measure each operator.
    pub analyze: bool,
}

/// What evaluating cost, as Prometheus counts it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct QueryStats {
    /// Points that selectors and windows gave: what Prometheus holds of them at once.
    pub peak_samples: u64,
    /// Raw samples decoded.
    pub decoded_samples: u64,
    /// Parsing and planning.
    pub plan_seconds: f64,
    /// Running the plan.
    pub eval_seconds: f64,
    /// Putting the result in order.
    pub sort_seconds: f64,
    /// Counted when the query asks for it.
    pub samples: Option<SampleCounts>,
    /// The operators, measured, when the query asks for it.
    pub analysis: Option<Vec<ExplainedOperator>>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    pub value: Value,
    pub warnings: Vec<String>,
    pub infos: Vec<String>,
    pub stats: QueryStats,
}
