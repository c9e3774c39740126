//! An HTTP server in front of any `ObjectStore`, for clients of S3 and of GCS.
//!
//! It speaks the parts of S3's XML API (path style) and of GCS' XML API that the two have in common
//! or that `object_store` uses: objects with ranges and preconditions, ListObjectsV2, multipart
//! uploads, multi-object delete, copies. Signatures and tokens are accepted unchecked. Every
//! request can be delayed and can fail as a [`FaultPlan`] says; all requests are counted.
//!
//! Sources: Amazon's "S3 API Reference", Google's "Cloud Storage XML API".

mod list;
mod multipart;
mod objects;
mod request;
mod xml;

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{Response, StatusCode};
use axum::serve::ListenerExt;
use futures::TryStreamExt;
use object_store::memory::InMemory;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::faults::{Fault, FaultPlan, Op};
use multipart::Uploads;
use request::Request;

/// What a caller can do about it: nothing, the server could not start.
#[derive(Debug, thiserror::Error)]
#[error("object server: listen on loopback")]
pub struct ServerError(#[from] std::io::Error);

/// What holds for every request.
#[derive(Clone, Debug)]
pub struct ServerSettings {
    /// The only bucket.
    pub bucket: String,
    /// How long every request takes at least.
    pub latency: Duration,
    /// The most objects per page of a listing.
    pub page_size: usize,
    pub create_only: CreateOnly,
    pub faults: FaultPlan,
}

/// What the server does with writes that must not replace an object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CreateOnly {
    #[default]
    Honoured,
    /// They replace it all the same.
    Ignored,
    /// They are answered with this status and code.
    Refused(u16, &'static str),
}

impl Default for ServerSettings {
    fn default() -> ServerSettings {
        ServerSettings {
            bucket: "test".into(),
            latency: Duration::ZERO,
            page_size: 1000,
            create_only: CreateOnly::default(),
            faults: FaultPlan::none(),
        }
    }
}

/// Requests and bytes so far; failed ones count too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServerCounts {
    pub requests: u64,
    pub gets: u64,
    pub heads: u64,
    /// Puts of whole objects and of parts.
    pub puts: u64,
    pub deletes: u64,
    pub lists: u64,
    /// Bytes of bodies received.
    pub bytes_in: u64,
    /// Bytes of objects sent.
    pub bytes_out: u64,
}

#[derive(Debug, Default)]
struct ServerCounters {
    ops: [AtomicU64; Op::ALL.len()],
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
}

/// What the requests share.
#[derive(Debug)]
struct ServerShared {
    store: Arc<dyn ObjectStore>,
    /// Objects whose keys are not paths of the store: `a//b`, `a/`, control characters.
    odd: InMemory,
    settings: ServerSettings,
    counters: ServerCounters,
    uploads: Uploads,
    /// Keys written last, which a stale listing leaves out.
    newest: Mutex<VecDeque<String>>,
}

/// How many of the newest objects a stale listing leaves out.
const STALE_OBJECTS: usize = 8;

impl ServerShared {
    fn wrote(&self, key: &str) {
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        newest.push_back(key.to_owned());
        if newest.len() > STALE_OBJECTS {
            newest.pop_front();
        }
    }

    fn newest(&self) -> Vec<String> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}

/// A running server; stops when dropped.
#[derive(Debug)]
pub struct ObjectServer {
    address: SocketAddr,
    shared: Arc<ServerShared>,
    task: JoinHandle<()>,
}

