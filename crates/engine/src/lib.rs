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
