//! One Parquet file in a bucket: its footer, and rows of it by ranged reads.

use std::ops::Range;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::error::ArrowError;
use block::{Bucket, Path};
use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, RowSelection};
use parquet::arrow::async_reader::{
    AsyncFileReader, MetadataFetch, ParquetRecordBatchStreamBuilder,
};
use parquet::basic::Type as PhysicalType;
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::metadata::{
    ColumnChunkMetaData, PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader, RowGroupMetaData,
};

use crate::checksums::{Checksums, FileChecksums};
use crate::error::{Case, Error};
use crate::footer::{self, FORMAT_KEY};
use crate::schema::FormatVersion;

/// The most bytes of checksums, of statistics, of a footer with its page index.
const MAX_AT_ONCE: u64 = 64 << 20;

/// The most bytes of a page; writers end them after 64 MiB at the latest.
const MAX_PAGE: u64 = 80 << 20;

/// Footers and checksums that were read, shared by all blocks of a process; bounded in bytes.
#[derive(Clone, Debug)]
pub struct FooterCache(moka::future::Cache<String, CachedPart>);

#[derive(Clone, Debug)]
enum CachedPart {
    Footer(ArrowReaderMetadata),
    Checksums(Arc<Checksums>),
}

impl FooterCache {
    pub fn new(max_bytes: u64) -> FooterCache {
        let weigh = |path: &String, part: &CachedPart| {
            let bytes = match part {
                CachedPart::Footer(footer) => footer.metadata().memory_size(),
                CachedPart::Checksums(checksums) => checksums.memory_size(),
            };
            u32::try_from(path.len() + bytes).unwrap_or(u32::MAX)
        };
        FooterCache(moka::future::Cache::builder().weigher(weigh).max_capacity(max_bytes).build())
    }

    /// Whether half of what it may take is in use.
    pub fn is_half_full(&self) -> bool {
        let capacity = self.0.policy().max_capacity();
        capacity.is_some_and(|capacity| self.0.weighted_size() >= capacity / 2)
    }

    async fn footer(&self, key: &str) -> Option<ArrowReaderMetadata> {
        match self.0.get(key).await? {
            CachedPart::Footer(footer) => Some(footer),
            CachedPart::Checksums(_) => None,
        }
    }

    async fn checksums(&self, key: &str) -> Option<Arc<Checksums>> {
        match self.0.get(key).await? {
            CachedPart::Checksums(checksums) => Some(checksums),
            CachedPart::Footer(_) => None,
        }
    }
}

/// The object of checksums as `meta.json` lists it.
pub(crate) struct ListedChecksums {
    pub(crate) path: Path,
    pub(crate) size: u64,
    /// The object's own checksum.
    pub(crate) checksum: Option<u32>,
}

impl ListedChecksums {
    pub(crate) async fn read(
        &self,
        bucket: &Bucket,
        cache: &FooterCache,
    ) -> Result<Arc<Checksums>, Error> {
        let key = self.path.to_string();
        if let Some(checksums) = cache.checksums(&key).await {
            return Ok(checksums);
        }
        let damaged = |reason: String| Error::corrupt(&self.path, reason);
        check_size(&self.path, self.size)?;
        let bytes = bucket.get_range(&self.path, 0..self.size).await?;
        if self.checksum.is_none() || Checksums::own_checksum(&bytes) != self.checksum {
            return Err(damaged("they are not the ones that meta.json names".to_owned()));
        }
        let checksums = Checksums::decode(&bytes).map_err(|e| damaged(e.to_string()))?;
        let checksums = Arc::new(checksums);
        cache.0.insert(key, CachedPart::Checksums(Arc::clone(&checksums))).await;
        Ok(checksums)
    }
}

/// A file as `meta.json` lists it.
#[derive(Clone)]
pub(crate) struct ListedFile {
    pub(crate) bucket: Bucket,
    pub(crate) path: Path,
    pub(crate) size: u64,
    pub(crate) version: FormatVersion,
    /// Those of all files of the block; format 1 has none.
    pub(crate) checksums: Option<Arc<Checksums>>,
    /// What was fetched of it before the checksums were known.
    pub(crate) ahead: Option<Ahead>,
}

