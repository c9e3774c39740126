//! What every process serves alike: HTTP and gRPC listeners with TLS, `/-/healthy`, `/-/ready` and `/metrics`,
//! `grpc.health.v1` and reflection, request metrics, logs and graceful shutdown.
//!
//! No component is known here. Each gives a [`Component`]: its work, and the routes, gRPC services, registry and
//! readiness signal that [`Server::start`] serves until it is told to stop. Health and metrics live on a runtime of
//! their own, so that a probe is answered while queries keep every other thread busy.

mod address;
mod component;
mod conn;
mod error;
mod grpc;
mod http;
pub mod logs;
mod metrics;
mod server;
mod shutdown;
mod tls;

pub use component::{Component, Failure, Served, Services};
pub use error::{Error, Kind, Result};
pub use http::not_found;
pub use metrics::{BuildInfo, registry};
pub use server::{GrpcSettings, HttpSettings, Server, Settings};
pub use shutdown::Shutdown;
pub use tls::{TlsFiles, TlsVersion};
