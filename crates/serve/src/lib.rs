//! What every process serves alike: HTTP and gRPC listeners with TLS, `/-/healthy`, `/-/ready` and
//! `/metrics`, `grpc.health.v1` and reflection, request metrics, logs and graceful shutdown.
//!
//! No component is known here. Each gives a [`Component`]: its work, and the routes, gRPC services,
//! registry and readiness signal that [`Server::start`] serves until it is told to stop. Health and
//! metrics live on a runtime of their own, so that a probe is answered while queries keep every
//! other thread busy.
//!
//! What components need for being served is here too, once: [`Registrar`] for their metrics,
//! [`Gate`] in front of what must not be done too often at once, [`Task`] for work that ends when
//! its owner is dropped.
//!
//! Whoever connects may be slow or hostile: [`Patience`] says how long a listener waits for heads,
//! bodies, and clients that do not read. After that a connection holds nothing any more.

mod address;
mod component;
pub mod compression;
mod conn;
mod error;
mod files;
mod gate;
mod grpc;
mod http;
pub mod logs;
mod metrics;
mod patience;
mod peer;
mod received;
mod registrar;
mod reload;
mod server;
mod shutdown;
mod task;
mod tls;

pub use component::{Component, Failure, Served, Services};
pub use error::{Error, Kind, Result};
pub use files::raise_open_files;
pub use gate::{Gate, GateMetrics, Pass};
pub use grpc::MAX_REQUEST_BYTES;
pub use http::not_found;
pub use metrics::{Allocated, BuildInfo, go_metrics, registry};
pub use patience::Patience;
pub use registrar::{GATE_SECONDS, Registrar, SECONDS, exponential};
pub use reload::{ReadFile, Reloader};
pub use server::{GrpcSettings, HttpSettings, Server, Settings};
pub use shutdown::Shutdown;
pub use task::Task;
pub use tls::{ClientAuth, Pem, ServerTls, TlsChoice, TlsVersion, certificates};