/// A part of a file that was fetched before it is needed.
#[derive(Clone)]
pub(crate) struct Ahead {
    start: u64,
    bytes: Bytes,
}

impl ListedFile {
    /// All bytes of the file.
    pub(crate) async fn read_whole(&self) -> Result<Bytes, Error> {
        check_size(&self.path, self.size)?;
        let whole = self.clone().source().verified(std::slice::from_ref(&(0..self.size))).await;
        let whole = whole.map_err(Error::parquet("reading", &self.path))?;
        Ok(whole.into_iter().next().unwrap_or_default())
    }

    fn source(self) -> RangedReader {
        let ListedFile { bucket, path, checksums, ahead, .. } = self;
        RangedReader { bucket, path, checksums, ahead }
    }

    /// The end of the file, where its footer probably is; `None` where the footer is known, or the
    /// bucket does not answer, which shows again when it is needed.
    pub(crate) async fn end_ahead(&self, cache: &FooterCache) -> Option<Ahead> {
        if cache.footer(self.path.as_ref()).await.is_some() {
            return None;
        }
        let start = self.size.saturating_sub(likely_footer(self.size));
        let bytes = self.bucket.get_range(&self.path, start..self.size).await.ok()?;
        Some(Ahead { start, bytes })
    }
}

/// Refuses to read an object at once that is larger than any of its kind.
fn check_size(path: &Path, size: u64) -> Result<(), Error> {
    if size <= MAX_AT_ONCE {
        return Ok(());
    }
    let reason = format!("it has {size} bytes, and more than {MAX_AT_ONCE} are not read at once");
    Err(Error::corrupt(path, reason))
}

/// A file and its footer.
#[derive(Clone)]
pub(crate) struct BlockFile {
    source: RangedReader,
    size: u64,
    footer: ArrowReaderMetadata,
}

fn count(rows: &[Range<usize>]) -> usize {
    rows.iter().map(Range::len).sum()
}

/// What is read of a file.
struct ReadPlan {
    /// Columns, by their numbers.
    roots: Vec<usize>,
    groups: Vec<usize>,
    /// Rows, counted within the groups.
    selection: RowSelection,
    /// How many rows these are.
    wanted: usize,
}

/// Rows `start..end` of a file, sorted and apart from each other.
pub(crate) type RowRanges = Vec<Range<usize>>;

impl BlockFile {
    /// Reads the footer, usually with one request.
    pub(crate) async fn open(file: ListedFile, cache: &FooterCache) -> Result<BlockFile, Error> {
        let (size, version, mut source) = (file.size, file.version, file.source());
        let path = &source.path;
        let listed = source.file_checksums().map_err(|reason| Error::corrupt(path, reason))?;
        if let Some(listed) = listed.filter(|listed| listed.size() != size) {
            let reason = format!("{size} bytes in meta.json, {} in its checksums", listed.size());
            return Err(Error::corrupt(path, reason));
        }
        let key = path.to_string();
        let footer = match cache.footer(&key).await {
            Some(footer) => footer,
            None => {
                let footer_start = listed.map(FileChecksums::footer_start);
                let footer = read_footer(&source, size, footer_start).await?;
                cache.0.insert(key, CachedPart::Footer(footer.clone())).await;
                footer
            }
        };
        check_rows(footer.metadata(), size).map_err(|reason| Error::corrupt(path, reason))?;
        let format = footer::value_of(footer.metadata(), FORMAT_KEY);
        if format != Some(version.as_str()) {
            let found = format.unwrap_or_default().to_owned();
            return Err(Error(Case::Unsupported { file: path.to_string(), found }));
        }
        source.ahead = None;
        Ok(BlockFile { source, size, footer })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.source.path
    }

    /// Has a short file in the bucket's cache, so that none of its reads waits for another.
    pub(crate) async fn fetch_ahead(&self) {
        /// Takes less time than a second request.
        const SHORT: u64 = 2 << 20;
        let RangedReader { bucket, path, .. } = &self.source;
        if self.size <= SHORT && bucket.is_caching() {
            // what fails is read again, and fails again, when it is needed
            let _ = bucket.get_range(path, 0..self.size).await;
        }
    }

    pub(crate) fn schema(&self) -> &SchemaRef {
        self.footer.schema()
    }

