//! Header, postings and series entries.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{FutureExt, Stream, StreamExt, TryStreamExt};
use model::{Matcher, Reservation, TimeRange, ValueTooLong};
use object_store::path::Path;
use tsdb::index::{
    ChunkMeta, HeaderLoader, IndexHeader, PostingsPieces, PostingsPlan, SeriesEntry, SeriesParser,
    TouchingEntry, parse_postings,
};
use tsdb::tombstones::Interval;

use super::{
    BlockEntry, BlockReader, ChunkSpan, Claim, EntryBatch, MAX_ENTRY, MAX_RECORD, SeriesQuery,
    count, offload, without_deleted,
};
use crate::layout::INDEX_FILE;
use crate::{Error, Kind, Result};

/// An entry may be longer than guessed; beyond this length the guess is not extended to the next
/// known entry.
const MAX_GUESS: u64 = 64 << 10;

/// Bytes of the list of all series that are fetched at a time.
const MIN_POSTINGS_PAGE: u64 = 4 << 10;
const MAX_POSTINGS_PAGE: u64 = 8 << 20;

impl BlockReader {
    /// The size stated in `meta.json` saves a request, but it may be wrong, or that of another
    /// index.
    pub(super) async fn load_header(&self) -> Result<IndexHeader> {
        self.load_header_by(|loader| loader).await
    }

    /// The header for a scan of all series, without other postings. It is not put into the cache,
    /// where others would find it.
    pub async fn scan_header(&self) -> Result<IndexHeader> {
        self.load_header_by(HeaderLoader::for_scan).await
    }

    async fn load_header_by(&self, how: fn(HeaderLoader) -> HeaderLoader) -> Result<IndexHeader> {
        let path = self.inner.location.index();
        let stated =
            self.inner.meta.thanos.iter().flat_map(|t| &t.files).find(|f| f.rel_path == INDEX_FILE);
        let stated = stated.map(|f| f.size_bytes).filter(|size| *size > 0);
        let Some(size) = stated else {
            let size = self.inner.bucket.head(&path).await?.size;
            return self.load_header_of(&path, size, how).await;
        };
        match self.load_header_of(&path, size, how).await {
            Err(e) if e.kind() == Kind::Corrupt => {
                match self.inner.bucket.head(&path).await?.size {
                    true_size if true_size == size => Err(e),
                    true_size => {
                        let id = self.inner.meta.ulid;
                        tracing::debug!(block = %id, size, true_size, "the index has another size \
                            than stated");
                        self.load_header_of(&path, true_size, how).await
                    }
                }
            }
            loaded => loaded,
        }
    }

    async fn load_header_of(
        &self,
        path: &Path,
        size: u64,
        how: fn(HeaderLoader) -> HeaderLoader,
    ) -> Result<IndexHeader> {
        let mut loader = how(HeaderLoader::new(size).map_err(|e| self.index_error(e))?);
        loop {
            let need = loader.need();
            if need.is_empty() {
                return loader.finish().map_err(|e| self.index_error(e));
            }
            let _held = self.claim(Claim::of_index("symbols and offsets of postings", &need))?;
            let fetched = self.fetch(path, &need).await?;
            let bytes = fetched.iter().map(Bytes::len).sum();
            count(&self.stats.header_bytes, bytes as u64);
            let fed = offload(bytes, move || loader.feed(&fetched).map(|()| loader)).await?;
            loader = fed.map_err(|e| self.index_error(e))?;
        }
    }

