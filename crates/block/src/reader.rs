//! Reads a TSDB block in a bucket by ranges: header → postings → series entries → chunks.
//!
//! Only the index header is kept, in a cache that is bounded in bytes. Series come as streams of
//! batches in order of labels, which is that of the index except for odd blocks; a whole-block scan
//! is the same stream without matchers, and then reads the index and the segments front to back in
//! long ranges.

mod chunks;
mod entries;
mod header_cache;
mod metadata;
mod order;

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt, TryStreamExt};
use model::{Budget, Labels, Matcher, Reservation, TimeRange};
use object_store::path::Path;
use tokio::sync::Semaphore;
use tsdb::chunk::Encoding;
use tsdb::index::{ChunkMeta, IndexHeader};
use tsdb::meta::BlockMeta;
use tsdb::tombstones::{Interval, Tombstones, covers_span};

use crate::layout::BlockLocation;
use crate::{Bucket, Error, Kind, Result};

pub use header_cache::HeaderCache;

/// How a block is read.
#[derive(Clone, Copy, Debug)]
pub struct ReaderSettings {
    /// Series entries fetched at a time.
    pub batch_series: usize,
    /// Bytes of series entries fetched at a time, approximately; an eighth of that is decoded at a
    /// time, or one entry that is longer.
    pub index_bytes: u64,
    /// Bytes of chunks fetched at a time, approximately, including the labels of their series.
    pub batch_bytes: u64,
    /// Batches of either kind under way at a time; memory is about this many times `batch_bytes`.
    pub prefetch: usize,
    /// The most bytes of series entries that are sorted in memory, where a block has its series in
    /// disorder.
    pub sorted_bytes: u64,
}

impl Default for ReaderSettings {
    fn default() -> ReaderSettings {
        ReaderSettings {
            batch_series: 2048,
            index_bytes: 8 << 20,
            batch_bytes: 8 << 20,
            prefetch: 2,
            sorted_bytes: 256 << 20,
        }
    }
}

/// What to read of a block.
#[derive(Clone, Debug)]
pub struct SeriesQuery {
    /// Matchers on the labels in the block, without external ones; empty for all series.
    pub matchers: Vec<Matcher>,
    /// Chunks that do not touch it are left out, and series that have no others.
    pub range: TimeRange,
    /// Labels only.
    pub skip_chunks: bool,
}

impl SeriesQuery {
    /// The whole block.
    pub fn all() -> SeriesQuery {
        SeriesQuery { matchers: Vec::new(), range: TimeRange::ALL, skip_chunks: false }
    }
}

/// Where a chunk lies and the closed span of its samples in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkSpan {
    pub min_time: i64,
    pub max_time: i64,
    /// The reference as in the index.
    pub reference: u64,
    /// Bytes to fetch: usually an upper bound, otherwise a guess.
    len: u32,
    /// Bytes to the next known chunk; a record that claims more is broken.
    room: u32,
}

/// A series of the index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockEntry {
    pub labels: Labels,
    /// Its chunks, in order of time.
    pub chunks: Vec<ChunkSpan>,
    /// The spans that tombstones delete, ascending.
    deleted: Option<Arc<[Interval]>>,
}

impl BlockEntry {
    /// Bytes to fetch for its chunks, approximately.
    pub fn bytes(&self) -> u64 {
        self.chunks.iter().map(|c| u64::from(c.len)).sum()
    }

    /// The spans that are deleted.
    fn deleted(&self) -> &[Interval] {
        self.deleted.as_deref().unwrap_or_default()
    }

    fn is_deleted(&self, chunk: &ChunkSpan) -> bool {
        covers_span(self.deleted(), Interval { min_time: chunk.min_time, max_time: chunk.max_time })
    }

    /// Bytes of memory that the series takes once its chunks are read, approximately.
    fn cost(&self) -> u64 {
        let chunks = self.chunks.len() * size_of::<BlockChunk>();
        self.bytes() + (self.labels.as_packed().len() + size_of::<BlockSeries>() + chunks) as u64
    }
}

