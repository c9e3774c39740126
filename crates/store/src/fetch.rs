//! Chunks of merged series: fetched block by block for a batch of series, and converted to the form
//! in which they are sent.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use block::BlockReader;
use block::reader::{BlockChunk, BlockEntry, BlockSeries, SeriesBatch};
use futures::{StreamExt, stream};
use merge::{ChunkContent, Series, SeriesChunk};
use model::{Labels, Reservation, Resolution};
use storeapi::{Error, Kind, Result};
use tsdb::chunk::{Aggregate, transcode};

use crate::block_error::BlockError;
use crate::catalog::ServedBlock;
use crate::context::RequestContext;
use crate::source::SourcePlan;

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

/// A series of all blocks, its chunks not yet fetched.
#[derive(Debug)]
pub(crate) struct UnfetchedSeries {
    pub(crate) labels: Labels,
    pub(crate) stored: Vec<Stored>,
    /// With the number of the block.
    pub(crate) ready: Vec<(usize, Vec<SeriesChunk>)>,
}

impl UnfetchedSeries {
    /// Bytes of its chunks, approximately.
    pub(crate) fn bytes(&self) -> u64 {
        let ready = self.ready.iter().flat_map(|(_, chunks)| chunks).map(|c| c.size() as u64);
        self.stored.iter().map(|stored| stored.entry.bytes()).sum::<u64>() + ready.sum::<u64>()
    }
}

/// Series with their chunks, and what of them could not be read.
#[derive(Debug)]
pub(crate) struct FetchedSeries {
    pub(crate) series: Vec<Series>,
    pub(crate) failures: Vec<Error>,
    /// Held while the series wait to be sent.
    pub(crate) reservation: Reservation,
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

/// Which series of the batch chunks belong to, and which replica.
#[derive(Clone, Copy)]
struct BatchPlace {
    series: usize,
    replica: Option<u64>,
}

impl Fetcher {
    pub(crate) fn new(
        blocks: Vec<Arc<ServedBlock>>,
        plan: &SourcePlan,
        context: Arc<RequestContext>,
    ) -> Fetcher {
        let fetch_block = |block: Arc<ServedBlock>| {
            let reader = plan.reader(&block, &context);
            FetchBlock { reader, block, failed: AtomicBool::new(false) }
        };
        let blocks = blocks.into_iter().map(fetch_block).collect();
        let newer_encodings = plan.request.newer_encodings;
        Fetcher { aggregates: plan.aggregates(), newer_encodings, blocks, context }
    }

    /// Fetches a batch. Series that end up without any chunk are left out.
    ///
    /// # Errors
    /// `Limit` when the batch does not fit into the budget or the request fetched more than it may.
    pub(crate) async fn fetch(&self, batch: Vec<UnfetchedSeries>) -> Result<FetchedSeries> {
        let mut reservation = self.context.memory().reserve("chunks of an answer");
        reservation.grow(batch.iter().map(UnfetchedSeries::bytes).sum())?;
        let mut failures = Vec::new();
        let mut parts: BTreeMap<usize, BlockPart> = BTreeMap::new();
        let mut labels = Vec::with_capacity(batch.len());
        let mut lists: Vec<Vec<SeriesChunk>> = Vec::with_capacity(batch.len());
        for (place, joined) in batch.into_iter().enumerate() {
            for Stored { at, entry, replica } in joined.stored {
                let part = parts.entry(at).or_default();
                part.places.push(BatchPlace { series: place, replica });
                part.entries.push(entry);
            }
            labels.push(joined.labels);
            for (at, chunks) in &joined.ready {
                self.note_resolution(*at, chunks);
            }
            lists.push(joined.ready.into_iter().flat_map(|(_, chunks)| chunks).collect());
        }
        let mut fetched = stream::iter(parts)
            .map(|(at, part)| async move { (at, self.fetch_part(at, part).await) })
            .buffer_unordered(PARALLEL_BLOCKS);
        while let Some((at, part)) = fetched.next().await {
            let (found, broken) = part?;
            failures.extend(broken);
            for (place, chunks) in found {
                self.note_resolution(at, &chunks);
                lists[place].extend(chunks);
            }
        }
        self.context.check_downloaded()?;
        let series = labels.into_iter().zip(lists).filter_map(|(labels, chunks)| {
            let chunks = merge::merge_series_chunks(chunks);
            (!chunks.is_empty()).then_some(Series { labels, chunks })
        });
        let series: Vec<Series> = series.collect();
        let sizes = &self.context.shared.metrics.chunk_size;
        series.iter().flat_map(|s| &s.chunks).for_each(|c| sizes.observe(c.size() as f64));
        Ok(FetchedSeries { series, failures, reservation })
    }

    /// The chunks by the place of their series, and the errors.
    async fn fetch_part(
        &self,
        at: usize,
        part: BlockPart,
    ) -> Result<(Vec<(usize, Vec<SeriesChunk>)>, Vec<Error>)> {
        let FetchBlock { block, reader, failed } = &self.blocks[at];
        if failed.load(Ordering::Relaxed) {
            return Ok((Vec::new(), Vec::new()));
        }
        let wanted: Vec<(BatchPlace, Labels)> = part
            .places
            .iter()
            .copied()
            .zip(part.entries.iter().map(|e| e.labels.clone()))
            .collect();
        let read = match reader.read_chunks(part.entries).await {
            Ok(read) => read,
            Err(error) => {
                let told = failed.swap(true, Ordering::Relaxed);
                let failure =
                    (!told).then(|| self.context.block_failed(block, &BlockError::Tsdb(error)));
                return Ok((Vec::new(), failure.into_iter().collect()));
            }
        };
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
    ) -> (Vec<(usize, Vec<SeriesChunk>)>, Vec<Error>) {
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
        (found, failures)
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
    pub(crate) fn bare(batch: Vec<UnfetchedSeries>, reservation: Reservation) -> FetchedSeries {
        let series = batch
            .into_iter()
            .map(|joined| Series { labels: joined.labels, chunks: Vec::new() })
            .collect();
        FetchedSeries { series, failures: Vec::new(), reservation }
    }
}
