//! The process next to one Prometheus: serves its recent data over StoreAPI and ships its finished
//! blocks.
//!
//! It holds no data of its own. Series are streamed from Prometheus' remote read with chunks passed
//! through as bytes; blocks are hard-linked out of the TSDB folder and uploaded once. It never runs
//! PromQL and changes nothing in the TSDB folder except `thanos/` and `thanos.shipper.json`. Times
//! are milliseconds.

mod error;
mod flags;
mod metrics;
mod reloader;
mod settings;
mod sidecar;
mod state;
mod store;
#[cfg(test)]
mod testing;

pub use error::{Error, Kind, Result};
pub use reloader::ReloaderSettings;
pub use settings::{MinTime, Settings};
pub use sidecar::{Sidecar, SidecarParts};
