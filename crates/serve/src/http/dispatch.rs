//! From the runtime of the listener to the main runtime and back.
//!
//! The listener's thread must never wait for a component, or probes would. So the component's
//! router runs, body included, as a task of the main runtime; the frames of its answer come back
//! through a bounded channel. When the client disconnects, the connection drops the answer, and
//! that ends the task.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use futures::FutureExt;
use http::{Request, StatusCode, Uri};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tower::{Service, ServiceExt};

use super::json_error;
use crate::Task;

/// Frames that may wait for a slow client.
const FRAMES: usize = 8;

#[derive(Clone, Debug)]
pub(crate) struct Dispatch {
    pub(crate) routes: Router,
    pub(crate) main: Handle,
}

impl Service<Request<Body>> for Dispatch {
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        if let Some(uri) = normal_uri(request.uri()) {
            *request.uri_mut() = uri;
        }
        let (head_sender, head) = oneshot::channel();
        let (frame_sender, frames) = mpsc::channel(FRAMES);
        let routes = self.routes.clone();
        let task = Task::spawn_on(&self.main, async move {
            let Ok(response) = routes.oneshot(request).await;
            let (parts, mut body) = response.into_parts();
            let hint = body.size_hint();
            if head_sender.send((parts, hint)).is_err() {
                return;
            }
            while let Some(frame) = body.frame().await {
                if frame_sender.send(Relay::Frame(frame)).await.is_err() {
                    return;
                }
            }
            // nobody is left to be told when this fails
            let _ = frame_sender.send(Relay::End).await;
        });
        async move {
            Ok(match head.await {
                Ok((parts, hint)) => {
                    Response::from_parts(parts, Body::new(Relayed { frames, hint, _task: task }))
                }
                // the handler panicked; the panic hook has said where
                Err(_) => json_error(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "internal",
                    "the handler of this request failed",
                ),
            })
        }
        .boxed()
    }
}

/// The URI of an API call whose path has empty segments or ends with a slash, without those. Peers
/// redirect such calls; clients whose base URL ends with a slash make them, and not all of them
/// send a form again, or know their way back through a proxy that strips a prefix.
fn normal_uri(uri: &Uri) -> Option<Uri> {
    let path = uri.path();
    if !path.contains("//") && !path.ends_with('/') {
        return None;
    }
    let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    // every other path is a page, of which some end with a slash
    segments.windows(2).find(|pair| *pair == ["api", "v1"])?;
    let mut normal = format!("/{}", segments.join("/"));
    if let Some(query) = uri.query() {
        normal.push('?');
        normal.push_str(query);
    }
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(normal.parse().ok()?);
    Uri::from_parts(parts).ok()
}

/// What comes from the main runtime. Without its end a body is broken off, and must not look
/// whole.
#[derive(Debug)]
enum Relay {
    Frame(Result<Frame<axum::body::Bytes>, axum::Error>),
    End,
}

/// The frames of a body made on the main runtime.
#[derive(Debug)]
struct Relayed {
    frames: mpsc::Receiver<Relay>,
    hint: SizeHint,
    _task: Task<()>,
}

impl http_body::Body for Relayed {
    type Data = axum::body::Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<axum::body::Bytes>, axum::Error>>> {
        self.frames.poll_recv(cx).map(|relay| match relay {
            Some(Relay::Frame(frame)) => Some(frame),
            Some(Relay::End) => None,
            None => Some(Err(axum::Error::new("the handler failed before its answer was whole"))),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.hint.exact() == Some(0)
    }

    fn size_hint(&self) -> SizeHint {
        self.hint
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_api_calls_lose_empty_segments() {
        for (given, normal) in [
            ("//api/v1/query?query=a//b/", "/api/v1/query?query=a//b/"),
            ("/api/v1/query/", "/api/v1/query"),
            ("/a//api//v1///labels//?x", "/a/api/v1/labels?x"),
            ("http://host//api/v1/query", "http://host/api/v1/query"),
        ] {
            let uri = normal_uri(&given.parse().unwrap()).unwrap();
            assert_eq!(uri.to_string(), normal);
        }
        for other in ["/", "/prefix/", "/api/v1/query", "//", "/api/", "//evil.example/x"] {
            assert_eq!(normal_uri(&other.parse().unwrap()), None, "{other}");
        }
    }
}
