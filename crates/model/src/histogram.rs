//! Native histograms and their arithmetic, as Prometheus' `model/histogram` defines them.
//!
//! A float histogram is the form to compute with; integer histograms exist inside chunks and on
//! remote read's wire. Its buckets are absolute counts (integer ones are deltas), laid out by
//! spans: the bucket `i` of an exponential schema `s` reaches from `2^((i-1) * 2^-s)`, exclusive,
//! to `2^(i * 2^-s)`, inclusive; the bucket `i` of custom ones ends at `custom_values[i]`.

mod arithmetic;
mod bounds;
mod buckets;
mod error;
mod integer;
mod layout;
mod reset;
mod side;
mod sum;
mod trim;
mod validate;

pub use arithmetic::Reconciled;
pub use buckets::{HistogramBucket, UnboundedBucket};
pub use error::HistogramError;
pub use integer::Histogram;
pub use side::{bucket_count, bucket_indices, spans_of};
pub use sum::HistogramSum;

/// The schema that marks custom bucket boundaries instead of exponential ones.
pub const CUSTOM_BUCKETS_SCHEMA: i32 = -53;
/// The coarsest and the finest exponential schema in use.
pub const MIN_SCHEMA: i32 = -4;
pub const MAX_SCHEMA: i32 = 8;

/// Whether a histogram of this schema can be read. Schemas `-9..=52` are reserved: ones finer than
/// [`MAX_SCHEMA`] are reduced to it when they are read.
pub fn is_known_schema(schema: i32) -> bool {
    schema == CUSTOM_BUCKETS_SCHEMA || (-9..=52).contains(&schema)
}

/// What is known about a counter reset between this histogram and the one before it in its series.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ResetHint {
    #[default]
    Unknown,
    Reset,
    NotReset,
    Gauge,
}

/// A run of `length` buckets that begins `offset` buckets after the end of the run before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BucketSpan {
    pub offset: i32,
    pub length: u32,
}

/// A histogram of float counts. Exponential schemas -4..=8, or [`CUSTOM_BUCKETS_SCHEMA`] with
/// `custom_values` as the upper bounds of the positive buckets.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FloatHistogram {
    pub schema: i32,
    pub hint: ResetHint,
    pub zero_threshold: f64,
    pub zero_count: f64,
    pub count: f64,
    pub sum: f64,
    pub positive_spans: Vec<BucketSpan>,
    pub negative_spans: Vec<BucketSpan>,
    pub positive_buckets: Vec<f64>,
    pub negative_buckets: Vec<f64>,
    pub custom_values: Vec<f64>,
}

impl FloatHistogram {
    pub fn uses_custom_buckets(&self) -> bool {
        self.schema == CUSTOM_BUCKETS_SCHEMA
    }

    /// Whether this marks the end of its series.
    pub fn is_stale(&self) -> bool {
        crate::is_stale_nan(self.sum)
    }

    /// Whether both hold the same data, bit by bit, except that all NaNs are equal and empty spans
    /// do not matter. Hints do not count.
    pub fn same_data(&self, other: &FloatHistogram) -> bool {
        // the bits of a computed NaN are not defined
        let same = |(x, y): (&f64, &f64)| x.to_bits() == y.to_bits() || (x.is_nan() && y.is_nan());
        let bits = |a: &[f64], b: &[f64]| a.len() == b.len() && a.iter().zip(b).all(same);
        let totals = |h: &FloatHistogram| [h.count, h.sum, h.zero_count];
        self.schema == other.schema
            && self.zero_threshold == other.zero_threshold
            && bits(&totals(self), &totals(other))
            && (!self.uses_custom_buckets() || self.custom_values == other.custom_values)
            && bucket_indices(&self.positive_spans).eq(bucket_indices(&other.positive_spans))
            && bucket_indices(&self.negative_spans).eq(bucket_indices(&other.negative_spans))
            && bits(&self.positive_buckets, &other.positive_buckets)
            && bits(&self.negative_buckets, &other.negative_buckets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_is_the_same_bit_by_bit_but_for_nans() {
        let of = |sum: f64| FloatHistogram {
            sum,
            positive_buckets: vec![sum],
            ..FloatHistogram::default()
        };
        assert!(of(f64::NAN).same_data(&of(-f64::NAN)));
        assert!(!of(f64::NAN).same_data(&of(1.0)));
        assert!(!of(0.0).same_data(&of(-0.0)));
    }
}
