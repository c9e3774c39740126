//! The fan-out as the engine's source of series.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use engine::{Select, SeriesSource, SourceEvent, SourceStream, UnreadableChunk};
use futures::{StreamExt, stream};
use merge::Series;
use model::error::in_one_line;
use serve::Pass;
use storeapi::{
    AggregateKind, Frame, FrameStream, Kind, PartialResponse, SeriesRequest, ServedCoarse, Shard,
    Store,
};

/// How one query reads.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ReadOptions {
    /// Labels that tell replicas apart and are removed; empty without deduplication.
    pub(crate) replica_labels: Vec<String>,
    pub(crate) partial_response: PartialResponse,
    pub(crate) shard: Option<Shard>,
    /// The longest windows of downsampled data that the user allows, in milliseconds; that such
    /// data answers is no news.
    pub(crate) allowed_resolution_ms: i64,
}

/// A store, read with the options of one query.
pub(crate) struct StoreSource {
    store: Arc<dyn Store>,
    reading: ReadOptions,
    /// The query's place behind the gate. The engine holds its source for as long as any part of
    /// the query runs, even after the client has gone.
    _pass: Option<Pass>,
}

impl fmt::Debug for StoreSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreSource").field("reading", &self.reading).finish_non_exhaustive()
    }
}

impl StoreSource {
    pub(crate) fn new(
        store: Arc<dyn Store>,
        reading: ReadOptions,
        pass: Option<Pass>,
    ) -> StoreSource {
        StoreSource { store, reading, _pass: pass }
    }

    fn request(&self, select: Select) -> SeriesRequest {
        let reading = self.reading.clone();
        SeriesRequest {
            max_resolution_ms: select.max_resolution_ms,
            aggregates: select.aggregates.into_iter().map(AggregateKind::Of).collect(),
            partial_response: reading.partial_response,
            without_replica_labels: reading.replica_labels,
            shard: reading.shard,
            coarser_fallback: true,
            newer_encodings: true,
            window_times_from_ms: select.times_from_ms,
            memory: Some(select.memory),
            ..SeriesRequest::new(select.range, select.matchers)
        }
    }
}

impl SeriesSource for StoreSource {
    fn select(&self, select: Select) -> SourceStream {
        let (store, request) = (Arc::clone(&self.store), self.request(select));
        let allowed = self.reading.allowed_resolution_ms;
        let opened = async move { store.series(request).await.map_err(source_error) };
        stream::once(opened)
            .map(move |opened| match opened {
                Ok(frames) => whole_series(without_expected(frames, allowed)),
                Err(error) => stream::once(async { Err(error) }).boxed(),
            })
            .flatten()
            .boxed()
    }

    fn leave_out(&self, chunk: UnreadableChunk) -> Result<String, engine::Error> {
        unreadable(chunk, self.reading.partial_response)
    }
}

/// Leaves out the infos about data that the user allows.
fn without_expected(frames: FrameStream, allowed_ms: i64) -> FrameStream {
    let is_expected = move |info: &str| {
        ServedCoarse::resolution_of(info).is_some_and(|served| served.millis() <= allowed_ms)
    };
    let is_news = move |frame: &Result<Frame, storeapi::Error>| match frame {
        Ok(Frame::Info(text)) => !is_expected(text),
        _ => true,
    };
    frames.filter(move |frame| std::future::ready(is_news(frame))).boxed()
}

/// As for an endpoint that fails: a warning that names it, or the end of the query where partial
/// answers are refused.
fn unreadable(chunk: UnreadableChunk, strategy: PartialResponse) -> Result<String, engine::Error> {
    let UnreadableChunk { origin, error } = chunk;
    let error = match origin {
        Some(address) => error.context(format_args!("read a chunk from {address}")),
        None => error,
    };
    match strategy {
        PartialResponse::Warn => Ok(format!("left out: {}", in_one_line(&error))),
        PartialResponse::Abort => Err(error),
    }
}

fn source_error(error: storeapi::Error) -> engine::Error {
    match error.kind() {
        Kind::Limit | Kind::Memory => engine::Error::passed(engine::Kind::Execution, error),
        Kind::Timeout => engine::Error::passed(engine::Kind::Timeout, error),
        _ => engine::Error::expanding_series(error),
    }
}

/// A series may continue in the next frame, but the engine wants each series whole. So the last
/// series of a frame waits for the next frame.
struct Joiner {
    frames: FrameStream,
    held: Option<Series>,
    ready: VecDeque<SourceEvent>,
    ended: bool,
}

fn whole_series(frames: FrameStream) -> SourceStream {
    let joiner = Joiner { frames, held: None, ready: VecDeque::new(), ended: false };
    stream::unfold(joiner, |mut joiner| async move {
        loop {
            if let Some(event) = joiner.ready.pop_front() {
                return Some((Ok(event), joiner));
            }
            if joiner.ended {
                return None;
            }
            match joiner.frames.next().await {
                Some(Ok(Frame::Series(series))) => joiner.push(series),
                Some(Ok(Frame::Warning(text))) => {
                    joiner.ready.push_back(SourceEvent::Warning(text))
                }
                Some(Ok(Frame::Info(text))) => joiner.ready.push_back(SourceEvent::Info(text)),
                Some(Err(error)) => {
                    joiner.ended = true;
                    return Some((Err(source_error(error)), joiner));
                }
                None => {
                    joiner.ended = true;
                    joiner
                        .ready
                        .extend(joiner.held.take().map(|last| SourceEvent::Series(vec![last])));
                }
            }
        }
    })
    .boxed()
}

impl Joiner {
    fn push(&mut self, series: Vec<Series>) {
        let mut whole = Vec::with_capacity(series.len());
        for next in series {
            match &mut self.held {
                Some(held) if held.labels == next.labels => held.chunks.extend(next.chunks),
                held => whole.extend(held.replace(next)),
            }
        }
        for series in &mut whole {
            series.chunks.sort_by_key(|chunk| (chunk.min_time, chunk.max_time));
        }
        if let Some(held) = &mut self.held {
            held.chunks.sort_by_key(|chunk| (chunk.min_time, chunk.max_time));
        }
        if !whole.is_empty() {
            self.ready.push_back(SourceEvent::Series(whole));
        }
    }
}

#[cfg(test)]
mod tests;
