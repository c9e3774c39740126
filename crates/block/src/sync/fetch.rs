//! Fetching the metas and marks of the blocks that are there.

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use futures::StreamExt;
use model::error::in_one_line;
use model::{BlockId, TimestampMs};
use tsdb::meta::{BlockMeta, META_FILE};

use super::listed::{BlockMarks, KnownMeta, Listed, ReadMark};
use super::looks::CatalogReading;
use super::view::View;
use super::{
    BrokenBlock, Filter, ObjectVersion, PartialBlock, Synced, SyncedBlock, UnseenBlock, state,
};
use crate::layout::{BlockLocation, MAX_META_BYTES};
use crate::marker::{MAX_MARK_BYTES, Marker};
use crate::metrics::SyncMetrics;
use crate::{Bucket, Error, Kind, Result, invariants};

/// How metas are fetched.
#[derive(Clone, Debug)]
pub struct FetcherSettings {
    /// Metas and marks fetched at a time.
    pub concurrency: usize,
    /// Where metas are kept over restarts, as `<folder>/<ULID>/meta.json`; Thanos' `meta-syncer`
    /// folder.
    pub cache_dir: Option<PathBuf>,
    /// What `format` may say in a `meta.json` beside nothing, which is a TSDB block; blocks of
    /// other formats are apart in the result. `None` tells no formats apart.
    pub formats: Option<&'static [&'static str]>,
    /// Whether the catalog of the bucket is read; `None` lists the whole bucket at every sync, as
    /// those must who delete.
    pub catalog: Option<CatalogReading>,
}

impl FetcherSettings {
    fn reads(&self, meta: &BlockMeta) -> bool {
        match (self.formats, meta.format.as_deref()) {
            (Some(formats), Some(format)) => formats.contains(&format),
            _ => true,
        }
    }
}

impl Default for FetcherSettings {
    fn default() -> FetcherSettings {
        FetcherSettings { concurrency: 32, cache_dir: None, formats: None, catalog: None }
    }
}

/// Finds the blocks of a bucket, repeatedly.
#[derive(Debug)]
pub struct MetaFetcher {
    pub(super) bucket: Bucket,
    pub(super) settings: FetcherSettings,
    pub(super) metrics: SyncMetrics,
    pub(super) metas: Mutex<HashMap<BlockLocation, KnownMeta>>,
    pub(super) marks: Mutex<HashMap<BlockLocation, BlockMarks>>,
    /// What is there, as it was last looked at.
    pub(super) view: tokio::sync::Mutex<View>,
    /// Blocks of which a reader missed something.
    pub(super) doubts: Mutex<BTreeSet<BlockLocation>>,
    /// Blocks left out by the last sync and their state, so that each change is logged once.
    left_out: Mutex<HashMap<BlockLocation, &'static str>>,
    /// Whether it was logged that metas cannot be kept locally.
    cache_failed: AtomicBool,
}

/// What became of one block of the listing.
enum LoadedBlock {
    Seen(SyncedBlock),
    Unseen(UnseenBlock),
    Broken(BrokenBlock),
    /// Deleted since it was listed.
    Gone,
}

/// Why there is no meta.
pub(super) enum NoMeta {
    Gone,
    Unseen(Error),
    Broken(Error),
}

impl MetaFetcher {
    pub fn new(bucket: Bucket, settings: FetcherSettings, metrics: SyncMetrics) -> MetaFetcher {
        for state in state::ALL {
            metrics.synced.with_label_values(&[state]);
        }
        MetaFetcher {
            bucket,
            settings,
            metrics,
            metas: Mutex::default(),
            marks: Mutex::default(),
            view: tokio::sync::Mutex::default(),
            doubts: Mutex::default(),
            left_out: Mutex::default(),
            cache_failed: AtomicBool::new(false),
        }
    }

