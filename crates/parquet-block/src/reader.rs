//! Reads a block: matchers on label columns give rows, rows give ranges of the window files.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use block::{BlockLocation, Bucket, StoredCounts};
use futures::stream::{BoxStream, StreamExt, TryStreamExt};
use merge::{ChunkSelection, DownsampledSeries, HistogramWindows, Series, Windows};
use model::{BlockId, Labels, Matcher, TimeRange};
use tsdb::chunk::Aggregate;
use tsdb::meta::{BlockMeta, File};

use crate::checksums::CHECKSUMS_FILE;
use crate::error::{Case, Error};
use crate::file::{BlockFile, FooterCache, ListedChecksums, ListedFile, RowRanges};
use crate::labels::{SeriesRow, StringColumn, each_rest_label, read_labels, read_rows};
use crate::schema::{self, FormatVersion};
use crate::statistics::{STATISTICS_FILE, Statistics};
use crate::writer::CHECKSUM_FUNCTION;
use crate::{v1, v2};

/// Windows that are decoded at once, for a query and for a scan of the whole block.
const QUERY_ROWS: usize = 128 << 10;
const SCAN_ROWS: usize = 512 << 10;
/// A histogram window weighs as much as this many float windows.
const HISTOGRAM_WEIGHT: usize = 64;
/// Series whose labels are decoded at once.
const SERIES_AT_ONCE: usize = 4096;
/// Groups of series that are fetched ahead of the consumer.
const GROUPS_AHEAD: usize = 2;

/// A block whose footers are read.
#[derive(Clone)]
pub struct ParquetBlock {
    id: BlockId,
    shards: Arc<Vec<ShardFiles>>,
    statistics: Option<ListedFile>,
}

struct ShardFiles {
    version: FormatVersion,
    series: BlockFile,
    samples: BlockFile,
    histograms: Option<BlockFile>,
    /// Of format 2, if there are histograms.
    buckets: Option<BlockFile>,
}

impl std::fmt::Debug for ParquetBlock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ParquetBlock")
            .field("id", &self.id)
            .field("shards", &self.shards.len())
            .finish()
    }
}

/// What a query wants from a block.
#[derive(Clone, Debug)]
pub struct WindowQuery {
    pub matchers: Vec<Matcher>,
    pub range: TimeRange,
    /// The aggregates to send; the others are not even fetched.
    pub aggregates: Vec<Aggregate>,
    /// The times of the first and the last samples of windows too, where the block has them.
    pub times: bool,
    /// Labels only.
    pub skip_chunks: bool,
}

/// What is to be read of windows.
#[derive(Clone, Copy)]
struct WantedWindows<'a> {
    aggregates: &'a [Aggregate],
    times: bool,
}

impl WantedWindows<'_> {
    const ALL: WantedWindows<'static> = WantedWindows { aggregates: &Aggregate::ALL, times: true };
}

impl WindowQuery {
    fn wanted(&self) -> WantedWindows<'_> {
        WantedWindows { aggregates: &self.aggregates, times: self.times }
    }
}

/// A series and its windows.
pub type SeriesWindows = (Labels, DownsampledSeries);

/// Series that are read together.
struct ReadGroup {
    shard: usize,
    rows: Vec<usize>,
    positions: Vec<SeriesRow>,
}

