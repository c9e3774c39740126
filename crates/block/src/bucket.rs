//! A bucket: an object store with metrics, retries, coalesced ranged reads and create-only writes.

mod answers;
mod coalesce;
pub(crate) mod filesystem;
pub(crate) mod hedged;
mod hints;
pub(crate) mod http;
mod in_flight;
mod list_page;
mod multipart;
mod pace;
pub(crate) mod prefixed;
mod range_cache;
mod timely;
pub(crate) mod upload_headers;

use std::fmt;
use std::future::Future;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use model::error::in_one_line;
use model::{Budget, Clock, Reservation};
use object_store::path::Path;
use object_store::{GetOptions, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutOptions};

use crate::metrics::BucketMetrics;
use crate::{Error, Kind, Result};

use coalesce::{FetchPlan, Joining, Piece};
pub use hedged::HedgingSettings;
use hedged::{HedgeParts, Hedged};
pub use hints::Hints;
use in_flight::{InFlight, Places};
pub use multipart::MultipartWriter;
use pace::{Answered, Pace};
pub use range_cache::{RangeCache, RangeCacheBytes};
use timely::Timely;

/// The object with which a store's abilities are tested; not a ULID, so that nothing takes it for a
/// block. All processes use the same one, so that those that may not delete leave only one object.
const PROBE: &str = "drumlin-probe/create-only";

/// How a bucket reads and writes.
#[derive(Clone, Debug)]
pub struct BucketSettings {
    /// The value of the label `bucket` of metrics.
    pub name: String,
    /// Ranges further apart than this many bytes are never fetched as one; nearer ones are if the
    /// bucket's latency and throughput say that it takes less time.
    pub coalesce_gap: u64,
    /// No coalesced range is longer than this many bytes (a single range may be).
    pub coalesce_max: u64,
    /// Ranged reads in flight per call.
    pub parallel_ranges: usize,
    /// Attempts per operation, including the first, after failures that may pass. The clients of
    /// S3, GCS and Azure retry requests themselves; this also covers responses that end early.
    pub attempts: u32,
    /// The pause before the second attempt; doubles from then on.
    pub backoff: Duration,
    /// How long a read may hear nothing; then it fails and is not tried again. Less than a query
    /// may take, so that a query ends with the data of other objects.
    pub read_deadline: Duration,
    /// Requests under way at once; more wait.
    pub max_in_flight: usize,
    /// Whether and how reads that take long are sent again.
    pub hedging: Option<HedgingSettings>,
    /// Bytes per part of multipart uploads.
    pub part_size: usize,
    /// The folder, where the bucket is one.
    pub folder: Option<PathBuf>,
    /// Shared with the parts beneath the store that learn about it.
    pub hints: Hints,
}

impl Default for BucketSettings {
    fn default() -> BucketSettings {
        BucketSettings {
            name: "bucket".into(),
            coalesce_gap: 512 << 10,
            coalesce_max: 16 << 20,
            parallel_ranges: 64,
            attempts: 4,
            backoff: Duration::from_millis(100),
            read_deadline: Duration::from_secs(60),
            max_in_flight: 256,
            hedging: None,
            part_size: 8 << 20,
            folder: None,
            hints: Hints::default(),
        }
    }
}

/// What became of a create-only write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PutOutcome {
    Created,
    /// Something is there. It does not prove that another process wrote it: a store may say so
    /// about our own write after a retry.
    AlreadyExists,
}

/// A bucket. Cloning shares it.
#[derive(Clone)]
pub struct Bucket {
    inner: Arc<Inner>,
    cache: Option<RangeCache>,
}

struct Inner {
    store: Arc<dyn ObjectStore>,
    settings: BucketSettings,
    metrics: BucketMetrics,
    clock: Arc<dyn Clock>,
    pace: Pace,
}

impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bucket").field("name", &self.inner.settings.name).finish_non_exhaustive()
    }
}