    /// Matching series with the places of their chunks, in batches. Even with `skip_chunks`, a
    /// series must have a chunk that touches the range. What is entirely deleted is left out. The
    /// order is that of [`series`](BlockReader::series).
    pub fn entries(&self, query: SeriesQuery) -> BoxStream<'static, Result<EntryBatch>> {
        self.in_order(self.stored_entries(query)).map_ok(without_deleted).boxed()
    }

    /// As [`entries`](BlockReader::entries), but including what is deleted, and in the order of the
    /// index.
    pub(super) fn stored_entries(
        &self,
        query: SeriesQuery,
    ) -> BoxStream<'static, Result<EntryBatch>> {
        let (reader, prefetch) = (self.clone(), self.inner.settings.prefetch.max(1));
        let batches = async move {
            let header = reader.header().await?;
            let (pages, residual) = reader.find_by_pages(&header, &query.matchers).await?;
            let filter =
                Arc::new(EntryFilter { residual, matchers: query.matchers, range: query.range });
            let (cutter, of_pages) = (reader.clone(), Arc::clone(&header));
            let batches = pages
                .map_ok(move |page| {
                    futures::stream::iter(cutter.cut(&of_pages, page).into_iter().map(Ok))
                })
                .try_flatten()
                .map(move |ids| {
                    let (reader, header, filter) =
                        (reader.clone(), Arc::clone(&header), Arc::clone(&filter));
                    async move {
                        let fetched = reader.fetch_entries(&header, ids?).await?;
                        Ok(reader.parse_by_steps(header, fetched, filter))
                    }
                })
                .buffered(prefetch)
                .try_flatten();
            Ok(batches)
        };
        batches.into_stream().try_flatten().boxed()
    }

    /// The ids of matching series, and the matchers that must still be checked against their
    /// labels. A list of all series, which may be long, comes in pages.
    async fn find_by_pages(
        &self,
        header: &Arc<IndexHeader>,
        matchers: &[Matcher],
    ) -> Result<(BoxStream<'static, Result<IdRun>>, Vec<Matcher>)> {
        match header.postings_range(b"", b"").filter(|_| matchers.is_empty()) {
            Some(all) => Ok((self.all_ids(all), Vec::new())),
            None => {
                let (ids, residual) = self.find(header, matchers).await?;
                let page = IdRun { ids, after: None };
                Ok((futures::stream::iter([Ok(page)]).boxed(), residual))
            }
        }
    }

    fn all_ids(&self, range: Range<u64>) -> BoxStream<'static, Result<IdRun>> {
        struct PagingState {
            reader: BlockReader,
            pieces: PostingsPieces,
            /// The last id of a page begins the next one, so that each page knows what comes after
            /// it.
            carried: Option<u32>,
        }
        let page_bytes =
            (self.inner.settings.index_bytes / 4).clamp(MIN_POSTINGS_PAGE, MAX_POSTINGS_PAGE);
        let state =
            PagingState { reader: self.clone(), pieces: PostingsPieces::new(range), carried: None };
        let step = move |mut state: PagingState| async move {
            while let Some(range) = state.pieces.need(page_bytes) {
                let fetched =
                    state.reader.fetch(&state.reader.inner.location.index(), &[range]).await?;
                let bytes = fetched.first().map_or(&[][..], |bytes| bytes);
                count(&state.reader.stats.postings_bytes, bytes.len() as u64);
                let read = state.pieces.feed(bytes).map_err(|e| state.reader.index_error(e))?;
                let mut ids: Vec<u32> = state.carried.take().into_iter().chain(read).collect();
                if state.pieces.need(page_bytes).is_some() {
                    state.carried = ids.pop();
                }
                if !ids.is_empty() {
                    return Ok(Some((IdRun { ids, after: state.carried }, state)));
                }
            }
            Ok(None)
        };
        futures::stream::try_unfold(state, step).boxed()
    }

    /// What to fetch at a time: limited in series and in bytes.
    fn cut(&self, header: &IndexHeader, page: IdRun) -> Vec<IdRun> {
        let settings = self.inner.settings;
        let guess = self.entry_guess(header);
        let mut parts = Vec::new();
        let (mut from, mut bytes) = (0, 0u64);
        for (at, id) in page.ids.iter().enumerate() {
            let next = page.ids.get(at + 1).copied().or(page.after);
            let room = next.map_or(guess, |next| {
                header.series_offset(next).saturating_sub(header.series_offset(*id))
            });
            let cost = room.min(guess);
            if at > from
                && (at - from >= settings.batch_series.max(1)
                    || bytes + cost > settings.index_bytes)
            {
                parts.push(IdRun { ids: page.ids[from..at].to_vec(), after: Some(*id) });
                (from, bytes) = (at, 0);
            }
            bytes += cost;
        }
        if from < page.ids.len() {
            parts.push(IdRun { ids: page.ids[from..].to_vec(), after: page.after });
        }
        parts
    }

    /// Usually an upper bound for an entry: the size of the largest, if `meta.json` states it.
    fn entry_guess(&self, header: &IndexHeader) -> u64 {
        let section = header.series_section();
        let stated = self
            .inner
            .meta
            .thanos
            .as_ref()
            .and_then(|t| t.index_stats)
            .map_or(0, |s| s.series_max_size);
        let average = (section.end - section.start) / header.series_count().max(1);
        if stated > 0 { stated } else { (average * 4).max(256) }.min(MAX_GUESS)
    }

    /// The ids of matching series, and the matchers that must still be checked against their
    /// labels.
    pub(super) async fn find(
        &self,
        header: &Arc<IndexHeader>,
        matchers: &[Matcher],
    ) -> Result<(Vec<u32>, Vec<Matcher>)> {
        let plan = self.plan(header, matchers).await?;
        let lists = self.fetch_postings(plan.ranges()).await?;
        let residual = plan.residual().to_vec();
        let bytes = lists.iter().map(|l| l.len() * 4).sum();
        let ids = offload(bytes, move || plan.evaluate(lists)).await?;
        Ok((ids, residual))
    }

    /// Which postings answer the matchers. Where there are many values to look at, on a thread that
    /// may take its time, until nobody waits for it any more.
    async fn plan(&self, header: &Arc<IndexHeader>, matchers: &[Matcher]) -> Result<PostingsPlan> {
        /// Values that are looked at in about a tenth of a millisecond.
        const FEW: usize = 1024;
        let looks_at_many = |matcher: &Matcher| {
            let of_label = || header.label_values(matcher.name.as_bytes()).nth(FEW);
            matcher.set_matches().is_none() && of_label().is_some()
        };
        let planned = if matchers.iter().any(looks_at_many) {
            let waits = Arc::new(());
            let waiting = Arc::downgrade(&waits);
            let (header, matchers) = (Arc::clone(header), matchers.to_vec());
            let is_wanted = move || waiting.strong_count() > 0;
            offload(usize::MAX, move || header.plan_while(&is_wanted, &matchers)).await?
        } else {
            header.plan(matchers)
        };
        planned.map_err(|e| self.index_error(e))
    }

    pub(super) async fn fetch_postings(&self, ranges: &[Range<u64>]) -> Result<Vec<Vec<u32>>> {
        let _held = self.claim(Claim::of_index("postings", ranges))?;
        let fetched = self.fetch(&self.inner.location.index(), ranges).await?;
        let bytes = fetched.iter().map(Bytes::len).sum();
        count(&self.stats.postings_bytes, bytes as u64);
        let starts: Vec<u64> = ranges.iter().map(|r| r.start).collect();
        let parsed = offload(bytes, move || {
            starts
                .iter()
                .zip(&fetched)
                .map(|(start, bytes)| parse_postings(bytes, *start))
                .collect::<std::result::Result<_, _>>()
        });
        parsed.await?.map_err(|e| self.index_error(e))
    }

    /// Has all postings in the bucket's cache, if they take at most so many bytes: a query then
    /// begins with its series.
    pub async fn fetch_postings_ahead(&self, most: u64) -> Result<()> {
        let section = self.header().await?.postings_section();
        if section.end.saturating_sub(section.start) <= most {
            self.fetch(&self.inner.location.index(), &[section]).await?;
        }
        Ok(())
    }

    async fn fetch_entries(
        &self,
        header: &Arc<IndexHeader>,
        IdRun { ids, after }: IdRun,
    ) -> Result<FetchedEntries> {
        let ranges = self.entry_ranges(header, &ids, after);
        let held = self.claim(Claim::of_entries(&ranges))?;
        let fetched = self.fetch(&self.inner.location.index(), &ranges).await?;
        let nexts = ids.iter().skip(1).copied().map(Some).chain([after]);
        let mut entries = Vec::with_capacity(ids.len());
        for (((id, next), range), bytes) in ids.iter().zip(nexts).zip(ranges).zip(fetched) {
            let next = next.map_or(u64::MAX, |id| header.series_offset(id));
            let end = next.min(header.series_section().end);
            let longer = header.series_len(*id, &bytes).ok().filter(|len| *len <= MAX_ENTRY);
            let whole = longer
                .map(|len| range.start..range.start.saturating_add(len).min(end))
                .filter(|whole| whole.end.saturating_sub(whole.start) > bytes.len() as u64);
            entries.push(FetchedEntry { id: *id, bytes, whole });
        }
        count(&self.stats.series, ids.len() as u64);
        Ok(FetchedEntries { entries, held: held.map(Arc::new) })
    }

    /// Reads again the entries that are longer than guessed. Returns the memory for them, and for
    /// what becomes of them.
    async fn complete(&self, entries: &mut [FetchedEntry]) -> Result<Option<Reservation>> {
        let long: Vec<(usize, Range<u64>)> = entries
            .iter_mut()
            .enumerate()
            .filter_map(|(at, entry)| Some((at, entry.whole.take()?)))
            .collect();
        if long.is_empty() {
            return Ok(None);
        }
        let ranges: Vec<Range<u64>> = long.iter().map(|(_, range)| range.clone()).collect();
        let held = self.claim(Claim::of_long_entries(&ranges))?;
        let fetched = self.fetch(&self.inner.location.index(), &ranges).await?;
        for ((at, _), bytes) in long.iter().zip(fetched) {
            entries[*at].bytes = bytes;
        }
        Ok(held)
    }

    /// Decodes an eighth of what may be fetched at a time: decoded entries are several times as
    /// large. Entries that are longer than guessed are read only when they are decoded.
    fn parse_by_steps(
        self,
        header: Arc<IndexHeader>,
        fetched: FetchedEntries,
        filter: Arc<EntryFilter>,
    ) -> impl Stream<Item = Result<EntryBatch>> + Send + 'static {
        let steps = fetched.into_steps(self.inner.settings.index_bytes / 8);
        futures::stream::iter(steps).then(move |FetchedEntries { mut entries, held }| {
            let (reader, header, filter) = (self.clone(), Arc::clone(&header), Arc::clone(&filter));
            async move {
                let held_for_long = reader.complete(&mut entries).await?;
                let len = entries.iter().map(|entry| entry.bytes.len()).sum();
                count(&reader.stats.series_bytes, len as u64);
                let parse = move || reader.parse_entries(header, &entries, &filter);
                let parsed = offload(len, parse).await;
                drop((held, held_for_long));
                parsed
            }
        })
    }

    fn entry_ranges(
        &self,
        header: &IndexHeader,
        ids: &[u32],
        after: Option<u32>,
    ) -> Vec<Range<u64>> {
        let (section, guess) = (header.series_section(), self.entry_guess(header));
        let nexts = ids.iter().skip(1).copied().map(Some).chain([after]);
        let range = |(id, next): (&u32, Option<u32>)| {
            let start = header.series_offset(*id);
            let next = next.map_or(section.end, |id| header.series_offset(id));
            // with a near neighbour, the length is certain
            let end = if next.saturating_sub(start) <= MAX_GUESS {
                next
            } else {
                start.saturating_add(guess)
            };
            start..end.min(section.end).max(start)
        };
        ids.iter().zip(nexts).map(range).collect()
    }

    fn parse_entries(
        &self,
        header: Arc<IndexHeader>,
        fetched: &[FetchedEntry],
        filter: &EntryFilter,
    ) -> EntryBatch {
        let mut batch = EntryBatch::default();
        let mut sound: Vec<(u32, SeriesEntry)> = Vec::with_capacity(fetched.len());
        let mut references: Vec<u64> = Vec::with_capacity(fetched.len());
        let mut parser = SeriesParser::new(header);
        for FetchedEntry { id, bytes, .. } in fetched {
            if let Some(error) = self.too_long(parser.header(), *id, bytes) {
                batch.errors.push(error);
                continue;
            }
            match parser.parse_touching(*id, bytes, filter.range) {
                Ok(TouchingEntry { repeats: true, .. }) => {
                    batch.errors.push(self.repeated_chunk(parser.header(), *id));
                }
                Ok(TouchingEntry { entry, neighbours, .. }) => {
                    references.extend(entry.chunks.iter().map(|chunk| chunk.reference));
                    references.extend(neighbours);
                    sound.push((*id, entry));
                }
                Err(e) => batch.errors.push(self.index_error(e)),
            }
        }
        references.sort_unstable();
        let guess = self.chunk_guess();
        let span = |chunk: &ChunkMeta| {
            let next = references.get(references.partition_point(|r| *r <= chunk.reference));
            let room =
                next.map_or(MAX_RECORD, |next| (next - chunk.reference).min(MAX_RECORD)) as u32;
            // with a near neighbour, the length is certain
            let len = if u64::from(room) <= MAX_GUESS { room } else { guess };
            ChunkSpan {
                min_time: chunk.min_time,
                max_time: chunk.max_time,
                reference: chunk.reference,
                len,
                room,
            }
        };
        for (id, entry) in sound {
            match filter.matches(&entry) {
                Ok(true) => {}
                Ok(false) => continue,
                Err(e) => {
                    batch.errors.push(self.index_error(e.into()));
                    continue;
                }
            }
            if !entry.chunks.is_empty() {
                let chunks: Vec<ChunkSpan> = entry.chunks.iter().map(span).collect();
                let deleted = self.deleted(id);
                batch.entries.push(BlockEntry { labels: entry.labels, chunks, deleted });
            }
        }
        batch
    }

    /// The error of an entry that is longer than any is, and so was not read whole.
    fn too_long(&self, header: &IndexHeader, id: u32, bytes: &[u8]) -> Option<Error> {
        let len = header.series_len(id, bytes).ok().filter(|len| *len > MAX_ENTRY)?;
        let (block, offset) = (self.inner.meta.ulid, header.series_offset(id));
        let text = format!(
            "block={block} index: the series entry at {offset} takes {len} bytes, and more than \
             {MAX_ENTRY} are not read"
        );
        Some(Error::new(Kind::Corrupt, text))
    }

    /// The error of an entry that names one chunk several times: nobody writes that, and every time
    /// would be a chunk to read and to merge.
    fn repeated_chunk(&self, header: &IndexHeader, id: u32) -> Error {
        let (block, offset) = (self.inner.meta.ulid, header.series_offset(id));
        let text = format!(
            "block={block} index: the series entry at {offset} names a chunk more than once"
        );
        Error::new(Kind::Corrupt, text)
    }

    /// The spans of a series that tombstones delete.
    fn deleted(&self, id: u32) -> Option<Arc<[Interval]>> {
        let intervals = self.tombstones.as_ref()?.get(u64::from(id));
        (!intervals.is_empty()).then(|| intervals.into())
    }

    /// Bytes of a chunk whose successor is not known: the size of the largest, if `meta.json`
    /// states it.
    fn chunk_guess(&self) -> u32 {
        let meta = &self.inner.meta;
        let Some(thanos) = &meta.thanos else { return 2048 };
        if let Some(stats) = thanos.index_stats.filter(|s| s.chunk_max_size > 0) {
            return stats.chunk_max_size.min(MAX_GUESS) as u32;
        }
        let bytes: u64 = thanos
            .files
            .iter()
            .filter(|f| f.rel_path.starts_with("chunks/"))
            .map(|f| f.size_bytes)
            .sum();
        if bytes == 0 || meta.stats.num_chunks == 0 {
            return 2048;
        }
        (bytes / meta.stats.num_chunks * 4).clamp(512, 16 << 10) as u32
    }
}

