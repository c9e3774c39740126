//! The parts of a sidecar put together: heartbeat, store and shipper.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use block::ship::Shipper;
use block::{Bucket, ShipperMetrics};
use futures::TryFutureExt;
use futures::future::{BoxFuture, Either, FutureExt, select};
use model::error::in_one_line;
use model::{Budget, Clock};
use prometheus::Registry;
use serve::{Component, Served};
use storeapi::info::Capabilities;
use storeapi::server::ServerMetrics;
use storeapi::{Limited, Store};
use tokio::sync::watch;
use upstream::{HttpClient, PrometheusClient};

use crate::metrics::{ReloaderMetrics, SidecarMetrics};
use crate::reloader::Reloader;
use crate::settings::Settings;
use crate::state::State;
use crate::store::PrometheusStore;
use crate::{Error, Kind, Result, flags};

/// The pause between attempts while Prometheus is not up yet.
const STARTUP_RETRY: Duration = Duration::from_secs(2);

/// What a sidecar is built from.
pub struct SidecarParts {
    pub clock: Arc<dyn Clock>,
    pub budget: Budget,
    pub registry: Registry,
    /// Where blocks are uploaded to; `None`: nothing is shipped.
    pub bucket: Option<Bucket>,
}

/// A sidecar before it runs.
pub struct Sidecar {
    store: Arc<dyn Store>,
    server_metrics: ServerMetrics,
    registry: Registry,
    budget: Budget,
    ready: watch::Receiver<bool>,
    work: Arc<SidecarWork>,
    reloader: Option<Reloader>,
}

impl Sidecar {
    /// # Errors
    /// `Invalid` for settings that cannot be used.
    pub fn new(settings: Settings, parts: SidecarParts) -> Result<Sidecar> {
        let http = HttpClient::new(&settings.http_client)
            .map_err(|e| e.context("--prometheus.http-client"))?;
        let client = PrometheusClient::new(&settings.prometheus_url, http, parts.budget.clone());
        let client = client.map_err(|e| e.context("--prometheus.url"))?;
        let state = Arc::new(State::new(settings.min_time, Arc::clone(&parts.clock)));
        let store = PrometheusStore::new(client.clone(), Arc::clone(&state), parts.budget.clone());
        let shipper = match parts.bucket {
            Some(bucket) => {
                let metrics = ShipperMetrics::new(&parts.registry)?;
                Some(Shipper::new(settings.shipper.clone(), bucket, metrics))
            }
            None => {
                tracing::info!("no bucket is configured, blocks are not shipped");
                None
            }
        };
        let metrics = SidecarMetrics::new(&parts.registry)?;
        let reloader = match settings.reloader.is_active() {
            true => {
                let metrics = ReloaderMetrics::new(&parts.registry)?;
                let clock = Arc::clone(&parts.clock);
                Some(Reloader::new(settings.reloader.clone(), client.clone(), clock, metrics))
            }
            false => None,
        };
        let store: Arc<dyn Store> = Arc::new(Limited::new(Arc::new(store), settings.limits));
        let ready = state.readiness();
        let work =
            Arc::new(SidecarWork { settings, client, state, shipper, metrics, clock: parts.clock });
        let registry = parts.registry;
        let (budget, server_metrics) = (parts.budget, ServerMetrics::new(&registry)?);
        Ok(Sidecar { store, server_metrics, registry, budget, ready, work, reloader })
    }

    /// The data of Prometheus, once the [component](Sidecar::into_component) has met it.
    pub fn store(&self) -> Arc<dyn Store> {
        Arc::clone(&self.store)
    }

    /// StoreAPI over Prometheus. It is ready while the external labels are known and Prometheus
    /// answers; the work ends only with an error.
    pub fn into_component(self) -> Component {
        let Sidecar { store, server_metrics, registry, budget, ready, work, reloader } = self;
        let services = storeapi::server::services(store, Capabilities::STORE, server_metrics);
        let services = Some(services);
        let (name, routes) = ("sidecar", Router::new());
        let served = Served { name, routes, services, registry, budget, ready };
        Component { served, run: run(work, reloader).err_into().boxed() }
    }
}

/// The reloader works from the start: Prometheus may wait for its configuration to be written.
async fn run(work: Arc<SidecarWork>, reloader: Option<Reloader>) -> Result<()> {
    let reloading: BoxFuture<'static, Infallible> = match reloader {
        Some(reloader) => reloader.run().boxed(),
        None => std::future::pending().boxed(),
    };
    match select(work.run().boxed(), reloading).await {
        Either::Left((result, _)) => result,
        Either::Right((never, _)) => match never {},
    }
}

struct SidecarWork {
    settings: Settings,
    client: PrometheusClient,
    state: Arc<State>,
    shipper: Option<Shipper>,
    metrics: SidecarMetrics,
    clock: Arc<dyn Clock>,
}

