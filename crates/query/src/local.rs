//! A store in this process, queried beside the endpoints.

use std::any::Any;
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use async_trait::async_trait;
use axum::Router;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, stream};
use storeapi::client::Channel;
use storeapi::info::{Capabilities, EndpointInfo};
use storeapi::{
    Error, Frame, FrameStream, Kind, LabelNamesRequest, LabelValuesRequest, Metadata, Result,
    SeriesRequest, Store, StoreInfo,
};
use tokio::sync::watch;

use crate::endpoints::Peer;

/// A store in this process, its work, and how it is called.
///
/// It appears wherever endpoints do, and its data is never missing in silence: until it is ready
/// and whenever it fails, answers say so.
pub struct LocalStore {
    /// Takes the place of an address where endpoints are listed and in warnings.
    pub name: String,
    pub store: Arc<dyn Store>,
    /// Whether it can answer; the querier is not ready before.
    pub ready: watch::Receiver<bool>,
    /// Runs for as long as the querier does.
    pub run: BoxFuture<'static, ()>,
    /// What it serves over HTTP beside the querier's API, under the same prefix.
    pub routes: Router,
}

impl fmt::Debug for LocalStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalStore").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A local store where peers are expected. A panic inside it is the error of that call, as it is
/// for a store behind a connection.
pub(crate) struct LocalPeer(pub(crate) Arc<dyn Store>);

impl LocalPeer {
    async fn caught<T>(call: impl Future<Output = Result<T>> + Send) -> Result<T> {
        let answer = AssertUnwindSafe(call).catch_unwind().await;
        answer.unwrap_or_else(|panic| Err(panicked(&*panic)))
    }
}

fn panicked(panic: &(dyn Any + Send)) -> Error {
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message");
    Error::new(Kind::Internal, format!("the store panicked: {text}; this is a bug"))
}

#[async_trait]
impl Store for LocalPeer {
    async fn info(&self) -> Result<StoreInfo> {
        Self::caught(self.0.info()).await
    }

    async fn series(&self, request: SeriesRequest) -> Result<FrameStream> {
        let frames = Self::caught(self.0.series(request)).await?;
        let frames = AssertUnwindSafe(frames).catch_unwind();
        let caught = frames.map(|frame: std::thread::Result<Result<Frame>>| {
            frame.unwrap_or_else(|panic| Err(panicked(&*panic)))
        });
        // nothing comes after an error
        let until_error = stream::unfold(Some(caught), |caught| async move {
            let mut caught = caught?;
            let frame = caught.next().await?;
            let rest = frame.is_ok().then_some(caught);
            Some((frame, rest))
        });
        Ok(until_error.boxed())
    }

    async fn label_names(&self, request: LabelNamesRequest) -> Result<Metadata> {
        Self::caught(self.0.label_names(request)).await
    }

    async fn label_values(&self, request: LabelValuesRequest) -> Result<Metadata> {
        Self::caught(self.0.label_values(request)).await
    }
}

#[async_trait]
impl Peer for LocalPeer {
    async fn endpoint_info(&self) -> Result<EndpointInfo> {
        Ok(EndpointInfo { store: self.info().await?, capabilities: Capabilities::STORE })
    }

    fn channel(&self) -> Result<Channel> {
        Err(Error::new(Kind::Unavailable, "it is in this process and offers StoreAPI alone"))
    }
}

#[cfg(test)]
mod tests;
