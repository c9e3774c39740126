//! Reads a block: matchers on label columns give rows, rows give ranges of the window files.
//!
//! Labels come first, with the places of windows; windows are read for those that are asked for, so
//! that a merge of many blocks holds only labels of each.

mod shard;
mod windows;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use block::{BlockLocation, Bucket, MemoryTurns, Path, StoredCounts};
use futures::stream::{BoxStream, StreamExt, TryStreamExt};
use merge::{DownsampledSeries, Series};
use model::{BlockId, Labels, Matcher, TimeRange};
use tsdb::chunk::Aggregate;
use tsdb::meta::{BlockMeta, File};

use crate::checksums::CHECKSUMS_FILE;
use crate::error::{Case, Error};
use crate::file::{Ahead, BlockFile, FooterCache, ListedChecksums, ListedFile, RowRanges};
use crate::labels::{SeriesRow, StringColumn, each_rest_label};
use crate::schema::{self, FormatVersion};
use crate::statistics::{STATISTICS_FILE, Statistics};
use crate::writer::CHECKSUM_FUNCTION;
use shard::{Memory, ShardFiles};
use windows::WantedWindows;

/// Series whose labels are decoded at once, where the caller does not say.
const SERIES_AT_ONCE: usize = 4096;
/// Windows that a scan of the whole block reads at once.
const SCAN_ROWS: i64 = 512 << 10;
/// A histogram window weighs as much as this many float windows.
const HISTOGRAM_WEIGHT: i64 = 64;

/// Bytes that a series takes in its file at least: its hash, which nothing compresses.
const SERIES_BYTES: u64 = 8;

/// A block whose footers are read.
#[derive(Clone)]
pub struct ParquetBlock {
    id: BlockId,
    shards: Arc<Vec<ShardFiles>>,
    statistics: Option<ListedFile>,
    memory: Memory,
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

/// A series and its windows.
pub type SeriesWindows = (Labels, DownsampledSeries);

/// A series that was found.
#[derive(Clone, Debug)]
pub struct SeriesEntry {
    pub labels: Labels,
    pub place: WindowPlace,
}

/// Where the windows of a series are.
#[derive(Clone, Copy, Debug)]
pub struct WindowPlace {
    shard: usize,
    /// The number of the series.
    row: usize,
    position: SeriesRow,
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
        let unchecked = |file: &File| ListedFile {
            bucket: bucket.clone(),
            path: location.file(&file.rel_path),
            size: file.size_bytes,
            version,
            checksums: None,
            ahead: None,
        };
        let (checksums, ends) = match version {
            FormatVersion::V1 => (None, BTreeMap::new()),
            FormatVersion::V2 => {
                let listed = listed_checksums(location, &files)?;
                let with_footer = files.iter().filter(|file| has_footer(&file.rel_path));
                let ends = ends_ahead(with_footer.map(|file| unchecked(file)), cache);
                let (checksums, ends) = futures::join!(listed.read(bucket, cache), ends);
                (Some(checksums?), ends)
            }
        };
        let listed = |name: &str| {
            let file = unchecked(files.iter().find(|file| file.rel_path == name)?);
            let ahead = ends.get(&file.path).cloned();
            Some(ListedFile { checksums: checksums.clone(), ahead, ..file })
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
                series.check_bytes_per_row(SERIES_BYTES)?;
                Ok(ShardFiles { number: shard, version, series, samples, histograms, buckets })
            }
        });
        let shards = opened.buffered(4).try_collect().await?;
        let statistics = listed(STATISTICS_FILE);
        let shards = Arc::new(shards);
        Ok(ParquetBlock { id: meta.ulid, shards, statistics, memory: Memory::default() })
    }

    /// The same block; what is read of it waits for its turn in `memory`.
    #[must_use]
    pub fn within(self, memory: MemoryTurns) -> ParquetBlock {
        ParquetBlock { memory: Memory(Some(memory)), ..self }
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

    /// The matching series that have windows in the range, in order of their labels, up to `most`
    /// at a time. Nothing is read before it is asked for.
    pub fn entries(
        &self,
        query: &WindowQuery,
        most: usize,
    ) -> BoxStream<'static, Result<Vec<SeriesEntry>, Error>> {
        let (block, range) = (self.clone(), query.range);
        let matchers: Arc<[Matcher]> = query.matchers.iter().cloned().collect();
        let of_shard = move |shard: usize| {
            let (block, matchers) = (block.clone(), Arc::clone(&matchers));
            async move {
                block.shards[shard].series.fetch_ahead().await;
                let rows = block.shards[shard].matching(&matchers, &block.memory).await?;
                let read = move |rows: RowRanges| {
                    let block = block.clone();
                    async move { block.shards[shard].entries(&rows, &block.memory).await }
                };
                Ok::<_, Error>(futures::stream::iter(portions(rows, most)).then(read))
            }
        };
        let touches = move |entry: &SeriesEntry| {
            let SeriesRow { min_t, max_t, .. } = entry.place.position;
            range.overlaps_closed(min_t, max_t)
        };
        let shards = futures::stream::iter(0..self.shards.len()).then(of_shard).try_flatten();
        shards.map_ok(move |entries| entries.into_iter().filter(touches).collect()).boxed()
    }

    /// The matching series in order of their labels, a batch at a time, with the AggrChunks that
    /// overlap the range. Series without any are left out.
    pub fn series(&self, query: WindowQuery) -> BoxStream<'static, Result<Vec<Series>, Error>> {
        let (block, query) = (self.clone(), Arc::new(query));
        let entries = self.entries(&query, SERIES_AT_ONCE);
        let fill = move |entries: Vec<SeriesEntry>| {
            let (block, query) = (block.clone(), Arc::clone(&query));
            async move {
                let (labels, places): (Vec<_>, Vec<_>) =
                    entries.into_iter().map(|e| (e.labels, e.place)).unzip();
                let all = match query.skip_chunks {
                    true => vec![Vec::new(); places.len()],
                    false => block.chunks(&places, &query).await?,
                };
                let series = labels.into_iter().zip(all);
                let series = series.map(|(labels, chunks)| Series { labels, chunks });
                Ok(series.filter(|s| query.skip_chunks || !s.chunks.is_empty()).collect())
            }
        };
        entries.and_then(fill).boxed()
    }

    /// Every series with all its windows, in order of labels, from which coarser downsampling
    /// starts.
    pub fn scan(&self) -> BoxStream<'static, Result<Vec<SeriesWindows>, Error>> {
        let query = WindowQuery {
            matchers: Vec::new(),
            range: TimeRange::ALL,
            aggregates: Aggregate::ALL.to_vec(),
            times: true,
            skip_chunks: false,
        };
        let block = self.clone();
        let parts = self.entries(&query, SERIES_AT_ONCE);
        let parts = parts.map_ok(|entries| futures::stream::iter(cut(entries).into_iter().map(Ok)));
        let read = move |entries: Vec<SeriesEntry>| {
            let block = block.clone();
            async move {
                let (labels, places): (Vec<_>, Vec<_>) =
                    entries.into_iter().map(|e| (e.labels, e.place)).unzip();
                let windows = block.read_windows(&places, WantedWindows::ALL).await?;
                Ok(labels.into_iter().zip(windows).collect())
            }
        };
        parts.try_flatten().and_then(read).boxed()
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
            let rows = shard.matching(matchers, &self.memory).await?;
            for rows in portions(rows, SERIES_AT_ONCE) {
                for entry in shard.entries(&rows, &self.memory).await? {
                    let all = entry.labels.iter().map(|(name, _)| String::from_utf8_lossy(name));
                    names.extend(all.map(|name| name.into_owned()));
                }
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
            let rows = shard.matching(matchers, &self.memory).await?;
            let column = format!("{}{name}", schema::LABEL_PREFIX);
            let columns = [&column, schema::REST];
            let cost = shard.series.cost(&columns, &rows);
            let _turn = self.memory.take(&shard.series, cost).await?;
            let batch = shard.series.read(&columns, &rows).await?;
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
}

