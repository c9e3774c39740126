//! The querier: finds endpoints, fans queries out to them, merges replicas, evaluates PromQL and
//! answers over Prometheus' HTTP API; over StoreAPI too, so that queriers stack.
//!
//! There is no storage and no evaluation here: series come from `storeapi`'s fan-out, over endpoints
//! and over a store in this process where one is handed in; answers from `engine`. Times are milliseconds inside and seconds in the HTTP API.

mod api;
mod endpoints;
mod error;
mod local;
mod metrics;
mod querier;
mod settings;
mod source;

pub use error::{Error, Kind, Result};
pub use local::LocalStore;
pub use promql::ParserOptions;
pub use querier::Querier;
pub use settings::{
    About, ConfigSource, EndpointSettings, EndpointSpec, EndpointTls, GrpcCompression, Settings,
    WebSettings,
};
