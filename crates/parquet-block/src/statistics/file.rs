//! Statistics as a Parquet file.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringArray, StringViewArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use bytes::Bytes;
use model::BlockId;
use parquet::arrow::arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::arrow::{ArrowWriter, PARQUET_FIELD_ID_META_KEY};
use parquet::errors::Result as ParquetResult;
use parquet::file::metadata::{KeyValue, ParquetMetaData};
use parquet::file::properties::{WriterProperties, WriterVersion};

use super::tally::{Counts, Key, MAX_COUNT, Ranking, RankingRow, Tally};
use super::{MAX_DISTINCT, STATISTICS_FILE, Statistics, TOP_PAIRS};
use crate::encoder::compression;
use crate::error::{Case, Error};
use crate::footer::{self, FORMAT_KEY};

const FORMAT: &str = "statistics/1";
const TOTAL: &str = "total";

const BLOCK_KEY: &str = "drumlin.block";
/// Followed by the kind.
const MISSING_KEY: &str = "drumlin.missing.";

const ROWS_AT_ONCE: usize = 4096;

/// Limits of what is read: a few bytes of a file can stand for very many rows and much text.
const MAX_ROWS: usize = 2 * MAX_DISTINCT + TOP_PAIRS + 1;
const MAX_TEXT_BYTES: usize = 256 << 20;

/// What is counted, with its rows in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Metric,
    LabelName,
    LabelPair,
}

impl Kind {
    const ALL: [Kind; 3] = [Kind::Metric, Kind::LabelName, Kind::LabelPair];

    fn as_str(self) -> &'static str {
        match self {
            Kind::Metric => "metric",
            Kind::LabelName => "label_name",
            Kind::LabelPair => "label_pair",
        }
    }

    fn missing_key(self) -> String {
        format!("{MISSING_KEY}{}", self.as_str())
    }

    fn ranking(self, statistics: &Statistics) -> Ranking<'_> {
        match self {
            Kind::Metric => statistics.by_metric(),
            Kind::LabelName => statistics.by_label_name(),
            Kind::LabelPair => statistics.by_label_pair(),
        }
    }

    fn tally(self, statistics: &mut Statistics) -> &mut Tally {
        match self {
            Kind::Metric => &mut statistics.metrics,
            Kind::LabelName => &mut statistics.label_names,
            Kind::LabelPair => &mut statistics.label_pairs,
        }
    }
}

/// The columns, with text as it is held in memory.
fn schema(text: &DataType) -> SchemaRef {
    let columns = ["kind", "name", "value", "series", "samples", "bytes"];
    let field = |(i, name): (usize, &str)| {
        let data_type = if i < 3 { text.clone() } else { DataType::Int64 };
        let id = [(PARQUET_FIELD_ID_META_KEY.to_owned(), (i + 1).to_string())];
        Field::new(name, data_type, false).with_metadata(id.into())
    };
    Arc::new(Schema::new(columns.into_iter().enumerate().map(field).collect::<Vec<_>>()))
}

impl Statistics {
    /// The file of a block; equal statistics give equal bytes.
    ///
    /// # Errors
    /// None are known.
    pub fn encode(&self, block: BlockId) -> Result<Vec<u8>, Error> {
        self.encode_as(block).map_err(Error::parquet("encoding", STATISTICS_FILE))
    }

    fn encode_as(&self, block: BlockId) -> ParquetResult<Vec<u8>> {
        let rankings = Kind::ALL.map(|kind| Ranked { kind, ranking: kind.ranking(self) });
        let schema = schema(&DataType::Utf8);
        let batch = RecordBatch::try_new(Arc::clone(&schema), self.columns(&rankings))?;
        let options = writer_options(metadata(block, &rankings));
        let mut writer = ArrowWriter::try_new_with_options(Vec::new(), schema, options)?;
        writer.write(&batch)?;
        writer.into_inner()
    }

    fn columns(&self, rankings: &[Ranked<'_>]) -> Vec<ArrayRef> {
        let total = RankingRow { name: "", value: "", counts: self.totals };
        let kinds = rankings.iter().flat_map(|r| r.ranking.rows.iter().map(|_| r.kind.as_str()));
        let rows = || std::iter::once(&total).chain(rankings.iter().flat_map(|r| &r.ranking.rows));
        vec![
            texts(std::iter::once(TOTAL).chain(kinds)),
            texts(rows().map(|row| row.name)),
            texts(rows().map(|row| row.value)),
            numbers(rows().map(|row| row.counts.series)),
            numbers(rows().map(|row| row.counts.samples)),
            numbers(rows().map(|row| row.counts.bytes)),
        ]
    }

    /// `file`: the object's path, for errors.
    ///
    /// # Errors
    /// The bytes are not such a file, or hold more than there can be.
    pub fn decode(file: &str, bytes: Bytes) -> Result<Statistics, Error> {
        // the decoder panics on some bytes
        let decoded = std::panic::catch_unwind(AssertUnwindSafe(|| decode(file, bytes)));
        decoded.unwrap_or_else(|_| Err(Error::corrupt(file, "the decoder gave up")))
    }
}

/// What is listed of a kind.
struct Ranked<'a> {
    kind: Kind,
    ranking: Ranking<'a>,
}

fn texts<'a>(texts: impl Iterator<Item = &'a str>) -> ArrayRef {
    Arc::new(StringArray::from(texts.collect::<Vec<_>>()))
}

fn numbers(numbers: impl Iterator<Item = u64>) -> ArrayRef {
    let signed = numbers.map(|number| number.min(MAX_COUNT) as i64);
    Arc::new(Int64Array::from(signed.collect::<Vec<_>>()))
}

