//! One store over many: asks those that can hold a match, all at once, and merges what they stream.
//!
//! Nothing is buffered but a frame or two per endpoint: each endpoint is read by a task of its own,
//! the merge takes the smallest of the endpoints' next series, joins equal label sets and drops
//! identical chunks. An endpoint that fails, or does not come to an end (`guard`), is a warning that
//! names it, or the end of the request where partial answers are refused. Being short of memory ends
//! the request in any case. Which resolution answers for what time is decided once for all endpoints
//! (`plan`).

mod child;
mod guard;
mod joined;
mod metadata;
mod plan;
mod series;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use model::{Budget, Clock, Labels, Matcher, Resolution, TimeRange};

use self::plan::{EndpointPart, FanoutPlan, Wanted};
use crate::client::Channel;
use crate::info::Capabilities;
use crate::{
    ComponentType, Coverage, Error, Frame, FrameStream, Kind, LabelNamesRequest,
    LabelValuesRequest, Metadata, PartialResponse, Result, SeriesRequest, Store, StoreInfo,
    TsdbInfo, any_series, label_sets_match, match_external,
};

/// A process that can be asked, how it last described itself, and its name for warnings.
#[derive(Clone)]
pub struct Endpoint {
    pub address: String,
    /// Only asked where StoreAPI is among the capabilities.
    pub store: Arc<dyn Store>,
    pub info: StoreInfo,
    /// The services that it offers.
    pub capabilities: Capabilities,
    /// The connection, for clients of its other services; or why it is of no use now.
    pub channel: Result<Channel>,
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint")
            .field("address", &self.address)
            .field("info", &self.info)
            .field("capabilities", &self.capabilities)
            .finish_non_exhaustive()
    }
}

/// The endpoints that can be asked now, whatever they offer.
pub trait Endpoints: Send + Sync + 'static {
    fn endpoints(&self) -> Vec<Arc<Endpoint>>;

    /// What every answer has to say, because there may be endpoints beside these that are not
    /// known.
    fn missing(&self) -> Vec<String> {
        Vec::new()
    }
}

impl Endpoints for Vec<Arc<Endpoint>> {
    fn endpoints(&self) -> Vec<Arc<Endpoint>> {
        self.clone()
    }
}

/// How a fan-out behaves. What it holds of answers, to sort or to put them together, is charged to
/// `budget`, unless a request brings its own.
#[derive(Clone, Debug)]
pub struct FanoutSettings {
    /// An endpoint that sends nothing for this long is given up; zero = never.
    pub response_timeout: Duration,
    /// Labels of the fan-out itself, announced with every label set and matched before anyone is
    /// asked.
    pub selector_labels: Labels,
    pub budget: Budget,
}

impl Default for FanoutSettings {
    fn default() -> FanoutSettings {
        FanoutSettings {
            response_timeout: Duration::ZERO,
            selector_labels: Labels::empty(),
            budget: Budget::unlimited(),
        }
    }
}

/// How one caller narrows a fan-out.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    /// Only endpoints whose `__address__` satisfies one of these selectors; empty = all.
    pub store_matches: Vec<Vec<Matcher>>,
    /// Endpoints that are not done after this long are given up, so that the caller gets what the
    /// others sent.
    pub deadline: Option<Duration>,
}

/// Many stores as one.
#[derive(Clone)]
pub struct Fanout {
    endpoints: Arc<dyn Endpoints>,
    settings: Arc<FanoutSettings>,
    scope: Arc<Scope>,
    clock: Arc<dyn Clock>,
}

impl Fanout {
    pub fn new(
        endpoints: Arc<dyn Endpoints>,
        settings: FanoutSettings,
        clock: Arc<dyn Clock>,
    ) -> Fanout {
        Fanout { endpoints, settings: Arc::new(settings), scope: Arc::new(Scope::default()), clock }
    }

    /// The same fan-out for one caller.
    pub fn scoped(&self, scope: Scope) -> Fanout {
        Fanout { scope: Arc::new(scope), ..self.clone() }
    }

    /// The endpoints that offer StoreAPI.
    fn stores(&self) -> Vec<Arc<Endpoint>> {
        let mut endpoints = self.endpoints.endpoints();
        endpoints.retain(|endpoint| endpoint.capabilities.store);
        endpoints
    }

