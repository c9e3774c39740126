//! The endpoints known now, their health and how they describe themselves.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use futures::future::join_all;
use model::error::in_one_line;
use model::{Clock, Labels, TimeRange, TimestampMs};
use storeapi::fanout::{Endpoint, Endpoints};
use storeapi::info::{Capabilities, EndpointInfo};
use storeapi::{
    ComponentType, Error, FrameStream, Kind, LabelNamesRequest, LabelValuesRequest, Metadata,
    SeriesRequest, Store, StoreInfo,
};

use super::{Peer, ResolvedEndpoint};
use crate::metrics::Metrics;
use crate::settings::GrpcCompression;

/// The metric of connections has this much of an endpoint's label sets; Thanos cuts it there too.
const METRIC_LABELS_BYTES: usize = 1000;

/// Opens an endpoint; this is cheap because it connects lazily. `None` if it has no server.
pub(crate) type Connect =
    Box<dyn Fn(&ResolvedEndpoint) -> storeapi::Result<Option<Arc<dyn Peer>>> + Send + Sync>;

/// Why an endpoint without a server does not answer.
const NO_ADDRESS: &str = "its name stands for no address, so its data is missing";

const NO_ENDPOINTS: &str = "no endpoints are known, so there is no data: give --endpoint, \
    --endpoint.sd-config-file, --store.sd-files or --objstore.config-file";

#[derive(Clone, Debug, Default)]
struct Health {
    info: Option<EndpointInfo>,
    checked: Option<TimestampMs>,
    error: Option<String>,
    /// When it last answered, on the monotonic clock.
    answered: Option<Duration>,
}

struct Member {
    target: ResolvedEndpoint,
    /// `None` while its name stands for no address.
    peer: Option<Arc<dyn Peer>>,
    added: Duration,
    health: Mutex<Health>,
    /// A store in this process, which discovery knows nothing of.
    is_local: bool,
}

impl Member {
    fn health(&self) -> Health {
        self.health.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Opened anew, because its servers or settings changed: what it holds and since when it is
    /// known stay.
    fn succeeding(mut self, before: &Member) -> Member {
        self.added = before.added;
        *self.health.get_mut().unwrap_or_else(PoisonError::into_inner) = before.health();
        self
    }
}

/// What the stores page shows of an endpoint.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct EndpointStatus {
    pub(crate) address: String,
    pub(crate) component: ComponentType,
    pub(crate) checked: Option<TimestampMs>,
    pub(crate) error: Option<String>,
    pub(crate) label_sets: Vec<Labels>,
    pub(crate) range: TimeRange,
}

pub(crate) struct EndpointSet {
    endpoints: RwLock<BTreeMap<String, Arc<Member>>>,
    connect: Connect,
    info_timeout: Duration,
    unhealthy_timeout: Duration,
    metrics: Metrics,
    clock: Arc<dyn Clock>,
}

impl fmt::Debug for EndpointSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EndpointSet")
            .field("addresses", &self.read().keys())
            .finish_non_exhaustive()
    }
}

/// How long endpoints may take and stay; see the settings of the same names.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timeouts {
    pub(crate) info: Duration,
    pub(crate) unhealthy: Duration,
}

