//! One process' listeners, from settings to shutdown.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use axum::Router;
use model::Clock;
use model::error::in_one_line;
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;

use crate::conn::{self, Accepting, ConnInfo, Spare, Wish};
use crate::http::{Accepted, Dispatch, HttpMetricsLayer, ProcessPages, Receiving};
use crate::metrics::{GrpcMetrics, HttpMetrics, Status};
use crate::peer::PeerLayer;
use crate::received::Bodies;
use crate::reload::Reloader;
use crate::{
    Error, Kind, Patience, Result, Served, ServerTls, Services, Shutdown, address, grpc, http, tls,
};

#[derive(Clone, Debug)]
pub struct HttpSettings {
    /// Go's spelling: `0.0.0.0:10902`, `:10902`, `127.0.0.1:0`.
    pub address: String,
    /// How long requests under way may take once the process is told to stop.
    pub grace: Duration,
    /// A web configuration file in the exporter toolkit's format.
    pub config: Option<PathBuf>,
    pub patience: Patience,
}

#[derive(Clone, Debug)]
pub struct GrpcSettings {
    pub address: String,
    pub grace: Duration,
    pub tls: Option<ServerTls>,
    /// Connections are closed after this time, so that clients spread over the replicas again.
    pub max_connection_age: Option<Duration>,
    pub patience: Patience,
}

#[derive(Clone, Debug)]
pub struct Settings {
    pub http: HttpSettings,
    /// Not served when absent, or when the component has no services.
    pub grpc: Option<GrpcSettings>,
}

/// Running listeners.
#[derive(Debug)]
pub struct Server {
    http_addr: SocketAddr,
    grpc_addr: Option<SocketAddr>,
    stopping: Stopping,
    http: Option<JoinHandle<()>>,
    grpc: Option<tokio::task::JoinHandle<()>>,
    grace: Duration,
}

/// How the parts of a server learn that it stops.
#[derive(Clone, Debug)]
struct Stopping {
    shutdown: Shutdown,
    /// What connections are told; they may have to make room before that.
    wishes: watch::Sender<Wish>,
}

impl Stopping {
    fn stop(&self) {
        self.wishes.send_replace(Wish::Stop);
        self.shutdown.stop();
    }
}

impl Server {
    /// Binds the addresses, loads certificates and starts serving; fails before anything is served.
    /// Component work runs on the current runtime, the HTTP listener with health and metrics on a
    /// thread of its own.
    pub async fn start(
        settings: Settings,
        served: Served,
        clock: Arc<dyn Clock>,
    ) -> Result<Server> {
        let stopping =
            Stopping { shutdown: Shutdown::new(), wishes: watch::Sender::new(Wish::Serve) };
        let bodies = Bodies::new(&served.budget, stopping.wishes.clone())?;
        let grpc_has_tls = settings.grpc.as_ref().is_some_and(|grpc| grpc.tls.is_some());
        let grpc = match (settings.grpc, served.services) {
            (Some(grpc_settings), Some(services)) => {
                let parts = GrpcParts {
                    services,
                    metrics: GrpcMetrics::register(&served.registry)?,
                    ready: served.ready.clone(),
                    clock: Arc::clone(&clock),
                    bodies: bodies.clone(),
                };
                Some(start_grpc(grpc_settings, parts, stopping.clone())?)
            }
            _ => None,
        };
        let metrics = HttpMetrics::register(&served.registry)?;
        Status::register(&served.registry, served.name, served.ready.clone())?;
        // a component without an API of its own answers in JSON too
        let routes = served.routes;
        let routes = if routes.has_routes() { routes } else { routes.fallback(http::not_found) };
        let heads = bodies.clone();
        let receiving = Receiving { bodies, patience: settings.http.patience };
        let routes = routes
            .layer(axum::middleware::from_fn_with_state(receiving, http::receive))
            .layer(HttpMetricsLayer { metrics, clock });
        let own = ProcessPages { registry: served.registry, ready: served.ready };
        let grace = settings.http.grace;
        let app = http::router(own, Dispatch { routes, main: Handle::current() });
        let door = http::Door::new(settings.http.config.as_deref())?;
        let http_has_tls = door.has_tls();
        let parts = HttpParts { door, app, heads };
        let (http_addr, http) = start_http(settings.http, parts, stopping.clone())?;
        let (grpc_addr, grpc) = grpc.unzip();
        tracing::info!(http = %http_addr, grpc = grpc_addr.map(|a| a.to_string()), "listening");
        let listening = |server, address, has_tls| Listening { server, address, has_tls };
        warn_of_open(&[
            Some(listening("http", http_addr, http_has_tls)),
            grpc_addr.map(|address| listening("grpc", address, grpc_has_tls)),
        ]);
        Ok(Server { http_addr, grpc_addr, stopping, http: Some(http), grpc, grace })
    }