impl ParquetBlock {
    /// Reads the footers of the block that `meta` describes, by one request each.
    pub async fn open(
        bucket: &Bucket,
        location: &BlockLocation,
        meta: &BlockMeta,
        cache: &FooterCache,
    ) -> Result<ParquetBlock, Error> {
        let version = meta.format.as_deref().and_then(FormatVersion::parse).ok_or_else(|| {
            let found = meta.format.clone().unwrap_or_default();
            Error(Case::Unsupported { file: location.meta().to_string(), found })
        })?;
        let files: Vec<&File> = meta.thanos.iter().flat_map(|thanos| &thanos.files).collect();
        let checksums = match version {
            FormatVersion::V1 => None,
            FormatVersion::V2 => {
                Some(listed_checksums(location, &files)?.read(bucket, cache).await?)
            }
        };
        let listed = |name: &str| {
            let file = files.iter().find(|file| file.rel_path == name)?;
            Some(ListedFile {
                bucket: bucket.clone(),
                path: location.file(name),
                size: file.size_bytes,
                version,
                checksums: checksums.clone(),
            })
        };
        let open = |kind: &str, shard: usize| {
            let file = listed(&format!("{shard}.{kind}.parquet"));
            async move {
                match file {
                    Some(file) => BlockFile::open(file, cache).await.map(Some),
                    None => Ok(None),
                }
            }
        };
        let shards = files.iter().filter(|f| f.rel_path.ends_with(".series.parquet")).count();
        let opened = futures::stream::iter(0..shards).map(|shard| {
            let files = futures::future::try_join4(
                open("series", shard),
                open("samples", shard),
                open("histograms", shard),
                open("buckets", shard),
            );
            async move {
                let missing = || {
                    Error::corrupt(
                        location.meta(),
                        format!("the files of shard {shard} are not listed"),
                    )
                };
                let (series, samples, histograms, buckets) = files.await?;
                let (Some(series), Some(samples)) = (series, samples) else {
                    return Err(missing());
                };
                Ok(ShardFiles { version, series, samples, histograms, buckets })
            }
        });
        let shards = opened.buffered(4).try_collect().await?;
        let statistics = listed(STATISTICS_FILE);
        Ok(ParquetBlock { id: meta.ulid, shards: Arc::new(shards), statistics })
    }

    pub fn id(&self) -> BlockId {
        self.id
    }

    /// Series, and windows of all of them, by the footers.
    pub fn stored_counts(&self) -> StoredCounts {
        let mut counts = StoredCounts::default();
        for shard in self.shards.iter() {
            counts.series += shard.series.rows() as u64;
            let histograms = shard.histograms.as_ref().map_or(0, BlockFile::rows);
            counts.samples += (shard.samples.rows() + histograms) as u64;
        }
        counts
    }

    /// What the block has many of, without reading it; `None` for a block of format 1, which does
    /// not say.
    pub async fn statistics(&self) -> Result<Option<Statistics>, Error> {
        let Some(file) = &self.statistics else { return Ok(None) };
        let path = file.path.to_string();
        Statistics::decode(&path, file.read_whole().await?).map(Some)
    }

