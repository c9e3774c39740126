//! Which endpoints there are, what they hold and whether they answer.
//!
//! Discovery turns the configuration (static addresses, DNS names, files) into addresses. The set
//! connects to each, asks it every few seconds to describe itself, and gives the healthy ones to
//! queries.

mod config;
mod discovery;
mod group;
mod measured_store;
mod set;
#[cfg(test)]
mod testing;

pub(crate) use discovery::Discovery;
pub(crate) use group::EndpointGroup;
pub(crate) use measured_store::MeasuredStore;
pub(crate) use set::{Connect, EndpointSet, EndpointStatus, Timeouts};

use async_trait::async_trait;
use storeapi::Store;
use storeapi::client::{Channel, GrpcStore, TlsSettings};
use storeapi::info::EndpointInfo;

use crate::settings::GrpcCompression;

/// A process at an address: its StoreAPI, and what it offers beside that.
#[async_trait]
pub(crate) trait Peer: Store {
    async fn endpoint_info(&self) -> storeapi::Result<EndpointInfo>;

    /// The connection, for clients of its other services; or why there is none.
    fn channel(&self) -> storeapi::Result<Channel>;
}

#[async_trait]
impl Peer for GrpcStore {
    async fn endpoint_info(&self) -> storeapi::Result<EndpointInfo> {
        GrpcStore::endpoint_info(self).await
    }

    fn channel(&self) -> storeapi::Result<Channel> {
        Ok(GrpcStore::channel(self))
    }
}

/// An endpoint to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ResolvedEndpoint {
    /// `host:port`, or the name of a group, or one that stands for no address.
    pub(crate) address: String,
    /// Each `host:port`: one, or those of a group, or none.
    pub(crate) servers: Vec<String>,
    pub(crate) strict: bool,
    pub(crate) tls: Option<TlsSettings>,
    pub(crate) compression: GrpcCompression,
}