    /// Refuses more rows than fit into the file if each takes this many bytes at least.
    pub(crate) fn check_bytes_per_row(&self, bytes: u64) -> Result<(), Error> {
        let rows = self.rows() as u64;
        if rows <= self.size / bytes {
            return Ok(());
        }
        Err(self.damaged(format!("the footer claims {rows} rows in {} bytes", self.size)))
    }

    pub(crate) fn rows(&self) -> usize {
        usize::try_from(self.footer.metadata().file_metadata().num_rows()).unwrap_or(0)
    }

    /// The given rows of the given columns, in order; columns that the file lacks are left out.
    pub(crate) async fn read(
        &self,
        columns: &[&str],
        rows: &[Range<usize>],
    ) -> Result<RecordBatch, Error> {
        let (groups, selection) = self.select(rows)?;
        let plan = ReadPlan { roots: self.roots(columns), groups, selection, wanted: count(rows) };
        self.read_planned(plan).await
    }

    /// The same, without columns that are known to be NULL in the row groups of these rows.
    pub(crate) async fn read_values(
        &self,
        columns: &[&str],
        rows: &[Range<usize>],
    ) -> Result<RecordBatch, Error> {
        let (groups, selection) = self.select(rows)?;
        let mut roots = self.roots(columns);
        let fields = self.schema().fields();
        roots.retain(|root| !self.is_null(fields[*root].name(), &groups));
        self.read_planned(ReadPlan { roots, groups, selection, wanted: count(rows) }).await
    }

    /// Bytes that these rows of these columns take while they are read, by what the footer says: as
    /// they are fetched, decompressed and decoded.
    pub(crate) fn cost(&self, columns: &[&str], rows: &[Range<usize>]) -> u64 {
        let decoded = self.row_bytes(columns).saturating_mul(count(rows) as u64);
        decoded.saturating_add(self.stored_bytes(columns, rows))
    }

    /// Bytes of a row of these columns once it is decoded.
    pub(crate) fn row_bytes(&self, columns: &[&str]) -> u64 {
        let groups = self.footer.metadata().row_groups().iter();
        let leaves = groups.flat_map(|group| self.leaves(group, columns));
        let all = leaves.fold(0, |sum: u64, leaf| {
            let values = u64::try_from(leaf.num_values()).unwrap_or(0);
            sum.saturating_add(values.saturating_mul(value_bytes(leaf.column_type())))
        });
        all.div_ceil((self.rows() as u64).max(1))
    }

    /// Bytes of the pages that these rows of these columns are in, compressed and not.
    pub(crate) fn stored_bytes(&self, columns: &[&str], rows: &[Range<usize>]) -> u64 {
        let (mut start, mut bytes) = (0, 0u64);
        for group in self.footer.metadata().row_groups() {
            let len = usize::try_from(group.num_rows()).unwrap_or(0);
            let end = start + len;
            let first = rows.partition_point(|r| r.end <= start);
            let inside = rows[first..].iter().take_while(|r| r.start < end);
            let wanted: usize =
                inside.map(|r| r.end.min(end).saturating_sub(r.start.max(start))).sum();
            if wanted > 0 {
                let leaves = self.leaves(group, columns);
                let part = leaves.map(|leaf| page_bytes(leaf, wanted as u64, len as u64));
                bytes = part.fold(bytes, u64::saturating_add);
            }
            start = end;
        }
        bytes
    }