    /// The matching series in order of their labels, a batch at a time, with the AggrChunks that
    /// overlap the range, exactly as Thanos would have stored them. Series without any are left
    /// out.
    pub fn series(&self, request: WindowQuery) -> BoxStream<'static, Result<Vec<Series>, Error>> {
        let request = Arc::new(request);
        let (block, limit) = (
            self.clone(),
            if request.skip_chunks { SERIES_AT_ONCE * QUERY_ROWS } else { QUERY_ROWS },
        );
        let groups = self.groups(Arc::new(request.matchers.clone()), request.range, limit);
        let read = move |group: ReadGroup| {
            let (block, request) = (block.clone(), Arc::clone(&request));
            async move { block.read_chunks(group, &request).await }
        };
        groups.map_ok(read).try_buffered(GROUPS_AHEAD).boxed()
    }

    /// Every series with all its windows, in order of labels, from which coarser downsampling
    /// starts.
    pub fn scan(&self) -> BoxStream<'static, Result<Vec<SeriesWindows>, Error>> {
        let block = self.clone();
        let groups = self.groups(Arc::new(Vec::new()), TimeRange::ALL, SCAN_ROWS);
        let read = move |group: ReadGroup| {
            let block = block.clone();
            async move {
                let (labels, windows) = futures::try_join!(
                    block.read_labels(&group),
                    block.read_windows(&group, WantedWindows::ALL)
                )?;
                Ok(labels.into_iter().zip(windows).collect())
            }
        };
        groups.map_ok(read).try_buffered(1).boxed()
    }

    /// The names of the labels that matching series have, sorted.
    pub async fn label_names(&self, matchers: &[Matcher]) -> Result<Vec<String>, Error> {
        let mut names = BTreeSet::new();
        for shard in self.shards.iter() {
            let whole =
                matchers.is_empty() && shard.series.schema().field_with_name(schema::REST).is_err();
            if whole {
                let fields = shard.series.schema().fields().iter();
                names.extend(
                    fields
                        .filter_map(|f| f.name().strip_prefix(schema::LABEL_PREFIX))
                        .map(str::to_owned),
                );
                continue;
            }
            let rows = shard.matching(matchers).await?;
            for labels in shard.labels(&rows).await? {
                names.extend(
                    labels.iter().map(|(name, _)| String::from_utf8_lossy(name).into_owned()),
                );
            }
        }
        Ok(names.into_iter().collect())
    }

    /// The values of a label among matching series, sorted.
    pub async fn label_values(
        &self,
        name: &str,
        matchers: &[Matcher],
    ) -> Result<Vec<String>, Error> {
        let mut values = BTreeSet::new();
        for shard in self.shards.iter() {
            let rows = shard.matching(matchers).await?;
            let column = format!("{}{name}", schema::LABEL_PREFIX);
            let batch = shard.series.read(&[&column, schema::REST], &rows).await?;
            let damaged = |e| shard.series.undecodable(e);
            if let Some(array) = batch.column_by_name(&column) {
                let column = StringColumn::new(array).map_err(damaged)?;
                let present = (0..batch.num_rows()).filter_map(|row| column.value(row));
                let distinct: BTreeSet<&str> = present.collect();
                values.extend(distinct.into_iter().map(str::to_owned));
            }
            if let Some(array) = batch.column_by_name(schema::REST) {
                let add = |_, n: &str, v: &str| {
                    if n == name {
                        values.insert(v.to_owned());
                    }
                };
                each_rest_label(array, add).map_err(damaged)?;
            }
        }
        Ok(values.into_iter().collect())
    }

    /// The matching series that have windows in `range`, cut into groups of about `limit` windows.
    fn groups(
        &self,
        matchers: Arc<Vec<Matcher>>,
        range: TimeRange,
        limit: usize,
    ) -> BoxStream<'static, Result<ReadGroup, Error>> {
        let shards = Arc::clone(&self.shards);
        let plan = move |shard: usize| {
            let (shards, matchers) = (Arc::clone(&shards), Arc::clone(&matchers));
            async move {
                let rows = shards[shard].matching(&matchers).await?;
                let positions = shards[shard].positions(&rows).await?;
                let rows = rows.into_iter().flatten().zip(positions);
                let rows = rows.filter(|(_, p)| range.overlaps_closed(p.min_t, p.max_t)).collect();
                Ok::<_, Error>(futures::stream::iter(cut(shard, rows, limit).into_iter().map(Ok)))
            }
        };
        futures::stream::iter(0..self.shards.len()).then(plan).try_flatten().boxed()
    }

    async fn read_labels(&self, group: &ReadGroup) -> Result<Vec<Labels>, Error> {
        self.shards[group.shard].labels(&ranges(&group.rows)).await
    }

    async fn read_chunks(
        &self,
        group: ReadGroup,
        request: &Arc<WindowQuery>,
    ) -> Result<Vec<Series>, Error> {
        if request.skip_chunks {
            let labels = self.read_labels(&group).await?.into_iter();
            return Ok(labels.map(|labels| Series { labels, chunks: Vec::new() }).collect());
        }
        let (labels, windows) = futures::try_join!(
            self.read_labels(&group),
            self.read_windows(&group, request.wanted())
        )?;
        let request = Arc::clone(request);
        let encode = move || {
            let chunks = |windows: &DownsampledSeries| {
                windows.chunks_within(ChunkSelection {
                    range: request.range,
                    aggregates: &request.aggregates,
                    times: request.times,
                })
            };
            let series = labels
                .into_iter()
                .zip(&windows)
                .map(|(labels, w)| Ok(Series { labels, chunks: chunks(w)? }));
            let series = series.collect::<Result<Vec<_>, merge::Error>>();
            series.map(|all| all.into_iter().filter(|s| !s.chunks.is_empty()).collect())
        };
        let file = self.shards[group.shard].samples.path();
        let encoded = tokio::task::spawn_blocking(encode).await;
        let encoded = encoded.map_err(|_| Error::corrupt(file, "the encoder gave up"))?;
        encoded.map_err(|source| Error(Case::Chunks { file: file.to_string(), source }))
    }

    async fn read_windows(
        &self,
        group: &ReadGroup,
        wanted: WantedWindows<'_>,
    ) -> Result<Vec<DownsampledSeries>, Error> {
        let shard = &self.shards[group.shard];
        let (floats, histograms) =
            futures::try_join!(shard.floats(group, wanted), shard.histogram_windows(group))?;
        let series = floats.into_iter().zip(histograms);
        Ok(series.map(|(floats, histograms)| DownsampledSeries { floats, histograms }).collect())
    }
}

