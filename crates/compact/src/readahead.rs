//! Many sorted streams side by side, with a bounded number of bytes in memory whatever their
//! number.
//!
//! A merge takes from all of its sources at once, so each has a batch in memory. What is read ahead
//! beyond that is read where it is needed next: for sorted sources, that is the one whose batch
//! ends with the smallest key (forecasting: Knuth, The Art of Computer Programming, volume 3,
//! 5.4.6). So a few batches under way are enough for any number of sources.

use std::collections::BTreeSet;
use std::sync::Arc;

use block::reader::{BlockReader, BlockSeries, ReaderSettings, SeriesBatch, SeriesQuery};
use block::{StoredCounts, invariants};
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use model::{BlockId, Labels};
use serve::Task;
use tsdb::meta::BlockMeta;

use crate::error::Case;
use crate::{Error, Result};

/// Bytes in batches of all sources together.
const TOTAL_BYTES: u64 = 96 << 20;

/// Batches under way at a time.
const AHEAD: usize = 8;

/// Reading more at a time saves hardly any more requests.
const MAX_BATCH_BYTES: u64 = 4 << 20;
/// With thousands of sources, the total is exceeded rather than making a request for every few
/// series.
const MIN_BATCH_BYTES: u64 = 64 << 10;

/// How to read one of this many sources.
pub(crate) fn settings(sources: usize) -> ReaderSettings {
    // one under way takes twice its size, while the answer is assembled
    let batches = (sources + 2 * AHEAD.min(sources)).max(1) as u64;
    let batch_bytes = (TOTAL_BYTES / batches).clamp(MIN_BATCH_BYTES, MAX_BATCH_BYTES);
    // reading ahead is done here
    ReaderSettings {
        batch_series: usize::MAX,
        index_bytes: batch_bytes / 8,
        batch_bytes,
        prefetch: 1,
        ..ReaderSettings::default()
    }
}

type Batches = BoxStream<'static, block::Result<SeriesBatch>>;

/// The result of a task: the rest of the stream, and a batch unless the stream ended.
type ReadResult = (Batches, Option<block::Result<SeriesBatch>>);

/// Blocks that are read front to back together.
pub(crate) struct BlockStreams {
    sources: Vec<BlockStream>,
    /// Streams whose next batch is not being read, by the labels that the batch in memory ends
    /// with.
    waiting: BTreeSet<(Option<Labels>, usize)>,
    under_way: usize,
}

struct BlockStream {
    meta: Arc<BlockMeta>,
    /// What was read so far, including deleted samples.
    read: StoredCounts,
    batch: std::vec::IntoIter<BlockSeries>,
    /// The labels that `batch` ends with; none before the first.
    last: Option<Labels>,
    next: Next,
}

enum Next {
    Waits(Batches),
    UnderWay(Task<ReadResult>),
    Ended,
}

impl BlockStreams {
    pub(crate) fn new(readers: &[BlockReader]) -> BlockStreams {
        let source = |reader: &BlockReader| BlockStream {
            meta: Arc::clone(reader.meta()),
            read: StoredCounts::default(),
            batch: Vec::new().into_iter(),
            last: None,
            next: Next::Waits(reader.series(SeriesQuery::all())),
        };
        let sources: Vec<BlockStream> = readers.iter().map(source).collect();
        let waiting = (0..sources.len()).map(|at| (None, at)).collect();
        BlockStreams { sources, waiting, under_way: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.sources.len()
    }

    pub(crate) fn id(&self, source: usize) -> BlockId {
        self.sources[source].meta.ulid
    }

    /// The next series of a source. A broken one is an error that names the block.
    pub(crate) async fn next(&mut self, source: usize) -> Result<Option<BlockSeries>> {
        loop {
            if let Some(series) = self.sources[source].batch.next() {
                return Ok(Some(series));
            }
            let Some(batch) = self.next_batch(source).await? else { return Ok(None) };
            self.sources[source].batch = batch.into_iter();
        }
    }

    async fn next_batch(&mut self, at: usize) -> Result<Option<Vec<BlockSeries>>> {
        self.read_ahead();
        let source = &mut self.sources[at];
        let (rest, batch) = match std::mem::replace(&mut source.next, Next::Ended) {
            Next::Ended => return Ok(None),
            Next::UnderWay(task) => {
                self.under_way -= 1;
                task.await.unwrap_or_else(|e| std::panic::resume_unwind(e.into_panic()))
            }
            Next::Waits(batches) => {
                self.waiting.remove(&(source.last.clone(), at));
                read(batches).await
            }
        };
        let Some(batch) = batch else {
            source.check()?;
            self.read_ahead();
            return Ok(None);
        };
        let mut batch = batch.map_err(|e| source.failed(e))?;
        if !batch.errors.is_empty() {
            return Err(source.failed(batch.errors.swap_remove(0)));
        }
        source.read.series += batch.stored.series;
        source.read.samples += batch.stored.samples;
        if let Some(last) = batch.series.last_mut() {
            source.last = Some(last.labels.clone());
            detach(last);
        }
        source.next = Next::Waits(rest);
        self.waiting.insert((source.last.clone(), at));
        self.read_ahead();
        Ok(Some(batch.series))
    }

    /// Starts reading what is needed next.
    fn read_ahead(&mut self) {
        while self.under_way < AHEAD
            && let Some((_, at)) = self.waiting.pop_first()
        {
            let source = &mut self.sources[at];
            if let Next::Waits(batches) = std::mem::replace(&mut source.next, Next::Ended) {
                source.next = Next::UnderWay(Task::spawn(read(batches)));
                self.under_way += 1;
            }
        }
    }
}

impl BlockStream {
    fn failed(&self, error: block::Error) -> Error {
        Error::of_block(self.meta.ulid)(error.into())
    }

    /// Compares what was read of the whole block with its meta.
    fn check(&self) -> Result<()> {
        invariants::of_read(&self.meta, self.read).map_err(|e| Error(Case::Miscounted(e)))
    }
}

async fn read(mut batches: Batches) -> ReadResult {
    let batch = batches.next().await;
    (batches, batch)
}

/// Copies the chunks of the last series of a batch. It is merged when the next batch is already in
/// memory, and until then would keep everything fetched with it in memory.
fn detach(series: &mut BlockSeries) {
    for chunk in &mut series.chunks {
        chunk.data = Bytes::copy_from_slice(&chunk.data);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_batches_together_stay_within_the_total() {
        for sources in (1..400).chain([1000, 1500]) {
            let batch_bytes = settings(sources).batch_bytes;
            let most = (sources + 2 * AHEAD.min(sources)) as u64 * batch_bytes;
            assert!(most <= TOTAL_BYTES, "{sources} sources take {most} bytes");
        }
        assert_eq!(settings(1).batch_bytes, MAX_BATCH_BYTES);
        assert_eq!(settings(100_000).batch_bytes, MIN_BATCH_BYTES);
    }
}
