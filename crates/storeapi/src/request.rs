//! Requests to a store.

use model::{Budget, Labels, Matcher, Resolution, TimeRange};
use tsdb::chunk::Aggregate;

use crate::Spans;

/// What to do when a part of the answer is not available.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PartialResponse {
    /// Answer with the rest and a warning.
    #[default]
    Warn,
    /// Fail.
    Abort,
}

/// What the caller wants of downsampled chunks. Raw chunks always come whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AggregateKind {
    Raw,
    Of(Aggregate),
}

/// Keep only series whose hash over `labels` falls on this shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shard {
    pub index: u64,
    pub total: u64,
    /// Hash the labels named (`by`) or all others.
    pub by: bool,
    pub labels: Vec<String>,
}

impl Shard {
    /// Whether the final label set of a series belongs to this shard: xxh64 over `name 0xFF value
    /// 0xFF`.
    pub fn holds(&self, labels: &Labels) -> bool {
        if self.total <= 1 {
            return true;
        }
        let kept = if self.by { labels.keep(&self.labels) } else { labels.without(&self.labels) };
        kept.hash64() % self.total == self.index
    }
}

/// Asks for series with their chunks.
#[derive(Clone, Debug)]
pub struct SeriesRequest {
    pub range: TimeRange,
    pub matchers: Vec<Matcher>,
    /// The coarsest window of downsampled data wanted, in milliseconds; 0 = raw only.
    pub max_resolution_ms: i64,
    pub aggregates: Vec<AggregateKind>,
    pub partial_response: PartialResponse,
    /// Labels only.
    pub skip_chunks: bool,
    /// Labels to remove before series are sorted.
    pub without_replica_labels: Vec<String>,
    pub shard: Option<Shard>,
    /// The most series; 0 = no limit.
    pub limit: u64,
    /// Series per message on the wire; 0 or 1 = single frames.
    pub batch_size: u64,
    /// Private: data coarser than asked for may be sent where nothing finer exists.
    pub coarser_fallback: bool,
    /// Private: `coarser_fallback` only for these spans; none means all of time.
    pub coarser_within: Spans,
    /// Private: the caller decodes XOR2 and the start-timestamp encodings.
    pub newer_encodings: bool,
    /// Private: the shortest windows, in milliseconds, of which the caller uses the times of the
    /// first and the last samples; 0 = of none.
    pub window_times_from_ms: i64,
    /// In this process alone: what is held of the answer, to sort or to put it together, is charged
    /// to this instead of the budget of whoever holds it.
    pub memory: Option<Budget>,
}

impl SeriesRequest {
    pub fn new(range: TimeRange, matchers: Vec<Matcher>) -> SeriesRequest {
        SeriesRequest {
            range,
            matchers,
            max_resolution_ms: 0,
            aggregates: Vec::new(),
            partial_response: PartialResponse::Warn,
            skip_chunks: false,
            without_replica_labels: Vec::new(),
            shard: None,
            limit: 0,
            batch_size: 64,
            coarser_fallback: false,
            coarser_within: Spans::default(),
            newer_encodings: false,
            window_times_from_ms: 0,
            memory: None,
        }
    }

    /// Whether the times of samples are to be sent with windows of this resolution.
    pub fn wants_times_of(&self, resolution: Resolution) -> bool {
        (1..=resolution.millis()).contains(&self.window_times_from_ms)
    }

    /// Where data coarser than asked for may be sent if nothing finer exists.
    pub fn fallback(&self) -> Spans {
        match (self.coarser_fallback, self.coarser_within.is_empty()) {
            (false, _) => Spans::default(),
            (true, true) => Spans::all(),
            (true, false) => self.coarser_within.clone(),
        }
    }
}

/// Asks for the names of labels of matching series.
#[derive(Clone, Debug)]
pub struct LabelNamesRequest {
    pub range: TimeRange,
    pub matchers: Vec<Matcher>,
    pub partial_response: PartialResponse,
    pub without_replica_labels: Vec<String>,
    pub limit: u64,
}

/// Asks for the values of one label of matching series.
#[derive(Clone, Debug)]
pub struct LabelValuesRequest {
    pub label: String,
    pub range: TimeRange,
    pub matchers: Vec<Matcher>,
    pub partial_response: PartialResponse,
    pub without_replica_labels: Vec<String>,
    pub limit: u64,
}
