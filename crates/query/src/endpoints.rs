//! Which endpoints there are, what they hold and whether they answer.
//!
//! Discovery turns the configuration (static addresses, DNS names, files) into addresses. The set
//! connects to each, asks it every few seconds to describe itself, and gives the healthy ones to
//! queries.

mod config;
mod discovery;
mod measured_store;
mod set;

pub(crate) use discovery::Discovery;
pub(crate) use measured_store::MeasuredStore;
pub(crate) use set::{Connect, EndpointSet, EndpointStatus, Timeouts};

use storeapi::client::TlsSettings;

/// An endpoint to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ResolvedEndpoint {
    /// `host:port`.
    pub(crate) address: String,
    pub(crate) strict: bool,
    pub(crate) tls: Option<TlsSettings>,
}
