//! What the operators of one query share.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use datafusion_common::Result;
use datafusion_execution::memory_pool::MemoryReservation;
use model::{Budget, Labels, METRIC_NAME};
use promql::ast::Span;
use promql::kernels::interrupt::Interrupt;
use promql::kernels::notes::{Notes, Severity};
use tokio::runtime::Handle;
use tokio::time::Instant;

use crate::annotations::Annotations;
use crate::batch::Rows;
use crate::error::{Error, Kind, execution, fail};
use crate::histograms::HistogramTable;
use crate::samples::SampleCounter;
use crate::source::{Select, SeriesSource, UnreadableChunk};

/// The name of the threads of an engine's pool.
pub(crate) const POOL_THREAD: &str = "promql";

pub(crate) const CANCELED: &str = "query was canceled in expression evaluation";
pub(crate) const TIMED_OUT: &str = "query timed out in expression evaluation";

/// What a series loses when it is no longer the metric it was: the name and the labels that
/// describe it.
pub(crate) const METADATA_LABELS: [&str; 3] = [METRIC_NAME, "__type__", "__unit__"];

/// Everything of a query that is not in its plan: labels by id, annotations, counters, limits, the
/// source.
#[derive(Debug)]
pub(crate) struct QueryContext {
    pub(crate) source: Arc<dyn SeriesSource>,
    pub(crate) delayed_name_removal: bool,
    /// The runtime the query came from, on which the source does its I/O.
    pub(crate) io: Handle,
    pub(crate) max_samples: u64,
    pub(crate) workers: usize,
    /// Counts samples, where the query asks for it.
    pub(crate) samples: Option<SampleCounter>,
    /// Whether operators are measured.
    pub(crate) analyze: bool,
    pub(crate) histograms: HistogramTable,
    stop: Stop,
    labels: RwLock<Vec<Labels>>,
    label_memory: OnceLock<LabelMemory>,
    share: OnceLock<Budget>,
    annotations: Mutex<Annotations>,
    held_samples: AtomicU64,
    decoded_samples: AtomicU64,
}

/// Where a query runs and what bounds it.
#[derive(Debug)]
pub(crate) struct Surroundings {
    pub(crate) source: Arc<dyn SeriesSource>,
    pub(crate) delayed_name_removal: bool,
    pub(crate) io: Handle,
    pub(crate) max_samples: u64,
    pub(crate) workers: usize,
    pub(crate) samples: Option<SampleCounter>,
    pub(crate) analyze: bool,
    pub(crate) stop: Stop,
}

/// When a query ends before it has an answer. Awaiting work is dropped then; loops that do not
/// await have to look.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stop {
    /// Set when nobody waits for the answer any more.
    pub(crate) left: Arc<AtomicBool>,
    /// Set when this attempt at the query has failed.
    pub(crate) failed: Arc<AtomicBool>,
    pub(crate) deadline: Option<Instant>,
}

/// What the text of labels that functions made is charged to: it lasts as long as the query's table
/// of labels, and where it is in the answer, as long as that.
pub(crate) type LabelMemory = Arc<Mutex<Charge>>;

/// Work on one thread goes on for this long before others get the thread's place in the pool.
const TURN: Duration = Duration::from_millis(10);

impl QueryContext {
    /// Does work that may take long without awaiting anything. Whatever loops in it asks the
    /// interrupt whether to go on, and the query ends where it does not.
    pub(crate) fn work<T>(&self, work: impl FnOnce(&Interrupt<'_>) -> Result<T>) -> Result<T> {
        // most work is done before it asks
        let began = Cell::new(None);
        let is_wanted = || {
            let now = Instant::now();
            if now - began.get().unwrap_or(now) >= TURN {
                give_way();
                began.set(None);
            } else {
                began.set(began.get().or(Some(now)));
            }
            self.check_alive().is_ok()
        };
        let interrupt = Interrupt::new(&is_wanted);
        let done = work(&interrupt);
        if interrupt.has_stopped() {
            self.check_alive()?;
        }
        done
    }

    /// An error once the query is to end.
    pub(crate) fn check_alive(&self) -> Result<()> {
        if self.stop.left.load(Ordering::Relaxed) || self.stop.failed.load(Ordering::Relaxed) {
            return Err(fail(Error::new(Kind::Canceled, CANCELED)));
        }
        if self.stop.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Err(fail(Error::new(Kind::Timeout, TIMED_OUT)));
        }
        Ok(())
    }

