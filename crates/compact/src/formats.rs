//! The formats that downsampled blocks are written in.
//!
//! Thanos' stores do not see Parquet. Where nobody says which format to write, a bucket that shows
//! a sign of Thanos gets both, so that a compactor put into a fleet of Thanos hides nothing, until
//! somebody has once asked for Parquet: that is remembered in the bucket.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use block::Bucket;
use block::object_store::path::Path;
use block::sync::{Filter, Synced, SyncedBlock};
use bytes::Bytes;
use model::error::in_one_line;
use model::{BlockId, Resolution, TimestampMs};
use serde_json::{Value, json};

use crate::settings::DownsampleFormat;

/// Where a bucket says that it has been asked for Parquet.
const CHOICE_FILE: &str = "drumlin/downsample-format.json";

const MAX_CHOICE_BYTES: u64 = 64 << 10;

/// Something of Thanos that uploaded no block for this long is taken to be gone.
const GONE_AFTER_MS: i64 = 30 * 24 * 3_600_000;

/// What is written of each downsampled block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WrittenFormats {
    pub(crate) parquet: bool,
    /// TSDB blocks of AggrChunks.
    pub(crate) thanos: bool,
}

impl WrittenFormats {
    const PARQUET: WrittenFormats = WrittenFormats { parquet: true, thanos: false };
    const THANOS: WrittenFormats = WrittenFormats { parquet: false, thanos: true };
    const BOTH: WrittenFormats = WrittenFormats { parquet: true, thanos: true };
}

/// Why a bucket may have readers that know Thanos' formats only.
#[derive(Clone, Debug, PartialEq, Eq)]
enum ThanosSign {
    /// A downsampled block in Thanos' format, whoever wrote it.
    Downsampled(BlockId),
    /// A block that something else than this program uploaded lately.
    Uploaded(BlockId),
    /// Any of that may be behind a block that could not be looked at.
    Unseen(BlockId),
}

impl std::fmt::Display for ThanosSign {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ThanosSign::Downsampled(id) => write!(f, "block {id} is one of Thanos' downsampled"),
            ThanosSign::Uploaded(id) => write!(f, "block {id} was uploaded by Thanos lately"),
            ThanosSign::Unseen(id) => write!(f, "block {id} could not be looked at"),
        }
    }
}

/// Chooses the formats. As a filter it removes nothing: it must be the first, to see all blocks.
#[derive(Debug)]
pub(crate) struct FormatChoice {
    /// `None`: nothing is downsampled.
    asked: Option<DownsampleFormat>,
    sign: Mutex<Option<ThanosSign>>,
    /// The bucket knows what was asked for, or the log says why both are written.
    told: AtomicBool,
}

impl FormatChoice {
    pub(crate) fn new(asked: Option<DownsampleFormat>) -> FormatChoice {
        FormatChoice { asked, sign: Mutex::new(None), told: AtomicBool::new(false) }
    }

    /// The formats to write now. What the bucket does not say for want of an answer is no reason
    /// to write less.
    pub(crate) async fn choose(&self, bucket: &Bucket) -> WrittenFormats {
        match self.asked {
            None => WrittenFormats::BOTH,
            Some(DownsampleFormat::Auto) => self.by_signs(bucket).await,
            Some(DownsampleFormat::Parquet) => {
                self.note(bucket, true).await;
                WrittenFormats::PARQUET
            }
            Some(DownsampleFormat::Thanos) => {
                self.note(bucket, false).await;
                WrittenFormats::THANOS
            }
            Some(DownsampleFormat::Both) => {
                self.note(bucket, false).await;
                WrittenFormats::BOTH
            }
        }
    }

    async fn by_signs(&self, bucket: &Bucket) -> WrittenFormats {
        let sign = self.sign.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(sign) = sign else { return WrittenFormats::PARQUET };
        match is_parquet_remembered(bucket).await {
            Ok(true) => return WrittenFormats::PARQUET,
            Ok(false) => {}
            Err(e) => {
                tracing::warn!(error = %in_one_line(&e), "whether this bucket was asked for \
                    Parquet alone is not known, both formats are written");
            }
        }
        if !self.told.swap(true, Ordering::Relaxed) {
            tracing::info!(%sign, "downsampled blocks are written as Parquet and in Thanos' format, \
                which takes more time and space; once no store of Thanos reads this bucket, give \
                --downsample.format=parquet once");
        }
        WrittenFormats::BOTH
    }

    /// Remembers in the bucket that Parquet alone was asked for, or forgets it; once a process.
    async fn note(&self, bucket: &Bucket, parquet: bool) {
        if self.told.load(Ordering::Relaxed) {
            return;
        }
        match set_remembered(bucket, parquet).await {
            Ok(()) => self.told.store(true, Ordering::Relaxed),
            Err(e) => {
                tracing::warn!(error = %in_one_line(&e), "the choice of --downsample.format could \
                    not be remembered in the bucket, the next iteration tries again");
            }
        }
    }
}

impl Filter for FormatChoice {
    fn apply(&self, synced: &mut Synced, now: TimestampMs) {
        let blocks = || synced.blocks.iter().filter(|b| !b.location.is_parquet());
        let downsampled = blocks()
            .find(|b| b.resolution() != Resolution::Raw && b.deletion_mark.is_none())
            .map(|b| ThanosSign::Downsampled(b.id()));
        let uploaded =
            || blocks().find(|b| is_upload_of_others(b, now)).map(|b| ThanosSign::Uploaded(b.id()));
        let unseen = || synced.unseen.first().map(|b| ThanosSign::Unseen(b.location.id()));
        let sign = downsampled.or_else(uploaded).or_else(unseen);
        *self.sign.lock().unwrap_or_else(PoisonError::into_inner) = sign;
    }
}

/// Whether a component of Thanos uploaded the block within the last 30 days. Blocks that state no
/// source come from no component.
fn is_upload_of_others(block: &SyncedBlock, now: TimestampMs) -> bool {
    let meta = &block.meta;
    let stated = meta.thanos.as_ref().and_then(|thanos| thanos.upload_time_ms());
    let uploaded = stated.map_or(block.id().time_ms().cast_signed(), |time| time.0);
    !meta.source().is_empty() && !meta.is_signed() && now.0.saturating_sub(uploaded) < GONE_AFTER_MS
}

async fn is_parquet_remembered(bucket: &Bucket) -> block::Result<bool> {
    let path = Path::from(CHOICE_FILE);
    let Some(bytes) = bucket.get_if_exists(&path, MAX_CHOICE_BYTES).await? else {
        return Ok(false);
    };
    let choice: Value = serde_json::from_slice(&bytes).map_err(|e| {
        let text = format!("{CHOICE_FILE} is not what --downsample.format=parquet writes: give it");
        block::Error::caused(block::Kind::Corrupt, text, e)
    })?;
    Ok(choice["format"] == "parquet")
}

async fn set_remembered(bucket: &Bucket, parquet: bool) -> block::Result<()> {
    let path = Path::from(CHOICE_FILE);
    if parquet {
        let choice = json!({ "version": 1, "format": "parquet" });
        return bucket.put(&path, Bytes::from(choice.to_string())).await;
    }
    match bucket.exists(&path).await? {
        true => bucket.delete(&path).await,
        false => Ok(()),
    }
}
