//! TSDB blocks in local folders. Files are read whole.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use merge::{Series, SeriesChunk, merge_series_chunks};
use model::{Labels, TimeRange};
use tsdb::index::{ChunkMeta, Index, SeriesReader};
use tsdb::meta::BlockMeta;
use tsdb::segment::{ChunkRef, parse_record, segment_name};

use crate::{Error, Kind, Select, SeriesSource, SourceEvent, SourceStream};

/// The most series of an event, and the number of chunks after which it ends: enough work for a
/// worker, but not so much that the others wait for the last one.
const BATCH_SERIES: usize = 64;
const BATCH_CHUNKS: usize = 512;

/// How a [`TsdbSource`] presents its blocks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TsdbSourceSettings {
    /// Add the blocks' external labels to their series, in place of labels of the same names.
    pub external_labels: bool,
    /// Labels to remove, so that replicas become one series.
    pub replica_labels: Vec<String>,
}

/// Blocks that are open.
#[derive(Debug)]
pub struct TsdbSource {
    blocks: Arc<Vec<OpenBlock>>,
    settings: TsdbSourceSettings,
}

#[derive(Debug)]
struct OpenBlock {
    name: String,
    meta: BlockMeta,
    external: Labels,
    index: Index,
    segments: Vec<Bytes>,
}

/// A series in a block, before its chunks are looked at.
struct IndexedSeries {
    labels: Labels,
    chunks: Vec<ChunkMeta>,
    /// The replica of each chunk, see [`SeriesChunk::replica`]; empty where no labels were removed.
    replicas: Vec<u64>,
}

fn failed(
    what: &dyn std::fmt::Display,
    cause: impl std::error::Error + Send + Sync + 'static,
) -> Error {
    Error::expanding_series(Error::caused(Kind::Execution, what.to_string(), cause))
}

impl TsdbSource {
    /// Opens block folders.
    ///
    /// # Errors
    /// Files that are missing or broken, by name.
    pub fn open<P: AsRef<Path>>(
        folders: impl IntoIterator<Item = P>,
        settings: TsdbSourceSettings,
    ) -> Result<TsdbSource, Error> {
        let blocks = folders
            .into_iter()
            .map(|f| OpenBlock::open(f.as_ref()))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(TsdbSource { blocks: Arc::new(blocks), settings })
    }

    /// The blocks that answer: at each time the coarsest resolution that is wanted, or a finer one
    /// where that is missing.
    fn chosen(&self, select: &Select) -> Vec<usize> {
        let mut wanted: Vec<usize> = (0..self.blocks.len()).collect();
        wanted.retain(|b| {
            let meta = &self.blocks[*b].meta;
            meta.resolution().millis() <= select.max_resolution_ms
                && meta.range().overlaps(select.range)
        });
        wanted.sort_by_key(|b| std::cmp::Reverse(self.blocks[*b].meta.resolution()));
        let mut chosen: Vec<usize> = Vec::new();
        for b in wanted {
            let block = &self.blocks[b];
            let covers = |c: &usize| {
                let other = &self.blocks[*c];
                let (inner, outer) = (block.meta.range(), other.meta.range());
                other.meta.resolution() > block.meta.resolution()
                    && other.external == block.external
                    && outer.start <= inner.start
                    && inner.end <= outer.end
            };
            if !chosen.iter().any(covers) {
                chosen.push(b);
            }
        }
        chosen
    }

    /// What one block has.
    fn series_of(&self, b: usize, select: &Select) -> Result<SortedSeries, Error> {
        let block = &self.blocks[b];
        let external =
            if self.settings.external_labels { block.external.clone() } else { Labels::empty() };
        // Matchers on external labels are answered by the block, the others by its index.
        let (outer, inner): (Vec<_>, Vec<_>) =
            select.matchers.iter().cloned().partition(|m| external.get(&m.name).is_some());
        let mut ids = Vec::new();
        if outer.iter().all(|m| m.matches(external.get(&m.name).unwrap_or_default())) {
            ids = block.index.postings(&inner).map_err(|e| failed(&block.name, e))?;
        }
        let looked_up = LookUp {
            block: block.name.clone(),
            range: select.range,
            ids: ids.into_iter(),
            reader: block.index.series_reader(),
        };
        if external.is_empty() && self.settings.replica_labels.is_empty() {
            return Ok(SortedSeries::AsIndexed(looked_up));
        }
        let mut found = Vec::new();
        for series in looked_up {
            let IndexedSeries { labels, chunks, mut replicas } = series?;
            let whole = labels.overlaid(&external);
            let labels = whole.without(&self.settings.replica_labels);
            if !self.settings.replica_labels.is_empty() {
                replicas = vec![whole.hash64(); chunks.len()];
            }
            found.push(IndexedSeries { labels, chunks, replicas });
        }
        // a block is in order of its own labels, before some were added and removed
        found.sort_by(|a, b| a.labels.cmp(&b.labels));
        found.dedup_by(|next, kept| {
            let same = next.labels == kept.labels;
            if same {
                kept.chunks.append(&mut next.chunks);
                kept.replicas.append(&mut next.replicas);
            }
            same
        });
        Ok(SortedSeries::Relabelled(found.into_iter()))
    }

    /// The series of all blocks, looked up when they are asked for.
    fn merged(&self, select: &Select) -> Result<TsdbMerge, Error> {
        let mut heads = Vec::new();
        for b in self.chosen(select) {
            let mut rest = self.series_of(b, select)?;
            if let Some(next) = rest.next() {
                heads.push(BlockCursor { block: b, next: next?, rest });
            }
        }
        Ok(TsdbMerge { blocks: Arc::clone(&self.blocks), heads })
    }
}

