//! The connection to an endpoint, with compression of what goes over it.

use std::pin::Pin;
use std::task::{Context, Poll};

use http::{HeaderValue, Request, Response};
use serve::compression::{ACCEPTED, Compression, ENCODING, Packed, Unpacked, UpTo};
use tonic::body::Body;
use tonic::transport::{self, Error};
use tower::Service;

/// A connection, for the clients of an endpoint's services. Clones share it.
#[derive(Clone, Debug)]
pub struct Channel {
    pub(super) connection: transport::Channel,
    /// Applied to requests, and offered for answers.
    pub(super) compression: Option<Compression>,
    /// The longest message that is unpacked.
    pub(super) max_message_bytes: usize,
}

type Answering = Pin<Box<dyn Future<Output = Result<Response<Body>, Error>> + Send>>;

impl Service<Request<Body>> for Channel {
    type Response = Response<Body>;
    type Error = Error;
    type Future = Answering;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.connection.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Answering {
        if let Some(compression) = self.compression {
            let name = HeaderValue::from_static(compression.name());
            request.headers_mut().insert(ENCODING, name.clone());
            request.headers_mut().insert(ACCEPTED, name);
            request = request.map(|body| Body::new(Packed::new(body, compression)));
        }
        let answer = self.connection.call(request);
        let (offered, room) = (self.compression, UpTo(self.max_message_bytes));
        Box::pin(async move {
            let mut answer = answer.await?;
            let used = answer.headers().get(ENCODING).and_then(Compression::named);
            // one that was not offered is left to tonic, which refuses it
            Ok(match used.filter(|used| Some(*used) == offered) {
                None => answer,
                Some(compression) => {
                    answer.headers_mut().remove(ENCODING);
                    answer.map(|body| Body::new(Unpacked::new(body, compression, room)))
                }
            })
        })
    }
}

#[cfg(test)]
mod tests;
