//! Listing the bucket and fetching metas and marks.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use futures::{StreamExt, TryStreamExt};
use model::{BlockId, TimestampMs};
use object_store::ObjectMeta;
use tsdb::meta::{BlockMeta, META_FILE};

use super::{BrokenBlock, Filter, PartialBlock, Synced, SyncedBlock, state};
use crate::layout::BlockLocation;
use crate::marker::{DeletionMark, Marker, NoCompactMark, NoDownsampleMark};
use crate::metrics::SyncMetrics;
use crate::{Bucket, Error, Kind, Result};

/// A larger `meta.json` is broken; those of blocks with thousands of sources take some 100 KiB.
const MAX_META: u64 = 16 << 20;

/// How metas are fetched.
#[derive(Clone, Debug)]
pub struct FetcherSettings {
    /// Metas and marks fetched at a time.
    pub concurrency: usize,
    /// Where metas are kept over restarts, as `<folder>/<ULID>/meta.json`; Thanos' `meta-syncer` folder.
    pub cache_dir: Option<PathBuf>,
}

impl Default for FetcherSettings {
    fn default() -> FetcherSettings {
        FetcherSettings { concurrency: 32, cache_dir: None }
    }
}

/// Finds the blocks of a bucket, again and again.
#[derive(Debug)]
pub struct MetaFetcher {
    bucket: Bucket,
    settings: FetcherSettings,
    metrics: SyncMetrics,
    metas: Mutex<HashMap<BlockLocation, Arc<BlockMeta>>>,
    marks: Mutex<HashMap<BlockLocation, (Versions, Marks)>>,
}

/// What the listing says of one block.
#[derive(Clone, Debug, Default)]
struct Listed {
    meta_size: Option<u64>,
    marks: Versions,
    newest: i64,
    bytes: u64,
}

/// Of the three marks: when written, and the entity tag.
type Versions = [Option<(i64, Option<String>)>; 3];

#[derive(Clone, Debug, Default)]
struct Marks {
    deletion: Option<DeletionMark>,
    no_compact: Option<NoCompactMark>,
    no_downsample: Option<NoDownsampleMark>,
}

impl MetaFetcher {
    pub fn new(bucket: Bucket, settings: FetcherSettings, metrics: SyncMetrics) -> MetaFetcher {
        for state in state::ALL {
            metrics.synced.with_label_values(&[state]);
        }
        MetaFetcher { bucket, settings, metrics, metas: Mutex::default(), marks: Mutex::default() }
    }

