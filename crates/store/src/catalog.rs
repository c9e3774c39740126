//! The blocks there are, by their external labels, as one sync found them.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use block::sync::SyncedBlock;
use block::{BlockLocation, Path};
use model::{BlockId, Labels, Matcher, Resolution, TimeRange};
use storeapi::{ComponentType, StoreInfo, TsdbInfo, match_external};
use tsdb::meta::BlockMeta;

use crate::choice::{Span, Wanted, choose};

/// A block that is served.
#[derive(Clone, Debug)]
pub(crate) struct ServedBlock {
    pub(crate) location: BlockLocation,
    pub(crate) meta: Arc<BlockMeta>,
    pub(crate) labels: Labels,
}

impl ServedBlock {
    pub(crate) fn id(&self) -> BlockId {
        self.meta.ulid
    }
}

/// The blocks of one set of external labels, sorted by the start of their ranges.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) labels: Labels,
    blocks: Vec<Arc<ServedBlock>>,
    /// Of the same indices.
    spans: Vec<Span>,
}

/// A block that a request reads, and for what time.
#[derive(Clone, Debug)]
pub(crate) struct Pick {
    pub(crate) block: Arc<ServedBlock>,
    pub(crate) range: TimeRange,
    /// What external labels left over of the request's matchers.
    pub(crate) matchers: Arc<Vec<Matcher>>,
}

#[derive(Debug)]
pub(crate) struct Catalog {
    groups: Vec<Group>,
    /// The time that is served, whatever else blocks hold.
    limit: TimeRange,
}

impl Catalog {
    pub(crate) fn new(blocks: &[SyncedBlock], limit: TimeRange) -> Catalog {
        let mut by_labels: BTreeMap<Labels, Vec<&SyncedBlock>> = BTreeMap::new();
        for block in blocks {
            by_labels.entry(block.labels.clone()).or_default().push(block);
        }
        let group = |(labels, blocks): (Labels, Vec<&SyncedBlock>)| {
            let mut kept = without_copies(blocks);
            kept.sort_by_key(|b| (b.range().start, b.range().end, b.id()));
            let span = |b: &&SyncedBlock| Span {
                range: b.range(),
                resolution: b.resolution(),
                sources: b.meta.compaction.sources.clone(),
            };
            let served = |b: &&SyncedBlock| {
                let (location, meta) = (b.location.clone(), Arc::clone(&b.meta));
                Arc::new(ServedBlock { location, meta, labels: labels.clone() })
            };
            Group { spans: kept.iter().map(span).collect(), blocks: kept.iter().map(served).collect(), labels }
        };
        Catalog { groups: by_labels.into_iter().map(group).collect(), limit }
    }

    pub(crate) fn blocks(&self) -> impl Iterator<Item = &Arc<ServedBlock>> {
        self.groups.iter().flat_map(|g| &g.blocks)
    }

    /// The folders of all blocks.
    pub(crate) fn folders(&self) -> HashSet<&Path> {
        self.blocks().map(|b| b.location.dir()).collect()
    }

    /// The blocks that answer, group by group.
    pub(crate) fn pick(&self, matchers: &[Matcher], wanted: Wanted) -> Vec<Pick> {
        let wanted = Wanted { range: wanted.range.intersect(self.limit), ..wanted };
        let mut picks = Vec::new();
        for group in &self.groups {
            let Some(left) = match_external(matchers, &group.labels) else { continue };
            let left = Arc::new(left);
            picks.extend(choose(&group.spans, wanted).into_iter().map(|choice| Pick {
                block: Arc::clone(&group.blocks[choice.index]),
                range: choice.range,
                matchers: Arc::clone(&left),
            }));
        }
        picks
    }

    /// What the gateway says of itself: adjacent and overlapping spans of a label set are one.
    pub(crate) fn info(&self) -> StoreInfo {
        // Nothing to serve touches no range at all.
        let mut range = TimeRange::new(i64::MAX, i64::MIN);
        let mut tsdb_infos: Vec<TsdbInfo> = Vec::new();
        for group in &self.groups {
            let mut joined: Vec<TsdbInfo> = Vec::new();
            for span in &group.spans {
                range = TimeRange::new(range.start.min(span.range.start), range.end.max(span.range.end));
                match joined.last_mut().filter(|last| span.range.start <= last.range.end) {
                    Some(last) => last.range.end = last.range.end.max(span.range.end),
                    None => joined.push(TsdbInfo { labels: group.labels.clone(), range: span.range }),
                }
            }
            tsdb_infos.append(&mut joined);
        }
        StoreInfo {
            component: ComponentType::Store,
            label_sets: self.groups.iter().map(|g| g.labels.clone()).collect(),
            range: range.intersect(self.limit),
            supports_sharding: true,
            supports_without_replica_labels: true,
            tsdb_infos,
        }
    }
}

/// Of the copies of downsampled data in the two formats one: of two blocks of a resolution where one has all sources
/// of the other the one with more, and of equals the Parquet block, of which less need be read. Within one format the
/// sync has done the same.
fn without_copies(blocks: Vec<&SyncedBlock>) -> Vec<&SyncedBlock> {
    let formats: BTreeSet<(Resolution, bool)> =
        blocks.iter().map(|b| (b.resolution(), b.location.is_parquet())).collect();
    let mixed = |r: Resolution| formats.contains(&(r, true)) && formats.contains(&(r, false));
    if !Resolution::ALL.into_iter().any(mixed) {
        return blocks;
    }
    let mut blocks = blocks;
    blocks.sort_by_key(|b| (std::cmp::Reverse(b.meta.compaction.sources.len()), !b.location.is_parquet(), b.id()));
    let mut kept: Vec<(&SyncedBlock, HashSet<BlockId>)> = Vec::new();
    for block in blocks {
        let sources = &block.meta.compaction.sources;
        let covered = mixed(block.resolution())
            && !sources.is_empty()
            && kept.iter().any(|(other, theirs)| {
                other.resolution() == block.resolution()
                    && other.location.is_parquet() != block.location.is_parquet()
                    && sources.iter().all(|s| theirs.contains(s))
            });
        if !covered {
            kept.push((block, sources.iter().copied().collect()));
        }
    }
    kept.into_iter().map(|(block, _)| block).collect()
}

#[cfg(test)]
mod tests;
