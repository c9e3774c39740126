//! A store whose reads end: in time, and with no more bytes than were asked for.

use std::fmt;
use std::future::Future;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload,
    ObjectMeta, ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

/// How many times as long listings may take: a folder is listed as a whole.
const LISTING: u32 = 5;

/// Gives up reads that do not go on. Writes pass: how long those may take depends on their size.
#[derive(Debug)]
pub(super) struct Timely {
    store: Arc<dyn ObjectStore>,
    /// How long to wait for the head of an answer, and for each piece of its body.
    limit: Duration,
}

/// Why a read ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadGivenUp {
    #[error("the object store sent nothing for {0:?}")]
    Late(Duration),
    #[error("the object store sent more than the {0} bytes that it said it would")]
    TooLong(u64),
}

impl From<ReadGivenUp> for Error {
    fn from(why: ReadGivenUp) -> Error {
        Error::Generic { store: "read", source: Box::new(why) }
    }
}

/// Whether trying again at once would only take as long again, and hold another thread.
pub(super) fn was_given_up(error: &Error) -> bool {
    matches!(error, Error::Generic { source, .. } if source.is::<ReadGivenUp>())
}

async fn within<T>(limit: Duration, read: impl Future<Output = Result<T>> + Send) -> Result<T> {
    match tokio::time::timeout(limit, read).await {
        Ok(read) => read,
        Err(_) => Err(ReadGivenUp::Late(limit).into()),
    }
}

/// Waits for each item no longer than the limit, and ends with the first error.
fn timely<T: Send + 'static>(
    items: BoxStream<'static, Result<T>>,
    limit: Duration,
) -> BoxStream<'static, Result<T>> {
    let next = move |items: Option<BoxStream<'static, Result<T>>>| async move {
        let mut items = items?;
        match tokio::time::timeout(limit, items.next()).await {
            Ok(item) => {
                let item = item?;
                let rest = item.is_ok().then_some(items);
                Some((item, rest))
            }
            Err(_) => Some((Err(ReadGivenUp::Late(limit).into()), None)),
        }
    };
    stream::unfold(Some(items), next).boxed()
}

/// Fails a body that is longer than `most` bytes.
fn no_longer_than(
    body: BoxStream<'static, Result<Bytes>>,
    most: u64,
) -> BoxStream<'static, Result<Bytes>> {
    let mut seen = 0;
    body.map(move |piece| {
        let piece = piece?;
        seen += piece.len() as u64;
        if seen > most { Err(ReadGivenUp::TooLong(most).into()) } else { Ok(piece) }
    })
    .boxed()
}

impl Timely {
    pub(super) fn new(store: Arc<dyn ObjectStore>, limit: Duration) -> Timely {
        Timely { store, limit }
    }
}

impl fmt::Display for Timely {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.store.fmt(f)
    }
}

#[async_trait]
impl ObjectStore for Timely {
    async fn put_opts(
        &self,
        path: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
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
        let limit = self.limit;
        let result = within(limit, self.store.get_opts(path, options)).await?;
        let (meta, range) = (result.meta.clone(), result.range.clone());
        let attributes = result.attributes.clone();
        let body = match result.payload {
            GetResultPayload::Stream(body) => {
                timely(no_longer_than(body, range.end.saturating_sub(range.start)), limit)
            }
            // a folder's file is read in one go, when it is asked for
            GetResultPayload::File(..) => stream::once(within(limit, result.bytes())).boxed(),
        };
        Ok(GetResult { payload: GetResultPayload::Stream(body), meta, range, attributes })
    }

    async fn get_ranges(&self, path: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        within(self.limit, self.store.get_ranges(path, ranges)).await
    }

    fn delete_stream(
        &self,
        paths: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        self.store.delete_stream(paths)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        timely(self.store.list(prefix), self.limit * LISTING)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        within(self.limit * LISTING, self.store.list_with_delimiter(prefix)).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.store.copy_opts(from, to, options).await
    }
}
