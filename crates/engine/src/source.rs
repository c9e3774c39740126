//! Where the engine's series come from.

pub mod memory;
pub mod tsdb;

use std::fmt;

use futures::stream::BoxStream;
use merge::Series;
use model::{Matcher, TimeRange};

/// What the engine will do with the series of a selector, so that a source can choose resolution and aggregates.
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

/// Functions that need two samples in their window.
const NEED_TWO_SAMPLES: [&str; 9] = [
    "rate",
    "irate",
    "increase",
    "delta",
    "idelta",
    "deriv",
    "predict_linear",
    "holt_winters",
    "double_exponential_smoothing",
];

impl SelectHints {
    pub(crate) fn needs_two_samples(&self) -> bool {
        NEED_TWO_SAMPLES.contains(&self.func.as_str())
    }

    /// The coarsest resolution that the function can work on, in milliseconds, where `allowed_ms` is what the user
    /// allows: windows of downsampled data longer than half the range would leave functions of two samples without.
    pub fn max_resolution_ms(&self, allowed_ms: i64) -> i64 {
        if self.range_ms > 0 && self.needs_two_samples() { allowed_ms.min(self.range_ms / 2) } else { allowed_ms }
    }
}

/// One selector of a query.
#[derive(Clone, Debug)]
pub struct Select {
    pub matchers: Vec<Matcher>,
    /// Samples that can matter; windows, lookback, offset and `@` are in it.
    pub range: TimeRange,
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

    /// The coarsest resolution the user allows, in milliseconds. What comes coarser than this is there because nothing
    /// else is.
    fn max_resolution_ms(&self) -> i64 {
        i64::MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_sample_functions_read_windows_of_half_their_range_at_most() {
        let coarsest = |func: &str, range_ms, allowed_ms| {
            SelectHints { func: func.to_owned(), range_ms, ..SelectHints::default() }.max_resolution_ms(allowed_ms)
        };
        assert_eq!(coarsest("rate", 1_200_000, 3_600_000), 600_000);
        assert_eq!(coarsest("rate", 7_200_000, 300_000), 300_000);
        assert_eq!(coarsest("sum_over_time", 1_200_000, 3_600_000), 3_600_000);
        assert_eq!(coarsest("rate", 0, 3_600_000), 3_600_000);
    }
}