    /// Where HTTP is served, with the port the system chose if it was asked for port 0.
    pub fn http_addr(&self) -> SocketAddr {
        self.http_addr
    }

    pub fn grpc_addr(&self) -> Option<SocketAddr> {
        self.grpc_addr
    }

    /// Stops accepting and waits for requests under way, within the grace periods.
    pub async fn stop(mut self) {
        self.stopping.stop();
        if let Some(grpc) = self.grpc.take() {
            // a panic of the server task was logged by the panic hook
            let _ = grpc.await;
        }
        if let Some(http) = self.http.take() {
            let joined = tokio::task::spawn_blocking(move || http.join());
            if tokio::time::timeout(self.grace + Duration::from_secs(5), joined).await.is_err() {
                tracing::warn!("http server did not stop within its grace period");
            }
        }
    }
}

/// A dropped server stops too, without waiting.
impl Drop for Server {
    fn drop(&mut self) {
        self.stopping.stop();
    }
}

/// Resolves when `done` does, or `grace` after the shutdown, whichever is first.
async fn within_grace(
    done: impl Future<Output = ()>,
    shutdown: Shutdown,
    grace: Duration,
    what: &'static str,
) {
    let over = async {
        shutdown.stopped().await;
        tokio::time::sleep(grace).await;
    };
    tokio::select! {
        () = done => {}
        () = over => tracing::warn!(
            server = what,
            grace_seconds = grace.as_secs(),
            "closing connections after the grace period"
        ),
    }
}

/// A listener, and whether what is sent to it can be read on the way.
struct Listening {
    server: &'static str,
    address: SocketAddr,
    has_tls: bool,
}

impl Listening {
    fn is_open(&self) -> bool {
        !self.has_tls && !self.address.ip().to_canonical().is_loopback()
    }
}

/// Says at the start that whoever is on the network can read what is sent.
fn warn_of_open(listening: &[Option<Listening>]) {
    let open: Vec<&Listening> = listening.iter().flatten().filter(|one| one.is_open()).collect();
    if !open.is_empty() {
        let servers: Vec<&str> = open.iter().map(|one| one.server).collect();
        tracing::warn!(
            servers = servers.join(","),
            "open to the network without tls; see tls_server_config of --http.config, and \
             --grpc-server-tls-cert"
        );
    }
}

struct HttpParts {
    door: http::Door,
    app: Router,
    /// What long heads of requests are charged to.
    heads: Bodies,
}

