//! Messages of requests and answers: unpacked and charged while they are received, compressed for
//! those who compress theirs.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{HeaderMap, HeaderValue, Request, Response};
use tonic::Status;
use tonic::body::Body;
use tower::{Layer, Service};

use crate::compression::{ACCEPTED, ALL, Compression, ENCODING, Packed, Room, Unpacked};
use crate::received::{Bodies, Charge};

/// The longest message that a request may hold, compressed or not. What one may ask for is limited
/// further by `model::RequestCost`.
pub const MAX_REQUEST_BYTES: usize = 9 << 20;

/// Charges messages while they are received, and gives up those that do not come to an end.
#[derive(Clone, Debug)]
pub(crate) struct MessagesLayer {
    pub(crate) bodies: Bodies,
    /// For a whole request.
    pub(crate) patience: Duration,
}

impl<S> Layer<S> for MessagesLayer {
    type Service = MessagesService<S>;

    fn layer(&self, inner: S) -> MessagesService<S> {
        MessagesService { inner, layer: self.clone() }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct MessagesService<S> {
    inner: S,
    layer: MessagesLayer,
}

impl<S> Service<Request<Body>> for MessagesService<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (mut parts, body) = request.into_parts();
        let body = self.layer.bodies.receive(body, self.layer.patience);
        // one that is not known here is left to tonic, which refuses it
        let compression = parts.headers.get(ENCODING).and_then(Compression::named);
        let answered = compression.filter(|known| accepts(&parts.headers, *known));
        let body = match compression {
            None => Body::new(body),
            Some(compression) => {
                parts.headers.remove(ENCODING);
                let room = RequestRoom(body.charge());
                Body::new(Unpacked::new(body, compression, room))
            }
        };
        let answer = self.inner.call(Request::from_parts(parts, body));
        Box::pin(async move {
            let mut answer = answer.await?;
            answer.headers_mut().insert(ACCEPTED, ALL);
            // a status without a body is in the head
            Ok(match answered.filter(|_| !answer.headers().contains_key("grpc-status")) {
                None => answer,
                Some(compression) => {
                    let name = HeaderValue::from_static(compression.name());
                    answer.headers_mut().insert(ENCODING, name);
                    answer.map(|body| Body::new(Packed::new(body, compression)))
                }
            })
        })
    }
}

fn accepts(headers: &HeaderMap, compression: Compression) -> bool {
    headers.get_all(ACCEPTED).iter().any(|accepted| compression.is_in(accepted))
}

/// What is unpacked is charged beside what was received.
struct RequestRoom(Charge);

impl Room for RequestRoom {
    fn limit(&self) -> usize {
        MAX_REQUEST_BYTES
    }

    fn charge(&mut self, bytes: usize) -> Result<(), Status> {
        self.0.take(bytes as u64).map_err(|why| why.grpc())
    }
}

#[cfg(test)]
mod tests;