impl Bucket {
    pub fn new(
        store: Arc<dyn ObjectStore>,
        settings: BucketSettings,
        metrics: BucketMetrics,
        clock: Arc<dyn Clock>,
    ) -> Bucket {
        metrics.show(&settings.name);
        let places = Places::new(settings.max_in_flight);
        let store = match settings.hedging {
            Some(hedging) => {
                let (counts, clock) = (metrics.hedges(&settings.name), Arc::clone(&clock));
                let parts = HedgeParts { settings: hedging, counts, places: places.clone(), clock };
                Arc::new(Hedged::new(store, parts))
            }
            None => store,
        };
        let store = Arc::new(Timely::new(store, settings.read_deadline));
        let store = Arc::new(InFlight::new(store, places));
        let inner = Inner { store, settings, metrics, clock, pace: Pace::default() };
        Bucket { inner: Arc::new(inner), cache: None }
    }

    /// The same bucket for reading ranges of objects that never change once written, each of them
    /// once.
    #[must_use]
    pub fn caching(self, cache: RangeCache) -> Bucket {
        Bucket { cache: Some(cache), ..self }
    }

    /// Whether what is read once is here when it is read again.
    pub fn is_caching(&self) -> bool {
        self.cache.is_some()
    }

    /// In a bucket that is a folder, removes what broken uploads left longer ago than `age`;
    /// returns how many files. Other buckets remove such parts by rules of their own, so nothing is
    /// done for them.
    pub async fn sweep_torn_uploads(&self, age: Duration) -> Result<usize> {
        let Some(folder) = self.inner.settings.folder.clone() else { return Ok(0) };
        let age = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
        let older_than = self.inner.clock.now().saturating_add(-age);
        tokio::task::spawn_blocking(move || filesystem::sweep_torn_uploads(&folder, older_than))
            .await
            .map_err(|e| Error::caused(Kind::Internal, "sweeping torn uploads", e))?
    }

    pub fn name(&self) -> &str {
        &self.inner.settings.name
    }

