//! A [`Store`] as the gRPC service `thanos.Store`.

mod metrics;

pub use metrics::ServerMetrics;

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::stream::{self, BoxStream};
use futures::{FutureExt, StreamExt};
use merge::Series;
use tonic::service::Routes;
use tonic::{Request, Response, Status};
use wire::thanos as pb;
use wire::thanos::series_response::Result as Part;
use wire::thanos::store_server::StoreServer;

use crate::client::DEFAULT_MAX_MESSAGE_BYTES;
use crate::convert;
use crate::info::{Capabilities, InfoService};
use crate::{Error, Frame, FrameStream, Kind, Store};
use metrics::Returned;

/// A batch ends at this many bytes of chunks, however few series it has, so that messages stay
/// small for both ends.
const MAX_BATCH_BYTES: usize = 1 << 20;

/// StoreAPI and Info over one store, as a process serves them.
pub fn services(
    store: Arc<dyn Store>,
    capabilities: Capabilities,
    metrics: ServerMetrics,
) -> serve::Services {
    let info = InfoService::serve(Arc::clone(&store), capabilities);
    let service = StoreService { store, metrics: Some(metrics) };
    serve::Services {
        routes: Routes::new(service.into_server()).add_service(info),
        descriptors: vec![wire::FILE_DESCRIPTOR_SET],
    }
}

/// Serves a store. A panic inside it is a warning of that answer, not the end of the process.
#[derive(Clone)]
pub struct StoreService {
    store: Arc<dyn Store>,
    metrics: Option<ServerMetrics>,
}

impl StoreService {
    /// The service, with answers as long as Go peers expect.
    pub fn serve(store: Arc<dyn Store>) -> StoreServer<StoreService> {
        StoreService { store, metrics: None }.into_server()
    }

    fn into_server(self) -> StoreServer<StoreService> {
        StoreServer::new(self)
            .max_decoding_message_size(serve::MAX_REQUEST_BYTES)
            .max_encoding_message_size(DEFAULT_MAX_MESSAGE_BYTES)
    }
}

#[tonic::async_trait]
impl pb::store_server::Store for StoreService {
    type SeriesStream = BoxStream<'static, Result<pb::SeriesResponse, Status>>;

    async fn series(
        &self,
        request: Request<pb::SeriesRequest>,
    ) -> Result<Response<Self::SeriesStream>, Status> {
        let message = request.into_inner();
        let infos = message.accepts_infos;
        let request = convert::series_request_from_wire(message)?;
        let returned = self.metrics.as_ref().map(ServerMetrics::begin);
        let batch_size = usize::try_from(request.batch_size).unwrap_or(usize::MAX).max(1);
        let frames = match AssertUnwindSafe(self.store.series(request)).catch_unwind().await {
            Ok(frames) => frames?,
            Err(panic) => stream::iter([Ok(panic_warning(&*panic))]).boxed(),
        };
        let frames = recover(frames);
        let batcher = Batcher { frames, batch_size, infos, returned, ..Batcher::default() };
        Ok(Response::new(stream::unfold(batcher, Batcher::next).boxed()))
    }

    async fn label_names(
        &self,
        request: Request<pb::LabelNamesRequest>,
    ) -> Result<Response<pb::LabelNamesResponse>, Status> {
        let request = convert::names_request_from_wire(request.into_inner())?;
        let answer = AssertUnwindSafe(self.store.label_names(request))
            .catch_unwind()
            .await
            .map_err(panic_status)??;
        let (names, warnings) =
            (convert::bytes_list(answer.values), convert::bytes_list(answer.warnings));
        Ok(Response::new(pb::LabelNamesResponse { names, warnings, hints: None }))
    }

