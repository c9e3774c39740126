//! What a catalog says, taken into the view; and the view as a catalog.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use futures::StreamExt;
use model::error::in_one_line;
use model::{Labels, TimeRange};

use super::fetch::{MetaFetcher, lock};
use super::listed::{BlockMarks, KnownMeta, Listed, ReadMark, StatedMeta};
use super::view::{Moment, View, believed_ms};
use super::{ObjectVersion, Synced, SyncedBlock};
use crate::catalog::{
    Catalog, CatalogEntry, CatalogHeader, CatalogMark, CatalogMarks, CatalogStore, Generation,
};
use crate::layout::BlockLocation;
use crate::{Error, Kind, Result};

/// So many blocks are looked up to find out whether a catalog is of this bucket.
const PROBED: usize = 2;

/// The newest catalog and what tells how old it is.
struct FoundCatalog {
    entries: BTreeMap<BlockLocation, CatalogEntry>,
    listed_ms: Option<i64>,
}

impl MetaFetcher {
    /// Takes over what the newest catalog says, if it is younger than what was seen here. Whatever
    /// is wrong with it costs only requests.
    pub(super) async fn read_catalog(&self, view: &mut View, now: Moment) {
        let store = CatalogStore::new(self.bucket.clone());
        let generations = match store.list().await {
            Ok(generations) => generations,
            Err(e) => {
                tracing::warn!(error = %in_one_line(&e), "catalogs could not be listed, blocks are \
                    looked up without one");
                return;
            }
        };
        let newest = CatalogStore::newest(&generations);
        if newest != view.newest {
            match self.found(&store, newest, view).await {
                Ok(found) => {
                    view.newest = newest.to_vec();
                    self.take_over(view, found);
                }
                Err(e) => {
                    // one that is gone or cannot be reached may be readable later
                    if matches!(e.kind(), Kind::Corrupt | Kind::Unsupported) {
                        view.newest = newest.to_vec();
                    }
                    self.metrics.catalog.rebuilds.inc();
                    tracing::warn!(error = %in_one_line(&e), "the catalog cannot be used, the \
                        bucket is listed instead; the next one that is written replaces it");
                }
            }
        }
        let age = view.cataloged_ms.map(|ms| now.wall_ms.saturating_sub(ms) as f64 / 1000.0);
        self.metrics.catalog.age.set(age.unwrap_or(f64::NAN));
    }

    /// Reads the newest generations. Of several, the one of the latest listing counts, and of the
    /// others what it lacks: readers find out what is there.
    async fn found(
        &self,
        store: &CatalogStore,
        newest: &[Generation],
        view: &View,
    ) -> Result<FoundCatalog> {
        let now = Moment::of(&**self.bucket.clock());
        let mut found = FoundCatalog { entries: BTreeMap::new(), listed_ms: None };
        let mut catalogs = Vec::new();
        for generation in newest {
            let catalog = store.read(generation).await?;
            catalogs.push((believed_ms(catalog.header.listed_ms, generation, now), catalog));
        }
        catalogs.sort_by_key(|(listed_ms, _)| *listed_ms);
        for (listed_ms, catalog) in catalogs {
            found.listed_ms = listed_ms;
            found.entries.extend(catalog.entries.into_iter().map(|e| (e.location.clone(), e)));
        }
        if found.entries.values().all(|entry| entry.meta_version.is_none()) {
            // it names nothing that could be looked up, and so little takes no time to list
            found.listed_ms = None;
            return Ok(found);
        }
        self.check_bucket(&found, view).await?;
        Ok(found)
    }

    /// Whether the catalog is of this bucket: it names objects as they were seen here. At the start
    /// nothing was seen, and its newest blocks are looked up, which are the last to be deleted.
    ///
    /// # Errors
    /// `Corrupt` for one that was copied from elsewhere.
    async fn check_bucket(&self, found: &FoundCatalog, view: &View) -> Result<()> {
        let entries = found.entries.iter();
        let mut newest: Vec<_> =
            entries.filter_map(|(at, entry)| Some((at, entry.meta_version.as_ref()?))).collect();
        let seen = |at: &BlockLocation| view.blocks.get(at)?.meta.as_ref();
        if newest.iter().any(|(at, version)| seen(at).is_some_and(|seen| seen.may_be(version))) {
            return Ok(());
        }
        newest.sort_by_key(|(_, version)| std::cmp::Reverse(version.modified_ms));
        let mut failure = None;
        for (at, version) in newest.into_iter().take(PROBED) {
            match self.bucket.head(&at.meta()).await {
                Ok(object) if ObjectVersion::of(&object).may_be(version) => return Ok(()),
                Ok(_) => {}
                Err(e) if e.kind() == Kind::NotFound => {}
                Err(e) => failure = Some(e),
            }
        }
        let text = format!("none of the {PROBED} newest blocks that it names is in this bucket");
        Err(failure.unwrap_or_else(|| Error::new(Kind::Corrupt, text)))
    }

    fn take_over(&self, view: &mut View, found: FoundCatalog) {
        let FoundCatalog { entries, listed_ms } = found;
        let is_older = view.looked_ms().is_some_and(|own| listed_ms.is_none_or(|ms| ms < own));
        if is_older {
            return;
        }
        // that a catalog lacks a block does not mean that it is gone
        for location in view.blocks.keys().filter(|location| !entries.contains_key(location)) {
            self.doubt(location);
        }
        view.cataloged_ms = listed_ms;
        let (mut metas, mut marks) = (lock(&self.metas), lock(&self.marks));
        for (location, entry) in entries {
            let listed = Listed::of(&entry);
            let is_read = metas.get(&location).is_some_and(|known| known.stated.is_none());
            if let Some(known) = self.meta_of(&entry).filter(|_| !is_read) {
                metas.insert(location.clone(), known);
            }
            marks.entry(location.clone()).or_default().take_over(entry.marks);
            view.blocks.insert(location, listed);
        }
    }

