//! Aggregation into dense `[group][step]` cells.

use super::kahan;
use super::steps::{self, StepSets, StepsView, WORD_STEPS, for_each_bit, full_word};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CellKind {
    Sum,
    Avg,
    Min,
    Max,
    Count,
    Group,
    Stddev,
    Stdvar,
}

/// The state of an aggregation for a number of groups. What `a`, `b` and `n` hold depends on the
/// kind: sum, compensation and count; or squared distances, mean and count.
#[derive(Debug)]
pub struct Cells {
    kind: CellKind,
    steps: usize,
    a: Vec<f64>,
    b: Vec<f64>,
    n: Vec<f64>,
    present: StepSets,
    /// Cells of `Avg` that switched to the incremental mean because their sum overflowed; no sets
    /// until one does.
    incremental: StepSets,
}

impl Cells {
    pub fn new(kind: CellKind, steps: usize) -> Cells {
        let (a, b, n) = (Vec::new(), Vec::new(), Vec::new());
        Cells {
            kind,
            steps,
            a,
            b,
            n,
            present: StepSets::new(steps),
            incremental: StepSets::new(steps),
        }
    }

    pub fn groups(&self) -> usize {
        self.present.len()
    }

    /// Bytes of one group.
    pub fn bytes_per_group(kind: CellKind, steps: usize) -> usize {
        steps * 8 * (1 + usize::from(Cells::has_b(kind)) + usize::from(Cells::has_n(kind)))
            + steps::words(steps) * 8
    }

    fn has_b(kind: CellKind) -> bool {
        use CellKind::*;
        matches!(kind, Sum | Avg | Stddev | Stdvar)
    }

    fn has_n(kind: CellKind) -> bool {
        use CellKind::*;
        matches!(kind, Avg | Stddev | Stdvar)
    }

    /// Makes room for groups `0..groups`.
    pub fn grow(&mut self, groups: usize) {
        let cells = groups * self.steps;
        self.a.resize(cells, if self.kind == CellKind::Sum { -0.0 } else { 0.0 });
        if Cells::has_b(self.kind) {
            self.b.resize(cells, 0.0);
        }
        if Cells::has_n(self.kind) {
            self.n.resize(cells, 0.0);
        }
        self.present.resize(groups);
        if !self.incremental.is_empty() {
            self.incremental.resize(groups);
        }
    }

    /// Adds one row to a group.
    pub fn add(&mut self, group: usize, values: &[f64], present: StepsView<'_>) {
        match self.kind {
            CellKind::Sum => self.add_sum(group, values, present),
            CellKind::Count => self.each(group, present, |cells, at, _| cells.a[at] += 1.0),
            CellKind::Group => self.each(group, present, |cells, at, _| cells.a[at] = 1.0),
            CellKind::Avg => self.each(group, present, |cells, at, k| cells.add_avg(at, values[k])),
            CellKind::Min => self.each_seen(group, present, |cells, at, k, seen| {
                if !seen || values[k] < cells.a[at] || cells.a[at].is_nan() {
                    cells.a[at] = values[k];
                }
            }),
            CellKind::Max => self.each_seen(group, present, |cells, at, k, seen| {
                if !seen || values[k] > cells.a[at] || cells.a[at].is_nan() {
                    cells.a[at] = values[k];
                }
            }),
            CellKind::Stddev | CellKind::Stdvar => {
                self.each_seen(group, present, |cells, at, k, seen| {
                    let v = values[k];
                    if seen {
                        cells.n[at] += 1.0;
                        let delta = v - cells.b[at];
                        cells.b[at] += delta / cells.n[at];
                        cells.a[at] += delta * (v - cells.b[at]);
                    } else {
                        (cells.n[at], cells.b[at]) = (1.0, v);
                        cells.a[at] = if v.is_finite() { 0.0 } else { f64::NAN };
                    }
                })
            }
        }
        self.present.get_mut(group).add(present);
    }

    fn add_sum(&mut self, group: usize, values: &[f64], present: StepsView<'_>) {
        let at = group * self.steps;
        let a = &mut self.a[at..at + self.steps];
        let b = &mut self.b[at..at + self.steps];
        for (from, bits) in present.by_word() {
            if bits == full_word(from, self.steps) {
                let to = (from + WORD_STEPS).min(self.steps);
                for ((a, b), v) in
                    a[from..to].iter_mut().zip(&mut b[from..to]).zip(&values[from..to])
                {
                    (*a, *b) = kahan::add(*v, *a, *b);
                }
            } else {
                for_each_bit(bits, |k| {
                    (a[from + k], b[from + k]) =
                        kahan::add(values[from + k], a[from + k], b[from + k])
                });
            }
        }
    }

    fn each(
        &mut self,
        group: usize,
        present: StepsView<'_>,
        mut f: impl FnMut(&mut Cells, usize, usize),
    ) {
        let at = group * self.steps;
        present.for_each(|k| f(self, at + k, k));
    }

    fn each_seen(
        &mut self,
        group: usize,
        present: StepsView<'_>,
        mut f: impl FnMut(&mut Cells, usize, usize, bool),
    ) {
        let at = group * self.steps;
        for (from, bits) in present.by_word() {
            let seen = self.present.get(group).word_at(from);
            for_each_bit(bits, |k| f(self, at + from + k, from + k, seen >> k & 1 == 1));
        }
    }

