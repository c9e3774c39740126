//! What every subcommand does around its component: logs, runtime, clock, registry, signals,
//! listeners.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use model::{Clock, SystemClock};
use prometheus::Registry;
use serve::{BuildInfo, Component, Server, Shutdown};

use crate::allocator;

/// The most threads for reading files and decoding. One for each concurrent request to a bucket in
/// a folder would be hundreds, each with a stack.
const BLOCKING_THREADS: usize = 32;

/// What a subcommand works with.
pub(crate) struct ProcessContext {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) registry: Registry,
    pub(crate) shutdown: Shutdown,
    /// Every flag with its value.
    pub(crate) flags: BTreeMap<String, String>,
    /// The environment at the start; it is not read anywhere else.
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
        // variables that are not UTF-8 can be neither names nor values of ours
        let environment = std::env::vars_os()
            .filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)));
        Start { flags, without_effect, environment: environment.collect() }
    }

    /// Runs a subcommand to its end on a runtime of its own.
    pub(crate) fn run<F: Future<Output = Result<()>>>(
        self,
        logs: serve::logs::Settings,
        subcommand: impl FnOnce(ProcessContext) -> F,
    ) -> Result<()> {
        serve::logs::init(&logs)?;
        serve::raise_open_files();
        if !self.without_effect.is_empty() {
            let flags = self.without_effect.join(" ");
            tracing::warn!(flags, "these flags are accepted for compatibility and have no effect");
        }
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .max_blocking_threads(BLOCKING_THREADS)
            .build()
            .context("start the async runtime")?;
        let ended = runtime.block_on(async {
            let registry = serve::registry(&build_info())?;
            let tasks = tokio::runtime::Handle::current().metrics();
            serve::go_metrics(&registry, tasks, allocator::allocated)?;
            let context = ProcessContext {
                clock: Arc::new(SystemClock::new(|span| Box::pin(tokio::time::sleep(span)))),
                registry,
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

/// Why a process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProcessEnd {
    /// Its work is done.
    Done,
    /// It was told to stop.
    Stopped,
}

impl ProcessContext {
    /// Serves a component until its work ends or the process is told to stop, whichever is first.
    pub(crate) async fn serve(
        self,
        settings: serve::Settings,
        component: Component,
    ) -> Result<ProcessEnd> {
        let Component { served, run } = component;
        let server = Server::start(settings, served, self.clock).await?;
        let ended = tokio::select! {
            ended = run => ended.map(|()| ProcessEnd::Done).map_err(anyhow::Error::from_boxed),
            () = self.shutdown.stopped() => Ok(ProcessEnd::Stopped),
        };
        server.stop().await;
        tracing::info!("exiting");
        ended
    }
}