    fn meta_of(&self, entry: &CatalogEntry) -> Option<KnownMeta> {
        let is_usable = entry.left_out.is_none()
            || self.settings.catalog.is_some_and(|reading| !reading.whole_metas);
        let (meta, version) = (entry.meta.clone()?, entry.meta_version.clone()?);
        let left_out = entry.left_out.clone();
        let stated = Some(Box::new(StatedMeta { version, left_out }));
        is_usable.then_some(KnownMeta { meta, stated })
    }

    /// Fetches the metas that lack sources, where a block that the catalog does not know may share
    /// some with them: one of the same labels and time.
    pub(super) async fn complete_sources(&self, synced: &mut Synced) {
        let lacking: Vec<usize> = {
            let metas = lock(&self.metas);
            let stated = |block: &SyncedBlock| metas.get(&block.location)?.stated.as_deref();
            let lacks = |block: &SyncedBlock| stated(block).is_some_and(|s| s.left_out.is_some());
            let mut strangers: HashMap<&Labels, Vec<TimeRange>> = HashMap::new();
            if synced.blocks.iter().any(lacks) {
                let others = synced.blocks.iter().chain(&synced.foreign);
                for block in others.filter(|block| stated(block).is_none()) {
                    strangers.entry(&block.labels).or_default().push(block.range());
                }
            }
            let meets = |block: &SyncedBlock| {
                let ranges = strangers.get(&block.labels);
                ranges.is_some_and(|ranges| ranges.iter().any(|r| r.overlaps(block.range())))
            };
            let all = synced.blocks.iter().enumerate();
            all.filter(|(_, block)| lacks(block) && meets(block)).map(|(at, _)| at).collect()
        };
        let blocks = &synced.blocks;
        let fetched: Vec<_> = futures::stream::iter(lacking)
            .map(|at| async move {
                let location = blocks[at].location.clone();
                Some((at, self.fetch_meta(&location).await.ok().map(Arc::new)?))
            })
            .buffer_unordered(self.settings.concurrency.max(1))
            .filter_map(std::future::ready)
            .collect()
            .await;
        // one that could not be fetched counts as its own source, which hides nothing
        for (at, meta) in fetched {
            let block = &mut synced.blocks[at];
            block.meta = Arc::clone(&meta);
            lock(&self.metas).insert(block.location.clone(), KnownMeta::read(meta));
        }
    }

    /// What is known, as a catalog of the last full listing; `None` before the first one.
    pub async fn catalog(&self, writer: &str) -> Option<Catalog> {
        let view = self.view.lock().await;
        let header = CatalogHeader {
            writer: writer.to_owned(),
            written_ms: self.bucket.clock().now().0,
            listed_ms: view.full?.wall_ms,
            ..CatalogHeader::default()
        };
        let (metas, marks) = (lock(&self.metas), lock(&self.marks));
        let entry = |(location, listed): (&BlockLocation, &Listed)| {
            let known = metas.get(location).filter(|known| known.fits(listed));
            CatalogEntry {
                location: location.clone(),
                meta_version: listed.meta.clone(),
                meta: known.map(|known| Arc::clone(&known.meta)).filter(|_| listed.meta.is_some()),
                left_out: known.and_then(KnownMeta::left_out).cloned(),
                marks: marks.get(location).cloned().unwrap_or_default().stated(listed),
                tombstones: listed.tombstones.as_deref().cloned(),
                newest_ms: listed.newest,
                bytes: listed.bytes,
                unknown: Default::default(),
            }
        };
        Some(Catalog::new(header, view.blocks.iter().map(entry).collect()))
    }

    /// When the last full listing began.
    pub async fn listed_ms(&self) -> Option<i64> {
        self.view.lock().await.full.map(|at| at.wall_ms)
    }
}

impl Listed {
    fn of(entry: &CatalogEntry) -> Listed {
        fn version<M>(mark: &Option<CatalogMark<M>>) -> Option<Box<ObjectVersion>> {
            mark.as_ref().map(|mark| Box::new(mark.version.clone()))
        }
        Listed {
            meta: entry.meta_version.clone(),
            deletion: version(&entry.marks.deletion),
            no_compact: version(&entry.marks.no_compact),
            no_downsample: version(&entry.marks.no_downsample),
            tombstones: entry.tombstones.clone().map(Box::new),
            newest: entry.newest_ms,
            bytes: entry.bytes,
        }
    }
}

impl BlockMarks {
    /// Marks that the writer could not read stay as they were read here.
    fn take_over(&mut self, marks: CatalogMarks) {
        fn take<M>(known: &mut Option<ReadMark<M>>, mark: Option<CatalogMark<M>>) {
            if let Some(CatalogMark { version, read: Some(mark) }) = mark {
                *known = Some(ReadMark { version, mark });
            }
        }
        take(&mut self.deletion, marks.deletion);
        take(&mut self.no_compact, marks.no_compact);
        take(&mut self.no_downsample, marks.no_downsample);
    }

    fn stated(self, listed: &Listed) -> CatalogMarks {
        fn state<M>(
            listed: &Option<Box<ObjectVersion>>,
            known: Option<ReadMark<M>>,
        ) -> Option<CatalogMark<M>> {
            let version = ObjectVersion::clone(listed.as_ref()?);
            let read = known.filter(|known| known.version == version).map(|known| known.mark);
            Some(CatalogMark { version, read })
        }
        CatalogMarks {
            deletion: state(&listed.deletion, self.deletion),
            no_compact: state(&listed.no_compact, self.no_compact),
            no_downsample: state(&listed.no_downsample, self.no_downsample),
        }
    }
}
