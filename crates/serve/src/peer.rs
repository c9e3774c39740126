//! Requests of peers: while one is under way its connection knows, and what its answer holds is
//! given back when the peer does not take it.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::ConnectInfo;
use futures::FutureExt;
use http::{Extensions, Request, Response};
use http_body::{Body, Frame, SizeHint};
use tokio::time::Instant;
use tower::{Layer, Service};

use crate::Task;
use crate::conn::{Busy, ConnInfo};

/// The connection of a request, as axum and as tonic attach it.
pub(crate) fn connection(of: &Extensions) -> Option<&ConnInfo> {
    of.get::<ConnInfo>().or_else(|| of.get::<ConnectInfo<ConnInfo>>().map(|info| &info.0))
}

/// To be the outermost layer of a server.
#[derive(Clone, Debug)]
pub(crate) struct PeerLayer {
    /// How long an answer waits for its peer to take more of it.
    pub(crate) patience: Duration,
}

impl<S> Layer<S> for PeerLayer {
    type Service = PeerService<S>;

    fn layer(&self, inner: S) -> PeerService<S> {
        PeerService { inner, patience: self.patience }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct PeerService<S> {
    inner: S,
    patience: Duration,
}

impl<S, Q, A> Service<Request<Q>> for PeerService<S>
where
    S: Service<Request<Q>, Response = Response<A>>,
    S::Future: Send + 'static,
    A: Body + Send + Unpin + 'static,
{
    type Response = Response<WatchedAnswer<A>>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Q>) -> Self::Future {
        let busy = connection(request.extensions()).map(|info| info.activity.begin());
        let patience = self.patience;
        let answer = self.inner.call(request);
        async move { Ok(answer.await?.map(|body| WatchedAnswer::new(body, busy, patience))) }
            .boxed()
    }
}

/// The peer did not take its answer.
#[derive(Debug, thiserror::Error)]
#[error("the answer was given up: the client took nothing of it for {0:?}")]
pub(crate) struct Untaken(Duration);

/// A body that is dropped when nobody asks for its next frame for too long.
pub(crate) struct WatchedAnswer<B> {
    offered: Arc<Mutex<Offered<B>>>,
    patience: Duration,
    _watch: Option<Task<()>>,
}

struct Offered<B> {
    /// `None` once it was given up. The connection is busy as long as it is there.
    body: Option<(B, Option<Busy>)>,
    /// Since when the peer could ask for more; `None` while it waits for us.
    since: Option<Instant>,
}

fn lock<B>(offered: &Mutex<Offered<B>>) -> MutexGuard<'_, Offered<B>> {
    offered.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<B: Body + Send + 'static> WatchedAnswer<B> {
    fn new(body: B, busy: Option<Busy>, patience: Duration) -> WatchedAnswer<B> {
        let at_end = body.is_end_stream();
        let offered = Offered { body: Some((body, busy)), since: Some(Instant::now()) };
        let offered = Arc::new(Mutex::new(offered));
        let watch = (!at_end).then(|| Task::spawn(watch(Arc::downgrade(&offered), patience)));
        WatchedAnswer { offered, patience, _watch: watch }
    }
}

async fn watch<B>(offered: Weak<Mutex<Offered<B>>>, patience: Duration) {
    let mut pause = patience;
    loop {
        tokio::time::sleep(pause).await;
        let Some(offered) = offered.upgrade() else { return };
        let waits = lock(&offered).since.map(|since| since.elapsed());
        match waits {
            Some(waits) if waits >= patience => {
                // outside of the lock: it may hold much
                let given_up = lock(&offered).body.take();
                drop(given_up);
                return tracing::debug!(?patience, "a client does not take its answer");
            }
            Some(waits) => pause = patience - waits,
            None => pause = patience,
        }
    }
}

impl<B: Body + Unpin> Body for WatchedAnswer<B>
where
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Data = B::Data;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, Self::Error>>> {
        let mut offered = lock(&self.offered);
        let Some((body, _)) = offered.body.as_mut() else {
            return Poll::Ready(Some(Err(Untaken(self.patience).into())));
        };
        let frame = Pin::new(body).poll_frame(cx);
        offered.since = frame.is_ready().then(Instant::now);
        frame.map(|frame| frame.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        lock(&self.offered).body.as_ref().is_some_and(|(body, _)| body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        lock(&self.offered).body.as_ref().map(|(body, _)| body.size_hint()).unwrap_or_default()
    }
}