fn metadata(block: BlockId, rankings: &[Ranked<'_>]) -> Vec<KeyValue> {
    let pair = |key: &str, value: String| KeyValue::new(key.to_owned(), value);
    let missing =
        |ranked: &Ranked<'_>| pair(&ranked.kind.missing_key(), ranked.ranking.missing.to_string());
    let named = [pair(FORMAT_KEY, FORMAT.to_owned()), pair(BLOCK_KEY, block.to_string())];
    named.into_iter().chain(rankings.iter().map(missing)).collect()
}

fn writer_options(metadata: Vec<KeyValue>) -> ArrowWriterOptions {
    let properties = WriterProperties::builder()
        .set_created_by("drumlin".to_owned())
        .set_writer_version(WriterVersion::PARQUET_1_0)
        .set_compression(compression())
        .set_key_value_metadata(Some(metadata))
        .build();
    // the schema is what the columns say
    ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(true)
}

fn decode(file: &str, bytes: Bytes) -> Result<Statistics, Error> {
    let failed = || Error::parquet("reading", file);
    let damaged = |reason: String| Error::corrupt(file, reason);
    let footer = ParquetRecordBatchReaderBuilder::try_new(bytes.clone()).map_err(failed())?;
    check_format(file, footer.metadata())?;
    // views of a text that many rows share take its memory once
    let options = ArrowReaderOptions::new()
        .with_skip_arrow_metadata(true)
        .with_schema(schema(&DataType::Utf8View));
    let builder = ParquetRecordBatchReaderBuilder::try_new_with_options(bytes, options);
    let builder = builder.map_err(failed())?;
    check_rows(builder.metadata()).map_err(damaged)?;
    let mut decoder = Decoder::default();
    for kind in Kind::ALL {
        let missing = missing(builder.metadata(), kind).map_err(damaged)?;
        kind.tally(&mut decoder.statistics).add_missing(missing);
    }
    let reader = builder.with_batch_size(ROWS_AT_ONCE).build().map_err(failed())?;
    for batch in reader {
        decoder.add(&batch.map_err(|e| failed()(e.into()))?).map_err(damaged)?;
    }
    match decoder.totals {
        1 => Ok(decoder.statistics),
        other => Err(damaged(format!("{other} rows are about the whole block"))),
    }
}

fn check_format(file: &str, metadata: &ParquetMetaData) -> Result<(), Error> {
    match footer::value_of(metadata, FORMAT_KEY) {
        Some(FORMAT) => Ok(()),
        other => Err(Error(Case::Unsupported {
            file: file.to_owned(),
            found: other.unwrap_or_default().to_owned(),
        })),
    }
}

fn check_rows(metadata: &ParquetMetaData) -> Result<(), String> {
    let most = i64::try_from(MAX_ROWS).unwrap_or(i64::MAX);
    footer::rows_up_to(metadata, most)
        .map_err(|rows| format!("the footer claims {rows} rows, the most are {most}"))
}

fn missing(metadata: &ParquetMetaData, kind: Kind) -> Result<u64, String> {
    let key = kind.missing_key();
    let value = footer::value_of(metadata, &key).unwrap_or_default();
    value.parse().map_err(|_| format!("{key} is {value:?}"))
}

#[derive(Default)]
struct Decoder {
    statistics: Statistics,
    /// Rows about the whole block.
    totals: usize,
    key: Key,
    text_bytes: usize,
}

impl Decoder {
    fn add(&mut self, batch: &RecordBatch) -> Result<(), String> {
        let columns = Columns::new(batch)?;
        (0..batch.num_rows()).try_for_each(|row| self.add_row(&columns, row))
    }

    fn add_row(&mut self, columns: &Columns<'_>, row: usize) -> Result<(), String> {
        let [kind, name, value] = columns.texts.map(|column| column.value(row));
        let [series, samples, bytes] =
            columns.numbers.map(|column| u64::try_from(column.value(row)));
        let (Ok(series), Ok(samples), Ok(bytes)) = (series, samples, bytes) else {
            return Err(format!("a count below 0 of {kind} {name:?} {value:?}"));
        };
        let counts = Counts { series, samples, bytes };
        if kind == TOTAL {
            self.totals += 1;
            self.statistics.totals = counts;
        }
        // a later version may count more than this one knows
        let Some(kind) = Kind::ALL.into_iter().find(|known| known.as_str() == kind) else {
            return Ok(());
        };
        self.text_bytes += name.len() + value.len();
        if self.text_bytes > MAX_TEXT_BYTES {
            return Err(format!("more than {MAX_TEXT_BYTES} bytes of names and values"));
        }
        let key = self.key.set(name.as_bytes(), value.as_bytes());
        kind.tally(&mut self.statistics).add(key, counts);
        Ok(())
    }
}

struct Columns<'a> {
    texts: [&'a StringViewArray; 3],
    numbers: [&'a Int64Array; 3],
}

impl Columns<'_> {
    fn new(batch: &RecordBatch) -> Result<Columns<'_>, String> {
        let missing = |i: usize| format!("column {i} is not what it should be");
        let text = |i: usize| batch.column(i).as_string_view_opt().ok_or_else(|| missing(i));
        let number =
            |i: usize| batch.column(i).as_primitive_opt::<Int64Type>().ok_or_else(|| missing(i));
        Ok(Columns {
            texts: [text(0)?, text(1)?, text(2)?],
            numbers: [number(3)?, number(4)?, number(5)?],
        })
    }
}