    pub fn settings(&self) -> &BucketSettings {
        &self.inner.settings
    }

    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.inner.clock
    }

    /// The store beneath, for readers that have their own ranged reads. Those are not counted.
    pub fn store(&self) -> &Arc<dyn ObjectStore> {
        &self.inner.store
    }

    /// A whole object.
    pub async fn get(&self, path: &Path) -> Result<Bytes> {
        self.counted("get", path, "fetching", |store| async move {
            store.get(path).await?.bytes().await
        })
        .await
    }

    /// A whole object of at most `most` bytes. Nothing is fetched of a larger one.
    ///
    /// # Errors
    /// `Corrupt` for a larger one.
    pub async fn get_up_to(&self, path: &Path, most: u64) -> Result<Bytes> {
        let (bytes, ()) = self.get_after(path, |size| within(path, size, most)).await?;
        Ok(bytes)
    }

    /// As [`get_up_to`](Bucket::get_up_to), with the memory for it, which is reserved before
    /// anything is fetched; `None` where there is no such object.
    ///
    /// # Errors
    /// `Corrupt` for a larger one, `Limit` when there is no memory for it.
    pub async fn get_charged(
        &self,
        path: &Path,
        most: u64,
        budget: &Budget,
    ) -> Result<Option<(Bytes, Reservation)>> {
        let charge = |size| {
            within(path, size, most)?;
            let mut held = budget.reserve(format!("fetching {path}"));
            held.grow(size).map_err(|e| Error::passed(Kind::Limit, e))?;
            Ok(held)
        };
        absent_as_none(self.get_after(path, charge).await)
    }

    /// A whole object, whose size is looked at before it is fetched.
    async fn get_after<T: Send>(
        &self,
        path: &Path,
        look: impl Fn(u64) -> Result<T> + Sync,
    ) -> Result<(Bytes, T)> {
        let look = &look;
        let fetched = self.counted("get", path, "fetching", |store| async move {
            let object = store.get(path).await?;
            match look(object.meta.size) {
                Ok(looked) => Ok(Ok((object.bytes().await?, looked))),
                Err(e) => Ok(Err(e)),
            }
        });
        fetched.await?
    }

    /// As [`get_up_to`](Bucket::get_up_to); `None` where there is no such object.
    pub async fn get_if_exists(&self, path: &Path, most: u64) -> Result<Option<Bytes>> {
        absent_as_none(self.get_up_to(path, most).await)
    }

    /// A part of an object; shorter where the object ends, empty where it ended before.
    pub async fn get_range(&self, path: &Path, range: Range<u64>) -> Result<Bytes> {
        if self.cache.is_none() {
            return self.fetch_range(path, range).await;
        }
        let parts = self.get_ranges(path, std::slice::from_ref(&range)).await?;
        Ok(parts.into_iter().next().unwrap_or_default())
    }

    async fn fetch_range(&self, path: &Path, range: Range<u64>) -> Result<Bytes> {
        let fetched = self
            .counted("get_range", path, "fetching a range of", |store| {
                self.get_range_once(store, path, range.clone())
            })
            .await;
        // stores report a range beyond the end with errors of no particular kind
        if let Err(e) = &fetched
            && e.kind() == Kind::Unavailable
            && self.head(path).await.is_ok_and(|object| object.size <= range.start)
        {
            return Ok(Bytes::new());
        }
        fetched
    }

    async fn get_range_once(
        &self,
        store: &Arc<dyn ObjectStore>,
        path: &Path,
        range: Range<u64>,
    ) -> object_store::Result<Bytes> {
        let Inner { clock, pace, .. } = &*self.inner;
        let (request, start) = (pace.begin(), clock.monotonic());
        let options = GetOptions { range: Some(range.into()), ..GetOptions::default() };
        let answer = store.get_opts(path, options).await?;
        let first_byte = clock.monotonic();
        let bytes = answer.bytes().await?;
        request.ended(Answered {
            latency: first_byte.saturating_sub(start),
            body: clock.monotonic().saturating_sub(first_byte),
            bytes: bytes.len(),
        });
        Ok(bytes)
    }

    /// Parts of an object, in the order asked for; neighbours are fetched together and several at a
    /// time.
    pub async fn get_ranges(&self, path: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.get_ranges_within(path, ranges, self.inner.settings.coalesce_gap).await
    }

    /// As [`get_ranges`](Bucket::get_ranges), joining only what lies closer together than `gap`
    /// bytes.
    pub async fn get_ranges_within(
        &self,
        path: &Path,
        ranges: &[Range<u64>],
        gap: u64,
    ) -> Result<Vec<Bytes>> {
        let Some(cache) = &self.cache else {
            let plan = self.plan(ranges, gap);
            return Ok(plan.cut(&self.fetch_planned(path, &plan).await?));
        };
        let mut parts = cache.find(path, ranges).await;
        let missing: Vec<usize> = (0..parts.len()).filter(|at| parts[*at].is_none()).collect();
        if !missing.is_empty() {
            let wanted: Vec<Range<u64>> = missing.iter().map(|at| ranges[*at].clone()).collect();
            let plan = self.plan(&wanted, gap);
            let pieces = self.fetch_planned(path, &plan).await?;
            cache.settle().await;
            for (at, bytes) in missing.into_iter().zip(plan.cut(&pieces)) {
                parts[at] = Some(bytes);
            }
        }
        Ok(parts.into_iter().map(Option::unwrap_or_default).collect())
    }

    /// Neighbours are fetched together where that takes less time, as the bucket was lately.
    fn plan(&self, ranges: &[Range<u64>], gap: u64) -> FetchPlan {
        /// As long as nothing is known of the bucket.
        const FIRST_GAP: u64 = 128 << 10;
        let BucketSettings { coalesce_gap, coalesce_max, parallel_ranges, .. } =
            self.inner.settings;
        let worth = self.inner.pace.gap(parallel_ranges).unwrap_or(FIRST_GAP);
        let gap = gap.min(coalesce_gap).min(worth);
        FetchPlan::new(ranges, Joining { gap, max: coalesce_max })
    }

    /// Fetches several parts at a time and has them cached; they come in order.
    async fn fetch_planned(&self, path: &Path, plan: &FetchPlan) -> Result<Vec<Piece>> {
        let fetch = |range: Range<u64>| async move {
            let Some(cache) = &self.cache else {
                let bytes = self.fetch_range(path, range.clone()).await?;
                return Ok::<_, Error>(vec![Piece { range, bytes }]);
            };
            let (bucket, object, asked) = (self.clone(), path.clone(), range.clone());
            let fetching = async move { bucket.fetch_range(&object, asked).await };
            let bytes = cache.fetch(path, range.clone(), fetching).await?;
            let kept = plan.kept(Piece { range, bytes });
            cache.keep(path, &kept).await;
            Ok(kept)
        };
        let pieces: Vec<Vec<Piece>> = futures::stream::iter(plan.fetches().to_vec())
            .map(fetch)
            .buffered(self.inner.settings.parallel_ranges.max(1))
            .try_collect()
            .await?;
        Ok(pieces.into_iter().flatten().collect())
    }

    pub async fn head(&self, path: &Path) -> Result<ObjectMeta> {
        self.counted(
            "attributes",
            path,
            "looking up",
            |store| async move { store.head(path).await },
        )
        .await
    }

    pub async fn exists(&self, path: &Path) -> Result<bool> {
        let found = self
            .counted("exists", path, "looking up", |store| async move { store.head(path).await })
            .await;
        Ok(absent_as_none(found)?.is_some())
    }

    /// Writes an object, replacing one that is there.
    pub async fn put(&self, path: &Path, bytes: Bytes) -> Result<()> {
        let len = bytes.len();
        self.counted("upload", path, "writing", |store| {
            let bytes = bytes.clone();
            async move { store.put(path, bytes.into()).await.map(|_| ()) }
        })
        .await?;
        self.uploaded(len);
        Ok(())
    }

    /// Writes an object unless there is one. It is not tried again after a failure: the caller must
    /// look what is there.
    ///
    /// # Errors
    /// `Unsupported` when the store has no create-only writes. After the first such answer nothing
    /// more is sent.
    pub async fn put_if_absent(&self, path: &Path, bytes: Bytes) -> Result<PutOutcome> {
        if !self.hints().has_create_only() {
            return Err(Error::new(
                Kind::Unsupported,
                format!("creating {path}: the store has no create-only writes"),
            ));
        }
        let len = bytes.len();
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        let labels = [self.name(), "upload"];
        let start = self.inner.clock.monotonic();
        self.inner.metrics.operations.with_label_values(&labels).inc();
        match self.inner.store.put_opts(path, bytes.into(), options).await {
            Ok(_) => {
                self.succeeded(&labels, start);
                self.uploaded(len);
                Ok(PutOutcome::Created)
            }
            Err(
                object_store::Error::AlreadyExists { .. }
                | object_store::Error::Precondition { .. },
            ) => {
                self.succeeded(&labels, start);
                Ok(PutOutcome::AlreadyExists)
            }
            Err(e) => {
                self.inner.metrics.failures.with_label_values(&labels).inc();
                let error = Error::store("creating", path, self.name(), e);
                if error.kind() != Kind::Unsupported && self.hints().has_create_only() {
                    return Err(error);
                }
                self.lacks_create_only(&in_one_line(&error).to_string());
                Err(Error::passed(Kind::Unsupported, error))
            }
        }
    }

    /// Writes an object unless there is one; where the store cannot do both at once, by looking
    /// first. Two writers at the same time may then both have written.
    pub async fn put_unless_there(&self, path: &Path, bytes: Bytes) -> Result<PutOutcome> {
        if let Some(outcome) = self.put_create_only(path, bytes.clone()).await? {
            return Ok(outcome);
        }
        if self.exists(path).await? {
            return Ok(PutOutcome::AlreadyExists);
        }
        self.put(path, bytes).await?;
        Ok(PutOutcome::Created)
    }

    /// [`put_if_absent`](Bucket::put_if_absent); `None` where the store has no create-only writes.
    async fn put_create_only(&self, path: &Path, bytes: Bytes) -> Result<Option<PutOutcome>> {
        match self.put_if_absent(path, bytes).await {
            Err(e) if e.kind() == Kind::Unsupported => Ok(None),
            known => known.map(Some),
        }
    }

    /// Tries out whether the store has create-only writes, before anything depends on it, and warns
    /// where it has none. What cannot be found out now shows with the first write. To be called
    /// once by every process that writes.
    pub async fn probe_create_only(&self) {
        match self.probe_conditional_put(&Path::from(PROBE)).await {
            Ok(true) => {}
            Ok(false) => self.lacks_create_only("the second write of a probe was no refusal"),
            Err(e) => {
                tracing::warn!(error = %in_one_line(&e), "it could not be tried out whether the \
                    bucket has create-only writes")
            }
        }
    }

    /// Whether create-only writes work here: writes the object `path` twice that way and removes
    /// it. Processes may probe with one path at a time: only the one that made the object removes
    /// it.
    pub async fn probe_conditional_put(&self, path: &Path) -> Result<bool> {
        let write = || self.put_create_only(path, Bytes::from_static(b"probe"));
        // another process is probing, or one was stopped while probing, or may not delete
        let works = match write().await? {
            // it may belong to another process by now
            Some(PutOutcome::AlreadyExists) => return Ok(true),
            Some(PutOutcome::Created) => {
                write().await.map(|outcome| outcome == Some(PutOutcome::AlreadyExists))
            }
            None => Ok(false),
        };
        // a store may have written and still said that it did not
        if let Err(e) = self.delete(path).await {
            tracing::debug!(object = %path, error = %in_one_line(&e), "the probe could not be \
                removed");
        }
        works
    }

    fn lacks_create_only(&self, reason: &str) {
        if self.hints().lacks_create_only() {
            tracing::warn!(
                bucket = self.name(),
                reason,
                "the bucket has no create-only writes: outputs and marks are looked up and then \
                 written, so that two compactors at once may write the same twice; run one at a \
                 time"
            );
        }
    }

    /// What is known about the store besides its answers.
    pub fn hints(&self) -> &Hints {
        &self.inner.settings.hints
    }

    /// Removes the markers of a folder, as consoles make them, that listings have shown. Azure's
    /// client cannot name them, so nothing is removed there.
    pub async fn delete_markers(&self, folder: &Path) -> Result<()> {
        for marker in self.hints().take_markers(folder) {
            self.delete(&marker).await?;
        }
        Ok(())
    }

    /// Starts an upload in parts; the object appears when it is finished.
    pub fn multipart(&self, path: &Path) -> MultipartWriter {
        MultipartWriter::new(self.clone(), path.clone())
    }

    /// Uploads a local file, in parts where it is long.
    pub async fn upload_file(&self, path: &Path, local: &std::path::Path) -> Result<u64> {
        multipart::upload_file(self, path, local).await
    }

    /// Removes an object; succeeds if there is none.
    pub async fn delete(&self, path: &Path) -> Result<()> {
        let deleted = self
            .counted("delete", path, "deleting", |store| async move { store.delete(path).await })
            .await;
        absent_as_none(deleted).map(|_| ())
    }

    /// Every object below `prefix`, in no particular order.
    pub fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let labels = [self.name(), "iter"];
        self.inner.metrics.operations.with_label_values(&labels).inc();
        let failures = self.inner.metrics.failures.with_label_values(&labels);
        let (shown, name) = (prefix.cloned().unwrap_or_default(), self.name().to_owned());
        self.inner
            .store
            .list(prefix)
            .map_err(move |e| {
                failures.inc();
                Error::store("listing", &shown, &name, e)
            })
            .boxed()
    }

    /// The names of folders and of objects directly below `prefix`.
    pub async fn list_dir(&self, prefix: Option<&Path>) -> Result<(Vec<String>, Vec<ObjectMeta>)> {
        let shown = prefix.cloned().unwrap_or_default();
        let list = self
            .counted("iter", &shown, "listing", |store| async move {
                store.list_with_delimiter(prefix).await
            })
            .await?;
        let dirs =
            list.common_prefixes.iter().filter_map(|p| p.filename().map(str::to_owned)).collect();
        Ok((dirs, list.objects))
    }

    /// Runs an operation with metrics, and repeats it after failures that may pass.
    async fn counted<'a, T: Transferred, F, Fut>(
        &'a self,
        operation: &'static str,
        path: &'a Path,
        attempt: &'static str,
        run: F,
    ) -> Result<T>
    where
        F: Fn(&'a Arc<dyn ObjectStore>) -> Fut,
        Fut: Future<Output = object_store::Result<T>>,
    {
        let Inner { store, settings, metrics, clock, .. } = &*self.inner;
        let labels = [self.name(), operation];
        let mut pause = settings.backoff;
        let mut attempts = settings.attempts.max(1);
        loop {
            attempts -= 1;
            let start = clock.monotonic();
            metrics.operations.with_label_values(&labels).inc();
            match run(store).await {
                Ok(value) => {
                    self.succeeded(&labels, start);
                    if let Some(bytes) = value.fetched() {
                        metrics.fetched_bytes.with_label_values(&labels).inc_by(bytes as f64);
                        metrics.transferred_bytes.with_label_values(&labels).observe(bytes as f64);
                    }
                    return Ok(value);
                }
                Err(e) => {
                    let is_final = timely::was_given_up(&e);
                    let error = Error::store(attempt, path, self.name(), e);
                    if error.kind() != Kind::NotFound {
                        metrics.failures.with_label_values(&labels).inc();
                    }
                    if error.kind() != Kind::Unavailable || is_final || attempts == 0 {
                        return Err(error);
                    }
                    tracing::debug!(
                        object = %path,
                        operation,
                        error = %in_one_line(&error),
                        "operation failed, trying again"
                    );
                    clock.sleep(spread(pause, path, clock.monotonic())).await;
                    pause *= 2;
                }
            }
        }
    }

    fn succeeded(&self, labels: &[&str; 2], start: Duration) {
        let took = self.inner.clock.monotonic().saturating_sub(start);
        self.inner.metrics.duration.with_label_values(labels).observe(took.as_secs_f64());
    }

    fn uploaded(&self, bytes: usize) {
        let metrics = &self.inner.metrics;
        metrics.transferred_bytes.with_label_values(&[self.name(), "upload"]).observe(bytes as f64);
        let now = self.inner.clock.now().0 as f64 / 1000.0;
        metrics.last_upload.with_label_values(&[self.name()]).set(now);
    }
}

