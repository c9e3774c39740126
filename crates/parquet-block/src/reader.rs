//! Reads a block: matchers on label columns give rows, rows give ranges of the window files.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::RecordBatch;
use block::{BlockLocation, Bucket};
use futures::stream::{BoxStream, StreamExt, TryStreamExt};
use merge::{DownsampledSeries, Series};
use model::{BlockId, Labels, Matcher, TimeRange};
use tsdb::chunk::Aggregate;
use tsdb::meta::BlockMeta;

use crate::error::{Case, Error};
use crate::file::{BlockFile, FooterCache, RowRanges};
use crate::labels::{SeriesRow, StringColumn, each_rest_label, read_labels, read_rows};
use crate::schema::{self, FormatVersion};
use crate::windows::{SampleColumns, read_histograms};

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
}

struct ShardFiles {
    series: BlockFile,
    samples: BlockFile,
    histograms: Option<BlockFile>,
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
    /// Labels only.
    pub skip_chunks: bool,
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
        if meta.format.as_deref().and_then(FormatVersion::parse).is_none() {
            let found = meta.format.clone().unwrap_or_default();
            return Err(Error(Case::Unsupported { file: location.meta().to_string(), found }));
        }
        let files = meta.thanos.iter().flat_map(|thanos| &thanos.files);
        let sizes: Vec<(&str, u64)> = files.map(|f| (f.rel_path.as_str(), f.size_bytes)).collect();
        let open = |kind: &str, shard: usize| {
            let name = format!("{shard}.{kind}.parquet");
            let size = sizes.iter().find(|(n, _)| *n == name).map(|(_, size)| *size);
            let path = location.file(&name);
            async move {
                match size {
                    Some(size) => {
                        BlockFile::open(bucket.clone(), path, size, cache).await.map(Some)
                    }
                    None => Ok(None),
                }
            }
        };
        let shards = sizes.iter().filter(|(name, _)| name.ends_with(".series.parquet")).count();
        let opened = futures::stream::iter(0..shards).map(|shard| {
            let files = futures::future::try_join3(
                open("series", shard),
                open("samples", shard),
                open("histograms", shard),
            );
            async move {
                let missing = || {
                    Error::corrupt(
                        location.meta(),
                        format!("the files of shard {shard} are not listed"),
                    )
                };
                let (series, samples, histograms) = files.await?;
                let (Some(series), Some(samples)) = (series, samples) else {
                    return Err(missing());
                };
                Ok(ShardFiles { series, samples, histograms })
            }
        });
        let shards = opened.buffered(4).try_collect().await?;
        Ok(ParquetBlock { id: meta.ulid, shards: Arc::new(shards) })
    }

    pub fn id(&self) -> BlockId {
        self.id
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
                    block.read_windows(&group, &Aggregate::ALL)
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
            self.read_windows(&group, &request.aggregates)
        )?;
        let request = Arc::clone(request);
        let encode = move || {
            let chunks = |windows: &DownsampledSeries| {
                windows.chunks_within(request.range, &request.aggregates)
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
        aggregates: &[Aggregate],
    ) -> Result<Vec<DownsampledSeries>, Error> {
        let shard = &self.shards[group.shard];
        let floats = spans(&group.positions, shard.samples.rows(), |p| (p.first_row, p.rows));
        let floats = floats.map_err(|reason| shard.series.damaged(reason))?;
        let (columns, float_rows) = (sample_columns(aggregates), merged(&floats));
        let samples = shard.samples.read(&columns, &float_rows);
        let histogram_rows = shard.histograms.as_ref().map_or(0, BlockFile::rows);
        let spans =
            spans(&group.positions, histogram_rows, |p| (p.histogram_first_row, p.histogram_rows));
        let histograms = spans.map_err(|reason| shard.series.damaged(reason))?;
        let all = [schema::T, schema::BATCH_START, schema::COUNT, schema::COUNTER, schema::SUM];
        let histogram_batch = async {
            match &shard.histograms {
                Some(file) => file.read(&all, &merged(&histograms)).await.map(Some),
                None => Ok(None),
            }
        };
        let (samples, histogram_batch) = futures::try_join!(samples, histogram_batch)?;
        shard.assemble(&samples, &floats, histogram_batch.as_ref(), &histograms)
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
        let columns = [FIRST_ROW, ROWS, MIN_T, MAX_T, HISTOGRAM_FIRST_ROW, HISTOGRAM_ROWS];
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

    /// Cuts what was read into series.
    fn assemble(
        &self,
        samples: &RecordBatch,
        floats: &[Range<usize>],
        histogram_batch: Option<&RecordBatch>,
        histograms: &[Range<usize>],
    ) -> Result<Vec<DownsampledSeries>, Error> {
        let damaged = |e| self.samples.undecodable(e);
        let columns = if samples.num_rows() > 0 {
            Some(SampleColumns::new(samples).map_err(damaged)?)
        } else {
            None
        };
        let (mut sample_at, mut histogram_at) = (0, 0);
        let mut all = Vec::with_capacity(floats.len());
        for (float_rows, histogram_rows) in floats.iter().zip(histograms) {
            let mut series = DownsampledSeries::default();
            if let Some(columns) = columns.as_ref().filter(|_| !float_rows.is_empty()) {
                series.floats = columns.windows(sample_at..sample_at + float_rows.len());
                if series.floats.batches.first().is_none_or(|b| b.start != 0) {
                    return Err(self.samples.damaged("a series begins inside a batch"));
                }
            }
            if let Some(batch) = histogram_batch.filter(|_| !histogram_rows.is_empty()) {
                let rows = histogram_at..histogram_at + histogram_rows.len();
                series.histograms = read_histograms(batch, rows).map_err(damaged)?;
                if series.histograms.batches.first() != Some(&0) {
                    return Err(self.samples.damaged("a histogram series begins inside a batch"));
                }
            }
            sample_at += float_rows.len();
            histogram_at += histogram_rows.len();
            all.push(series);
        }
        Ok(all)
    }
}

/// The columns of the samples file that the aggregates need.
fn sample_columns(aggregates: &[Aggregate]) -> Vec<&'static str> {
    let mut columns = vec![schema::T, schema::FIRST_T];
    for aggregate in aggregates {
        columns.extend_from_slice(match aggregate {
            Aggregate::Count => &[schema::COUNT],
            Aggregate::Sum => &[schema::SUM],
            Aggregate::Min => &[schema::MIN],
            Aggregate::Max => &[schema::MAX],
            // Where the counter equals the maximum, it is stored there.
            Aggregate::Counter => &[schema::FIRST_V, schema::LAST_V, schema::COUNTER, schema::MAX],
        });
    }
    columns
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
