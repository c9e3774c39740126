//! The series of several blocks as one stream in order of labels, and what must hold of it: every block gives as many
//! series and samples as its `meta.json` says, and merging neither invents nor drops any.

use std::future::Future;
use std::sync::Arc;

use block::reader::{BlockReader, BlockSeries, HeaderCache, ReaderSettings, SeriesBatch, SeriesQuery};
use block::sync::SyncedBlock;
use block::{Bucket, LoadedTombstones, StoredCounts};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use merge::{ChunkContent, LoserTree, SeriesChunk, Vertical, merge_vertically};
use model::{BlockId, Labels};
use tsdb::chunk;
use tsdb::meta::BlockMeta;

use crate::conflict::Conflicts;
use crate::identity::Parent;
use crate::{Error, Result};

/// Index headers of the blocks at work; they are read once each, so this only has to hold a few.
const HEADER_CACHE_BYTES: u64 = 64 << 20;

/// What is fetched ahead per block: twice this.
const BATCH_BYTES: u64 = 4 << 20;

/// For the index headers of one job. It also remembers which blocks must be sorted to be read.
pub(crate) fn headers() -> HeaderCache {
    HeaderCache::new(HEADER_CACHE_BYTES)
}

/// Does a job again where a block's series showed themselves out of order in the middle of it: from then on `headers`
/// has the block sorted first. Each block can show that once.
pub(crate) async fn in_order<T, F: Future<Output = Result<T>>>(
    inputs: usize,
    job: impl Fn(HeaderCache) -> F,
) -> Result<T> {
    let headers = headers();
    for _ in 0..inputs {
        match job(headers.clone()).await {
            Err(e) if e.is_disorder() => {
                tracing::warn!(error = %e, "series are sorted first, and the job is begun anew")
            }
            done => return done,
        }
    }
    job(headers).await
}

/// A series with all its chunks, sorted and without overlap.
pub(crate) type MergedSeries = (Labels, Vec<SeriesChunk>);

/// A block to read, with what was deleted of it.
#[derive(Clone, Debug)]
pub(crate) struct Input {
    pub(crate) meta: Arc<BlockMeta>,
    tombstones: Option<LoadedTombstones>,
}

impl Input {
    /// Reads the tombstones, if the block has any.
    pub(crate) async fn open(bucket: &Bucket, block: &SyncedBlock) -> Result<Input> {
        let tombstones = match block.tombstones {
            Some(_) => {
                let loaded = block::load_tombstones(bucket, &block.location).await;
                loaded.map_err(|e| Error::of_block(block.id())(e.into()))?
            }
            None => None,
        };
        Ok(Input { meta: Arc::clone(&block.meta), tombstones })
    }

    pub(crate) async fn open_all(bucket: &Bucket, blocks: &[SyncedBlock]) -> Result<Vec<Input>> {
        /// Files of tombstones fetched at a time.
        const PARALLEL: usize = 16;
        let opened = blocks.iter().map(|block| Input::open(bucket, block));
        futures::stream::iter(opened).buffered(PARALLEL).try_collect().await
    }

    pub(crate) fn id(&self) -> BlockId {
        self.meta.ulid
    }

    pub(crate) fn parent(&self) -> Parent {
        Parent { id: self.id(), tombstones: self.tombstones.as_ref().map(|t| t.digest) }
    }

    fn reader(&self, bucket: &Bucket, headers: HeaderCache, settings: ReaderSettings) -> BlockReader {
        let reader = BlockReader::new(bucket.clone(), Arc::clone(&self.meta), headers, settings);
        match &self.tombstones {
            Some(loaded) => reader.deleting(Arc::clone(&loaded.tombstones)),
            None => reader,
        }
    }
}

/// Blocks that are read front to back together.
pub(crate) struct Inputs {
    readers: Vec<BlockReader>,
    how: Vertical,
    conflicts: Option<Conflicts>,
}

impl Inputs {
    /// The order of `inputs` decides between equal samples of overlapping blocks, so they are sorted by id.
    pub(crate) fn new(bucket: &Bucket, inputs: &[Input], how: Vertical, headers: &HeaderCache) -> Inputs {
        let settings = ReaderSettings { batch_bytes: BATCH_BYTES, ..ReaderSettings::default() };
        let mut inputs = inputs.to_vec();
        inputs.sort_by_key(Input::id);
        let readers = inputs.iter().map(|input| input.reader(bucket, headers.clone(), settings)).collect();
        Inputs { readers, how, conflicts: None }
    }

    /// Ends the stream with an error where the blocks contradict each other too often to be of one Prometheus.
    pub(crate) fn refusing_conflicts(self) -> Inputs {
        Inputs { conflicts: Some(Conflicts::default()), ..self }
    }

    /// All names and values of labels, sorted, without doubles.
    pub(crate) async fn symbols(&self) -> Result<Vec<Vec<u8>>> {
        let mut symbols = Vec::new();
        for reader in &self.readers {
            let header = reader.header().await.map_err(|e| Error::of_block(reader.meta().ulid)(e.into()))?;
            symbols.extend(header.symbols().iter().map(<[u8]>::to_vec));
        }
        symbols.sort_unstable();
        symbols.dedup();
        Ok(symbols)
    }

    /// The series, merged. A broken series ends the stream with an error that names its block: an output that lacks
    /// it would lose it for good.
    pub(crate) async fn series(self) -> Result<BoxStream<'static, Result<MergedSeries>>> {
        let mut sources: Vec<Source> = self.readers.iter().map(Source::new).collect();
        let mut heads = Vec::with_capacity(sources.len());
        for source in &mut sources {
            heads.push(source.next().await?);
        }
        let by_labels = |a: &BlockSeries, b: &BlockSeries| a.labels.cmp(&b.labels);
        let tree = LoserTree::with_order(heads, by_labels);
        let merge = Merge { sources, tree, how: self.how, conflicts: self.conflicts };
        let step = |mut merge: Merge<_>| async move { Ok(merge.next().await?.map(|series| (series, merge))) };
        Ok(futures::stream::try_unfold(merge, step).boxed())
    }
}

