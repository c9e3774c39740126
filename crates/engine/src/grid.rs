//! The points in time at which the nodes of a plan are evaluated.

use promql::kernels::window::Steps;

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