    fn leaves<'a>(
        &'a self,
        group: &'a RowGroupMetaData,
        columns: &'a [&str],
    ) -> impl Iterator<Item = &'a ColumnChunkMetaData> {
        let is_wanted = |leaf: &&ColumnChunkMetaData| {
            leaf.column_path().parts().first().is_some_and(|root| columns.contains(&root.as_str()))
        };
        group.columns().iter().filter(is_wanted)
    }

    fn roots(&self, columns: &[&str]) -> Vec<usize> {
        let fields = self.schema().fields().iter().enumerate();
        let wanted = fields.filter(|(_, field)| columns.contains(&field.name().as_str()));
        wanted.map(|(root, _)| root).collect()
    }

    async fn read_planned(&self, plan: ReadPlan) -> Result<RecordBatch, Error> {
        let (roots, wanted, fields) = (&plan.roots, plan.wanted, self.schema().fields());
        let projected = Arc::new(Schema::new(
            roots.iter().map(|i| Arc::clone(&fields[*i])).collect::<Vec<_>>(),
        ));
        if wanted == 0 || roots.is_empty() {
            return Ok(RecordBatch::new_empty(projected));
        }
        let work = AssertUnwindSafe(self.read_batches(plan)).catch_unwind();
        let batches = work.await.map_err(|_| self.damaged("the decoder gave up"))??;
        let batch = match <[RecordBatch; 1]>::try_from(batches) {
            Ok([batch]) => batch,
            Err(batches) => {
                concat_batches(&projected, &batches).map_err(|e| self.undecodable(e))?
            }
        };
        if batch.num_rows() != wanted {
            return Err(
                self.damaged(format!("{} rows where {wanted} were asked for", batch.num_rows()))
            );
        }
        Ok(batch)
    }

    /// What the columns hold is not what they are.
    pub(crate) fn undecodable(&self, error: ArrowError) -> Error {
        Error::parquet("reading", self.path())(error.into())
    }

    pub(crate) fn damaged(&self, reason: impl Into<String>) -> Error {
        Error::corrupt(self.path(), reason)
    }

    async fn read_batches(&self, plan: ReadPlan) -> Result<Vec<RecordBatch>, Error> {
        let ReadPlan { roots, groups, selection, wanted } = plan;
        let failed = || Error::parquet("reading", self.path());
        let reader = self.source.clone();
        let builder =
            ParquetRecordBatchStreamBuilder::new_with_metadata(reader, self.footer.clone());
        let mask = ProjectionMask::roots(builder.parquet_schema(), roots);
        let mut stream = builder
            .with_projection(mask)
            .with_row_groups(groups)
            .with_row_selection(selection)
            .with_batch_size(wanted)
            .build()
            .map_err(failed())?;
        let mut batches = Vec::new();
        while let Some(group) = stream.next_row_group().await.map_err(failed())? {
            let decoded =
                tokio::task::spawn_blocking(move || group.collect::<Result<Vec<_>, _>>()).await;
            let decoded = decoded.map_err(|_| self.damaged("the decoder gave up"))?;
            batches.append(&mut decoded.map_err(|e| failed()(e.into()))?);
        }
        Ok(batches)
    }

    /// Whether a column of scalars is known to be NULL in all rows of these row groups.
    fn is_null(&self, column: &str, groups: &[usize]) -> bool {
        let metadata = self.footer.metadata();
        let leaves = metadata.file_metadata().schema_descr().columns();
        let Some(leaf) = leaves.iter().position(|leaf| leaf.path().parts() == [column]) else {
            return false;
        };
        groups.iter().all(|group| {
            let group = metadata.row_group(*group);
            let nulls = group.column(leaf).statistics().and_then(|s| s.null_count_opt());
            nulls.is_some_and(|nulls| i64::try_from(nulls) == Ok(group.num_rows()))
        })
    }

    /// The row groups that hold the rows, and the rows counted within those.
    fn select(&self, rows: &[Range<usize>]) -> Result<(Vec<usize>, RowSelection), Error> {
        let (mut groups, mut ranges) = (Vec::new(), Vec::new());
        let (mut start, mut kept) = (0, 0);
        for (i, group) in self.footer.metadata().row_groups().iter().enumerate() {
            let len = usize::try_from(group.num_rows())
                .map_err(|_| self.damaged("a row group of negative length"))?;
            let end = start + len;
            let before = ranges.len();
            let first = rows.partition_point(|r| r.end <= start);
            for range in rows[first..].iter().take_while(|r| r.start < end) {
                ranges
                    .push(range.start.max(start) - start + kept..range.end.min(end) - start + kept);
            }
            if ranges.len() > before {
                groups.push(i);
                kept += len;
            }
            start = end;
        }
        Ok((groups, RowSelection::from_consecutive_ranges(ranges.into_iter(), kept)))
    }
}

/// Bytes of a decoded value, with what says whether it is there.
fn value_bytes(of: PhysicalType) -> u64 {
    match of {
        PhysicalType::BOOLEAN => 2,
        PhysicalType::INT32 | PhysicalType::FLOAT => 5,
        // strings come as numbers of their dictionary
        _ => 9,
    }
}

