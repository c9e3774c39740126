//! The series of several blocks as one stream in order of labels, and the checks on it: every block
//! gives as many series and samples as its `meta.json` says, and merging neither invents nor drops
//! any.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;

use block::Bucket;
use block::LoadedTombstones;
use block::reader::{BlockReader, BlockSeries, HeaderCache, ReaderSettings};
use block::sync::SyncedBlock;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt, TryFutureExt, TryStreamExt};
use merge::{ChunkContent, Dedup, KWay, SeriesChunk, Step, merge_vertically};
use model::error::in_one_line;
use model::{BlockId, Budget, Labels};
use tsdb::chunk;
use tsdb::index::{IndexHeader, SymbolTable, SymbolUnion};
use tsdb::meta::BlockMeta;

use crate::conflict::Conflicts;
use crate::error::Case;
use crate::identity::Parent;
use crate::readahead::{self, BlockStreams};
use crate::{Error, Result};

/// The most bytes that the deleted spans of all blocks of a job take in memory.
const TOMBSTONE_BYTES: u64 = 384 << 20;

/// How many headers are read, and in memory in the form of the index, at a time.
const HEADERS_AT_A_TIME: usize = 8;

/// Repeats a job where a block's series turned out to be out of order in the middle of it: from
/// then on `headers` causes the block to be sorted first. That can happen once for each block.
pub(crate) async fn in_order<T, F: Future<Output = Result<T>>>(
    inputs: usize,
    job: impl Fn(HeaderCache) -> F,
) -> Result<T> {
    // every reader gets a header of its own; the cache only remembers which blocks must be sorted
    let headers = HeaderCache::new(0);
    for _ in 0..inputs {
        match job(headers.clone()).await {
            Err(e) if e.is_disorder() => {
                tracing::warn!(error = %in_one_line(&e), "series are sorted first, and the job is \
                    begun anew")
            }
            done => return done,
        }
    }
    job(headers).await
}

/// A series with all its chunks, sorted and without overlap.
pub(crate) type MergedSeries = (Labels, Vec<SeriesChunk>);

/// A block to read, with its deleted spans.
#[derive(Clone, Debug)]
pub(crate) struct InputBlock {
    pub(crate) meta: Arc<BlockMeta>,
    tombstones: Option<LoadedTombstones>,
}

impl InputBlock {
    /// Reads the tombstones, if the block has any.
    pub(crate) async fn open(bucket: &Bucket, block: &SyncedBlock) -> Result<InputBlock> {
        InputBlock::open_within(bucket, block, &Budget::new(TOMBSTONE_BYTES)).await
    }

    async fn open_within(
        bucket: &Bucket,
        block: &SyncedBlock,
        memory: &Budget,
    ) -> Result<InputBlock> {
        let tombstones = match block.tombstones {
            Some(_) => {
                let loaded = block::load_tombstones(bucket, &block.location, memory).await;
                loaded.map_err(|e| Error::of_block(block.id())(e.into()))?
            }
            None => None,
        };
        Ok(InputBlock { meta: Arc::clone(&block.meta), tombstones })
    }

    pub(crate) async fn open_all(
        bucket: &Bucket,
        blocks: &[SyncedBlock],
    ) -> Result<Vec<InputBlock>> {
        /// Files of tombstones fetched at a time.
        const PARALLEL: usize = 16;
        /// Longer ones are fetched one after the other, so that none is refused because of another
        /// that is about to become smaller.
        const SHORT: u64 = 256 << 10;
        let memory = Budget::new(TOMBSTONE_BYTES);
        let is_long =
            |block: &SyncedBlock| block.tombstones.as_ref().is_some_and(|t| t.size > SHORT);
        let numbered = blocks.iter().enumerate();
        let (long, short): (Vec<_>, Vec<_>) = numbered.partition(|(_, block)| is_long(block));
        let mut opened = BTreeMap::new();
        for (blocks, at_a_time) in [(long, 1), (short, PARALLEL)] {
            let open: Vec<_> = blocks
                .into_iter()
                .map(|(at, block)| {
                    let open = InputBlock::open_within(bucket, block, &memory);
                    open.map_ok(move |block| (at, block)).boxed()
                })
                .collect();
            let mut open = futures::stream::iter(open).buffered(at_a_time);
            while let Some((at, block)) = open.try_next().await? {
                opened.insert(at, block);
            }
        }
        Ok(opened.into_values().collect())
    }

