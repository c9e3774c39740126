//! The blocks that one sync found, by their external labels.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use block::claims::can_hold;
use block::sync::{ObjectVersion, SyncedBlock, UnseenBlock};
use block::{BlockLocation, Path};
use model::error::in_one_line;
use model::{BlockId, Labels, Matcher, Resolution, TimeRange};
use storeapi::{ComponentType, Coverage, Spans, StoreInfo, TsdbInfo, match_external};
use tsdb::meta::BlockMeta;

use crate::choice::{Candidate, WantedData, choose};

/// A block that is served.
#[derive(Clone, Debug)]
pub(crate) struct ServedBlock {
    pub(crate) location: BlockLocation,
    pub(crate) meta: Arc<BlockMeta>,
    pub(crate) labels: Labels,
    pub(crate) tombstones: Option<ObjectVersion>,
}

impl ServedBlock {
    pub(crate) fn id(&self) -> BlockId {
        self.meta.ulid
    }
}

/// The blocks of one set of external labels, sorted by the start of their ranges.
#[derive(Debug)]
pub(crate) struct BlockGroup {
    pub(crate) labels: Labels,
    blocks: Vec<Arc<ServedBlock>>,
    /// The blocks as candidates, with the same indices.
    spans: Vec<Candidate>,
}

impl BlockGroup {
    /// Where there is data at each resolution.
    fn coverage(&self) -> Coverage {
        let of = |resolution| {
            let spans = self
                .spans
                .iter()
                .filter(|span| span.resolution == resolution)
                .map(|span| span.range);
            spans.collect::<Spans>().at_most(Coverage::MAX_SPANS)
        };
        Resolution::ALL
            .into_iter()
            .fold(Coverage::default(), |all, resolution| all.with(resolution, of(resolution)))
    }
}

/// A block that a request reads, and for what time.
#[derive(Clone, Debug)]
pub(crate) struct PickedBlock {
    pub(crate) block: Arc<ServedBlock>,
    pub(crate) range: TimeRange,
    /// The request's matchers without those that external labels decided.
    pub(crate) matchers: Arc<Vec<Matcher>>,
}

/// A block that is there but cannot be served: one that could not be looked at, which may hold any
/// series at any time before a certain one, or one of a format that is not read here.
#[derive(Clone, Debug)]
pub(crate) struct Unserved {
    /// The external labels, where they are known.
    labels: Option<Labels>,
    range: TimeRange,
    /// Parquet blocks are never raw.
    parquet: bool,
    /// Whether reading it anew may help.
    is_retried: bool,
    /// What an answer that may lack its series says.
    warning: String,
}

#[derive(Debug)]
pub(crate) struct ServedBlocks {
    groups: Vec<BlockGroup>,
    unserved: Vec<Unserved>,
    /// The time that is served, even if blocks hold more.
    limit: TimeRange,
}

impl ServedBlocks {
    pub(crate) fn new(blocks: &[SyncedBlock], limit: TimeRange) -> ServedBlocks {
        let mut by_labels: BTreeMap<Labels, Vec<&SyncedBlock>> = BTreeMap::new();
        for block in blocks {
            by_labels.entry(block.labels.clone()).or_default().push(block);
        }
        let group = |(labels, blocks): (Labels, Vec<&SyncedBlock>)| {
            let mut kept = without_copies(blocks);
            kept.sort_by_key(|b| (b.range().start, b.range().end, b.id()));
            let span = |b: &&SyncedBlock| Candidate {
                range: b.range(),
                resolution: b.resolution(),
                sources: b.sources().to_vec(),
                marked: b.deletion_mark.is_some(),
            };
            let served = |b: &&SyncedBlock| {
                let (location, meta) = (b.location.clone(), Arc::clone(&b.meta));
                let tombstones = b.tombstones.clone();
                Arc::new(ServedBlock { location, meta, labels: labels.clone(), tombstones })
            };
            BlockGroup {
                spans: kept.iter().map(span).collect(),
                blocks: kept.iter().map(served).collect(),
                labels,
            }
        };
        ServedBlocks {
            groups: by_labels.into_iter().map(group).collect(),
            unserved: Vec::new(),
            limit,
        }
    }