impl ObjectServer {
    /// Serves `store` on a free port of the loopback interface, on the runtime of the caller.
    pub async fn start(
        store: Arc<dyn ObjectStore>,
        settings: ServerSettings,
    ) -> Result<ObjectServer, ServerError> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        // as real servers: an answer does not wait until the client acknowledged its head
        let listener = listener.tap_io(|connection| drop(connection.set_nodelay(true)));
        let shared = Arc::new(ServerShared {
            store,
            odd: InMemory::new(),
            settings,
            counters: ServerCounters::default(),
            uploads: Uploads::new(HashMap::new()),
            newest: Mutex::default(),
        });
        let router = Router::new().fallback(handle).with_state(Arc::clone(&shared));
        let task = tokio::spawn(async move {
            // ends with the task only
            let _ = axum::serve(listener, router).await;
        });
        Ok(ObjectServer { address, shared, task })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://127.0.0.1:<port>`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// An `objstore.yml` for this bucket over S3.
    pub fn s3_config(&self) -> String {
        let bucket = &self.shared.settings.bucket;
        format!(
            "type: S3\nconfig:\n  bucket: {bucket}\n  endpoint: {}\n  insecure: true\n  region: \
             us-east-1\n  \
             bucket_lookup_type: path\n  access_key: test\n  secret_key: test-secret\n",
            self.address
        )
    }

    /// A `service_account` that points GCS clients of `object_store` here.
    pub fn gcs_service_account(&self) -> String {
        format!(
            r#"{{"gcs_base_url":"{}","disable_oauth":true,"client_email":"","private_key":"","private_key_id":""}}"#,
            self.url()
        )
    }

    /// An `objstore.yml` for this bucket over GCS.
    pub fn gcs_config(&self) -> String {
        let bucket = &self.shared.settings.bucket;
        format!(
            "type: GCS\nconfig:\n  bucket: {bucket}\n  service_account: '{}'\n",
            self.gcs_service_account()
        )
    }

    /// Writes an object under any key, as only other clients can.
    pub async fn put_raw(&self, key: &str, bytes: &'static [u8]) {
        let (store, path) = objects::place(&self.shared, key);
        store.put(&path, bytes.into()).await.expect("memory takes everything");
    }

    /// The keys that are not paths of the store.
    pub async fn odd_keys(&self) -> Vec<String> {
        let objects: Vec<ObjectMeta> =
            self.shared.odd.list(None).try_collect().await.expect("memory lists");
        let mut keys: Vec<String> =
            objects.iter().map(|meta| objects::odd_key(&meta.location)).collect();
        keys.sort();
        keys
    }

    pub fn counts(&self) -> ServerCounts {
        let counters = &self.shared.counters;
        let op = |op: Op| counters.ops[op as usize].load(Ordering::Relaxed);
        ServerCounts {
            requests: Op::ALL.into_iter().map(op).sum(),
            gets: op(Op::Get),
            heads: op(Op::Head),
            puts: op(Op::Put) + op(Op::PutPart),
            deletes: op(Op::Delete),
            lists: op(Op::List),
            bytes_in: counters.bytes_in.load(Ordering::Relaxed),
            bytes_out: counters.bytes_out.load(Ordering::Relaxed),
        }
    }

    /// Restarts counting from zero.
    pub fn reset_counts(&self) {
        let counters = &self.shared.counters;
        for counter in counters.ops.iter().chain([&counters.bytes_in, &counters.bytes_out]) {
            counter.store(0, Ordering::Relaxed);
        }
    }
}

impl Drop for ObjectServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// An answer, or the error document that takes its place.
type ServerAnswer = Result<Response<Body>, ServerFailure>;

/// An error as both protocols spell it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct ServerFailure {
    status: StatusCode,
    code: &'static str,
    message: String,
}

impl ServerFailure {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> ServerFailure {
        ServerFailure { status, code, message: message.into() }
    }

    fn unavailable() -> ServerFailure {
        ServerFailure::new(StatusCode::SERVICE_UNAVAILABLE, "SlowDown", "reduce your request rate")
    }

    fn invalid(message: impl Into<String>) -> ServerFailure {
        ServerFailure::new(StatusCode::BAD_REQUEST, "InvalidRequest", message)
    }

