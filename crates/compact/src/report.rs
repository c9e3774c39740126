//! What was made from what, for the log.

use std::time::Duration;

use block::sync::SyncedBlock;
use model::{TimestampMs, rfc3339};
use tsdb::meta::BlockMeta;

use crate::compaction::Done;

/// A line for a compaction.
pub(crate) fn compacted(inputs: &[SyncedBlock], done: &Done, took: Duration) {
    let ids: Vec<String> = inputs.iter().map(|b| b.id().to_string()).collect();
    let (blocks, sources, seconds) = (inputs.len(), ids.join(","), seconds(took));
    let Some(output) = &done.output else {
        tracing::info!(blocks, %sources, seconds, "blocks hold no samples, they are only deleted");
        return;
    };
    let Described { from, to, bytes } = Described::of(output);
    let (series, samples) = (output.stats.num_series, output.stats.num_samples);
    let (block, level) = (output.ulid, output.compaction.level);
    let (overlapping, was_there) = (done.overlapping, done.was_there);
    tracing::info!(
        %block, level, from, to, series, samples, bytes, seconds, blocks, %sources, overlapping, was_there,
        "compacted blocks"
    );
}

/// A line for one downsampled copy.
pub(crate) fn downsampled(input: &SyncedBlock, output: &BlockMeta, took: Duration) {
    let Described { from, to, bytes } = Described::of(output);
    let (series, samples) = (output.stats.num_series, output.stats.num_samples);
    let (block, source, resolution) = (output.ulid, input.id(), output.resolution());
    let (format, seconds) = (output.format.as_deref().unwrap_or("tsdb"), seconds(took));
    tracing::info!(
        %block, %resolution, format, from, to, series, samples, bytes, seconds, %source,
        "downsampled a block"
    );
}

struct Described {
    from: String,
    to: String,
    bytes: u64,
}

impl Described {
    fn of(meta: &BlockMeta) -> Described {
        let time = |ms| rfc3339::format(TimestampMs(ms));
        let files = meta.thanos.iter().flat_map(|t| &t.files);
        Described {
            from: time(meta.min_time),
            to: time(meta.max_time),
            bytes: files.map(|f| f.size_bytes).sum(),
        }
    }
}

/// To the millisecond.
fn seconds(took: Duration) -> f64 {
    took.as_millis() as f64 / 1000.0
}