    pub(crate) fn id(&self) -> BlockId {
        self.meta.ulid
    }

    pub(crate) fn parent(&self) -> Parent {
        Parent { id: self.id(), tombstones: self.tombstones.as_ref().map(|t| t.digest) }
    }

    pub(crate) fn reader(
        &self,
        bucket: &Bucket,
        headers: HeaderCache,
        settings: ReaderSettings,
    ) -> BlockReader {
        let reader = BlockReader::new(bucket.clone(), Arc::clone(&self.meta), headers, settings);
        match &self.tombstones {
            Some(loaded) => reader.deleting(Arc::clone(&loaded.tombstones)),
            None => reader,
        }
    }
}

/// Blocks that are read front to back together.
pub(crate) struct InputBlocks {
    readers: Vec<BlockReader>,
    how: Dedup,
    symbols: Option<Arc<SymbolTable>>,
    conflicts: Option<Conflicts>,
}

impl InputBlocks {
    /// The order of `inputs` decides between equal samples of overlapping blocks, so they are
    /// sorted by id.
    pub(crate) fn new(
        bucket: &Bucket,
        inputs: &[InputBlock],
        how: Dedup,
        headers: &HeaderCache,
    ) -> InputBlocks {
        let settings = readahead::settings(inputs.len());
        InputBlocks::of(
            inputs.iter().map(|input| input.reader(bucket, headers.clone(), settings)),
            how,
        )
    }

    fn of(readers: impl Iterator<Item = BlockReader>, how: Dedup) -> InputBlocks {
        let mut readers: Vec<BlockReader> = readers.collect();
        readers.sort_by_key(|reader| reader.meta().ulid);
        InputBlocks { readers, how, symbols: None, conflicts: None }
    }

    /// Ends the stream with an error if the blocks contradict each other too often to be of one
    /// Prometheus server.
    pub(crate) fn refusing_conflicts(self) -> InputBlocks {
        InputBlocks { conflicts: Some(Conflicts::default()), ..self }
    }

    /// All names and values of labels, sorted, without duplicates. The readers share them from now
    /// on.
    pub(crate) async fn symbols(&mut self) -> Result<Arc<SymbolTable>> {
        if let Some(symbols) = &self.symbols {
            return Ok(Arc::clone(symbols));
        }
        let mut union = SymbolUnion::new();
        let mut headers = Vec::with_capacity(self.readers.len());
        for readers in self.readers.chunks(HEADERS_AT_A_TIME) {
            let read = readers.iter().map(|reader| async {
                reader
                    .scan_header()
                    .await
                    .map_err(|e| Error::of_block(reader.meta().ulid)(e.into()))
            });
            let (rest, symbols) = futures::future::try_join_all(read)
                .await?
                .into_iter()
                .map(IndexHeader::split)
                .unzip();
            let rest: Vec<IndexHeader> = rest;
            headers.extend(rest);
            union.add(symbols)?;
        }
        let (table, parts) = union.finish();
        let readers = std::mem::take(&mut self.readers).into_iter().zip(headers).zip(parts);
        self.readers = readers
            .map(|((reader, header), symbols)| {
                reader.with_header(Arc::new(header.with_symbols(symbols)))
            })
            .collect();
        self.symbols = Some(Arc::clone(&table));
        Ok(table)
    }

    /// The series, merged. A broken series ends the stream with an error that names its block: an
    /// output that lacks it would lose it for good.
    pub(crate) async fn series(mut self) -> Result<BoxStream<'static, Result<MergedSeries>>> {
        self.symbols().await?;
        let mut sources = BlockStreams::new(&self.readers);
        let mut heads = Vec::with_capacity(sources.len());
        for source in 0..sources.len() {
            heads.push(sources.next(source).await?);
        }
        let heads = KWay::new(heads, |a, b| a.labels.cmp(&b.labels), |a, b| a.labels == b.labels);
        let merge = SeriesMerge { sources, heads, how: self.how, conflicts: self.conflicts };
        let step = |mut merge: SeriesMerge| async move {
            Ok(merge.next().await?.map(|series| (series, merge)))
        };
        Ok(futures::stream::try_unfold(merge, step).boxed())
    }
}

struct SeriesMerge {
    sources: BlockStreams,
    heads: KWay<BlockSeries>,
    how: Dedup,
    conflicts: Option<Conflicts>,
}

