//! `grpc_client_started_total`, `grpc_client_handled_total` and `grpc_client_handling_seconds` of
//! calls to endpoints.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use model::Clock;
use storeapi::client::Channel;
use storeapi::info::EndpointInfo;
use storeapi::{
    Error, FrameStream, Kind, LabelNamesRequest, LabelValuesRequest, Metadata, Result,
    SeriesRequest, Store, StoreInfo,
};

use super::Peer;
use crate::metrics::Metrics;

const STORE: &str = "thanos.Store";

/// A peer whose info and StoreAPI are counted when they are asked for.
pub(crate) struct MeasuredStore {
    inner: Arc<dyn Peer>,
    metrics: Metrics,
    clock: Arc<dyn Clock>,
}

impl MeasuredStore {
    pub(crate) fn new(
        inner: Arc<dyn Peer>,
        metrics: Metrics,
        clock: Arc<dyn Clock>,
    ) -> MeasuredStore {
        MeasuredStore { inner, metrics, clock }
    }

    fn start_info(&self) -> MeasuredCall {
        self.start("unary", "thanos.info.Info", "Info")
    }

    fn start(
        &self,
        kind: &'static str,
        service: &'static str,
        method: &'static str,
    ) -> MeasuredCall {
        let labels = [kind, service, method];
        self.metrics.client_started.with_label_values(&labels).inc();
        let (metrics, clock) = (self.metrics.clone(), Arc::clone(&self.clock));
        MeasuredCall { labels, started: clock.monotonic(), metrics, clock, code: "Canceled" }
    }
}

/// One call. It is counted when it is dropped: as canceled, unless its end was seen.
struct MeasuredCall {
    labels: [&'static str; 3],
    started: Duration,
    metrics: Metrics,
    clock: Arc<dyn Clock>,
    code: &'static str,
}

impl MeasuredCall {
    fn note(&mut self, error: Option<&Error>) {
        self.code = code_of(error);
    }

    fn end<T>(mut self, answer: Result<T>) -> Result<T> {
        self.note(answer.as_ref().err());
        answer
    }
}

impl Drop for MeasuredCall {
    fn drop(&mut self) {
        let [kind, service, method] = self.labels;
        let seconds = self.clock.monotonic().saturating_sub(self.started).as_secs_f64();
        self.metrics.client_seconds.with_label_values(&self.labels).observe(seconds);
        self.metrics.client_handled.with_label_values(&[kind, service, method, self.code]).inc();
    }
}

/// A code as Go's gRPC spells it.
fn code_of(error: Option<&Error>) -> &'static str {
    match error.map(Error::kind) {
        None => "OK",
        Some(Kind::Invalid) => "InvalidArgument",
        Some(Kind::Unavailable) => "Unavailable",
        Some(Kind::Limit | Kind::Memory) => "ResourceExhausted",
        Some(Kind::Timeout) => "DeadlineExceeded",
        Some(Kind::Aborted) => "Aborted",
        Some(Kind::Corrupt) => "DataLoss",
        Some(Kind::Internal) => "Unknown",
    }
}

#[async_trait]
impl Peer for MeasuredStore {
    async fn endpoint_info(&self) -> Result<EndpointInfo> {
        let call = self.start_info();
        call.end(self.inner.endpoint_info().await)
    }

    fn channel(&self) -> Result<Channel> {
        self.inner.channel()
    }
}

#[async_trait]
impl Store for MeasuredStore {
    async fn info(&self) -> Result<StoreInfo> {
        let call = self.start_info();
        call.end(self.inner.info().await)
    }

    async fn series(&self, request: SeriesRequest) -> Result<FrameStream> {
        let mut call = self.start("server_stream", STORE, "Series");
        let mut frames = match self.inner.series(request).await {
            Ok(frames) => frames,
            Err(error) => return call.end(Err(error)),
        };
        let counted = futures::stream::poll_fn(move |cx| {
            let polled = frames.poll_next_unpin(cx);
            match &polled {
                std::task::Poll::Ready(None) => call.note(None),
                std::task::Poll::Ready(Some(Err(error))) => call.note(Some(error)),
                _ => {}
            }
            polled
        });
        Ok(counted.boxed())
    }

    async fn label_names(&self, request: LabelNamesRequest) -> Result<Metadata> {
        let call = self.start("unary", STORE, "LabelNames");
        call.end(self.inner.label_names(request).await)
    }

    async fn label_values(&self, request: LabelValuesRequest) -> Result<Metadata> {
        let call = self.start("unary", STORE, "LabelValues");
        call.end(self.inner.label_values(request).await)
    }
}

#[cfg(test)]
mod tests {
    use model::{Labels, Matcher, SystemClock, TimeRange};
    use prometheus::Registry;
    use storeapi::conformance::MemoryStore;

    use super::*;

    #[tokio::test]
    async fn calls_are_counted_by_how_they_end() {
        let clock = Arc::new(SystemClock::new(|span| Box::pin(tokio::time::sleep(span))));
        let metrics = Metrics::register(&Registry::new()).unwrap();
        let inner = Arc::new(MemoryStore::from_series(Labels::empty(), Vec::new()));
        let store = MeasuredStore::new(inner, metrics.clone(), clock);
        let request = || SeriesRequest::new(TimeRange::ALL, vec![Matcher::equal("a", "b")]);
        let handled = |method, code| {
            let kind = if method == "Series" { "server_stream" } else { "unary" };
            let service = if method == "Info" { "thanos.info.Info" } else { STORE };
            metrics.client_handled.with_label_values(&[kind, service, method, code]).get()
        };
        store.endpoint_info().await.unwrap();
        assert_eq!(handled("Info", "OK"), 1.0);
        let frames: Vec<_> = store.series(request()).await.unwrap().collect().await;
        assert!(frames.is_empty());
        assert_eq!(handled("Series", "OK"), 1.0);
        drop(store.series(request()).await.unwrap());
        assert_eq!(handled("Series", "Canceled"), 1.0);
        assert_eq!(
            metrics.client_started.with_label_values(&["server_stream", STORE, "Series"]).get(),
            2.0
        );
    }
}
