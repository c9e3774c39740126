//! One file of a block on its way into the bucket.

use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use block::{BlockLocation, Bucket, MultipartWriter};

use crate::checksums::{ChecksumBuilder, FileChecksums};
use crate::encoder::{EncodedBytes, EncodedGroup, FileEncoder, FileLayout};
use crate::error::Error;

/// A file that is being written: its encoder, which is absent while it works on another thread,
/// its checksums and its upload.
pub(crate) struct FileUpload {
    name: String,
    encoder: Option<FileEncoder>,
    rows: u64,
    bytes: u64,
    group_rows: u64,
    checksums: ChecksumBuilder,
    sink: MultipartWriter,
}

/// A file that is in the bucket.
pub(crate) struct UploadedFile {
    pub(crate) name: String,
    pub(crate) bytes: u64,
    pub(crate) checksums: FileChecksums,
    pub(crate) groups: Vec<EncodedGroup>,
}

impl FileUpload {
    pub(crate) fn create(
        bucket: &Bucket,
        location: &BlockLocation,
        name: String,
        layout: FileLayout,
    ) -> Result<FileUpload, Error> {
        let encoder = FileEncoder::new(layout).map_err(Error::parquet("encoding", &name))?;
        Ok(FileUpload {
            sink: bucket.multipart(&location.file(&name)),
            checksums: ChecksumBuilder::new(name.as_str()),
            encoder: Some(encoder),
            rows: 0,
            bytes: 0,
            group_rows: 0,
            name,
        })
    }

    /// Rows pushed so far.
    pub(crate) fn rows(&self) -> u64 {
        self.rows
    }

    /// Rows in the row group that is not finished.
    pub(crate) fn group_rows(&self) -> u64 {
        self.group_rows
    }

    /// Finished bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Encodes one batch of rows on another thread and gives the finished bytes to the store.
    pub(crate) async fn push(
        &mut self,
        rows: impl FnOnce() -> Result<RecordBatch, ArrowError> + Send + 'static,
    ) -> Result<(), Error> {
        self.encode(move |encoder| encoder.push(&rows()?)).await
    }

    /// Ends the row group: what follows may need other encodings.
    pub(crate) async fn end_row_group(&mut self) -> Result<(), Error> {
        self.encode(FileEncoder::end_row_group).await
    }

    async fn encode(
        &mut self,
        work: impl FnOnce(&mut FileEncoder) -> parquet::errors::Result<()> + Send + 'static,
    ) -> Result<(), Error> {
        let Some(mut encoder) = self.encoder.take() else { return Ok(()) };
        let encoded = blocking(move || {
            work(&mut encoder)?;
            let output = encoder.take_output()?;
            Ok((encoder, output))
        });
        let (encoder, output) = encoded.await.map_err(Error::parquet("encoding", &self.name))?;
        self.rows = encoder.rows();
        self.bytes = encoder.bytes_written() as u64;
        self.group_rows = encoder.group_rows();
        self.encoder = Some(encoder);
        self.put(output).await
    }

    async fn put(&mut self, output: EncodedBytes) -> Result<(), Error> {
        output.borders.iter().for_each(|border| self.checksums.border(*border));
        for piece in output.pieces {
            self.checksums.push(&piece);
            self.sink.write(&piece).await?;
        }
        Ok(())
    }

    pub(crate) async fn finish(mut self) -> Result<UploadedFile, Error> {
        let (mut footer_start, mut groups) = (0, Vec::new());
        if let Some(encoder) = self.encoder.take() {
            let end = blocking(move || encoder.finish())
                .await
                .map_err(Error::parquet("encoding", &self.name))?;
            (footer_start, groups) = (end.footer_start, end.groups);
            self.put(end.bytes).await?;
        }
        let bytes = self.sink.finish().await?;
        let checksums = self.checksums.finish(footer_start);
        Ok(UploadedFile { name: self.name, bytes, checksums, groups })
    }
}

pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(e) => match e.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => unreachable!("a blocking task cannot be cancelled once it runs"),
        },
    }
}
