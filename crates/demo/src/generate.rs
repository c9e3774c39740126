//! Writes the fleet's raw blocks into the bucket's folder, as its sidecars would have uploaded them.

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Context;
use model::{BlockId, TimeRange};
use synthetic::{Fleet, Replica, Rng, Samples, Window};
use tsdb::block_builder::{BlockBuilder, BlockDescription, BlockFiles};

/// What was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Written {
    pub(crate) blocks: u64,
    /// Stale markers included.
    pub(crate) samples: u64,
    /// Of chunks and indices.
    pub(crate) bytes: u64,
}

impl Written {
    fn add(&mut self, files: &BlockFiles) {
        self.blocks += 1;
        self.samples += files.meta.stats.num_samples;
        self.bytes += files.bytes();
    }
}

/// Writes all blocks of all replicas on `threads` threads; calls `progress` with the number of samples of each block.
/// Ids depend on the fleet alone, so that a second run finds the first one's blocks.
pub(crate) fn write_blocks(
    fleet: &Fleet,
    folder: &Path,
    threads: usize,
    progress: impl Fn(u64) + Sync,
) -> anyhow::Result<Written> {
    let jobs: Vec<(&Replica, TimeRange)> =
        fleet.block_ranges().flat_map(|range| fleet.replicas().iter().map(move |replica| (replica, range))).collect();
    let (next, total) = (AtomicUsize::new(0), Mutex::new(Written::default()));
    let work = || {
        let (mut samples, mut written) = (Samples::default(), Written::default());
        while let Some((replica, range)) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
            let files = block(fleet, replica, *range, &mut samples)?;
            files.save(folder).with_context(|| format!("write block={} to {}", files.meta.ulid, folder.display()))?;
            written.add(&files);
            progress(files.meta.stats.num_samples);
        }
        anyhow::Ok(written)
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads.max(1)).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            let written = worker.join().map_err(|_| anyhow::anyhow!("a writer of blocks panicked"))??;
            let mut total = total.lock().unwrap_or_else(|e| e.into_inner());
            total.blocks += written.blocks;
            total.samples += written.samples;
            total.bytes += written.bytes;
        }
        let written = *total.lock().unwrap_or_else(|e| e.into_inner());
        Ok(written)
    })
}

fn block(fleet: &Fleet, replica: &Replica, range: TimeRange, samples: &mut Samples) -> anyhow::Result<BlockFiles> {
    let window = Window::new(fleet, replica, range);
    let mut builder = BlockBuilder::new();
    for series in window.series() {
        window.samples(series, samples);
        if samples.histograms.is_empty() {
            builder.push_floats(series.labels(), &samples.ts, &samples.floats)?;
        } else {
            builder.push_histograms(series.labels(), &samples.ts, &samples.histograms)?;
        }
    }
    let external_labels = Some(replica.external_labels().clone());
    Ok(builder.finish(BlockDescription { id: block_id(fleet, replica, range), range, external_labels })?)
}

/// A Prometheus server makes a block when its span is over. The newest one here ends in the future, and blocks from
/// there count as not finished yet: ids are of the span's start.
fn block_id(fleet: &Fleet, replica: &Replica, range: TimeRange) -> BlockId {
    let seed = fleet.settings().seed ^ replica.external_labels().hash64() ^ range.start.cast_unsigned();
    let mut rng = Rng::new(seed);
    let entropy = u128::from(rng.next_u64()) << 64 | u128::from(rng.next_u64());
    BlockId::from_parts(range.start.cast_unsigned(), entropy)
}
