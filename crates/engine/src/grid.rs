//! The points in time at which queries and the nodes of their plans are evaluated.

use promql::kernels::window::Steps;

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

/// The steps a node is evaluated at; at least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StepGrid {
    pub(crate) start: i64,
    pub(crate) step: i64,
    pub(crate) count: usize,
}

impl StepGrid {
    /// A single step.
    pub(crate) fn at(t: i64) -> StepGrid {
        StepGrid { start: t, step: 1, count: 1 }
    }

    pub(crate) fn steps(self) -> Steps {
        Steps { start: self.start, step: self.step, count: self.count, offset: 0, fixed: None }
    }
}