/// Some series of the index, in order.
#[derive(Clone, Debug, Default)]
pub struct EntryBatch {
    pub entries: Vec<BlockEntry>,
    /// Series that could not be read; the others are intact.
    pub errors: Vec<Error>,
}

/// A chunk: its encoded samples without length, encoding and checksum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockChunk {
    pub min_time: i64,
    pub max_time: i64,
    pub encoding: Encoding,
    pub data: Bytes,
}

/// A series with its chunks, in order of time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockSeries {
    pub labels: Labels,
    pub chunks: Vec<BlockChunk>,
}

/// Some series, in order.
#[derive(Clone, Debug, Default)]
pub struct SeriesBatch {
    pub series: Vec<BlockSeries>,
    /// Series that could not be read, because an entry or a chunk is broken; they are not among
    /// `series`.
    pub errors: Vec<Error>,
    pub stored: StoredCounts,
    /// For chunks that are longer than their entries let expect.
    pub long: Option<Arc<Reservation>>,
}

/// What a block holds of the series and chunks asked for, before tombstones: for a whole block,
/// what its `meta.json` counts. Series that could not be read do not count, and reading only labels
/// counts no samples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoredCounts {
    pub series: u64,
    /// Samples; for a downsampled chunk, those of its first aggregate.
    pub samples: u64,
}

/// Bytes and things read, added up over the queries that share it.
#[derive(Debug, Default)]
pub struct ReadStats {
    pub header_bytes: AtomicU64,
    pub postings_bytes: AtomicU64,
    pub series_bytes: AtomicU64,
    pub chunk_bytes: AtomicU64,
    pub series: AtomicU64,
    pub chunks: AtomicU64,
}

impl ReadStats {
    /// All bytes, without those that were read only because they lay between.
    pub fn bytes(&self) -> u64 {
        let ReadStats { header_bytes, postings_bytes, series_bytes, chunk_bytes, .. } = self;
        [header_bytes, postings_bytes, series_bytes, chunk_bytes]
            .iter()
            .map(|n| n.load(Ordering::Relaxed))
            .sum()
    }
}

/// The longest chunk that is accepted, whatever its bytes claim.
const MAX_RECORD: u64 = 32 << 20;

/// The longest series entry that is accepted, whatever its bytes claim: it has places for more than
/// 250,000 chunks.
const MAX_ENTRY: u64 = 2 << 20;

fn count(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Ordering::Relaxed);
}

/// The most bytes of an index that are read at once: symbols and offsets of postings, the postings
/// of a query. Those of ten million series take some 100 MB.
const MAX_OF_INDEX: u64 = 1 << 30;

/// The most bytes of chunks read at once that are longer than usual.
const MAX_LONG_CHUNKS: u64 = 256 << 20;

/// A TSDB block in a bucket. Cloning shares it.
#[derive(Clone, Debug)]
pub struct BlockReader {
    inner: Arc<Inner>,
    stats: Arc<ReadStats>,
    tombstones: Option<Arc<Tombstones>>,
    /// Charged for what is sorted, and for what the block claims.
    budget: Option<Budget>,
    sorts: bool,
    /// Used instead of the one in the cache.
    header: Option<Arc<IndexHeader>>,
}

#[derive(Debug)]
struct Inner {
    bucket: Bucket,
    location: BlockLocation,
    meta: Arc<BlockMeta>,
    headers: HeaderCache,
    settings: ReaderSettings,
}

impl BlockReader {
    /// Nothing is read yet.
    pub fn new(
        bucket: Bucket,
        meta: Arc<BlockMeta>,
        headers: HeaderCache,
        settings: ReaderSettings,
    ) -> BlockReader {
        let location = BlockLocation::tsdb(meta.ulid);
        let inner = Inner { bucket, location, meta, headers, settings };
        BlockReader {
            inner: Arc::new(inner),
            stats: Arc::default(),
            tombstones: None,
            budget: None,
            sorts: false,
            header: None,
        }
    }

    /// The same block; what is read is added to `stats`.
    pub fn counting(&self, stats: Arc<ReadStats>) -> BlockReader {
        BlockReader { stats, ..self.clone() }
    }

