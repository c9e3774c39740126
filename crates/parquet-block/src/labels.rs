//! The series file: labels as dictionary columns, and the way back.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use arrow::array::MapArray;
use arrow::array::cast::AsArray;
use arrow::array::{
    Array, ArrayRef, BinaryArray, BinaryBuilder, BooleanArray, DictionaryArray, Int32Array,
    Int64Array, MapBuilder, RecordBatch, StringArray, StringBuilder, TimestampMillisecondArray,
    UInt32Array, UInt64Array,
};
use arrow::datatypes::{DataType, Field, Int32Type, Schema};
use arrow::error::ArrowError;
use model::{Labels, LabelsBuilder};

use crate::schema::{self, FormatVersion};
use crate::v1;
use crate::v2::{self, NumberForm, Scale};

/// Label names beyond this many most frequent ones share one MAP column: each column adds to the
/// footer.
const MAX_LABEL_COLUMNS: usize = 1000;

/// Where the windows of a series row are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SeriesRow {
    pub(crate) first_row: i64,
    pub(crate) rows: i64,
    pub(crate) min_t: i64,
    pub(crate) max_t: i64,
    pub(crate) histogram_first_row: i64,
    pub(crate) histogram_rows: i64,
    pub(crate) bucket_first_row: i64,
    pub(crate) bucket_rows: i64,
    pub(crate) form: NumberForm,
}

#[derive(Default)]
struct LabelColumn {
    values: HashMap<String, i32>,
    order: Vec<String>,
    /// The key of each row up to the last that has the label; -1 where it has none.
    keys: Vec<i32>,
    present: usize,
}

impl LabelColumn {
    fn set(&mut self, row: usize, value: &str) {
        self.keys.resize(row, -1);
        let next = self.order.len() as i32;
        let key = match self.values.get(value) {
            Some(key) => *key,
            None => {
                self.values.insert(value.to_owned(), next);
                self.order.push(value.to_owned());
                next
            }
        };
        self.keys.push(key);
        self.present += 1;
    }

    fn value(&self, row: usize) -> Option<&str> {
        let key = usize::try_from(*self.keys.get(row)?).ok()?;
        Some(&self.order[key])
    }

    fn into_array(mut self, rows: usize) -> Result<ArrayRef, ArrowError> {
        self.keys.resize(rows, -1);
        let keys: Int32Array = self.keys.into_iter().map(|k| (k >= 0).then_some(k)).collect();
        let values = StringArray::from_iter_values(&self.order);
        Ok(Arc::new(DictionaryArray::<Int32Type>::try_new(keys, Arc::new(values))?))
    }
}

/// Collects the series of one shard.
#[derive(Default)]
pub(crate) struct SeriesBuilder {
    rows: Vec<SeriesRow>,
    hashes: Vec<u64>,
    columns: BTreeMap<String, LabelColumn>,
    /// Whole label sets that are not UTF-8, by row: they would not survive as strings.
    packed: BTreeMap<usize, Labels>,
}

impl SeriesBuilder {
    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(crate) fn push(&mut self, labels: &Labels, row: SeriesRow) {
        let at = self.rows.len();
        self.rows.push(row);
        self.hashes.push(labels.hash64());
        for (name, value) in labels.iter() {
            match (std::str::from_utf8(name), std::str::from_utf8(value)) {
                (Ok(name), Ok(value)) => match self.columns.get_mut(name) {
                    Some(column) => column.set(at, value),
                    None => {
                        let mut column = LabelColumn::default();
                        column.set(at, value);
                        self.columns.insert(name.to_owned(), column);
                    }
                },
                _ => {
                    self.packed.insert(at, labels.clone());
                }
            }
        }
    }

