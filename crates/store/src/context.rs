//! What the parts of one request share: what was read so far, and what was found meanwhile.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use block::MemoryTurns;
use block::reader::ReadStats;
use futures::future::{Either, select};
use model::error::in_one_line;
use model::{Budget, Resolution};
use storeapi::{Error, Frame, Kind, PartialResponse, Result, ServedCoarse};

use crate::block_error::BlockError;
use crate::served::ServedBlock;
use crate::shared::GatewayShared;

/// How long a request waits for memory: as long as a query may take by default.
const MEMORY_WAIT: Duration = Duration::from_secs(120);

/// What one request shares. Metrics are observed when it ends, however it ends.
#[derive(Debug)]
pub(crate) struct RequestContext {
    pub(crate) shared: Arc<GatewayShared>,
    pub(crate) stats: Arc<ReadStats>,
    pub(crate) strategy: PartialResponse,
    served: Mutex<ServedCounts>,
    /// A block turned out to have its series in disorder.
    disorder: AtomicBool,
    memory: Mutex<RequestMemory>,
    /// The share of a caller in this process, which is charged in place of one of our own.
    given: Option<Budget>,
    start: Duration,
}

/// What a request may use of the memory budget.
#[derive(Clone, Debug)]
pub(crate) struct RequestMemory {
    pub(crate) share: Budget,
    /// For reads under way.
    pub(crate) reads: MemoryTurns,
    /// For chunks that wait to be sent.
    pub(crate) answers: MemoryTurns,
}

impl RequestMemory {
    fn new(share: Budget) -> RequestMemory {
        let [reads, answers] = [(); 2].map(|()| MemoryTurns::new(share.clone()));
        RequestMemory { share, reads, answers }
    }
}

#[derive(Debug, Default)]
struct ServedCounts {
    /// `None` when labels were asked for.
    series: Option<u64>,
    coarse: ServedCoarse,
}

impl RequestContext {
    pub(crate) fn new(shared: Arc<GatewayShared>, strategy: PartialResponse) -> RequestContext {
        let start = shared.clock.monotonic();
        let memory = Mutex::new(RequestMemory::new(shared.budget.clone()));
        RequestContext {
            memory,
            given: None,
            shared,
            stats: Arc::default(),
            strategy,
            served: Mutex::default(),
            disorder: AtomicBool::new(false),
            start,
        }
    }

    /// Charges the share that the caller has already. Waiting for another one while the caller
    /// holds its own could be waiting for oneself.
    #[must_use]
    pub(crate) fn charging(mut self, given: Option<Budget>) -> RequestContext {
        self.given = given;
        self
    }

    /// What the request may use of the memory budget.
    pub(crate) fn memory(&self) -> RequestMemory {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for a share of the memory budget, which takes the place of an earlier one.
    pub(crate) async fn wait_for_memory(&self, least: u64) -> Result<()> {
        if let Some(given) = &self.given {
            given.ensure("an answer", least.min(given.limit()))?;
            self.set_memory(given.clone());
            return Ok(());
        }
        let budget = &self.shared.budget;
        // who waits must not hold what others wait for
        self.set_memory(budget.clone());
        let mut admission = budget.share("an answer", least.min(budget.limit()));
        let share = match select(&mut admission, self.shared.clock.sleep(MEMORY_WAIT)).await {
            Either::Left((share, _)) => share,
            Either::Right(_) => Err(admission.refused()),
        };
        self.set_memory(share?);
        Ok(())
    }

    fn set_memory(&self, memory: Budget) {
        let memory = RequestMemory::new(memory);
        *self.memory.lock().unwrap_or_else(PoisonError::into_inner) = memory;
    }

    pub(crate) fn elapsed(&self) -> f64 {
        self.shared.clock.monotonic().saturating_sub(self.start).as_secs_f64()
    }

    /// An error once the request fetched more than it may.
    pub(crate) fn check_downloaded(&self) -> Result<()> {
        let (limit, got) = (self.shared.downloaded_bytes_limit, self.stats.bytes());
        if limit == 0 || got <= limit {
            return Ok(());
        }
        self.shared.metrics.dropped.with_label_values(&["bytes"]).inc();
        Err(Error::new(
            Kind::Limit,
            format!("exceeded bytes limit: limit {limit} violated (got {got})"),
        ))
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

    /// Records that chunks of this resolution and closed span were sent.
    pub(crate) fn sent_chunk(&self, resolution: Resolution, min_time: i64, max_time: i64) {
        self.served().coarse.note(resolution, min_time, max_time);
    }

    /// The infos about what was served that was not raw.
    pub(crate) fn infos(&self) -> Vec<Frame> {
        self.served().coarse.infos()
    }

    fn served(&self) -> std::sync::MutexGuard<'_, ServedCounts> {
        self.served.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the next request read a block anew: whoever owns it may restore its files in place.
    pub(crate) fn found_damage(&self, block: &ServedBlock) {
        let (shared, location) = (Arc::clone(&self.shared), block.location.clone());
        // nobody waits for it, and it waits for nobody
        tokio::spawn(async move { shared.read_anew(&location).await });
    }

    /// Records that a block cannot be read, or no further.
    pub(crate) fn block_failed(&self, block: &ServedBlock, error: &BlockError) -> Error {
        if error.kind() == Kind::Corrupt {
            self.found_damage(block);
        }
        self.shared.metrics.load_failures.inc();
        if error.is_missing_file() {
            self.shared.doubts.add(&block.location);
        }
        let (id, text) = (block.id(), in_one_line(error).to_string());
        tracing::warn!(block = %id, error = %text, "block is left out of an answer");
        let advice = match error.kind() {
            Kind::Corrupt if error.is_missing_file() => {
                "; it is looked at again at once: if it was deleted it is forgotten, else restore its files"
            }
            Kind::Corrupt => "; if that stays so, restore its files",
            _ => "",
        };
        let reason = text.strip_prefix(&format!("block={id}: ")).unwrap_or(&text);
        Error::new(error.kind(), format!("block={id} is left out: {reason}{advice}"))
    }
}

impl Drop for RequestContext {
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