impl EndpointSet {
    pub(crate) fn new(
        connect: Connect,
        timeouts: Timeouts,
        metrics: Metrics,
        clock: Arc<dyn Clock>,
    ) -> EndpointSet {
        let Timeouts { info, unhealthy } = timeouts;
        EndpointSet {
            endpoints: RwLock::default(),
            connect,
            info_timeout: info,
            unhealthy_timeout: unhealthy,
            metrics,
            clock,
        }
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, BTreeMap<String, Arc<Member>>> {
        self.endpoints.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn poll_interval(&self) -> Duration {
        self.info_timeout
    }

    /// Makes the set hold exactly these; those that stay keep their connection and health. Returns
    /// whether any is new.
    pub(crate) fn update(&self, targets: Vec<ResolvedEndpoint>) -> bool {
        let mut any_new = false;
        let mut known = self.endpoints.write().unwrap_or_else(PoisonError::into_inner);
        let mut next: BTreeMap<_, _> = known.extract_if(.., |_, member| member.is_local).collect();
        for target in targets {
            let before = known.remove(&target.address);
            if let Some(endpoint) = before.as_ref().filter(|e| e.target == target) {
                next.insert(target.address, Arc::clone(endpoint));
                continue;
            }
            match (self.connect)(&target) {
                Ok(peer) => {
                    let servers = target.servers.join(",");
                    tracing::info!(endpoint = target.address, servers, "adding endpoint");
                    any_new = true;
                    let (added, address) = (self.clock.monotonic(), target.address.clone());
                    let health = Mutex::default();
                    let member = Member { target, peer, added, health, is_local: false };
                    let member = match before {
                        Some(before) => member.succeeding(&before),
                        None => member,
                    };
                    next.insert(address, Arc::new(member));
                }
                Err(error) => {
                    tracing::warn!(
                        endpoint = target.address,
                        error = %in_one_line(&error),
                        "open endpoint"
                    )
                }
            }
        }
        for address in known.keys().filter(|address| !next.contains_key(*address)) {
            tracing::info!(endpoint = address, "removing endpoint");
        }
        *known = next;
        any_new
    }

    /// Adds a store in this process. It stays, and is asked even when it does not answer.
    pub(crate) fn add_local(&self, name: &str, peer: Arc<dyn Peer>) {
        let target = ResolvedEndpoint {
            address: name.to_owned(),
            servers: Vec::new(),
            strict: true,
            tls: None,
            compression: GrpcCompression::None,
        };
        let (added, health) = (self.clock.monotonic(), Mutex::default());
        let member = Member { target, peer: Some(peer), added, health, is_local: true };
        let mut known = self.endpoints.write().unwrap_or_else(PoisonError::into_inner);
        known.insert(name.to_owned(), Arc::new(member));
    }

    /// Asks every endpoint to describe itself, all at once, each within the timeout.
    pub(crate) async fn poll(&self) {
        let endpoints: Vec<Arc<Member>> = self.read().values().cloned().collect();
        join_all(endpoints.iter().map(|endpoint| self.check(endpoint))).await;
        self.report();
    }

    async fn check(&self, endpoint: &Member) {
        let Some(peer) = &endpoint.peer else {
            endpoint.health.lock().unwrap_or_else(PoisonError::into_inner).error =
                Some(NO_ADDRESS.to_owned());
            return;
        };
        let late = || {
            let text = format!("no answer to info within {:?}", self.info_timeout);
            Err(Error::new(Kind::Timeout, text))
        };
        let answer = tokio::select! {
            answer = peer.endpoint_info() => answer,
            () = self.clock.sleep(self.info_timeout) => late(),
        };
        let address = &endpoint.target.address;
        let mut health = endpoint.health.lock().unwrap_or_else(PoisonError::into_inner);
        health.checked = Some(self.clock.now());
        match answer {
            Ok(info) => {
                if health.error.take().is_some() || health.info.is_none() {
                    let component = info.store.component;
                    tracing::info!(endpoint = address, %component, "endpoint is up");
                }
                health.answered = Some(self.clock.monotonic());
                health.info = Some(info);
            }
            Err(error) => {
                let text = explained(&error);
                if endpoint.is_local && health.answered.is_none() {
                    tracing::debug!(endpoint = address, error = text, "not ready yet");
                } else if health.error.is_none() {
                    tracing::warn!(endpoint = address, error = text, "endpoint is down");
                }
                health.error = Some(text);
            }
        }
    }

    /// Whether an endpoint that does not answer should be forgotten until it does.
    fn is_lost(&self, endpoint: &Member, health: &Health) -> bool {
        let since = health.answered.unwrap_or(endpoint.added);
        health.error.is_some()
            && self.clock.monotonic().saturating_sub(since) > self.unhealthy_timeout
    }

    fn report(&self) {
        let mut counts: HashMap<(String, &'static str), u32> = HashMap::new();
        for endpoint in self.read().values() {
            let health = endpoint.health();
            if let (Some(EndpointInfo { store: info, .. }), None) = (&health.info, &health.error) {
                let labels = metric_labels(&info.label_sets);
                *counts.entry((labels, info.component.as_str())).or_default() += 1;
            }
        }
        self.metrics.connections.reset();
        for ((labels, component), count) in counts {
            self.metrics
                .connections
                .with_label_values(&[labels.as_str(), component])
                .set(f64::from(count));
        }
    }

    pub(crate) fn statuses(&self) -> Vec<EndpointStatus> {
        let status = |(address, endpoint): (&String, &Arc<Member>)| {
            let health = endpoint.health();
            if !endpoint.target.strict && self.is_lost(endpoint, &health) {
                return None;
            }
            let EndpointInfo { store: info, capabilities } = health.info.unwrap_or_else(everything);
            Some(EndpointStatus {
                address: address.clone(),
                component: info.component,
                checked: health.checked,
                error: health.error,
                label_sets: info.label_sets,
                // as Thanos shows those that have no data
                range: if capabilities.store { info.range } else { TimeRange::ALL },
            })
        };
        self.read().iter().filter_map(status).collect()
    }
}

/// The error, and what is most likely behind it where the bytes were not those of gRPC.
fn explained(error: &Error) -> String {
    const NOT_GRPC: [&str; 3] = ["http2 error", "connection closed", "invalid compression flag"];
    let text = in_one_line(error).to_string();
    match NOT_GRPC.iter().any(|sign| text.contains(sign)) {
        true => format!("{text}; it may be an HTTP port, or a gRPC port that speaks TLS"),
        false => text,
    }
}

/// Label sets as the value of a metric's label.
fn metric_labels(label_sets: &[Labels]) -> String {
    let mut text = String::new();
    for (i, labels) in label_sets.iter().enumerate() {
        let comma = if i > 0 { "," } else { "" };
        text.push_str(&format!("{comma}{labels}"));
        if text.len() > METRIC_LABELS_BYTES {
            text.truncate(text.floor_char_boundary(METRIC_LABELS_BYTES));
            break;
        }
    }
    text
}

/// The endpoints a query must ask. One that described itself before and does not answer now is
/// among them: its data is missing from the answer, and the answer must say so. A strict one is
/// asked even if it never described itself, as if it held everything.
impl Endpoints for EndpointSet {
    fn endpoints(&self) -> Vec<Arc<Endpoint>> {
        let mut endpoints = Vec::new();
        for (address, member) in self.read().iter() {
            let health = member.health();
            let strict = member.target.strict;
            if !strict && (member.peer.is_none() || self.is_lost(member, &health)) {
                continue;
            }
            let info = match health.info {
                Some(info) => info,
                None if strict => everything(),
                None => continue,
            };
            let EndpointInfo { store: info, capabilities } = info;
            let address = address.clone();
            let endpoint = match &member.peer {
                Some(peer) if strict || health.error.is_none() => {
                    let (store, channel) = (Arc::clone(peer) as _, peer.channel());
                    Endpoint { address, store, info, capabilities, channel }
                }
                // others answer in its place, as far as they can
                _ => {
                    let reason = health.error.unwrap_or_else(|| NO_ADDRESS.to_owned());
                    let down = Down { info: info.clone(), reason };
                    let (channel, info) = (Err(down.error()), info.covering_nothing());
                    Endpoint { address, store: Arc::new(down), info, capabilities, channel }
                }
            };
            endpoints.push(Arc::new(endpoint));
        }
        endpoints
    }

    fn missing(&self) -> Vec<String> {
        let members = self.read();
        if members.is_empty() {
            return vec![NO_ENDPOINTS.to_owned()];
        }
        let unresolved = |(address, member): (&String, &Arc<Member>)| {
            let is_missing = member.peer.is_none() && !member.target.strict;
            is_missing.then(|| format!("endpoint {address}: {NO_ADDRESS}"))
        };
        let mut missing: Vec<String> = members.iter().filter_map(unresolved).collect();
        if members.values().all(|member| member.health().answered.is_none()) {
            let named = members.iter().find(|(_, member)| member.peer.is_some());
            missing.extend(named.map(|(address, member)| {
                let why = member.health().error.unwrap_or_else(|| "not asked yet".to_owned());
                format!("none of {} endpoints has answered yet; {address}: {why}", members.len())
            }));
        }
        missing
    }
}

/// Stands in for an endpoint that does not answer: it fails at once, so that not every query has to
/// find out again.
struct Down {
    info: StoreInfo,
    reason: String,
}

impl Down {
    fn error(&self) -> Error {
        Error::new(Kind::Unavailable, format!("endpoint is down: {}", self.reason))
    }
}

#[async_trait]
impl Store for Down {
    async fn info(&self) -> storeapi::Result<StoreInfo> {
        Ok(self.info.clone())
    }

    async fn series(&self, _: SeriesRequest) -> storeapi::Result<FrameStream> {
        Err(self.error())
    }

    async fn label_names(&self, _: LabelNamesRequest) -> storeapi::Result<Metadata> {
        Err(self.error())
    }

    async fn label_values(&self, _: LabelValuesRequest) -> storeapi::Result<Metadata> {
        Err(self.error())
    }
}

/// What an endpoint that has not described itself is assumed to hold and to offer.
fn everything() -> EndpointInfo {
    let store = StoreInfo {
        component: ComponentType::Unknown,
        label_sets: Vec::new(),
        range: TimeRange::ALL,
        supports_sharding: false,
        supports_without_replica_labels: false,
        tsdb_infos: Vec::new(),
    };
    EndpointInfo { store, capabilities: Capabilities::STORE }
}

#[cfg(test)]
mod tests;