    pub(crate) fn finish(self, version: FormatVersion) -> Result<RecordBatch, ArrowError> {
        let n = self.rows.len();
        let (mut fields, mut arrays) = match version {
            FormatVersion::V1 => (v1::schema::series_head(), self.head_v1()),
            FormatVersion::V2 => (v2::schema::series_head(), self.head_v2()),
        };
        let (columns, rest) = split_rare(self.columns, version);
        for (name, column) in columns {
            fields.push(match version {
                FormatVersion::V1 => v1::schema::label(&name),
                FormatVersion::V2 => v2::schema::label(&name),
            });
            arrays.push(column.into_array(n)?);
        }
        if !rest.is_empty() {
            let map = rest_array(&rest, n, version)?;
            fields.push(match version {
                FormatVersion::V1 => Field::new(schema::REST, map.data_type().clone(), true),
                FormatVersion::V2 => v2::schema::rest(map.data_type().clone()),
            });
            arrays.push(Arc::new(map));
        }
        if !self.packed.is_empty() {
            let mut packed = BinaryBuilder::new();
            (0..n)
                .for_each(|row| packed.append_option(self.packed.get(&row).map(Labels::as_packed)));
            fields.push(match version {
                FormatVersion::V1 => Field::new(schema::PACKED, DataType::Binary, true),
                FormatVersion::V2 => v2::schema::packed(),
            });
            arrays.push(Arc::new(packed.finish()));
        }
        RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)
    }

    fn integers(&self, value: fn(&SeriesRow) -> i64) -> ArrayRef {
        Arc::new(Int64Array::from_iter_values(self.rows.iter().map(value)))
    }

    fn times(&self, value: fn(&SeriesRow) -> i64) -> ArrayRef {
        let times = TimestampMillisecondArray::from_iter_values(self.rows.iter().map(value));
        Arc::new(times.with_timezone("UTC"))
    }

    /// The columns of positions, which both versions have.
    fn positions(&self) -> Vec<ArrayRef> {
        vec![
            self.integers(|r| r.first_row),
            self.integers(|r| r.rows),
            self.times(|r| r.min_t),
            self.times(|r| r.max_t),
            self.integers(|r| r.histogram_first_row),
            self.integers(|r| r.histogram_rows),
        ]
    }

    fn head_v1(&self) -> Vec<ArrayRef> {
        let mut head: Vec<ArrayRef> = vec![
            Arc::new(UInt32Array::from_iter_values(0..self.rows.len() as u32)),
            Arc::new(UInt64Array::from_iter_values(self.hashes.iter().copied())),
        ];
        head.append(&mut self.positions());
        head
    }

    fn head_v2(&self) -> Vec<ArrayRef> {
        let mut head: Vec<ArrayRef> = vec![
            Arc::new(Int32Array::from_iter_values(0..self.rows.len() as i32)),
            Arc::new(Int64Array::from_iter_values(self.hashes.iter().map(|h| h.cast_signed()))),
        ];
        head.append(&mut self.positions());
        head.push(self.integers(|r| r.bucket_first_row));
        head.push(self.integers(|r| r.bucket_rows));
        let scales = self.rows.iter().map(|r| r.form.scale.map(Scale::as_stored));
        head.push(Arc::new(scales.collect::<Int32Array>()));
        let by_range = self.rows.iter().map(|r| r.form.sum_by_range);
        head.push(Arc::new(BooleanArray::from_iter(by_range.map(Some))));
        head
    }
}

type NamedColumns = Vec<(String, LabelColumn)>;

/// The names with a column of their own, the most frequent ones, and the rest; both sorted by name.
fn split_rare(
    columns: BTreeMap<String, LabelColumn>,
    version: FormatVersion,
) -> (NamedColumns, NamedColumns) {
    let mut frequent: NamedColumns = columns.into_iter().collect();
    let mut rest = Vec::new();
    if version == FormatVersion::V2 {
        let mut ids = BTreeSet::new();
        (frequent, rest) =
            frequent.into_iter().partition(|(name, _)| ids.insert(v2::schema::label_id(name)));
    }
    if frequent.len() > MAX_LABEL_COLUMNS {
        // The sort is stable: of equally frequent names the earlier ones stay.
        frequent.sort_by_key(|(_, column)| std::cmp::Reverse(column.present));
        rest.append(&mut frequent.split_off(MAX_LABEL_COLUMNS));
        frequent.sort_by(|a, b| a.0.cmp(&b.0));
    }
    rest.sort_by(|a, b| a.0.cmp(&b.0));
    (frequent, rest)
}

