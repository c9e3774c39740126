//! What differs in format 2: columns, integers instead of floats, histograms by bucket.

mod columns;
mod decimal;
mod floats;
mod histograms;
pub(crate) mod schema;
mod times;

pub(crate) use decimal::Scale;
pub(crate) use floats::{FloatColumns, FloatRows, NumberForm, WantedFloats};
pub(crate) use histograms::{
    BUCKET_COLUMNS, BucketRows, HISTOGRAM_COLUMNS, HistogramBatches, HistogramPlace, HistogramRows,
};
