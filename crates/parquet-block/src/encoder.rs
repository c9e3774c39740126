//! Encodes one Parquet file: record batches in, bytes out, encodings chosen per row group.

use std::io::Write;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::datatypes::{DataType, SchemaRef};
use parquet::arrow::arrow_writer::{ArrowColumnWriter, ArrowRowGroupWriterFactory, compute_leaves};
use parquet::arrow::{ArrowSchemaConverter, add_encoded_arrow_schema_to_metadata};
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{
    EnabledStatistics, WriterProperties, WriterPropertiesBuilder, WriterVersion,
};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::ColumnPath;

/// Rows per page: small enough that one series costs little, large enough to compress.
pub(crate) const PAGE_ROWS: usize = 20_000;
const ZSTD_LEVEL: i32 = 3;

/// How values of a column may be encoded before compression.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ValueEncoding {
    Plain,
    ByteStreamSplit,
    Dictionary,
    Delta,
}

/// Which encodings a column tries: for floats all that can win, for everything else the one that
/// always does.
fn candidates(data_type: &DataType) -> &'static [ValueEncoding] {
    match data_type {
        DataType::Float64 => {
            &[ValueEncoding::ByteStreamSplit, ValueEncoding::Plain, ValueEncoding::Dictionary]
        }
        DataType::UInt32 | DataType::Int64 | DataType::Timestamp(..) => &[ValueEncoding::Delta],
        DataType::UInt64 => &[ValueEncoding::Plain],
        _ => &[ValueEncoding::Dictionary],
    }
}

/// Bytes in pieces of a fixed size, so that a row group to be written is in memory once: a growing
/// buffer would be copied again and again to one twice as large.
#[derive(Debug, Default)]
struct BytePieces(Vec<Vec<u8>>);

const PIECE_BYTES: usize = 1 << 20;

impl Write for BytePieces {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.0.last().is_none_or(|piece| piece.len() >= PIECE_BYTES) {
            self.0.push(Vec::new());
        }
        let Some(piece) = self.0.last_mut() else { return Ok(0) };
        let now = bytes.len().min(PIECE_BYTES - piece.len());
        piece.extend_from_slice(&bytes[..now]);
        Ok(now)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

pub(crate) struct FileEncoder {
    schema: SchemaRef,
    metadata: Vec<KeyValue>,
    file: SerializedFileWriter<BytePieces>,
    group: Option<Vec<ArrowColumnWriter>>,
    /// Encoded bytes after which a row group ends.
    group_bytes: usize,
    rows: u64,
}

impl FileEncoder {
    pub(crate) fn new(
        schema: SchemaRef,
        metadata: Vec<KeyValue>,
        group_bytes: usize,
    ) -> Result<FileEncoder> {
        let parquet_schema = ArrowSchemaConverter::new().convert(&schema)?;
        let mut properties =
            base_properties().set_key_value_metadata(Some(metadata.clone())).build();
        add_encoded_arrow_schema_to_metadata(&schema, &mut properties);
        let file = SerializedFileWriter::new(
            BytePieces::default(),
            parquet_schema.root_schema_ptr(),
            Arc::new(properties),
        )?;
        Ok(FileEncoder { schema, metadata, file, group: None, group_bytes, rows: 0 })
    }

    /// Rows pushed so far.
    pub(crate) fn rows(&self) -> u64 {
        self.rows
    }

    /// Bytes returned so far, without the row group in progress.
    pub(crate) fn bytes_written(&self) -> usize {
        self.file.bytes_written()
    }

    /// Encodes rows. The first batch of a row group decides its encodings. A row group ends only
    /// after a batch, so a series whose rows share a batch never spans two.
    pub(crate) fn push(&mut self, batch: &RecordBatch) -> Result<()> {
        if self.group.is_none() {
            let properties = self.choose(batch)?;
            self.group = Some(self.column_writers(properties)?);
        }
        let writers = self.group.get_or_insert_default();
        let mut writer = writers.iter_mut();
        for (field, column) in self.schema.fields().iter().zip(batch.columns()) {
            for leaf in compute_leaves(field, column)? {
                writer
                    .next()
                    .ok_or_else(|| ParquetError::General("more leaves than columns".into()))?
                    .write(&leaf)?;
            }
        }
        self.rows += batch.num_rows() as u64;
        let encoded: usize = writers.iter().map(ArrowColumnWriter::get_estimated_total_bytes).sum();
        if encoded >= self.group_bytes { self.end_row_group() } else { Ok(()) }
    }

    /// The bytes finished since the last call.
    pub(crate) fn take_output(&mut self) -> Result<Vec<Vec<u8>>> {
        self.file.flush()?;
        Ok(std::mem::take(self.file.inner_mut()).0)
    }

    /// Ends the file and returns its last bytes.
    pub(crate) fn finish(mut self) -> Result<Vec<Vec<u8>>> {
        self.end_row_group()?;
        self.file.finish()?;
        self.take_output()
    }

