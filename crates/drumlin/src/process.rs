//! What every subcommand does around its component: logs, runtime, clock, registry, signals, listeners.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use axum::Router;
use model::{Clock, SystemClock};
use prometheus::Registry;
use query::Querier;
use serve::{BuildInfo, Component, Server, Shutdown};
use storeapi::Store;
use storeapi::info::{Capabilities, InfoService};
use storeapi::server::StoreService;
use tokio::sync::watch;
use tonic::service::Routes;

/// What a subcommand gets to work with.
pub(crate) struct Context {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) registry: Registry,
    pub(crate) shutdown: Shutdown,
    /// Every flag with its value.
    pub(crate) flags: BTreeMap<String, String>,
    /// The environment as it was at the start; nobody reads it elsewhere.
    pub(crate) environment: BTreeMap<String, String>,
}

/// A process about to start.
pub(crate) struct Start {
    flags: BTreeMap<String, String>,
    without_effect: Vec<&'static str>,
    environment: BTreeMap<String, String>,
}

pub(crate) fn build_info() -> BuildInfo {
    let revision = option_env!("DRUMLIN_REVISION").unwrap_or_default();
    BuildInfo { version: env!("CARGO_PKG_VERSION").to_owned(), revision: revision.to_owned() }
}

impl Start {
    pub(crate) fn new(flags: BTreeMap<String, String>, without_effect: Vec<&'static str>) -> Start {
        // variables that are no UTF-8 can be neither names nor values of ours
        let environment = std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)));
        Start { flags, without_effect, environment: environment.collect() }
    }

    /// Runs a subcommand to its end on a runtime of its own.
    pub(crate) fn run<F: Future<Output = Result<()>>>(
        self,
        logs: serve::logs::Settings,
        subcommand: impl FnOnce(Context) -> F,
    ) -> Result<()> {
        serve::logs::init(&logs)?;
        if !self.without_effect.is_empty() {
            let flags = self.without_effect.join(" ");
            tracing::warn!(flags, "these flags are accepted for compatibility and have no effect");
        }
        let runtime =
            tokio::runtime::Builder::new_multi_thread().enable_all().build().context("start the async runtime")?;
        let ended = runtime.block_on(async {
            let context = Context {
                clock: Arc::new(SystemClock::new(|span| Box::pin(tokio::time::sleep(span)))),
                registry: serve::registry(&build_info())?,
                shutdown: Shutdown::on_signals()?,
                flags: self.flags,
                environment: self.environment,
            };
            subcommand(context).await
        });
        // what is still running was given its grace period
        runtime.shutdown_background();
        ended
    }
}

/// What a component offers, in the types that `serve` takes.
pub(crate) struct Offer {
    pub(crate) routes: Router,
    pub(crate) services: Option<Routes>,
    pub(crate) descriptors: Vec<&'static [u8]>,
    pub(crate) ready: watch::Receiver<bool>,
}

/// The offer of a component that speaks StoreAPI and has no HTTP API of its own.
pub(crate) fn store_offer(store: Arc<dyn Store>, ready: watch::Receiver<bool>) -> Offer {
    let info = InfoService::serve(Arc::clone(&store), Capabilities::default());
    Offer {
        routes: Router::new(),
        services: Some(Routes::new(StoreService::serve(store)).add_service(info)),
        descriptors: Querier::descriptors(),
        ready,
    }
}

/// Why a process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// Its work is done.
    Done,
    /// It was told to.
    Stopped,
}

impl Context {
    /// Serves a component until its work ends or the process is told to stop, whichever is first.
    pub(crate) async fn serve(
        self,
        settings: serve::Settings,
        offer: Offer,
        work: impl Future<Output = Result<()>>,
    ) -> Result<Ended> {
        let component = Component {
            routes: offer.routes,
            services: offer.services,
            descriptors: offer.descriptors,
            registry: self.registry,
            ready: offer.ready,
        };
        let server = Server::start(settings, component, self.clock).await?;
        let ended = tokio::select! {
            ended = work => ended.map(|()| Ended::Done),
            () = self.shutdown.stopped() => Ok(Ended::Stopped),
        };
        server.stop().await;
        tracing::info!("exiting");
        ended
    }
}
