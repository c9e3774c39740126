//! What must hold of a `meta.json`, each rule stated once and named.
//!
//! Every meta that a sync reads is checked by [`of_synced`], every block that is uploaded by
//! [`of_upload`], every block made from others to [`Made::check`], before its `meta.json` is
//! written. Little is required of metas that others wrote: a block with odd statements is still
//! served and compacted. Those made here must agree with everything that follows from their inputs.

use std::collections::BTreeSet;

use model::{BlockId, Labels, Resolution};
use tsdb::meta::{BlockMeta, META_FILE};

use crate::layout::{BlockLocation, INDEX_FILE};
use crate::reader::StoredCounts;

/// A statement of a `meta.json` that cannot be true.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("block={block}: {predicate} does not hold: {found}")]
pub struct Unmet {
    pub block: BlockId,
    /// The name of what must hold.
    pub predicate: &'static str,
    pub found: String,
}

/// Something that must hold of a subject.
struct Predicate<S> {
    name: &'static str,
    /// What was found instead; `None` where it holds.
    unmet: fn(&S) -> Option<String>,
}

fn check<S>(block: BlockId, subject: &S, predicates: &[Predicate<S>]) -> Result<(), Unmet> {
    for Predicate { name, unmet } in predicates {
        if let Some(found) = unmet(subject) {
            return Err(Unmet { block, predicate: name, found });
        }
    }
    Ok(())
}

/// A meta and where it lies, or will lie.
struct Placed<'a> {
    location: &'a BlockLocation,
    meta: &'a BlockMeta,
}

/// A meta and what reading the whole block found.
struct ReadBlock<'a> {
    meta: &'a BlockMeta,
    counts: StoredCounts,
}

/// What holds for every meta, no matter what wrote it.
fn synced<'a>() -> [Predicate<Placed<'a>>; 2] {
    [
        Predicate { name: "usable-fields", unmet: usable_fields },
        Predicate { name: "id-of-folder", unmet: id_of_folder },
    ]
}

/// What holds for a block of a TSDB that is uploaded as it is.
fn uploaded<'a>() -> [Predicate<Placed<'a>>; 1] {
    [Predicate { name: "external-labels", unmet: external_labels }]
}

/// What holds for a block that was made from others.
fn made<'a>() -> [Predicate<Made<'a>>; 11] {
    [
        Predicate { name: "format-of-folder", unmet: format_of_folder },
        Predicate { name: "files-listed", unmet: files_listed },
        Predicate { name: "chunks-for-series", unmet: chunks_for_series },
        Predicate { name: "samples-by-kind", unmet: samples_by_kind },
        Predicate { name: "labels-of-group", unmet: labels_of_group },
        Predicate { name: "range-of-inputs", unmet: range_of_inputs },
        Predicate { name: "sources-of-inputs", unmet: sources_of_inputs },
        Predicate { name: "resolution-of-inputs", unmet: resolution_of_inputs },
        Predicate { name: "level-of-inputs", unmet: level_of_inputs },
        Predicate { name: "parents-of-inputs", unmet: parents_of_inputs },
        Predicate { name: "samples-of-inputs", unmet: samples_of_inputs },
    ]
}

/// What holds for a block that was read from front to back.
fn read_whole<'a>() -> [Predicate<ReadBlock<'a>>; 1] {
    [Predicate { name: "counts-as-read", unmet: counts_as_read }]
}

/// # Errors
/// The first thing that does not hold of a meta that lies in the bucket.
pub fn of_synced(location: &BlockLocation, meta: &BlockMeta) -> Result<(), Unmet> {
    check(location.id(), &Placed { location, meta }, &synced())
}

/// # Errors
/// The first thing that does not hold of a block that is about to be uploaded.
pub fn of_upload(location: &BlockLocation, meta: &BlockMeta) -> Result<(), Unmet> {
    of_synced(location, meta)?;
    check(location.id(), &Placed { location, meta }, &uploaded())
}

/// `counts` are of everything stored in the block, including deleted samples.
///
/// # Errors
/// The block holds more or less than it says. Counts that are not stated are not checked.
pub fn of_read(meta: &BlockMeta, counts: StoredCounts) -> Result<(), Unmet> {
    check(meta.ulid, &ReadBlock { meta, counts }, &read_whole())
}

/// A block that was made from others, complete except for its `meta.json`.
#[derive(Clone, Copy, Debug)]
pub struct Made<'a> {
    pub location: &'a BlockLocation,
    pub meta: &'a BlockMeta,
    /// External labels of the inputs, without replica labels that were removed.
    pub labels: &'a Labels,
    /// What it was made from. Inputs of its own resolution were merged, finer ones downsampled.
    pub inputs: &'a [&'a BlockMeta],
}

impl Made<'_> {
    /// # Errors
    /// The first thing that does not hold.
    pub fn check(&self) -> Result<(), Unmet> {
        of_synced(self.location, self.meta)?;
        check(self.location.id(), self, &made())
    }

    fn was_merged(&self) -> bool {
        self.inputs.iter().all(|input| input.resolution() == self.meta.resolution())
    }

    fn is_tsdb(&self) -> bool {
        !self.location.is_parquet()
    }
}

fn usable_fields(block: &Placed<'_>) -> Option<String> {
    block.meta.validate().err().map(|e| e.to_string())
}

fn id_of_folder(block: &Placed<'_>) -> Option<String> {
    let (stated, folder) = (block.meta.ulid, block.location.id());
    (stated != folder)
        .then(|| format!("in {} lies the meta.json of block {stated}", block.location))
}

fn external_labels(block: &Placed<'_>) -> Option<String> {
    let none = block.meta.external_labels().is_empty();
    none.then(|| "section \"thanos\" names no external labels".to_owned())
}