    /// Looks which blocks there are and puts them through the filters, in their order. Fails only
    /// if listing does; what is wrong with a block is in the result.
    pub async fn fetch(&self, filters: &[&dyn Filter]) -> Result<Synced> {
        let clock = self.bucket.clock();
        let start = clock.monotonic();
        self.metrics.syncs.inc();
        let mut synced = match self.fetch_unfiltered().await {
            Ok(synced) => synced,
            Err(e) => {
                self.metrics.failures.inc();
                return Err(e);
            }
        };
        synced.marked_for_deletion =
            synced.blocks.iter().filter(|b| b.deletion_mark.is_some()).cloned().collect();
        let now = clock.now();
        for filter in filters {
            filter.apply(&mut synced, now);
        }
        for block in &synced.blocks {
            for (marked, state) in [
                (block.no_compact_mark.is_some(), state::MARKED_FOR_NO_COMPACT),
                (block.no_downsample_mark.is_some(), state::MARKED_FOR_NO_DOWNSAMPLE),
            ] {
                *synced.states.entry(state).or_default() += u64::from(marked);
            }
        }
        synced.states.insert(state::LOADED, synced.blocks.len() as u64);
        for state in state::ALL {
            let count = synced.states.get(state).copied().unwrap_or_default();
            self.metrics.synced.with_label_values(&[state]).set(count as f64);
        }
        let modified =
            synced.states.remove(super::filter::REPLICA_LABEL_REMOVED).unwrap_or_default();
        self.metrics
            .modified
            .with_label_values(&[super::filter::REPLICA_LABEL_REMOVED])
            .set(modified as f64);
        self.metrics.duration.observe(clock.monotonic().saturating_sub(start).as_secs_f64());
        Ok(synced)
    }

    async fn fetch_unfiltered(&self) -> Result<Synced> {
        let mut view = self.view.lock().await;
        self.look(&mut view).await?;
        let listed = &view.blocks;
        lock(&self.metas).retain(|location, _| listed.contains_key(location));
        lock(&self.marks).retain(|location, _| listed.contains_key(location));
        if let Some(folder) = self.settings.cache_dir.clone() {
            let known: BTreeSet<BlockId> = view.blocks.keys().map(BlockLocation::id).collect();
            // what cannot be removed now is tried again at the next sync
            let _ = tokio::task::spawn_blocking(move || forget_others(&folder, &known)).await;
        }
        let mut synced = Synced::default();
        let mut complete = Vec::new();
        for (location, block) in listed {
            if block.meta.is_some() {
                complete.push((location.clone(), block.clone()));
                continue;
            }
            *synced.states.entry(state::NO_META).or_default() += 1;
            synced.partial.push(PartialBlock {
                location: location.clone(),
                newest: TimestampMs(block.newest),
                has_deletion_mark: block.deletion.is_some(),
            });
        }
        let mut fetched = futures::stream::iter(complete)
            .map(|(location, block)| async move { self.load(location, &block).await })
            .buffer_unordered(self.settings.concurrency.max(1));
        while let Some(loaded) = fetched.next().await {
            match loaded {
                LoadedBlock::Seen(block) if self.settings.reads(&block.meta) => {
                    synced.blocks.push(block);
                }
                LoadedBlock::Seen(block) => synced.foreign.push(block),
                LoadedBlock::Unseen(block) => synced.unseen.push(block),
                LoadedBlock::Broken(block) => synced.broken.push(block),
                LoadedBlock::Gone => {}
            }
        }
        drop(fetched);
        self.complete_sources(&mut synced).await;
        synced.blocks.sort_by_key(|b| (b.meta.min_time, b.meta.max_time, b.location.clone()));
        synced.foreign.sort_by(|a, b| a.location.cmp(&b.location));
        synced.broken.sort_by(|a, b| a.location.cmp(&b.location));
        synced.unseen.sort_by(|a, b| a.location.cmp(&b.location));
        synced.states.insert(state::FAILED, synced.unseen.len() as u64);
        synced.states.insert(state::CORRUPTED_META, synced.broken.len() as u64);
        self.tell_left_out(&synced);
        Ok(synced)
    }