/// Bytes of the pages that `wanted` of the `rows` of a column chunk are in.
fn page_bytes(leaf: &ColumnChunkMetaData, wanted: u64, rows: u64) -> u64 {
    /// Rows beside those that are wanted: of the pages that they begin and end in.
    const BESIDE: u64 = 40_000;
    let bytes = |size: i64| u64::try_from(size).unwrap_or(0);
    let all = bytes(leaf.compressed_size()).saturating_add(bytes(leaf.uncompressed_size()));
    // the dictionary of strings is most of their chunk, and is read whole
    if leaf.column_type() == PhysicalType::BYTE_ARRAY || rows <= wanted + BESIDE {
        return all;
    }
    let part = u128::from(all) * u128::from(wanted + BESIDE) / u128::from(rows);
    u64::try_from(part).unwrap_or(u64::MAX)
}

/// Rejects row counts that a file of this size cannot have; memory would be allocated for them.
fn check_rows(metadata: &ParquetMetaData, size: u64) -> Result<(), String> {
    const MAX_ROWS_PER_BYTE: u64 = 1000;
    let most = i64::try_from(size.saturating_mul(MAX_ROWS_PER_BYTE)).unwrap_or(i64::MAX);
    footer::rows_up_to(metadata, most)
        .map_err(|rows| format!("the footer claims {rows} rows in {size} bytes"))
}

/// How long footer and page index probably are. They grow with the file, and fetching too much costs
/// less than a second request.
fn likely_footer(size: u64) -> u64 {
    (size / 64).clamp(32 << 10, 1 << 20).min(size)
}

async fn read_footer(
    source: &RangedReader,
    size: u64,
    footer_start: Option<u64>,
) -> Result<ArrowReaderMetadata, Error> {
    let hint = footer_start.map_or(likely_footer(size), |start| size.saturating_sub(start));
    let hint = usize::try_from(hint).unwrap_or(usize::MAX);
    let options = ArrowReaderOptions::new()
        .with_column_index_policy(PageIndexPolicy::Skip)
        .with_offset_index_policy(PageIndexPolicy::Required);
    let path = &source.path;
    let load = async {
        let metadata = ParquetMetaDataReader::new()
            .with_arrow_reader_options(Some(&options))
            .with_prefetch_hint(Some(hint))
            .load_and_finish(source.clone(), size)
            .await?;
        ArrowReaderMetadata::try_new(Arc::new(metadata), options.clone())
    };
    let loaded = AssertUnwindSafe(load).catch_unwind().await;
    let loaded = loaded.map_err(|_| Error::corrupt(path, "the footer's decoder gave up"))?;
    loaded.map_err(Error::parquet("reading the footer of", path))
}

/// Feeds the Parquet reader from a bucket, which coalesces ranges. Where there are checksums,
/// nothing reaches the reader that does not match them.
#[derive(Clone)]
struct RangedReader {
    bucket: Bucket,
    path: Path,
    checksums: Option<Arc<Checksums>>,
    ahead: Option<Ahead>,
}

impl Ahead {
    fn part(&self, range: &Range<u64>) -> Option<Bytes> {
        let place = |at: u64| usize::try_from(at.checked_sub(self.start)?).ok();
        let (from, to) = (place(range.start)?, place(range.end)?);
        (from <= to && to <= self.bytes.len()).then(|| self.bytes.slice(from..to))
    }
}

impl RangedReader {
    /// The checksums of this file; `None` where the block has none.
    fn file_checksums(&self) -> Result<Option<&FileChecksums>, String> {
        let Some(checksums) = &self.checksums else { return Ok(None) };
        let name = self.path.filename().unwrap_or_default();
        let found = checksums.file(name);
        found.map(Some).ok_or_else(|| "the block has no checksums of it".to_owned())
    }