    /// The same block without what is deleted. Names and values of labels stay, as in Prometheus.
    pub fn deleting(self, tombstones: Arc<Tombstones>) -> BlockReader {
        BlockReader { tombstones: Some(tombstones).filter(|t| !t.is_empty()), ..self }
    }

    /// The same block; where its series must be sorted, or it claims much, that is charged to
    /// `budget`.
    pub fn charging(self, budget: Budget) -> BlockReader {
        BlockReader { budget: Some(budget), ..self }
    }

    /// The same block, its series sorted before any is returned: for one whose series came [in
    /// disorder](Kind::Unordered). Readers that share the header cache of the one that noticed do
    /// this by themselves.
    pub fn sorting(self) -> BlockReader {
        BlockReader { sorts: true, ..self }
    }

    /// The same block; its header is not read again, and the cache is not used.
    #[must_use]
    pub fn with_header(self, header: Arc<IndexHeader>) -> BlockReader {
        BlockReader { header: Some(header), ..self }
    }

    pub fn meta(&self) -> &Arc<BlockMeta> {
        &self.inner.meta
    }

    pub fn stats(&self) -> &Arc<ReadStats> {
        &self.stats
    }

    /// Symbols and postings offsets; from the cache, or by three ranged reads at most.
    pub async fn header(&self) -> Result<Arc<IndexHeader>> {
        if let Some(header) = &self.header {
            return Ok(Arc::clone(header));
        }
        let load = async { self.load_header().await.map(Arc::new) };
        self.inner.headers.get(self.inner.meta.ulid, load).await
    }

    /// Matching series with their chunks, in order of labels; equal ones, which an odd block may
    /// hold, come one after another. An error ends the stream: the bucket failed, the header or
    /// postings are broken, or the block has its series in another order and that was noticed too
    /// late ([`Kind::Unordered`]: read it again).
    pub fn series(&self, query: SeriesQuery) -> BoxStream<'static, Result<SeriesBatch>> {
        let skip_chunks = query.skip_chunks;
        let entries = self.in_order(self.stored_entries(query));
        if skip_chunks {
            return entries.map_ok(without_chunks).boxed();
        }
        let reader = self.clone();
        let (batch_bytes, prefetch) =
            (self.inner.settings.batch_bytes, self.inner.settings.prefetch.max(1));
        filled(entries, batch_bytes)
            .map(move |batch: Result<EntryBatch>| {
                let reader = reader.clone();
                async move {
                    let EntryBatch { entries, errors } = batch?;
                    let mut read = reader.read_chunks(entries).await?;
                    read.errors.splice(0..0, errors);
                    Ok(read)
                }
            })
            .buffered(prefetch)
            .boxed()
    }

    /// Ranges of a file of this block. What is read only because it lies between is little compared
    /// with the whole block.
    async fn fetch(&self, path: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let files = self.inner.meta.thanos.iter().flat_map(|t| &t.files);
        let gap = match files.map(|f| f.size_bytes).sum::<u64>() {
            0 => u64::MAX,
            bytes => bytes / 64,
        };
        self.inner.bucket.get_ranges_within(path, ranges, gap).await
    }

    /// Reserves memory for what the block says of itself, if reads are charged.
    ///
    /// # Errors
    /// `Corrupt` when it is more than is read at once, `Limit` when there is no memory for it.
    fn claim(&self, claim: Claim) -> Result<Option<Reservation>> {
        let Claim { what, bytes, most, copies } = claim;
        let id = self.inner.meta.ulid;
        if bytes > most {
            let text =
                format!("block={id}: {what} take {bytes} bytes, and more than {most} are not read");
            return Err(Error::new(Kind::Corrupt, text));
        }
        let Some(budget) = &self.budget else { return Ok(None) };
        let mut held = budget.reserve(format!("reading {what} of block={id}"));
        held.grow(bytes.saturating_mul(copies)).map_err(|e| Error::passed(Kind::Limit, e))?;
        Ok(Some(held))
    }

    fn index_error(&self, error: tsdb::Error) -> Error {
        Error::format(format_args!("block={}", self.inner.meta.ulid), error)
    }
}