/// How many bytes a successful operation fetched.
trait Transferred {
    fn fetched(&self) -> Option<usize>;
}

impl Transferred for Bytes {
    fn fetched(&self) -> Option<usize> {
        Some(self.len())
    }
}

/// Nothing, where the size of an object was enough to refuse it.
impl<T> Transferred for Result<(Bytes, T)> {
    fn fetched(&self) -> Option<usize> {
        self.as_ref().ok().map(|(bytes, _)| bytes.len())
    }
}

impl Transferred for () {
    fn fetched(&self) -> Option<usize> {
        None
    }
}

impl Transferred for ObjectMeta {
    fn fetched(&self) -> Option<usize> {
        None
    }
}

impl Transferred for object_store::ListResult {
    fn fetched(&self) -> Option<usize> {
        None
    }
}

/// Between half of the pause and all of it, so that requests that failed at once do not come again
/// at once.
fn spread(pause: Duration, path: &Path, now: Duration) -> Duration {
    const PARTS: u32 = 1024;
    let mut hasher = DefaultHasher::new();
    (path.as_ref(), now).hash(&mut hasher);
    let part = (hasher.finish() % u64::from(PARTS)) as u32;
    pause / 2 + pause / 2 * part / PARTS
}

/// # Errors
/// The object is larger than what is read of it.
fn within(path: &Path, size: u64, most: u64) -> Result<()> {
    if size <= most {
        return Ok(());
    }
    let text = format!(
        "fetching {path}: it has {size} bytes, and more than {most} are not read; remove it, or \
         put the right one in its place"
    );
    Err(Error::new(Kind::Corrupt, text))
}

fn absent_as_none<T>(result: Result<T>) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(e) if e.kind() == Kind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests;
