//! Histograms with integer counts, as chunks and remote read carry them.

use std::num::Wrapping;

use super::side::{SideBuilder, indexed, reduced_index};
use super::{BucketSpan, FloatHistogram, ResetHint};

/// A histogram of integer counts. Buckets are *deltas*: each is the difference to the bucket before
/// it on its side. For computing, turn it into a [`FloatHistogram`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Histogram {
    pub schema: i32,
    pub hint: ResetHint,
    pub zero_threshold: f64,
    pub zero_count: u64,
    pub count: u64,
    /// The stale NaN marks the whole histogram as stale.
    pub sum: f64,
    pub positive_spans: Vec<BucketSpan>,
    pub negative_spans: Vec<BucketSpan>,
    pub positive_buckets: Vec<i64>,
    pub negative_buckets: Vec<i64>,
    pub custom_values: Vec<f64>,
}

impl Histogram {
    pub fn is_stale(&self) -> bool {
        crate::is_stale_nan(self.sum)
    }

    pub fn to_float(&self) -> FloatHistogram {
        let floats = |deltas: &[i64]| absolute(deltas).map(|count| count as f64).collect();
        FloatHistogram {
            schema: self.schema,
            hint: self.hint,
            zero_threshold: self.zero_threshold,
            zero_count: self.zero_count as f64,
            count: self.count as f64,
            sum: self.sum,
            positive_spans: self.positive_spans.clone(),
            negative_spans: self.negative_spans.clone(),
            positive_buckets: floats(&self.positive_buckets),
            negative_buckets: floats(&self.negative_buckets),
            custom_values: self.custom_values.clone(),
        }
    }

    /// Merges buckets so that the schema becomes `schema`. Does nothing where it is not finer, and
    /// to custom buckets.
    pub fn reduce_resolution(&mut self, schema: i32) {
        if self.schema <= schema {
            return;
        }
        let steps = self.schema.abs_diff(schema);
        for (spans, deltas) in [
            (&mut self.positive_spans, &mut self.positive_buckets),
            (&mut self.negative_spans, &mut self.negative_buckets),
        ] {
            // bytes from outside may say anything, and their sums too
            let counts: Vec<Wrapping<i64>> = absolute(deltas).map(Wrapping).collect();
            let mut side = SideBuilder::with_capacity(counts.len());
            side.extend(
                indexed(spans, &counts).map(|(index, count)| (reduced_index(index, steps), count)),
            );
            let merged: Vec<i64> = side.counts.iter().map(|count| count.0).collect();
            (*spans, *deltas) = (side.spans, deltas_of(&merged));
        }
        self.schema = schema;
    }
}

/// The absolute counts of bucket deltas. Wraps around: bytes from outside may say anything.
fn absolute(deltas: &[i64]) -> impl Iterator<Item = i64> + '_ {
    deltas.iter().scan(0i64, |count, delta| {
        *count = count.wrapping_add(*delta);
        Some(*count)
    })
}

fn deltas_of(counts: &[i64]) -> Vec<i64> {
    let before = std::iter::once(0).chain(counts.iter().copied());
    counts.iter().zip(before).map(|(count, before)| count.wrapping_sub(before)).collect()
}
