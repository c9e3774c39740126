//! StoreAPI on domain types: the [`Store`] trait, its gRPC client and server, the fan-out over many
//! stores, and the conformance suite that every implementation passes.
//!
//! What it is not: no generated type crosses [`Store`]; the wire stays in `client`, `server` and
//! `info`. No samples are decoded here: chunks pass through as bytes. Times are milliseconds,
//! ranges half-open.

pub mod client;
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
mod convert;
mod coverage;
mod error;
mod external;
pub mod fanout;
mod gated;
pub mod info;
mod limit;
mod request;
mod served;
pub mod server;
mod sort;
mod spans;
mod store;
#[cfg(test)]
mod testing;

pub use coverage::Coverage;
pub use error::{Error, Kind, Result};
pub use external::{any_series, label_sets_match, match_external};
pub use gated::GatedLabels;
pub use limit::{Limited, SeriesLimits};
/// What frames are made of.
pub use merge::{ChunkBytes, ChunkContent, Series, SeriesChunk};
pub use request::{
    AggregateKind, LabelNamesRequest, LabelValuesRequest, PartialResponse, SeriesRequest, Shard,
};
pub use served::ServedCoarse;
pub use sort::{Carried, Incoming, LabelChange, ResortByRun};
pub use spans::Spans;
pub use store::{
    ComponentType, Frame, FrameStream, Metadata, Store, StoreInfo, TsdbInfo, text_weight,
};