    /// Which endpoints to ask, and for what. `None`: the selector labels contradict the matchers.
    fn select(
        &self,
        matchers: &[Matcher],
        range: TimeRange,
        strategy: PartialResponse,
    ) -> Result<Option<Selected>> {
        let Some(matchers) = match_external(matchers, &self.settings.selector_labels) else {
            return Ok(None);
        };
        let all = self.stores();
        if all.is_empty() && strategy == PartialResponse::Abort {
            return Err(Error::new(Kind::Unavailable, "No StoreAPIs available"));
        }
        let may_answer = |e: &Arc<Endpoint>| {
            let address_wanted = self.scope.store_matches.is_empty()
                || self
                    .scope
                    .store_matches
                    .iter()
                    .any(|selector| address_matches(&e.address, selector));
            address_wanted
                && range.overlaps_closed(e.info.range.start, e.info.range.last())
                && label_sets_match(&e.info.label_sets, &matchers)
        };
        let chosen: Vec<_> = all.into_iter().filter(may_answer).collect();
        tracing::debug!(endpoints = chosen.len(), "selected endpoints");
        Ok(Some(Selected { matchers, endpoints: chosen }))
    }

    /// Where partial answers are refused, a warning would end the request.
    fn missing(&self, strategy: PartialResponse) -> Vec<Frame> {
        let frame = match strategy {
            PartialResponse::Warn => Frame::Warning,
            PartialResponse::Abort => Frame::Info,
        };
        self.endpoints.missing().into_iter().map(frame).collect()
    }

    fn gathering(&self, strategy: PartialResponse) -> metadata::Gathering {
        metadata::Gathering {
            patience: self.limits(),
            budget: self.settings.budget.clone(),
            strategy,
            missing: self.endpoints.missing(),
        }
    }

    fn limits(&self) -> child::Patience {
        child::Patience {
            clock: Arc::clone(&self.clock),
            silence: Some(self.settings.response_timeout).filter(|t| !t.is_zero()),
            deadline: self.scope.deadline,
        }
    }
}

/// The matchers left after the selector labels, and the endpoints that may hold matches.
struct Selected {
    matchers: Vec<Matcher>,
    endpoints: Vec<Arc<Endpoint>>,
}

/// What each endpoint is asked. Labels are the same at every resolution: a request for labels only
/// asks all endpoints for all of its range.
fn plan_of(endpoints: &[Arc<Endpoint>], request: &SeriesRequest) -> FanoutPlan {
    let fallback = request.fallback();
    if request.skip_chunks {
        let all = EndpointPart { range: request.range, coarser_within: fallback, keep: None };
        return FanoutPlan { parts: vec![Some(all); endpoints.len()], coarser: None };
    }
    let wanted = Wanted {
        range: request.range,
        coarsest: Resolution::coarsest_within(request.max_resolution_ms),
        fallback,
        matchers: &request.matchers,
        replica_labels: &request.without_replica_labels,
    };
    let infos: Vec<&StoreInfo> = endpoints.iter().map(|endpoint| &endpoint.info).collect();
    plan::plan(&infos, &wanted)
}

fn request_of(endpoint: &Endpoint, part: EndpointPart, request: &SeriesRequest) -> SeriesRequest {
    let mut matchers = request.matchers.clone();
    if matchers.is_empty() || refuses(&endpoint.info, &matchers) {
        matchers.extend(any_series(request.skip_chunks));
    }
    SeriesRequest {
        range: part.range,
        matchers,
        coarser_fallback: !part.coarser_within.is_empty(),
        coarser_within: part.coarser_within,
        // some of the series asked for may be dropped
        limit: if part.keep.is_some() { 0 } else { request.limit },
        ..request.clone()
    }
}

/// Whether an endpoint may refuse a request because external labels decide all matchers, as Thanos'
/// sidecars do. A store that reports its coverage does not.
fn refuses(info: &StoreInfo, matchers: &[Matcher]) -> bool {
    let decides =
        |labels: &Labels| matchers.iter().all(|matcher| labels.get(&matcher.name).is_some());
    info.tsdb_infos.iter().all(|tsdb| tsdb.coverage.is_none())
        && info.label_sets.iter().any(decides)
}

/// What a fan-out announces about the data behind an endpoint.
fn announced_above(component: ComponentType, info: &TsdbInfo, selector: &Labels) -> TsdbInfo {
    let own = selector.iter().map(|(name, _)| String::from_utf8_lossy(name).into_owned());
    let raw = || component.is_raw_alone().then(|| Coverage::raw(info.range));
    TsdbInfo {
        labels: info.labels.overlaid(selector),
        coverage: info.coverage.clone().or_else(raw),
        announced: info.announced.iter().cloned().chain(own).collect(),
        ..info.clone()
    }
}

fn address_matches(address: &str, selector: &[Matcher]) -> bool {
    selector.iter().all(|m| m.name != "__address__" || m.matches(address.as_bytes()))
}

