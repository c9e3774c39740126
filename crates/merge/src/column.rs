//! Decoded samples of one series as columns.

use std::sync::Arc;

use model::histogram::ResetHint;
use model::{Sample, SampleValue, TimeRange};

/// Float samples: `ts[i]` in milliseconds belongs to `values[i]`. Times rise strictly.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Floats {
    pub ts: Vec<i64>,
    pub values: Vec<f64>,
}

impl Floats {
    pub fn len(&self) -> usize {
        self.ts.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ts.is_empty()
    }

    pub fn push(&mut self, t: i64, value: f64) {
        self.ts.push(t);
        self.values.push(value);
    }

    /// Removes the samples but keeps the memory.
    pub fn clear(&mut self) {
        self.ts.clear();
        self.values.clear();
    }
}

/// The samples of one series: nearly always floats only, or with histograms between them.
#[derive(Clone, Debug)]
pub enum Column {
    Floats(Floats),
    Mixed(Vec<Sample>),
}

impl Default for Column {
    fn default() -> Column {
        Column::Floats(Floats::default())
    }
}

impl Column {
    pub fn len(&self) -> usize {
        match self {
            Column::Floats(floats) => floats.len(),
            Column::Mixed(samples) => samples.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn last_time(&self) -> Option<i64> {
        match self {
            Column::Floats(floats) => floats.ts.last().copied(),
            Column::Mixed(samples) => samples.last().map(|s| s.t),
        }
    }

    /// The times of all samples.
    pub(crate) fn times(&self) -> Vec<i64> {
        match self {
            Column::Floats(floats) => floats.ts.clone(),
            Column::Mixed(samples) => samples.iter().map(|sample| sample.t).collect(),
        }
    }

    /// The samples of a column that has no histograms.
    pub(crate) fn into_floats(self) -> Floats {
        match self {
            Column::Floats(floats) => floats,
            Column::Mixed(_) => unreachable!("columns with histograms were told apart before"),
        }
    }

    /// The samples one by one, of either kind.
    pub fn into_samples(self) -> Vec<Sample> {
        match self {
            Column::Mixed(samples) => samples,
            Column::Floats(Floats { ts, values }) => ts
                .into_iter()
                .zip(values)
                .map(|(t, v)| Sample { t, value: SampleValue::Float(v) })
                .collect(),
        }
    }

    /// Turns the column into the mixed form and returns its samples.
    pub fn mixed(&mut self) -> &mut Vec<Sample> {
        if let Column::Floats(_) = self {
            *self = Column::Mixed(std::mem::take(self).into_samples());
        }
        match self {
            Column::Mixed(samples) => samples,
            Column::Floats(_) => unreachable!("just turned into the mixed form"),
        }
    }

    /// Keeps only the samples inside `range`.
    pub fn trim(&mut self, range: TimeRange) {
        match self {
            Column::Floats(floats) => floats.trim(range),
            Column::Mixed(samples) => samples.trim(range),
        }
    }
}

/// A run of samples sorted by time that replica dedup can work on.
pub trait SampleColumn: Default {
    fn len(&self) -> usize;

    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn time(&self, i: usize) -> i64;

    /// Appends sample `i` of `from`. Unless it is `consecutive`, that is, the neighbour in `from`
    /// of the sample appended before it, whether a counter was reset between the two is no longer
    /// known.
    fn push_from(&mut self, from: &Self, i: usize, consecutive: bool);

    /// The index of the first sample after `t`.
    fn first_after(&self, t: i64) -> usize {
        first_not(self.len(), |i| self.time(i) <= t)
    }

    /// Keeps only the samples inside `range`.
    fn trim(&mut self, range: TimeRange);

    /// Whether both hold the same times and, bit by bit, the same floats; false when there is a
    /// histogram.
    fn same_floats(&self, other: &Self) -> bool;
}

/// The first of `len` indices for which `before` is false; it is true for all those in front and no
/// others.
fn first_not(len: usize, before: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut high) = (0, len);
    while low < high {
        let middle = low + (high - low) / 2;
        if before(middle) { low = middle + 1 } else { high = middle }
    }
    low
}

/// The index range of `times` that lies inside `range`.
fn inside(len: usize, time: impl Fn(usize) -> i64, range: TimeRange) -> (usize, usize) {
    let from = first_not(len, |i| time(i) < range.start);
    (from, first_not(len, |i| time(i) <= range.last()).max(from))
}

impl SampleColumn for Floats {
    fn len(&self) -> usize {
        self.ts.len()
    }

    #[inline]
    fn time(&self, i: usize) -> i64 {
        self.ts[i]
    }

    #[inline]
    fn push_from(&mut self, from: &Floats, i: usize, _consecutive: bool) {
        self.push(from.ts[i], from.values[i]);
    }

    fn trim(&mut self, range: TimeRange) {
        let (from, to) = inside(self.ts.len(), |i| self.ts[i], range);
        self.ts.truncate(to);
        self.values.truncate(to);
        self.ts.drain(..from);
        self.values.drain(..from);
    }

    fn same_floats(&self, other: &Floats) -> bool {
        self.ts == other.ts
            && self.values.iter().zip(&other.values).all(|(a, b)| a.to_bits() == b.to_bits())
    }
}

impl SampleColumn for Vec<Sample> {
    fn len(&self) -> usize {
        Vec::len(self)
    }

    fn time(&self, i: usize) -> i64 {
        self[i].t
    }

    fn push_from(&mut self, from: &Vec<Sample>, i: usize, consecutive: bool) {
        let Sample { t, value } = &from[i];
        let value = if consecutive { value.clone() } else { with_hint(value, ResetHint::Unknown) };
        self.push(Sample { t: *t, value });
    }

    fn trim(&mut self, range: TimeRange) {
        let (from, to) = inside(Vec::len(self), |i| self[i].t, range);
        self.truncate(to);
        self.drain(..from);
    }

    fn same_floats(&self, other: &Vec<Sample>) -> bool {
        Vec::len(self) == Vec::len(other)
            && self.iter().zip(other).all(|(a, b)| match (&a.value, &b.value) {
                (SampleValue::Float(x), SampleValue::Float(y)) => {
                    a.t == b.t && x.to_bits() == y.to_bits()
                }
                _ => false,
            })
    }
}

/// The value with another hint, if it is a histogram of a counter.
pub(crate) fn with_hint(value: &SampleValue, hint: ResetHint) -> SampleValue {
    match value {
        SampleValue::Histogram(h) if h.hint != hint && h.hint != ResetHint::Gauge => {
            let mut h = (**h).clone();
            h.hint = hint;
            SampleValue::Histogram(Arc::new(h))
        }
        other => other.clone(),
    }
}
