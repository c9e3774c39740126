//! A store with a bound on the requests that are under way at once.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The places for requests. Cloning shares them; who waits gets one in the order of coming.
#[derive(Clone, Debug)]
pub(super) struct Places(Arc<Semaphore>);

impl Places {
    /// At least one.
    pub(super) fn new(places: usize) -> Places {
        Places(Arc::new(Semaphore::new(places.clamp(1, Semaphore::MAX_PERMITS))))
    }

    async fn wait(&self) -> Option<OwnedSemaphorePermit> {
        // it is never closed
        Arc::clone(&self.0).acquire_owned().await.ok()
    }

    /// A place that nobody waits for.
    pub(super) fn free(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.0).try_acquire_owned().ok()
    }
}

/// Reads and writes of whole objects have a place each, reads until the last of the body. Listings
/// and uploads in parts have none: they go on while their caller does other requests, so that with
/// few places each would wait for the other.
#[derive(Debug)]
pub(super) struct InFlight {
    store: Arc<dyn ObjectStore>,
    places: Places,
}

impl InFlight {
    pub(super) fn new(store: Arc<dyn ObjectStore>, places: Places) -> InFlight {
        InFlight { store, places }
    }
}

impl fmt::Display for InFlight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.store.fmt(f)
    }
}

#[async_trait]
impl ObjectStore for InFlight {
    async fn put_opts(
        &self,
        path: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        let _place = self.places.wait().await;
        self.store.put_opts(path, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        path: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.store.put_multipart_opts(path, options).await
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        let place = self.places.wait().await;
        let result = self.store.get_opts(path, options).await?;
        let GetResultPayload::Stream(body) = result.payload else { return Ok(result) };
        let body = body.map(move |piece| {
            let _held = &place;
            piece
        });
        Ok(GetResult { payload: GetResultPayload::Stream(body.boxed()), ..result })
    }

    async fn get_ranges(&self, path: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let _place = self.places.wait().await;
        self.store.get_ranges(path, ranges).await
    }

    fn delete_stream(
        &self,
        paths: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        self.store.delete_stream(paths)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.store.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.store.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let _place = self.places.wait().await;
        self.store.copy_opts(from, to, options).await
    }
}

#[cfg(test)]
mod tests {
    use object_store::ObjectStoreExt;
    use object_store::memory::InMemory;

    use super::*;

    #[tokio::test]
    async fn a_read_holds_its_place_until_its_body_ends() {
        let (inner, places) = (Arc::new(InMemory::new()), Places::new(1));
        let store = InFlight::new(inner, places.clone());
        let path = Path::from("a");
        store.put(&path, "body".into()).await.unwrap();
        assert!(places.free().is_some(), "a write gave its place back");
        let result = store.get(&path).await.unwrap();
        assert!(places.free().is_none());
        let waiting = store.get(&path);
        let mut waiting = std::pin::pin!(waiting);
        assert!(futures::poll!(waiting.as_mut()).is_pending(), "there is one place");
        assert_eq!(result.bytes().await.unwrap(), "body");
        assert_eq!(waiting.await.unwrap().bytes().await.unwrap(), "body");
        assert!(places.free().is_some());
        assert!(store.get(&Path::from("absent")).await.is_err());
        assert!(places.free().is_some(), "a failed read gives its place back");
    }
}