#[async_trait]
impl Store for Fanout {
    /// The union of what the endpoints hold.
    async fn info(&self) -> Result<StoreInfo> {
        let endpoints = self.stores();
        let mut label_sets: Vec<Labels> =
            endpoints.iter().flat_map(|e| e.info.label_sets.clone()).collect();
        if endpoints.iter().any(|e| e.info.label_sets.is_empty()) {
            // A store that may hold anything; an empty set contradicts no matcher.
            label_sets.push(Labels::empty());
        }
        let selector = &self.settings.selector_labels;
        label_sets.iter_mut().for_each(|set| *set = set.overlaid(selector));
        if label_sets.is_empty() && !selector.is_empty() {
            label_sets.push(selector.clone());
        }
        label_sets.sort();
        label_sets.dedup();
        let ranges: Vec<TimeRange> =
            endpoints.iter().map(|e| e.info.range).filter(|r| !r.is_empty()).collect();
        let range = TimeRange::new(
            ranges.iter().map(|r| r.start).min().unwrap_or(i64::MIN),
            ranges.iter().map(|r| r.end).max().unwrap_or(i64::MAX),
        );
        let tsdb_infos = endpoints.iter().flat_map(|e| {
            let above = |info: &TsdbInfo| announced_above(e.info.component, info, selector);
            e.info.tsdb_infos.iter().map(above).collect::<Vec<_>>()
        });
        Ok(StoreInfo {
            component: ComponentType::Query,
            label_sets,
            range,
            supports_sharding: true,
            supports_without_replica_labels: true,
            tsdb_infos: tsdb_infos.collect(),
        })
    }

    async fn series(&self, request: SeriesRequest) -> Result<FrameStream> {
        if request.matchers.is_empty() {
            return Err(Error::new(Kind::Invalid, "no matchers specified"));
        }
        let selected = self.select(&request.matchers, request.range, request.partial_response)?;
        let Some(Selected { matchers, endpoints }) = selected else {
            return Ok(futures::stream::empty().boxed());
        };
        let (mut request, mut endpoints) = (SeriesRequest { matchers, ..request }, endpoints);
        let mut plan = plan_of(&endpoints, &request);
        if let Some(coarser) = plan.coarser {
            // the data beside a window, coarse or not, shows whether and how series continue inside
            // it
            request.range = coarser.with_neighbours(request.range);
            let reached =
                self.select(&request.matchers, request.range, request.partial_response)?;
            endpoints = reached.map_or(endpoints, |reached| reached.endpoints);
            plan = plan_of(&endpoints, &request);
        }
        let asked = endpoints
            .into_iter()
            .zip(plan.parts)
            .filter_map(|(endpoint, part)| Some((endpoint, part?)));
        let budget = request.memory.as_ref().unwrap_or(&self.settings.budget);
        let feeds = asked.map(|(endpoint, part)| {
            let keep = part.keep.clone();
            let request = request_of(&endpoint, part, &request);
            (child::Feed::open(endpoint, request, budget, self.limits()), keep)
        });
        let notes = self.missing(request.partial_response);
        Ok(series::merge(feeds.collect(), notes, &request))
    }

    async fn label_names(&self, request: LabelNamesRequest) -> Result<Metadata> {
        let selected = self.select(&request.matchers, request.range, request.partial_response)?;
        let Some(Selected { matchers, endpoints }) = selected else {
            return Ok(Metadata::default());
        };
        let limit = request.limit;
        let gathering = self.gathering(request.partial_response);
        let request = LabelNamesRequest { matchers, ..request };
        let ask = |endpoint: Arc<Endpoint>| {
            let request = request.clone();
            async move {
                let removed = request.without_replica_labels.clone();
                let mut answer = endpoint.store.label_names(request).await?;
                answer.values.retain(|name| !removed.contains(name));
                Ok(answer)
            }
        };
        let mut union = gathering.ask_all(endpoints, ask).await?;
        if !union.values.is_empty() {
            let own = self
                .settings
                .selector_labels
                .iter()
                .map(|(name, _)| String::from_utf8_lossy(name).into_owned());
            union.values.extend(own.filter(|name| !request.without_replica_labels.contains(name)));
        }
        Ok(metadata::finish(union, limit))
    }

    async fn label_values(&self, request: LabelValuesRequest) -> Result<Metadata> {
        if request.label.is_empty() {
            return Err(Error::new(Kind::Invalid, "label name parameter cannot be empty"));
        }
        if request.without_replica_labels.contains(&request.label) {
            return Ok(Metadata::default());
        }
        let selected = self.select(&request.matchers, request.range, request.partial_response)?;
        let Some(Selected { matchers, endpoints }) = selected else {
            return Ok(Metadata::default());
        };
        let limit = request.limit;
        let gathering = self.gathering(request.partial_response);
        let request = LabelValuesRequest { matchers, ..request };
        let ask = |endpoint: Arc<Endpoint>| {
            let request = request.clone();
            async move { endpoint.store.label_values(request).await }
        };
        let mut union = gathering.ask_all(endpoints, ask).await?;
        if let Some(own) = self.settings.selector_labels.get(&request.label)
            && !union.values.is_empty()
        {
            union.values = vec![String::from_utf8_lossy(own).into_owned()];
        }
        Ok(metadata::finish(union, limit))
    }
}

#[cfg(test)]
mod tests;
