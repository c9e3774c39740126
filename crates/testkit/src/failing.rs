//! An object store that fails as planned.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload,
    ObjectMeta, ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
    UploadPart,
};

use crate::faults::{Fault, FaultPlan, Op};

/// How many of the newest objects a stale listing leaves out.
const STALE_OBJECTS: usize = 8;

/// Fails operations as a [`FaultPlan`] says, before or after they were done. Clones share plan and
/// store.
#[derive(Clone, Debug)]
pub struct FailingObjects {
    inner: Arc<dyn ObjectStore>,
    plan: FaultPlan,
    newest: Arc<Mutex<VecDeque<Path>>>,
}

impl FailingObjects {
    pub fn new(inner: Arc<dyn ObjectStore>, plan: FaultPlan) -> FailingObjects {
        FailingObjects { inner, plan, newest: Arc::default() }
    }

    fn wrote(&self, location: &Path) {
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        newest.push_back(location.clone());
        if newest.len() > STALE_OBJECTS {
            newest.pop_front();
        }
    }

    /// What a listing leaves out, or the error it ends with.
    fn hidden(&self, prefix: Option<&Path>) -> Result<Vec<Path>> {
        match self.plan.draw(Op::List, prefix.map_or("", |p| p.as_ref())) {
            None | Some(Fault::AppliedButUnavailable | Fault::Flipped) => Ok(Vec::new()),
            Some(Fault::StaleList) => Ok(self
                .newest
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .iter()
                .cloned()
                .collect()),
            Some(fault) => Err(failure(Op::List, fault)),
        }
    }
}

fn failure(op: Op, fault: Fault) -> Error {
    let source = format!("{op:?} failed as planned: {fault:?}").into();
    match fault {
        Fault::Denied => Error::PermissionDenied { path: "FailingObjects".into(), source },
        _ => Error::Generic { store: "FailingObjects", source },
    }
}

/// Runs a write under a fault: not at all, or done and then reported as failed.
async fn under<T>(
    op: Op,
    fault: Option<Fault>,
    write: impl Future<Output = Result<T>> + Send,
) -> Result<T> {
    match fault {
        None | Some(Fault::StaleList | Fault::Flipped) => write.await,
        Some(Fault::Hung) => std::future::pending().await,
        Some(fault @ Fault::AppliedButUnavailable) => {
            write.await?;
            Err(failure(op, fault))
        }
        Some(fault) => Err(failure(op, fault)),
    }
}

/// Half of the body, then an error.
fn torn(result: GetResult) -> GetResult {
    let GetResult { payload, meta, range, attributes } = result;
    let half = (range.end - range.start) / 2;
    let whole = GetResult {
        payload,
        meta: meta.clone(),
        range: range.clone(),
        attributes: attributes.clone(),
    };
    let mut left = half as usize;
    let first = whole.into_stream().map_ok(move |mut bytes| {
        bytes.truncate(left);
        left -= bytes.len();
        bytes
    });
    let broken = futures::stream::once(async { Err(failure(Op::Get, Fault::Torn)) });
    GetResult {
        payload: GetResultPayload::Stream(first.chain(broken).boxed()),
        meta,
        range,
        attributes,
    }
}

/// The whole body, with one byte of it wrong.
fn flipped(result: GetResult) -> GetResult {
    let GetResult { payload, meta, range, attributes } = result;
    let middle = (range.end - range.start) as usize / 2;
    let whole = GetResult {
        payload,
        meta: meta.clone(),
        range: range.clone(),
        attributes: attributes.clone(),
    };
    let mut passed = 0;
    let body = whole.into_stream().map_ok(move |bytes| {
        let mut bytes = bytes.to_vec();
        if (passed..passed + bytes.len()).contains(&middle) {
            bytes[middle - passed] ^= 0xff;
        }
        passed += bytes.len();
        bytes.into()
    });
    GetResult { payload: GetResultPayload::Stream(body.boxed()), meta, range, attributes }
}

impl fmt::Display for FailingObjects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FailingObjects({})", self.inner)
    }
}