impl ShardFiles {
    /// The rows of the series that satisfy all matchers.
    async fn matching(&self, matchers: &[Matcher]) -> Result<RowRanges, Error> {
        let mut rows: RowRanges = std::iter::once(0..self.series.rows()).collect();
        let mut matchers: Vec<&Matcher> = matchers.iter().collect();
        // What narrows most comes first, so that only few pages of the other columns are read.
        matchers.sort_by_key(|m| {
            (m.name != model::METRIC_NAME, m.set_matches().is_none(), m.matches_empty())
        });
        for same_label in matchers.chunk_by(|a, b| a.name == b.name) {
            if rows.iter().all(Range::is_empty) {
                return Ok(Vec::new());
            }
            rows = self.narrow(rows, same_label).await?;
        }
        Ok(rows)
    }

    async fn narrow(&self, rows: RowRanges, matchers: &[&Matcher]) -> Result<RowRanges, Error> {
        let name = &matchers[0].name;
        let damaged = |e| self.series.undecodable(e);
        let empty = matchers.iter().all(|m| m.matches_empty());
        let keep = |value: &str| matchers.iter().all(|m| m.matches(value.as_bytes()));
        let column = format!("{}{name}", schema::LABEL_PREFIX);
        let own = self.series.schema().field_with_name(&column).is_ok();
        let rest = self.series.schema().field_with_name(schema::REST).is_ok();
        if !own && !rest {
            return Ok(if empty { rows } else { Vec::new() });
        }
        let batch = self.series.read(&[if own { &column } else { schema::REST }], &rows).await?;
        let array = batch.column(0);
        let kept = if own {
            StringColumn::new(array).map_err(damaged)?.filter(empty, keep)
        } else {
            let mut kept = vec![empty; batch.num_rows()];
            let set = |row: usize, n: &str, v: &str| {
                if n == name {
                    kept[row] = keep(v);
                }
            };
            each_rest_label(array, set).map_err(damaged)?;
            kept
        };
        let kept: Vec<usize> =
            rows.into_iter().flatten().zip(kept).filter(|(_, k)| *k).map(|(row, _)| row).collect();
        Ok(ranges(&kept))
    }

    async fn positions(&self, rows: &[Range<usize>]) -> Result<Vec<SeriesRow>, Error> {
        use schema::{FIRST_ROW, HISTOGRAM_FIRST_ROW, HISTOGRAM_ROWS, MAX_T, MIN_T, ROWS};
        use v2::schema::{BUCKET_FIRST_ROW, BUCKET_ROWS, SCALE, SUM_BY_RANGE};
        // those that version 1 lacks are left out
        let columns = [
            FIRST_ROW,
            ROWS,
            MIN_T,
            MAX_T,
            HISTOGRAM_FIRST_ROW,
            HISTOGRAM_ROWS,
            BUCKET_FIRST_ROW,
            BUCKET_ROWS,
            SCALE,
            SUM_BY_RANGE,
        ];
        let batch = self.series.read(&columns, rows).await?;
        read_rows(&batch).map_err(|e| self.series.undecodable(e))
    }

    async fn labels(&self, rows: &[Range<usize>]) -> Result<Vec<Labels>, Error> {
        let fields = self.series.schema().fields().iter().map(|f| f.name().as_str());
        let is_label = |n: &&str| {
            n.starts_with(schema::LABEL_PREFIX) || [schema::REST, schema::PACKED].contains(n)
        };
        let columns: Vec<&str> = fields.filter(is_label).collect();
        let batch = self.series.read(&columns, rows).await?;
        if columns.is_empty() {
            return Ok(vec![Labels::empty(); rows.iter().map(Range::len).sum()]);
        }
        read_labels(&batch).map_err(|e| self.series.undecodable(e))
    }