    /// Lists the bucket and puts its blocks through the filters, in their order. Fails only if listing does; what is
    /// wrong with one block stands in the result.
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
        synced.marked_for_deletion = synced.blocks.iter().filter(|b| b.deletion_mark.is_some()).cloned().collect();
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
        let modified = synced.states.remove(super::filter::REPLICA_LABEL_REMOVED).unwrap_or_default();
        self.metrics.modified.with_label_values(&[super::filter::REPLICA_LABEL_REMOVED]).set(modified as f64);
        self.metrics.duration.observe(clock.monotonic().saturating_sub(start).as_secs_f64());
        Ok(synced)
    }

    async fn fetch_unfiltered(&self) -> Result<Synced> {
        let listed = self.list().await?;
        lock(&self.metas).retain(|location, _| listed.contains_key(location));
        lock(&self.marks).retain(|location, _| listed.contains_key(location));
        if let Some(folder) = self.settings.cache_dir.clone() {
            let known: BTreeSet<BlockId> = listed.keys().map(BlockLocation::id).collect();
            // what cannot be removed now is tried again at the next sync
            let _ = tokio::task::spawn_blocking(move || forget_others(&folder, &known)).await;
        }
        let mut synced = Synced::default();
        let mut complete = Vec::new();
        for (location, block) in listed {
            if block.meta_size.is_some() {
                complete.push((location, block));
                continue;
            }
            *synced.states.entry(state::NO_META).or_default() += 1;
            let (newest, has_deletion_mark) = (TimestampMs(block.newest), block.marks[0].is_some());
            synced.partial.push(PartialBlock { location, newest, has_deletion_mark });
        }
        let mut fetched = futures::stream::iter(complete)
            .map(|(location, block)| async move { (self.load(&location, &block).await, location) })
            .buffer_unordered(self.settings.concurrency.max(1));
        while let Some((loaded, location)) = fetched.next().await {
            match loaded {
                Ok(block) => synced.blocks.push(block),
                // deleted since it was listed
                Err(e) if e.kind() == Kind::NotFound => {}
                Err(error) => {
                    tracing::warn!(block = %location, error = %error, "block is left out: its meta.json is not usable");
                    let transient = matches!(error.kind(), Kind::Unavailable | Kind::Denied);
                    let state = if transient { state::FAILED } else { state::CORRUPTED_META };
                    *synced.states.entry(state).or_default() += 1;
                    synced.broken.push(BrokenBlock { location, error });
                }
            }
        }
        synced.blocks.sort_by_key(|b| (b.meta.min_time, b.meta.max_time, b.location.clone()));
        synced.broken.sort_by(|a, b| a.location.cmp(&b.location));
        Ok(synced)
    }

    /// A listing that breaks off is begun again.
    async fn list(&self) -> Result<BTreeMap<BlockLocation, Listed>> {
        let mut pause = self.bucket.settings().backoff;
        for _ in 1..self.bucket.settings().attempts {
            match self.list_once().await {
                Err(e) if e.kind() == Kind::Unavailable => {
                    self.bucket.clock().sleep(pause).await;
                    pause *= 2;
                }
                other => return other,
            }
        }
        self.list_once().await
    }

    async fn list_once(&self) -> Result<BTreeMap<BlockLocation, Listed>> {
        let mut blocks: BTreeMap<BlockLocation, Listed> = BTreeMap::new();
        let mut objects = self.bucket.list(None);
        while let Some(object) = objects.try_next().await? {
            let Some((location, file)) = BlockLocation::of_object(&object.location) else { continue };
            blocks.entry(location).or_default().add(&file, &object);
        }
        Ok(blocks)
    }

    async fn load(&self, location: &BlockLocation, listed: &Listed) -> Result<SyncedBlock> {
        let meta = self.load_meta(location, listed.meta_size.unwrap_or_default()).await?;
        let marks = self.load_marks(location, &listed.marks).await?;
        Ok(SyncedBlock {
            location: location.clone(),
            labels: meta.external_labels(),
            meta,
            deletion_mark: marks.deletion,
            no_compact_mark: marks.no_compact,
            no_downsample_mark: marks.no_downsample,
            bytes: listed.bytes,
        })
    }

    async fn load_meta(&self, location: &BlockLocation, size: u64) -> Result<Arc<BlockMeta>> {
        if let Some(meta) = lock(&self.metas).get(location) {
            return Ok(Arc::clone(meta));
        }
        if size > MAX_META {
            return Err(Error::new(Kind::Corrupt, format!("reading {}: {size} bytes are too many", location.meta())));
        }
        let cached = self.cached_path(location);
        let local = match &cached {
            Some(path) => tokio::fs::read(path).await.ok().and_then(|bytes| BlockMeta::from_json(&bytes).ok()),
            None => None,
        };
        let meta = match local.filter(|meta| meta.ulid == location.id()) {
            Some(meta) => meta,
            None => {
                let bytes = self.bucket.get(&location.meta()).await?;
                let meta = BlockMeta::from_json(&bytes).map_err(|e| Error::format(location, &e))?;
                if meta.ulid != location.id() {
                    let text = format!("reading {}: it is the meta of block {}", location.meta(), meta.ulid);
                    return Err(Error::new(Kind::Corrupt, text));
                }
                if let Some(path) = cached {
                    keep(&path, &bytes).await;
                }
                meta
            }
        };
        let meta = Arc::new(meta);
        lock(&self.metas).insert(location.clone(), Arc::clone(&meta));
        Ok(meta)
    }

    fn cached_path(&self, location: &BlockLocation) -> Option<PathBuf> {
        let folder = self.settings.cache_dir.as_ref()?;
        // a Parquet block has the id of no TSDB block, so one level serves both
        Some(folder.join(location.id().to_string()).join(META_FILE))
    }

    async fn load_marks(&self, location: &BlockLocation, versions: &Versions) -> Result<Marks> {
        if versions.iter().all(Option::is_none) {
            return Ok(Marks::default());
        }
        if let Some((_, marks)) = lock(&self.marks).get(location).filter(|(known, _)| known == versions) {
            return Ok(marks.clone());
        }
        let marks = Marks {
            deletion: self.load_mark(location, &versions[0]).await?,
            no_compact: self.load_mark(location, &versions[1]).await?,
            no_downsample: self.load_mark(location, &versions[2]).await?,
        };
        lock(&self.marks).insert(location.clone(), (versions.clone(), marks.clone()));
        Ok(marks)
    }

    /// An unusable mark counts as none, as in Thanos.
    async fn load_mark<M: Marker>(
        &self,
        location: &BlockLocation,
        version: &Option<(i64, Option<String>)>,
    ) -> Result<Option<M>> {
        if version.is_none() {
            return Ok(None);
        }
        match M::read(&self.bucket, location).await {
            Err(e) if matches!(e.kind(), Kind::Corrupt | Kind::Unsupported) => {
                tracing::warn!(block = %location, error = %e, "marker is ignored: it is not usable");
                Ok(None)
            }
            other => other,
        }
    }
}

impl Listed {
    fn add(&mut self, file: &str, object: &ObjectMeta) {
        let written = object.last_modified.timestamp_millis();
        self.newest = self.newest.max(written);
        self.bytes += object.size;
        if file == META_FILE {
            self.meta_size = Some(object.size);
        }
        let names = [DeletionMark::FILE, NoCompactMark::FILE, NoDownsampleMark::FILE];
        if let Some(at) = names.iter().position(|name| *name == file) {
            self.marks[at] = Some((written, object.e_tag.clone()));
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Writes to the cache; a full disk costs the cache only.
async fn keep(path: &std::path::Path, bytes: &[u8]) {
    let Some(folder) = path.parent() else { return };
    let temporary = path.with_extension("json.tmp");
    let written = async {
        tokio::fs::create_dir_all(folder).await?;
        tokio::fs::write(&temporary, bytes).await?;
        tokio::fs::rename(&temporary, path).await
    };
    if let Err(e) = written.await {
        tracing::warn!(file = %path.display(), error = %e, "meta.json could not be kept locally");
    }
}

/// Removes the kept metas of blocks that are gone.
fn forget_others(folder: &std::path::Path, known: &BTreeSet<BlockId>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let id = entry.file_name().to_str().and_then(|name| name.parse::<BlockId>().ok());
        if id.is_some_and(|id| !known.contains(&id)) && std::fs::remove_file(entry.path().join(META_FILE)).is_ok() {
            // stays if something else is in it
            let _ = std::fs::remove_dir(entry.path());
        }
    }
}
