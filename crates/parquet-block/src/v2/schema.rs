//! The columns of format 2, each with the field id that it keeps for ever.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef};
use parquet::arrow::PARQUET_FIELD_ID_META_KEY;

use crate::schema::timestamp;

pub(crate) const FIRST_T: &str = "first_t";
pub(crate) const LAST_T: &str = "last_t";
pub(crate) const LAST_RAW_T: &str = "last_raw_t";
pub(crate) const FIRST_RAW_T: &str = "first_raw_t";
pub(crate) const COUNTER_M: &str = "counter_m";
pub(crate) const COUNTER_ULPS: &str = "counter_ulps";
pub(crate) const MAX_M: &str = "max_m";
pub(crate) const SUM_M: &str = "sum_m";
pub(crate) const SUM_R: &str = "sum_r";
pub(crate) const SUM_ULPS: &str = "sum_ulps";
pub(crate) const MIN_M: &str = "min_m";
pub(crate) const SCALE: &str = "scale";
pub(crate) const SUM_BY_RANGE: &str = "sum_by_range";
pub(crate) const BUCKET_FIRST_ROW: &str = "bucket_first_row";
pub(crate) const BUCKET_ROWS: &str = "bucket_n_rows";
pub(crate) const WINDOW: &str = "window_id";
pub(crate) const NEGATIVE: &str = "negative";
pub(crate) const INDEX: &str = "bucket";
pub(crate) const COUNT_M: &str = "count_m";

/// Ids of label columns begin here, below them are those of all other columns.
const FIRST_LABEL_ID: u64 = 1_000_000_000;
/// Highest ids are reserved in Iceberg.
const LABEL_IDS: u64 = 1_000_000_000;

fn with_id(field: Field, id: u64) -> Field {
    field.with_metadata(HashMap::from([(PARQUET_FIELD_ID_META_KEY.to_owned(), id.to_string())]))
}

fn field(id: u64, name: &str, data_type: DataType) -> Field {
    with_id(Field::new(name, data_type, false), id)
}

fn nullable(id: u64, name: &str, data_type: DataType) -> Field {
    with_id(Field::new(name, data_type, true), id)
}

/// The id of a label's column: a function of the name alone, so that the column of a label has the
/// same id in every file. Of two names with one id in a file, the first one has the column.
pub(crate) fn label_id(name: &str) -> u64 {
    FIRST_LABEL_ID + model::Labels::from_pairs([("label", name)]).hash64() % LABEL_IDS
}

pub(crate) fn label(name: &str) -> Field {
    let column = format!("{}{name}", crate::schema::LABEL_PREFIX);
    nullable(label_id(name), &column, crate::schema::dictionary())
}

/// Key and value of the MAP of rare labels.
pub(crate) fn rest_entries() -> [FieldRef; 2] {
    let key = Arc::new(field(14, "keys", DataType::Utf8));
    [key, Arc::new(nullable(15, "values", DataType::Utf8))]
}

pub(crate) fn rest(data_type: DataType) -> Field {
    nullable(13, crate::schema::REST, data_type)
}

pub(crate) fn packed() -> Field {
    nullable(16, crate::schema::PACKED, DataType::Binary)
}

/// The columns of a series row before the labels.
pub(crate) fn series_head() -> Vec<Field> {
    use crate::schema::{
        FIRST_ROW, HISTOGRAM_FIRST_ROW, HISTOGRAM_ROWS, MAX_T, MIN_T, ROWS, SERIES_HASH, SERIES_ID,
    };
    vec![
        field(1, SERIES_ID, DataType::Int32),
        field(2, SERIES_HASH, DataType::Int64),
        field(3, FIRST_ROW, DataType::Int64),
        field(4, ROWS, DataType::Int64),
        field(5, MIN_T, timestamp()),
        field(6, MAX_T, timestamp()),
        field(7, HISTOGRAM_FIRST_ROW, DataType::Int64),
        field(8, HISTOGRAM_ROWS, DataType::Int64),
        field(9, BUCKET_FIRST_ROW, DataType::Int64),
        field(10, BUCKET_ROWS, DataType::Int64),
        nullable(11, SCALE, DataType::Int32),
        field(12, SUM_BY_RANGE, DataType::Boolean),
    ]
}