    pub(crate) fn new(around: Surroundings) -> QueryContext {
        let Surroundings {
            source,
            delayed_name_removal,
            io,
            max_samples,
            workers,
            samples,
            analyze,
            stop,
        } = around;
        QueryContext {
            source,
            delayed_name_removal,
            io,
            max_samples,
            workers,
            samples,
            analyze,
            histograms: HistogramTable::default(),
            stop,
            labels: RwLock::default(),
            label_memory: OnceLock::new(),
            share: OnceLock::new(),
            annotations: Mutex::default(),
            held_samples: AtomicU64::new(0),
            decoded_samples: AtomicU64::new(0),
        }
    }

    /// Gives the query its share of the memory budget, once.
    pub(crate) fn begin_with(&self, share: Budget) {
        self.share.get_or_init(|| share);
    }

    /// What the source is asked for.
    pub(crate) fn selecting(&self, select: &Select) -> Select {
        let memory = self.share.get().unwrap_or(&select.memory).clone();
        Select { memory, ..select.clone() }
    }

    /// Charges the text of labels that are going to be made; `reserve` begins a reservation.
    pub(crate) fn charge_labels(
        &self,
        bytes: usize,
        reserve: impl FnOnce() -> MemoryReservation,
    ) -> Result<()> {
        let memory = self.label_memory.get_or_init(|| Arc::new(Mutex::new(Charge::new(reserve()))));
        memory.lock().unwrap_or_else(PoisonError::into_inner).hold(bytes)
    }

    /// What the labels that functions made are charged to, if there are any.
    pub(crate) fn label_memory(&self) -> Option<LabelMemory> {
        self.label_memory.get().cloned()
    }

    /// Gives each label set an id, in order; returns the first.
    pub(crate) fn add_labels(&self, labels: impl IntoIterator<Item = Labels>) -> u32 {
        let mut table = self.labels.write().unwrap_or_else(PoisonError::into_inner);
        let first = table.len() as u32;
        table.extend(labels);
        first
    }

    /// The label sets of a batch's rows.
    pub(crate) fn labels_of(&self, rows: &Rows) -> Vec<Labels> {
        let table = self.labels.read().unwrap_or_else(PoisonError::into_inner);
        rows.series.iter().map(|id| table[*id as usize].clone()).collect()
    }

    /// Calls `f` with the rows of a batch and their label sets; none can be added meanwhile.
    pub(crate) fn for_each_labels(
        &self,
        rows: &Rows,
        mut f: impl FnMut(usize, &Labels) -> Result<()>,
    ) -> Result<()> {
        let table = self.labels.read().unwrap_or_else(PoisonError::into_inner);
        rows.series.iter().enumerate().try_for_each(|(row, id)| f(row, &table[*id as usize]))
    }

    pub(crate) fn label(&self, id: u32) -> Labels {
        self.labels.read().unwrap_or_else(PoisonError::into_inner)[id as usize].clone()
    }

    pub(crate) fn take_annotations(&self) -> Annotations {
        std::mem::take(&mut *self.annotate())
    }

    pub(crate) fn annotate(&self) -> MutexGuard<'_, Annotations> {
        self.annotations.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Annotates what kernels noticed about the expression at `span`.
    pub(crate) fn note(&self, notes: &Notes, span: Span, metric_name: &str) {
        if notes.is_empty() {
            return;
        }
        let mut annotations = self.annotate();
        for note in notes.iter() {
            let message = note.message(metric_name);
            match note.severity() {
                Severity::Warning => annotations.warn(span, message),
                Severity::Info => annotations.info(span, message),
            }
        }
    }

    /// Goes on without a chunk that cannot be read, with a warning, if the source allows that.
    pub(crate) fn leave_out(&self, chunk: UnreadableChunk) -> std::result::Result<(), Error> {
        let warning = self.source.leave_out(chunk)?;
        self.annotate().source_warning(warning);
        Ok(())
    }

    /// The metric name for messages about a series, if names are kept until the end of evaluation.
    pub(crate) fn late_name(&self, labels: &Labels) -> String {
        if self.delayed_name_removal { metric_name(labels) } else { String::new() }
    }

