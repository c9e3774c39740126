//! Counter stitching: one rising column from the chunks of a counter.

mod histograms;

use crate::column::Floats;

pub(crate) use histograms::{Border, ChunkKind, EndedChunk, HistogramStitch, lift_over, plus};

/// Adds up a counter over its chunks in time order as Thanos' `ApplyCounterResetsSeriesIterator`
/// does, so that resets inside and between chunks no longer show.
///
/// A downsampled counter chunk begins with the first raw sample of its batch and repeats its last
/// time with the last raw value: the pair by which a reset between two chunks is recognised. Raw
/// chunks have neither, and need neither. NaN (including stale markers) and samples that go back in
/// time are skipped.
#[derive(Clone, Debug, Default)]
pub struct CounterStitch {
    started: bool,
    last_t: i64,
    /// The last value as the chunk had it; after a downsampled chunk, the last raw one.
    last_v: f64,
    total: f64,
}

impl CounterStitch {
    pub fn new() -> CounterStitch {
        CounterStitch::default()
    }

    /// Appends the samples of the next chunk to `out`.
    pub fn push_chunk(&mut self, ts: &[i64], values: &[f64], out: &mut Floats) {
        out.ts.reserve(ts.len());
        out.values.reserve(ts.len());
        for (&t, &v) in ts.iter().zip(values) {
            if v.is_nan() {
                continue;
            }
            if !self.started {
                self.started = true;
                self.total = v;
            } else if t > self.last_t {
                self.total += if v >= self.last_v { v - self.last_v } else { v };
            } else {
                if t == self.last_t {
                    self.last_v = v;
                }
                continue;
            }
            (self.last_t, self.last_v) = (t, v);
            out.push(t, self.total);
        }
    }

    /// The time of the last sample that was not skipped.
    pub fn last_time(&self) -> Option<i64> {
        self.started.then_some(self.last_t)
    }

    /// The last value as the chunks hold it: raw, not added up.
    pub fn last_value(&self) -> Option<f64> {
        self.started.then_some(self.last_v)
    }

    /// Records that samples other than floats reach up to `t`: floats at or before it are skipped.
    pub(crate) fn pass(&mut self, t: i64) {
        self.last_t = t;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stitch(chunks: &[&[(i64, f64)]]) -> Vec<(i64, f64)> {
        let (mut stitch, mut out) = (CounterStitch::new(), Floats::default());
        for chunk in chunks {
            let (ts, values): (Vec<_>, Vec<_>) = chunk.iter().copied().unzip();
            stitch.push_chunk(&ts, &values, &mut out);
        }
        out.ts.into_iter().zip(out.values).collect()
    }

    #[test]
    fn resets_inside_a_raw_chunk_are_added_up() {
        let out = stitch(&[&[(1, 10.0), (2, 15.0), (3, f64::NAN), (4, 5.0), (5, 7.0)]]);
        assert_eq!(out, [(1, 10.0), (2, 15.0), (4, 20.0), (5, 22.0)]);
    }

    #[test]
    fn the_last_raw_value_tells_of_a_reset_between_chunks() {
        // The batch ended with a total of 60 while the raw counter, reset once, was at 20: 25 is
        // not a reset, 15 is one.
        let first: &[(i64, f64)] = &[(10, 40.0), (100, 50.0), (200, 60.0), (200, 20.0)];
        let goes_on = stitch(&[first, &[(210, 25.0), (300, 30.0), (300, 30.0)]]);
        assert_eq!(goes_on, [(10, 40.0), (100, 50.0), (200, 60.0), (210, 65.0), (300, 70.0)]);
        let resets = stitch(&[first, &[(210, 15.0), (300, 30.0), (300, 30.0)]]);
        assert_eq!(resets, [(10, 40.0), (100, 50.0), (200, 60.0), (210, 75.0), (300, 90.0)]);
    }

    #[test]
    fn overlapping_chunks_only_add_what_is_new() {
        let out = stitch(&[&[(1, 1.0), (2, 2.0), (3, 3.0)], &[(2, 2.0), (3, 3.0), (4, 5.0)]]);
        assert_eq!(out, [(1, 1.0), (2, 2.0), (3, 3.0), (4, 5.0)]);
    }
}
