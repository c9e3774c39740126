//! From the body of a remote read to sorted frames.

use std::collections::VecDeque;

use futures::{StreamExt, stream};
use model::error::in_one_line;
use model::{Labels, Reservation};
use storeapi::{
    Error, Frame, FrameStream, Kind, PartialResponse, ResortByRun, Result, Series, SeriesChunk,
    SeriesRequest, Shard,
};
use upstream::Body;
use wire::prometheus as pb;
use wire::remote_read::{self, FrameDecoder, Samples};

use super::{FRAME_SERIES, chunks, rechunk};
use crate::error::of_store;

/// A frame ends at this many bytes of chunks.
const FRAME_BYTES: usize = 1 << 20;

/// A body of samples that claims to be longer than this when decompressed is refused.
const MAX_SAMPLES_BYTES: usize = 2 << 30;

/// The buffer of a body grows by doubling, and both the old and the new one are there meanwhile.
const GROWTH: u64 = 3;

/// Where series come from. All that is in memory of them is charged to `held`.
pub(super) enum RemoteSeries {
    Frames {
        body: Body,
        decoder: FrameDecoder,
        held: Reservation,
    },
    /// The whole answer.
    Samples {
        series: std::vec::IntoIter<pb::TimeSeries>,
        _held: Reservation,
    },
}

impl RemoteSeries {
    pub(super) fn frames(body: Body, held: Reservation) -> RemoteSeries {
        RemoteSeries::Frames { body, decoder: FrameDecoder::default(), held }
    }

    pub(super) async fn samples(body: Body, mut held: Reservation) -> Result<RemoteSeries> {
        let body = body.read(&mut held).await.map_err(of_store)?;
        let compressed = held.bytes();
        let len = remote_read::decompressed_len(&body, MAX_SAMPLES_BYTES)?;
        held.grow(len as u64)?;
        let samples = Samples::decompress(&body)?;
        drop(body);
        held.shrink(compressed);
        held.grow(samples.weight())?;
        let mut results = samples.decode()?.results.into_iter();
        let (Some(result), None) = (results.next(), results.next()) else {
            return Err(Error::new(
                Kind::Corrupt,
                "remote read answered with other than one result",
            ));
        };
        Ok(RemoteSeries::Samples { series: result.timeseries.into_iter(), _held: held })
    }

    /// The next series that arrived together; `None` at the end.
    async fn next(&mut self) -> Result<Option<Vec<Received>>> {
        let (body, decoder, held) = match self {
            RemoteSeries::Samples { series, .. } => {
                return Ok(series.next().map(|one| vec![Received::Samples(one)]));
            }
            RemoteSeries::Frames { body, decoder, held } => (body, decoder, held),
        };
        loop {
            if let Some(frame) = decoder.next_frame()? {
                held.resize(GROWTH * decoder.buffered() as u64 + frame.weight())?;
                let message = frame.decode()?;
                return Ok(Some(
                    message.chunked_series.into_iter().map(Received::Chunks).collect(),
                ));
            }
            let Some(piece) = body.piece().await.map_err(of_store)? else {
                decoder.finish()?;
                return Ok(None);
            };
            held.resize(GROWTH * (decoder.buffered() + piece.len()) as u64)?;
            decoder.feed(&piece);
        }
    }

    /// To be called when nothing is left of the last series.
    fn forget_last(&mut self) -> Result<()> {
        let RemoteSeries::Frames { decoder, held, .. } = self else { return Ok(()) };
        Ok(held.resize(GROWTH * decoder.buffered() as u64)?)
    }
}

enum Received {
    Chunks(pb::ChunkedSeries),
    Samples(pb::TimeSeries),
}

/// Streams the source as the request asks.
pub(super) fn stream(
    source: RemoteSeries,
    sorter: ResortByRun,
    external: Labels,
    request: &SeriesRequest,
) -> FrameStream {
    let reader = Reader {
        source,
        sorter,
        external,
        shard: request.shard.clone(),
        newer_encodings: request.newer_encodings,
        strategy: request.partial_response,
        left: if request.limit == 0 { u64::MAX } else { request.limit },
        last: None,
        warnings: VecDeque::new(),
        ended: false,
    };
    stream::unfold(Some(reader), |reader| async move {
        let mut reader = reader?;
        match reader.next().await {
            Ok(Some(frame)) => Some((Ok(frame), Some(reader))),
            Ok(None) => None,
            Err(error) => Some((Err(error), None)),
        }
    })
    .boxed()
}

struct Reader {
    source: RemoteSeries,
    sorter: ResortByRun,
    external: Labels,
    shard: Option<Shard>,
    newer_encodings: bool,
    strategy: PartialResponse,
    /// Label sets that may still be sent.
    left: u64,
    last: Option<Labels>,
    warnings: VecDeque<String>,
    ended: bool,
}

impl Reader {
    async fn next(&mut self) -> Result<Option<Frame>> {
        let (mut frame, mut bytes) = (Vec::with_capacity(FRAME_SERIES), 0);
        while frame.len() < FRAME_SERIES && bytes < FRAME_BYTES && self.warnings.is_empty() {
            match self.sorter.pop()? {
                Some((labels, chunks)) if self.wanted(&labels) => {
                    bytes += chunks.iter().map(SeriesChunk::size).sum::<usize>();
                    frame.push(Series { labels, chunks });
                }
                Some(_) => {}
                None if self.ended => break,
                None => self.fill().await?,
            }
        }
        if !frame.is_empty() {
            return Ok(Some(Frame::Series(frame)));
        }
        Ok(self.warnings.pop_front().map(Frame::Warning))
    }

    /// Counts label sets, not pieces: a series may come in several.
    fn wanted(&mut self, labels: &Labels) -> bool {
        if self.shard.as_ref().is_some_and(|shard| !shard.holds(labels)) {
            return false;
        }
        if self.last.as_ref() == Some(labels) {
            return true;
        }
        if self.left == 0 {
            self.ended = true;
            return false;
        }
        self.left -= 1;
        self.last = Some(labels.clone());
        true
    }

    async fn fill(&mut self) -> Result<()> {
        let Some(incoming) = self.source.next().await? else {
            self.sorter.end();
            self.ended = true;
            return Ok(());
        };
        for one in incoming {
            match self.convert(one) {
                Ok(series) if series.chunks.is_empty() => {}
                Ok(series) => self.sorter.push(&series.labels, series.chunks)?,
                Err(error) if self.strategy == PartialResponse::Abort => return Err(error),
                Err(error) => self.warnings.push_back(format!("left out: {}", in_one_line(&error))),
            }
        }
        self.source.forget_last()
    }

    fn convert(&self, incoming: Received) -> Result<Series> {
        let (labels, chunks) = match incoming {
            Received::Chunks(series) => (
                wire::labels_from_wire(&series.labels),
                chunks::from_wire(series.chunks, self.newer_encodings),
            ),
            Received::Samples(series) => (
                wire::labels_from_wire(&series.labels),
                rechunk::encode(&series.samples, &series.histograms),
            ),
        };
        let chunks = chunks.map_err(|e| e.context(format_args!("series {labels}")))?;
        Ok(Series { labels: without_external(&labels, &self.external), chunks })
    }
}

/// Prometheus adds its external labels to what remote read returns, after sorting. Without them the
/// order is right again.
fn without_external(labels: &Labels, external: &Labels) -> Labels {
    if !external.iter().any(|(name, value)| labels.get(name) == Some(value)) {
        return labels.clone();
    }
    Labels::from_sorted(labels.iter().filter(|(name, value)| external.get(name) != Some(*value)))
}