    fn into_response(self) -> Response<Body> {
        if self.status == StatusCode::NOT_MODIFIED {
            return respond(self.status, Body::empty());
        }
        let mut response = respond(self.status, Body::from(xml::error(self.code, &self.message)));
        xml::mark(&mut response);
        response
    }
}

impl From<object_store::Error> for ServerFailure {
    fn from(error: object_store::Error) -> ServerFailure {
        use object_store::Error;
        let (status, code) = match &error {
            Error::NotFound { .. } => (StatusCode::NOT_FOUND, "NoSuchKey"),
            Error::AlreadyExists { .. } | Error::Precondition { .. } => {
                (StatusCode::PRECONDITION_FAILED, "PreconditionFailed")
            }
            Error::NotModified { .. } => (StatusCode::NOT_MODIFIED, "NotModified"),
            Error::InvalidPath { .. } => (StatusCode::BAD_REQUEST, "InvalidURI"),
            Error::NotImplemented { .. } | Error::NotSupported { .. } => {
                (StatusCode::NOT_IMPLEMENTED, "NotImplemented")
            }
            _ => (StatusCode::INTERNAL_SERVER_ERROR, "InternalError"),
        };
        ServerFailure::new(status, code, error.to_string())
    }
}

fn respond(status: StatusCode, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
}

async fn handle(
    State(shared): State<Arc<ServerShared>>,
    request: axum::extract::Request,
) -> Response<Body> {
    if !shared.settings.latency.is_zero() {
        tokio::time::sleep(shared.settings.latency).await;
    }
    match serve(shared, request).await {
        Ok(response) => response,
        Err(failure) => failure.into_response(),
    }
}

async fn serve(shared: Arc<ServerShared>, request: axum::extract::Request) -> ServerAnswer {
    let request = Request::read(request).await?;
    if request.bucket != shared.settings.bucket {
        return Err(ServerFailure::new(
            StatusCode::NOT_FOUND,
            "NoSuchBucket",
            format!("bucket {:?}", request.bucket),
        ));
    }
    let Some(op) = request.op() else {
        return Err(ServerFailure::new(
            StatusCode::NOT_IMPLEMENTED,
            "NotImplemented",
            "no such operation here",
        ));
    };
    shared.counters.ops[op as usize].fetch_add(1, Ordering::Relaxed);
    shared.counters.bytes_in.fetch_add(request.body.len() as u64, Ordering::Relaxed);
    let fault = shared.settings.faults.draw(op, &request.key);
    match fault {
        Some(Fault::Unavailable) => return Err(ServerFailure::unavailable()),
        Some(Fault::Denied) => {
            return Err(ServerFailure::new(StatusCode::FORBIDDEN, "AccessDenied", "access denied"));
        }
        Some(Fault::Hung) => return std::future::pending().await,
        Some(Fault::Torn) if op != Op::Get => return Ok(objects::broken_off()),
        _ => {}
    }
    let answer = dispatch(&shared, op, request, fault).await;
    match fault {
        Some(Fault::AppliedButUnavailable) => Err(ServerFailure::unavailable()),
        _ => answer,
    }
}

async fn dispatch(
    shared: &Arc<ServerShared>,
    op: Op,
    request: Request,
    fault: Option<Fault>,
) -> ServerAnswer {
    match op {
        Op::Get | Op::Head => objects::get(shared, &request, fault == Some(Fault::Torn)).await,
        Op::Put => objects::put(shared, request).await,
        Op::Copy => objects::copy(shared, &request).await,
        Op::Delete if request.key.is_empty() => objects::delete_many(shared, &request).await,
        Op::Delete => objects::delete(shared, &request).await,
        Op::List => list::list(shared, &request, fault == Some(Fault::StaleList)).await,
        Op::CreateMultipart => multipart::create(shared, &request),
        Op::PutPart => multipart::put_part(shared, request),
        Op::CompleteMultipart => multipart::complete(shared, &request).await,
        Op::AbortMultipart => multipart::abort(shared, &request),
    }
}

#[cfg(test)]
mod tests;