    /// Adds blocks that exist but could not be looked at.
    pub(crate) fn with_unseen(mut self, unseen: &[UnseenBlock]) -> ServedBlocks {
        let one = |block: &UnseenBlock| {
            let (location, error) =
                (&block.location, short(&in_one_line(&block.error).to_string()));
            Unserved {
                labels: None,
                range: TimeRange::new(i64::MIN, location.id().time_ms().cast_signed()),
                parquet: location.is_parquet(),
                is_retried: true,
                warning: format!(
                    "block={location} could not be looked at, so that its series may be missing: \
                     {error}; it is tried again every few seconds"
                ),
            }
        };
        let limit = self.limit;
        let served = |unseen: &Unserved| unseen.range.end > limit.start;
        self.unserved.extend(unseen.iter().map(one).filter(served));
        self
    }

    /// Adds blocks of formats that are not read here, except those whose sources are all served.
    pub(crate) fn with_foreign(mut self, foreign: &[SyncedBlock]) -> ServedBlocks {
        let one = |block: &SyncedBlock| Unserved {
            labels: Some(block.labels.clone()),
            range: block.range(),
            parquet: block.location.is_parquet(),
            is_retried: false,
            warning: format!(
                "block={} is left out: its format {:?} is not one this version reads; upgrade the \
                 store",
                block.location,
                block.meta.format.as_deref().unwrap_or_default()
            ),
        };
        let is_missed = |block: &&SyncedBlock| {
            block.range().overlaps(self.limit)
                && !self.groups.iter().any(|group| group.has_all_of(block))
        };
        let missed: Vec<Unserved> = foreign.iter().filter(is_missed).map(one).collect();
        self.unserved.extend(missed);
        self
    }

    /// Whether looking again soon may show more blocks.
    pub(crate) fn has_unseen(&self) -> bool {
        self.unserved.iter().any(|block| block.is_retried)
    }

    /// The warnings of an answer about blocks that may hold a part of it and are not served. Where
    /// their labels are unknown, matchers exclude none.
    pub(crate) fn unserved_warnings(
        &self,
        matchers: &[Matcher],
        wanted: &WantedData,
    ) -> impl Iterator<Item = &str> {
        let range = wanted.range.intersect(self.limit);
        let raw_only = wanted.coarsest == Resolution::Raw && wanted.fallback.is_empty();
        let concerns = move |block: &&Unserved| {
            let labels = block.labels.as_ref();
            block.range.overlaps(range)
                && !(block.parquet && raw_only)
                && labels.is_none_or(|labels| match_external(matchers, labels).is_some())
        };
        self.unserved.iter().filter(concerns).map(|block| block.warning.as_str())
    }

    /// The labels and time of what is not served; no labels where they are not known.
    fn unserved_spans(&self) -> BTreeMap<Labels, TimeRange> {
        let mut spans: BTreeMap<Labels, TimeRange> = BTreeMap::new();
        for block in &self.unserved {
            let labels = block.labels.clone().unwrap_or_else(Labels::empty);
            let span = spans.entry(labels).or_insert(block.range);
            *span =
                TimeRange::new(span.start.min(block.range.start), span.end.max(block.range.end));
        }
        spans
    }

    pub(crate) fn blocks(&self) -> impl Iterator<Item = &Arc<ServedBlock>> {
        self.groups.iter().flat_map(|g| &g.blocks)
    }

    /// The folders of all blocks.
    pub(crate) fn folders(&self) -> HashSet<&Path> {
        self.blocks().map(|b| b.location.dir()).collect()
    }

    /// The blocks that answer, group by group.
    pub(crate) fn pick(&self, matchers: &[Matcher], wanted: &WantedData) -> Vec<PickedBlock> {
        let wanted = WantedData { range: wanted.range.intersect(self.limit), ..wanted.clone() };
        let mut picks = Vec::new();
        for group in &self.groups {
            let Some(left) = match_external(matchers, &group.labels) else { continue };
            let left = Arc::new(left);
            picks.extend(choose(&group.spans, &wanted).into_iter().map(|choice| PickedBlock {
                block: Arc::clone(&group.blocks[choice.index]),
                range: choice.range,
                matchers: Arc::clone(&left),
            }));
        }
        picks
    }

