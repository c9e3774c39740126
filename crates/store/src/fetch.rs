//! Chunks of merged series: fetched block by block for a batch of series, and converted to the form
//! in which they are sent; those of Parquet blocks are made of windows.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use block::reader::{BlockChunk, BlockEntry, BlockSeries, SeriesBatch};
use block::{BlockReader, MemoryTurn};
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, stream};
use merge::{ChunkContent, Series, SeriesChunk};
use model::{Labels, Reservation, Resolution};
use parquet_block::WindowPlace;
use storeapi::{Error, Kind, Result};
use tsdb::chunk::{Aggregate, transcode};

use crate::block_error::BlockError;
use crate::context::RequestContext;
use crate::served::{PickedBlock, ServedBlock};
use crate::source::{SourcePlan, WindowEntry};

/// How many blocks chunks are fetched from at a time.
const PARALLEL_BLOCKS: usize = 32;

/// A series as a block has it.
#[derive(Debug)]
pub(crate) struct Stored {
    /// The number of the block.
    pub(crate) at: usize,
    pub(crate) entry: BlockEntry,
    /// See [`SeriesChunk::replica`].
    pub(crate) replica: Option<u64>,
}

/// The same of a Parquet block.
#[derive(Debug)]
pub(crate) struct StoredWindows {
    pub(crate) at: usize,
    pub(crate) entry: WindowEntry,
    pub(crate) replica: Option<u64>,
}

/// A series of all blocks, its chunks not yet fetched.
#[derive(Debug)]
pub(crate) struct UnfetchedSeries {
    pub(crate) labels: Labels,
    pub(crate) stored: Vec<Stored>,
    pub(crate) windows: Vec<StoredWindows>,
}

impl UnfetchedSeries {
    /// Bytes of its chunks, approximately.
    pub(crate) fn bytes(&self) -> u64 {
        let windows = self.windows.iter().map(|windows| windows.entry.bytes);
        self.stored_bytes() + windows.sum::<u64>()
    }

    /// Bytes of those that TSDB blocks hold.
    pub(crate) fn stored_bytes(&self) -> u64 {
        self.stored.iter().map(|stored| stored.entry.bytes()).sum()
    }
}

/// Some series, and the memory for their chunks.
#[derive(Debug)]
pub(crate) struct UnfetchedBatch {
    pub(crate) series: Vec<UnfetchedSeries>,
    pub(crate) memory: MemoryTurn,
}

/// Series with their chunks, and what of them could not be read.
#[derive(Debug)]
pub(crate) struct FetchedSeries {
    pub(crate) series: Vec<Series>,
    pub(crate) failures: Vec<Error>,
    /// Held while the series wait to be sent.
    pub(crate) memory: MemoryTurn,
}

/// What one block has for a batch.
#[derive(Default)]
struct FoundChunks {
    /// By the place of their series in the batch.
    chunks: Vec<(usize, Vec<SeriesChunk>)>,
    failures: Vec<Error>,
    /// See [`SeriesBatch::long`].
    long: Option<Arc<Reservation>>,
}

/// Fetches for one request.
#[derive(Debug)]
pub(crate) struct Fetcher {
    context: Arc<RequestContext>,
    aggregates: Vec<Aggregate>,
    newer_encodings: bool,
    blocks: Vec<FetchBlock>,
}

#[derive(Debug)]
struct FetchBlock {
    block: Arc<ServedBlock>,
    reader: BlockReader,
    /// Set when it failed; then it is not asked again.
    failed: AtomicBool,
}

/// The chunks of one block for some of the series of a batch.
#[derive(Default)]
struct BlockPart {
    places: Vec<BatchPlace>,
    entries: Vec<BlockEntry>,
}

/// The windows of one block for some of the series of a batch.
#[derive(Default)]
struct WindowPart {
    places: Vec<BatchPlace>,
    entries: Vec<WindowEntry>,
}

/// Which series of the batch chunks belong to, and which replica.
#[derive(Clone, Copy)]
struct BatchPlace {
    series: usize,
    replica: Option<u64>,
}

impl Fetcher {
    pub(crate) fn new(
        picks: &[PickedBlock],
        plan: &SourcePlan,
        context: Arc<RequestContext>,
    ) -> Fetcher {
        let fetch_block = |pick: &PickedBlock| {
            let block = Arc::clone(&pick.block);
            let reader = plan.reader(&block, &context);
            FetchBlock { reader, block, failed: AtomicBool::new(false) }
        };
        let blocks = picks.iter().map(fetch_block).collect();
        let newer_encodings = plan.request.newer_encodings;
        Fetcher { aggregates: plan.aggregates(), newer_encodings, blocks, context }
    }