fn rest_array(
    rest: &[(String, LabelColumn)],
    rows: usize,
    version: FormatVersion,
) -> Result<MapArray, ArrowError> {
    let mut map = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
    if version == FormatVersion::V2 {
        let [keys, values] = v2::schema::rest_entries();
        map = map.with_keys_field(keys).with_values_field(values);
    }
    for row in 0..rows {
        let mut any = false;
        for (name, column) in rest {
            if let Some(value) = column.value(row) {
                map.keys().append_value(name);
                map.values().append_value(value);
                any = true;
            }
        }
        map.append(any)?;
    }
    Ok(map.finish())
}

/// The label sets of a batch of series rows with all label columns.
pub(crate) fn read_labels(batch: &RecordBatch) -> Result<Vec<Labels>, ArrowError> {
    let mut builders = vec![LabelsBuilder::default(); batch.num_rows()];
    let mut packed: Vec<Option<Labels>> = vec![None; batch.num_rows()];
    for (field, array) in batch.schema().fields().iter().zip(batch.columns()) {
        if let Some(name) = field.name().strip_prefix(schema::LABEL_PREFIX) {
            let column = StringColumn::new(array)?;
            for (row, builder) in builders.iter_mut().enumerate() {
                if let Some(value) = column.value(row) {
                    builder.set(name, value);
                }
            }
        } else if field.name() == schema::REST {
            each_rest_label(array, |row, name, value| {
                builders[row].set(name, value);
            })?;
        } else if field.name() == schema::PACKED {
            let bytes = array
                .as_any()
                .downcast_ref::<BinaryArray>()
                .ok_or_else(|| wrong_type(field.name()))?;
            for (row, slot) in packed.iter_mut().enumerate().filter(|(row, _)| bytes.is_valid(*row))
            {
                *slot = Some(unpack(bytes.value(row)).ok_or_else(|| wrong_type(field.name()))?);
            }
        }
    }
    Ok(builders
        .into_iter()
        .zip(packed)
        .map(|(builder, packed)| packed.unwrap_or_else(|| builder.build()))
        .collect())
}

/// Reads the packed form of labels (`uvarint len | bytes`, names and values in turn).
fn unpack(mut bytes: &[u8]) -> Option<Labels> {
    let mut parts: Vec<&[u8]> = Vec::new();
    while !bytes.is_empty() {
        let (mut len, mut shift) = (0usize, 0);
        loop {
            let (first, rest) = bytes.split_first()?;
            bytes = rest;
            len |= usize::from(first & 0x7f) << shift;
            shift += 7;
            if *first < 0x80 {
                break;
            }
            if shift > 28 {
                return None;
            }
        }
        let (part, rest) = bytes.split_at_checked(len)?;
        parts.push(part);
        bytes = rest;
    }
    let pairs = parts.chunks_exact(2);
    pairs.remainder().is_empty().then(|| Labels::from_pairs(pairs.map(|p| (p[0], p[1]))))
}

/// Calls `each` with row, name and value of every label in the MAP column.
pub(crate) fn each_rest_label(
    array: &ArrayRef,
    mut each: impl FnMut(usize, &str, &str),
) -> Result<(), ArrowError> {
    let map = array.as_map_opt().ok_or_else(|| wrong_type(schema::REST))?;
    let (names, values) = (map.keys().as_string_opt::<i32>(), map.values().as_string_opt::<i32>());
    let (Some(names), Some(values)) = (names, values) else { return Err(wrong_type(schema::REST)) };
    for row in (0..map.len()).filter(|row| map.is_valid(*row)) {
        let offsets = map.value_offsets();
        for i in offsets[row] as usize..offsets[row + 1] as usize {
            each(row, names.value(i), values.value(i));
        }
    }
    Ok(())
}

pub(crate) fn wrong_type(column: &str) -> ArrowError {
    ArrowError::SchemaError(format!("column {column} has not the type of this format"))
}

/// A label column, read as a dictionary.
pub(crate) struct StringColumn<'a> {
    keys: &'a Int32Array,
    values: &'a StringArray,
}

