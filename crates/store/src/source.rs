//! The series of one block in the order of their final labels, read ahead by a task of its own.
//!
//! It reads only labels and the places of chunks or windows: series are sorted, filtered and merged
//! before any of these is fetched, so that of many blocks little is in memory.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use block::reader::{BlockEntry, ChunkSpan, ReadStats, ReaderSettings};
use block::{BlockReader, SeriesQuery};
use futures::TryStreamExt;
use model::error::in_one_line;
use model::{Labels, Reservation};
use parquet_block::{ParquetBlock, SeriesEntry, WindowPlace, WindowQuery};
use serve::Task;
use storeapi::{AggregateKind, Carried, Incoming, LabelChange, ResortByRun, Result, SeriesRequest};
use tokio::sync::mpsc;
use tsdb::chunk::Aggregate;

use crate::block_error::BlockError;
use crate::context::RequestContext;
use crate::served::{PickedBlock, ServedBlock};
use crate::shared::GatewayShared;
use crate::warnings::Warnings;

/// Batches that wait for the merge or are being read.
const READ_AHEAD: usize = 1;

/// A series of one block.
#[derive(Debug)]
pub(crate) struct SourceSeries {
    /// The final labels: with external ones, without replica labels.
    pub(crate) labels: Labels,
    pub(crate) content: Content,
}

#[derive(Debug)]
pub(crate) enum Content {
    /// Where its chunks are, and which replica they belong to.
    Stored(BlockEntry, Option<u64>),
    /// The same of a Parquet block.
    Windows(WindowEntry, Option<u64>),
}

/// A Parquet block, and what is wanted of it.
#[derive(Debug)]
pub(crate) struct WindowSource {
    pub(crate) block: ParquetBlock,
    pub(crate) query: Arc<WindowQuery>,
}

/// Where the windows of a series are.
#[derive(Clone, Debug)]
pub(crate) struct WindowEntry {
    pub(crate) source: Arc<WindowSource>,
    pub(crate) place: WindowPlace,
    /// About how many bytes its chunks take.
    pub(crate) bytes: u64,
}

/// Some series of a block, charged to the budget while they wait.
#[derive(Debug)]
struct SourceBatch {
    heads: Vec<SourceSeries>,
    /// Series that are left out, and why.
    broken: Vec<String>,
    reservation: Reservation,
}

/// One block's part of an answer. Dropping it ends the work behind it.
#[derive(Debug)]
pub(crate) struct BlockSource {
    pub(crate) block: Arc<ServedBlock>,
    batches: mpsc::Receiver<std::result::Result<SourceBatch, BlockError>>,
    heads: std::vec::IntoIter<SourceSeries>,
    _held: Option<Reservation>,
    _task: Task<()>,
}

impl BlockSource {
    /// Starts to read at once.
    pub(crate) fn open(
        pick: PickedBlock,
        plan: Arc<SourcePlan>,
        context: Arc<RequestContext>,
    ) -> BlockSource {
        let (sender, batches) = mpsc::channel(READ_AHEAD);
        let block = Arc::clone(&pick.block);
        let reading = BlockTask { change: plan.change(&block.labels), pick, plan, context, sender };
        let task = Task::spawn(async move {
            if let Err(error) = reading.run().await {
                // A receiver that is gone needs no answer.
                let _ = reading.sender.send(Err(error)).await;
            }
        });
        BlockSource { block, batches, heads: Vec::new().into_iter(), _held: None, _task: task }
    }

    /// The next series. What is wrong with the block goes to `notes`, unless it ends the request.
    pub(crate) async fn next(
        &mut self,
        context: &RequestContext,
        notes: &mut Warnings,
    ) -> Result<Option<SourceSeries>> {
        loop {
            if let Some(head) = self.heads.next() {
                return Ok(Some(head));
            }
            self._held = None;
            match self.batches.recv().await {
                None => return Ok(None),
                Some(Ok(batch)) => {
                    for text in batch.broken {
                        notes.warn(text)?;
                    }
                    self._held = Some(batch.reservation);
                    self.heads = batch.heads.into_iter();
                }
                Some(Err(BlockError::Request(error))) => notes.fail(error)?,
                Some(Err(BlockError::Tsdb(error))) if error.kind() == block::Kind::Unordered => {
                    context.found_disorder();
                    notes.warn(format!(
                        "block={} is left out from here on: {}",
                        self.block.id(),
                        in_one_line(&error)
                    ))?;
                }
                Some(Err(error)) => notes.fail(context.block_failed(&self.block, &error))?,
            }
        }
    }
}

/// What a request wants from every block.
#[derive(Debug)]
pub(crate) struct SourcePlan {
    pub(crate) request: SeriesRequest,
    /// Series of an index read at a time.
    pub(crate) batch_series: usize,
    /// Batches of them that are read at a time, of each block.
    pub(crate) prefetch: usize,
}

