//! Names, types and metadata of the files of a block.

use arrow::datatypes::{DataType, TimeUnit};
use model::{BlockId, Labels, Resolution};
use parquet::file::metadata::KeyValue;

use crate::footer::FORMAT_KEY;

/// The formats that are read here: what `format` of `meta.json` may say.
pub const FORMATS: &[&str] = &[FormatVersion::V1.as_str(), FormatVersion::V2.as_str()];

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

/// What the files of version 2 say of their own columns.
const EXPLANATIONS: &[(&str, &str)] = &[
    (
        "drumlin.values",
        "max is NULL where max_m is set: max_m / 10^scale, or max_m * 10^scale where scale < 0, \
         with the scale of the series in its row of series.parquet; so are min and counter; \
         counter is NULL in both where it equals max",
    ),
    (
        "drumlin.sum",
        "where sum is NULL: sum_m as above, or if sum_r is set, \
         (sum_r + count * (min_m + max_m)) / 2 as a mantissa",
    ),
    (
        "drumlin.ulps",
        "sum_ulps and counter_ulps: floats between the decimal and the exact value; NULL is 0",
    ),
];

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
            (FORMAT_KEY, self.version.as_str().to_owned()),
            ("drumlin.block", self.id.to_string()),
            ("drumlin.resolution_ms", self.resolution.millis().to_string()),
            (
                "drumlin.external_labels",
                serde_json::json!(self.external_labels.to_text()).to_string(),
            ),
            ("drumlin.sources", serde_json::json!(sources).to_string()),
            ("drumlin.counter", "NULL means: equal to max; coalesce(counter, max)".to_owned()),
        ];
        let explained = match self.version {
            FormatVersion::V1 => &[],
            FormatVersion::V2 => EXPLANATIONS,
        };
        let explained = explained.iter().map(|(key, value)| (*key, (*value).to_owned()));
        let pairs = pairs.into_iter().chain(explained);
        pairs.map(|(key, value)| KeyValue::new(key.to_owned(), value)).collect()
    }
}

pub(crate) fn timestamp() -> DataType {
    DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()))
}

pub(crate) fn dictionary() -> DataType {
    DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8))
}
