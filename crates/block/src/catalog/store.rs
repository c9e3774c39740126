//! The generations of the catalog in a bucket.

use futures::TryStreamExt;
use object_store::path::Path;

use super::CATALOG_ROOT;
use super::format::{Catalog, MAX_BYTES};
use crate::{Bucket, Error, Kind, Result};

/// Generations stay this long for readers that are about to fetch them.
const KEPT_MS: i64 = 3_600_000;
/// So many of the newest stay whatever their age.
const KEPT: usize = 2;

/// More objects than writers leave; the rest of the listing is not looked at.
const MOST_LISTED: usize = 10_000;
/// A number that no writer of ours comes to, so that nobody can end the row.
const LAST_SEQUENCE: u64 = 1_000_000_000_000_000_000;

/// An object that holds a catalog.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generation {
    pub sequence: u64,
    /// 16 digits of the SHA-256 of the text.
    pub hash: String,
    pub size: u64,
    /// When the store says that it was written.
    pub modified_ms: i64,
}

impl Generation {
    pub fn path(&self) -> Path {
        path_of(self.sequence, &self.hash)
    }

    fn of_name(name: &str) -> Option<(u64, &str)> {
        let (number, hash) = name.split_once('-')?;
        let is_number = number.len() == 20 && number.bytes().all(|b| b.is_ascii_digit());
        let is_hash = hash.len() == 16 && hash.bytes().all(|b| b.is_ascii_hexdigit());
        let sequence = number.parse().ok().filter(|n| *n < LAST_SEQUENCE)?;
        (is_number && is_hash).then_some((sequence, hash))
    }
}

fn path_of(sequence: u64, hash: &str) -> Path {
    Path::from(format!("{CATALOG_ROOT}/{sequence:020}-{hash}"))
}

/// Lists, reads and writes generations.
#[derive(Clone, Debug)]
pub struct CatalogStore {
    bucket: Bucket,
}

impl CatalogStore {
    pub fn new(bucket: Bucket) -> CatalogStore {
        CatalogStore { bucket }
    }

    pub fn bucket(&self) -> &Bucket {
        &self.bucket
    }

    /// All generations, the newest last. Other names are nobody's business here.
    pub async fn list(&self) -> Result<Vec<Generation>> {
        let mut objects = self.bucket.list(Some(&Path::from(CATALOG_ROOT)));
        let mut found = Vec::new();
        while let Some(object) = objects.try_next().await? {
            let name = object.location.filename().unwrap_or_default();
            let Some((sequence, hash)) = Generation::of_name(name) else { continue };
            let modified_ms = object.last_modified.timestamp_millis();
            let generation =
                Generation { sequence, hash: hash.to_owned(), size: object.size, modified_ms };
            if generation.path() == object.location {
                found.push(generation);
            }
            if found.len() == MOST_LISTED {
                break;
            }
        }
        found.sort_by(|a, b| (a.sequence, &a.hash).cmp(&(b.sequence, &b.hash)));
        Ok(found)
    }

    /// Those of the highest number: one, or several that were written at the same time to a store
    /// that has no create-only writes, or by writers that saw the same newest one.
    pub fn newest(generations: &[Generation]) -> &[Generation] {
        let Some(last) = generations.last() else { return &[] };
        let from = generations.partition_point(|g| g.sequence < last.sequence);
        &generations[from..]
    }

    /// Reads one generation.
    ///
    /// # Errors
    /// `Unsupported` for a newer major version, `Corrupt` when it is damaged, `NotFound` when it is
    /// gone.
    pub async fn read(&self, generation: &Generation) -> Result<Catalog> {
        let path = generation.path();
        let bytes = self.bucket.get_up_to(&path, MAX_BYTES).await?;
        let hash = generation.hash.clone();
        let decoded =
            tokio::task::spawn_blocking(move || Catalog::decode(&bytes, Some(&hash))).await;
        let decoded =
            decoded.map_err(|e| Error::caused(Kind::Internal, format!("reading {path}"), e))?;
        decoded.map_err(|e| Error::caused(e.kind(), format!("reading {path}"), e))
    }

    /// Writes a catalog as the generation of this number.
    pub async fn write(&self, sequence: u64, catalog: Catalog) -> Result<Generation> {
        let encoded = tokio::task::spawn_blocking(move || catalog.encode()).await;
        let encoded =
            encoded.map_err(|e| Error::caused(Kind::Internal, "packing the catalog", e))??;
        let (hash, size) = (encoded.hash, encoded.bytes.len() as u64);
        // one that is there has the same text
        self.bucket.put_unless_there(&path_of(sequence, &hash), encoded.bytes.into()).await?;
        Ok(Generation { sequence, hash, size, modified_ms: self.bucket.clock().now().0 })
    }

    /// Removes generations that nobody is about to read any more.
    ///
    /// # Errors
    /// The first that could not be removed; the others are.
    pub async fn sweep(&self, generations: &[Generation]) -> Result<()> {
        let old = self.bucket.clock().now().saturating_add(-KEPT_MS).0;
        let superseded = &generations[..generations.len().saturating_sub(KEPT)];
        let mut failed = None;
        for generation in superseded.iter().filter(|g| g.modified_ms < old) {
            if let Err(e) = self.bucket.delete(&generation.path()).await {
                failed = failed.or(Some(e));
            }
        }
        failed.map_or(Ok(()), Err)
    }
}