/// The ends of files with a footer, fetched all at once.
async fn ends_ahead(
    files: impl Iterator<Item = ListedFile>,
    cache: &FooterCache,
) -> BTreeMap<Path, Ahead> {
    /// More are read when they are needed.
    const MOST: usize = 8;
    let end = |file: ListedFile| async move {
        let ahead = file.end_ahead(cache).await?;
        Some((file.path, ahead))
    };
    let ends = futures::future::join_all(files.take(MOST).map(end)).await;
    ends.into_iter().flatten().collect()
}

/// Whether a file of a block is one of its shards'.
fn has_footer(name: &str) -> bool {
    name.ends_with(".parquet") && name != STATISTICS_FILE
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

/// The same rows, up to `most` at a time.
fn portions(rows: RowRanges, most: usize) -> Vec<RowRanges> {
    let most = most.max(1);
    let (mut parts, mut room) = (Vec::<RowRanges>::new(), 0);
    for mut range in rows {
        while !range.is_empty() {
            if room == 0 {
                parts.push(RowRanges::new());
                room = most;
            }
            let part = range.start..range.end.min(range.start + room);
            (room, range.start) = (room - part.len(), part.end);
            if let Some(last) = parts.last_mut() {
                last.push(part);
            }
        }
    }
    parts
}

/// Cuts the series of one shard into parts of about as many windows as a scan reads at once.
fn cut(entries: Vec<SeriesEntry>) -> Vec<Vec<SeriesEntry>> {
    let mut parts: Vec<Vec<SeriesEntry>> = Vec::new();
    let mut weight = 0i64;
    for entry in entries {
        let SeriesRow { rows, histogram_rows, .. } = entry.place.position;
        let own =
            rows.max(0).saturating_add(histogram_rows.max(0).saturating_mul(HISTOGRAM_WEIGHT));
        weight = weight.saturating_add(own);
        match parts.last_mut().filter(|_| weight <= SCAN_ROWS) {
            Some(part) => part.push(entry),
            None => {
                weight = own;
                parts.push(vec![entry]);
            }
        }
    }
    parts
}
