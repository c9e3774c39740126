//! Series in order of their labels, even those of a block whose index has another order.
//!
//! Merging relies on that order, and an index almost always has it: its writers refuse any other.
//! So entries pass as they come and are compared with the one before. If the first batch is not in
//! order, all entries are read and sorted before any is returned. If that is noticed only later,
//! what was returned cannot be undone: the stream ends, and the block is remembered, so that from
//! then on it is sorted from the start.

use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use model::{Labels, Reservation};

use super::{BlockEntry, BlockReader, ChunkSpan, EntryBatch, SeriesQuery, offload};
use crate::{Error, Kind, Result};

impl BlockReader {
    /// The same entries in order of labels; equal ones come one after another.
    pub(super) fn in_order(
        &self,
        entries: BoxStream<'static, Result<EntryBatch>>,
    ) -> BoxStream<'static, Result<EntryBatch>> {
        let sorts = self.sorts || self.inner.headers.is_unordered(self.inner.meta.ulid);
        let ordering = Ordering { reader: self.clone(), entries, last: None, sorts, sorted: None };
        let step = |mut ordering: Ordering| async move {
            Ok(ordering.next().await?.map(|batch| (batch, ordering)))
        };
        futures::stream::try_unfold(ordering, step).boxed()
    }

    /// Whether the index has all series in order, found by one pass over its entries. If not,
    /// readers that share the header cache sort them from now on: so after [`Kind::Unordered`] in
    /// one of many blocks a caller starts over only once.
    pub async fn check_order(&self) -> Result<bool> {
        let mut entries = self.stored_entries(SeriesQuery::all());
        let mut last: Option<Labels> = None;
        while let Some(batch) = entries.try_next().await? {
            if !follows(last.as_ref(), &batch) {
                self.inner.headers.remember_unordered(self.inner.meta.ulid);
                return Ok(false);
            }
            last = last_of(&batch).or(last);
        }
        Ok(true)
    }
}

/// Whether the entries are in order, and none sorts before `last`.
fn follows(last: Option<&Labels>, batch: &EntryBatch) -> bool {
    last.into_iter().chain(batch.entries.iter().map(|e| &e.labels)).is_sorted()
}

fn last_of(batch: &EntryBatch) -> Option<Labels> {
    batch.entries.last().map(|e| e.labels.clone())
}

struct Ordering {
    reader: BlockReader,
    entries: BoxStream<'static, Result<EntryBatch>>,
    /// The labels of the last returned entry.
    last: Option<Labels>,
    sorts: bool,
    sorted: Option<Sorted>,
}

/// All entries, sorted, to be returned.
struct Sorted {
    entries: std::vec::IntoIter<BlockEntry>,
    errors: Vec<Error>,
    held: Option<Reservation>,
}

impl Ordering {
    async fn next(&mut self) -> Result<Option<EntryBatch>> {
        if self.sorted.is_none() {
            let Some(batch) = self.entries.try_next().await? else { return Ok(None) };
            if !self.sorts && follows(self.last.as_ref(), &batch) {
                self.last = last_of(&batch).or(self.last.take());
                return Ok(Some(batch));
            }
            self.reader.inner.headers.remember_unordered(self.reader.inner.meta.ulid);
            if let Some(last) = &self.last {
                return Err(self.reader.unordered(last));
            }
            self.sorted = Some(self.sort(batch).await?);
        }
        let batch_series = self.reader.inner.settings.batch_series.max(1);
        Ok(self.sorted.as_mut().and_then(|sorted| sorted.take(batch_series)))
    }

    async fn sort(&mut self, first: EntryBatch) -> Result<Sorted> {
        let id = self.reader.inner.meta.ulid;
        tracing::warn!(block = %id, "series of a block are not in order and are sorted to be read");
        let mut held =
            self.reader.budget.as_ref().map(|b| b.reserve(format!("sorting series of block={id}")));
        let (mut all, mut bytes, mut next) = (EntryBatch::default(), 0, Some(first));
        while let Some(mut batch) = next {
            let more: u64 = batch.entries.iter().map(BlockEntry::memory).sum();
            bytes += more;
            let limit = self.reader.inner.settings.sorted_bytes;
            if bytes > limit {
                let text = format!(
                    "block={id} index: series are not in order, and more than the {limit} bytes of \
                     them that are sorted in memory; have the block rewritten"
                );
                return Err(Error::new(Kind::Corrupt, text));
            }
            if let Some(held) = &mut held {
                held.grow(more)
                    .map_err(|e| Error::caused(Kind::Limit, format!("block={id}"), e))?;
            }
            all.entries.append(&mut batch.entries);
            all.errors.append(&mut batch.errors);
            next = self.entries.try_next().await?;
        }
        let EntryBatch { mut entries, errors } = all;
        let entries = offload(bytes as usize, move || {
            // stable: series with equal labels stay in the order of the index
            entries.sort_by(|a, b| a.labels.cmp(&b.labels));
            entries
        });
        Ok(Sorted { entries: entries.await?.into_iter(), errors, held })
    }
}

impl Sorted {
    fn take(&mut self, count: usize) -> Option<EntryBatch> {
        let entries: Vec<BlockEntry> = self.entries.by_ref().take(count).collect();
        let errors = std::mem::take(&mut self.errors);
        if let Some(held) = &mut self.held {
            held.shrink(entries.iter().map(BlockEntry::memory).sum());
        }
        (!entries.is_empty() || !errors.is_empty()).then_some(EntryBatch { entries, errors })
    }
}

impl BlockEntry {
    /// Bytes in memory, approximately.
    fn memory(&self) -> u64 {
        (size_of::<BlockEntry>()
            + self.labels.as_packed().len()
            + self.chunks.len() * size_of::<ChunkSpan>()) as u64
    }
}

impl BlockReader {
    fn unordered(&self, last: &Labels) -> Error {
        let text = format!(
            "block={} index: series are not in order: one that sorts before {last} comes after it; \
             read again, they are sorted first",
            self.inner.meta.ulid
        );
        Error::new(Kind::Unordered, text)
    }
}
