//! The samples at the edges of windows, which are all that some functions look at.

use promql::kernels::window::Steps;

/// Tells the first and last samples of windows apart from those between. It is asked about one
/// series after the other, each in order of time.
#[derive(Debug)]
pub(super) struct WindowEdges {
    ends: EvenTimes,
    starts: EvenTimes,
    /// Whether the sample asked about before was the last one before a window.
    before_start: bool,
}

/// Times at equal distances.
#[derive(Debug)]
struct EvenTimes {
    first: i64,
    step: i64,
    last: i64,
    /// The first of them that is not before the latest sample.
    next: i64,
}

impl WindowEdges {
    pub(super) fn new(steps: &Steps, window_ms: i64) -> WindowEdges {
        let last = steps.count.saturating_sub(1);
        let marks = |back: i64| {
            let first = steps.end(0).saturating_sub(back);
            EvenTimes {
                first,
                step: steps.step.max(1),
                last: steps.end(last).saturating_sub(back),
                next: first,
            }
        };
        // the window is open at its start
        WindowEdges { ends: marks(0), starts: marks(window_ms), before_start: false }
    }

    /// Starts on another series.
    pub(super) fn restart(&mut self) {
        self.before_start = false;
        self.ends.next = self.ends.first;
        self.starts.next = self.starts.first;
    }

    /// Whether the sample at `t`, which is followed by one at `next`, is the first or the last one
    /// of a window. It is not known for the first sample asked about, nor for one whose predecessor
    /// was not asked about.
    pub(super) fn contain(&mut self, t: i64, next: i64) -> bool {
        let first = std::mem::replace(&mut self.before_start, self.starts.are_within(t, next));
        self.ends.are_within(t, next) || first
    }
}

impl EvenTimes {
    /// Whether one is in `from..to`.
    fn are_within(&mut self, from: i64, to: i64) -> bool {
        if self.next < from {
            let missing = from.abs_diff(self.next).div_ceil(self.step.unsigned_abs());
            let ahead = i64::try_from(missing).unwrap_or(i64::MAX).saturating_mul(self.step);
            self.next = self.next.saturating_add(ahead);
        }
        self.next <= self.last && self.next < to
    }
}

#[cfg(test)]
mod tests {
    use promql::kernels::window::bounds;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn edges_are_those_of_the_windows(
            gaps in prop::collection::vec(1i64..50, 1..100),
            start in -100i64..500,
            step in 1i64..70,
            count in 1usize..40,
            window in 0i64..200,
            offset in -50i64..50,
        ) {
            let t: Vec<i64> = gaps.iter().scan(0, |at, gap| { *at += gap; Some(*at) }).collect();
            let steps = Steps { start, step, count, offset, fixed: None };
            let mut windows = Vec::new();
            bounds(&t, &steps, window, &mut windows);
            let mut edges = WindowEdges::new(&steps, window);
            for _ in 0..2 {
                edges.restart();
                for i in 0..t.len() - 1 {
                    let found = edges.contain(t[i], t[i + 1]);
                    let is_edge = windows.iter().filter(|w| !w.is_empty()).any(|w| w.lo as usize == i || w.hi as usize == i + 1);
                    // the first sample of a series has none before it to tell by
                    prop_assert!(found || !is_edge || i == 0, "sample {} at {}", i, t[i]);
                }
            }
        }
    }
}
