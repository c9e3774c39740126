//! The parts of a querier, put together.

use std::fmt;
use std::sync::Arc;

use axum::Router;
use engine::{Engine, EngineSettings};
use futures::FutureExt;
use futures::future::{BoxFuture, join_all};
use http_api::normal_prefix;
use model::{Budget, Clock};
use prometheus::Registry;
use serve::{Component, Gate, Served};
use storeapi::client::{ClientSettings, DEFAULT_MAX_MESSAGE_BYTES, GrpcStore};
use storeapi::fanout::{Fanout, FanoutSettings};
use storeapi::info::Capabilities;
use storeapi::server::ServerMetrics;
use storeapi::{GatedLabels, Limited, Store};
use tokio::sync::watch;
use upstream::dns::{Lookup, SystemLookup};

use crate::api::{self, ApiState, Evaluation};
use crate::endpoints::{
    Connect, Discovery, EndpointGroup, EndpointSet, MeasuredStore, Peer, Timeouts,
};
use crate::local::{LocalPeer, LocalStore};
use crate::metrics::Metrics;
use crate::{Result, Settings};

/// A querier before it runs.
pub struct Querier {
    routes: Router,
    /// Everything behind the endpoints as one store.
    store: Arc<dyn Store>,
    server_metrics: ServerMetrics,
    registry: Registry,
    budget: Budget,
    ready: watch::Sender<bool>,
    endpoints: Arc<EndpointSet>,
    discovery: Discovery,
    clock: Arc<dyn Clock>,
    locals: Vec<LocalWork>,
    route_prefix: String,
}

/// What goes on behind a local store.
struct LocalWork {
    ready: watch::Receiver<bool>,
    run: BoxFuture<'static, ()>,
}

impl fmt::Debug for Querier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Querier").field("endpoints", &self.endpoints).finish_non_exhaustive()
    }
}

impl Querier {
    /// Reads the configuration of endpoints and makes the engine; does not connect to any endpoint
    /// yet. Must be called on a tokio runtime.
    ///
    /// # Errors
    /// `Invalid` for settings that cannot be used.
    pub fn new(settings: Settings, registry: &Registry, clock: Arc<dyn Clock>) -> Result<Querier> {
        let engine = Arc::new(Engine::new(EngineSettings {
            threads: settings.engine_threads,
            max_samples: settings.max_samples,
            budget: settings.budget.clone(),
            language: settings.language,
            delayed_name_removal: settings.delayed_name_removal,
            default_subquery_step_ms: i64::try_from(
                settings.default_evaluation_interval.as_millis(),
            )
            .unwrap_or(i64::MAX),
        }));
        let evaluation = Evaluation::by(engine);
        Querier::with_parts(
            settings,
            registry,
            clock,
            QuerierParts { evaluation, lookup: Box::new(SystemLookup::new()) },
        )
    }

    fn with_parts(
        settings: Settings,
        registry: &Registry,
        clock: Arc<dyn Clock>,
        parts: QuerierParts,
    ) -> Result<Querier> {
        let metrics = Metrics::register(registry)?;
        let timeouts = Timeouts {
            info: settings.endpoints.info_timeout,
            unhealthy: settings.endpoints.unhealthy_timeout,
        };
        let discovery = Discovery::new(
            settings.endpoints.clone(),
            parts.lookup,
            metrics.clone(),
            Arc::clone(&clock),
        )?;
        let endpoints = Arc::new(EndpointSet::new(
            connect(&metrics, &clock, &settings.budget),
            timeouts,
            metrics.clone(),
            Arc::clone(&clock),
        ));
        let fanout_settings = FanoutSettings {
            response_timeout: settings.endpoints.response_timeout.unwrap_or_default(),
            selector_labels: settings.selector_labels.clone(),
            budget: settings.budget.clone(),
        };
        let fanout = Fanout::new(Arc::clone(&endpoints) as _, fanout_settings, Arc::clone(&clock));
        let gate = Gate::new(settings.max_concurrent, metrics.gate.clone(), Arc::clone(&clock));
        let limited = Arc::new(Limited::new(Arc::new(fanout.clone()), settings.limits));
        let store = Arc::new(GatedLabels::new(limited, gate.clone()));
        let budget = settings.budget.clone();
        let route_prefix = normal_prefix(&settings.web.route_prefix);
        let routes = api::router(ApiState {
            started: clock.now(),
            settings,
            evaluation: parts.evaluation,
            fanout,
            endpoints: Arc::clone(&endpoints),
            gate,
            metrics,
            clock: Arc::clone(&clock),
        });
        Ok(Querier {
            routes,
            store,
            server_metrics: ServerMetrics::new(registry)?,
            registry: registry.clone(),
            budget,
            ready: watch::Sender::new(false),
            endpoints,
            discovery,
            clock,
            locals: Vec::new(),
            route_prefix,
        })
    }

