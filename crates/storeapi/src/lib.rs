//! StoreAPI on domain types: the [`Store`] trait, its gRPC client and server, the fan-out over many stores, and the
//! conformance suite that every implementation passes.
//!
//! No generated type crosses [`Store`]; the wire stays in `client` and `server`.

mod error;
mod request;
mod store;

pub use error::{Error, Kind, Result};
pub use request::{AggregateKind, LabelNamesRequest, LabelValuesRequest, PartialResponse, SeriesRequest, Shard};
pub use store::{ComponentType, Frame, FrameStream, Metadata, Store, StoreInfo, TsdbInfo};
