//! The series of several blocks as one stream in order of labels.

use std::sync::Arc;

use block::Bucket;
use block::reader::{BlockReader, BlockSeries, HeaderCache, ReaderSettings, SeriesBatch, SeriesQuery};
use futures::StreamExt;
use futures::stream::BoxStream;
use merge::{LoserTree, SeriesChunk, Vertical, merge_vertically};
use model::{BlockId, Labels};
use tsdb::meta::BlockMeta;

use crate::{Error, Result};

/// Index headers of the blocks at work; they are read once each, so this only has to hold a few.
const HEADER_CACHE_BYTES: u64 = 64 << 20;

/// What is fetched ahead per block: twice this.
const BATCH_BYTES: u64 = 4 << 20;

/// A series with all its chunks, sorted and without overlap.
pub(crate) type MergedSeries = (Labels, Vec<SeriesChunk>);

/// Blocks that are read front to back together.
pub(crate) struct Inputs {
    readers: Vec<BlockReader>,
    how: Vertical,
}

impl Inputs {
    /// The order of `blocks` decides between equal samples of overlapping ones, so they are sorted by id.
    pub(crate) fn new(bucket: &Bucket, blocks: &[Arc<BlockMeta>], how: Vertical) -> Inputs {
        let headers = HeaderCache::new(HEADER_CACHE_BYTES);
        let settings = ReaderSettings { batch_bytes: BATCH_BYTES, ..ReaderSettings::default() };
        let mut blocks = blocks.to_vec();
        blocks.sort_by_key(|b| b.ulid);
        let open = |meta: Arc<BlockMeta>| BlockReader::new(bucket.clone(), meta, headers.clone(), settings);
        Inputs { readers: blocks.into_iter().map(open).collect(), how }
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
        let merge = Merge { sources, tree: LoserTree::with_order(heads, by_labels), how: self.how };
        let step = |mut merge: Merge<_>| async move { Ok(merge.next().await?.map(|series| (series, merge))) };
        Ok(futures::stream::try_unfold(merge, step).boxed())
    }
}

struct Source {
    id: BlockId,
    stream: BoxStream<'static, block::Result<SeriesBatch>>,
    batch: std::vec::IntoIter<BlockSeries>,
}

impl Source {
    fn new(reader: &BlockReader) -> Source {
        let stream = reader.series(SeriesQuery::all());
        Source { id: reader.meta().ulid, stream, batch: Vec::new().into_iter() }
    }

    async fn next(&mut self) -> Result<Option<BlockSeries>> {
        loop {
            if let Some(series) = self.batch.next() {
                return Ok(Some(series));
            }
            let Some(batch) = self.stream.next().await else { return Ok(None) };
            let mut batch = batch.map_err(|e| Error::of_block(self.id)(e.into()))?;
            if !batch.errors.is_empty() {
                return Err(Error::of_block(self.id)(batch.errors.swap_remove(0).into()));
            }
            self.batch = batch.series.into_iter();
        }
    }
}

struct Merge<C> {
    sources: Vec<Source>,
    tree: LoserTree<BlockSeries, C>,
    how: Vertical,
}

impl<C: Fn(&BlockSeries, &BlockSeries) -> std::cmp::Ordering> Merge<C> {
    async fn next(&mut self) -> Result<Option<MergedSeries>> {
        let Some((_, head)) = self.tree.peek() else { return Ok(None) };
        let labels = head.labels.clone();
        let mut lists = Vec::with_capacity(self.sources.len());
        let mut last = None;
        while let Some((source, head)) = self.tree.peek() {
            if head.labels != labels {
                break;
            }
            let next = self.sources[source].next().await?;
            let series = self.tree.replace(next).expect("peeked above");
            let id = self.sources[source].id;
            lists.push(in_memory_form(series).map_err(Error::of_block(id))?);
            last = Some(id);
        }
        let merged = match lists.len() {
            // one block's own chunks do not overlap, as a rule; merging settles those that do
            1 if !overlaps(&lists[0]) => lists.swap_remove(0),
            _ => merge_vertically(lists, self.how).map_err(|e| match last {
                Some(id) => Error::of_block(id)(e.into()),
                None => e.into(),
            })?,
        };
        Ok(Some((labels, merged)))
    }
}

fn overlaps(chunks: &[SeriesChunk]) -> bool {
    chunks.windows(2).any(|pair| pair[1].min_time <= pair[0].max_time)
}

fn in_memory_form(series: BlockSeries) -> Result<Vec<SeriesChunk>> {
    let form = |c: block::reader::BlockChunk| SeriesChunk::from_stored((c.min_time, c.max_time), c.encoding, c.data);
    Ok(series.chunks.into_iter().map(form).collect::<std::result::Result<_, tsdb::Error>>()?)
}
