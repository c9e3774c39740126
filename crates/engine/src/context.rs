//! What the operators of one query share.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use datafusion_common::Result;
use model::{Labels, METRIC_NAME};
use promql::ast::Span;
use promql::kernels::notes::{Notes, Severity};
use tokio::runtime::Handle;
use tokio::time::Instant;

use crate::annotations::Annotations;
use crate::batch::Rows;
use crate::error::{Error, Kind, execution, fail};
use crate::histograms::HistogramTable;
use crate::samples::SampleCounter;
use crate::source::SeriesSource;

pub(crate) const CANCELED: &str = "query was canceled in expression evaluation";
pub(crate) const TIMED_OUT: &str = "query timed out in expression evaluation";

/// What a series loses when it is no longer the metric it was: the name and the labels that
/// describe it.
pub(crate) const METADATA_LABELS: [&str; 3] = [METRIC_NAME, "__type__", "__unit__"];

/// Everything of a query that is not in its plan: labels by id, annotations, counters, limits, the
/// source.
#[derive(Debug)]
pub(crate) struct QueryContext {
    pub(crate) text: String,
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

impl QueryContext {
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

    pub(crate) fn new(text: String, around: Surroundings) -> QueryContext {
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
            text,
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
            annotations: Mutex::default(),
            held_samples: AtomicU64::new(0),
            decoded_samples: AtomicU64::new(0),
        }
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
    pub(crate) fn for_each_labels(&self, rows: &Rows, mut f: impl FnMut(usize, &Labels)) {
        let table = self.labels.read().unwrap_or_else(PoisonError::into_inner);
        rows.series.iter().enumerate().for_each(|(row, id)| f(row, &table[*id as usize]));
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
                Severity::Warning => annotations.warn(&self.text, span, message),
                Severity::Info => annotations.info(&self.text, span, message),
            }
        }
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
        QueryContext::new(String::new(), around)
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