impl SourcePlan {
    fn change(&self, external: &Labels) -> LabelChange {
        LabelChange::new(external, &self.request.without_replica_labels)
    }

    /// What is wanted of a Parquet block.
    fn windows(&self, pick: &PickedBlock) -> WindowQuery {
        WindowQuery {
            matchers: pick.matchers.to_vec(),
            range: pick.range,
            aggregates: self.aggregates(),
            times: self.request.wants_times_of(pick.block.meta.resolution()),
            skip_chunks: self.request.skip_chunks,
        }
    }

    fn wants(&self, labels: &Labels) -> bool {
        self.request.shard.as_ref().is_none_or(|shard| shard.holds(labels))
    }

    /// The aggregates to send of downsampled chunks. A request that names none gets all.
    pub(crate) fn aggregates(&self) -> Vec<Aggregate> {
        let named = |a: &AggregateKind| match a {
            AggregateKind::Of(aggregate) => Some(*aggregate),
            AggregateKind::Raw => None,
        };
        let mut wanted: Vec<Aggregate> = self.request.aggregates.iter().filter_map(named).collect();
        wanted.sort_unstable();
        wanted.dedup();
        if wanted.is_empty() { Aggregate::ALL.to_vec() } else { wanted }
    }

    pub(crate) fn reader(&self, block: &ServedBlock, context: &RequestContext) -> BlockReader {
        let settings = ReaderSettings {
            batch_series: self.batch_series,
            prefetch: self.prefetch,
            ..ReaderSettings::default()
        };
        tsdb_reader(block, context, settings)
    }
}

/// A reader whose reads count for the request.
pub(crate) fn tsdb_reader(
    block: &ServedBlock,
    context: &RequestContext,
    settings: ReaderSettings,
) -> BlockReader {
    let shared = &context.shared;
    BlockReader::new(
        shared.bucket.clone(),
        Arc::clone(&block.meta),
        shared.headers.clone(),
        settings,
    )
    .counting(Arc::clone(&context.stats))
    .charging(context.memory().share)
}

/// The same reader without what is deleted, as of the last sync, and the memory for what that is.
async fn without_deleted(
    reader: BlockReader,
    block: &ServedBlock,
    context: &RequestContext,
) -> std::result::Result<(BlockReader, Option<Reservation>), BlockError> {
    let Some(version) = &block.tombstones else { return Ok((reader, None)) };
    let GatewayShared { bucket, tombstones, .. } = &*context.shared;
    let share = context.memory().share;
    let deleted = tombstones.get(bucket, &block.location, version, &share).await?;
    // the cache keeps only what has room in it
    let mut held = share.reserve(format!("what is deleted of block={}", block.id()));
    held.grow(deleted.memory() as u64).map_err(storeapi::Error::from)?;
    Ok((reader.deleting(deleted), Some(held)))
}

/// Loads the index header, or finds it in the cache.
pub(crate) async fn open_tsdb(
    reader: &BlockReader,
    context: &RequestContext,
) -> std::result::Result<Arc<tsdb::index::IndexHeader>, BlockError> {
    // finding it in the cache need not wait for others to load
    let _permit = match context.shared.was_loaded(reader.meta().ulid) {
        true => None,
        false => context.shared.opening.acquire().await.ok(),
    };
    let stats = Arc::new(ReadStats::default());
    let header = reader.counting(Arc::clone(&stats)).header().await?;
    let loaded = stats.header_bytes.load(Ordering::Relaxed);
    context.shared.header_used(reader.meta().ulid, loaded > 0);
    context.stats.header_bytes.fetch_add(loaded, Ordering::Relaxed);
    Ok(header)
}

pub(crate) async fn open_parquet(
    block: &ServedBlock,
    context: &RequestContext,
) -> std::result::Result<ParquetBlock, BlockError> {
    let shared = &context.shared;
    let _permit = shared.opening.acquire().await;
    let (location, meta) = (&block.location, &block.meta);
    let opened = ParquetBlock::open(&shared.bucket, location, meta, &shared.footers).await?;
    Ok(opened.within(context.memory().reads))
}

/// The task behind a source.
struct BlockTask {
    pick: PickedBlock,
    plan: Arc<SourcePlan>,
    change: LabelChange,
    context: Arc<RequestContext>,
    sender: mpsc::Sender<std::result::Result<SourceBatch, BlockError>>,
}

impl BlockTask {
    async fn run(&self) -> std::result::Result<(), BlockError> {
        if self.pick.block.location.is_parquet() {
            self.read_parquet().await
        } else {
            self.read_tsdb().await
        }
    }