    /// How the gateway describes itself: adjacent and overlapping spans of a label set become one,
    /// whatever their resolutions, which are reported separately.
    pub(crate) fn info(&self) -> StoreInfo {
        // With nothing to serve, the range touches no other.
        let mut range = TimeRange::new(i64::MAX, i64::MIN);
        let mut tsdb_infos: Vec<TsdbInfo> = Vec::new();
        for group in &self.groups {
            let mut joined: Vec<TsdbInfo> = Vec::new();
            for span in &group.spans {
                range = TimeRange::new(
                    range.start.min(span.range.start),
                    range.end.max(span.range.end),
                );
                match joined.last_mut().filter(|last| span.range.start <= last.range.end) {
                    Some(last) => last.range.end = last.range.end.max(span.range.end),
                    None => joined.push(TsdbInfo::new(group.labels.clone(), span.range)),
                }
            }
            let coverage = group.coverage();
            let told = |info: TsdbInfo| {
                let coverage = coverage.within(info.range.intersect(self.limit));
                info.with_coverage(coverage)
            };
            tsdb_infos.extend(joined.into_iter().map(told));
        }
        let mut label_sets: Vec<Labels> = self.groups.iter().map(|g| g.labels.clone()).collect();
        // A querier that asks only stores that may have something must ask this one, to learn what
        // is missing.
        for (labels, unserved) in self.unserved_spans() {
            range = TimeRange::new(range.start.min(unserved.start), range.end.max(unserved.end));
            let info = TsdbInfo::new(labels.clone(), unserved.intersect(self.limit));
            let known = !labels.is_empty();
            tsdb_infos.push(if known { info.with_coverage(Coverage::default()) } else { info });
            if !label_sets.contains(&labels) {
                label_sets.push(labels);
            }
        }
        StoreInfo {
            component: ComponentType::Store,
            label_sets,
            range: range.intersect(self.limit),
            supports_sharding: true,
            supports_without_replica_labels: true,
            tsdb_infos,
        }
    }
}

impl BlockGroup {
    /// Whether all data that went into a block can be served from others.
    fn has_all_of(&self, block: &SyncedBlock) -> bool {
        let served =
            self.spans.iter().filter(|span| !span.marked && span.resolution <= block.resolution());
        let sources: HashSet<BlockId> = served.flat_map(|span| span.sources.clone()).collect();
        self.labels == block.labels && block.sources().iter().all(|s| sources.contains(s))
    }
}

/// Shortens a text to one line that fits a warning; object stores sometimes answer with whole
/// pages.
fn short(text: &str) -> String {
    const MOST: usize = 400;
    let words: Vec<&str> = text.split_whitespace().collect();
    let line = words.join(" ");
    match line.char_indices().nth(MOST) {
        Some((at, _)) => format!("{}…", &line[..at]),
        None => line,
    }
}

/// Keeps one of the copies of downsampled data in the two formats: if of two blocks of a resolution
/// one has all sources of the other, the one with more; if they are equal, the Parquet block, of
/// which less has to be read. What is marked for deletion hides nothing. Within one format the sync
/// has already done the same.
fn without_copies(blocks: Vec<&SyncedBlock>) -> Vec<&SyncedBlock> {
    let formats: BTreeSet<(Resolution, bool)> =
        blocks.iter().map(|b| (b.resolution(), b.location.is_parquet())).collect();
    let mixed = |r: Resolution| formats.contains(&(r, true)) && formats.contains(&(r, false));
    if !Resolution::ALL.into_iter().any(mixed) {
        return blocks;
    }
    let mut blocks = blocks;
    let marked = |b: &SyncedBlock| b.deletion_mark.is_some();
    blocks.sort_by_key(|b| {
        (marked(b), std::cmp::Reverse(b.sources().len()), !b.location.is_parquet(), b.id())
    });
    let mut kept: Vec<(&SyncedBlock, HashSet<BlockId>)> = Vec::new();
    for block in blocks {
        let covered = mixed(block.resolution())
            && kept.iter().any(|(other, theirs)| {
                !marked(other)
                    && other.resolution() == block.resolution()
                    && other.location.is_parquet() != block.location.is_parquet()
                    && can_hold(&other.meta, &block.meta)
                    && block.sources().iter().all(|s| theirs.contains(s))
            });
        if !covered {
            kept.push((block, block.sources().iter().copied().collect()));
        }
    }
    kept.into_iter().map(|(block, _)| block).collect()
}

#[cfg(test)]
mod tests;