    fn is_incremental(&self, at: usize) -> bool {
        let (group, k) = (at / self.steps, at % self.steps);
        !self.incremental.is_empty() && self.incremental.get(group).contains(k)
    }

    fn set_incremental(&mut self, at: usize) {
        let (group, k) = (at / self.steps, at % self.steps);
        self.incremental.resize(self.groups());
        self.incremental.get_mut(group).insert(k);
    }

    fn add_avg(&mut self, at: usize, v: f64) {
        self.n[at] += 1.0;
        if !self.is_incremental(at) {
            let (s, c) = kahan::add(v, self.a[at], self.b[at]);
            if !s.is_infinite() || self.n[at] == 1.0 {
                (self.a[at], self.b[at]) = (s, c);
                return;
            }
            // The sum would overflow: from here on keep the mean instead.
            self.set_incremental(at);
            let before = self.n[at] - 1.0;
            self.a[at] /= before;
            self.b[at] /= before;
        }
        (self.a[at], self.b[at]) = kahan::mean_step(v, self.n[at], self.a[at], self.b[at]);
    }

    /// Adds a group of another worker's cells of the same kind.
    pub fn merge(&mut self, group: usize, other: &Cells, from: usize) {
        let present = other.present(from);
        let base = from * self.steps;
        self.each_seen(group, present, |cells, at, k, seen| {
            let src = base + k;
            if !seen {
                cells.copy_cell(at, other, src);
            } else {
                cells.merge_cell(at, other, src);
            }
        });
        self.present.get_mut(group).add(present);
    }

    fn copy_cell(&mut self, at: usize, other: &Cells, src: usize) {
        self.a[at] = other.a[src];
        if Cells::has_b(self.kind) {
            self.b[at] = other.b[src];
        }
        if Cells::has_n(self.kind) {
            self.n[at] = other.n[src];
        }
        if other.is_incremental(src) {
            self.set_incremental(at);
        }
    }

    fn merge_cell(&mut self, at: usize, other: &Cells, src: usize) {
        let (x, y) = (self.a[at], other.a[src]);
        match self.kind {
            CellKind::Count => self.a[at] = x + y,
            CellKind::Group => {}
            CellKind::Min if y < x || x.is_nan() => self.a[at] = y,
            CellKind::Max if y > x || x.is_nan() => self.a[at] = y,
            CellKind::Min | CellKind::Max => {}
            CellKind::Sum => {
                let (s, c) = kahan::add(y, x, self.b[at]);
                (self.a[at], self.b[at]) =
                    (s, if s.is_infinite() { 0.0 } else { c + other.b[src] });
            }
            CellKind::Avg => self.merge_avg(at, other, src),
            CellKind::Stddev | CellKind::Stdvar => {
                let (n, m) = (self.n[at], other.n[src]);
                let delta = other.b[src] - self.b[at];
                self.b[at] += delta * (m / (n + m));
                self.a[at] = x + y + delta * delta * (n * m / (n + m));
                self.n[at] = n + m;
            }
        }
    }

    fn merge_avg(&mut self, at: usize, other: &Cells, src: usize) {
        let (n, m) = (self.n[at], other.n[src]);
        if !self.is_incremental(at) && !other.is_incremental(src) {
            let (s, c) = kahan::add(other.a[src], self.a[at], self.b[at]);
            if !s.is_infinite() {
                (self.a[at], self.b[at], self.n[at]) = (s, c + other.b[src], n + m);
                return;
            }
        }
        let mean = |sum: f64, c: f64, count: f64, is_mean: bool| {
            if is_mean { sum + c } else { sum / count + c / count }
        };
        let own = mean(self.a[at], self.b[at], n, self.is_incremental(at));
        let their = mean(other.a[src], other.b[src], m, other.is_incremental(src));
        self.set_incremental(at);
        self.a[at] = match (own.is_infinite(), their.is_infinite()) {
            (true, true) if own != their => f64::NAN,
            (true, _) if !their.is_nan() => own,
            _ => own * (n / (n + m)) + their * (m / (n + m)),
        };
        (self.b[at], self.n[at]) = (0.0, n + m);
    }

    /// The values of a group at its present steps; others are left alone.
    pub fn finish(&self, group: usize, values: &mut [f64]) {
        let at = group * self.steps;
        self.present(group).for_each(|k| values[k] = self.value(at + k));
    }

    fn value(&self, at: usize) -> f64 {
        match self.kind {
            CellKind::Sum if self.a[at].is_infinite() => self.a[at],
            CellKind::Sum => self.a[at] + self.b[at],
            CellKind::Avg if self.is_incremental(at) => self.a[at] + self.b[at],
            CellKind::Avg => self.a[at] / self.n[at] + self.b[at] / self.n[at],
            CellKind::Stdvar => self.a[at] / self.n[at],
            CellKind::Stddev => (self.a[at] / self.n[at]).sqrt(),
            _ => self.a[at],
        }
    }

    /// The steps at which a group has a value.
    pub fn present(&self, group: usize) -> StepsView<'_> {
        self.present.get(group)
    }
}

#[cfg(test)]
#[path = "aggregate/tests.rs"]
mod tests;
