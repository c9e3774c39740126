//! A store behind a gRPC connection: Thanos' `thanos.Store` and `thanos.info.Info`, or ours.
//!
//! The connection is made when it is first needed, and again after it breaks; a peer that is not
//! there is an error of the request, never of the constructor.

mod channel;
mod tls;
mod verifier;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::{StreamExt, stream};
use model::error::in_one_line;
/// How messages are compressed.
pub use serve::compression::Compression;
use tonic::transport::{Endpoint, Uri};
use wire::thanos as pb;
use wire::thanos::info::info_client::InfoClient;
use wire::thanos::store_client::StoreClient;

pub use channel::Channel;
pub use tls::TlsSettings;

use crate::convert;
use crate::info::{EndpointInfo, endpoint_info_from_wire};
use crate::{
    Error, Frame, FrameStream, Kind, LabelNamesRequest, LabelValuesRequest, Metadata,
    PartialResponse, Result, SeriesRequest, Store, StoreInfo,
};

/// Go peers allow messages up to 2 GiB; this bounds what one message may make us allocate.
pub const DEFAULT_MAX_MESSAGE_BYTES: usize = 1 << 30;

/// An endpoint that needs more than this to describe itself is not asked for anything else.
const MAX_INFO_BYTES: usize = 16 << 20;

/// How to reach a store.
#[derive(Clone, Debug)]
pub struct ClientSettings {
    /// `host:port`, without a scheme.
    pub address: String,
    pub tls: Option<TlsSettings>,
    /// Of requests, and of answers by those who can.
    pub compression: Option<Compression>,
    pub max_message_bytes: usize,
    pub connect_timeout: Duration,
}

impl ClientSettings {
    pub fn new(address: impl Into<String>) -> ClientSettings {
        ClientSettings {
            address: address.into(),
            tls: None,
            compression: None,
            max_message_bytes: DEFAULT_MAX_MESSAGE_BYTES,
            connect_timeout: Duration::from_secs(5),
        }
    }
}

/// A remote store.
#[derive(Clone, Debug)]
pub struct GrpcStore {
    address: Arc<str>,
    channel: Channel,
    max_message_bytes: usize,
}

impl GrpcStore {
    /// Must be called on a tokio runtime.
    ///
    /// # Errors
    /// `Invalid` for an address or TLS files that cannot be used.
    pub fn new(settings: &ClientSettings) -> Result<GrpcStore> {
        Ok(GrpcStore {
            address: Arc::from(settings.address.as_str()),
            channel: channel(settings)?,
            max_message_bytes: settings.max_message_bytes,
        })
    }

    pub fn address(&self) -> &str {
        &self.address
    }

    /// The connection, for the other services of the same endpoint.
    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// Everything the endpoint says it offers.
    ///
    /// # Errors
    /// `Unavailable` while it is not ready, or when it claims to hold more than anyone does;
    /// `Invalid` when it has no service `thanos.info.Info`: the call of `thanos.Store` that old
    /// versions of Thanos answered instead is not known here.
    pub async fn endpoint_info(&self) -> Result<EndpointInfo> {
        let most = self.max_message_bytes.min(MAX_INFO_BYTES);
        let mut client = InfoClient::new(self.channel()).max_decoding_message_size(most);
        let response = client.info(pb::info::InfoRequest {}).await?;
        endpoint_info_from_wire(response.into_inner())
            .map_err(|e| e.context(format_args!("endpoint {}", self.address)))
    }

    fn client(&self) -> StoreClient<Channel> {
        StoreClient::new(self.channel())
            .max_decoding_message_size(self.max_message_bytes)
            .max_encoding_message_size(self.max_message_bytes)
    }
}

/// A connection with keepalive and windows that suit long streams; made on first use.
///
/// # Errors
/// `Invalid` for an address or TLS files that cannot be used.
pub fn channel(settings: &ClientSettings) -> Result<Channel> {
    let address = &settings.address;
    let invalid =
        |e: http::uri::InvalidUri| Error::caused(Kind::Invalid, format!("endpoint {address}"), e);
    let named = |e: Error| e.context(format_args!("endpoint {address}"));
    let uri = Uri::try_from(format!("http://{address}")).map_err(invalid)?;
    let endpoint = Endpoint::from(uri)
        .connect_timeout(settings.connect_timeout)
        .tcp_nodelay(true)
        // Go servers refuse pings more often than every 10 seconds.
        .http2_keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(10))
        .keep_alive_while_idle(true)
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(16 << 20);
    let made = |connection| Channel {
        connection,
        compression: settings.compression,
        max_message_bytes: settings.max_message_bytes,
    };
    let Some(tls) = &settings.tls else { return Ok(made(endpoint.connect_lazy())) };
    let host = endpoint.uri().host().unwrap_or_default();
    let connector = tls::Connector::new(tls, host, settings.connect_timeout).map_err(named)?;
    // tonic has no part in TLS, so that it is not asked for it by the scheme
    let origin = Uri::try_from(format!("https://{address}")).map_err(invalid)?;
    Ok(made(endpoint.origin(origin).connect_with_connector_lazy(connector)))
}

#[async_trait]
impl Store for GrpcStore {
    async fn info(&self) -> Result<StoreInfo> {
        let info = self.endpoint_info().await?;
        info.capabilities.store.then_some(info.store).ok_or_else(|| {
            Error::new(Kind::Invalid, format!("endpoint {} offers no StoreAPI", self.address))
        })
    }

    async fn series(&self, request: SeriesRequest) -> Result<FrameStream> {
        let message = convert::series_request_to_wire(&request);
        let responses = self.client().series(message).await?.into_inner();
        let strategy = request.partial_response;
        let frames = responses.map(move |response| match response {
            Ok(response) => frames_from_wire(response, strategy),
            Err(status) => vec![Err(Error::from(status))],
        });
        Ok(frames.flat_map(stream::iter).boxed())
    }

    async fn label_names(&self, request: LabelNamesRequest) -> Result<Metadata> {
        let response =
            self.client().label_names(convert::names_request_to_wire(&request)).await?.into_inner();
        Ok(convert::metadata_from_wire(&response.names, &response.warnings))
    }

    async fn label_values(&self, request: LabelValuesRequest) -> Result<Metadata> {
        let response = self
            .client()
            .label_values(convert::values_request_to_wire(&request))
            .await?
            .into_inner();
        Ok(convert::metadata_from_wire(&response.values, &response.warnings))
    }
}

/// One message; a series with an unknown encoding is left out with a warning, or fails the request.
fn frames_from_wire(response: pb::SeriesResponse, strategy: PartialResponse) -> Vec<Result<Frame>> {
    use pb::series_response::Result as Part;
    let messages = match response.result {
        Some(Part::Series(series)) => vec![series],
        Some(Part::Batch(batch)) => batch.series,
        Some(Part::Warning(text)) => return vec![Ok(Frame::Warning(wire::text(&text)))],
        Some(Part::Info(text)) => return vec![Ok(Frame::Info(wire::text(&text)))],
        Some(Part::Hints(_)) | None => return Vec::new(),
    };
    let mut series = Vec::with_capacity(messages.len());
    let mut frames = Vec::with_capacity(1);
    for message in messages {
        match convert::series_from_wire(message) {
            Ok(one) => series.push(one),
            Err(error) if strategy == PartialResponse::Abort => return vec![Err(error)],
            Err(error) => {
                frames.push(Ok(Frame::Warning(format!("left out: {}", in_one_line(&error)))))
            }
        }
    }
    if !series.is_empty() {
        frames.push(Ok(Frame::Series(series)));
    }
    frames
}

#[cfg(test)]
mod tests;
