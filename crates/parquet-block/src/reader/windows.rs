//! The windows of series that were found, read and re-encoded some at a time.

use std::ops::Range;
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use merge::{ChunkSelection, DownsampledSeries, HistogramWindows, SeriesChunk, Windows};
use tsdb::chunk::Aggregate;

use super::shard::ShardFiles;
use super::{ParquetBlock, WindowPlace, WindowQuery};
use crate::error::{Case, Error};
use crate::file::{BlockFile, RowRanges};
use crate::labels::SeriesRow;
use crate::schema::FormatVersion;
use crate::{v1, v2};

/// Bytes that one read of windows takes, where series are not larger.
const READ_BYTES: u64 = 32 << 20;
/// Reads of a block under way at a time.
const READS_AHEAD: usize = 2;

/// Bytes of a decoded float window: three times, a count and four numbers.
const WINDOW_BYTES: u64 = 60;
/// Bytes of a histogram window, decoded or encoded, beside its buckets in a file of their own.
const HISTOGRAM_BYTES: u64 = 400;
/// Copies of what is decoded of histograms: as columns, as histograms, as they are encoded.
const HISTOGRAM_COPIES: u64 = 3;
/// Bytes of an encoded number and its time, usually.
const ENCODED_BYTES: u64 = 8;

/// What is to be read of windows.
#[derive(Clone, Copy)]
pub(super) struct WantedWindows<'a> {
    aggregates: &'a [Aggregate],
    times: bool,
}

impl<'a> WantedWindows<'a> {
    pub(super) const ALL: WantedWindows<'static> =
        WantedWindows { aggregates: &Aggregate::ALL, times: true };

    fn of(query: &'a WindowQuery) -> WantedWindows<'a> {
        WantedWindows { aggregates: &query.aggregates, times: query.times }
    }

    fn floats(self, sums_by_range: bool) -> v2::WantedFloats<'a> {
        v2::WantedFloats { aggregates: self.aggregates, times: self.times, sums_by_range }
    }

    /// Bytes of an encoded window.
    fn encoded_bytes(self) -> u64 {
        (1 + u64::from(self.times) + self.aggregates.len() as u64) * ENCODED_BYTES
    }
}

/// Series of one shard that are read together, as places in the list asked for.
type Run = Vec<usize>;

impl ParquetBlock {
    /// The AggrChunks of each series that overlap the range, exactly as Thanos would have stored
    /// them, in the order asked for.
    pub async fn chunks(
        &self,
        places: &[WindowPlace],
        query: &Arc<WindowQuery>,
    ) -> Result<Vec<Vec<SeriesChunk>>, Error> {
        let runs = self.runs(places, WantedWindows::of(query));
        let reads = runs.into_iter().map(|run| {
            let of_run: Vec<WindowPlace> = run.iter().map(|at| places[*at]).collect();
            async move { Ok::<_, Error>((run, self.read_chunks(&of_run, query).await?)) }
        });
        let mut reads = futures::stream::iter(reads).buffered(READS_AHEAD);
        let mut all = vec![Vec::new(); places.len()];
        while let Some((run, chunks)) = reads.try_next().await? {
            for (at, chunks) in run.into_iter().zip(chunks) {
                all[at] = chunks;
            }
        }
        Ok(all)
    }

    /// Cuts into runs that take about as much memory as one read should.
    fn runs(&self, places: &[WindowPlace], wanted: WantedWindows<'_>) -> Vec<Run> {
        let most = self.memory.0.as_ref().map_or(READ_BYTES, |m| (m.bytes() / 2).min(READ_BYTES));
        let rows: Vec<RowBytes> = self.shards.iter().map(|s| s.row_bytes(wanted)).collect();
        let mut order: Vec<usize> = (0..places.len()).collect();
        order.sort_by_key(|at| (places[*at].shard, places[*at].row));
        let (mut runs, mut filled, mut shard) = (Vec::<Run>::new(), 0, None);
        for at in order {
            let place = &places[at];
            let bytes = rows[place.shard].of(&place.position);
            match runs
                .last_mut()
                .filter(|_| shard == Some(place.shard) && filled <= most.saturating_sub(bytes))
            {
                Some(run) => run.push(at),
                None => {
                    runs.push(vec![at]);
                    filled = 0;
                }
            }
            (filled, shard) = (bytes.saturating_add(filled), Some(place.shard));
        }
        runs
    }

    /// `places` are of one shard, in its order.
    async fn read_chunks(
        &self,
        places: &[WindowPlace],
        query: &Arc<WindowQuery>,
    ) -> Result<Vec<Vec<SeriesChunk>>, Error> {
        let Some(shard) = places.first().map(|place| &self.shards[place.shard]) else {
            return Ok(Vec::new());
        };
        let positions: Vec<SeriesRow> = places.iter().map(|place| place.position).collect();
        let wanted = WantedWindows::of(query);
        let turn = self.memory.take(&shard.samples, shard.cost(&positions, wanted)?).await?;
        let windows = shard.windows(&positions, wanted).await?;
        let query = Arc::clone(query);
        let encode = move || {
            let _turn = turn;
            let selection = ChunkSelection {
                range: query.range,
                aggregates: &query.aggregates,
                times: query.times,
            };
            windows.iter().map(|series| series.chunks_within(selection)).collect()
        };
        let file = shard.samples.path();
        let encoded = tokio::task::spawn_blocking(encode).await;
        let encoded: Result<_, merge::Error> =
            encoded.map_err(|_| Error::corrupt(file, "the encoder gave up"))?;
        encoded.map_err(|source| Error(Case::Chunks { file: file.to_string(), source }))
    }

