//! Protobuf messages and gRPC services of Thanos' APIs and of Prometheus' remote read, with
//! conversions to the model's types.
//!
//! The messages are generated from `proto/` at build time. What they mean (ordering, limits,
//! partial answers) belongs to `storeapi` and the components; this is only about the bytes. Label
//! names and values are bytes, not UTF-8. Times are milliseconds since the epoch, ranges on the
//! wire are closed.

mod aggr_chunk;
mod chunk;
mod codec;
mod error;
mod histogram;
mod labels;
mod matcher;
#[cfg(test)]
mod private_fields;
pub mod remote_read;

pub use aggr_chunk::{AggrChunk, WindowChunks};
pub use chunk::{
    prometheus_encoding, prometheus_encoding_from_wire, thanos_encoding, thanos_encoding_from_wire,
};
pub use codec::{BoundedCodec, BoundedDecoder};
pub use error::{Error, Kind, Result};
pub use histogram::{NativeHistogram, histogram_from_wire};
pub use labels::{
    LabelMessage, label_set, labels_from_set, labels_from_wire, labels_to_wire, text,
};
pub use matcher::{WireMatcher, matcher_from_wire, matchers_from_wire, matchers_to_wire};

/// Thanos' gRPC APIs.
#[allow(missing_docs, unreachable_pub, clippy::all, reason = "generated")]
pub mod thanos {
    tonic::include_proto!("thanos");

    /// What an endpoint offers.
    pub mod info {
        tonic::include_proto!("thanos.info");
    }
}

/// Prometheus' samples under the package name Thanos' Query API uses.
#[allow(missing_docs, unreachable_pub, clippy::all, reason = "generated")]
pub mod prometheus_copy {
    tonic::include_proto!("prometheus_copy");
}

/// Prometheus' remote read.
#[allow(missing_docs, unreachable_pub, clippy::all, reason = "generated")]
pub mod prometheus {
    tonic::include_proto!("prometheus");
}

/// The encoded `FileDescriptorSet` of everything here, for gRPC reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