    async fn verified(&self, ranges: &[Range<u64>]) -> ParquetResult<Vec<Bytes>> {
        let checked = self.file_checksums().map_err(ParquetError::General)?;
        let Some(checksums) = checked else { return self.get(ranges).await };
        let mut runs = Vec::with_capacity(ranges.len());
        for range in ranges {
            let whole = checksums.covering(range.clone());
            runs.push(whole.ok_or_else(|| self.too_short())?);
        }
        let runs = joined(runs);
        let fetched = self.get(&runs).await?;
        for (run, bytes) in runs.iter().zip(&fetched) {
            checksums.verify(run.start, bytes).map_err(|e| ParquetError::External(Box::new(e)))?;
        }
        let part = |range: &Range<u64>| {
            let run = runs.partition_point(|run| run.end < range.end);
            let from = range.start.checked_sub(runs.get(run)?.start)?;
            let from = usize::try_from(from).ok()?;
            let len = usize::try_from(range.end.checked_sub(range.start)?).ok()?;
            let bytes = fetched.get(run)?;
            (from.checked_add(len)? <= bytes.len()).then(|| bytes.slice(from..from + len))
        };
        let parts = ranges.iter().map(|range| part(range).ok_or_else(|| self.too_short()));
        parts.collect()
    }

    async fn get(&self, ranges: &[Range<u64>]) -> ParquetResult<Vec<Bytes>> {
        if let Some(ahead) = &self.ahead
            && let Some(parts) = ranges.iter().map(|range| ahead.part(range)).collect()
        {
            return Ok(parts);
        }
        let fetched = self.bucket.get_ranges(&self.path, ranges).await.map_err(external)?;
        // A file shorter than its footer says would make the decoder panic.
        let short = ranges
            .iter()
            .zip(&fetched)
            .any(|(range, bytes)| bytes.len() as u64 != range.end.saturating_sub(range.start));
        if short || fetched.len() != ranges.len() {
            return Err(self.too_short());
        }
        Ok(fetched)
    }

    fn too_short(&self) -> ParquetError {
        ParquetError::EOF(format!("{} ends before its pages", self.path))
    }
}

/// The ranges in order, those that overlap as one.
fn joined(mut ranges: Vec<Range<u64>>) -> Vec<Range<u64>> {
    ranges.sort_by_key(|range| (range.start, range.end));
    let mut out: Vec<Range<u64>> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match out.last_mut().filter(|last| range.start < last.end) {
            Some(last) => last.end = last.end.max(range.end),
            None => out.push(range),
        }
    }
    out
}

fn external(error: block::Error) -> ParquetError {
    ParquetError::External(Box::new(error))
}

impl AsyncFileReader for RangedReader {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, ParquetResult<Bytes>> {
        async move {
            let fetched = self.verified(std::slice::from_ref(&range)).await?;
            fetched.into_iter().next().ok_or_else(|| self.too_short())
        }
        .boxed()
    }

    fn get_byte_ranges(
        &mut self,
        ranges: Vec<Range<u64>>,
    ) -> BoxFuture<'_, ParquetResult<Vec<Bytes>>> {
        async move {
            let pages = self.verified(&ranges).await?;
            match pages.iter().filter_map(|page| decompressed_bytes(page)).max() {
                Some(bytes) if bytes > MAX_PAGE => {
                    let text = format!("{} claims a page of {bytes} bytes", self.path);
                    Err(ParquetError::General(text))
                }
                _ => Ok(pages),
            }
        }
        .boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        _: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, ParquetResult<Arc<ParquetMetaData>>> {
        async move { Err(ParquetError::General("the footer is read by itself".into())) }.boxed()
    }
}

impl MetadataFetch for RangedReader {
    fn fetch(&mut self, range: Range<u64>) -> BoxFuture<'_, ParquetResult<Bytes>> {
        let bytes = range.end.saturating_sub(range.start);
        if bytes > MAX_AT_ONCE {
            let text = format!("{} claims a footer of {bytes} bytes", self.path);
            return async { Err(ParquetError::General(text)) }.boxed();
        }
        self.get_bytes(range)
    }
}

/// What a page says it takes once it is decompressed; `None` where that is not read.
///
/// A page begins with its header, in Thrift's compact form: `0x15 type`, then `0x15` and the number
/// of bytes as zigzag varint.
fn decompressed_bytes(page: &[u8]) -> Option<u64> {
    const I32_AFTER_ONE: u8 = 0x15;
    let [I32_AFTER_ONE, _, I32_AFTER_ONE, number @ ..] = page else { return None };
    let mut value = 0u64;
    for (at, byte) in number.iter().take(5).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * at);
        if *byte < 0x80 {
            return Some(value >> 1);
        }
    }
    None
}