    /// The windows of series of one shard, in its order.
    pub(super) async fn read_windows(
        &self,
        places: &[WindowPlace],
        wanted: WantedWindows<'_>,
    ) -> Result<Vec<DownsampledSeries>, Error> {
        let Some(shard) = places.first().map(|place| &self.shards[place.shard]) else {
            return Ok(Vec::new());
        };
        let positions: Vec<SeriesRow> = places.iter().map(|place| place.position).collect();
        let _turn = self.memory.take(&shard.samples, shard.cost(&positions, wanted)?).await?;
        shard.windows(&positions, wanted).await
    }
}

impl WindowPlace {
    /// About how many bytes the chunks of the series take.
    pub fn chunk_bytes(&self, query: &WindowQuery) -> u64 {
        RowBytes {
            float: WantedWindows::of(query).encoded_bytes(),
            histogram: HISTOGRAM_BYTES,
            bucket: ENCODED_BYTES,
        }
        .of(&self.position)
    }
}

/// What a row of each file of a shard takes in memory.
#[derive(Clone, Copy, Debug)]
struct RowBytes {
    float: u64,
    histogram: u64,
    bucket: u64,
}

impl RowBytes {
    fn of(&self, position: &SeriesRow) -> u64 {
        let SeriesRow { rows, histogram_rows, bucket_rows, .. } = *position;
        [(rows, self.float), (histogram_rows, self.histogram), (bucket_rows, self.bucket)]
            .into_iter()
            .fold(0, |sum: u64, (rows, bytes)| {
                sum.saturating_add(positive(rows).saturating_mul(bytes))
            })
    }
}

fn positive(rows: i64) -> u64 {
    u64::try_from(rows).unwrap_or(0)
}

impl ShardFiles {
    fn float_columns(&self, wanted: WantedWindows<'_>, sums_by_range: bool) -> Vec<&'static str> {
        match self.version {
            FormatVersion::V1 => v1::wanted_columns(wanted.aggregates),
            FormatVersion::V2 => wanted.floats(sums_by_range).columns(),
        }
    }

    fn histogram_columns(&self) -> &'static [&'static str] {
        match self.version {
            FormatVersion::V1 => v1::HISTOGRAM_COLUMNS,
            FormatVersion::V2 => v2::HISTOGRAM_COLUMNS,
        }
    }

    fn row_bytes(&self, wanted: WantedWindows<'_>) -> RowBytes {
        let of = |file: &Option<BlockFile>, columns: &[&str]| {
            file.as_ref().map_or(0, |file| file.row_bytes(columns) * HISTOGRAM_COPIES)
        };
        let floats = self.samples.row_bytes(&self.float_columns(wanted, true));
        RowBytes {
            float: floats + WINDOW_BYTES + wanted.encoded_bytes(),
            histogram: of(&self.histograms, self.histogram_columns()) + HISTOGRAM_BYTES,
            bucket: of(&self.buckets, v2::BUCKET_COLUMNS),
        }
    }

    /// What reading these series takes, together with the pages that their windows are in.
    fn cost(&self, positions: &[SeriesRow], wanted: WantedWindows<'_>) -> Result<u64, Error> {
        let rows = self.row_bytes(wanted);
        let decoded: u64 = positions.iter().fold(0, |sum: u64, p| sum.saturating_add(rows.of(p)));
        let spans = spans(positions, self.samples.rows(), |p| (p.first_row, p.rows));
        let spans = spans.map_err(|reason| self.series.damaged(reason))?;
        let columns = self.float_columns(wanted, true);
        Ok(decoded.saturating_add(self.samples.stored_bytes(&columns, &merged(&spans))))
    }

    async fn windows(
        &self,
        positions: &[SeriesRow],
        wanted: WantedWindows<'_>,
    ) -> Result<Vec<DownsampledSeries>, Error> {
        let (floats, histograms) =
            futures::try_join!(self.floats(positions, wanted), self.histogram_windows(positions))?;
        let series = floats.into_iter().zip(histograms);
        Ok(series.map(|(floats, histograms)| DownsampledSeries { floats, histograms }).collect())
    }

    /// The float windows of each series of a group.
    async fn floats(
        &self,
        positions: &[SeriesRow],
        wanted: WantedWindows<'_>,
    ) -> Result<Vec<Windows>, Error> {
        let spans = spans(positions, self.samples.rows(), |p| (p.first_row, p.rows));
        let spans = spans.map_err(|reason| self.series.damaged(reason))?;
        let sums_by_range = positions.iter().any(|p| p.form.sum_by_range);
        let columns = self.float_columns(wanted, sums_by_range);
        let wanted = wanted.floats(sums_by_range);
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
        for (span, position) in spans.iter().zip(positions) {
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
    async fn histogram_windows(
        &self,
        positions: &[SeriesRow],
    ) -> Result<Vec<HistogramWindows>, Error> {
        let file_rows = self.histograms.as_ref().map_or(0, BlockFile::rows);
        let spans_of = |rows, of: fn(&SeriesRow) -> (i64, i64)| {
            spans(positions, rows, of).map_err(|reason| self.series.damaged(reason))
        };
        let spans = spans_of(file_rows, |p| (p.histogram_first_row, p.histogram_rows))?;
        let bucket_rows = self.buckets.as_ref().map_or(0, BlockFile::rows);
        let bucket_spans = spans_of(bucket_rows, |p| (p.bucket_first_row, p.bucket_rows))?;
        let Some(file) = self.histograms.as_ref().filter(|_| spans.iter().any(|s| !s.is_empty()))
        else {
            return Ok(vec![HistogramWindows::default(); spans.len()]);
        };
        let columns = self.histogram_columns();
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
