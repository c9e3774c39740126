//! Where the engine's series come from.

pub mod memory;
pub mod tsdb;

use std::fmt;

use ::tsdb::chunk::Aggregate;
use futures::stream::BoxStream;
use merge::Series;
use model::{Matcher, TimeRange};

/// What the engine will do with the series of a selector.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SelectHints {
    /// The step of the query in milliseconds; 0 for instant queries.
    pub step_ms: i64,
    /// The innermost function or aggregation directly over the selector, as Prometheus names it: `rate`, `sum`, "".
    pub func: String,
    /// The range of the matrix selector in milliseconds; 0 for instant selectors.
    pub range_ms: i64,
    pub grouping: Vec<String>,
    pub by: bool,
}

/// One selector of a query.
#[derive(Clone, Debug)]
pub struct Select {
    pub matchers: Vec<Matcher>,
    /// Samples that can matter; windows, lookback, offset and `@` are in it.
    pub range: TimeRange,
    /// The coarsest resolution wanted, in milliseconds: what the user allows and the range bears. Coarser data is
    /// better than none, where there is nothing else; it reaches beyond the range by two of its windows before, and by
    /// one after, because what short windows are filled with stands there.
    pub max_resolution_ms: i64,
    /// What is read of downsampled chunks.
    pub aggregates: Vec<Aggregate>,
    pub hints: SelectHints,
}

/// A piece of a source's answer.
#[derive(Clone, Debug)]
pub enum SourceEvent {
    /// Some series in order of their labels; each series whole, each label set once. Chunks of several replicas may
    /// overlap when the query deduplicates; the engine does that after decoding.
    Series(Vec<Series>),
    Warning(String),
    Info(String),
}

/// Why a source could not answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SourceError {
    #[error("{0}")]
    Failed(String),
    #[error("{0}")]
    Limit(String),
    #[error("{0}")]
    Timeout(String),
}

pub type SourceStream = BoxStream<'static, Result<SourceEvent, SourceError>>;

/// Input of the engine.
pub trait SeriesSource: Send + Sync + fmt::Debug + 'static {
    /// Opens the stream for one selector. Dropping it ends the work behind it.
    fn select(&self, select: Select) -> SourceStream;

    /// The coarsest resolution the user allows, in milliseconds.
    fn max_resolution_ms(&self) -> i64 {
        0
    }
}
