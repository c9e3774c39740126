//! Store gateway, querier and, if asked for, a sidecar, as separate servers that know each other
//! only by address.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use block::Bucket;
use model::error::in_one_line;
use model::{Clock, Labels};
use query::{EndpointSettings, EndpointSpec, Querier};
use serve::{Component, GrpcSettings, HttpSettings, Patience, Server, Task};

use crate::Settings;

/// How long a process may take until it can do its work.
const READY_WITHIN: Duration = Duration::from_secs(60);
const ANY_PORT: &str = "127.0.0.1:0";
const REPLICA_LABEL: &str = "replica";

/// One component, listening and working.
struct RunningProcess {
    server: Server,
    work: Task<()>,
}

/// All of them, the querier last.
pub(crate) struct Processes {
    stores: Vec<RunningProcess>,
    querier: RunningProcess,
}

impl Processes {
    /// Starts everything and waits until it is ready.
    pub(crate) async fn start(
        settings: &Settings,
        bucket: &Bucket,
        clock: &Arc<dyn Clock>,
    ) -> anyhow::Result<Processes> {
        let mut stores =
            vec![gateway(settings, bucket, clock).await.context("start the store gateway")?];
        if let Some(url) = &settings.prometheus_url {
            stores.push(
                sidecar(settings, url, clock)
                    .await
                    .with_context(|| format!("start a sidecar of {url}"))?,
            );
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
            drop(process.work);
            process.server.stop().await;
        }
    }
}

fn listeners(http_address: &str) -> serve::Settings {
    let grace = Duration::from_secs(1);
    serve::Settings {
        http: HttpSettings {
            address: http_address.to_owned(),
            grace,
            config: None,
            patience: Patience::default(),
        },
        grpc: Some(GrpcSettings {
            address: ANY_PORT.to_owned(),
            grace,
            tls: None,
            max_connection_age: None,
            patience: Patience::grpc(),
        }),
    }
}

async fn start(
    settings: serve::Settings,
    component: Component,
    clock: &Arc<dyn Clock>,
) -> anyhow::Result<RunningProcess> {
    let Component { served, run } = component;
    let mut ready = served.ready.clone();
    let server = Server::start(settings, served, Arc::clone(clock)).await?;
    let work = Task::spawn(async move {
        if let Err(error) = run.await {
            tracing::error!(error = %in_one_line(&*error), "a component of the demo ended");
        }
    });
    let became_ready = async { ready.wait_for(|ready| *ready).await.map(|_| ()) };
    tokio::time::timeout(READY_WITHIN, became_ready)
        .await
        .with_context(|| format!("it was not ready within {} s", READY_WITHIN.as_secs()))?
        .context("it ended before it was ready; its log says why")?;
    Ok(RunningProcess { server, work })
}

async fn gateway(
    settings: &Settings,
    bucket: &Bucket,
    clock: &Arc<dyn Clock>,
) -> anyhow::Result<RunningProcess> {
    let registry = serve::registry(&settings.build)?;
    let gateway = store::Gateway::new(
        store::Settings { budget: settings.budgets.stores.clone(), ..store::Settings::default() },
        bucket.clone(),
        &registry,
        Arc::clone(clock),
    )?;
    start(listeners(ANY_PORT), gateway.into_component()?, clock).await
}

/// The sidecar of the user's Prometheus; it ships nothing, because the bucket is not the user's.
async fn sidecar(
    settings: &Settings,
    url: &str,
    clock: &Arc<dyn Clock>,
) -> anyhow::Result<RunningProcess> {
    let parts = sidecar::SidecarParts {
        clock: Arc::clone(clock),
        budget: settings.budgets.stores.clone(),
        registry: serve::registry(&settings.build)?,
        bucket: None,
    };
    let sidecar_settings =
        sidecar::Settings { prometheus_url: url.to_owned(), ..sidecar::Settings::default() };
    let sidecar = sidecar::Sidecar::new(sidecar_settings, parts)?;
    start(listeners(ANY_PORT), sidecar.into_component(), clock).await
}

async fn querier(
    settings: &Settings,
    endpoints: Vec<String>,
    clock: &Arc<dyn Clock>,
) -> anyhow::Result<RunningProcess> {
    let registry = serve::registry(&settings.build)?;
    let specs =
        endpoints.into_iter().map(|address| EndpointSpec { address, ..EndpointSpec::default() });
    let querier_settings = query::Settings {
        endpoints: EndpointSettings { specs: specs.collect(), ..EndpointSettings::default() },
        replica_labels: vec![REPLICA_LABEL.to_owned()],
        selector_labels: Labels::empty(),
        auto_downsampling: true,
        engine_threads: settings.threads,
        budget: settings.budgets.querier.clone(),
        about: query::About {
            version: settings.build.version.clone(),
            revision: settings.build.revision.clone(),
            flags: Default::default(),
        },
        ..query::Settings::default()
    };
    let querier = Querier::new(querier_settings, &registry, Arc::clone(clock))?;
    start(listeners(&settings.http_address), querier.into_component(), clock).await
}