struct Source {
    meta: Arc<BlockMeta>,
    stream: BoxStream<'static, block::Result<SeriesBatch>>,
    batch: std::vec::IntoIter<BlockSeries>,
    /// What was read so far, deleted samples too.
    read: StoredCounts,
}

impl Source {
    fn new(reader: &BlockReader) -> Source {
        let stream = reader.series(SeriesQuery::all());
        let (meta, batch) = (Arc::clone(reader.meta()), Vec::new().into_iter());
        Source { meta, stream, batch, read: StoredCounts::default() }
    }

    async fn next(&mut self) -> Result<Option<BlockSeries>> {
        loop {
            if let Some(series) = self.batch.next() {
                return Ok(Some(series));
            }
            let Some(batch) = self.stream.next().await else {
                self.check()?;
                return Ok(None);
            };
            let mut batch = batch.map_err(|e| self.failed(e))?;
            if !batch.errors.is_empty() {
                return Err(self.failed(batch.errors.swap_remove(0)));
            }
            self.read.series += batch.stored.series;
            self.read.samples += batch.stored.samples;
            self.batch = batch.series.into_iter();
        }
    }

    fn failed(&self, error: block::Error) -> Error {
        Error::of_block(self.meta.ulid)(error.into())
    }

    /// Holds what was read of the whole block against its meta; counts that are not stated are not known.
    fn check(&self) -> Result<()> {
        let stats = &self.meta.stats;
        let differs = |stated: u64, read: u64| stated > 0 && stated != read;
        if differs(stats.num_series, self.read.series) || differs(stats.num_samples, self.read.samples) {
            let reason = format!(
                "{} series with {} samples can be read of it, but its meta.json says {} with {}",
                self.read.series, self.read.samples, stats.num_series, stats.num_samples
            );
            return Err(Error::of_block(self.meta.ulid)(Error::Miscounted { reason }));
        }
        Ok(())
    }
}

struct Merge<C> {
    sources: Vec<Source>,
    tree: LoserTree<BlockSeries, C>,
    how: Vertical,
    conflicts: Option<Conflicts>,
}

impl<C: Fn(&BlockSeries, &BlockSeries) -> std::cmp::Ordering> Merge<C> {
    async fn next(&mut self) -> Result<Option<MergedSeries>> {
        let Some((_, head)) = self.tree.peek() else {
            if let Some(conflicts) = &self.conflicts {
                conflicts.settle()?;
            }
            return Ok(None);
        };
        let labels = head.labels.clone();
        let mut lists = Vec::new();
        let mut last = None;
        while let Some((source, head)) = self.tree.peek() {
            if head.labels != labels {
                break;
            }
            let next = self.sources[source].next().await?;
            let series = self.tree.replace(next).expect("peeked above");
            let id = self.sources[source].meta.ulid;
            lists.push(in_memory_form(series).map_err(Error::of_block(id))?);
            last = Some(id);
        }
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

/// One list of chunks of a series per block becomes one, and no sample is lost or made up on the way.
fn combine(mut lists: Vec<Vec<SeriesChunk>>, how: Vertical) -> Result<Vec<SeriesChunk>> {
    // one block's own chunks do not overlap, as a rule; merging settles those that do
    if lists.len() == 1 && is_in_order(&lists[0]) {
        return Ok(lists.swap_remove(0));
    }
    let bounds = Bounds::of(&lists, how)?;
    let merged = merge_vertically(lists, how)?;
    let came_out = samples(&merged)?;
    if came_out < bounds.least || came_out > bounds.all || !is_in_order(&merged) {
        let Bounds { least, all } = bounds;
        let reason = format!("{came_out} samples came out of {all} of a series, {least} at least were to");
        return Err(Error::Unsound { reason });
    }
    Ok(merged)
}

/// How many samples may come out of a merge.
struct Bounds {
    least: u64,
    all: u64,
}

impl Bounds {
    fn of(lists: &[Vec<SeriesChunk>], how: Vertical) -> Result<Bounds> {
        let counts = lists.iter().map(|list| samples(list)).collect::<Result<Vec<u64>>>()?;
        let all: u64 = counts.iter().sum();
        let least = if !are_overlapping(lists) {
            all
        } else if how == Vertical::Chain && lists.iter().all(|list| is_in_order(list)) {
            // of samples at equal times one stays, so the longest list comes out at least
            counts.into_iter().max().unwrap_or(0)
        } else {
            all.min(1)
        };
        Ok(Bounds { least, all })
    }
}

/// Encoded samples; of downsampled chunks their windows.
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
    let mut spans: Vec<(i64, i64)> = lists.iter().flatten().map(|c| (c.min_time, c.max_time)).collect();
    spans.sort_unstable();
    spans.windows(2).any(|pair| pair[1].0 <= pair[0].1)
}

fn is_in_order(chunks: &[SeriesChunk]) -> bool {
    chunks.windows(2).all(|pair| pair[0].max_time < pair[1].min_time)
}

fn in_memory_form(series: BlockSeries) -> Result<Vec<SeriesChunk>> {
    let form = |c: block::reader::BlockChunk| SeriesChunk::from_stored((c.min_time, c.max_time), c.encoding, c.data);
    Ok(series.chunks.into_iter().map(form).collect::<std::result::Result<_, tsdb::Error>>()?)
}
