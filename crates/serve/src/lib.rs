//! What every process serves alike: HTTP and gRPC listeners with TLS, `/-/healthy`, `/-/ready` and `/metrics`,
//! `grpc.health.v1` and reflection, request metrics, logs and graceful shutdown.
//!
//! No component is known here: a [`Component`] hands in its routes, its gRPC services, its registry and a readiness
//! signal, [`Server::start`] serves them until it is told to stop. Health and metrics live on a runtime of their own,
//! so that a probe is answered while queries keep every other thread busy.

mod address;
mod conn;
mod error;
mod grpc;
mod http;
pub mod logs;
mod metrics;
mod server;
mod shutdown;
mod tls;

pub use error::{Error, Kind, Result};
pub use http::not_found;
pub use metrics::{BuildInfo, registry};
pub use server::{Component, GrpcSettings, HttpSettings, Server, Settings};
pub use shutdown::Shutdown;
pub use tls::{TlsFiles, TlsVersion};