    /// The float windows of each series of a group.
    async fn floats(
        &self,
        group: &ReadGroup,
        wanted: WantedWindows<'_>,
    ) -> Result<Vec<Windows>, Error> {
        let WantedWindows { aggregates, times } = wanted;
        let spans = spans(&group.positions, self.samples.rows(), |p| (p.first_row, p.rows));
        let spans = spans.map_err(|reason| self.series.damaged(reason))?;
        let sums_by_range = group.positions.iter().any(|p| p.form.sum_by_range);
        let wanted = v2::WantedFloats { aggregates, times, sums_by_range };
        let columns = match self.version {
            FormatVersion::V1 => v1::wanted_columns(aggregates),
            FormatVersion::V2 => wanted.columns(),
        };
        let schema = self.samples.schema();
        if let Some(lacking) = columns.iter().find(|c| schema.field_with_name(c).is_err()) {
            return Err(self.samples.damaged(format!("it has no column {lacking}")));
        }
        let rows = merged(&spans);
        let batch = match self.version {
            FormatVersion::V1 => self.samples.read(&columns, &rows).await?,
            FormatVersion::V2 => self.samples.read_values(&columns, &rows).await?,
        };
        let damaged = |e| self.samples.undecodable(e);
        let columns = match self.version {
            _ if batch.num_rows() == 0 => return Ok(vec![Windows::default(); spans.len()]),
            FormatVersion::V1 => ReadFloats::V1(v1::SampleColumns::new(&batch).map_err(damaged)?),
            FormatVersion::V2 => {
                ReadFloats::V2(v2::FloatColumns::new(&batch, wanted).map_err(damaged)?)
            }
        };
        let mut at = 0;
        let mut all = Vec::with_capacity(spans.len());
        for (span, position) in spans.iter().zip(&group.positions) {
            let rows = at..at + span.len();
            at = rows.end;
            let windows = match &columns {
                _ if rows.is_empty() => Windows::default(),
                ReadFloats::V1(columns) => columns.windows(rows),
                ReadFloats::V2(columns) => columns.windows(&rows, position.form),
            };
            if !windows.is_empty() && windows.batches.first().is_none_or(|b| b.start != 0) {
                return Err(self.samples.damaged("a series begins inside a batch"));
            }
            all.push(windows);
        }
        Ok(all)
    }

    /// The histogram windows of each series of a group.
    async fn histogram_windows(&self, group: &ReadGroup) -> Result<Vec<HistogramWindows>, Error> {
        let file_rows = self.histograms.as_ref().map_or(0, BlockFile::rows);
        let spans_of = |rows, of: fn(&SeriesRow) -> (i64, i64)| {
            spans(&group.positions, rows, of).map_err(|reason| self.series.damaged(reason))
        };
        let spans = spans_of(file_rows, |p| (p.histogram_first_row, p.histogram_rows))?;
        let bucket_rows = self.buckets.as_ref().map_or(0, BlockFile::rows);
        let bucket_spans = spans_of(bucket_rows, |p| (p.bucket_first_row, p.bucket_rows))?;
        let Some(file) = self.histograms.as_ref().filter(|_| spans.iter().any(|s| !s.is_empty()))
        else {
            return Ok(vec![HistogramWindows::default(); spans.len()]);
        };
        let columns = match self.version {
            FormatVersion::V1 => v1::HISTOGRAM_COLUMNS,
            FormatVersion::V2 => v2::HISTOGRAM_COLUMNS,
        };
        let rows = merged(&spans);
        let windows = file.read_values(columns, &rows);
        let buckets = async {
            let rows = merged(&bucket_spans);
            match &self.buckets {
                Some(file) if !rows.is_empty() => {
                    file.read_values(v2::BUCKET_COLUMNS, &rows).await.map(Some)
                }
                _ => Ok(None),
            }
        };
        let (windows, buckets) = futures::try_join!(windows, buckets)?;
        let batches = v2::HistogramBatches { windows: &windows, buckets: buckets.as_ref() };
        let (mut at, mut bucket_at) = (0, 0);
        let mut all = Vec::with_capacity(spans.len());
        for (span, bucket_span) in spans.iter().zip(&bucket_spans) {
            let place = v2::HistogramPlace {
                windows: at..at + span.len(),
                buckets: bucket_at..bucket_at + bucket_span.len(),
            };
            (at, bucket_at) = (place.windows.end, place.buckets.end);
            let read = match self.version {
                _ if span.is_empty() => Ok(HistogramWindows::default()),
                FormatVersion::V1 => v1::read_histograms(&windows, place.windows),
                FormatVersion::V2 => batches.read(&place),
            };
            let read = read.map_err(|e| file.undecodable(e))?;
            if !span.is_empty() && read.batches.first() != Some(&0) {
                return Err(file.damaged("a histogram series begins inside a batch"));
            }
            all.push(read);
        }
        Ok(all)
    }
}