/// How much a block says there is of something.
struct Claim {
    what: &'static str,
    bytes: u64,
    /// No sound block has more.
    most: u64,
    /// How often it is in memory.
    copies: u64,
}

impl Claim {
    /// As it is fetched, and as it is decoded.
    fn of_index(what: &'static str, ranges: &[Range<u64>]) -> Claim {
        let sum = |sum: u64, r: &Range<u64>| sum.saturating_add(r.end.saturating_sub(r.start));
        Claim { what, bytes: ranges.iter().fold(0, sum), most: MAX_OF_INDEX, copies: 2 }
    }

    /// Series entries as they are fetched. Who takes them charges what they are decoded to.
    fn of_entries(ranges: &[Range<u64>]) -> Claim {
        Claim { copies: 1, ..Claim::of_index("series entries", ranges) }
    }

    /// Series entries that are longer than usual, which is because of their chunks: three bytes are
    /// enough to make one of them.
    fn of_long_entries(ranges: &[Range<u64>]) -> Claim {
        const PER_CHUNK: usize = size_of::<ChunkMeta>() + 2 * size_of::<ChunkSpan>();
        let copies = 1 + (PER_CHUNK as u64).div_ceil(3);
        Claim { copies, ..Claim::of_index("long series entries", ranges) }
    }
}

fn without_chunks(batch: EntryBatch) -> SeriesBatch {
    let stored = StoredCounts { series: batch.entries.len() as u64, samples: 0 };
    let EntryBatch { entries, errors } = without_deleted(batch);
    let series =
        entries.into_iter().map(|e| BlockSeries { labels: e.labels, chunks: Vec::new() }).collect();
    SeriesBatch { series, errors, stored, long: None }
}

/// Leaves out chunks that are entirely deleted, and series that have no others.
fn without_deleted(mut batch: EntryBatch) -> EntryBatch {
    batch.entries.retain_mut(|entry| {
        if entry.deleted.is_some() {
            let chunks = std::mem::take(&mut entry.chunks);
            entry.chunks = chunks.into_iter().filter(|chunk| !entry.is_deleted(chunk)).collect();
        }
        !entry.chunks.is_empty()
    });
    batch
}

/// The same entries in batches that take about this many bytes once their chunks are read, with at
/// least one series each.
fn filled(
    entries: BoxStream<'static, Result<EntryBatch>>,
    bytes: u64,
) -> impl Stream<Item = Result<EntryBatch>> + Send + 'static {
    let step = move |(mut entries, mut rest): (stream::Fuse<_>, VecDeque<BlockEntry>)| async move {
        let (mut batch, mut cost) = (EntryBatch::default(), 0);
        loop {
            while let Some(entry) = rest.pop_front() {
                let more = entry.cost();
                if cost > 0 && cost + more > bytes {
                    rest.push_front(entry);
                    return Ok(Some((batch, (entries, rest))));
                }
                cost += more;
                batch.entries.push(entry);
            }
            let Some(more): Option<EntryBatch> = entries.try_next().await? else { break };
            batch.errors.extend(more.errors);
            rest = more.entries.into();
        }
        let is_empty = batch.entries.is_empty() && batch.errors.is_empty();
        Ok((!is_empty).then_some((batch, (entries, rest))))
    };
    stream::try_unfold((entries.fuse(), VecDeque::new()), step)
}

/// Moves long decoding off the threads that do I/O, to no more threads than there are cores: a
/// compaction reads hundreds of blocks at a time.
pub(crate) async fn offload<T: Send + 'static>(
    bytes: usize,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T> {
    /// This many bytes take about half a millisecond to decode.
    const LONG: usize = 256 << 10;
    if bytes < LONG {
        return Ok(work());
    }
    static AT_A_TIME: LazyLock<Semaphore> = LazyLock::new(|| {
        Semaphore::new(std::thread::available_parallelism().map_or(1, usize::from))
    });
    // it is never closed
    let _permit = AT_A_TIME.acquire().await;
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|e| Error::caused(Kind::Internal, "decoding", e))
}

#[cfg(test)]
mod tests;
