//! PromQL evaluation: an AST becomes a plan of our own nodes, that becomes DataFusion `ExecutionPlan`s over
//! series-columnar batches, those become an answer.
//!
//! Input comes through [`SeriesSource`], one merged and sorted stream of series. No gRPC and no bucket is known here.

mod output;
pub mod source;

pub use output::{Answer, Dedup, Grid, Point, PointValue, Query, QueryError, ResultSeries, Stats, Value};
pub use source::{Select, SelectHints, SeriesSource, SourceError, SourceEvent, SourceStream};

use model::Budget;

/// What holds for all queries of a process.
#[derive(Clone, Debug)]
pub struct EngineSettings {
    /// Threads of the pool that decodes and evaluates.
    pub threads: usize,
    /// Queries evaluated at once; more wait.
    pub max_concurrent: usize,
    /// Samples one query may hold; 0 = no limit.
    pub max_samples: u64,
    pub budget: Budget,
    pub experimental_functions: bool,
    /// Keep metric names until the end of evaluation, as Prometheus' feature flag of that name.
    pub delayed_name_removal: bool,
    /// The step of subqueries that name none, in milliseconds.
    pub default_subquery_step_ms: i64,
}

impl Default for EngineSettings {
    fn default() -> EngineSettings {
        EngineSettings {
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            max_concurrent: 20,
            max_samples: 50_000_000,
            budget: Budget::unlimited(),
            experimental_functions: false,
            delayed_name_removal: false,
            default_subquery_step_ms: 60_000,
        }
    }
}

/// Evaluates queries on one pool of threads and one DataFusion runtime.
#[derive(Debug)]
pub struct Engine {
    settings: EngineSettings,
}

impl Engine {
    pub fn new(settings: EngineSettings) -> Engine {
        Engine { settings }
    }

    pub fn settings(&self) -> &EngineSettings {
        &self.settings
    }
}