    /// Queries a store in this process, too.
    #[must_use]
    pub fn beside(mut self, local: LocalStore) -> Querier {
        let LocalStore { name, store, ready, run, routes } = local;
        self.endpoints.add_local(&name, Arc::new(LocalPeer(store)));
        self.locals.push(LocalWork { ready, run });
        self.routes = match self.route_prefix.as_str() {
            "" => self.routes.merge(routes),
            prefix => self.routes.nest(prefix, routes),
        };
        self
    }

    /// The HTTP API, and StoreAPI for queriers above this one. It is ready once the first discovery
    /// is done, every endpoint was asked and every local store is ready.
    pub fn into_component(self) -> Component {
        let Querier {
            routes,
            store,
            registry,
            budget,
            ready,
            endpoints,
            discovery,
            clock,
            server_metrics,
            locals,
            route_prefix: _,
        } = self;
        let served = Served {
            name: "query",
            routes,
            services: Some(storeapi::server::services(store, Capabilities::STORE, server_metrics)),
            registry,
            budget,
            ready: ready.subscribe(),
        };
        let work = EndpointWork { ready, endpoints, discovery, clock, locals };
        Component { served, run: work.run().map(Ok).boxed() }
    }
}

/// Keeps finding and asking endpoints, and local stores at work.
struct EndpointWork {
    ready: watch::Sender<bool>,
    endpoints: Arc<EndpointSet>,
    discovery: Discovery,
    clock: Arc<dyn Clock>,
    locals: Vec<LocalWork>,
}

impl EndpointWork {
    /// Never ends by itself.
    async fn run(self) {
        let EndpointWork { ready, endpoints, mut discovery, clock, locals } = self;
        let (waiting, running): (Vec<_>, Vec<_>) =
            locals.into_iter().map(|local| (local.ready, local.run)).unzip();
        let asking = async {
            endpoints.update(discovery.targets().await);
            endpoints.poll().await;
            let polling = async {
                loop {
                    clock.sleep(endpoints.poll_interval()).await;
                    endpoints.poll().await;
                }
            };
            let discovering = async {
                loop {
                    clock.sleep(discovery.interval()).await;
                    if endpoints.update(discovery.targets().await) {
                        // new endpoints are asked at once, not in the next round
                        endpoints.poll().await;
                    }
                }
            };
            futures::join!(polling, discovering, become_ready(&endpoints, waiting, ready));
        };
        futures::join!(asking, join_all(running));
    }
}

/// Says that all is ready once the local stores are, which describe themselves first.
async fn become_ready(
    endpoints: &EndpointSet,
    locals: Vec<watch::Receiver<bool>>,
    ready: watch::Sender<bool>,
) {
    let has_locals = !locals.is_empty();
    for mut local in locals {
        if local.wait_for(|ready| *ready).await.is_err() {
            tracing::error!("a store in this process ended before it was ready");
            return;
        }
    }
    if has_locals {
        endpoints.poll().await;
    }
    ready.send_replace(true);
    // the component is as ready as that from now on
    std::future::pending::<()>().await;
}

/// The parts that tests replace.
struct QuerierParts {
    evaluation: Evaluation,
    lookup: Box<dyn Lookup>,
}

/// A message of an endpoint may be as long as one part in this many of the memory budget, ...
const MESSAGE_SHARE: u64 = 4;
/// ... but in any case as long as this.
const MIN_MESSAGE_BYTES: usize = 16 << 20;

fn connect(metrics: &Metrics, clock: &Arc<dyn Clock>, budget: &Budget) -> Connect {
    let (metrics, clock) = (metrics.clone(), Arc::clone(clock));
    let share = usize::try_from(budget.limit() / MESSAGE_SHARE).unwrap_or(usize::MAX);
    let max_message_bytes = share.clamp(MIN_MESSAGE_BYTES, DEFAULT_MAX_MESSAGE_BYTES);
    Box::new(move |target| {
        let open = |address: &String| {
            let settings = ClientSettings {
                tls: target.tls.clone(),
                compression: target.compression.applied(),
                max_message_bytes,
                ..ClientSettings::new(address)
            };
            let store = Arc::new(GrpcStore::new(&settings)?);
            let measured = MeasuredStore::new(store, metrics.clone(), Arc::clone(&clock));
            Ok(Arc::new(measured) as Arc<dyn Peer>)
        };
        let servers = target.servers.iter().map(open).collect::<storeapi::Result<_>>()?;
        Ok(EndpointGroup::of(servers))
    })
}

#[cfg(test)]
mod tests;
