//! Whether a block that Prometheus compacted overlaps what the bucket already holds of the same
//! Prometheus.

use model::{BlockId, Labels};
use tsdb::meta::{BlockDesc, BlockMeta};

use crate::layout::{BlockLocation, MAX_META_BYTES};
use crate::{Bucket, Error, Kind, Result};

/// Reads the bucket's metas when first asked.
pub(super) struct OverlapCheck {
    bucket: Bucket,
    external: Labels,
    known: Option<Vec<BlockDesc>>,
}

impl OverlapCheck {
    pub(super) fn new(bucket: Bucket, external: Labels) -> OverlapCheck {
        OverlapCheck { bucket, external, known: None }
    }

    /// # Errors
    /// `Invalid` when it overlaps, naming the block it overlaps with.
    pub(super) async fn check(&mut self, meta: &BlockMeta) -> Result<()> {
        let known = match self.known.take() {
            Some(known) => known,
            None => self.fetch().await?,
        };
        let range = meta.range();
        let other = known
            .iter()
            .find(|o| o.ulid != meta.ulid && o.min_time < range.end && range.start < o.max_time);
        let result = match other {
            None => Ok(()),
            Some(other) => Err(Error::new(
                Kind::Invalid,
                format!(
                    "compacted block {} overlaps block {} in the bucket; ship blocks before \
                     Prometheus compacts them",
                    meta.ulid, other.ulid
                ),
            )),
        };
        self.known = Some(known);
        result
    }

    async fn fetch(&self) -> Result<Vec<BlockDesc>> {
        let (dirs, _) = self.bucket.list_dir(None).await?;
        let mut known = Vec::new();
        for id in dirs.iter().filter_map(|dir| dir.trim_end_matches('/').parse::<BlockId>().ok()) {
            // Without meta.json it is not a block.
            let path = BlockLocation::tsdb(id).meta();
            let Some(bytes) = self.bucket.get_if_exists(&path, MAX_META_BYTES).await? else {
                continue;
            };
            let meta = BlockMeta::from_json(&bytes)
                .map_err(|e| Error::format(format_args!("block {id}: reading its meta.json"), e))?;
            if meta.external_labels() == self.external {
                known.push(BlockDesc {
                    ulid: id,
                    min_time: meta.min_time,
                    max_time: meta.max_time,
                });
            }
        }
        Ok(known)
    }
}
