//! Where the engine's series come from.

use std::fmt;
use std::sync::Arc;

use futures::stream::BoxStream;
use merge::Series;
use model::{Budget, Matcher, TimeRange};
use tsdb::chunk::Aggregate;

use crate::error::Error;

/// One selector of a query.
#[derive(Clone, Debug)]
pub struct Select {
    pub matchers: Vec<Matcher>,
    /// Samples that can matter; windows, lookback, offset and `@` are in it.
    pub range: TimeRange,
    /// The coarsest resolution wanted, in milliseconds: what the user allows and the range permits.
    /// Coarser data is better than none where nothing else exists; it reaches two of its windows
    /// before the range and one after, because short windows are filled from there.
    pub max_resolution_ms: i64,
    /// What is read of downsampled chunks.
    pub aggregates: Vec<Aggregate>,
    /// The shortest windows, in milliseconds, of which the times of the first and the last samples
    /// are used.
    pub times_from_ms: i64,
    /// What the source holds of its answer is charged to this: the query's share of the budget.
    pub memory: Budget,
}

/// A piece of a source's answer.
#[derive(Clone, Debug)]
pub enum SourceEvent {
    /// Some series in order of their labels; each series whole, each label set once. Chunks of
    /// several replicas may overlap when the query deduplicates; the engine does that after
    /// decoding.
    Series(Vec<Series>),
    Warning(String),
    /// Downsampled data answered though it was not asked for; an answer has at most one.
    Info(String),
}

/// A chunk that the engine cannot read.
#[derive(Clone, Debug)]
pub struct UnreadableChunk {
    /// The server that sent it, where that is known.
    pub origin: Option<Arc<str>>,
    /// Names the series and what is wrong.
    pub error: Error,
}

/// Errors of kind `Execution` or `Timeout`: see [`Error::expanding_series`].
pub type SourceStream = BoxStream<'static, Result<SourceEvent, Error>>;

/// Input of the engine.
pub trait SeriesSource: Send + Sync + fmt::Debug + 'static {
    /// Opens the stream for one selector. Dropping it ends the work behind it.
    fn select(&self, select: Select) -> SourceStream;

    /// The warning with which the query goes on without a chunk.
    ///
    /// # Errors
    /// The query ends, as it does unless the source takes partial answers.
    fn leave_out(&self, chunk: UnreadableChunk) -> Result<String, Error> {
        Err(chunk.error)
    }
}
