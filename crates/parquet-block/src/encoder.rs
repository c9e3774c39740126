//! Encodes one Parquet file: record batches in, bytes out, encodings chosen per row group.

use std::io::Write;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::datatypes::{DataType, FieldRef, SchemaRef};
use parquet::arrow::arrow_writer::{ArrowColumnWriter, ArrowRowGroupWriterFactory, compute_leaves};
use parquet::arrow::{ArrowSchemaConverter, add_encoded_arrow_schema_to_metadata};
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{
    EnabledStatistics, WriterProperties, WriterPropertiesBuilder, WriterVersion,
};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::{ColumnDescPtr, ColumnPath};

use crate::schema::FormatVersion;

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

/// Which encodings a column tries: for values all that can win, for everything else the one that
/// always does.
fn candidates(version: FormatVersion, data_type: &DataType) -> &'static [ValueEncoding] {
    use ValueEncoding::{ByteStreamSplit, Delta, Dictionary, Plain};
    match (version, data_type) {
        (_, DataType::Float64) => &[ByteStreamSplit, Plain, Dictionary],
        (FormatVersion::V1, DataType::UInt32 | DataType::Int64) => &[Delta],
        (FormatVersion::V2, DataType::Int64) => &[Delta, ByteStreamSplit, Plain, Dictionary],
        (FormatVersion::V2, DataType::Int32) => &[Delta, Dictionary],
        (_, DataType::Timestamp(..)) => &[Delta],
        (_, DataType::UInt64) => &[Plain],
        _ => &[Dictionary],
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
    version: FormatVersion,
    /// Encoded bytes after which a row group ends.
    group_bytes: usize,
    rows: u64,
    group_rows: u64,
    /// Offsets at which pages begin, not taken yet.
    borders: Vec<u64>,
    groups: Vec<EncodedGroup>,
}

/// A row group that was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EncodedGroup {
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
}

/// Finished bytes of a file.
#[derive(Default)]
pub(crate) struct EncodedBytes {
    pub(crate) pieces: Vec<Vec<u8>>,
    /// Where in the file pages begin, as far as they are in these bytes.
    pub(crate) borders: Vec<u64>,
}

/// The last bytes of a file, and what is known of the whole of it.
pub(crate) struct EncodedEnd {
    pub(crate) bytes: EncodedBytes,
    /// Where page index and footer begin.
    pub(crate) footer_start: u64,
    pub(crate) groups: Vec<EncodedGroup>,
}

/// What a file is to be.
pub(crate) struct FileLayout {
    pub(crate) version: FormatVersion,
    pub(crate) schema: SchemaRef,
    pub(crate) metadata: Vec<KeyValue>,
    pub(crate) group_bytes: usize,
}

impl FileEncoder {
    pub(crate) fn new(layout: FileLayout) -> Result<FileEncoder> {
        let FileLayout { version, schema, metadata, group_bytes } = layout;
        let parquet_schema = ArrowSchemaConverter::new().convert(&schema)?;
        let mut properties =
            base_properties().set_key_value_metadata(Some(metadata.clone())).build();
        add_encoded_arrow_schema_to_metadata(&schema, &mut properties);
        let file = SerializedFileWriter::new(
            BytePieces::default(),
            parquet_schema.root_schema_ptr(),
            Arc::new(properties),
        )?;
        Ok(FileEncoder {
            schema,
            metadata,
            file,
            group: None,
            version,
            group_bytes,
            rows: 0,
            group_rows: 0,
            borders: Vec::new(),
            groups: Vec::new(),
        })
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
        self.group_rows += batch.num_rows() as u64;
        let encoded: usize = writers.iter().map(ArrowColumnWriter::get_estimated_total_bytes).sum();
        if encoded >= self.group_bytes { self.end_row_group() } else { Ok(()) }
    }

    /// The bytes finished since the last call.
    pub(crate) fn take_output(&mut self) -> Result<EncodedBytes> {
        self.file.flush()?;
        let pieces = std::mem::take(self.file.inner_mut()).0;
        Ok(EncodedBytes { pieces, borders: std::mem::take(&mut self.borders) })
    }

    /// Ends the file.
    pub(crate) fn finish(mut self) -> Result<EncodedEnd> {
        self.end_row_group()?;
        let footer_start = self.file.bytes_written() as u64;
        self.borders.push(footer_start);
        self.file.finish()?;
        let bytes = self.take_output()?;
        Ok(EncodedEnd { bytes, footer_start, groups: self.groups })
    }

    /// Rows in the row group that is not finished.
    pub(crate) fn group_rows(&self) -> u64 {
        self.group_rows
    }