impl SidecarWork {
    async fn run(self: Arc<SidecarWork>) -> Result<()> {
        self.metrics.prometheus_up.set(0.0);
        self.wait_for_prometheus().await?;
        let heartbeat: BoxFuture<'static, Infallible> = Arc::clone(&self).heartbeat().boxed();
        let shipping: BoxFuture<'static, Infallible> = self.ship().boxed();
        match select(heartbeat, shipping).await {
            Either::Left((never, _)) | Either::Right((never, _)) => match never {},
        }
    }

    /// Retries until Prometheus answers; a shipper gives up after the ready timeout, so that
    /// someone notices.
    async fn wait_for_prometheus(&self) -> Result<()> {
        let deadline = self.clock.monotonic().saturating_add(self.settings.ready_timeout);
        let mut validated = self.shipper.is_none();
        loop {
            match self.in_time(self.greet(&mut validated)).await {
                Ok(()) if self.state.external_labels().is_empty() => {
                    return Err(no_external_labels());
                }
                Ok(()) => break,
                Err(error) if error.kind() == Kind::Invalid && !validated => return Err(error),
                Err(error) => {
                    if self.shipper.is_some() && self.clock.monotonic() >= deadline {
                        let waited = self.settings.ready_timeout;
                        return Err(error.context(format_args!(
                            "Prometheus did not get ready within {waited:?}"
                        )));
                    }
                    tracing::warn!(error = %in_one_line(&error), "fetch external labels; is \
                        Prometheus running? retrying");
                }
            }
            self.clock.sleep(STARTUP_RETRY).await;
        }
        let version = self
            .in_time(self.client.version().err_into())
            .await
            .unwrap_or_else(|_| "unknown".to_owned());
        tracing::info!(external_labels = %self.state.external_labels(), version, "prometheus is \
            ready");
        Ok(())
    }

    /// The first contact.
    async fn greet(&self, validated: &mut bool) -> Result<()> {
        if !*validated {
            self.validate_flags().await?;
            *validated = true;
        }
        self.refresh().await
    }

    async fn validate_flags(&self) -> Result<()> {
        match self.client.flags().await.map_err(Error::from) {
            Ok(flags) => flags::check(&flags, &self.settings),
            Err(error) if error.kind() == Kind::Invalid => {
                tracing::warn!(error = %in_one_line(&error), "Prometheus does not tell its flags; \
                    not checking that it leaves blocks alone");
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Asks Prometheus for its external labels and how far back its data reaches.
    async fn refresh(&self) -> Result<()> {
        let labels = self.client.external_labels().await?;
        if let Some(lowest) = self.client.lowest_timestamp().await? {
            self.state.set_lowest(lowest);
        }
        // If Prometheus loses its labels, the sidecar keeps those it had: series without them could
        // not be told apart.
        let ready = !labels.is_empty();
        if ready {
            self.state.set_labels(labels);
        }
        self.state.set_ready(ready || !self.state.external_labels().is_empty());
        self.metrics.prometheus_up.set(1.0);
        self.metrics.last_heartbeat.set(self.clock.now().0 as f64 / 1000.0);
        Ok(())
    }

    async fn heartbeat(self: Arc<SidecarWork>) -> Infallible {
        loop {
            self.clock.sleep(self.settings.get_config_interval).await;
            if let Err(error) = self.in_time(self.refresh()).await {
                tracing::warn!(error = %in_one_line(&error), "prometheus does not answer");
                self.metrics.prometheus_up.set(0.0);
                self.state.set_ready(false);
            }
        }
    }

    async fn ship(self: Arc<SidecarWork>) -> Infallible {
        let Some(shipper) = self.shipper.clone() else { return std::future::pending().await };
        shipper.probe_bucket().await;
        loop {
            match shipper.sync(&self.state.external_labels()).await {
                Ok(0) => {}
                Ok(uploaded) => tracing::info!(uploaded, "shipped blocks"),
                Err(error) => {
                    tracing::warn!(error = %in_one_line(&error), "ship blocks; trying again")
                }
            }
            self.clock.sleep(self.settings.ship_interval).await;
        }
    }

    async fn in_time<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        let span = self.settings.get_config_timeout;
        match select(std::pin::pin!(work), self.clock.sleep(span)).await {
            Either::Left((answer, _)) => answer,
            Either::Right(_) => Err(Error::new(
                Kind::Unavailable,
                format!("Prometheus did not answer within {span:?}"),
            )),
        }
    }
}

fn no_external_labels() -> Error {
    let message = "Prometheus has no external labels, so its data could not be told from that of \
        others; add to prometheus.yml: global: {external_labels: {cluster: <name>, replica: \
        <name>}}";
    Error::new(Kind::Invalid, message)
}

#[cfg(test)]
mod tests;
