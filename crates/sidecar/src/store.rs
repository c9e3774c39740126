//! Prometheus as a [`Store`]: remote read with chunks passed through as bytes, metadata from its
//! HTTP API.

mod chunks;
mod read;
mod rechunk;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::{StreamExt, TryStreamExt, stream};
use model::error::in_one_line;
use model::{Budget, Labels, Matcher, TimeRange};
use storeapi::{
    ComponentType, Coverage, Error, Frame, FrameStream, Incoming, Kind, LabelChange,
    LabelNamesRequest, LabelValuesRequest, Metadata, ResortByRun, Result, SeriesRequest, Store,
    StoreInfo, TsdbInfo, any_series, match_external,
};
use upstream::{Held, PrometheusClient, RemoteRead};

use crate::error::of_store;
use crate::state::State;

/// Series per frame.
const FRAME_SERIES: usize = 64;

/// How long series wait for the names of all labels, without which they only come less early.
const NAMES_TIMEOUT: Duration = Duration::from_secs(10);

/// The data of one Prometheus.
#[derive(Clone, Debug)]
pub(crate) struct PrometheusStore {
    client: PrometheusClient,
    state: Arc<State>,
    budget: Budget,
}

impl PrometheusStore {
    /// Sorting and answers without frames are charged to `budget`.
    pub(crate) fn new(
        client: PrometheusClient,
        state: Arc<State>,
        budget: Budget,
    ) -> PrometheusStore {
        PrometheusStore { client, state, budget }
    }

    fn ready_labels(&self) -> Result<Labels> {
        let labels = self.state.external_labels();
        if labels.is_empty() {
            return Err(Error::new(
                Kind::Unavailable,
                "the external labels of Prometheus are not known yet",
            ));
        }
        Ok(labels)
    }

    /// The range without what is older than may be served.
    fn clamp(&self, range: TimeRange) -> TimeRange {
        TimeRange::new(range.start.max(self.state.min_time()), range.end)
    }

    /// Whether series of this range may carry labels that will be replaced or removed. Any doubt
    /// means yes: then runs of series are held back for sorting.
    async fn incoming(&self, change: &LabelChange, range: TimeRange) -> Incoming {
        let names = tokio::time::timeout(NAMES_TIMEOUT, self.client.label_names(&[], range, 0));
        let Ok(names) = names.await else { return Incoming::Any };
        match names {
            Ok(names) if !names.value.iter().any(|name| change.touches(name.as_bytes())) => {
                Incoming::Untouched
            }
            Ok(_) => Incoming::Any,
            Err(error) => {
                tracing::debug!(error = %in_one_line(&error), "label names of prometheus are not \
                    known");
                Incoming::Any
            }
        }
    }

    /// Labels only.
    async fn bare_series(
        &self,
        request: &SeriesRequest,
        matchers: &[Matcher],
        change: &LabelChange,
    ) -> Result<FrameStream> {
        let Held { value: mut sets, mut reservation } =
            self.client.series(matchers, request.range).await.map_err(of_store)?;
        let added: usize = change.overlay().as_packed().len();
        reservation.grow(sets.len() as u64 * added as u64).map_err(Error::from)?;
        sets.iter_mut().for_each(|labels| *labels = change.apply(labels));
        sets.sort_unstable();
        sets.dedup();
        if let Some(shard) = &request.shard {
            sets.retain(|labels| shard.holds(labels));
        }
        if request.limit > 0 {
            sets.truncate(usize::try_from(request.limit).unwrap_or(usize::MAX));
        }
        let bare =
            |labels: &Labels| storeapi::Series { labels: labels.clone(), chunks: Vec::new() };
        let frames = stream::unfold(
            (sets.into_iter(), reservation),
            move |(mut sets, reservation)| async move {
                let some: Vec<storeapi::Series> =
                    sets.by_ref().take(FRAME_SERIES).map(|l| bare(&l)).collect();
                (!some.is_empty()).then_some((Ok(Frame::Series(some)), (sets, reservation)))
            },
        );
        Ok(frames.boxed())
    }
}

