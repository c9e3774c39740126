//! What every component gives to the process around it.

use std::fmt;

use axum::Router;
use futures::future::BoxFuture;
use model::Budget;
use prometheus::Registry;
use tokio::sync::watch;
use tonic::service::Routes;

/// Why the work of a component ended before it was done.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// A component that is ready to start: what is served while it works, and its work.
pub struct Component {
    pub served: Served,
    /// Ends when there is nothing left to do, or with the error that makes continuing useless; most
    /// components never end by themselves. It may be dropped at any time.
    pub run: BoxFuture<'static, Result<(), Failure>>,
}

impl fmt::Debug for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Component").field("served", &self.served).finish_non_exhaustive()
    }
}

/// What a component wants served.
#[derive(Debug)]
pub struct Served {
    /// What `thanos_status` calls it: the name of the subcommand.
    pub name: &'static str,
    /// The HTTP API; health and metrics are added. Empty for a component that has none.
    pub routes: Router,
    /// `None` for a component without gRPC.
    pub services: Option<Services>,
    pub registry: Registry,
    /// A share of it is for the bodies of requests that are being received.
    pub budget: Budget,
    /// Whether the component can do its work; probes and `grpc.health.v1` follow it.
    pub ready: watch::Receiver<bool>,
}

/// gRPC services; health and reflection are added.
#[derive(Clone, Debug)]
pub struct Services {
    pub routes: Routes,
    /// The encoded `FileDescriptorSet`s that describe them, for reflection.
    pub descriptors: Vec<&'static [u8]>,
}
