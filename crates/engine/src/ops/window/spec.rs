//! What a window operator does to the samples of its windows.

use promql::ast::{Extension, Span};
use promql::kernels::extended::{self, ExtendedFunction};
use promql::kernels::range::RangeFunction;
use promql::kernels::window::Steps;
use promql::kernels::xrate::{self, ExtendedRate};

use crate::samples::Attribution;

/// What is computed from the samples of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum WindowFunction {
    /// The latest sample of the lookback.
    Instant,
    /// The time of the latest sample of the lookback.
    Timestamp,
    /// The latest sample too, but series keep their metric names.
    Seen,
    Range(RangeFunction),
    /// A function of an anchored or smoothed range, which reaches past its borders by the lookback.
    Extended {
        function: ExtendedFunction,
        lookback: i64,
    },
    /// The smoothed value: interpolated between the samples within the lookback on both sides.
    Smoothed {
        lookback: i64,
    },
    /// A function of a range that reaches back to the sample before it.
    Reaching(ExtendedRate),
}

/// A function over windows at the steps of a grid.
#[derive(Clone, Debug)]
pub(crate) struct WindowSpec {
    pub(crate) function: WindowFunction,
    /// Its name in the query.
    pub(crate) name: String,
    pub(crate) steps: Steps,
    /// The length of a window in milliseconds.
    pub(crate) range: i64,
    /// The argument that holds the samples.
    pub(crate) span: Span,
    /// The first parameter.
    pub(crate) param_span: Span,
    /// Which steps of the query its samples count for.
    pub(crate) counted: Attribution,
    /// The next operator looks at metric names, so if the function drops them, it has to do so now.
    pub(crate) names_matter: bool,
}

impl WindowSpec {
    pub(crate) fn keeps_name(&self) -> bool {
        match self.function {
            WindowFunction::Instant | WindowFunction::Seen | WindowFunction::Smoothed { .. } => {
                true
            }
            WindowFunction::Timestamp
            | WindowFunction::Extended { .. }
            | WindowFunction::Reaching(_) => false,
            WindowFunction::Range(function) => function.keeps_name(),
        }
    }

    /// Whether all samples of a window count, not just the one found in it.
    pub(super) fn looks_at_windows(&self) -> bool {
        use WindowFunction::{Extended, Range, Reaching};
        matches!(self.function, Range(_) | Extended { .. } | Reaching(_))
    }

    pub(super) fn reads_stale(&self) -> bool {
        matches!(
            self.function,
            WindowFunction::Instant | WindowFunction::Timestamp | WindowFunction::Seen
        )
    }

    /// Where the windows end that hold the samples needed, and how far they reach back.
    pub(super) fn windows(&self) -> (Steps, i64) {
        match self.function {
            WindowFunction::Extended { function, lookback } => {
                extended::reach(function.extension(), &self.steps, self.range, lookback)
            }
            WindowFunction::Smoothed { lookback } => {
                extended::reach(Extension::Smoothed, &self.steps, 0, lookback)
            }
            WindowFunction::Reaching(_) => (self.steps, self.range.saturating_add(xrate::REACH_MS)),
            _ => (self.steps, self.range),
        }
    }

    pub(super) fn detail(&self) -> String {
        let name = if self.name.is_empty() { "lookback" } else { &self.name };
        format!("{name}[{}ms] at {} steps", self.range, self.steps.count)
    }
}