#[async_trait]
impl ObjectStore for FailingObjects {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> Result<PutResult> {
        let fault = self.plan.draw(Op::Put, location.as_ref());
        let put = async {
            let result = self.inner.put_opts(location, payload, opts).await;
            self.wrote(location);
            result
        };
        under(Op::Put, fault, put).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let fault = self.plan.draw(Op::CreateMultipart, location.as_ref());
        let inner =
            under(Op::CreateMultipart, fault, self.inner.put_multipart_opts(location, opts))
                .await?;
        Ok(Box::new(FailingUpload { inner, store: self.clone(), location: location.clone() }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let op = if options.head { Op::Head } else { Op::Get };
        match self.plan.draw(op, location.as_ref()) {
            None | Some(Fault::StaleList) => self.inner.get_opts(location, options).await,
            Some(Fault::Torn) if op == Op::Get => {
                Ok(torn(self.inner.get_opts(location, options).await?))
            }
            Some(Fault::Flipped) if op == Op::Get => {
                Ok(flipped(self.inner.get_opts(location, options).await?))
            }
            Some(Fault::Flipped) => self.inner.get_opts(location, options).await,
            Some(Fault::Hung) => std::future::pending().await,
            Some(fault) => Err(failure(op, fault)),
        }
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let store = self.clone();
        let delete = move |location: Result<Path>| {
            let store = store.clone();
            async move {
                let location = location?;
                let fault = store.plan.draw(Op::Delete, location.as_ref());
                let one = futures::stream::once({
                    let location = location.clone();
                    async move { Ok(location) }
                });
                let deleted = store.inner.delete_stream(one.boxed()).try_collect::<Vec<Path>>();
                under(Op::Delete, fault, deleted).await?;
                Ok(location)
            }
        };
        locations.then(delete).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.hidden(prefix) {
            Err(error) => futures::stream::once(async { Err(error) }).boxed(),
            Ok(hidden) => {
                let known =
                    move |meta: &ObjectMeta| std::future::ready(!hidden.contains(&meta.location));
                self.inner.list(prefix).try_filter(known).boxed()
            }
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let hidden = self.hidden(prefix)?;
        let mut result = self.inner.list_with_delimiter(prefix).await?;
        result.objects.retain(|meta| !hidden.contains(&meta.location));
        Ok(result)
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let fault = self.plan.draw(Op::Copy, to.as_ref());
        under(Op::Copy, fault, self.inner.copy_opts(from, to, options)).await
    }
}

#[derive(Debug)]
struct FailingUpload {
    inner: Box<dyn MultipartUpload>,
    store: FailingObjects,
    location: Path,
}

#[async_trait]
impl MultipartUpload for FailingUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let fault = self.store.plan.draw(Op::PutPart, self.location.as_ref());
        Box::pin(under(Op::PutPart, fault, self.inner.put_part(data)))
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let fault = self.store.plan.draw(Op::CompleteMultipart, self.location.as_ref());
        let result = under(Op::CompleteMultipart, fault, self.inner.complete()).await;
        self.store.wrote(&self.location);
        result
    }

    async fn abort(&mut self) -> Result<()> {
        let fault = self.store.plan.draw(Op::AbortMultipart, self.location.as_ref());
        under(Op::AbortMultipart, fault, self.inner.abort()).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use object_store::ObjectStoreExt;
    use object_store::memory::InMemory;

    fn failing(fault: Fault, op: Op) -> (Arc<InMemory>, FailingObjects) {
        let inner = Arc::new(InMemory::new());
        let store = FailingObjects::new(
            inner.clone(),
            FaultPlan::new(move |call| (call.op == op).then_some(fault)),
        );
        (inner, store)
    }

    #[tokio::test]
    async fn puts_fail_before_or_after_they_are_done() {
        let path = Path::from("k");
        let (inner, store) = failing(Fault::Unavailable, Op::Put);
        store.put(&path, PutPayload::from_static(b"x")).await.unwrap_err();
        assert!(inner.head(&path).await.is_err());
        let (inner, store) = failing(Fault::AppliedButUnavailable, Op::Put);
        store.put(&path, PutPayload::from_static(b"x")).await.unwrap_err();
        assert!(inner.head(&path).await.is_ok());
    }

    #[tokio::test]
    async fn a_torn_read_gives_half() {
        let (_, store) = failing(Fault::Torn, Op::Get);
        store.put(&Path::from("k"), PutPayload::from_static(b"0123456789")).await.unwrap();
        let mut body = store.get(&Path::from("k")).await.unwrap().into_stream();
        assert_eq!(&body.next().await.unwrap().unwrap()[..], b"01234");
        assert!(body.next().await.unwrap().is_err());
    }

    #[tokio::test]
    async fn stale_lists_do_not_know_the_newest() {
        let (_, store) = failing(Fault::StaleList, Op::List);
        for i in 0..10 {
            store.put(&Path::from(format!("{i}")), PutPayload::new()).await.unwrap();
        }
        assert_eq!(store.list(None).try_collect::<Vec<_>>().await.unwrap().len(), 2);
        assert_eq!(store.list_with_delimiter(None).await.unwrap().objects.len(), 2);
    }

    #[tokio::test]
    async fn deletes_and_multipart_uploads_fail_too() {
        let (inner, store) = failing(Fault::AppliedButUnavailable, Op::Delete);
        store.put(&Path::from("k"), PutPayload::new()).await.unwrap();
        store.delete(&Path::from("k")).await.unwrap_err();
        assert!(inner.head(&Path::from("k")).await.is_err());
        let (inner, store) = failing(Fault::Unavailable, Op::CompleteMultipart);
        let mut upload = store.put_multipart(&Path::from("m")).await.unwrap();
        upload.put_part(PutPayload::from_static(b"x")).await.unwrap();
        upload.complete().await.unwrap_err();
        assert!(inner.head(&Path::from("m")).await.is_err());
    }
}
