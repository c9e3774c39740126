//! What the tests of this crate share.

use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};
use std::time::Duration;

use futures::stream::BoxStream;
use model::{Clock, TimestampMs};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use prometheus::Registry;
use tsdb::meta::BlockMeta;

use crate::{Bucket, BucketMetrics, BucketSettings};

/// Starts at 2026-02-01 and moves when something sleeps.
#[derive(Debug)]
pub(crate) struct TestClock(AtomicI64);

impl TestClock {
    pub(crate) fn new() -> Arc<TestClock> {
        Arc::new(TestClock(AtomicI64::new(1_769_904_000_000)))
    }
}

impl Clock for TestClock {
    fn now(&self) -> TimestampMs {
        TimestampMs(self.0.load(Ordering::Relaxed))
    }

    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::Relaxed).unsigned_abs())
    }

    fn sleep(&self, span: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        self.0.fetch_add(span.as_millis() as i64, Ordering::Relaxed);
        Box::pin(std::future::ready(()))
    }
}

/// Counts the lines of the log of this thread.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lines(Arc<[AtomicU32; 2]>);

impl Lines {
    /// Counts until the guard is dropped.
    pub(crate) fn listen(&self) -> tracing::subscriber::DefaultGuard {
        tracing::subscriber::set_default(self.clone())
    }

    pub(crate) fn warnings(&self) -> u32 {
        self.0[0].load(Ordering::Relaxed)
    }

    pub(crate) fn infos(&self) -> u32 {
        self.0[1].load(Ordering::Relaxed)
    }
}

impl tracing::Subscriber for Lines {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.is_event()
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let at = match *event.metadata().level() {
            tracing::Level::WARN => 0,
            tracing::Level::INFO => 1,
            _ => return,
        };
        self.0[at].fetch_add(1, Ordering::Relaxed);
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

/// A store in memory of which those reads fail that `failure` gives an error for.
pub(crate) struct FailingReads<F> {
    inner: InMemory,
    failure: F,
}

impl<F: Fn(&Path) -> Option<object_store::Error>> FailingReads<F> {
    pub(crate) fn new(failure: F) -> FailingReads<F> {
        FailingReads { inner: InMemory::new(), failure }
    }
}

impl<F> fmt::Debug for FailingReads<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FailingReads").finish_non_exhaustive()
    }
}

impl<F> fmt::Display for FailingReads<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("failing reads")
    }
}

#[async_trait::async_trait]
impl<F> ObjectStore for FailingReads<F>
where
    F: Fn(&Path) -> Option<object_store::Error> + Send + Sync + 'static,
{
    async fn put_opts(&self, p: &Path, b: PutPayload, o: PutOptions) -> Result<PutResult> {
        self.inner.put_opts(p, b, o).await
    }

    async fn put_multipart_opts(
        &self,
        p: &Path,
        o: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(p, o).await
    }

    async fn get_opts(&self, p: &Path, o: GetOptions) -> Result<GetResult> {
        match (self.failure)(p) {
            Some(failure) => Err(failure),
            None => self.inner.get_opts(p, o).await,
        }
    }

    fn delete_stream(
        &self,
        paths: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(paths)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, o: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, o).await
    }
}

pub(crate) fn bucket_over(store: Arc<dyn ObjectStore>) -> Bucket {
    let metrics = BucketMetrics::new(&Registry::new()).unwrap();
    Bucket::new(store, BucketSettings::default(), metrics, TestClock::new())
}

/// How often a bucket was read.
#[derive(Clone, Debug, Default)]
pub(crate) struct CountedReads(Arc<AtomicU32>);

impl CountedReads {
    pub(crate) fn count(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}

pub(crate) fn counted_bucket() -> (Bucket, CountedReads) {
    let reads = CountedReads::default();
    let counting = reads.clone();
    let count = move |_: &Path| {
        counting.0.fetch_add(1, Ordering::Relaxed);
        None
    };
    (bucket_over(Arc::new(FailingReads::new(count))), reads)
}

pub(crate) fn memory_bucket() -> Bucket {
    bucket_over(Arc::new(InMemory::new()))
}

pub(crate) struct Fixture {
    pub(crate) index: &'static [u8],
    pub(crate) meta: &'static str,
}

/// A 2h block that Prometheus wrote.
pub(crate) const FIXTURE: Fixture = Fixture {
    index: include_bytes!("../../tsdb/tests/data/raw/01M81HXMY0XQF1A6MF7S68NK18/index"),
    meta: include_str!("../../tsdb/tests/data/raw/01M81HXMY0XQF1A6MF7S68NK18/meta.json"),
};

pub(crate) fn fixture_dir() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../tsdb/tests/data/raw/01M81HXMY0XQF1A6MF7S68NK18")
}

pub(crate) fn fixture_meta() -> BlockMeta {
    BlockMeta::from_json(FIXTURE.meta.as_bytes()).unwrap()
}
