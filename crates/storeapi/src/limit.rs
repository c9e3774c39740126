//! Limits on what one request may read from a store.

use std::sync::Arc;

use async_trait::async_trait;
use futures::StreamExt;

use crate::{
    Error, Frame, FrameStream, Kind, LabelNamesRequest, LabelValuesRequest, Metadata, Result,
    SeriesRequest, Store, StoreInfo,
};

/// Samples are counted as Thanos counts them: 120 per chunk, without decoding.
const SAMPLES_PER_CHUNK: u64 = 120;

/// At most this many series and samples per request; 0 = no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SeriesLimits {
    pub series: u64,
    pub samples: u64,
}

/// A store that refuses to send more than its limits.
#[derive(Clone)]
pub struct Limited {
    inner: Arc<dyn Store>,
    limits: SeriesLimits,
}

impl Limited {
    pub fn new(inner: Arc<dyn Store>, limits: SeriesLimits) -> Limited {
        Limited { inner, limits }
    }
}

#[async_trait]
impl Store for Limited {
    async fn info(&self) -> Result<StoreInfo> {
        self.inner.info().await
    }

    async fn series(&self, request: SeriesRequest) -> Result<FrameStream> {
        let stream = self.inner.series(request).await?;
        if self.limits == SeriesLimits::default() {
            return Ok(stream);
        }
        let (limits, mut seen) = (self.limits, SeriesLimits::default());
        let counted = stream.map(move |frame| {
            if let Ok(Frame::Series(series)) = &frame {
                seen.series += series.len() as u64;
                seen.samples +=
                    series.iter().map(|s| s.chunks.len() as u64 * SAMPLES_PER_CHUNK).sum::<u64>();
                check("series", limits.series, seen.series)?;
                check("samples", limits.samples, seen.samples)?;
            }
            frame
        });
        Ok(stop_after_error(counted.boxed()))
    }

    async fn label_names(&self, request: LabelNamesRequest) -> Result<Metadata> {
        self.inner.label_names(request).await
    }

    async fn label_values(&self, request: LabelValuesRequest) -> Result<Metadata> {
        self.inner.label_values(request).await
    }
}

fn check(what: &str, limit: u64, got: u64) -> Result<()> {
    if limit == 0 || got <= limit {
        return Ok(());
    }
    Err(Error::new(
        Kind::Limit,
        format!("failed to send {what}: limit {limit} violated (got {got})"),
    ))
}

/// Ends a stream at its first error and drops what is behind it.
fn stop_after_error(stream: FrameStream) -> FrameStream {
    futures::stream::unfold(Some(stream), |stream| async move {
        let mut stream = stream?;
        let frame = stream.next().await?;
        let rest = frame.is_ok().then_some(stream);
        Some((frame, rest))
    })
    .boxed()
}
