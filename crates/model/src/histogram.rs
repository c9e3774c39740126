//! Native histograms and their arithmetic, as Prometheus' `model/histogram` defines them.
//!
//! A float histogram is the one in-memory form; integer histograms exist only inside chunks. Buckets are absolute
//! counts here (chunks store integer ones as deltas), laid out by spans.

/// The schema that marks custom bucket boundaries instead of exponential ones.
pub const CUSTOM_BUCKETS_SCHEMA: i32 = -53;

/// What is known of a counter reset between this histogram and the one before it in its series.
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
pub struct Span {
    pub offset: i32,
    pub length: u32,
}

/// A histogram of float counts. Exponential schemas -4..=8, or [`CUSTOM_BUCKETS_SCHEMA`] with `custom_values` as the
/// upper bounds of the positive buckets.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FloatHistogram {
    pub schema: i32,
    pub hint: ResetHint,
    pub zero_threshold: f64,
    pub zero_count: f64,
    pub count: f64,
    pub sum: f64,
    pub positive_spans: Vec<Span>,
    pub negative_spans: Vec<Span>,
    pub positive_buckets: Vec<f64>,
    pub negative_buckets: Vec<f64>,
    pub custom_values: Vec<f64>,
}