/// Which series and chunks of a batch are wanted.
struct EntryFilter {
    /// The matchers that postings did not decide.
    residual: Vec<Matcher>,
    matchers: Vec<Matcher>,
    range: TimeRange,
}

impl EntryFilter {
    fn matches(&self, entry: &SeriesEntry) -> std::result::Result<bool, ValueTooLong> {
        // postings also found it by values that do not count
        let undecided = if entry.has_doubles { &self.matchers } else { &self.residual };
        for matcher in undecided {
            if !matcher.try_matches(entry.labels.get(&matcher.name).unwrap_or_default())? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Series whose entries are read together, and the first known id after them.
struct IdRun {
    ids: Vec<u32>,
    after: Option<u32>,
}

/// Entries as they lie in the index, and the memory that is reserved for their bytes.
struct FetchedEntries {
    entries: Vec<FetchedEntry>,
    held: Option<Arc<Reservation>>,
}

struct FetchedEntry {
    id: u32,
    bytes: Bytes,
    /// Where all of it lies, if it is longer than guessed.
    whole: Option<Range<u64>>,
}

impl FetchedEntry {
    /// Bytes of all of it.
    fn size(&self) -> u64 {
        self.whole.as_ref().map_or(self.bytes.len() as u64, |whole| whole.end - whole.start)
    }
}

impl FetchedEntries {
    /// Splits into parts of this many bytes, with at least one entry each.
    fn into_steps(self, bytes: u64) -> Vec<FetchedEntries> {
        let mut steps: Vec<FetchedEntries> = Vec::new();
        let mut filled = 0;
        for entry in self.entries {
            let size = entry.size();
            match steps.last_mut().filter(|_| filled + size <= bytes) {
                Some(step) => {
                    step.entries.push(entry);
                    filled += size;
                }
                None => {
                    steps.push(FetchedEntries { entries: vec![entry], held: self.held.clone() });
                    filled = size;
                }
            }
        }
        steps
    }
}