fn start_http(
    settings: HttpSettings,
    parts: HttpParts,
    stopping: Stopping,
) -> Result<(SocketAddr, JoinHandle<()>)> {
    let listener = address::bind(&settings.address)?;
    let failed = |e: std::io::Error| Error::caused(Kind::Internal, "start http server", e);
    let local = listener.local_addr().map_err(failed)?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let HttpSettings { grace, patience, .. } = settings;
    // now, before anything else takes the last one
    let spare = Some(Spare::open());
    let HttpParts { door, app, heads } = parts;
    let app = app
        .layer(axum::middleware::from_fn_with_state(door.clone(), http::guard))
        .layer(PeerLayer { patience: patience.write });
    let serve = async move {
        let listener = match tokio::net::TcpListener::from_std(listener) {
            Ok(listener) => listener,
            Err(error) => {
                return tracing::error!(error = %in_one_line(&error), "register http listener");
            }
        };
        let Stopping { shutdown, wishes } = stopping;
        let tls = Box::new(move || door.tls());
        let heads = Some(heads);
        let accepting = Accepting { listener, tls, patience, wishes, spare, heads };
        let accepted = Accepted { connections: conn::accept(accepting), local };
        let stop = shutdown.clone();
        let served = axum::serve(accepted, app.into_make_service_with_connect_info::<ConnInfo>())
            .with_graceful_shutdown(async move { stop.stopped().await });
        let done = async {
            if let Err(error) = served.await {
                tracing::error!(error = %in_one_line(&error), "serve http");
            }
        };
        within_grace(done, shutdown, grace, "http").await;
    };
    let thread = std::thread::Builder::new()
        .name("http".to_owned())
        .spawn(move || runtime.block_on(serve))
        .map_err(failed)?;
    Ok((local, thread))
}

struct GrpcParts {
    services: Services,
    metrics: GrpcMetrics,
    ready: watch::Receiver<bool>,
    clock: Arc<dyn Clock>,
    bodies: Bodies,
}

fn start_grpc(
    settings: GrpcSettings,
    parts: GrpcParts,
    stopping: Stopping,
) -> Result<(SocketAddr, tokio::task::JoinHandle<()>)> {
    let tls = settings.tls.map(|files| tls::reloader(files, &[b"h2"])).transpose()?;
    let listener = address::bind(&settings.address)?;
    let failed = |e: std::io::Error| Error::caused(Kind::Internal, "start grpc server", e);
    let local = listener.local_addr().map_err(failed)?;
    let listener = tokio::net::TcpListener::from_std(listener).map_err(failed)?;
    let methods: HashMap<String, bool> = grpc::methods(&parts.services.descriptors)?;
    let (services, reporter) = grpc::with_health_and_reflection(parts.services)?;
    let metrics = grpc::GrpcMetricsLayer {
        metrics: parts.metrics,
        clock: parts.clock,
        methods: Arc::new(methods),
    };
    metrics.show();
    let mut builder = tonic::transport::Server::builder()
        .http2_keepalive_interval(Some(Duration::from_secs(60)))
        .http2_keepalive_timeout(Some(Duration::from_secs(20)));
    if let Some(age) = settings.max_connection_age {
        // streams under way when the age is reached get as long as a shutdown would give them
        builder = builder.max_connection_age(age).max_connection_age_grace(settings.grace);
    }
    let Stopping { shutdown, wishes } = stopping;
    let GrpcSettings { patience, grace, .. } = settings;
    let tls = Box::new(move || tls.as_ref().map(Reloader::current));
    let accepting = Accepting { listener, tls, patience, wishes, spare: None, heads: None };
    let incoming = ReceiverStream::new(conn::accept(accepting))
        .map(|(connection, _)| Ok::<_, std::io::Error>(connection));
    let stop = shutdown.clone();
    let (ended_sender, ended) = oneshot::channel::<()>();
    let served = builder
        .layer(PeerLayer { patience: patience.write })
        .layer(metrics)
        .layer(grpc::MessagesLayer { bodies: parts.bodies, patience: patience.body })
        .add_routes(services)
        .serve_with_incoming_shutdown(incoming, async move { stop.stopped().await });
    tokio::spawn(async move {
        tokio::select! {
            () = grpc::follow_readiness(reporter, parts.ready) => {}
            _ = ended => {}
        }
    });
    let task = tokio::spawn(async move {
        // it holds every layer and service
        let done = Box::pin(async {
            if let Err(error) = served.await {
                tracing::error!(error = %in_one_line(&error), "serve grpc");
            }
        });
        within_grace(done, shutdown, grace, "grpc").await;
        drop(ended_sender);
    });
    Ok((local, task))
}

#[cfg(test)]
mod tests;