    pub(crate) fn count_decoded(&self, samples: usize) {
        self.decoded_samples.fetch_add(samples as u64, Ordering::Relaxed);
    }

    /// Counts the points that a selector gave towards the query's limit.
    pub(crate) fn hold(&self, points: u64) -> Result<()> {
        let held = self.held_samples.fetch_add(points, Ordering::Relaxed) + points;
        if self.max_samples > 0 && held > self.max_samples {
            let text =
                "query processing would load too many samples into memory in query execution";
            return Err(execution(text));
        }
        Ok(())
    }

    pub(crate) fn held(&self) -> u64 {
        self.held_samples.load(Ordering::Relaxed)
    }

    pub(crate) fn decoded(&self) -> u64 {
        self.decoded_samples.load(Ordering::Relaxed)
    }

    /// Removes the metric name now, or marks the row if names are dropped at the end.
    pub(crate) fn drop_name(&self, labels: &Labels) -> (Labels, bool) {
        if self.delayed_name_removal {
            (labels.clone(), true)
        } else {
            (labels.without(&METADATA_LABELS), false)
        }
    }
}

/// Takes this thread out of the pool, if it is in it, until the work on it awaits something.
/// Another one takes its place, and the tasks that wait for it.
fn give_way() {
    // as long as another thread takes to begin; it need not come in time every time
    apart(|| std::thread::sleep(Duration::from_micros(50)));
}

/// Does work that nothing interrupts, while another thread takes this one's place in the pool.
pub(crate) fn apart<T>(work: impl FnOnce() -> T) -> T {
    let is_of_pool = std::thread::current().name() == Some(POOL_THREAD);
    if is_of_pool { tokio::task::block_in_place(work) } else { work() }
}

/// Memory that is charged to the query in steps, because much is taken a few bytes at a time.
#[derive(Debug)]
pub(crate) struct Charge {
    reservation: MemoryReservation,
    held: usize,
}

impl Charge {
    const STEP: usize = 64 << 10;

    pub(crate) fn new(reservation: MemoryReservation) -> Charge {
        Charge { reservation, held: 0 }
    }

    pub(crate) fn hold(&mut self, bytes: usize) -> Result<()> {
        self.held += bytes;
        let lacking = self.held.saturating_sub(self.reservation.size());
        if lacking == 0 {
            return Ok(());
        }
        // near the limit of the budget, what is really needed decides
        self.reservation
            .try_grow(lacking.max(Self::STEP))
            .or_else(|_| self.reservation.try_grow(lacking))
    }

    pub(crate) fn release(&mut self) {
        self.reservation.free();
        self.held = 0;
    }
}

/// An interrupt inside the engine's own loops.
pub(crate) trait Check {
    /// Counts work, and fails once its result is not wanted; [`QueryContext::work`] says why.
    fn check(&self, units: usize) -> Result<()>;
}

impl Check for Interrupt<'_> {
    #[inline]
    fn check(&self, units: usize) -> Result<()> {
        if self.after(units) { Err(fail(Error::new(Kind::Canceled, CANCELED))) } else { Ok(()) }
    }
}

/// The metric name of a label set, for messages.
pub(crate) fn metric_name(labels: &Labels) -> String {
    String::from_utf8_lossy(labels.metric_name().unwrap_or_default()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::query_error;

    /// A query without data.
    fn context() -> QueryContext {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let around = Surroundings {
            source: Arc::new(crate::testing::MemorySource::default()),
            delayed_name_removal: false,
            io: runtime.handle().clone(),
            max_samples: 0,
            workers: 1,
            samples: None,
            analyze: false,
            stop: Stop::default(),
        };
        QueryContext::new(around)
    }

    #[test]
    fn a_query_that_nobody_waits_for_or_that_is_late_ends() {
        let mut query = context();
        assert!(query.check_alive().is_ok());
        query.stop.deadline = Some(Instant::now());
        assert_eq!(query_error(query.check_alive().unwrap_err()).kind(), Kind::Timeout);
        query.stop.left.store(true, Ordering::Relaxed);
        assert_eq!(query_error(query.check_alive().unwrap_err()).kind(), Kind::Canceled);
    }
}
