//! Store gateway, querier and, if asked for, a sidecar: as separate servers that know each other by address alone.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use block::Bucket;
use model::{Budget, Clock, Labels};
use prometheus::Registry;
use query::{EndpointSettings, EndpointSpec, Querier};
use serve::{Component, GrpcSettings, HttpSettings, Server};
use storeapi::info::{Capabilities, InfoService};
use storeapi::server::StoreService;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tonic::service::Routes;

use crate::Settings;

/// How long a process may take until it can do its work.
const READY_WITHIN: Duration = Duration::from_secs(60);
const ANY_PORT: &str = "127.0.0.1:0";
const REPLICA_LABEL: &str = "replica";

/// One component, listening and working.
struct Process {
    server: Server,
    work: JoinHandle<()>,
}

/// All of them, the querier last.
pub(crate) struct Processes {
    stores: Vec<Process>,
    querier: Process,
}

impl Processes {
    /// Starts everything and waits until it is ready.
    pub(crate) async fn start(
        settings: &Settings,
        bucket: &Bucket,
        clock: &Arc<dyn Clock>,
    ) -> anyhow::Result<Processes> {
        let mut stores = vec![gateway(settings, bucket, clock).await.context("start the store gateway")?];
        if let Some(url) = &settings.prometheus_url {
            stores.push(sidecar(settings, url, clock).await.with_context(|| format!("start a sidecar of {url}"))?);
        }
        let endpoints = stores.iter().filter_map(|process| process.server.grpc_addr());
        let endpoints: Vec<String> = endpoints.map(|address| address.to_string()).collect();
        let querier = querier(settings, endpoints, clock).await.context("start the querier")?;
        Ok(Processes { stores, querier })
    }

    /// Where the querier answers HTTP.
    pub(crate) fn http_address(&self) -> SocketAddr {
        self.querier.server.http_addr()
    }

    pub(crate) async fn stop(self) {
        let Processes { stores, querier } = self;
        for process in std::iter::once(querier).chain(stores) {
            process.work.abort();
            process.server.stop().await;
        }
    }
}

fn listeners(http_address: &str) -> serve::Settings {
    let grace = Duration::from_secs(1);
    serve::Settings {
        http: HttpSettings { address: http_address.to_owned(), grace, config: None },
        grpc: Some(GrpcSettings { address: ANY_PORT.to_owned(), grace, tls: None, max_connection_age: None }),
    }
}

async fn start(
    settings: serve::Settings,
    component: Component,
    work: impl Future<Output = ()> + Send + 'static,
    clock: &Arc<dyn Clock>,
) -> anyhow::Result<Process> {
    let mut ready = component.ready.clone();
    let server = Server::start(settings, component, Arc::clone(clock)).await?;
    let work = tokio::spawn(work);
    let became_ready = async { ready.wait_for(|ready| *ready).await.map(|_| ()) };
    tokio::time::timeout(READY_WITHIN, became_ready)
        .await
        .with_context(|| format!("it was not ready within {} s", READY_WITHIN.as_secs()))?
        .context("it ended before it was ready; its log says why")?;
    Ok(Process { server, work })
}

/// A component that speaks StoreAPI and nothing else.
fn store_component(services: Routes, ready: watch::Receiver<bool>, registry: Registry) -> Component {
    Component { routes: Router::new(), services: Some(services), descriptors: Querier::descriptors(), registry, ready }
}

async fn gateway(settings: &Settings, bucket: &Bucket, clock: &Arc<dyn Clock>) -> anyhow::Result<Process> {
    let registry = serve::registry(&settings.build)?;
    let gateway = store::Gateway::new(store::Settings::default(), bucket.clone(), &registry, Arc::clone(clock))?;
    let component = store_component(gateway.services(), gateway.ready(), registry);
    start(listeners(ANY_PORT), component, gateway.run(), clock).await
}

/// Beside the user's Prometheus; it ships nothing, because the bucket is not the user's.
async fn sidecar(settings: &Settings, url: &str, clock: &Arc<dyn Clock>) -> anyhow::Result<Process> {
    let registry = serve::registry(&settings.build)?;
    let parts = sidecar::Parts {
        clock: Arc::clone(clock),
        budget: Budget::unlimited(),
        registry: registry.clone(),
        bucket: None,
    };
    let sidecar_settings = sidecar::Settings { prometheus_url: url.to_owned(), ..sidecar::Settings::default() };
    let sidecar = sidecar::Sidecar::new(sidecar_settings, parts)?;
    let run = sidecar.run;
    let work = async move {
        if let Err(error) = run.await {
            tracing::error!(%error, "the sidecar ended");
        }
    };
    let info = InfoService::serve(Arc::clone(&sidecar.store), Capabilities::default());
    let services = Routes::new(StoreService::serve(sidecar.store)).add_service(info);
    start(listeners(ANY_PORT), store_component(services, sidecar.ready, registry), work, clock).await
}

async fn querier(settings: &Settings, endpoints: Vec<String>, clock: &Arc<dyn Clock>) -> anyhow::Result<Process> {
    let registry = serve::registry(&settings.build)?;
    let specs = endpoints.into_iter().map(|address| EndpointSpec { address, ..EndpointSpec::default() });
    let querier_settings = query::Settings {
        endpoints: EndpointSettings { specs: specs.collect(), ..EndpointSettings::default() },
        replica_labels: vec![REPLICA_LABEL.to_owned()],
        selector_labels: Labels::empty(),
        auto_downsampling: true,
        engine_threads: settings.threads,
        about: query::About {
            version: settings.build.version.clone(),
            revision: settings.build.revision.clone(),
            flags: Default::default(),
        },
        ..query::Settings::default()
    };
    let querier = Querier::new(querier_settings, &registry, Arc::clone(clock))?;
    let component = Component {
        routes: querier.routes(),
        services: Some(querier.services()),
        descriptors: Querier::descriptors(),
        registry,
        ready: querier.ready(),
    };
    start(listeners(&settings.http_address), component, querier.run(), clock).await
}
