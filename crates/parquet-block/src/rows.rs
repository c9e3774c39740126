//! Rows of either version that wait to be encoded.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use merge::{HistogramWindows, Windows};

use crate::schema::FormatVersion;
use crate::v2::NumberForm;
use crate::{v1, v2};

/// A series whose windows come next.
#[derive(Clone, Copy)]
pub(crate) struct RowsOf {
    /// Its number within the shard.
    pub(crate) series: u32,
    pub(crate) resolution_ms: i64,
}

/// Rows of the samples file.
pub(crate) enum FloatRows {
    V1(Box<v1::SampleRows>),
    V2(Box<v2::FloatRows>),
}

impl FloatRows {
    pub(crate) fn new(version: FormatVersion) -> FloatRows {
        match version {
            FormatVersion::V1 => FloatRows::V1(Box::default()),
            FormatVersion::V2 => FloatRows::V2(Box::default()),
        }
    }

    pub(crate) fn schema(version: FormatVersion) -> SchemaRef {
        match version {
            FormatVersion::V1 => v1::schema::samples(),
            FormatVersion::V2 => v2::schema::samples(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            FloatRows::V1(rows) => rows.len(),
            FloatRows::V2(rows) => rows.len(),
        }
    }

    pub(crate) fn push(&mut self, of: RowsOf, windows: &Windows) -> NumberForm {
        match self {
            FloatRows::V1(rows) => {
                rows.push(of.series, windows);
                NumberForm::default()
            }
            FloatRows::V2(rows) => rows.push(of.series as i32, windows, of.resolution_ms),
        }
    }

    pub(crate) fn into_batch(self) -> Result<RecordBatch, ArrowError> {
        match self {
            FloatRows::V1(rows) => rows.into_batch(),
            FloatRows::V2(rows) => rows.into_batch(),
        }
    }
}

/// Rows of the histograms file.
pub(crate) enum HistogramRows {
    V1(Box<v1::HistogramRows>),
    V2(Box<v2::HistogramRows>),
}

impl HistogramRows {
    pub(crate) fn new(version: FormatVersion) -> HistogramRows {
        match version {
            FormatVersion::V1 => HistogramRows::V1(Box::default()),
            FormatVersion::V2 => HistogramRows::V2(Box::default()),
        }
    }

    pub(crate) fn schema(version: FormatVersion) -> SchemaRef {
        match version {
            FormatVersion::V1 => v1::schema::histograms(),
            FormatVersion::V2 => v2::schema::histograms(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            HistogramRows::V1(rows) => rows.len(),
            HistogramRows::V2(rows) => rows.len(),
        }
    }

    pub(crate) fn push(&mut self, of: RowsOf, windows: &HistogramWindows) {
        match self {
            HistogramRows::V1(rows) => rows.push(of.series, windows),
            HistogramRows::V2(rows) => rows.push(of.series as i32, windows, of.resolution_ms),
        }
    }

    pub(crate) fn into_batch(self) -> Result<RecordBatch, ArrowError> {
        match self {
            HistogramRows::V1(rows) => rows.into_batch(),
            HistogramRows::V2(rows) => rows.into_batch(),
        }
    }
}
