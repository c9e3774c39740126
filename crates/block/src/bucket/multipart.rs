//! Uploads of long objects in parts.

use bytes::{Bytes, BytesMut};
use futures::stream::FuturesUnordered;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{MultipartUpload, ObjectStoreExt, UploadPart};
use tokio::io::AsyncReadExt;

use super::Bucket;
use crate::{Error, Result};

/// Parts in flight per upload.
const PARALLEL_PARTS: usize = 2;

/// An object that is being written from front to back. Nothing is visible until
/// [`finish`](MultipartWriter::finish); dropped before, it leaves at most parts that the store
/// removes by its own rules.
#[derive(Debug)]
pub struct MultipartWriter {
    bucket: Bucket,
    path: Path,
    upload: Option<Box<dyn MultipartUpload>>,
    pending: BytesMut,
    parts: FuturesUnordered<UploadPart>,
    /// The bytes of parts under way. Once the store lets go of them, the next part is gathered in
    /// the same memory: fresh memory costs a page fault every 4 KiB.
    sent: Vec<Bytes>,
    written: u64,
}

impl MultipartWriter {
    pub(super) fn new(bucket: Bucket, path: Path) -> MultipartWriter {
        let (pending, parts) = (BytesMut::new(), FuturesUnordered::new());
        MultipartWriter { bucket, path, upload: None, pending, parts, sent: Vec::new(), written: 0 }
    }

    /// Bytes written so far.
    pub fn len(&self) -> u64 {
        self.written
    }

    pub fn is_empty(&self) -> bool {
        self.written == 0
    }

    /// Appends bytes; waits while too many parts are under way.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.written += bytes.len() as u64;
        let part_size = self.bucket.settings().part_size.max(1);
        let mut rest = bytes;
        while !rest.is_empty() {
            let room = part_size - self.pending.len();
            let (now, later) = rest.split_at(room.min(rest.len()));
            self.pending.extend_from_slice(now);
            rest = later;
            if self.pending.len() == part_size {
                self.send_part().await?;
            }
        }
        Ok(())
    }

    /// Makes the object visible; returns how long it is.
    pub async fn finish(mut self) -> Result<u64> {
        if self.upload.is_none() {
            // one request suffices, and it can be tried again
            let bytes = std::mem::take(&mut self.pending).freeze();
            self.bucket.put(&self.path, bytes).await?;
            return Ok(self.written);
        }
        if !self.pending.is_empty() {
            self.send_part().await?;
        }
        while let Some(part) = self.parts.next().await {
            part.map_err(|e| self.failed(e))?;
        }
        let mut upload = self.upload.take().expect("checked above");
        upload.complete().await.map_err(|e| self.failed(e))?;
        self.bucket.uploaded(usize::try_from(self.written).unwrap_or(usize::MAX));
        Ok(self.written)
    }

    /// Gives up and asks the store to drop the parts.
    pub async fn abort(mut self) -> Result<()> {
        self.parts.clear();
        match self.upload.take() {
            Some(mut upload) => {
                upload.abort().await.map_err(|e| self.error("aborting the upload of", e))
            }
            None => Ok(()),
        }
    }

    async fn send_part(&mut self) -> Result<()> {
        if self.upload.is_none() {
            let labels = [self.bucket.name(), "upload"];
            self.bucket.inner.metrics.operations.with_label_values(&labels).inc();
            let upload = self.bucket.store().put_multipart(&self.path).await;
            self.upload = Some(upload.map_err(|e| self.failed(e))?);
        }
        while self.parts.len() >= PARALLEL_PARTS {
            self.parts.try_next().await.map_err(|e| self.failed(e))?;
        }
        let part = std::mem::take(&mut self.pending).freeze();
        self.pending = self.next_buffer(part.len());
        self.sent.push(part.clone());
        if let Some(upload) = &mut self.upload {
            self.parts.push(upload.put_part(part.into()));
        }
        Ok(())
    }

    /// Memory for the next part.
    fn next_buffer(&mut self, len: usize) -> BytesMut {
        if let Some(at) = self.sent.iter().position(Bytes::is_unique) {
            let free = self.sent.swap_remove(at);
            if let Ok(mut buffer) = free.try_into_mut() {
                buffer.clear();
                return buffer;
            }
        }
        // a store may keep a part longer than its request
        if self.sent.len() > PARALLEL_PARTS {
            self.sent.remove(0);
        }
        BytesMut::with_capacity(len)
    }

    fn failed(&self, error: object_store::Error) -> Error {
        let labels = [self.bucket.name(), "upload"];
        self.bucket.inner.metrics.failures.with_label_values(&labels).inc();
        self.error("uploading", error)
    }

    fn error(&self, attempt: &str, error: object_store::Error) -> Error {
        Error::store(attempt, &self.path, self.bucket.name(), error)
    }
}

pub(super) async fn upload_file(
    bucket: &Bucket,
    path: &Path,
    local: &std::path::Path,
) -> Result<u64> {
    let broken = |e: std::io::Error| Error::local("reading", local, e);
    let mut file = tokio::fs::File::open(local).await.map_err(broken)?;
    let size = file.metadata().await.map_err(broken)?.len();
    let part_size = bucket.settings().part_size.max(1);
    if size <= part_size as u64 {
        let mut bytes = Vec::with_capacity(size as usize);
        file.read_to_end(&mut bytes).await.map_err(broken)?;
        let len = bytes.len() as u64;
        bucket.put(path, Bytes::from(bytes)).await?;
        return Ok(len);
    }
    let mut writer = bucket.multipart(path);
    let mut buffer = vec![0; part_size.min(1 << 20)];
    loop {
        let len = match file.read(&mut buffer).await {
            Ok(0) => return writer.finish().await,
            Ok(len) => len,
            Err(e) => {
                writer.abort().await?;
                return Err(broken(e));
            }
        };
        if let Err(e) = writer.write(&buffer[..len]).await {
            // the first failure is the one worth reporting
            let _ = writer.abort().await;
            return Err(e);
        }
    }
}
