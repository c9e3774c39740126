//! One endpoint's part of a fan-out: it is read by a task of its own, and sorted here if the
//! endpoint cannot sort it.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::future::{Either, select};
use model::{Budget, Clock, Labels};
use serve::Task;
use tokio::sync::mpsc;

use super::Endpoint;
use super::guard::AnswerGuard;
use crate::{
    Error, Frame, Incoming, Kind, LabelChange, ResortByRun, Result, Series, SeriesRequest, Shard,
};

/// Frames read ahead per endpoint: enough to decode while the merge works, without holding much.
const READ_AHEAD: usize = 4;

/// Series per frame that is put together after sorting.
const FRAME_SERIES: usize = 64;

/// How long to wait for an endpoint.
#[derive(Clone, Debug)]
pub(super) struct Patience {
    pub(super) clock: Arc<dyn Clock>,
    /// Until the next message.
    pub(super) silence: Option<Duration>,
    /// In all.
    pub(super) deadline: Option<Duration>,
}

impl Patience {
    /// Resolves when the deadline has passed, counted from now; never without a deadline.
    pub(super) async fn deadline(&self) -> Error {
        match self.deadline {
            Some(span) => {
                self.clock.sleep(span).await;
                Error::new(Kind::Timeout, format!("not done after {span:?}"))
            }
            None => std::future::pending().await,
        }
    }

    /// `work`, unless it says nothing for too long.
    pub(super) async fn listen<T>(&self, work: impl Future<Output = T>) -> Result<T> {
        let Some(span) = self.silence else { return Ok(work.await) };
        match select(std::pin::pin!(work), self.clock.sleep(span)).await {
            Either::Left((answer, _)) => Ok(answer),
            Either::Right(_) => {
                Err(Error::new(Kind::Timeout, format!("failed to receive any data in {span:?}")))
            }
        }
    }
}

/// The frames of one endpoint as they arrive. Dropping it ends the request behind it.
pub(super) struct Feed {
    pub(super) endpoint: Arc<Endpoint>,
    frames: mpsc::Receiver<Result<Frame>>,
    _reader: Task<()>,
}

impl Feed {
    /// Starts to read at once. Errors come through the feed.
    pub(super) fn open(
        endpoint: Arc<Endpoint>,
        request: SeriesRequest,
        budget: &Budget,
        patience: Patience,
    ) -> Feed {
        let (sender, frames) = mpsc::channel(READ_AHEAD);
        let (request, adapter) = Adapter::split(&endpoint, request, budget);
        let guard = AnswerGuard::new(&endpoint.address, budget);
        let filter = FrameFilter { guard, adapter, origin: Arc::from(&*endpoint.address) };
        let reader = Task::spawn(read(Arc::clone(&endpoint), request, filter, sender, patience));
        Feed { endpoint, frames, _reader: reader }
    }

    pub(super) async fn next(&mut self) -> Option<Result<Frame>> {
        self.frames.recv().await
    }
}

async fn read(
    endpoint: Arc<Endpoint>,
    request: SeriesRequest,
    mut filter: FrameFilter,
    sender: mpsc::Sender<Result<Frame>>,
    patience: Patience,
) {
    let work = std::pin::pin!(copy(&endpoint, request, &mut filter, &sender, &patience));
    let deadline = std::pin::pin!(patience.deadline());
    let failure = match select(work, deadline).await {
        Either::Left((result, _)) => result.err(),
        Either::Right((error, _)) => Some(error),
    };
    if let Some(error) = failure {
        // A receiver that is gone needs no answer.
        let _ = sender.send(Err(error)).await;
    }
}

async fn copy(
    endpoint: &Endpoint,
    request: SeriesRequest,
    filter: &mut FrameFilter,
    sender: &mpsc::Sender<Result<Frame>>,
    patience: &Patience,
) -> Result<()> {
    let mut stream = patience.listen(endpoint.store.series(request)).await??;
    while let Some(frame) = patience.listen(stream.next()).await? {
        for frame in filter.frames(frame?)? {
            if sender.send(Ok(frame)).await.is_err() {
                return Ok(());
            }
        }
    }
    for frame in filter.end()? {
        if sender.send(Ok(frame)).await.is_err() {
            return Ok(());
        }
    }
    Ok(())
}

/// Makes of an endpoint's frames what the merge wants.
struct FrameFilter {
    guard: AnswerGuard,
    adapter: Adapter,
    /// The endpoint, with which its chunks are marked.
    origin: Arc<str>,
}

impl FrameFilter {
    fn frames(&mut self, frame: Frame) -> Result<Vec<Frame>> {
        let Some(mut frame) = self.guard.check(frame)? else { return Ok(Vec::new()) };
        if let Frame::Series(series) = &mut frame {
            let chunks = series.iter_mut().flat_map(|one| &mut one.chunks);
            chunks.for_each(|chunk| chunk.origin = Some(Arc::clone(&self.origin)));
        }
        self.adapter.frames(frame)
    }

    fn end(&mut self) -> Result<Vec<Frame>> {
        let mut frames = self.adapter.end()?;
        frames.extend(self.guard.rest());
        Ok(frames)
    }
}

/// Does what an endpoint says it cannot do: removes replica labels and sorts again, filters by
/// shard.
struct Adapter {
    sorter: Option<ResortByRun>,
    shard: Option<Shard>,
}

impl Adapter {
    /// The request the endpoint can answer, and the rest of the work.
    fn split(
        endpoint: &Endpoint,
        mut request: SeriesRequest,
        budget: &Budget,
    ) -> (SeriesRequest, Adapter) {
        let (mut sorter, mut shard) = (None, None);
        if !endpoint.info.supports_without_replica_labels
            && !request.without_replica_labels.is_empty()
        {
            let change = LabelChange::new(
                &Labels::empty(),
                &std::mem::take(&mut request.without_replica_labels),
            );
            let reservation = budget.reserve(format!("sorting series of {}", endpoint.address));
            sorter = Some(ResortByRun::new(change, Incoming::Any, reservation));
        }
        // Shards are of the final label set: an endpoint that does not make it cannot choose them.
        if !endpoint.info.supports_sharding || sorter.is_some() {
            shard = request.shard.take();
        }
        if sorter.is_some() || shard.is_some() {
            request.limit = 0;
        }
        (request, Adapter { sorter, shard })
    }

    fn frames(&mut self, frame: Frame) -> Result<Vec<Frame>> {
        let Frame::Series(mut series) = frame else { return Ok(vec![frame]) };
        let Some(sorter) = &mut self.sorter else {
            if let Some(shard) = &self.shard {
                series.retain(|s| shard.holds(&s.labels));
            }
            return Ok(vec![Frame::Series(series)]);
        };
        for one in series {
            sorter.push(&one.labels, one.chunks)?;
        }
        self.sorted()
    }

    fn end(&mut self) -> Result<Vec<Frame>> {
        if let Some(sorter) = &mut self.sorter {
            sorter.end();
        }
        self.sorted()
    }

    fn sorted(&mut self) -> Result<Vec<Frame>> {
        let Some(sorter) = &mut self.sorter else { return Ok(Vec::new()) };
        let mut frames = Vec::new();
        let mut series = Vec::new();
        while let Some((labels, chunks)) = sorter.pop()? {
            if self.shard.as_ref().is_none_or(|shard| shard.holds(&labels)) {
                series.push(Series { labels, chunks });
            }
            if series.len() >= FRAME_SERIES {
                frames.push(Frame::Series(std::mem::take(&mut series)));
            }
        }
        if !series.is_empty() {
            frames.push(Frame::Series(series));
        }
        Ok(frames)
    }
}
