use super::{CUSTOM_BUCKETS_SCHEMA, MAX_SCHEMA, MIN_SCHEMA};

/// Why histograms cannot be combined, or what is wrong with one.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum HistogramError {
    #[error(
        "cannot apply this operation on histograms with a mix of exponential and custom bucket \
         schemas"
    )]
    IncompatibleSchemas,
    #[error(
        "histogram has an invalid schema, which must be between {MIN_SCHEMA} and {MAX_SCHEMA} for \
         exponential buckets, or {CUSTOM_BUCKETS_SCHEMA} for custom buckets, got schema {0}"
    )]
    Schema(i32),
    #[error(
        "{side} side: span number {number} with offset {offset}: histogram has a span whose offset \
         is negative"
    )]
    NegativeOffset { side: &'static str, number: usize, offset: i32 },
    #[error(
        "{side} side: spans need {named} buckets, have {given} buckets: histogram spans specify \
         different number of buckets than provided"
    )]
    BucketCount { side: &'static str, named: usize, given: usize },
    #[error(
        "{side} side: bucket number {number} has observation count of {count}: histogram has a \
         bucket whose observation count is negative"
    )]
    NegativeBucket { side: &'static str, number: usize, count: f64 },
    #[error("observation count is {0}: histogram's observation count is negative")]
    NegativeCount(f64),
    #[error("custom buckets: {0}")]
    CustomBuckets(&'static str),
    #[error("histogram with exponential schema must not have custom bounds")]
    UnexpectedBounds,
}
