//! The client side: which servers exist, and how to ask them.
//!
//! Names and files become addresses ([`dns`], [`files`]); [`HttpClient`] shows the credentials of
//! its YAML configuration; [`PrometheusClient`] speaks Prometheus' HTTP API and remote read;
//! [`cache`] says what caches such as memcached have to do. Connections of gRPC are `storeapi`'s;
//! their configuration is read here too. Times are milliseconds.

pub mod cache;
mod config;
pub mod dns;
mod error;
pub mod files;
mod http;
mod prometheus;

pub use self::prometheus::{Body, Held, PrometheusClient, RemoteRead};
pub use config::{Section, TlsConfig};
pub use error::{Error, Kind, Result};
pub use http::HttpClient;