/// Columns of the samples file.
enum ReadFloats<'a> {
    V1(v1::SampleColumns<'a>),
    V2(v2::FloatColumns<'a>),
}

fn listed_checksums(location: &BlockLocation, files: &[&File]) -> Result<ListedChecksums, Error> {
    let listed = files.iter().find(|file| file.rel_path == CHECKSUMS_FILE);
    let listed =
        listed.ok_or_else(|| Error::corrupt(location.meta(), "no checksums are listed"))?;
    let hash = listed.hash.as_ref().filter(|hash| hash.function == CHECKSUM_FUNCTION);
    Ok(ListedChecksums {
        path: location.file(CHECKSUMS_FILE),
        size: listed.size_bytes,
        checksum: hash.and_then(|hash| u32::from_str_radix(&hash.value, 16).ok()),
    })
}

fn cut(shard: usize, rows: Vec<(usize, SeriesRow)>, limit: usize) -> Vec<ReadGroup> {
    let mut groups: Vec<ReadGroup> = Vec::new();
    let mut weight = usize::MAX;
    for (row, position) in rows {
        let own = position.rows.max(0) as usize
            + position.histogram_rows.max(0) as usize * HISTOGRAM_WEIGHT;
        let full = groups.last().is_none_or(|g| g.rows.len() >= SERIES_AT_ONCE);
        if full || weight.saturating_add(own) > limit {
            groups.push(ReadGroup { shard, rows: Vec::new(), positions: Vec::new() });
            weight = 0;
        }
        weight = weight.saturating_add(own);
        if let Some(group) = groups.last_mut() {
            group.rows.push(row);
            group.positions.push(position);
        }
    }
    groups
}

/// Where the windows of each series are, checked against the length of their file.
fn spans(
    positions: &[SeriesRow],
    file_rows: usize,
    of: impl Fn(&SeriesRow) -> (i64, i64),
) -> Result<RowRanges, String> {
    let mut end = 0;
    let span = |position: &SeriesRow| {
        let (first, rows) = of(position);
        let range = usize::try_from(first)
            .ok()
            .zip(usize::try_from(rows).ok())
            .and_then(|(f, r)| Some(f..f.checked_add(r)?));
        let range = range.filter(|r| r.is_empty() || (r.start >= end && r.end <= file_rows));
        let range = range.ok_or_else(|| {
            format!("a series claims {rows} rows from row {first} of {file_rows}")
        })?;
        end = end.max(range.end);
        Ok(range)
    };
    positions.iter().map(span).collect()
}

/// Neighbouring ranges as one, empty ones left out.
fn merged(spans: &[Range<usize>]) -> RowRanges {
    let mut out: RowRanges = Vec::new();
    for span in spans.iter().filter(|s| !s.is_empty()) {
        match out.last_mut() {
            Some(last) if last.end == span.start => last.end = span.end,
            _ => out.push(span.clone()),
        }
    }
    out
}

/// Sorted rows as ranges.
fn ranges(rows: &[usize]) -> RowRanges {
    let runs = rows.chunk_by(|a, b| a + 1 == *b);
    runs.map(|run| run[0]..run[run.len() - 1] + 1).collect()
}