#[async_trait]
impl Store for PrometheusStore {
    async fn info(&self) -> Result<StoreInfo> {
        let labels = self.ready_labels()?;
        if !self.state.is_ready() {
            return Err(Error::new(Kind::Unavailable, "Not ready: Prometheus does not answer"));
        }
        let range = TimeRange::new(self.state.min_time(), i64::MAX);
        Ok(StoreInfo {
            component: ComponentType::Sidecar,
            label_sets: vec![labels.clone()],
            range,
            supports_sharding: true,
            supports_without_replica_labels: true,
            tsdb_infos: vec![TsdbInfo::new(labels, range).with_coverage(Coverage::raw(range))],
        })
    }

    async fn series(&self, request: SeriesRequest) -> Result<FrameStream> {
        let external = self.ready_labels()?;
        if request.matchers.is_empty() {
            return Err(Error::new(Kind::Invalid, "no matchers specified"));
        }
        let Some(mut matchers) = match_external(&request.matchers, &external) else {
            return Ok(stream::empty().boxed());
        };
        if matchers.is_empty() {
            // Prometheus refuses selectors without matchers
            matchers.extend(any_series(request.skip_chunks));
        }
        let request = SeriesRequest { range: self.clamp(request.range), ..request };
        if request.range.is_empty() {
            return Ok(stream::empty().boxed());
        }
        let change = LabelChange::new(&external, &request.without_replica_labels);
        if request.skip_chunks {
            return self.bare_series(&request, &matchers, &change).await;
        }
        let read =
            async { self.client.remote_read(&matchers, request.range).await.map_err(of_store) };
        let (read, incoming) = futures::join!(read, self.incoming(&change, request.range));
        let name = self.client.name().to_owned();
        let named = move |e: Error| e.context(format_args!("reading from Prometheus {name}"));
        let source = match read? {
            RemoteRead::Chunked(body) => {
                read::RemoteSeries::frames(body, self.budget.reserve("a remote read"))
            }
            RemoteRead::Samples(body) => {
                let held = self.budget.reserve("a remote read without streaming");
                read::RemoteSeries::samples(body, held).await.map_err(&named)?
            }
        };
        let sorter =
            ResortByRun::new(change, incoming, self.budget.reserve("sorting series of Prometheus"));
        Ok(read::stream(source, sorter, external, &request).map_err(named).boxed())
    }

    async fn label_names(&self, request: LabelNamesRequest) -> Result<Metadata> {
        let external = self.ready_labels()?;
        let range = self.clamp(request.range);
        let Some(matchers) =
            match_external(&request.matchers, &external).filter(|_| !range.is_empty())
        else {
            return Ok(Metadata::default());
        };
        let Held { value: names, reservation: _held } =
            self.client.label_names(&matchers, range, 0).await.map_err(of_store)?;
        if names.is_empty() {
            return Ok(Metadata::default());
        }
        let own = external.iter().map(|(name, _)| String::from_utf8_lossy(name).into_owned());
        let all = names
            .into_iter()
            .chain(own)
            .filter(|name| !request.without_replica_labels.contains(name));
        Ok(limited(all.collect(), request.limit))
    }

    async fn label_values(&self, request: LabelValuesRequest) -> Result<Metadata> {
        if request.label.is_empty() {
            return Err(Error::new(Kind::Invalid, "label name parameter cannot be empty"));
        }
        let external = self.ready_labels()?;
        let range = self.clamp(request.range);
        let nothing = range.is_empty() || request.without_replica_labels.contains(&request.label);
        let Some(matchers) = match_external(&request.matchers, &external).filter(|_| !nothing)
        else {
            return Ok(Metadata::default());
        };
        if let Some(value) = external.get(&request.label) {
            // The only value, if there is any series.
            let names = self.client.label_names(&matchers, range, 1).await.map_err(of_store)?;
            let some = !names.value.is_empty();
            let value = some.then(|| String::from_utf8_lossy(value).into_owned());
            return Ok(limited(value.into_iter().collect(), request.limit));
        }
        let values =
            self.client.label_values(&request.label, &matchers, range, request.limit).await;
        let Held { value: values, reservation: _held } = values.map_err(of_store)?;
        Ok(limited(values.into_iter().filter(|v| !v.is_empty()).collect(), request.limit))
    }
}

fn limited(values: BTreeSet<String>, limit: u64) -> Metadata {
    let most = if limit == 0 { usize::MAX } else { usize::try_from(limit).unwrap_or(usize::MAX) };
    Metadata { values: values.into_iter().take(most).collect(), warnings: Vec::new() }
}

#[cfg(test)]
mod tests;
