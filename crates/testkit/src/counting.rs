//! An object store that counts what is asked of it.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, UploadPart,
};

use crate::faults::Op;

/// What was asked so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ObjectCounts {
    pub gets: u64,
    pub heads: u64,
    pub puts: u64,
    pub parts: u64,
    pub deletes: u64,
    pub lists: u64,
    pub copies: u64,
    /// Bytes of objects, as asked for: a reader that stops early is charged the whole range.
    pub bytes_read: u64,
    pub bytes_written: u64,
}

#[derive(Debug, Default)]
struct ObjectCounters {
    ops: [AtomicU64; Op::ALL.len()],
    bytes_read: AtomicU64,
    bytes_written: AtomicU64,
    read_ms: AtomicU64,
}

impl ObjectCounters {
    fn count(&self, op: Op, times: u64) {
        self.ops[op as usize].fetch_add(times, Ordering::Relaxed);
    }

    fn written(&self, op: Op, payload: &PutPayload) {
        self.count(op, 1);
        self.bytes_written.fetch_add(payload.content_length() as u64, Ordering::Relaxed);
    }
}

/// Counts operations and bytes, and passes everything on. Clones share the counts.
#[derive(Clone, Debug)]
pub struct CountingObjects {
    inner: Arc<dyn ObjectStore>,
    counters: Arc<ObjectCounters>,
}

impl CountingObjects {
    pub fn new(inner: Arc<dyn ObjectStore>) -> CountingObjects {
        CountingObjects { inner, counters: Arc::default() }
    }

    pub fn counts(&self) -> ObjectCounts {
        let op = |op: Op| self.counters.ops[op as usize].load(Ordering::Relaxed);
        ObjectCounts {
            gets: op(Op::Get),
            heads: op(Op::Head),
            puts: op(Op::Put),
            parts: op(Op::PutPart),
            deletes: op(Op::Delete),
            lists: op(Op::List),
            copies: op(Op::Copy),
            bytes_read: self.counters.bytes_read.load(Ordering::Relaxed),
            bytes_written: self.counters.bytes_written.load(Ordering::Relaxed),
        }
    }

    /// From now on every read takes so long. Where the runtime's time stands still unless nothing
    /// else is to be done, what a question took tells how many reads depended on another.
    pub fn read_takes(&self, latency: Duration) {
        let ms = u64::try_from(latency.as_millis()).unwrap_or(u64::MAX);
        self.counters.read_ms.store(ms, Ordering::Relaxed);
    }

    async fn wait(&self) {
        let ms = self.counters.read_ms.load(Ordering::Relaxed);
        if ms > 0 {
            tokio::time::sleep(Duration::from_millis(ms)).await;
        }
    }

    /// Restarts counting from zero.
    pub fn reset(&self) {
        for counter in &self.counters.ops {
            counter.store(0, Ordering::Relaxed);
        }
        self.counters.bytes_read.store(0, Ordering::Relaxed);
        self.counters.bytes_written.store(0, Ordering::Relaxed);
    }
}

impl fmt::Display for CountingObjects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CountingObjects({})", self.inner)
    }
}

#[async_trait]
impl ObjectStore for CountingObjects {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> Result<PutResult> {
        self.counters.written(Op::Put, &payload);
        self.inner.put_opts(location, payload, opts).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.counters.count(Op::CreateMultipart, 1);
        let inner = self.inner.put_multipart_opts(location, opts).await?;
        Ok(Box::new(CountingUpload { inner, counters: Arc::clone(&self.counters) }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let head = options.head;
        self.counters.count(if head { Op::Head } else { Op::Get }, 1);
        self.wait().await;
        let result = self.inner.get_opts(location, options).await?;
        if !head {
            self.counters
                .bytes_read
                .fetch_add(result.range.end - result.range.start, Ordering::Relaxed);
        }
        Ok(result)
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.counters.count(Op::Get, ranges.len() as u64);
        self.wait().await;
        let bytes = ranges.iter().map(|r| r.end.saturating_sub(r.start)).sum();
        self.counters.bytes_read.fetch_add(bytes, Ordering::Relaxed);
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let counters = Arc::clone(&self.counters);
        self.inner.delete_stream(locations.inspect(move |_| counters.count(Op::Delete, 1)).boxed())
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.counters.count(Op::List, 1);
        self.inner.list(prefix)
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.counters.count(Op::List, 1);
        self.inner.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.counters.count(Op::List, 1);
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.counters.count(Op::Copy, 1);
        self.inner.copy_opts(from, to, options).await
    }
}

#[derive(Debug)]
struct CountingUpload {
    inner: Box<dyn MultipartUpload>,
    counters: Arc<ObjectCounters>,
}

#[async_trait]
impl MultipartUpload for CountingUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        self.counters.written(Op::PutPart, &data);
        self.inner.put_part(data)
    }

    async fn complete(&mut self) -> Result<PutResult> {
        self.counters.count(Op::CompleteMultipart, 1);
        self.inner.complete().await
    }

    async fn abort(&mut self) -> Result<()> {
        self.counters.count(Op::AbortMultipart, 1);
        self.inner.abort().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use object_store::ObjectStoreExt;
    use object_store::memory::InMemory;

    #[tokio::test]
    async fn every_operation_and_byte_is_counted() {
        let store = CountingObjects::new(Arc::new(InMemory::new()));
        let path = Path::from("a/b");
        store.put(&path, PutPayload::from_static(b"0123456789")).await.unwrap();
        assert_eq!(&store.get_range(&path, 2..5).await.unwrap()[..], b"234");
        store.get_ranges(&path, &[0..1, 8..10]).await.unwrap();
        store.head(&path).await.unwrap();
        assert_eq!(store.list(None).count().await, 1);
        let mut upload = store.put_multipart(&Path::from("c")).await.unwrap();
        upload.put_part(PutPayload::from_static(b"xyz")).await.unwrap();
        upload.complete().await.unwrap();
        store.delete(&path).await.unwrap();
        let expected = ObjectCounts {
            gets: 3,
            heads: 1,
            puts: 1,
            parts: 1,
            deletes: 1,
            lists: 1,
            copies: 0,
            bytes_read: 6,
            bytes_written: 13,
        };
        assert_eq!(store.counts(), expected);
        store.reset();
        assert_eq!(store.counts(), ObjectCounts::default());
    }
}