impl SeriesMerge {
    async fn next(&mut self) -> Result<Option<MergedSeries>> {
        loop {
            match self.heads.step() {
                Step::Pull(source) => self.heads.give(self.sources.next(source).await?),
                Step::Group => return self.join(),
                Step::End => {
                    if let Some(conflicts) = &self.conflicts {
                        conflicts.settle()?;
                    }
                    return Ok(None);
                }
            }
        }
    }

    /// Makes one series of all that have the same labels.
    fn join(&mut self) -> Result<Option<MergedSeries>> {
        let (mut labels, mut last) = (None, None);
        let mut lists = Vec::new();
        for (source, series) in self.heads.take_group() {
            let id = self.sources.id(source);
            labels.get_or_insert_with(|| series.labels.clone());
            lists.push(in_memory_form(series).map_err(Error::of_block(id))?);
            last = Some(id);
        }
        let Some(labels) = labels else { return Ok(None) };
        let of_last = |e: Error| match last {
            Some(id) => Error::of_block(id)(e),
            None => e,
        };
        if let Some(conflicts) = self.conflicts.as_mut().filter(|_| lists.len() > 1) {
            conflicts.add(merge::agreement(&lists).map_err(|e| of_last(e.into()))?)?;
        }
        let merged = combine(lists, self.how).map_err(of_last)?;
        Ok(Some((labels, merged)))
    }
}

/// Merges the lists of chunks of a series, one per block, into one, and checks that no sample is
/// lost or invented.
fn combine(mut lists: Vec<Vec<SeriesChunk>>, how: Dedup) -> Result<Vec<SeriesChunk>> {
    // one block's own chunks usually do not overlap; merging takes care of those that do
    if lists.len() == 1 && is_in_order(&lists[0]) {
        return Ok(lists.swap_remove(0));
    }
    let bounds = CountBounds::of(&lists, how)?;
    let merged = merge_vertically(lists, how)?;
    let came_out = samples(&merged)?;
    if came_out < bounds.least || came_out > bounds.all || !is_in_order(&merged) {
        let CountBounds { least, all } = bounds;
        let reason =
            format!("{came_out} samples came out of {all} of a series, {least} at least were to");
        return Err(Error(Case::Unsound { reason }));
    }
    Ok(merged)
}

/// How many samples may come out of a merge.
struct CountBounds {
    least: u64,
    all: u64,
}

impl CountBounds {
    fn of(lists: &[Vec<SeriesChunk>], how: Dedup) -> Result<CountBounds> {
        let counts = lists.iter().map(|list| samples(list)).collect::<Result<Vec<u64>>>()?;
        let all: u64 = counts.iter().sum();
        let least = if !are_overlapping(lists) {
            all
        } else if how == Dedup::Chain && lists.iter().all(|list| is_in_order(list)) {
            // one of the samples at equal times stays, so the result is at least as long as the
            // longest list
            counts.into_iter().max().unwrap_or(0)
        } else {
            all.min(1)
        };
        Ok(CountBounds { least, all })
    }
}

/// The number of encoded samples; for downsampled chunks, of windows.
pub(crate) fn samples(chunks: &[SeriesChunk]) -> Result<u64> {
    let mut total = 0;
    for chunk in chunks {
        total += match &chunk.content {
            ChunkContent::Raw(raw) => chunk::num_samples(raw.encoding, &raw.data)? as u64,
            ChunkContent::Aggregates(parts) => match parts.iter().flatten().next() {
                Some(part) => chunk::num_samples(part.encoding, &part.data)? as u64,
                None => 0,
            },
        };
    }
    Ok(total)
}

fn are_overlapping(lists: &[Vec<SeriesChunk>]) -> bool {
    let mut spans: Vec<(i64, i64)> =
        lists.iter().flatten().map(|c| (c.min_time, c.max_time)).collect();
    spans.sort_unstable();
    spans.windows(2).any(|pair| pair[1].0 <= pair[0].1)
}

fn is_in_order(chunks: &[SeriesChunk]) -> bool {
    chunks.windows(2).all(|pair| pair[0].max_time < pair[1].min_time)
}

fn in_memory_form(series: BlockSeries) -> Result<Vec<SeriesChunk>> {
    let form = |c: block::reader::BlockChunk| {
        SeriesChunk::from_stored(c.min_time, c.max_time, c.encoding, c.data)
    };
    Ok(series.chunks.into_iter().map(form).collect::<std::result::Result<_, tsdb::Error>>()?)
}

#[cfg(test)]
mod tests;