    /// One line per block and change, not one per sync.
    fn tell_left_out(&self, synced: &Synced) {
        let broken = synced.broken.iter().map(|b| (&b.location, state::CORRUPTED_META, &b.error));
        let unseen = synced.unseen.iter().map(|b| (&b.location, state::FAILED, &b.error));
        let mut known = lock(&self.left_out);
        let mut now = HashMap::new();
        for (block, state, error) in broken.chain(unseen) {
            now.insert(block.clone(), state);
            if known.remove(block) == Some(state) {
                continue;
            }
            if state == state::FAILED {
                tracing::warn!(%block, error = %in_one_line(error), "block could not be looked at, \
                    it is tried again");
            } else {
                tracing::warn!(%block, error = %in_one_line(error), "block is left out: its \
                    meta.json is not usable");
            }
        }
        for block in &synced.foreign {
            let (location, format) = (&block.location, block.meta.format.as_deref());
            now.insert(location.clone(), state::FOREIGN);
            if known.remove(location) != Some(state::FOREIGN) {
                tracing::warn!(block = %location, format, "block is of a format that this version \
                    does not read; upgrade it");
            }
        }
        let seen_again = synced.blocks.iter().filter(|b| known.contains_key(&b.location));
        for block in seen_again {
            tracing::info!(block = %block.location, "block that was left out can be used again");
        }
        *known = now;
    }

    async fn load(&self, location: BlockLocation, listed: &Listed) -> LoadedBlock {
        let meta = match self.load_meta(&location, listed).await {
            Ok(meta) => meta,
            Err(NoMeta::Gone) => return LoadedBlock::Gone,
            Err(NoMeta::Unseen(error)) => {
                return LoadedBlock::Unseen(UnseenBlock { location, error, known: None });
            }
            Err(NoMeta::Broken(error)) => {
                return LoadedBlock::Broken(BrokenBlock { location, error });
            }
        };
        let (marks, failure) = self.load_marks(&location, listed).await;
        let block = SyncedBlock {
            location: location.clone(),
            labels: meta.external_labels(),
            meta,
            deletion_mark: marks.deletion.and_then(|m| m.mark),
            no_compact_mark: marks.no_compact.and_then(|m| m.mark),
            no_downsample_mark: marks.no_downsample.and_then(|m| m.mark),
            tombstones: listed.tombstones.as_deref().cloned(),
            bytes: listed.bytes,
        };
        match failure {
            None => LoadedBlock::Seen(block),
            Some(error) => LoadedBlock::Unseen(UnseenBlock { location, error, known: Some(block) }),
        }
    }

    /// Returns a block's meta. One that is known is used whatever the bucket says, because it never
    /// changes; one that a catalog states, while the bucket has the version that the catalog names.
    async fn load_meta(
        &self,
        location: &BlockLocation,
        listed: &Listed,
    ) -> std::result::Result<Arc<BlockMeta>, NoMeta> {
        if let Some(known) = lock(&self.metas).get(location).filter(|known| known.fits(listed)) {
            return Ok(Arc::clone(&known.meta));
        }
        let cached = self.cached_path(location);
        let local = match &cached {
            Some(path) => {
                tokio::fs::read(path).await.ok().and_then(|bytes| BlockMeta::from_json(&bytes).ok())
            }
            None => None,
        };
        let meta = match local.filter(|meta| invariants::of_synced(location, meta).is_ok()) {
            Some(meta) => meta,
            None => self.fetch_meta(location).await?,
        };
        let meta = Arc::new(meta);
        lock(&self.metas).insert(location.clone(), KnownMeta::read(Arc::clone(&meta)));
        Ok(meta)
    }

    pub(super) async fn fetch_meta(
        &self,
        location: &BlockLocation,
    ) -> std::result::Result<BlockMeta, NoMeta> {
        let fetched = self.bucket.get_up_to(&location.meta(), MAX_META_BYTES).await;
        let bytes = fetched.map_err(|e| match e.kind() {
            Kind::NotFound => NoMeta::Gone,
            Kind::Corrupt => NoMeta::Broken(e),
            _ => NoMeta::Unseen(e),
        })?;
        let meta =
            BlockMeta::from_json(&bytes).map_err(|e| NoMeta::Broken(Error::format(location, e)))?;
        invariants::of_synced(location, &meta)
            .map_err(|unmet| NoMeta::Broken(Error::passed(Kind::Corrupt, unmet)))?;
        if let Some(path) = self.cached_path(location)
            && let Err(error) = keep(&path, &bytes).await
        {
            self.tell_cache_failed(&path, &error);
        }
        Ok(meta)
    }

