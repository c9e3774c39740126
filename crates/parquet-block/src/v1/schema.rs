//! The columns of format 1.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};

use crate::schema::{
    BATCH_START, COUNT, COUNTER, FIRST_ROW, FIRST_T, FIRST_V, HISTOGRAM_FIRST_ROW, HISTOGRAM_ROWS,
    LABEL_PREFIX, LAST_V, MAX, MAX_T, MIN, MIN_T, ROWS, SERIES_HASH, SERIES_ID, SUM, T, dictionary,
    timestamp,
};

/// The float windows. `t` to `max` are neighbours, so that what `rate()` needs is one range of
/// bytes.
pub(crate) fn samples() -> SchemaRef {
    let value = |name, nullable| Field::new(name, DataType::Float64, nullable);
    Arc::new(Schema::new(vec![
        Field::new(SERIES_ID, DataType::UInt32, false),
        Field::new(T, timestamp(), false),
        Field::new(FIRST_T, timestamp(), true),
        value(FIRST_V, true),
        value(LAST_V, true),
        Field::new(COUNT, DataType::Int32, false),
        value(COUNTER, true),
        value(MAX, false),
        value(SUM, false),
        value(MIN, false),
    ]))
}

pub(crate) fn span_fields() -> Fields {
    Fields::from(vec![
        Field::new("offset", DataType::Int32, false),
        Field::new("length", DataType::UInt32, false),
    ])
}

fn list(item: DataType) -> DataType {
    DataType::List(Arc::new(Field::new("item", item, false)))
}

pub(crate) fn histogram_fields() -> Fields {
    let spans = || list(DataType::Struct(span_fields()));
    Fields::from(vec![
        Field::new("schema", DataType::Int32, false),
        Field::new("hint", DataType::Int32, false),
        Field::new("zero_threshold", DataType::Float64, false),
        Field::new("zero_count", DataType::Float64, false),
        Field::new("count", DataType::Float64, false),
        Field::new("sum", DataType::Float64, false),
        Field::new("positive_spans", spans(), false),
        Field::new("negative_spans", spans(), false),
        Field::new("positive_buckets", list(DataType::Float64), false),
        Field::new("negative_buckets", list(DataType::Float64), false),
        Field::new("custom_values", list(DataType::Float64), false),
    ])
}

/// The native histogram windows.
pub(crate) fn histograms() -> SchemaRef {
    let histogram = |name| Field::new(name, DataType::Struct(histogram_fields()), false);
    Arc::new(Schema::new(vec![
        Field::new(SERIES_ID, DataType::UInt32, false),
        Field::new(T, timestamp(), false),
        Field::new(BATCH_START, DataType::Boolean, false),
        Field::new(COUNT, DataType::Int32, false),
        histogram(COUNTER),
        histogram(SUM),
    ]))
}

/// The columns of a series row before the labels.
pub(crate) fn series_head() -> Vec<Field> {
    vec![
        Field::new(SERIES_ID, DataType::UInt32, false),
        Field::new(SERIES_HASH, DataType::UInt64, false),
        Field::new(FIRST_ROW, DataType::Int64, false),
        Field::new(ROWS, DataType::Int64, false),
        Field::new(MIN_T, timestamp(), false),
        Field::new(MAX_T, timestamp(), false),
        Field::new(HISTOGRAM_FIRST_ROW, DataType::Int64, false),
        Field::new(HISTOGRAM_ROWS, DataType::Int64, false),
    ]
}

/// The column of a label.
pub(crate) fn label(name: &str) -> Field {
    Field::new(format!("{LABEL_PREFIX}{name}"), dictionary(), true)
}