    async fn label_values(
        &self,
        request: Request<pb::LabelValuesRequest>,
    ) -> Result<Response<pb::LabelValuesResponse>, Status> {
        let request = convert::values_request_from_wire(request.into_inner())?;
        let answer = AssertUnwindSafe(self.store.label_values(request))
            .catch_unwind()
            .await
            .map_err(panic_status)??;
        let (values, warnings) =
            (convert::bytes_list(answer.values), convert::bytes_list(answer.warnings));
        Ok(Response::new(pb::LabelValuesResponse { values, warnings, hints: None }))
    }
}

/// Turns a panic of the stream into its last frame.
fn recover(frames: FrameStream) -> FrameStream {
    AssertUnwindSafe(frames)
        .catch_unwind()
        .map(|frame| frame.unwrap_or_else(|panic| Ok(panic_warning(&*panic))))
        .boxed()
}

fn panic_warning(panic: &(dyn Any + Send)) -> Frame {
    let text = panic_text(panic);
    tracing::error!(panic = %text, "store panicked while it answered");
    Frame::Warning(format!("the store panicked while it answered: {text}"))
}

fn panic_status(panic: Box<dyn Any + Send>) -> Status {
    let text = panic_text(&*panic);
    tracing::error!(panic = %text, "store panicked while it answered");
    Error::new(Kind::Internal, format!("the store panicked while it answered: {text}")).into()
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("unknown cause").to_owned()
}

/// Frames of any size in, messages of at most `batch_size` series out.
struct Batcher {
    frames: FrameStream,
    batch_size: usize,
    infos: bool,
    /// Series taken from a frame and not yet batched.
    incoming: std::vec::IntoIter<Series>,
    batch: Vec<pb::Series>,
    batch_bytes: usize,
    /// What must follow the batch that was just sent.
    after: Option<Result<Part, Status>>,
    done: bool,
    returned: Option<Returned>,
}

impl Default for Batcher {
    fn default() -> Batcher {
        Batcher {
            frames: stream::empty().boxed(),
            batch_size: 1,
            infos: false,
            incoming: Vec::new().into_iter(),
            batch: Vec::new(),
            batch_bytes: 0,
            after: None,
            done: false,
            returned: None,
        }
    }
}

impl Batcher {
    async fn next(mut self) -> Option<(Result<pb::SeriesResponse, Status>, Batcher)> {
        let part = self.next_part().await?;
        if part.is_err() {
            (self.done, self.after) = (true, None);
        }
        Some((part.map(|part| pb::SeriesResponse { result: Some(part) }), self))
    }

    async fn next_part(&mut self) -> Option<Result<Part, Status>> {
        loop {
            if let Some(after) = self.after.take() {
                return Some(after);
            }
            while let Some(series) = self.incoming.next() {
                if let Some(returned) = &mut self.returned {
                    returned.add(&series);
                }
                self.batch_bytes +=
                    series.chunks.iter().map(merge::SeriesChunk::size).sum::<usize>();
                self.batch.push(convert::series_to_wire(series));
                if self.batch.len() >= self.batch_size || self.batch_bytes >= MAX_BATCH_BYTES {
                    return self.flush().map(Ok);
                }
            }
            if self.done {
                return self.flush().map(Ok);
            }
            self.after = match self.frames.next().await {
                None => {
                    self.done = true;
                    continue;
                }
                Some(Ok(Frame::Series(series))) => {
                    self.incoming = series.into_iter();
                    continue;
                }
                Some(Ok(Frame::Info(_))) if !self.infos => continue,
                Some(Ok(Frame::Info(text))) => Some(Ok(Part::Info(text.into()))),
                Some(Ok(Frame::Warning(text))) => Some(Ok(Part::Warning(text.into()))),
                Some(Err(error)) => Some(Err(error.into())),
            };
            if let Some(batch) = self.flush() {
                return Some(Ok(batch));
            }
        }
    }

    fn flush(&mut self) -> Option<Part> {
        self.batch_bytes = 0;
        if self.batch_size == 1 {
            return self.batch.pop().map(Part::Series);
        }
        let series = std::mem::take(&mut self.batch);
        (!series.is_empty()).then_some(Part::Batch(pb::SeriesBatch { series }))
    }
}