    fn end_row_group(&mut self) -> Result<()> {
        let Some(writers) = self.group.take() else { return Ok(()) };
        let mut group = self.file.next_row_group()?;
        for writer in writers {
            writer.close()?.append_to_row_group(&mut group)?;
        }
        group.close()?;
        Ok(())
    }

    /// Properties differ between row groups only in encodings, which are in the row group's own
    /// metadata.
    fn column_writers(&self, properties: WriterProperties) -> Result<Vec<ArrowColumnWriter>> {
        let schema = self.file.schema_descr().root_schema_ptr();
        let template = SerializedFileWriter::new(Vec::<u8>::new(), schema, Arc::new(properties))?;
        ArrowRowGroupWriterFactory::new(&template, Arc::clone(&self.schema))
            .create_column_writers(0)
    }

    fn choose(&self, batch: &RecordBatch) -> Result<WriterProperties> {
        let mut properties = base_properties().set_key_value_metadata(Some(self.metadata.clone()));
        for (i, descriptor) in self.file.schema_descr().columns().iter().enumerate() {
            let top = descriptor.path().parts()[0].as_str();
            let (_, field) = self
                .schema
                .fields()
                .find(top)
                .ok_or_else(|| ParquetError::General(format!("no column {top}")))?;
            let layout = if descriptor.path().parts().len() > 1 {
                ValueEncoding::Dictionary
            } else {
                match candidates(field.data_type()) {
                    [only] => *only,
                    several => smallest(several, field.data_type(), &pages(batch.column(i)))?,
                }
            };
            properties = set_layout(properties, descriptor.path().clone(), layout);
            if *field.data_type() == DataType::Float64 || descriptor.path().parts().len() > 1 {
                // Minima of values would not help to prune for any query.
                properties = properties.set_column_statistics_enabled(
                    descriptor.path().clone(),
                    EnabledStatistics::None,
                );
            }
        }
        Ok(properties.build())
    }
}

fn base_properties() -> WriterPropertiesBuilder {
    let level = ZstdLevel::try_new(ZSTD_LEVEL).unwrap_or_default();
    WriterProperties::builder()
        .set_created_by("drumlin".to_owned())
        .set_writer_version(WriterVersion::PARQUET_1_0)
        .set_compression(Compression::ZSTD(level))
        .set_data_page_row_count_limit(PAGE_ROWS)
        .set_write_batch_size(PAGE_ROWS / 4)
        .set_data_page_size_limit(64 << 20)
        .set_dictionary_page_size_limit(32 << 20)
        .set_max_row_group_row_count(None)
        .set_statistics_enabled(EnabledStatistics::Page)
}

fn set_layout(
    properties: WriterPropertiesBuilder,
    column: ColumnPath,
    layout: ValueEncoding,
) -> WriterPropertiesBuilder {
    let encoding = match layout {
        ValueEncoding::Dictionary => return properties.set_column_dictionary_enabled(column, true),
        ValueEncoding::Plain => Encoding::PLAIN,
        ValueEncoding::ByteStreamSplit => Encoding::BYTE_STREAM_SPLIT,
        ValueEncoding::Delta => Encoding::DELTA_BINARY_PACKED,
    };
    properties
        .set_column_dictionary_enabled(column.clone(), false)
        .set_column_encoding(column, encoding)
}

/// Up to four pages spread over the column.
fn pages(column: &ArrayRef) -> Vec<ArrayRef> {
    let pages = column.len().div_ceil(PAGE_ROWS);
    let step = pages.div_ceil(4).max(1);
    let slice = |page: usize| {
        column.slice(page * PAGE_ROWS, PAGE_ROWS.min(column.len() - page * PAGE_ROWS))
    };
    (0..pages).step_by(step).map(slice).collect()
}

/// The layout that gives the fewest bytes for these pages; of equal ones the first.
fn smallest(
    layouts: &[ValueEncoding],
    data_type: &DataType,
    pages: &[ArrayRef],
) -> Result<ValueEncoding> {
    let field = arrow::datatypes::Field::new("trial", data_type.clone(), true);
    let schema = Arc::new(arrow::datatypes::Schema::new(vec![field.clone()]));
    let parquet_schema = ArrowSchemaConverter::new().convert(&schema)?;
    let mut best = None;
    for layout in layouts {
        let column = ColumnPath::from("trial");
        let properties = set_layout(base_properties(), column, *layout)
            .set_statistics_enabled(EnabledStatistics::None);
        let template = SerializedFileWriter::new(
            Vec::<u8>::new(),
            parquet_schema.root_schema_ptr(),
            Arc::new(properties.build()),
        )?;
        let factory = ArrowRowGroupWriterFactory::new(&template, Arc::clone(&schema));
        let mut bytes = 0;
        for mut writer in factory.create_column_writers(0)? {
            for page in pages {
                for leaf in compute_leaves(&field, page)? {
                    writer.write(&leaf)?;
                }
            }
            bytes += writer.close()?.close().bytes_written;
        }
        if best.is_none_or(|(fewest, _)| bytes < fewest) {
            best = Some((bytes, *layout));
        }
    }
    Ok(best.map_or(ValueEncoding::Plain, |(_, layout)| layout))
}
