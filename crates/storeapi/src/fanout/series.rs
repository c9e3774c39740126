//! The merge of what endpoints stream.

use std::collections::VecDeque;
use std::sync::Arc;

use futures::StreamExt;
use futures::future::try_join_all;
use futures::stream;
use merge::{KWay, Series, Step};
use model::error::in_one_line;

use super::child::Feed;
use super::joined::{Finished, JoinedSeries};
use super::plan::KeptChunks;
use crate::{
    Error, Frame, FrameStream, Kind, PartialResponse, Result, SeriesRequest, ServedCoarse,
};

/// Series per frame.
const FRAME_SERIES: usize = 64;

/// A frame ends at this many bytes of chunks.
const FRAME_BYTES: usize = 1 << 20;

/// Merges the feeds; all of their chunks count, or those that are to be kept. The notes go first,
/// and what the request limits is limited.
pub(super) fn merge(
    feeds: Vec<(Feed, Option<Arc<KeptChunks>>)>,
    notes: Vec<Frame>,
    request: &SeriesRequest,
) -> FrameStream {
    let source =
        |(feed, keep)| EndpointSource { feed: Some(feed), keep, series: Vec::new().into_iter() };
    let merge = EndpointMerge {
        sources: feeds.into_iter().map(source).collect(),
        heads: None,
        notes: notes.into(),
        served: ServedCoarse::default(),
        strategy: request.partial_response,
        left: if request.limit == 0 { u64::MAX } else { request.limit },
    };
    stream::unfold(Some(merge), |merge| async move {
        let mut merge = merge?;
        match merge.next().await {
            Ok(Some(frame)) => Some((Ok(frame), Some(merge))),
            Ok(None) => None,
            Err(error) => Some((Err(error), None)),
        }
    })
    .boxed()
}

struct EndpointSource {
    /// `None` once it ended or failed.
    feed: Option<Feed>,
    /// `None`: everything it sends counts.
    keep: Option<Arc<KeptChunks>>,
    series: std::vec::IntoIter<Series>,
}

/// What reading one more series of a source brought.
#[derive(Default)]
struct Pulled {
    head: Option<Series>,
    notes: Vec<Frame>,
}

impl EndpointSource {
    async fn pull(&mut self, strategy: PartialResponse) -> Result<Pulled> {
        let mut pulled = Pulled::default();
        loop {
            pulled.head = self.series.next();
            let Some(feed) = self.feed.as_mut().filter(|_| pulled.head.is_none()) else {
                return Ok(pulled);
            };
            match feed.next().await {
                None => self.feed = None,
                Some(Ok(Frame::Series(series))) => self.series = series.into_iter(),
                Some(Ok(Frame::Warning(text))) if strategy == PartialResponse::Abort => {
                    return Err(Error::new(
                        Kind::Aborted,
                        format!("{}: {text}", feed.endpoint.address),
                    ));
                }
                // infos about what was served are made from what is kept
                Some(Ok(Frame::Info(_))) if self.keep.is_some() => {}
                Some(Ok(note)) => pulled.notes.push(note),
                Some(Err(error)) => {
                    let error = error
                        .context(format_args!("receive series from {}", feed.endpoint.address));
                    if strategy == PartialResponse::Abort || error.ends_all() {
                        return Err(error.aborting());
                    }
                    pulled.notes.push(Frame::Warning(in_one_line(&error).to_string()));
                    self.feed = None;
                }
            }
        }
    }
}

struct EndpointMerge {
    sources: Vec<EndpointSource>,
    /// `None` until every source gave its first series.
    heads: Option<KWay<Series>>,
    notes: VecDeque<Frame>,
    /// What was served by sources whose answers were cut.
    served: ServedCoarse,
    strategy: PartialResponse,
    left: u64,
}

impl EndpointMerge {
    async fn next(&mut self) -> Result<Option<Frame>> {
        if self.heads.is_none() {
            self.heads = Some(self.start().await?);
        }
        loop {
            let (mut joined, mut bytes) = (Vec::with_capacity(FRAME_SERIES), 0);
            while self.notes.is_empty() && joined.len() < FRAME_SERIES && bytes < FRAME_BYTES {
                let wanted = self.left > joined.len() as u64;
                let Some(series) = (if wanted { self.join_next().await? } else { None }) else {
                    break;
                };
                bytes += series.size();
                joined.push(series);
            }
            if joined.is_empty() {
                return Ok(self.end_or_note());
            }
            let series = self.finish(joined).await?;
            self.left -= series.len() as u64;
            if !series.is_empty() {
                return Ok(Some(Frame::Series(series)));
            }
        }
    }

    fn end_or_note(&mut self) -> Option<Frame> {
        if self.notes.is_empty() {
            self.notes.extend(std::mem::take(&mut self.served).infos());
        }
        self.notes.pop_front()
    }

    /// Cuts what has to be cut, on a thread that may be busy for a while.
    async fn finish(&mut self, joined: Vec<JoinedSeries>) -> Result<Vec<Series>> {
        let is_to_cut = joined.iter().any(JoinedSeries::is_to_cut);
        let finish = || joined.into_iter().map(JoinedSeries::finish).collect::<Vec<_>>();
        let finished = match is_to_cut {
            false => finish(),
            true => {
                let failed = |e| Error::caused(Kind::Internal, "cutting chunks", e);
                tokio::task::spawn_blocking(finish).await.map_err(failed)?
            }
        };
        let mut all = Vec::with_capacity(finished.len());
        for Finished { series, served, error } in finished {
            self.served.add(&served);
            all.extend(series);
            match error {
                Some(error) if self.strategy == PartialResponse::Abort => {
                    return Err(error.aborting());
                }
                Some(error) => {
                    self.notes.push_back(Frame::Warning(in_one_line(&error).to_string()))
                }
                None => {}
            }
        }
        Ok(all)
    }

    /// Waits for the first series of every source, all at once.
    async fn start(&mut self) -> Result<KWay<Series>> {
        let strategy = self.strategy;
        let pulled =
            try_join_all(self.sources.iter_mut().map(|source| source.pull(strategy))).await?;
        let mut heads = Vec::with_capacity(pulled.len());
        for one in pulled {
            heads.push(one.head);
            self.notes.extend(one.notes);
        }
        Ok(KWay::new(heads, |a, b| a.labels.cmp(&b.labels), |a, b| a.labels == b.labels))
    }

    /// Takes the series with the smallest label set from all sources and makes one series of them.
    async fn join_next(&mut self) -> Result<Option<JoinedSeries>> {
        let Some(heads) = &mut self.heads else { return Ok(None) };
        loop {
            match heads.step() {
                Step::Pull(source) => {
                    let pulled = self.sources[source].pull(self.strategy).await?;
                    self.notes.extend(pulled.notes);
                    heads.give(pulled.head);
                }
                Step::Group => {
                    let mut joined: Option<JoinedSeries> = None;
                    for (source, Series { labels, chunks }) in heads.take_group() {
                        let joined = joined.get_or_insert_with(|| JoinedSeries::new(labels));
                        joined.add(chunks, self.sources[source].keep.as_deref());
                    }
                    return Ok(joined);
                }
                Step::End => return Ok(None),
            }
        }
    }
}
