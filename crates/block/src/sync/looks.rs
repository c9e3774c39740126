//! Looking which blocks there are: in the catalog, at the folders, or at all objects.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use model::BlockId;
use model::error::in_one_line;
use object_store::path::Path;

use super::fetch::{MetaFetcher, lock};
use super::listed::Listed;
use super::view::{FullReason, Look, Moment, View};
use crate::layout::{BlockLocation, PARQUET_ROOT};
use crate::{Kind, Result};

/// More blocks than these are not looked at one by one: a listing of all takes no more requests.
const MOST_SINGLY: usize = 100;

/// How the catalog of the bucket takes the place of listings.
#[derive(Clone, Copy, Debug)]
pub struct CatalogReading {
    /// How often there is a sync.
    pub sync_interval: Duration,
    /// How old a full listing may be, one's own or that of the catalog's writer; zero for one at
    /// every sync.
    pub full_interval: Duration,
    /// Metas that lack sources are fetched, as those need who write catalogs themselves.
    pub whole_metas: bool,
}

impl MetaFetcher {
    /// Brings the view up to date. When it fails, the view is as it was.
    pub(super) async fn look(&self, view: &mut View) -> Result<()> {
        let Some(reading) = self.settings.catalog else {
            lock(&self.doubts).clear();
            return self.list_all(view).await;
        };
        let now = Moment::of(&**self.bucket.clock());
        view.start = view.start.or(Some(now));
        self.read_catalog(view, now).await;
        match view.due(&reading, now) {
            Look::None => {}
            Look::Top => self.look_at_top(view).await?,
            Look::Full(reason) => self.list_all_because(view, reason).await?,
        }
        self.settle_doubts(view, &reading).await
    }

    /// Has the next sync look at a block of which a reader missed something.
    pub fn doubt(&self, location: &BlockLocation) {
        lock(&self.doubts).insert(location.clone());
    }

    async fn list_all_because(&self, view: &mut View, reason: FullReason) -> Result<()> {
        match reason {
            FullReason::Interval => tracing::debug!("listing the whole bucket again"),
            _ => tracing::info!(reason = reason.as_str(), "listing the whole bucket"),
        }
        self.metrics.catalog.full_looks.with_label_values(&[reason.as_str()]).inc();
        self.list_all(view).await
    }

    async fn list_all(&self, view: &mut View) -> Result<()> {
        let now = Moment::of(&**self.bucket.clock());
        view.blocks = self.list(None).await?;
        (view.full, view.look) = (Some(now), Some(now));
        Ok(())
    }

    /// Looks which folders there are, into the new ones, and at all Parquet blocks: their folders
    /// are of several levels.
    async fn look_at_top(&self, view: &mut View) -> Result<()> {
        let now = Moment::of(&**self.bucket.clock());
        let (folders, _) = self.bucket.list_dir(None).await?;
        let ids = folders.iter().filter_map(|name| name.parse::<BlockId>().ok());
        let there: BTreeSet<BlockLocation> = ids.map(BlockLocation::tsdb).collect();
        let is_open = |location: &&BlockLocation| {
            view.blocks.get(location).is_none_or(|listed| listed.meta.is_none())
        };
        let open: Vec<BlockLocation> = there.iter().filter(is_open).cloned().collect();
        if open.len() > MOST_SINGLY {
            return self.list_all_because(view, FullReason::ManyBlocks).await;
        }
        let root = PARQUET_ROOT.split('/').next();
        let parquet = match folders.iter().any(|name| Some(name.as_str()) == root) {
            true => self.list(Some(&Path::from(PARQUET_ROOT))).await?,
            false => BTreeMap::new(),
        };
        let found = self.list_each(open).await?;
        view.blocks.retain(|location, _| !location.is_parquet() && there.contains(location));
        view.blocks.extend(parquet.into_iter().filter(|(location, _)| location.is_parquet()));
        for (location, listed) in found {
            view.set(location, listed);
        }
        view.look = Some(now);
        Ok(())
    }

    /// Looks at blocks of which readers missed something, or that a newer catalog lacks. What is
    /// gone goes at once; whatever else is wrong with a block, it stays.
    async fn settle_doubts(&self, view: &mut View, reading: &CatalogReading) -> Result<()> {
        let now = Moment::of(&**self.bucket.clock());
        view.checked
            .retain(|_, at| now.monotonic.saturating_sub(at.monotonic) < reading.sync_interval);
        let doubts = std::mem::take(&mut *lock(&self.doubts));
        let open: Vec<BlockLocation> = doubts
            .into_iter()
            .filter(|block| view.blocks.contains_key(block) && !view.checked.contains_key(block))
            .collect();
        if open.len() > MOST_SINGLY {
            return self.list_all_because(view, FullReason::ManyBlocks).await;
        }
        let looks = open.into_iter().map(|location| async move {
            let listed = self.list_block(&location).await;
            (location, listed)
        });
        let looks: Vec<_> = futures::stream::iter(looks)
            .buffer_unordered(self.settings.concurrency.max(1))
            .collect()
            .await;
        for (location, listed) in looks {
            match listed {
                Ok(listed) => {
                    if listed.as_ref().is_none_or(|listed| listed.meta.is_none()) {
                        tracing::info!(block = %location, "block is gone");
                    }
                    view.checked.insert(location.clone(), now);
                    view.set(location, listed);
                }
                Err(e) => {
                    tracing::warn!(block = %location, error = %in_one_line(&e), "block stays: it \
                        could not be looked at again");
                    self.doubt(&location);
                }
            }
        }
        Ok(())
    }

    async fn list_each(
        &self,
        blocks: Vec<BlockLocation>,
    ) -> Result<Vec<(BlockLocation, Option<Listed>)>> {
        futures::stream::iter(blocks)
            .map(|location| async move {
                let listed = self.list_block(&location).await?;
                Ok((location, listed))
            })
            .buffer_unordered(self.settings.concurrency.max(1))
            .try_collect()
            .await
    }

    async fn list_block(&self, location: &BlockLocation) -> Result<Option<Listed>> {
        Ok(self.list(Some(location.dir())).await?.remove(location))
    }

    /// Lists what is below a folder; a listing that breaks off is started again.
    async fn list(&self, below: Option<&Path>) -> Result<BTreeMap<BlockLocation, Listed>> {
        let mut pause = self.bucket.settings().backoff;
        for _ in 1..self.bucket.settings().attempts {
            match self.list_once(below).await {
                Err(e) if e.kind() == Kind::Unavailable => {
                    self.bucket.clock().sleep(pause).await;
                    pause *= 2;
                }
                other => return other,
            }
        }
        self.list_once(below).await
    }

    async fn list_once(&self, below: Option<&Path>) -> Result<BTreeMap<BlockLocation, Listed>> {
        let mut blocks: BTreeMap<BlockLocation, Listed> = BTreeMap::new();
        let mut objects = self.bucket.list(below);
        while let Some(object) = objects.try_next().await? {
            let Some((location, file)) = BlockLocation::of_object(&object.location) else {
                continue;
            };
            blocks.entry(location).or_default().add(&file, &object);
        }
        Ok(blocks)
    }
}

impl View {
    /// What a look at one block found.
    fn set(&mut self, location: BlockLocation, listed: Option<Listed>) {
        match listed {
            Some(listed) => self.blocks.insert(location, listed),
            None => self.blocks.remove(&location),
        };
    }
}