    /// Logs that a folder cannot be written. That costs only the cache, so it is logged once and
    /// not per block.
    fn tell_cache_failed(&self, path: &std::path::Path, error: &std::io::Error) {
        let file = path.display();
        if self.cache_failed.swap(true, Ordering::Relaxed) {
            tracing::debug!(%file, error = %in_one_line(error), "meta.json could not be kept \
                locally");
            return;
        }
        tracing::warn!(
            %file,
            error = %in_one_line(error),
            "the data folder cannot be written: after a restart the meta.json of every block is \
             fetched anew"
        );
    }

    fn cached_path(&self, location: &BlockLocation) -> Option<PathBuf> {
        let folder = self.settings.cache_dir.as_ref()?;
        // a Parquet block has the id of no TSDB block, so one level serves both
        Some(folder.join(location.id().to_string()).join(META_FILE))
    }

    /// What is known about the marks, and the failure if that is not everything.
    async fn load_marks(
        &self,
        location: &BlockLocation,
        listed: &Listed,
    ) -> (BlockMarks, Option<Error>) {
        let known = lock(&self.marks).get(location).cloned().unwrap_or_default();
        let mut failure = None;
        let marks = BlockMarks {
            deletion: self
                .load_mark(location, &listed.deletion, known.deletion, &mut failure)
                .await,
            no_compact: self
                .load_mark(location, &listed.no_compact, known.no_compact, &mut failure)
                .await,
            no_downsample: self
                .load_mark(location, &listed.no_downsample, known.no_downsample, &mut failure)
                .await,
        };
        lock(&self.marks).insert(location.clone(), marks.clone());
        (marks, failure)
    }

    /// Reads a mark that is new or was written again. If the bucket does not answer, the mark that
    /// was last read is used.
    async fn load_mark<M: Marker>(
        &self,
        location: &BlockLocation,
        listed: &Option<Box<ObjectVersion>>,
        known: Option<ReadMark<M>>,
        failure: &mut Option<Error>,
    ) -> Option<ReadMark<M>> {
        let version = ObjectVersion::clone(listed.as_ref()?);
        if known.as_ref().is_some_and(|known| known.version == version) {
            return known;
        }
        let path = location.file(M::FILE);
        let fetched = self.bucket.get_if_exists(&path, MAX_MARK_BYTES).await;
        let read = match fetched {
            Ok(bytes) => bytes.map(|bytes| M::parse(&path, &bytes)).transpose(),
            Err(e) if e.kind() == Kind::Corrupt => Err(e),
            Err(_) if known.as_ref().is_some_and(|known| known.mark.is_some()) => return known,
            Err(e) => {
                *failure = Some(e);
                return None;
            }
        };
        let mark = read.unwrap_or_else(|e| {
            tracing::warn!(block = %location, error = %in_one_line(&e), "marker is ignored: it is \
                not usable");
            None
        });
        Some(ReadMark { version, mark })
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Writes a file to the cache, so that a reader sees all of it or none.
async fn keep(path: &std::path::Path, bytes: &[u8]) -> std::io::Result<()> {
    let temporary = path.with_extension("json.tmp");
    if let Some(folder) = path.parent() {
        tokio::fs::create_dir_all(folder).await?;
    }
    tokio::fs::write(&temporary, bytes).await?;
    tokio::fs::rename(&temporary, path).await
}

/// Removes the kept metas of blocks that are gone.
fn forget_others(folder: &std::path::Path, known: &BTreeSet<BlockId>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let id = entry.file_name().to_str().and_then(|name| name.parse::<BlockId>().ok());
        if id.is_some_and(|id| !known.contains(&id))
            && std::fs::remove_file(entry.path().join(META_FILE)).is_ok()
        {
            // stays if something else is in it
            let _ = std::fs::remove_dir(entry.path());
        }
    }
}
