//! The metrics of a compactor, under Thanos' names.

use block::marker::{DeletionMark, Marker as _};
use prometheus::{Counter, CounterVec, DEFAULT_BUCKETS, Gauge, Histogram, Registry};
use serve::Registrar;

use crate::Result;

#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    pub(crate) iterations: Counter,
    pub(crate) retries: Counter,
    pub(crate) runs_started: CounterVec,
    pub(crate) runs_completed: CounterVec,
    pub(crate) compactions: CounterVec,
    pub(crate) compaction_failures: CounterVec,
    pub(crate) vertical_compactions: CounterVec,
    pub(crate) downsamplings: CounterVec,
    pub(crate) downsampling_failures: CounterVec,
    pub(crate) garbage_collected: Counter,
    pub(crate) garbage_collections: Counter,
    pub(crate) garbage_collection_failures: Counter,
    pub(crate) garbage_collection_duration: Histogram,
    pub(crate) cleaned: Counter,
    pub(crate) cleanup_failures: Counter,
    pub(crate) marked: CounterVec,
    pub(crate) marked_for_deletion: Counter,
    pub(crate) todo_compactions: Gauge,
    pub(crate) todo_compaction_blocks: Gauge,
    pub(crate) todo_downsample_blocks: Gauge,
    pub(crate) todo_deletion_blocks: Gauge,
}

impl Metrics {
    pub(crate) fn new(registry: &Registry) -> Result<Metrics> {
        let new = Registrar::new(registry);
        // never set: nothing here halts the whole compactor, alerts on it stay silent
        new.gauge(
            "thanos_compact_halted",
            "Set to 1 if the compactor halted due to an unexpected error.",
        )?;
        Ok(Metrics {
            iterations: new.counter(
                "thanos_compact_iterations_total",
                "Iterations that were executed successfully.",
            )?,
            retries: new
                .counter("thanos_compact_retries_total", "Retries after retriable errors.")?,
            runs_started: by_resolution(
                new,
                "thanos_compact_group_compaction_runs_started_total",
                "Group compaction attempts.",
            )?,
            runs_completed: by_resolution(
                new,
                "thanos_compact_group_compaction_runs_completed_total",
                "Group compaction attempts that ended, with or without a new block.",
            )?,
            compactions: by_resolution(
                new,
                "thanos_compact_group_compactions_total",
                "Compactions that made a new block.",
            )?,
            compaction_failures: by_resolution(
                new,
                "thanos_compact_group_compactions_failures_total",
                "Failed compactions.",
            )?,
            vertical_compactions: by_resolution(
                new,
                "thanos_compact_group_vertical_compactions_total",
                "Compactions of overlapping blocks that made a new block.",
            )?,
            downsamplings: by_resolution(
                new,
                "thanos_compact_downsample_total",
                "Blocks downsampled.",
            )?,
            downsampling_failures: by_resolution(
                new,
                "thanos_compact_downsample_failures_total",
                "Failed downsamplings.",
            )?,
            garbage_collected: new.counter(
                "thanos_compact_garbage_collected_blocks_total",
                "Blocks marked for deletion because others hold all they hold.",
            )?,
            garbage_collections: new.counter(
                "thanos_compact_garbage_collection_total",
                "Garbage collection operations.",
            )?,
            garbage_collection_failures: new.counter(
                "thanos_compact_garbage_collection_failures_total",
                "Failed garbage collection operations.",
            )?,
            garbage_collection_duration: new.histogram(
                "thanos_compact_garbage_collection_duration_seconds",
                "Time garbage collections took.",
                DEFAULT_BUCKETS,
            )?,
            cleaned: new.counter("thanos_compact_blocks_cleaned_total", "Blocks deleted.")?,
            cleanup_failures: new.counter(
                "thanos_compact_block_cleanup_failures_total",
                "Failures to delete blocks.",
            )?,
            marked: marked(new)?,
            marked_for_deletion: new.counter(
                "thanos_compact_blocks_marked_for_deletion_total",
                "Blocks marked for deletion by the compactor.",
            )?,
            todo_compactions: new
                .gauge("thanos_compact_todo_compactions", "Compactions planned.")?,
            todo_compaction_blocks: new.gauge(
                "thanos_compact_todo_compaction_blocks",
                "Blocks planned to be compacted.",
            )?,
            todo_downsample_blocks: new.gauge(
                "thanos_compact_todo_downsample_blocks",
                "Blocks planned to be downsampled.",
            )?,
            todo_deletion_blocks: new.gauge(
                "thanos_compact_todo_deletion_blocks",
                "Blocks that retention is to delete.",
            )?,
        })
    }
}

/// The counters exist from the start, so that their first increase shows.
fn marked(new: Registrar<'_>) -> Result<CounterVec> {
    let marked = new.counters(
        "thanos_compact_blocks_marked_total",
        "Blocks marked by the compactor.",
        &["marker", "reason"],
    )?;
    marked.with_label_values(&[DeletionMark::FILE, ""]);
    Ok(marked)
}

fn by_resolution(new: Registrar<'_>, name: &str, help: &str) -> Result<CounterVec> {
    let counters = new.counters(name, help, &["resolution"])?;
    for resolution in ["0", "300000", "3600000"] {
        counters.with_label_values(&[resolution]);
    }
    Ok(counters)
}