/// The float windows. Columns that are read together and are small are neighbours, so that they are
/// one range of bytes.
pub(crate) fn samples() -> SchemaRef {
    use crate::schema::{
        BATCH_START, COUNT, COUNTER, FIRST_V, LAST_V, MAX, MIN, SERIES_ID, SUM, T,
    };
    Arc::new(Schema::new(vec![
        field(1, SERIES_ID, DataType::Int32),
        field(26, COUNT, DataType::Int32),
        field(20, T, timestamp()),
        field(23, BATCH_START, DataType::Boolean),
        nullable(39, LAST_RAW_T, timestamp()),
        nullable(38, FIRST_RAW_T, timestamp()),
        nullable(24, FIRST_V, DataType::Float64),
        nullable(25, LAST_V, DataType::Float64),
        nullable(30, MAX, DataType::Float64),
        nullable(27, COUNTER, DataType::Float64),
        nullable(29, COUNTER_ULPS, DataType::Int32),
        nullable(28, COUNTER_M, DataType::Int64),
        nullable(31, MAX_M, DataType::Int64),
        nullable(22, LAST_T, timestamp()),
        nullable(21, FIRST_T, timestamp()),
        nullable(36, MIN, DataType::Float64),
        nullable(37, MIN_M, DataType::Int64),
        nullable(34, SUM_R, DataType::Int64),
        nullable(32, SUM, DataType::Float64),
        nullable(35, SUM_ULPS, DataType::Int32),
        nullable(33, SUM_M, DataType::Int64),
    ]))
}

/// Ids of the fields of a histogram begin at `first`.
fn histogram(first: u64) -> Fields {
    let list = |id: u64, item: DataType| DataType::List(Arc::new(field(id, "item", item)));
    let spans = |id: u64| {
        let parts = vec![
            field(id + 2, "offset", DataType::Int32),
            field(id + 3, "length", DataType::Int32),
        ];
        list(id + 1, DataType::Struct(Fields::from(parts)))
    };
    Fields::from(vec![
        field(first, "schema", DataType::Int32),
        field(first + 1, "hint", DataType::Int32),
        field(first + 2, "zero_threshold", DataType::Float64),
        field(first + 3, "zero_count", DataType::Float64),
        nullable(first + 4, crate::schema::COUNT, DataType::Float64),
        nullable(first + 5, COUNT_M, DataType::Int64),
        field(first + 6, crate::schema::SUM, DataType::Float64),
        field(first + 7, "positive_spans", spans(first + 7)),
        field(first + 11, "negative_spans", spans(first + 11)),
        field(first + 15, "custom_values", list(first + 16, DataType::Float64)),
    ])
}

/// The fields of the column `counter` or `sum` of the histograms file.
pub(crate) fn histogram_fields(column: &str) -> Fields {
    histogram(if column == crate::schema::COUNTER { 50 } else { 80 })
}

/// The native histogram windows, without their buckets.
pub(crate) fn histograms() -> SchemaRef {
    use crate::schema::{BATCH_START, COUNT, COUNTER, SERIES_ID, SUM, T};
    let histogram = |id, name| field(id, name, DataType::Struct(histogram_fields(name)));
    Arc::new(Schema::new(vec![
        field(1, SERIES_ID, DataType::Int32),
        field(40, WINDOW, DataType::Int32),
        field(20, T, timestamp()),
        nullable(21, FIRST_T, timestamp()),
        nullable(22, LAST_T, timestamp()),
        field(23, BATCH_START, DataType::Boolean),
        nullable(39, LAST_RAW_T, timestamp()),
        field(26, COUNT, DataType::Int32),
        histogram(41, COUNTER),
        histogram(42, SUM),
    ]))
}

