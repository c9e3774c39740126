//! TSDB blocks in local folders as a source: for tests, benches and tools. Files are read whole.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use merge::{ChunkBytes, ChunkContent, Series, SeriesChunk, merge_series_chunks};
use model::Labels;
use tsdb::chunk::{Encoding, split_aggregates};
use tsdb::index::{ChunkMeta, Index};
use tsdb::meta::BlockMeta;
use tsdb::segment::{ChunkRef, parse_record, segment_name};

use crate::{Select, SeriesSource, SourceError, SourceEvent, SourceStream};

/// Series per event.
const BATCH: usize = 64;

/// What a [`TsdbSource`] makes of its blocks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TsdbSourceSettings {
    /// Lay the blocks' external labels over their series.
    pub external_labels: bool,
    /// Labels taken away, so that replicas become one series.
    pub replica_labels: Vec<String>,
    /// The coarsest window of downsampled blocks wanted, in milliseconds; 0 = raw only.
    pub max_resolution_ms: i64,
}

/// Blocks that are open.
#[derive(Debug)]
pub struct TsdbSource {
    blocks: Arc<Vec<Block>>,
    settings: TsdbSourceSettings,
}

#[derive(Debug)]
struct Block {
    name: String,
    meta: BlockMeta,
    external: Labels,
    index: Index,
    segments: Vec<Bytes>,
}

/// One series of an answer, before its chunks are looked up.
struct Found {
    labels: Labels,
    parts: Vec<(usize, Vec<ChunkMeta>)>,
}

fn failed(what: &dyn std::fmt::Display, e: &dyn std::fmt::Display) -> SourceError {
    SourceError::Failed(format!("{what}: {e}"))
}

impl TsdbSource {
    /// Opens block folders.
    ///
    /// # Errors
    /// Files that are missing or broken, by name.
    pub fn open<P: AsRef<Path>>(
        folders: impl IntoIterator<Item = P>,
        settings: TsdbSourceSettings,
    ) -> Result<TsdbSource, SourceError> {
        let blocks = folders.into_iter().map(|f| Block::open(f.as_ref())).collect::<Result<Vec<_>, _>>()?;
        Ok(TsdbSource { blocks: Arc::new(blocks), settings })
    }

