//! Which samples of a series belong to which step.

use std::sync::Arc;

use model::histogram::FloatHistogram;

/// The samples of one series, sorted by time, without stale markers where a range function reads
/// them.
#[derive(Clone, Copy, Debug)]
pub struct Samples<'a> {
    pub t: &'a [i64],
    pub v: &'a [f64],
}

impl<'a> Samples<'a> {
    /// Those of a window.
    #[inline(always)]
    pub(super) fn part(self, window: Bounds) -> Samples<'a> {
        Samples { t: &self.t[window.range()], v: &self.v[window.range()] }
    }
}

/// The histograms of one series, sorted by time. A series has either a float or a histogram at one
/// time.
#[derive(Clone, Copy, Debug)]
pub struct HistogramSamples<'a> {
    pub t: &'a [i64],
    pub h: &'a [Arc<FloatHistogram>],
}

/// The samples `lo..hi` of a step's window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    pub lo: u32,
    pub hi: u32,
}

impl Bounds {
    #[inline(always)]
    pub fn range(self) -> std::ops::Range<usize> {
        self.lo as usize..self.hi as usize
    }

    #[inline(always)]
    pub fn len(self) -> usize {
        (self.hi - self.lo) as usize
    }

    #[inline(always)]
    pub fn is_empty(self) -> bool {
        self.hi <= self.lo
    }

    /// The last two samples of the window, or fewer.
    pub(super) fn last_two(self) -> Bounds {
        Bounds { lo: self.lo.max(self.hi.saturating_sub(2)), ..self }
    }
}

/// The steps a function is evaluated at and where its window ends at each.
#[derive(Clone, Copy, Debug)]
pub struct Steps {
    pub start: i64,
    pub step: i64,
    pub count: usize,
    pub offset: i64,
    /// `@`: the window ends here (less the offset) at every step.
    pub fixed: Option<i64>,
}

impl Steps {
    /// The time of evaluation.
    #[inline(always)]
    pub fn eval(&self, k: usize) -> i64 {
        self.start.wrapping_add(self.step.wrapping_mul(k as i64))
    }

    /// The end of the window, included in it.
    #[inline(always)]
    pub fn end(&self, k: usize) -> i64 {
        self.fixed.unwrap_or_else(|| self.eval(k)).saturating_sub(self.offset)
    }
}

/// Finds the samples in `(end - range, end]` for every step. It uses two cursors that expect the
/// same advance as in the step before, so that a regular series costs a few comparisons per step.
pub fn bounds(t: &[i64], steps: &Steps, range: i64, out: &mut Vec<Bounds>) {
    out.clear();
    out.reserve(steps.count);
    if steps.count == 0 {
        return;
    }
    let window_at = |end: i64| {
        let lo = count_up_to(t, end.saturating_sub(range));
        let hi = lo + count_up_to(&t[lo..], end);
        Bounds { lo: lo as u32, hi: hi as u32 }
    };
    if steps.fixed.is_some() || steps.count == 1 {
        out.resize(steps.count, window_at(steps.end(0)));
        return;
    }
    let alive = alive(t, steps, range);
    out.resize(alive.start, Bounds::default());
    if !alive.is_empty() {
        let Bounds { lo, hi } = window_at(steps.end(alive.start));
        out.push(Bounds { lo, hi });
        let (mut lo, mut hi) = (lo as usize, hi as usize);
        let (mut lo_advance, mut hi_advance) = (0, 0);
        for k in alive.start + 1..alive.end {
            let end = steps.end(k);
            let next_hi = seek(t, hi, hi_advance, end);
            let next_lo = seek(t, lo, lo_advance, end.saturating_sub(range));
            (lo_advance, hi_advance) = (next_lo - lo, next_hi - hi);
            (lo, hi) = (next_lo, next_hi);
            out.push(Bounds { lo: lo as u32, hi: hi as u32 });
        }
    }
    out.resize(steps.count, Bounds { lo: t.len() as u32, hi: t.len() as u32 });
}

/// How many of the times are `bound` or before. Often it is all or none: only the part of a series
/// that a query looks at is decoded.
fn count_up_to(t: &[i64], bound: i64) -> usize {
    match (t.first(), t.last()) {
        (Some(first), _) if *first > bound => 0,
        (_, Some(last)) if *last <= bound => t.len(),
        _ => t.partition_point(|x| *x <= bound),
    }
}

/// The steps whose window may hold samples; a series that exists for a part of the time costs
/// nothing at other steps.
fn alive(t: &[i64], steps: &Steps, range: i64) -> std::ops::Range<usize> {
    let (Some(oldest), Some(newest)) = (t.first(), t.last()) else { return 0..0 };
    let first_step = |wanted: &dyn Fn(i64) -> bool| {
        let (mut from, mut to) = (0, steps.count);
        while from < to {
            let middle = from + (to - from) / 2;
            if wanted(steps.end(middle)) {
                to = middle;
            } else {
                from = middle + 1;
            }
        }
        from
    };
    let start = first_step(&|end| end >= *oldest);
    start..first_step(&|end| end.saturating_sub(range) >= *newest).max(start)
}

/// The first index ≥ `from` whose time is after `bound`; `advance` is the guess.
#[inline(always)]
fn seek(t: &[i64], from: usize, advance: usize, bound: i64) -> usize {
    let mut i = (from + advance).min(t.len());
    while i > from && t[i - 1] > bound {
        i -= 1;
    }
    while i < t.len() && t[i] <= bound {
        i += 1;
    }
    i
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn cursors_equal_a_scan(gaps in prop::collection::vec(0i64..50, 0..200), start in -100i64..500, step in 1i64..70, range in 0i64..200, offset in -50i64..50) {
            let t: Vec<i64> = gaps.iter().scan(0, |at, gap| { *at += gap + 1; Some(*at) }).collect();
            let steps = Steps { start, step, count: 30, offset, fixed: None };
            let mut out = Vec::new();
            bounds(&t, &steps, range, &mut out);
            for (k, b) in out.iter().enumerate() {
                let end = start + step * k as i64 - offset;
                let expected: Vec<i64> = t.iter().copied().filter(|x| *x > end - range && *x <= end).collect();
                prop_assert_eq!(&t[b.range()], &expected[..]);
            }
        }
    }

    #[test]
    fn a_fixed_time_gives_every_step_the_same_window() {
        let steps = Steps { start: 0, step: 10, count: 3, offset: 5, fixed: Some(25) };
        let mut out = Vec::new();
        bounds(&[10, 15, 20, 25], &steps, 10, &mut out);
        assert_eq!(out, vec![Bounds { lo: 1, hi: 3 }; 3]);
    }
}
