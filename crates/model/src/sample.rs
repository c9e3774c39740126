//! One observation of a series.

use std::sync::Arc;

use crate::histogram::FloatHistogram;

/// The bits of the NaN by which Prometheus marks that a series ended. Only these bits mean that;
/// other NaNs are data.
pub const STALE_NAN_BITS: u64 = 0x7ff0_0000_0000_0002;
pub const STALE_NAN: f64 = f64::from_bits(STALE_NAN_BITS);

pub fn is_stale_nan(value: f64) -> bool {
    value.to_bits() == STALE_NAN_BITS
}

/// What was observed. A histogram is stale when its sum is the stale NaN.
#[derive(Clone, Debug)]
pub enum SampleValue {
    Float(f64),
    Histogram(Arc<FloatHistogram>),
}

/// A value at a time in milliseconds.
#[derive(Clone, Debug)]
pub struct Sample {
    pub t: i64,
    pub value: SampleValue,
}
