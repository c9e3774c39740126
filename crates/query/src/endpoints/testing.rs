//! Peers in this process.

use async_trait::async_trait;
use storeapi::Store;
use storeapi::client::{Channel, ClientSettings, channel};
use storeapi::conformance::MemoryStore;
use storeapi::info::{Capabilities, EndpointInfo};

use super::Peer;

/// A connection that leads nowhere.
pub(crate) fn unconnected() -> Channel {
    channel(&ClientSettings::new("127.0.0.1:1")).unwrap()
}

#[async_trait]
impl Peer for MemoryStore {
    async fn endpoint_info(&self) -> storeapi::Result<EndpointInfo> {
        Ok(EndpointInfo { store: Store::info(self).await?, capabilities: Capabilities::STORE })
    }

    fn channel(&self) -> storeapi::Result<Channel> {
        Ok(unconnected())
    }
}