/// Series of a block in order of their ids, which is also the order of their own labels.
struct LookUp {
    block: String,
    range: TimeRange,
    ids: std::vec::IntoIter<u32>,
    reader: SeriesReader,
}

impl Iterator for LookUp {
    type Item = Result<IndexedSeries, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        for id in self.ids.by_ref() {
            let mut entry = match self.reader.series(id) {
                Ok(entry) => entry,
                Err(e) => return Some(Err(failed(&self.block, e))),
            };
            entry.chunks.retain(|c| self.range.overlaps_closed(c.min_time, c.max_time));
            if !entry.chunks.is_empty() {
                return Some(Ok(IndexedSeries {
                    labels: entry.labels,
                    chunks: entry.chunks,
                    replicas: Vec::new(),
                }));
            }
        }
        None
    }
}

/// Series of a block, sorted by the labels they have in the answer.
enum SortedSeries {
    AsIndexed(LookUp),
    Relabelled(std::vec::IntoIter<IndexedSeries>),
}

impl Iterator for SortedSeries {
    type Item = Result<IndexedSeries, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            SortedSeries::AsIndexed(series) => series.next(),
            SortedSeries::Relabelled(series) => series.next().map(Ok),
        }
    }
}

/// Merges the series of blocks; a series that is in several becomes one.
struct TsdbMerge {
    blocks: Arc<Vec<OpenBlock>>,
    /// One for every block that has a series left.
    heads: Vec<BlockCursor>,
}

struct BlockCursor {
    block: usize,
    next: IndexedSeries,
    rest: SortedSeries,
}

impl TsdbMerge {
    /// The series with the smallest labels, with its chunks.
    fn next_series(&mut self) -> Result<Option<Series>, Error> {
        let least = match self.heads.as_slice() {
            [] => return Ok(None),
            [_] => 0,
            heads => (1..heads.len())
                .fold(0, |a, b| if heads[b].next.labels < heads[a].next.labels { b } else { a }),
        };
        let mut chunks = Vec::new();
        let labels = self.take(least, &mut chunks)?;
        let mut at = least;
        while let Some(head) = self.heads.get(at) {
            if head.next.labels == labels {
                self.take(at, &mut chunks)?;
            } else {
                at += 1;
            }
        }
        Ok(Some(Series { labels, chunks: merge_series_chunks(chunks) }))
    }

    /// Takes the next series of a block, advances to the one after it, and adds its chunks.
    fn take(&mut self, at: usize, chunks: &mut Vec<SeriesChunk>) -> Result<Labels, Error> {
        let head = &mut self.heads[at];
        let block = &self.blocks[head.block];
        let found = match head.rest.next().transpose()? {
            Some(next) => std::mem::replace(&mut head.next, next),
            None => self.heads.remove(at).next,
        };
        chunks.reserve(found.chunks.len());
        for (i, meta) in found.chunks.iter().enumerate() {
            chunks.push(block.chunk(meta)?.with_replica(found.replicas.get(i).copied()));
        }
        Ok(found.labels)
    }

    fn batch(&mut self) -> Option<Result<Vec<Series>, Error>> {
        let (mut batch, mut chunks) = (Vec::new(), 0);
        while batch.len() < BATCH_SERIES && chunks < BATCH_CHUNKS {
            match self.next_series() {
                Ok(Some(series)) => {
                    chunks += series.chunks.len();
                    batch.push(series);
                }
                Ok(None) => break,
                Err(e) => return Some(Err(e)),
            }
        }
        (!batch.is_empty()).then_some(Ok(batch))
    }
}

impl OpenBlock {
    fn open(folder: &Path) -> Result<OpenBlock, Error> {
        let name = folder.display().to_string();
        let read = |file: &str| {
            fs::read(folder.join(file)).map_err(|e| failed(&format!("{name}/{file}"), e))
        };
        let meta = BlockMeta::from_json(&read("meta.json")?).map_err(|e| failed(&name, e))?;
        let index = Index::open(Bytes::from(read("index")?)).map_err(|e| failed(&name, e))?;
        let mut segments = Vec::new();
        loop {
            let file = format!("chunks/{}", segment_name(segments.len() as u32));
            if !folder.join(&file).exists() {
                break;
            }
            segments.push(Bytes::from(read(&file)?));
        }
        let external = meta.external_labels();
        Ok(OpenBlock { name, meta, external, index, segments })
    }

    fn chunk(&self, meta: &ChunkMeta) -> Result<SeriesChunk, Error> {
        let at = ChunkRef::from_raw(meta.reference);
        let missing = || {
            let text = format!("{}: a chunk lies outside its segment", self.name);
            Error::expanding_series(Error::new(Kind::Execution, text))
        };
        let segment = self.segments.get(at.segment as usize).ok_or_else(missing)?;
        let bytes = segment.get(at.offset as usize..).ok_or_else(missing)?;
        let record = parse_record(bytes).map_err(|e| failed(&self.name, e))?;
        let data = segment.slice_ref(record.data);
        let chunk = SeriesChunk::from_stored(meta.min_time, meta.max_time, record.encoding, data);
        Ok(chunk.map_err(|e| failed(&self.name, e))?.with_resolution(self.meta.resolution()))
    }
}

impl SeriesSource for TsdbSource {
    fn select(&self, select: Select) -> SourceStream {
        match self.merged(&select) {
            Err(e) => futures::stream::iter([Err(e)]).boxed(),
            Ok(mut merged) => {
                let batches = std::iter::from_fn(move || merged.batch());
                futures::stream::iter(batches.map(|batch| batch.map(SourceEvent::Series))).boxed()
            }
        }
    }
}