impl<'a> StringColumn<'a> {
    pub(crate) fn new(array: &'a ArrayRef) -> Result<StringColumn<'a>, ArrowError> {
        let dictionary =
            array.as_dictionary_opt::<Int32Type>().ok_or_else(|| wrong_type("of labels"))?;
        let values =
            dictionary.values().as_string_opt::<i32>().ok_or_else(|| wrong_type("of labels"))?;
        Ok(StringColumn { keys: dictionary.keys(), values })
    }

    pub(crate) fn value(&self, row: usize) -> Option<&'a str> {
        if self.keys.is_null(row) {
            return None;
        }
        usize::try_from(self.keys.value(row))
            .ok()
            .filter(|k| *k < self.values.len())
            .map(|k| self.values.value(k))
    }

    /// Calls `keep` for each distinct value, and returns the result for each row; `empty` is the
    /// answer for rows without a value.
    pub(crate) fn filter(&self, empty: bool, keep: impl Fn(&str) -> bool) -> Vec<bool> {
        let kept: Vec<bool> = (0..self.values.len()).map(|i| keep(self.values.value(i))).collect();
        let row = |row| match self.keys.is_null(row) {
            true => empty,
            false => usize::try_from(self.keys.value(row))
                .ok()
                .and_then(|k| kept.get(k).copied())
                .unwrap_or(false),
        };
        (0..self.keys.len()).map(row).collect()
    }
}

/// The positions of the rows, from a batch with the columns before the labels.
pub(crate) fn read_rows(batch: &RecordBatch) -> Result<Vec<SeriesRow>, ArrowError> {
    let column = |name: &str| batch.column_by_name(name).ok_or_else(|| wrong_type(name));
    let integers = |name: &str| -> Result<Vec<i64>, ArrowError> {
        let array = column(name)?;
        match array.data_type() {
            DataType::Int64 => {
                Ok(array.as_primitive::<arrow::datatypes::Int64Type>().values().to_vec())
            }
            DataType::Timestamp(arrow::datatypes::TimeUnit::Millisecond, _) => Ok(array
                .as_primitive::<arrow::datatypes::TimestampMillisecondType>()
                .values()
                .to_vec()),
            _ => Err(wrong_type(name)),
        }
    };
    let [first_row, rows, min_t, max_t, histogram_first_row, histogram_rows] = [
        integers(schema::FIRST_ROW)?,
        integers(schema::ROWS)?,
        integers(schema::MIN_T)?,
        integers(schema::MAX_T)?,
        integers(schema::HISTOGRAM_FIRST_ROW)?,
        integers(schema::HISTOGRAM_ROWS)?,
    ];
    let of_v2 = |name: &str| match batch.column_by_name(name) {
        Some(_) => integers(name),
        None => Ok(vec![0; batch.num_rows()]),
    };
    let (bucket_first_row, bucket_rows) =
        (of_v2(v2::schema::BUCKET_FIRST_ROW)?, of_v2(v2::schema::BUCKET_ROWS)?);
    let forms = read_forms(batch)?;
    let row = |i: usize| SeriesRow {
        first_row: first_row[i],
        rows: rows[i],
        min_t: min_t[i],
        max_t: max_t[i],
        histogram_first_row: histogram_first_row[i],
        histogram_rows: histogram_rows[i],
        bucket_first_row: bucket_first_row[i],
        bucket_rows: bucket_rows[i],
        form: forms.get(i).copied().unwrap_or_default(),
    };
    Ok((0..batch.num_rows()).map(row).collect())
}

/// How the numbers of each series are stored; nothing of version 1, which has floats alone.
fn read_forms(batch: &RecordBatch) -> Result<Vec<NumberForm>, ArrowError> {
    let Some(scales) = batch.column_by_name(v2::schema::SCALE) else { return Ok(Vec::new()) };
    let wrong = || wrong_type(v2::schema::SCALE);
    let scales = scales.as_primitive_opt::<Int32Type>().ok_or_else(wrong)?;
    let by_range = batch.column_by_name(v2::schema::SUM_BY_RANGE).and_then(|c| c.as_boolean_opt());
    let by_range = by_range.ok_or_else(|| wrong_type(v2::schema::SUM_BY_RANGE))?;
    let form = |row: usize| {
        let scale = match scales.is_valid(row) {
            true => Some(Scale::stored(scales.value(row)).ok_or_else(wrong)?),
            false => None,
        };
        Ok(NumberForm { scale, sum_by_range: by_range.value(row) })
    };
    (0..batch.num_rows()).map(form).collect()
}

#[cfg(test)]
mod tests;
