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

    /// Forgets the samples, keeps the memory.
    pub fn clear(&mut self) {
        self.ts.clear();
        self.values.clear();
    }
}

/// The samples of one series: floats alone, which is nearly always, or with histograms between them.
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

    /// The samples one by one, whatever they are.
    pub fn into_samples(self) -> Vec<Sample> {
        match self {
            Column::Mixed(samples) => samples,
            Column::Floats(Floats { ts, values }) => {
                ts.into_iter().zip(values).map(|(t, v)| Sample { t, value: SampleValue::Float(v) }).collect()
            }
        }
    }

    /// The samples as the mixed form, which the column is turned into.
    pub fn mixed(&mut self) -> &mut Vec<Sample> {
        if let Column::Floats(_) = self {
            *self = Column::Mixed(std::mem::take(self).into_samples());
        }
        match self {
            Column::Mixed(samples) => samples,
            Column::Floats(_) => unreachable!("just turned into the mixed form"),
        }
    }

    /// Leaves only the samples inside `range`.
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

    /// The value, when the sample is a float.
    fn float(&self, i: usize) -> Option<f64>;

    /// Appends sample `i` of `from`, a float raised by `adjust`. Unless it is `consecutive`, that is, the neighbour
    /// in `from` of the sample appended before it, nothing is known any more of a counter reset between the two.
    fn push_from(&mut self, from: &Self, i: usize, adjust: f64, consecutive: bool);

    /// Leaves only the samples inside `range`.
    fn trim(&mut self, range: TimeRange);

    /// Whether both hold the same times and, bit by bit, the same floats; false when there is a histogram.
    fn same_floats(&self, other: &Self) -> bool;
}

/// Adding zero would turn the stale NaN into a quiet one.
#[inline]
fn raised(value: f64, adjust: f64) -> f64 {
    if adjust == 0.0 { value } else { value + adjust }
}

/// The index range of `times` that lies inside `range`.
fn inside(len: usize, time: impl Fn(usize) -> i64, range: TimeRange) -> (usize, usize) {
    let first_not = |before: &dyn Fn(i64) -> bool| {
        let (mut low, mut high) = (0, len);
        while low < high {
            let middle = low + (high - low) / 2;
            if before(time(middle)) { low = middle + 1 } else { high = middle }
        }
        low
    };
    let (start, last) = (range.start, range.last());
    let from = first_not(&|t| t < start);
    (from, first_not(&|t| t <= last).max(from))
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
    fn float(&self, i: usize) -> Option<f64> {
        Some(self.values[i])
    }

    #[inline]
    fn push_from(&mut self, from: &Floats, i: usize, adjust: f64, _consecutive: bool) {
        self.push(from.ts[i], raised(from.values[i], adjust));
    }

    fn trim(&mut self, range: TimeRange) {
        let (from, to) = inside(self.ts.len(), |i| self.ts[i], range);
        self.ts.truncate(to);
        self.values.truncate(to);
        self.ts.drain(..from);
        self.values.drain(..from);
    }

    fn same_floats(&self, other: &Floats) -> bool {
        self.ts == other.ts && self.values.iter().zip(&other.values).all(|(a, b)| a.to_bits() == b.to_bits())
    }
}

impl SampleColumn for Vec<Sample> {
    fn len(&self) -> usize {
        Vec::len(self)
    }

    fn time(&self, i: usize) -> i64 {
        self[i].t
    }

    fn float(&self, i: usize) -> Option<f64> {
        match self[i].value {
            SampleValue::Float(v) => Some(v),
            SampleValue::Histogram(_) => None,
        }
    }

    fn push_from(&mut self, from: &Vec<Sample>, i: usize, adjust: f64, consecutive: bool) {
        let Sample { t, value } = &from[i];
        let value = match value {
            SampleValue::Float(v) => SampleValue::Float(raised(*v, adjust)),
            SampleValue::Histogram(h) if consecutive || matches!(h.hint, ResetHint::Gauge | ResetHint::Unknown) => {
                SampleValue::Histogram(Arc::clone(h))
            }
            SampleValue::Histogram(h) => {
                let mut h = (**h).clone();
                h.hint = ResetHint::Unknown;
                SampleValue::Histogram(Arc::new(h))
            }
        };
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
                (SampleValue::Float(x), SampleValue::Float(y)) => a.t == b.t && x.to_bits() == y.to_bits(),
                _ => false,
            })
    }
}
