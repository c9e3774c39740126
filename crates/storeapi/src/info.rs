//! `thanos.info.Info`: what an endpoint offers.

use std::sync::Arc;

use model::{Labels, Resolution, TimeRange};
use tonic::{Request, Response, Status};
use wire::thanos::info as pb;
use wire::thanos::info::info_server::InfoServer;

use crate::convert::{spans_from_wire, spans_to_wire};
use crate::{ComponentType, Coverage, Error, Kind, Store, StoreInfo, TsdbInfo};

/// The most label sets, and stretches of data, of one endpoint. Fleets of a thousand Prometheus
/// servers have some thousands.
const MAX_LABEL_SETS: usize = 50_000;

/// The services an endpoint offers. One that its answer does not mention is not offered: a peer
/// from before there was such a service need not say so.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// StoreAPI. Which time it covers is in [`StoreInfo`].
    pub store: bool,
    pub rules: bool,
    pub metric_metadata: bool,
    pub targets: bool,
    /// The span of time exemplars are kept for; all of it where the endpoint does not say.
    pub exemplars: Option<TimeRange>,
    pub query: bool,
    pub status: bool,
}

impl Capabilities {
    /// StoreAPI and nothing beside it.
    pub const STORE: Capabilities = Capabilities {
        store: true,
        rules: false,
        metric_metadata: false,
        targets: false,
        exemplars: None,
        query: false,
        status: false,
    };
}

/// How an endpoint describes itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointInfo {
    /// The component, its labels and the data behind it. Without StoreAPI, as with a ruler that
    /// writes its series elsewhere, there is no data: an empty range.
    pub store: StoreInfo,
    pub capabilities: Capabilities,
}

/// Serves the info of a store. Fails until the store is ready, so that queriers leave it alone.
#[derive(Clone)]
pub struct InfoService {
    store: Arc<dyn Store>,
    capabilities: Capabilities,
}

impl InfoService {
    pub fn serve(store: Arc<dyn Store>, capabilities: Capabilities) -> InfoServer<InfoService> {
        InfoServer::new(InfoService { store, capabilities })
    }
}

#[tonic::async_trait]
impl pb::info_server::Info for InfoService {
    async fn info(
        &self,
        _request: Request<pb::InfoRequest>,
    ) -> Result<Response<pb::InfoResponse>, Status> {
        let store = self.store.info().await?;
        Ok(Response::new(info_to_wire(&store, &self.capabilities)))
    }
}

fn info_to_wire(store: &StoreInfo, capabilities: &Capabilities) -> pb::InfoResponse {
    let tsdb_info = |info: &TsdbInfo| pb::TsdbInfo {
        labels: Some(wire::label_set(&info.labels)),
        min_time: info.range.start,
        max_time: info.range.last(),
        coverage: info.coverage.as_ref().map(coverage_to_wire),
        announced_labels: info.announced.clone(),
    };
    pb::InfoResponse {
        label_sets: store.label_sets.iter().map(wire::label_set).collect(),
        component_type: store.component.as_str().to_owned(),
        store: capabilities.store.then(|| pb::StoreInfo {
            min_time: store.range.start,
            max_time: store.range.last(),
            supports_sharding: store.supports_sharding,
            supports_without_replica_labels: store.supports_without_replica_labels,
            tsdb_infos: store.tsdb_infos.iter().map(tsdb_info).collect(),
            supports_projections: false,
        }),
        rules: capabilities.rules.then_some(pb::RulesInfo {}),
        metric_metadata: capabilities.metric_metadata.then_some(pb::MetricMetadataInfo {}),
        targets: capabilities.targets.then_some(pb::TargetsInfo {}),
        exemplars: capabilities
            .exemplars
            .map(|r| pb::ExemplarsInfo { min_time: r.start, max_time: r.last() }),
        query: capabilities.query.then_some(pb::QueryApiInfo {}),
        status: capabilities.status.then_some(pb::StatusInfo {}),
    }
}

fn coverage_to_wire(coverage: &Coverage) -> pb::Coverage {
    let spans = |resolution| spans_to_wire(coverage.of(resolution));
    pb::Coverage {
        raw: spans(Resolution::Raw),
        five_minutes: spans(Resolution::FiveMinutes),
        one_hour: spans(Resolution::OneHour),
    }
}

fn coverage_from_wire(message: &pb::Coverage) -> Coverage {
    Coverage::default()
        .with(Resolution::Raw, spans_from_wire(&message.raw))
        .with(Resolution::FiveMinutes, spans_from_wire(&message.five_minutes))
        .with(Resolution::OneHour, spans_from_wire(&message.one_hour))
}

fn check_count(what: &str, count: usize) -> crate::Result<()> {
    if count <= MAX_LABEL_SETS {
        return Ok(());
    }
    let message =
        format!("it claims to hold {count} {what}, more than the limit of {MAX_LABEL_SETS}");
    Err(Error::new(Kind::Unavailable, message))
}

pub(crate) fn endpoint_info_from_wire(message: pb::InfoResponse) -> crate::Result<EndpointInfo> {
    check_count("label sets", message.label_sets.len())?;
    let stretches = message.store.as_ref().map_or(0, |store| store.tsdb_infos.len());
    check_count("stretches of data", stretches)?;
    let component = ComponentType::from_name(&message.component_type);
    let label_sets: Vec<Labels> =
        message.label_sets.iter().map(|set| wire::labels_from_set(Some(set))).collect();
    let tsdb_info = |info: &pb::TsdbInfo| TsdbInfo {
        labels: wire::labels_from_set(info.labels.as_ref()),
        range: TimeRange::from_closed(info.min_time, info.max_time),
        coverage: info.coverage.as_ref().map(coverage_from_wire),
        announced: info.announced_labels.clone(),
    };
    let capabilities = Capabilities {
        store: message.store.is_some(),
        rules: message.rules.is_some(),
        metric_metadata: message.metric_metadata.is_some(),
        targets: message.targets.is_some(),
        exemplars: message.exemplars.map(exemplars_from_wire),
        query: message.query.is_some(),
        status: message.status.is_some(),
    };
    let range = message.store.as_ref().map_or(TimeRange::new(0, 0), |store| {
        TimeRange::from_closed(store.min_time, store.max_time)
    });
    let store = message.store.unwrap_or_default();
    let store = StoreInfo {
        component,
        label_sets,
        range,
        supports_sharding: store.supports_sharding,
        supports_without_replica_labels: store.supports_without_replica_labels,
        tsdb_infos: store.tsdb_infos.iter().map(tsdb_info).collect(),
    };
    Ok(EndpointInfo { store, capabilities })
}

/// Thanos' components never fill the times in; two zeros are what is then read.
fn exemplars_from_wire(message: pb::ExemplarsInfo) -> TimeRange {
    match (message.min_time, message.max_time) {
        (0, 0) => TimeRange::ALL,
        (min, max) => TimeRange::from_closed(min, max),
    }
}

#[cfg(test)]
mod tests;