    pub(crate) fn end_row_group(&mut self) -> Result<()> {
        let Some(writers) = self.group.take() else { return Ok(()) };
        let begin = self.file.bytes_written() as u64;
        let mut group = self.file.next_row_group()?;
        let mut at = begin;
        for writer in writers {
            let chunk = writer.close()?;
            let close = chunk.close();
            let pages = close.offset_index.iter().flat_map(|index| index.page_locations());
            let sizes: Vec<u64> =
                pages.map(|page| u64::from(page.compressed_page_size.unsigned_abs())).collect();
            let end = at + close.metadata.compressed_size().unsigned_abs();
            // a dictionary comes before the pages
            self.borders.push(at);
            at = end - sizes.iter().sum::<u64>();
            for size in sizes {
                self.borders.push(at);
                at += size;
            }
            chunk.append_to_row_group(&mut group)?;
        }
        group.close()?;
        self.groups
            .push(EncodedGroup { rows: std::mem::take(&mut self.group_rows), bytes: at - begin });
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
        let descriptors = self.file.schema_descr().columns();
        for (field, column) in self.schema.fields().iter().zip(batch.columns()) {
            let of_field = |d: &&ColumnDescPtr| d.path().parts()[0] == *field.name();
            let leaves: Vec<&ColumnDescPtr> = descriptors.iter().filter(of_field).collect();
            let types: Vec<DataType> = match self.version {
                FormatVersion::V1 if leaves.len() > 1 => vec![DataType::Utf8; leaves.len()],
                _ => leaf_types(field.data_type()),
            };
            let encodings = smallest(self.version, field, &types, &pages(column))?;
            for ((leaf, data_type), encoding) in leaves.iter().zip(&types).zip(encodings) {
                let path = leaf.path().clone();
                properties = set_layout(properties, path.clone(), encoding);
                let is_nullable = leaf.max_def_level() > 0 && leaf.path().parts().len() == 1;
                let statistics = match self.version {
                    // how many are NULL: where all are, nothing is read
                    FormatVersion::V2 if is_nullable => EnabledStatistics::Chunk,
                    // Minima of values would not help to prune for any query.
                    _ if *data_type == DataType::Float64 || leaves.len() > 1 => {
                        EnabledStatistics::None
                    }
                    _ if leaf.path().parts().len() > 1 => EnabledStatistics::None,
                    _ => continue,
                };
                properties = properties.set_column_statistics_enabled(path, statistics);
            }
        }
        Ok(properties.build())
    }
}

/// The types of the leaves of a column, in order.
fn leaf_types(data_type: &DataType) -> Vec<DataType> {
    match data_type {
        DataType::Struct(fields) => {
            fields.iter().flat_map(|field| leaf_types(field.data_type())).collect()
        }
        DataType::List(item) | DataType::Map(item, _) => leaf_types(item.data_type()),
        leaf => vec![leaf.clone()],
    }
}

/// That of all files.
pub(crate) fn compression() -> Compression {
    Compression::ZSTD(ZstdLevel::try_new(ZSTD_LEVEL).unwrap_or_default())
}

fn base_properties() -> WriterPropertiesBuilder {
    WriterProperties::builder()
        .set_created_by("drumlin".to_owned())
        .set_writer_version(WriterVersion::PARQUET_1_0)
        .set_compression(compression())
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

/// For each leaf of a column the encoding that gives the fewest bytes for these pages; of equal
/// ones the first.
fn smallest(
    version: FormatVersion,
    field: &FieldRef,
    types: &[DataType],
    pages: &[ArrayRef],
) -> Result<Vec<ValueEncoding>> {
    let of_leaf: Vec<&[ValueEncoding]> = types.iter().map(|t| candidates(version, t)).collect();
    let mut best: Vec<(u64, ValueEncoding)> =
        of_leaf.iter().map(|tried| (u64::MAX, tried[0])).collect();
    if of_leaf.iter().all(|tried| tried.len() == 1) {
        return Ok(best.into_iter().map(|(_, encoding)| encoding).collect());
    }
    let rounds = of_leaf.iter().map(|tried| tried.len()).max().unwrap_or(0);
    for round in 0..rounds {
        let tried = |leaf: usize| *of_leaf[leaf].get(round).unwrap_or(&of_leaf[leaf][0]);
        let encodings: Vec<ValueEncoding> = (0..types.len()).map(tried).collect();
        for (leaf, bytes) in encoded_sizes(field, &encodings, pages)?.into_iter().enumerate() {
            if bytes < best[leaf].0 {
                best[leaf] = (bytes, encodings[leaf]);
            }
        }
    }
    Ok(best.into_iter().map(|(_, encoding)| encoding).collect())
}

/// The bytes that each leaf of a column takes.
fn encoded_sizes(
    field: &FieldRef,
    encodings: &[ValueEncoding],
    pages: &[ArrayRef],
) -> Result<Vec<u64>> {
    let schema = Arc::new(arrow::datatypes::Schema::new(vec![Arc::clone(field)]));
    let parquet_schema = ArrowSchemaConverter::new().convert(&schema)?;
    let mut properties = base_properties().set_statistics_enabled(EnabledStatistics::None);
    for (leaf, encoding) in parquet_schema.columns().iter().zip(encodings) {
        properties = set_layout(properties, leaf.path().clone(), *encoding);
    }
    let template = SerializedFileWriter::new(
        Vec::<u8>::new(),
        parquet_schema.root_schema_ptr(),
        Arc::new(properties.build()),
    )?;
    let factory = ArrowRowGroupWriterFactory::new(&template, Arc::clone(&schema));
    let mut writers = factory.create_column_writers(0)?;
    for page in pages {
        for (writer, leaf) in writers.iter_mut().zip(compute_leaves(field, page)?) {
            writer.write(&leaf)?;
        }
    }
    writers.into_iter().map(|writer| Ok(writer.close()?.close().bytes_written)).collect()
}
