//! What the parts of one request share: the bucket and its caches, what was read so far, what goes wrong.

use std::collections::{HashSet, VecDeque};
use std::error::Error as _;
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use block::reader::ReadStats;
use block::{Bucket, HeaderCache, TombstoneCache};
use model::{BlockId, Budget, Clock, Resolution};
use parquet_block::FooterCache;
use storeapi::{Error, Frame, Kind, PartialResponse, Result, ServedCoarse};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use crate::catalog::ServedBlock;
use crate::metrics::Metrics;

/// Warnings per answer; what more there is, is only counted.
const MAX_WARNINGS: usize = 50;

/// What all requests share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) bucket: Bucket,
    pub(crate) headers: HeaderCache,
    pub(crate) footers: FooterCache,
    pub(crate) tombstones: TombstoneCache,
    /// Blocks whose header was loaded once: another load tells that the cache had no room.
    pub(crate) loaded: Mutex<HashSet<BlockId>>,
    /// Bounds how many blocks are opened at a time.
    pub(crate) opening: Semaphore,
    pub(crate) budget: Budget,
    pub(crate) metrics: Metrics,
    pub(crate) downloaded_bytes_limit: u64,
    pub(crate) clock: Arc<dyn Clock>,
}

impl Shared {
    /// Counts a look-up in the cache of headers.
    pub(crate) fn header_used(&self, block: BlockId, was_loaded: bool) {
        let metrics = &self.metrics;
        metrics.cache_requests.inc();
        if was_loaded {
            metrics.cache_added.inc();
            if !self.loaded.lock().unwrap_or_else(PoisonError::into_inner).insert(block) {
                metrics.cache_evicted.inc();
            }
        } else {
            metrics.cache_hits.inc();
        }
        metrics.cache_items.set(self.headers.blocks() as f64);
        metrics.cache_bytes.set(self.headers.bytes() as f64);
    }

    /// Whether the header is in the cache, as far as is known.
    pub(crate) fn was_loaded(&self, block: BlockId) -> bool {
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner).contains(&block)
    }

    /// Forgets a block that is no longer served.
    pub(crate) async fn forget(&self, block: BlockId) {
        self.headers.remove(block).await;
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner).remove(&block);
    }
}

/// What one request shares. Metrics are observed when it ends, however it ends.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) shared: Arc<Shared>,
    pub(crate) stats: Arc<ReadStats>,
    pub(crate) strategy: PartialResponse,
    served: Mutex<Served>,
    /// A block turned out to have its series in disorder.
    disorder: AtomicBool,
    start: Duration,
}

#[derive(Debug, Default)]
struct Served {
    /// `None` when labels were asked for.
    series: Option<u64>,
    coarse: ServedCoarse,
}

impl Context {
    pub(crate) fn new(shared: Arc<Shared>, strategy: PartialResponse) -> Context {
        let start = shared.clock.monotonic();
        Context {
            shared,
            stats: Arc::default(),
            strategy,
            served: Mutex::default(),
            disorder: AtomicBool::new(false),
            start,
        }
    }

    pub(crate) fn elapsed(&self) -> f64 {
        self.shared.clock.monotonic().saturating_sub(self.start).as_secs_f64()
    }

    /// Ends the request once it fetched more than it may.
    pub(crate) fn check_downloaded(&self) -> Result<()> {
        let (limit, got) = (self.shared.downloaded_bytes_limit, self.stats.bytes());
        if limit == 0 || got <= limit {
            return Ok(());
        }
        self.shared.metrics.dropped.with_label_values(&["bytes"]).inc();
        Err(Error::new(Kind::Limit, format!("exceeded bytes limit: limit {limit} violated (got {got})")))
    }

    pub(crate) fn found_disorder(&self) {
        self.disorder.store(true, Ordering::Relaxed);
    }

    /// Whether disorder was found since it was asked last.
    pub(crate) fn take_disorder(&self) -> bool {
        self.disorder.swap(false, Ordering::Relaxed)
    }

    pub(crate) fn sent_series(&self, count: usize) {
        *self.served().series.get_or_insert_default() += count as u64;
    }

    /// Chunks of this resolution and closed span were sent.
    pub(crate) fn sent_chunk(&self, resolution: Resolution, min_time: i64, max_time: i64) {
        self.served().coarse.note(resolution, min_time, max_time);
    }

    /// Says what was served when it was not raw.
    pub(crate) fn infos(&self) -> Vec<Frame> {
        self.served().coarse.infos()
    }