/// The buckets of native histogram windows: a row per bucket and window, in order of series,
/// negative or positive, index, window.
pub(crate) fn buckets() -> SchemaRef {
    use crate::schema::{COUNTER, SERIES_ID, SUM};
    Arc::new(Schema::new(vec![
        field(1, SERIES_ID, DataType::Int32),
        field(43, NEGATIVE, DataType::Boolean),
        field(44, INDEX, DataType::Int32),
        field(40, WINDOW, DataType::Int32),
        nullable(45, COUNTER, DataType::Float64),
        nullable(46, COUNTER_M, DataType::Int64),
        nullable(47, SUM, DataType::Float64),
        nullable(48, SUM_R, DataType::Int64),
    ]))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Ids of a field and of what is inside it.
    fn ids(field: &Field, out: &mut Vec<u64>) {
        out.push(field.metadata()[PARQUET_FIELD_ID_META_KEY].parse().unwrap());
        match field.data_type() {
            DataType::Struct(fields) => fields.iter().for_each(|f| ids(f, out)),
            DataType::List(item) => ids(item, out),
            _ => {}
        }
    }

    #[test]
    fn every_column_has_an_id_of_its_own() {
        let all = [samples(), histograms(), buckets(), Arc::new(Schema::new(series_head()))];
        for schema in all {
            let mut found = Vec::new();
            schema.fields().iter().for_each(|f| ids(f, &mut found));
            assert_eq!(found.iter().collect::<BTreeSet<_>>().len(), found.len(), "{found:?}");
            assert!(found.iter().all(|id| *id < FIRST_LABEL_ID));
        }
    }

    /// Lines of the page of the format for a field and what is inside it.
    fn lines(field: &Field, prefix: &str, out: &mut Vec<String>) {
        let (id, path) =
            (&field.metadata()[PARQUET_FIELD_ID_META_KEY], format!("{prefix}{}", field.name()));
        out.push(format!("| {id} | `{path}` |"));
        match field.data_type() {
            DataType::Struct(fields) if prefix.is_empty() => {
                fields.iter().for_each(|f| lines(f, "", out));
            }
            DataType::Struct(fields) => {
                fields.iter().for_each(|f| lines(f, &format!("{path}."), out));
            }
            DataType::List(item) => lines(item, &format!("{path}."), out),
            _ => {}
        }
    }

    #[test]
    fn the_page_of_the_format_has_every_column() {
        let page = include_str!("../../FORMAT.md");
        let mut expected = Vec::new();
        for schema in [samples(), histograms(), buckets(), Arc::new(Schema::new(series_head()))] {
            // the ids inside `sum` follow from those inside `counter`
            let fields = schema.fields().iter().map(|field| match field.data_type() {
                DataType::Struct(_) if field.name() == crate::schema::SUM => {
                    field.as_ref().clone().with_data_type(DataType::Null)
                }
                _ => field.as_ref().clone(),
            });
            fields.for_each(|field| lines(&field, "", &mut expected));
        }
        let [counter, sum] = ["counter", "sum"].map(histogram_fields);
        for (a, b) in counter.iter().zip(&sum) {
            let [a, b] =
                [a, b].map(|f| f.metadata()[PARQUET_FIELD_ID_META_KEY].parse::<u64>().unwrap());
            assert_eq!(a + 30, b);
        }
        let [keys, values] = rest_entries();
        lines(&keys, "labels_rest.", &mut expected);
        lines(&values, "labels_rest.", &mut expected);
        let missing: Vec<String> =
            expected.into_iter().filter(|line| !page.contains(line.as_str())).collect();
        assert!(missing.is_empty(), "{missing:#?}");
    }

    #[test]
    fn ids_of_labels_never_change() {
        let ids = ["__name__", "job", "instance"].map(label_id);
        assert_eq!(ids, [1_259_595_923, 1_817_003_632, 1_485_484_763]);
        assert!(ids.iter().all(|id| (1_000_000_000..2_000_000_000).contains(id)));
    }
}