    async fn read_tsdb(&self) -> std::result::Result<(), BlockError> {
        let reader = self.plan.reader(&self.pick.block, &self.context);
        let header = open_tsdb(&reader, &self.context).await?;
        let touched = header.label_names().any(|name| self.change.touches(name));
        drop(header);
        let (reader, _held) = without_deleted(reader, &self.pick.block, &self.context).await?;
        let mut sorter = self.sorter(touched);
        let query = SeriesQuery {
            matchers: self.pick.matchers.to_vec(),
            range: self.pick.range,
            skip_chunks: self.plan.request.skip_chunks,
        };
        let mut entries = reader.entries(query);
        while self.has_room().await
            && let Some(batch) = entries.try_next().await?
        {
            self.context.check_downloaded()?;
            for entry in batch.entries {
                sorter.push(&entry.labels.clone(), Content::Stored(entry, None))?;
            }
            if !batch.errors.is_empty() {
                self.context.found_damage(&self.pick.block);
            }
            let broken = batch
                .errors
                .iter()
                .map(|e| format!("a series is left out: {}", in_one_line(e)))
                .collect();
            if !self.send(self.sorted(&mut sorter)?, broken).await? {
                return Ok(());
            }
        }
        sorter.end();
        self.send(self.sorted(&mut sorter)?, Vec::new()).await?;
        Ok(())
    }

    async fn read_parquet(&self) -> std::result::Result<(), BlockError> {
        let parquet = open_parquet(&self.pick.block, &self.context).await?;
        let names =
            if self.change.is_identity() { Vec::new() } else { parquet.label_names(&[]).await? };
        let touched = names.iter().any(|name| self.change.touches(name.as_bytes()));
        let mut sorter = self.sorter(touched);
        let query = Arc::new(self.plan.windows(&self.pick));
        let source = Arc::new(WindowSource { block: parquet, query });
        let WindowSource { block, query } = &*source;
        let mut batches = block.entries(query, self.plan.batch_series);
        while self.has_room().await
            && let Some(batch) = batches.try_next().await?
        {
            self.context.stats.series.fetch_add(batch.len() as u64, Ordering::Relaxed);
            for SeriesEntry { labels, place } in batch {
                let bytes = place.chunk_bytes(query);
                let entry = WindowEntry { source: Arc::clone(&source), place, bytes };
                sorter.push(&labels, Content::Windows(entry, None))?;
            }
            if !self.send(self.sorted(&mut sorter)?, Vec::new()).await? {
                return Ok(());
            }
        }
        sorter.end();
        self.send(self.sorted(&mut sorter)?, Vec::new()).await?;
        Ok(())
    }

    /// Adds external labels, removes replica labels and puts series into the new order.
    fn sorter(&self, touched: bool) -> ResortByRun<Content> {
        let incoming = if touched { Incoming::Any } else { Incoming::Untouched };
        let what = format!("sorting series of block={}", self.pick.block.id());
        ResortByRun::new(self.change.clone(), incoming, self.context.memory().share.reserve(what))
    }

    /// The series whose place is certain, without those of other shards.
    fn sorted(&self, sorter: &mut ResortByRun<Content>) -> Result<Vec<SourceSeries>> {
        let mut heads = Vec::new();
        while let Some((labels, content)) = sorter.pop()? {
            if self.plan.wants(&labels) {
                heads.push(SourceSeries { labels, content });
            }
        }
        Ok(heads)
    }

    /// Waits until the merge took what was sent; returns whether it still exists. Only then is more
    /// read.
    async fn has_room(&self) -> bool {
        self.sender.reserve().await.is_ok()
    }

    /// Returns whether the receiver still exists.
    async fn send(
        &self,
        heads: Vec<SourceSeries>,
        broken: Vec<String>,
    ) -> std::result::Result<bool, BlockError> {
        if heads.is_empty() && broken.is_empty() {
            return Ok(!self.sender.is_closed());
        }
        let mut reservation = self.context.memory().share.reserve("series of a block");
        let bytes = heads.iter().map(SourceSeries::weight).sum();
        reservation.grow(bytes).map_err(storeapi::Error::from)?;
        Ok(self.sender.send(Ok(SourceBatch { heads, broken, reservation })).await.is_ok())
    }
}

impl SourceSeries {
    /// Bytes in memory, approximately.
    fn weight(&self) -> u64 {
        let content = match &self.content {
            Content::Stored(entry, _) => {
                entry.labels.as_packed().len() + size_of_val(&entry.chunks[..])
            }
            Content::Windows(..) => 0,
        };
        (size_of::<SourceSeries>() + self.labels.as_packed().len() + content) as u64
    }
}

impl Carried for Content {
    fn weight(&self) -> u64 {
        match self {
            Content::Stored(entry, _) => place_bytes(entry),
            Content::Windows(..) => size_of::<WindowEntry>() as u64,
        }
    }

    fn set_replica(&mut self, number: u64) {
        match self {
            Content::Stored(_, replica) | Content::Windows(_, replica) => *replica = Some(number),
        }
    }
}

fn place_bytes(entry: &BlockEntry) -> u64 {
    (size_of::<BlockEntry>() + entry.chunks.len() * size_of::<ChunkSpan>()) as u64
}