    fn served(&self) -> std::sync::MutexGuard<'_, Served> {
        self.served.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A block cannot be read, or no further.
    pub(crate) fn block_failed(&self, block: &ServedBlock, error: &BlockError) -> Error {
        self.shared.metrics.load_failures.inc();
        let (id, text) = (block.id(), error.to_string());
        tracing::warn!(block = %id, error = %text, "block is left out of an answer");
        let advice = match error.kind() {
            Kind::Corrupt if error.is_missing_file() => {
                "; if it was deleted, the next sync forgets it, else restore its files"
            }
            Kind::Corrupt => "; if that stays so, restore its files",
            _ => "",
        };
        Error::new(error.kind(), format!("block={id} is left out: {text}{advice}"))
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        let (metrics, stats) = (&self.shared.metrics, &self.stats);
        let read = |n: &std::sync::atomic::AtomicU64| n.load(Ordering::Relaxed) as f64;
        let postings = read(&stats.postings_bytes);
        for (kind, items, bytes) in [
            ("postings", postings / 4.0, postings),
            ("series", read(&stats.series), read(&stats.series_bytes)),
            ("chunks", read(&stats.chunks), read(&stats.chunk_bytes)),
        ] {
            metrics.data_touched.with_label_values(&[kind]).observe(items);
            metrics.data_fetched.with_label_values(&[kind]).observe(items);
            metrics.size_touched.with_label_values(&[kind]).observe(bytes);
            metrics.size_fetched.with_label_values(&[kind]).observe(bytes);
        }
        if let Some(series) = self.served().series {
            metrics.result_series.observe(series as f64);
        }
    }
}

/// Why a block cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BlockError {
    #[error(transparent)]
    Tsdb(#[from] block::Error),
    #[error("{}", in_one_line(.0))]
    Parquet(#[from] parquet_block::Error),
    /// Not the block's fault.
    #[error(transparent)]
    Request(#[from] Error),
}

impl BlockError {
    pub(crate) fn kind(&self) -> Kind {
        use parquet_block::ErrorKind as Parquet;
        match self {
            BlockError::Request(error) => error.kind(),
            BlockError::Tsdb(error) => match error.kind() {
                block::Kind::Unavailable | block::Kind::Denied | block::Kind::Unordered => Kind::Unavailable,
                block::Kind::Limit => Kind::Limit,
                block::Kind::Internal => Kind::Internal,
                // What the catalog lists is there and readable, unless it is broken.
                _ => Kind::Corrupt,
            },
            BlockError::Parquet(error) => match error.kind() {
                Parquet::Unavailable => Kind::Unavailable,
                _ => Kind::Corrupt,
            },
        }
    }

    fn is_missing_file(&self) -> bool {
        match self {
            BlockError::Tsdb(error) => error.kind() == block::Kind::NotFound,
            BlockError::Parquet(error) => error.kind() == parquet_block::ErrorKind::NotFound,
            BlockError::Request(_) => false,
        }
    }
}

/// An error with its causes.
fn in_one_line(error: &parquet_block::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// Warnings on their way out; under `Abort` the first is the end.
#[derive(Debug)]
pub(crate) struct Notes {
    strategy: PartialResponse,
    waiting: VecDeque<Frame>,
    given: usize,
}

impl Notes {
    pub(crate) fn new(strategy: PartialResponse) -> Notes {
        Notes { strategy, waiting: VecDeque::new(), given: 0 }
    }

    pub(crate) fn warn(&mut self, text: String) -> Result<()> {
        if self.strategy == PartialResponse::Abort {
            return Err(Error::new(Kind::Aborted, text));
        }
        self.given += 1;
        if self.given <= MAX_WARNINGS {
            self.waiting.push_back(Frame::Warning(text));
        }
        Ok(())
    }

    /// A part failed: a warning, unless the request itself is to blame.
    pub(crate) fn fail(&mut self, error: Error) -> Result<()> {
        if matches!(error.kind(), Kind::Limit | Kind::Invalid) {
            return Err(error);
        }
        self.warn(error.to_string())
    }

    pub(crate) fn take(&mut self) -> Vec<Frame> {
        self.waiting.drain(..).collect()
    }

    /// What another has noted.
    pub(crate) fn append(&mut self, mut other: Notes) {
        self.given += other.given;
        self.waiting.append(&mut other.waiting);
    }

    /// At the end: how many were only counted.
    pub(crate) fn take_rest(&mut self) -> Option<Frame> {
        let more = self.given.checked_sub(MAX_WARNINGS).filter(|n| *n > 0)?;
        self.given = 0;
        Some(Frame::Warning(format!("{more} further warnings")))
    }
}

/// A task that ends when nobody waits for it any more.
#[derive(Debug)]
pub(crate) struct Task<T>(JoinHandle<T>);

impl<T: Send + 'static> Task<T> {
    pub(crate) fn spawn(work: impl Future<Output = T> + Send + 'static) -> Task<T> {
        Task(tokio::spawn(work))
    }

    pub(crate) async fn join(mut self) -> Result<T> {
        (&mut self.0).await.map_err(|e| Error::new(Kind::Internal, format!("reading blocks: {e}")))
    }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}
