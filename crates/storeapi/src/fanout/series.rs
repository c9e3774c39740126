//! The merge of what endpoints stream.

use std::collections::VecDeque;

use futures::StreamExt;
use futures::future::try_join_all;
use futures::stream;
use merge::{LoserTree, Series, SeriesChunk};

use super::child::Feed;
use crate::{Error, Frame, FrameStream, Kind, PartialResponse, Result};

/// Series per frame.
const FRAME_SERIES: usize = 64;

/// A frame ends at this many bytes of chunks.
const FRAME_BYTES: usize = 1 << 20;

/// Merges the feeds; at most `limit` series, 0 = all.
pub(super) fn merge(feeds: Vec<Feed>, strategy: PartialResponse, limit: u64) -> FrameStream {
    let feeds = feeds.into_iter().map(|feed| Source { feed: Some(feed), series: Vec::new().into_iter() }).collect();
    let merge = Merge {
        sources: feeds,
        tree: None,
        notes: VecDeque::new(),
        strategy,
        left: if limit == 0 { u64::MAX } else { limit },
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

type Heads = LoserTree<Series, fn(&Series, &Series) -> std::cmp::Ordering>;

struct Source {
    /// `None` once it ended or failed.
    feed: Option<Feed>,
    series: std::vec::IntoIter<Series>,
}

/// What reading one more series of a source brought.
#[derive(Default)]
struct Pulled {
    head: Option<Series>,
    notes: Vec<Frame>,
}

impl Source {
    async fn pull(&mut self, strategy: PartialResponse) -> Result<Pulled> {
        let mut pulled = Pulled::default();
        loop {
            pulled.head = self.series.next();
            let Some(feed) = self.feed.as_mut().filter(|_| pulled.head.is_none()) else { return Ok(pulled) };
            match feed.next().await {
                None => self.feed = None,
                Some(Ok(Frame::Series(series))) => self.series = series.into_iter(),
                Some(Ok(Frame::Warning(text))) if strategy == PartialResponse::Abort => {
                    return Err(Error::new(Kind::Aborted, format!("{}: {text}", feed.endpoint.address)));
                }
                Some(Ok(note)) => pulled.notes.push(note),
                Some(Err(error)) => {
                    let error = error.context(format_args!("receive series from {}", feed.endpoint.address));
                    if strategy == PartialResponse::Abort {
                        return Err(error.aborting());
                    }
                    pulled.notes.push(Frame::Warning(error.to_string()));
                    self.feed = None;
                }
            }
        }
    }
}

struct Merge {
    sources: Vec<Source>,
    /// `None` until every source gave its first series.
    tree: Option<Heads>,
    notes: VecDeque<Frame>,
    strategy: PartialResponse,
    left: u64,
}

impl Merge {
    async fn next(&mut self) -> Result<Option<Frame>> {
        if self.tree.is_none() {
            self.start().await?;
        }
        let mut frame: Vec<Series> = Vec::with_capacity(FRAME_SERIES);
        let mut bytes = 0;
        while self.notes.is_empty() && frame.len() < FRAME_SERIES && bytes < FRAME_BYTES && self.left > 0 {
            let Some(series) = self.join_next().await? else { break };
            bytes += series.chunks.iter().map(SeriesChunk::size).sum::<usize>();
            frame.push(series);
            self.left -= 1;
        }
        if !frame.is_empty() {
            return Ok(Some(Frame::Series(frame)));
        }
        Ok(self.notes.pop_front())
    }

    /// Waits for the first series of every source, all at once.
    async fn start(&mut self) -> Result<()> {
        let strategy = self.strategy;
        let pulled = try_join_all(self.sources.iter_mut().map(|source| source.pull(strategy))).await?;
        let mut heads = Vec::with_capacity(pulled.len());
        for one in pulled {
            heads.push(one.head);
            self.notes.extend(one.notes);
        }
        self.tree = Some(LoserTree::with_order(heads, |a: &Series, b: &Series| a.labels.cmp(&b.labels)));
        Ok(())
    }

    /// Takes all heads with the smallest label set and makes one series of them.
    async fn join_next(&mut self) -> Result<Option<Series>> {
        let Some(first) = self.take().await? else { return Ok(None) };
        let Series { labels, mut chunks } = first;
        while self.tree.as_ref().and_then(|tree| tree.peek()).is_some_and(|(_, head)| head.labels == labels) {
            chunks.extend(self.take().await?.into_iter().flat_map(|series| series.chunks));
        }
        Ok(Some(Series { labels, chunks: merge::merge_series_chunks(chunks) }))
    }

    async fn take(&mut self) -> Result<Option<Series>> {
        let Some(tree) = &mut self.tree else { return Ok(None) };
        let Some(winner) = tree.winner() else { return Ok(None) };
        let pulled = self.sources[winner].pull(self.strategy).await?;
        self.notes.extend(pulled.notes);
        Ok(tree.replace(pulled.head))
    }
}
