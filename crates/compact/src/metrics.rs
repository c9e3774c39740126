//! What a compactor counts, under Thanos' names.

use block::marker::{DeletionMark, Marker as _};
use prometheus::core::Collector;
use prometheus::{Gauge, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry};

use crate::{Error, Result};

#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    pub(crate) iterations: IntCounter,
    pub(crate) retries: IntCounter,
    pub(crate) runs_started: IntCounterVec,
    pub(crate) runs_completed: IntCounterVec,
    pub(crate) compactions: IntCounterVec,
    pub(crate) compaction_failures: IntCounterVec,
    pub(crate) vertical_compactions: IntCounterVec,
    pub(crate) downsamplings: IntCounterVec,
    pub(crate) downsampling_failures: IntCounterVec,
    pub(crate) garbage_collected: IntCounter,
    pub(crate) garbage_collections: IntCounter,
    pub(crate) garbage_collection_failures: IntCounter,
    pub(crate) garbage_collection_duration: Histogram,
    pub(crate) cleaned: IntCounter,
    pub(crate) cleanup_failures: IntCounter,
    pub(crate) marked: IntCounterVec,
    pub(crate) marked_for_deletion: IntCounter,
    pub(crate) todo_compactions: IntGauge,
    pub(crate) todo_compaction_blocks: IntGauge,
    pub(crate) todo_downsample_blocks: IntGauge,
    pub(crate) todo_deletion_blocks: IntGauge,
}

impl Metrics {
    pub(crate) fn new(registry: &Registry) -> Result<Metrics> {
        let new = Registering { registry };
        // never set: nothing here halts the whole compactor, alerts on it stay silent
        new.add(Gauge::new("thanos_compact_halted", "Set to 1 if the compactor halted due to an unexpected error."))?;
        Ok(Metrics {
            iterations: new
                .counter("thanos_compact_iterations_total", "Iterations that were executed successfully.")?,
            retries: new.counter("thanos_compact_retries_total", "Retries after retriable errors.")?,
            runs_started: new.by(
                "thanos_compact_group_compaction_runs_started_total",
                "Group compaction attempts.",
                "resolution",
            )?,
            runs_completed: new.by(
                "thanos_compact_group_compaction_runs_completed_total",
                "Group compaction attempts that ended, with or without a new block.",
                "resolution",
            )?,
            compactions: new.by(
                "thanos_compact_group_compactions_total",
                "Compactions that made a new block.",
                "resolution",
            )?,
            compaction_failures: new.by(
                "thanos_compact_group_compactions_failures_total",
                "Failed compactions.",
                "resolution",
            )?,
            vertical_compactions: new.by(
                "thanos_compact_group_vertical_compactions_total",
                "Compactions of overlapping blocks that made a new block.",
                "resolution",
            )?,
            downsamplings: new.by("thanos_compact_downsample_total", "Blocks downsampled.", "resolution")?,
            downsampling_failures: new.by(
                "thanos_compact_downsample_failures_total",
                "Failed downsamplings.",
                "resolution",
            )?,
            garbage_collected: new.counter(
                "thanos_compact_garbage_collected_blocks_total",
                "Blocks marked for deletion because others hold all they hold.",
            )?,
            garbage_collections: new
                .counter("thanos_compact_garbage_collection_total", "Garbage collection operations.")?,
            garbage_collection_failures: new
                .counter("thanos_compact_garbage_collection_failures_total", "Failed garbage collection operations.")?,
            garbage_collection_duration: new.add(Histogram::with_opts(HistogramOpts::new(
                "thanos_compact_garbage_collection_duration_seconds",
                "Time garbage collections took.",
            )))?,
            cleaned: new.counter("thanos_compact_blocks_cleaned_total", "Blocks deleted.")?,
            cleanup_failures: new
                .counter("thanos_compact_block_cleanup_failures_total", "Failures to delete blocks.")?,
            marked: new.marked()?,
            marked_for_deletion: new.counter(
                "thanos_compact_blocks_marked_for_deletion_total",
                "Blocks marked for deletion by the compactor.",
            )?,
            todo_compactions: new.gauge("thanos_compact_todo_compactions", "Compactions planned.")?,
            todo_compaction_blocks: new
                .gauge("thanos_compact_todo_compaction_blocks", "Blocks planned to be compacted.")?,
            todo_downsample_blocks: new
                .gauge("thanos_compact_todo_downsample_blocks", "Blocks planned to be downsampled.")?,
            todo_deletion_blocks: new
                .gauge("thanos_compact_todo_deletion_blocks", "Blocks that retention is to delete.")?,
        })
    }
}

struct Registering<'a> {
    registry: &'a Registry,
}

impl Registering<'_> {
    fn add<C: Collector + Clone + 'static>(&self, metric: prometheus::Result<C>) -> Result<C> {
        let metric = metric.map_err(Error::Metrics)?;
        self.registry.register(Box::new(metric.clone())).map_err(Error::Metrics)?;
        Ok(metric)
    }

    fn counter(&self, name: &str, help: &str) -> Result<IntCounter> {
        self.add(IntCounter::new(name, help))
    }

    fn gauge(&self, name: &str, help: &str) -> Result<IntGauge> {
        self.add(IntGauge::new(name, help))
    }

    fn marked(&self) -> Result<IntCounterVec> {
        let opts = Opts::new("thanos_compact_blocks_marked_total", "Blocks marked by the compactor.");
        let marked = self.add(IntCounterVec::new(opts, &["marker", "reason"]))?;
        // there from the start, so that the first increase is seen as one
        marked.with_label_values(&[DeletionMark::FILE, ""]);
        Ok(marked)
    }

    fn by(&self, name: &str, help: &str, label: &str) -> Result<IntCounterVec> {
        let counters = self.add(IntCounterVec::new(Opts::new(name, help), &[label]))?;
        for resolution in ["0", "300000", "3600000"] {
            counters.with_label_values(&[resolution]);
        }
        Ok(counters)
    }
}
