//! Marker files beside a block: to be deleted, not to be compacted, not to be downsampled.

use std::future::Future;

use model::{BlockId, TimestampMs};
use object_store::path::Path;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::bucket::PutOutcome;
use crate::layout::BlockLocation;
use crate::{Bucket, Error, Kind, Result};

/// A larger mark is broken.
pub(crate) const MAX_MARK_BYTES: u64 = 1 << 20;

/// The reasons in no-compact and no-downsample marks.
pub mod reason {
    pub const MANUAL: &str = "manual";
    pub const INDEX_SIZE: &str = "index-size-exceeding";
    pub const OUT_OF_ORDER_CHUNK: &str = "block-index-out-of-order-chunk";
    pub const DOWNSAMPLE_VERTICAL: &str = "downsample-vertical-compaction";
}

/// The block is to be deleted once the delay since `deletion_time` (Unix seconds) is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeletionMark {
    pub id: BlockId,
    pub version: u32,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub details: String,
    pub deletion_time: i64,
}

/// The block takes no part in compaction. Times are Unix seconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoCompactMark {
    pub id: BlockId,
    pub version: u32,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub details: String,
    pub no_compact_time: i64,
    pub reason: String,
}

/// The block is not downsampled. Times are Unix seconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoDownsampleMark {
    pub id: BlockId,
    pub version: u32,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub details: String,
    pub no_downsample_time: i64,
    pub reason: String,
}

impl DeletionMark {
    pub fn new(id: BlockId, time: TimestampMs, details: impl Into<String>) -> DeletionMark {
        DeletionMark {
            id,
            version: 1,
            details: details.into(),
            deletion_time: time.0.div_euclid(1000),
        }
    }
}

impl NoCompactMark {
    pub fn new(
        id: BlockId,
        time: TimestampMs,
        reason: &str,
        details: impl Into<String>,
    ) -> NoCompactMark {
        let no_compact_time = time.0.div_euclid(1000);
        NoCompactMark {
            id,
            version: 1,
            details: details.into(),
            no_compact_time,
            reason: reason.into(),
        }
    }
}

impl NoDownsampleMark {
    pub fn new(
        id: BlockId,
        time: TimestampMs,
        reason: &str,
        details: impl Into<String>,
    ) -> NoDownsampleMark {
        let no_downsample_time = time.0.div_euclid(1000);
        NoDownsampleMark {
            id,
            version: 1,
            details: details.into(),
            no_downsample_time,
            reason: reason.into(),
        }
    }
}

/// A kind of marker file.
pub trait Marker: Serialize + DeserializeOwned + Send + Sync {
    /// The name of the file in the block's folder.
    const FILE: &'static str;

    fn version(&self) -> u32;

    /// Writes the mark unless there is one; returns whether it was written. An existing mark is
    /// never overwritten.
    fn write(
        &self,
        bucket: &Bucket,
        location: &BlockLocation,
    ) -> impl Future<Output = Result<bool>> + Send {
        async {
            let path = location.file(Self::FILE);
            let outcome =
                bucket.put_unless_there(&path, tsdb::meta::to_marker_json(self).into()).await?;
            Ok(outcome == PutOutcome::Created)
        }
    }

    /// Reads the mark; `None` when there is none, an error of kind `Corrupt` or `Unsupported` when
    /// it is unusable.
    fn read(
        bucket: &Bucket,
        location: &BlockLocation,
    ) -> impl Future<Output = Result<Option<Self>>> + Send {
        async {
            let path = location.file(Self::FILE);
            let fetched = bucket.get_if_exists(&path, MAX_MARK_BYTES).await?;
            let Some(bytes) = fetched else { return Ok(None) };
            Self::parse(&path, &bytes).map(Some)
        }
    }

    /// Reads the bytes of the mark at `path`; errors as those of [`read`](Marker::read).
    fn parse(path: &Path, bytes: &[u8]) -> Result<Self> {
        let mark: Self = serde_json::from_slice(bytes)
            .map_err(|e| Error::caused(Kind::Corrupt, format!("reading {path}"), e))?;
        if mark.version() != 1 {
            let text = format!("reading {path}: version {} (only 1 is known)", mark.version());
            return Err(Error::new(Kind::Unsupported, text));
        }
        Ok(mark)
    }

    /// Removes the mark; succeeds if there is none.
    fn remove(
        bucket: &Bucket,
        location: &BlockLocation,
    ) -> impl Future<Output = Result<()>> + Send {
        async { bucket.delete(&location.file(Self::FILE)).await }
    }
}

impl Marker for DeletionMark {
    const FILE: &'static str = "deletion-mark.json";

    fn version(&self) -> u32 {
        self.version
    }
}

impl Marker for NoCompactMark {
    const FILE: &'static str = "no-compact-mark.json";

    fn version(&self) -> u32 {
        self.version
    }
}

impl Marker for NoDownsampleMark {
    const FILE: &'static str = "no-downsample-mark.json";

    fn version(&self) -> u32 {
        self.version
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[tokio::test]
    async fn marks_are_written_once_and_read_back() {
        let bucket = testing::memory_bucket();
        let id: BlockId = "01M81HXX0GS6A2F69HCM1Y84FY".parse().unwrap();
        let location = BlockLocation::tsdb(id);
        assert_eq!(DeletionMark::read(&bucket, &location).await.unwrap(), None);
        let mark = DeletionMark::new(id, TimestampMs(5_999), "source of compacted block");
        assert!(mark.write(&bucket, &location).await.unwrap());
        assert!(
            !DeletionMark::new(id, TimestampMs(0), "later")
                .write(&bucket, &location)
                .await
                .unwrap()
        );
        assert_eq!(DeletionMark::read(&bucket, &location).await.unwrap(), Some(mark));
        let bytes = bucket.get(&location.file("deletion-mark.json")).await.unwrap();
        let expected = r#"{"id":"01M81HXX0GS6A2F69HCM1Y84FY","version":1,"details":"source of compacted block","deletion_time":5}"#;
        assert_eq!(bytes, expected);
        DeletionMark::remove(&bucket, &location).await.unwrap();
        assert_eq!(DeletionMark::read(&bucket, &location).await.unwrap(), None);
    }

    #[tokio::test]
    async fn unusable_marks_are_errors() {
        let bucket = testing::memory_bucket();
        let location = BlockLocation::tsdb("01M81HXX0GS6A2F69HCM1Y84FY".parse().unwrap());
        let path = location.file(NoCompactMark::FILE);
        bucket.put(&path, "{".into()).await.unwrap();
        assert_eq!(
            NoCompactMark::read(&bucket, &location).await.unwrap_err().kind(),
            Kind::Corrupt
        );
        let other = r#"{"id":"01M81HXX0GS6A2F69HCM1Y84FY","version":2,"no_compact_time":1,"reason":"manual"}"#;
        bucket.put(&path, other.into()).await.unwrap();
        assert_eq!(
            NoCompactMark::read(&bucket, &location).await.unwrap_err().kind(),
            Kind::Unsupported
        );
    }
}