    /// Fetches a batch. Series that end up without any chunk are left out.
    ///
    /// # Errors
    /// `Memory` when the batch does not fit into the budget, `Limit` when the request fetched more than
    /// it may.
    pub(crate) async fn fetch(&self, batch: UnfetchedBatch) -> Result<FetchedSeries> {
        let UnfetchedBatch { series, mut memory } = batch;
        let mut bytes: u64 = series.iter().map(UnfetchedSeries::stored_bytes).sum();
        let BatchParts { labels, stored, windows } = BatchParts::of(series);
        let mut lists: Vec<Vec<SeriesChunk>> = vec![Vec::new(); labels.len()];
        // until the batch has memory for them
        let mut held: Vec<Arc<Reservation>> = Vec::new();
        let mut failures = Vec::new();
        let mut fetches: Vec<BoxFuture<'_, (usize, Result<FoundChunks>)>> = Vec::new();
        for (at, part) in stored {
            fetches.push(async move { (at, self.fetch_part(at, part).await) }.boxed());
        }
        for (at, part) in windows {
            fetches.push(async move { (at, self.read_windows(at, part).await) }.boxed());
        }
        let mut fetched = stream::iter(fetches).buffer_unordered(PARALLEL_BLOCKS);
        while let Some((at, part)) = fetched.next().await {
            let found = part?;
            failures.extend(found.failures);
            bytes += found.long.as_ref().map_or(0, |long| long.bytes());
            held.extend(found.long);
            for (place, chunks) in found.chunks {
                self.note_resolution(at, &chunks);
                if self.blocks[at].block.location.is_parquet() {
                    bytes += chunks.iter().map(in_memory).sum::<u64>();
                }
                lists[place].extend(chunks);
            }
        }
        self.context.check_downloaded()?;
        drop(held);
        memory.resize(bytes)?;
        let series = labels.into_iter().zip(lists).filter_map(|(labels, chunks)| {
            let chunks = merge::merge_series_chunks(chunks);
            (!chunks.is_empty()).then_some(Series { labels, chunks })
        });
        let series: Vec<Series> = series.collect();
        // counted apart: others count too, and there are very many chunks
        let sizes = self.context.shared.metrics.chunk_size.local();
        series.iter().flat_map(|s| &s.chunks).for_each(|c| sizes.observe(c.size() as f64));
        sizes.flush();
        Ok(FetchedSeries { series, failures, memory })
    }

    /// The same of a Parquet block.
    async fn read_windows(&self, at: usize, part: WindowPart) -> Result<FoundChunks> {
        let FetchBlock { block, failed, .. } = &self.blocks[at];
        let source = part.entries.first().map(|entry| Arc::clone(&entry.source));
        let Some(source) = source.filter(|_| !failed.load(Ordering::Relaxed)) else {
            return Ok(FoundChunks::default());
        };
        let places: Vec<WindowPlace> = part.entries.iter().map(|entry| entry.place).collect();
        let read = match source.block.chunks(&places, &source.query).await.map_err(BlockError::from)
        {
            Ok(read) => read,
            Err(BlockError::Request(error)) => return Err(error),
            Err(error) => return Ok(self.failed(at, &error)),
        };
        let stats = &self.context.stats;
        let count = |n: &AtomicU64, more: usize| n.fetch_add(more as u64, Ordering::Relaxed);
        count(&stats.chunks, read.iter().map(Vec::len).sum());
        count(&stats.chunk_bytes, read.iter().flatten().map(SeriesChunk::size).sum());
        let resolution = block.meta.resolution();
        let sent =
            |chunk: SeriesChunk, replica| chunk.with_resolution(resolution).with_replica(replica);
        let found = part.places.into_iter().zip(read).map(|(BatchPlace { series, replica }, c)| {
            (series, c.into_iter().map(|chunk| sent(chunk, replica)).collect())
        });
        Ok(FoundChunks { chunks: found.collect(), ..FoundChunks::default() })
    }

    /// Has the block left out from now on; says so once.
    fn failed(&self, at: usize, error: &BlockError) -> FoundChunks {
        let FetchBlock { block, failed, .. } = &self.blocks[at];
        let told = failed.swap(true, Ordering::Relaxed);
        let failure = (!told).then(|| self.context.block_failed(block, error));
        FoundChunks { failures: failure.into_iter().collect(), ..FoundChunks::default() }
    }

    /// The chunks by the place of their series, and the errors.
    async fn fetch_part(&self, at: usize, part: BlockPart) -> Result<FoundChunks> {
        let FetchBlock { block, reader, failed, .. } = &self.blocks[at];
        if failed.load(Ordering::Relaxed) {
            return Ok(FoundChunks::default());
        }
        let wanted: Vec<(BatchPlace, Labels)> = part
            .places
            .iter()
            .copied()
            .zip(part.entries.iter().map(|e| e.labels.clone()))
            .collect();
        let read = match reader.read_chunks(part.entries).await {
            Ok(read) => read,
            Err(error) if error.kind() == block::Kind::Limit => {
                return Err(Error::passed(Kind::Memory, error));
            }
            Err(error) => return Ok(self.failed(at, &BlockError::Tsdb(error))),
        };
        if !read.errors.is_empty() {
            self.context.found_damage(block);
        }
        let transcodes = !self.newer_encodings
            && read.series.iter().any(|s| s.chunks.iter().any(|c| c.encoding.needs_transcoding()));
        let convert = Convert {
            aggregates: self.aggregates.clone(),
            newer_encodings: self.newer_encodings,
            resolution: block.meta.resolution(),
        };
        let block = Arc::clone(block);
        if transcodes {
            // decoding and encoding takes longer than a thread that does I/O has time for
            let work =
                tokio::task::spawn_blocking(move || convert.batch(&block, wanted, read)).await;
            return work.map_err(|e| Error::caused(Kind::Internal, "transcoding chunks", e));
        }
        Ok(convert.batch(&block, wanted, read))
    }

