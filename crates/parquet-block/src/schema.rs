//! Names, types and metadata of the files of a block.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use model::{BlockId, Labels, Resolution};
use parquet::file::metadata::KeyValue;

/// The formats that are read here: what `format` of `meta.json` may say.
pub const FORMATS: &[&str] = &[FormatVersion::V1.as_str()];

/// A version of the format. All are read; which one is written can be chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FormatVersion {
    /// Floats in DOUBLE columns, unsigned ids, no checksums.
    V1,
    /// Decimals as integers, times of first and last samples, checksums, statistics.
    V2,
}

impl FormatVersion {
    /// The name in the files' metadata under `drumlin.format` and in `meta.json` under `format`.
    pub const fn as_str(self) -> &'static str {
        match self {
            FormatVersion::V1 => "parquet/1",
            FormatVersion::V2 => "parquet/2",
        }
    }

    /// The version of that name, if it is known here.
    pub fn parse(name: &str) -> Option<FormatVersion> {
        [FormatVersion::V1, FormatVersion::V2].into_iter().find(|v| v.as_str() == name)
    }
}

pub(crate) const SERIES_ID: &str = "series_id";
pub(crate) const SERIES_HASH: &str = "series_hash";
pub(crate) const FIRST_ROW: &str = "first_row";
pub(crate) const ROWS: &str = "n_rows";
pub(crate) const MIN_T: &str = "min_t";
pub(crate) const MAX_T: &str = "max_t";
pub(crate) const HISTOGRAM_FIRST_ROW: &str = "histogram_first_row";
pub(crate) const HISTOGRAM_ROWS: &str = "histogram_n_rows";
pub(crate) const LABEL_PREFIX: &str = "l_";
pub(crate) const REST: &str = "labels_rest";
pub(crate) const PACKED: &str = "labels_packed";

pub(crate) const T: &str = "t";
pub(crate) const FIRST_T: &str = "first_t";
pub(crate) const FIRST_V: &str = "first_v";
pub(crate) const LAST_V: &str = "last_v";
pub(crate) const COUNT: &str = "count";
pub(crate) const COUNTER: &str = "counter";
pub(crate) const MAX: &str = "max";
pub(crate) const SUM: &str = "sum";
pub(crate) const MIN: &str = "min";
pub(crate) const BATCH_START: &str = "batch_start";

/// How a block describes itself in each of its files.
#[derive(Clone, Debug)]
pub struct BlockDescription {
    pub version: FormatVersion,
    pub id: BlockId,
    pub resolution: Resolution,
    pub external_labels: Labels,
    /// The blocks the data comes from.
    pub sources: Vec<BlockId>,
}

impl BlockDescription {
    pub(crate) fn metadata(&self) -> Vec<KeyValue> {
        let sources: Vec<String> = self.sources.iter().map(BlockId::to_string).collect();
        let pairs = [
            ("drumlin.format", self.version.as_str().to_owned()),
            ("drumlin.block", self.id.to_string()),
            ("drumlin.resolution_ms", self.resolution.millis().to_string()),
            (
                "drumlin.external_labels",
                serde_json::json!(self.external_labels.to_text()).to_string(),
            ),
            ("drumlin.sources", serde_json::json!(sources).to_string()),
            ("drumlin.counter", "NULL means: equal to max; coalesce(counter, max)".to_owned()),
        ];
        pairs.map(|(key, value)| KeyValue::new(key.to_owned(), value)).into()
    }
}

pub(crate) fn timestamp() -> DataType {
    DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()))
}

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

pub(crate) fn dictionary() -> DataType {
    DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8))
}