    /// The blocks that answer: per time the coarsest resolution that is wanted, finer where that is missing.
    fn chosen(&self, select: &Select) -> Vec<usize> {
        let limit = select.hints.max_resolution_ms(self.settings.max_resolution_ms);
        let mut wanted: Vec<usize> = (0..self.blocks.len()).collect();
        wanted.retain(|b| {
            let meta = &self.blocks[*b].meta;
            meta.resolution().millis() <= limit && meta.range().overlaps(select.range)
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

    fn find(&self, select: &Select) -> Result<Vec<Found>, SourceError> {
        let mut found = Vec::new();
        for b in self.chosen(select) {
            found = merge_found(found, self.find_in(b, select)?);
        }
        Ok(found)
    }

    /// What one block has, sorted by labels.
    fn find_in(&self, b: usize, select: &Select) -> Result<Vec<Found>, SourceError> {
        let block = &self.blocks[b];
        let error = |e: tsdb::Error| failed(&block.name, &e);
        let external = if self.settings.external_labels { block.external.clone() } else { Labels::empty() };
        // Matchers on external labels are answered by the block, the others by its index.
        let (outer, inner): (Vec<_>, Vec<_>) =
            select.matchers.iter().cloned().partition(|m| external.get(&m.name).is_some());
        if !outer.iter().all(|m| m.matches(external.get(&m.name).unwrap_or_default())) {
            return Ok(Vec::new());
        }
        let ids = block.index.postings(&inner).map_err(error)?;
        let mut found: Vec<Found> = Vec::with_capacity(ids.len());
        for id in ids {
            let mut entry = block.index.series(id).map_err(error)?;
            entry.chunks.retain(|c| select.range.overlaps_closed(c.min_time, c.max_time));
            if entry.chunks.is_empty() {
                continue;
            }
            let labels = entry.labels.overlaid(&external).without(&self.settings.replica_labels);
            found.push(Found { labels, parts: vec![(b, entry.chunks)] });
        }
        // a block is in order of its own labels, without those that were laid over and taken away
        if !found.is_sorted_by(|a, b| a.labels < b.labels) {
            found.sort_by(|a, b| a.labels.cmp(&b.labels));
            found.dedup_by(|next, kept| {
                let same = next.labels == kept.labels;
                if same {
                    kept.parts.append(&mut next.parts);
                }
                same
            });
        }
        Ok(found)
    }
}

/// Merges two lists that are sorted by labels; what is in both becomes one.
fn merge_found(a: Vec<Found>, b: Vec<Found>) -> Vec<Found> {
    if a.is_empty() || b.is_empty() {
        return if a.is_empty() { b } else { a };
    }
    let mut merged = Vec::with_capacity(a.len().max(b.len()));
    let mut rest = b.into_iter().peekable();
    for mut found in a {
        while let Some(order) = rest.peek().map(|other| other.labels.cmp(&found.labels))
            && order.is_le()
            && let Some(mut other) = rest.next()
        {
            if order.is_eq() {
                found.parts.append(&mut other.parts);
                break;
            }
            merged.push(other);
        }
        merged.push(found);
    }
    merged.extend(rest);
    merged
}

impl Block {
    fn open(folder: &Path) -> Result<Block, SourceError> {
        let name = folder.display().to_string();
        let read = |file: &str| fs::read(folder.join(file)).map_err(|e| failed(&format!("{name}/{file}"), &e));
        let meta = BlockMeta::from_json(&read("meta.json")?).map_err(|e| failed(&name, &e))?;
        let index = Index::open(Bytes::from(read("index")?)).map_err(|e| failed(&name, &e))?;
        let mut segments = Vec::new();
        loop {
            let file = format!("chunks/{}", segment_name(segments.len() as u32));
            if !folder.join(&file).exists() {
                break;
            }
            segments.push(Bytes::from(read(&file)?));
        }
        let external = meta.external_labels();
        Ok(Block { name, meta, external, index, segments })
    }

    fn chunk(&self, meta: &ChunkMeta) -> Result<SeriesChunk, SourceError> {
        let at = ChunkRef::from_raw(meta.reference);
        let missing = || SourceError::Failed(format!("{}: a chunk lies outside its segment", self.name));
        let segment = self.segments.get(at.segment as usize).ok_or_else(missing)?;
        let bytes = segment.get(at.offset as usize..).ok_or_else(missing)?;
        let record = parse_record(bytes).map_err(|e| failed(&self.name, &e))?;
        let content = match record.encoding {
            Encoding::Aggregate => {
                let parts = split_aggregates(record.data).map_err(|e| failed(&self.name, &e))?;
                let own = |part: Option<(Encoding, &[u8])>| {
                    part.map(|(encoding, data)| ChunkBytes { encoding, data: segment.slice_ref(data) })
                };
                ChunkContent::Aggregates(Box::new(parts.map(own)))
            }
            encoding => ChunkContent::Raw(ChunkBytes { encoding, data: segment.slice_ref(record.data) }),
        };
        Ok(SeriesChunk { min_time: meta.min_time, max_time: meta.max_time, content })
    }
}

fn load(blocks: &[Block], found: Found) -> Result<Series, SourceError> {
    let list = |(block, metas): &(usize, Vec<ChunkMeta>)| {
        metas.iter().map(|m| blocks[*block].chunk(m)).collect::<Result<Vec<_>, _>>()
    };
    let lists = found.parts.iter().map(list).collect::<Result<Vec<_>, _>>()?;
    Ok(Series { labels: found.labels, chunks: merge_series_chunks(lists) })
}

impl SeriesSource for TsdbSource {
    fn select(&self, select: Select) -> SourceStream {
        let found = match self.find(&select) {
            Ok(found) => found,
            Err(e) => return futures::stream::iter([Err(e)]).boxed(),
        };
        let blocks = Arc::clone(&self.blocks);
        let batches = futures::stream::unfold(found.into_iter(), move |mut rest| {
            let blocks = Arc::clone(&blocks);
            async move {
                let batch: Result<Vec<Series>, SourceError> =
                    rest.by_ref().take(BATCH).map(|found| load(&blocks, found)).collect();
                match batch {
                    Ok(series) if series.is_empty() => None,
                    batch => Some((batch.map(SourceEvent::Series), rest)),
                }
            }
        });
        batches.boxed()
    }
}
