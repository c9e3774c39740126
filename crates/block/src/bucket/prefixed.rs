//! A store below a prefix, for stores whose listings come without it.
//!
//! The library's own decorator encodes some characters of a prefix, drops empty parts, and removes
//! the prefix from listings, which ours come without already (see `list_page`).

use std::fmt;

use async_trait::async_trait;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::path::{Path, PathPart};
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

use crate::{Error, Kind};

/// Adds a prefix to every path.
#[derive(Debug)]
pub(crate) struct Prefixed<S> {
    store: S,
    prefix: Prefix,
}

/// A prefix exactly as written; empty parts are kept, as Thanos keeps them.
#[derive(Clone, Debug)]
struct Prefix(Path);

impl Prefix {
    /// The trailing empty part of a directory marker is kept too.
    fn full(&self, path: &Path) -> Path {
        joined(self.0.clone(), path.as_ref())
    }

    fn folder(&self, path: Option<&Path>) -> Path {
        match path {
            Some(path) if !path.is_root() => self.full(path),
            _ => self.0.clone(),
        }
    }
}

/// Appends the parts of a text unchanged; the library's own conversions would encode some of their
/// characters.
fn joined(base: Path, text: &str) -> Path {
    text.split('/').filter_map(|part| PathPart::parse(part).ok()).fold(base, Path::join)
}

impl<S: ObjectStore> Prefixed<S> {
    /// # Errors
    /// The prefix, which has no `/` at either end, has a part that no client can ask for.
    pub(crate) fn new(store: S, prefix: &str) -> crate::Result<Prefixed<S>> {
        check(prefix)?;
        Ok(Prefixed { store, prefix: Prefix(joined(Path::ROOT, prefix)) })
    }
}

/// Checks what can be wrong with a prefix, without a store.
pub(crate) fn check(prefix: &str) -> crate::Result<()> {
    let bad = prefix.split('/').find(|part| PathPart::parse(part).is_err());
    let Some(part) = bad else { return Ok(()) };
    let text = format!(
        "object store configuration: prefix {prefix:?} has the part {part:?}, which HTTP clients \
         take out of the names of objects; move the objects below a prefix without it"
    );
    Err(Error::new(Kind::Invalid, text))
}

impl<S: ObjectStore> fmt::Display for Prefixed<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} below {}", self.store, self.prefix.0)
    }
}

#[async_trait]
impl<S: ObjectStore> ObjectStore for Prefixed<S> {
    async fn put_opts(
        &self,
        path: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        self.store.put_opts(&self.prefix.full(path), payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        path: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.store.put_multipart_opts(&self.prefix.full(path), options).await
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        let mut result = self.store.get_opts(&self.prefix.full(path), options).await?;
        result.meta.location = path.clone();
        Ok(result)
    }

    async fn get_ranges(
        &self,
        path: &Path,
        ranges: &[std::ops::Range<u64>],
    ) -> Result<Vec<bytes::Bytes>> {
        self.store.get_ranges(&self.prefix.full(path), ranges).await
    }

    fn delete_stream(
        &self,
        paths: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let (prefix, cut) = (self.prefix.clone(), self.prefix.0.as_ref().len() + 1);
        let deleted =
            self.store.delete_stream(paths.map_ok(move |path| prefix.full(&path)).boxed());
        let relative =
            move |path: Path| joined(Path::ROOT, path.as_ref().get(cut..).unwrap_or_default());
        deleted.map_ok(relative).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.store.list(Some(&self.prefix.folder(prefix)))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.store.list_with_delimiter(Some(&self.prefix.folder(prefix))).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.store.copy_opts(&self.prefix.full(from), &self.prefix.full(to), options).await
    }
}
