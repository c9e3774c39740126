//! The end-to-end tests, one binary. With the feature `peers` most of them run against real
//! Prometheus, Thanos and MinIO.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "tests report what they counted")]

mod dependencies;
mod edges;
mod errors;
mod inside;
mod resolutions;

#[cfg(feature = "peers")]
mod bad_input;
#[cfg(feature = "peers")]
mod command_lines;
#[cfg(feature = "peers")]
mod compactors;
#[cfg(feature = "peers")]
mod dashboards;
#[cfg(feature = "peers")]
mod elsewhere;
#[cfg(feature = "peers")]
mod end_to_end;
#[cfg(feature = "peers")]
mod fuzz;
#[cfg(feature = "peers")]
mod golden;
#[cfg(feature = "peers")]
mod harness;
#[cfg(feature = "peers")]
mod http_api;
#[cfg(feature = "peers")]
mod http_table;
#[cfg(feature = "peers")]
mod kills;
#[cfg(feature = "peers")]
mod metrics;
#[cfg(feature = "peers")]
mod mixed;
#[cfg(feature = "upgrade")]
mod upgrade;
