//! Writes the fleet's raw blocks into the bucket's folder, as its sidecars would have uploaded
//! them.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use anyhow::Context;
use model::{BlockId, TimeRange};
use synthetic::{Fleet, GeneratedSamples, Replica, Rng, ServerScrapes};
use tokio::sync::oneshot;
use tsdb::block_builder::{BlockBuilder, BlockFiles, BlockIdentity};

/// What was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct WrittenTotals {
    pub(crate) blocks: u64,
    /// Stale markers included.
    pub(crate) samples: u64,
    /// The bytes of chunks and indices.
    pub(crate) bytes: u64,
}

impl WrittenTotals {
    fn add(&mut self, files: &BlockFiles) {
        self.blocks += 1;
        self.samples += files.meta.stats.num_samples;
        self.bytes += files.bytes();
    }
}

/// The blocks that are to be written.
pub(crate) struct GenerateWork {
    pub(crate) fleet: Fleet,
    pub(crate) folder: PathBuf,
    pub(crate) threads: usize,
}

/// Threads that write all blocks. Dropped early, it makes them stop and waits for the blocks under
/// way, so that nothing is written to a folder that is about to be removed.
pub(crate) struct BlockWriter {
    stop: Arc<AtomicBool>,
    written: oneshot::Receiver<anyhow::Result<WrittenTotals>>,
    thread: Option<JoinHandle<()>>,
}

impl BlockWriter {
    /// Starts writing; calls `progress` after each block.
    pub(crate) fn start(
        work: GenerateWork,
        progress: impl Fn() + Send + Sync + 'static,
    ) -> BlockWriter {
        let GenerateWork { fleet, folder, threads } = work;
        let stop = Arc::new(AtomicBool::new(false));
        let (sender, written) = oneshot::channel();
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let go_on = || {
                progress();
                !stopped.load(Ordering::Relaxed)
            };
            // nobody waits any more when the writer was dropped
            let _ = sender.send(write_blocks(&fleet, &folder, threads, go_on));
        });
        BlockWriter { stop, written, thread: Some(thread) }
    }

    pub(crate) async fn written(mut self) -> anyhow::Result<WrittenTotals> {
        (&mut self.written).await.context("the writer of raw blocks panicked")?
    }
}

impl Drop for BlockWriter {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // a panic was reported by the thread itself
            let _ = thread.join();
        }
    }
}

/// Writes all blocks of all replicas on `threads` threads, until `go_on`, which is called after
/// each block, returns false. Ids depend on the fleet alone.
fn write_blocks(
    fleet: &Fleet,
    folder: &Path,
    threads: usize,
    go_on: impl Fn() -> bool + Sync,
) -> anyhow::Result<WrittenTotals> {
    let jobs: Vec<(&Replica, TimeRange)> = fleet
        .block_ranges()
        .flat_map(|range| fleet.replicas().iter().map(move |replica| (replica, range)))
        .collect();
    let (next, total) = (AtomicUsize::new(0), Mutex::new(WrittenTotals::default()));
    let work = || {
        let (mut samples, mut written) = (GeneratedSamples::default(), WrittenTotals::default());
        while let Some((replica, range)) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
            let files = block(fleet, replica, *range, &mut samples)?;
            files.save(folder).with_context(|| {
                format!("write block={} to {}", files.meta.ulid, folder.display())
            })?;
            written.add(&files);
            if !go_on() {
                break;
            }
        }
        anyhow::Ok(written)
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads.max(1)).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            let written =
                worker.join().map_err(|_| anyhow::anyhow!("a writer of blocks panicked"))??;
            let mut total = total.lock().unwrap_or_else(|e| e.into_inner());
            total.blocks += written.blocks;
            total.samples += written.samples;
            total.bytes += written.bytes;
        }
        let written = *total.lock().unwrap_or_else(|e| e.into_inner());
        Ok(written)
    })
}

fn block(
    fleet: &Fleet,
    replica: &Replica,
    range: TimeRange,
    samples: &mut GeneratedSamples,
) -> anyhow::Result<BlockFiles> {
    let window = ServerScrapes::new(fleet, replica, range);
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
    Ok(builder.finish(BlockIdentity {
        id: block_id(fleet, replica, range),
        range,
        external_labels,
    })?)
}

/// A Prometheus server makes a block when its span is over. The newest one here ends in the future,
/// and blocks from the future count as not finished yet: so ids have the time of the span's start.
fn block_id(fleet: &Fleet, replica: &Replica, range: TimeRange) -> BlockId {
    let seed =
        fleet.settings().seed ^ replica.external_labels().hash64() ^ range.start.cast_unsigned();
    let mut rng = Rng::new(seed);
    let entropy = u128::from(rng.next_u64()) << 64 | u128::from(rng.next_u64());
    BlockId::from_parts(range.start.cast_unsigned(), entropy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_dropped_writer_stops() {
        let folder = tempfile::tempdir().unwrap();
        let range = TimeRange::new(0, 360 * synthetic::BLOCK_MS);
        let fleet = Fleet::new(synthetic::Settings::kubernetes(1, range)).unwrap();
        let (first, mut is_written) = tokio::sync::mpsc::channel(1);
        let progress = move || {
            // only the first block is waited for
            let _ = first.try_send(());
        };
        let writer = BlockWriter::start(
            GenerateWork { fleet, folder: folder.path().to_owned(), threads: 2 },
            progress,
        );
        is_written.recv().await.unwrap();
        drop(writer);
        let blocks = std::fs::read_dir(folder.path()).unwrap().count();
        assert!((1..1440).contains(&blocks), "{blocks} blocks");
        std::fs::remove_dir_all(folder.path()).unwrap();
    }

    #[tokio::test]
    async fn what_was_written_is_counted() {
        let folder = tempfile::tempdir().unwrap();
        let range = TimeRange::new(0, 2 * synthetic::BLOCK_MS);
        let fleet = Fleet::new(synthetic::Settings::kubernetes(1, range)).unwrap();
        let work =
            GenerateWork { fleet: fleet.clone(), folder: folder.path().to_owned(), threads: 2 };
        let written = BlockWriter::start(work, || {}).written().await.unwrap();
        let counts = fleet
            .replicas()
            .iter()
            .flat_map(|r| fleet.counts(r, range).into_values().collect::<Vec<_>>());
        assert_eq!(written.samples, counts.map(|c| c.samples + c.stale_markers).sum::<u64>());
        assert_eq!(written.blocks, std::fs::read_dir(folder.path()).unwrap().count() as u64);
    }
}