    fn note_resolution(&self, at: usize, chunks: &[SeriesChunk]) {
        let resolution = self.blocks[at].block.meta.resolution();
        let coarse = chunks.iter().filter(|c| matches!(c.content, ChunkContent::Aggregates(_)));
        coarse.for_each(|c| self.context.sent_chunk(resolution, c.min_time, c.max_time));
    }
}

/// A batch taken apart by blocks.
#[derive(Default)]
struct BatchParts {
    labels: Vec<Labels>,
    stored: BTreeMap<usize, BlockPart>,
    windows: BTreeMap<usize, WindowPart>,
}

impl BatchParts {
    fn of(series: Vec<UnfetchedSeries>) -> BatchParts {
        let mut parts = BatchParts::default();
        for (series, joined) in series.into_iter().enumerate() {
            for Stored { at, entry, replica } in joined.stored {
                let part = parts.stored.entry(at).or_default();
                part.places.push(BatchPlace { series, replica });
                part.entries.push(entry);
            }
            for StoredWindows { at, entry, replica } in joined.windows {
                let part = parts.windows.entry(at).or_default();
                part.places.push(BatchPlace { series, replica });
                part.entries.push(entry);
            }
            parts.labels.push(joined.labels);
        }
        parts
    }
}

/// Bytes in memory, approximately.
fn in_memory(chunk: &SeriesChunk) -> u64 {
    (chunk.size() + size_of::<SeriesChunk>()) as u64
}

/// Converts chunks as blocks hold them to chunks as they are sent.
struct Convert {
    aggregates: Vec<Aggregate>,
    newer_encodings: bool,
    resolution: Resolution,
}

impl Convert {
    fn batch(
        &self,
        block: &ServedBlock,
        wanted: Vec<(BatchPlace, Labels)>,
        read: SeriesBatch,
    ) -> FoundChunks {
        const LEFT_OUT: &str = "a series is left out";
        let broken = |e| Error::caused(Kind::Corrupt, LEFT_OUT, e);
        let mut failures: Vec<Error> = read.errors.into_iter().map(broken).collect();
        let mut found = Vec::with_capacity(read.series.len());
        let mut wanted = wanted.into_iter();
        // what is read comes in the order asked for, without broken series
        for BlockSeries { labels, chunks } in read.series {
            let Some((place, _)) = wanted.find(|(_, asked)| *asked == labels) else { break };
            let converted: std::result::Result<Vec<Vec<SeriesChunk>>, tsdb::Error> =
                chunks.into_iter().map(|chunk| self.chunk(chunk)).collect();
            match converted {
                Ok(converted) => {
                    let chunks = converted
                        .into_iter()
                        .flatten()
                        .map(|chunk| chunk.with_replica(place.replica));
                    found.push((place.series, chunks.collect()));
                }
                Err(e) => {
                    let series = format!("{LEFT_OUT}: block={} series {labels}", block.id());
                    failures.push(Error::caused(Kind::Corrupt, series, e));
                }
            }
        }
        FoundChunks { chunks: found, failures, long: read.long }
    }

    fn chunk(&self, chunk: BlockChunk) -> std::result::Result<Vec<SeriesChunk>, tsdb::Error> {
        let BlockChunk { min_time, max_time, encoding, data } = chunk;
        if encoding.needs_transcoding() && !self.newer_encodings {
            let transcoded = transcode(encoding, &data)?.into_iter();
            return transcoded
                .map(|t| {
                    SeriesChunk::from_stored(t.min_time, t.max_time, t.encoding, t.data.into())
                })
                .collect();
        }
        let mut travelling = SeriesChunk::from_stored(min_time, max_time, encoding, data)?
            .with_resolution(self.resolution);
        if let ChunkContent::Aggregates(parts) = &mut travelling.content {
            for aggregate in Aggregate::ALL.into_iter().filter(|a| !self.aggregates.contains(a)) {
                parts[aggregate as usize] = None;
            }
        }
        Ok(vec![travelling])
    }
}

impl FetchedSeries {
    /// Series without chunks, for requests for labels only.
    pub(crate) fn bare(batch: UnfetchedBatch) -> FetchedSeries {
        let series = batch
            .series
            .into_iter()
            .map(|joined| Series { labels: joined.labels, chunks: Vec::new() })
            .collect();
        FetchedSeries { series, failures: Vec::new(), memory: batch.memory }
    }
}