fn format_of_folder(made: &Made<'_>) -> Option<String> {
    let format = made.meta.format.as_deref();
    let found = || format!("format {:?} in {}", format.unwrap_or_default(), made.location);
    (format.is_some() != made.location.is_parquet()).then(found)
}

/// These names and sizes show whether a block is complete.
fn files_listed(made: &Made<'_>) -> Option<String> {
    let Some(thanos) = &made.meta.thanos else {
        return Some("there is no section \"thanos\"".into());
    };
    let mut names = BTreeSet::new();
    for file in &thanos.files {
        if !names.insert(file.rel_path.as_str()) {
            return Some(format!("{} is listed twice", file.rel_path));
        }
        if (file.size_bytes == 0) != (file.rel_path == META_FILE) {
            return Some(format!("{} is listed with {} bytes", file.rel_path, file.size_bytes));
        }
    }
    let segments: BTreeSet<&str> = names.iter().filter_map(|n| n.strip_prefix("chunks/")).collect();
    let stated: BTreeSet<&str> = thanos.segment_files.iter().map(String::as_str).collect();
    if segments != stated {
        return Some(format!("files name segments {segments:?}, segment_files {stated:?}"));
    }
    if made.is_tsdb() && !names.contains(INDEX_FILE) {
        return Some("no index is listed".into());
    }
    names.is_empty().then(|| "no file is listed".into())
}

fn chunks_for_series(made: &Made<'_>) -> Option<String> {
    let stats = &made.meta.stats;
    let few = made.is_tsdb() && stats.num_chunks < stats.num_series;
    few.then(|| format!("{} chunks of {} series", stats.num_chunks, stats.num_series))
}

/// Thanos leaves the counts by kind in its downsampled blocks as they were for the raw samples.
fn samples_by_kind(made: &Made<'_>) -> Option<String> {
    let stats = &made.meta.stats;
    let (floats, histograms) = (stats.num_float_samples, stats.num_histogram_samples);
    let counted = !made.is_tsdb() || made.was_merged();
    let differs = counted && floats.checked_add(histograms) != Some(stats.num_samples);
    let all = stats.num_samples;
    differs.then(|| format!("{floats} floats and {histograms} histograms are {all} samples"))
}

fn labels_of_group(made: &Made<'_>) -> Option<String> {
    let stated = made.meta.external_labels();
    (stated != *made.labels).then(|| format!("labels {stated} instead of {}", made.labels))
}

fn range_of_inputs(made: &Made<'_>) -> Option<String> {
    let from = made.inputs.iter().map(|input| input.min_time).min()?;
    let to = made.inputs.iter().map(|input| input.max_time).max()?;
    let (min_time, max_time) = (made.meta.min_time, made.meta.max_time);
    let found = || format!("from {min_time} to {max_time}, made of data from {from} to {to}");
    ((min_time, max_time) != (from, to)).then(found)
}

fn sources_of_inputs(made: &Made<'_>) -> Option<String> {
    let of_inputs = made.inputs.iter().flat_map(|input| input.sources());
    let expected: BTreeSet<&BlockId> = of_inputs.collect();
    let stated: BTreeSet<&BlockId> = made.meta.compaction.sources.iter().collect();
    let lacking = expected.difference(&stated).next().map(|id| format!("source {id} is missing"));
    let surplus = || stated.difference(&expected).next().map(|id| format!("{id} is no source"));
    lacking.or_else(surplus)
}

fn resolution_of_inputs(made: &Made<'_>) -> Option<String> {
    let coarsest: Resolution = made.inputs.iter().map(|input| input.resolution()).max()?;
    let stated = made.meta.resolution();
    (coarsest > stated).then(|| format!("{stated}, made of {coarsest}"))
}

fn level_of_inputs(made: &Made<'_>) -> Option<String> {
    let highest = made.inputs.iter().map(|input| input.compaction.level).max()?;
    let stated = made.meta.compaction.level;
    let least = highest.saturating_add(u32::from(made.was_merged()));
    (stated < least).then(|| format!("level {stated}, made of blocks of level {highest}"))
}

/// A downsampled block has the parents of the block it was made from, as in Thanos.
fn parents_of_inputs(made: &Made<'_>) -> Option<String> {
    let expected: BTreeSet<BlockId> = made.inputs.iter().map(|input| input.ulid).collect();
    let stated: BTreeSet<BlockId> = made.meta.compaction.parents.iter().map(|p| p.ulid).collect();
    let found = || format!("{stated:?}, made of {expected:?}");
    (made.was_merged() && stated != expected).then(found)
}

/// Not checked where an input does not state how many samples it has.
fn samples_of_inputs(made: &Made<'_>) -> Option<String> {
    let counts: Vec<u64> = made.inputs.iter().map(|input| input.stats.num_samples).collect();
    let known = made.was_merged() && counts.iter().all(|count| *count > 0);
    let most = counts.iter().fold(0u64, |sum, count| sum.saturating_add(*count));
    let stated = made.meta.stats.num_samples;
    (known && stated > most).then(|| format!("{stated} samples, made of {most}"))
}

fn counts_as_read(block: &ReadBlock<'_>) -> Option<String> {
    let (stats, read) = (&block.meta.stats, block.counts);
    let differs = |stated: u64, read: u64| stated > 0 && stated != read;
    let unmet = differs(stats.num_series, read.series) || differs(stats.num_samples, read.samples);
    unmet.then(|| {
        format!(
            "{} series with {} samples can be read of it, but its meta.json says {} with {}",
            read.series, read.samples, stats.num_series, stats.num_samples
        )
    })
}

#[cfg(test)]
mod tests;
