//! The blocks of a bucket as a [`Store`].

use std::sync::{Arc, PoisonError, RwLock};

use async_trait::async_trait;
use futures::{StreamExt, stream};
use model::{Matcher, Resolution};
use serve::Gate;
use storeapi::{
    Error, Frame, FrameStream, Kind, LabelNamesRequest, LabelValuesRequest, Metadata,
    PartialResponse, Result, SeriesRequest, Store, StoreInfo,
};

use crate::choice::WantedData;
use crate::context::RequestContext;
use crate::metadata;
use crate::series::{answer, batch_series, prefetch};
use crate::served::ServedBlocks;
use crate::shared::GatewayShared;
use crate::source::SourcePlan;
use crate::warnings::Warnings;

/// What the last sync found; `None` before the first.
#[derive(Debug, Default)]
pub(crate) struct Current(RwLock<Option<Arc<ServedBlocks>>>);

impl Current {
    pub(crate) fn get(&self) -> Option<Arc<ServedBlocks>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Puts what a new sync found in place; returns the old one.
    pub(crate) fn replace(&self, served: ServedBlocks) -> Option<Arc<ServedBlocks>> {
        self.0.write().unwrap_or_else(PoisonError::into_inner).replace(Arc::new(served))
    }
}

#[derive(Debug)]
pub(crate) struct BucketStore {
    pub(crate) shared: Arc<GatewayShared>,
    pub(crate) current: Arc<Current>,
    pub(crate) gate: Gate,
}

impl BucketStore {
    fn served(&self) -> Result<Arc<ServedBlocks>> {
        let not_ready =
            || Error::new(Kind::Unavailable, "Not ready: the first sync of the bucket is not done");
        self.current.get().ok_or_else(not_ready)
    }

    /// Warnings about blocks that are not served; under `Abort` they end the request.
    fn unserved(
        served: &ServedBlocks,
        matchers: &[Matcher],
        wanted: &WantedData,
        strategy: PartialResponse,
    ) -> Result<Vec<Frame>> {
        let mut notes = Warnings::new(strategy);
        for warning in served.unserved_warnings(matchers, wanted) {
            notes.warn(warning.to_owned())?;
        }
        Ok(notes.take().into_iter().chain(notes.take_rest()).collect())
    }

    fn context(&self, strategy: PartialResponse) -> RequestContext {
        RequestContext::new(Arc::clone(&self.shared), strategy)
    }
}

#[async_trait]
impl Store for BucketStore {
    async fn info(&self) -> Result<StoreInfo> {
        Ok(self.served()?.info())
    }

    async fn series(&self, request: SeriesRequest) -> Result<FrameStream> {
        let served = self.served()?;
        let wanted = WantedData {
            range: request.range,
            coarsest: Resolution::coarsest_within(request.max_resolution_ms),
            fallback: request.fallback(),
        };
        let warnings =
            Self::unserved(&served, &request.matchers, &wanted, request.partial_response)?;
        let warnings = stream::iter(warnings.into_iter().map(Ok));
        let picks = served.pick(&request.matchers, &wanted);
        if picks.is_empty() {
            return Ok(warnings.boxed());
        }
        let pass = self.gate.enter().await;
        let context = self.context(request.partial_response).charging(request.memory.clone());
        let context = Arc::new(context);
        // A shard leaves out series, so a limit says little about how many must be read.
        let limit = if request.shard.is_some() { 0 } else { request.limit };
        let batch_series = batch_series(picks.len(), limit, &self.shared.budget);
        let prefetch = prefetch(picks.len());
        let plan = SourcePlan { batch_series, prefetch, request };
        let series = self.gate.clone().hold(pass, answer(picks, plan, context));
        Ok(warnings.chain(series).boxed())
    }

    async fn label_names(&self, request: LabelNamesRequest) -> Result<Metadata> {
        let _pass = self.gate.enter().await;
        let (served, context) = (self.served()?, self.context(request.partial_response));
        let wanted = metadata::everything(request.range);
        let warnings =
            Self::unserved(&served, &request.matchers, &wanted, request.partial_response)?;
        Ok(with_warnings(warnings, metadata::label_names(&served, request, &context).await?))
    }

    async fn label_values(&self, request: LabelValuesRequest) -> Result<Metadata> {
        if request.label.is_empty() {
            return Err(Error::new(Kind::Invalid, "label name parameter cannot be empty"));
        }
        let _pass = self.gate.enter().await;
        let (served, context) = (self.served()?, self.context(request.partial_response));
        let wanted = metadata::everything(request.range);
        let warnings =
            Self::unserved(&served, &request.matchers, &wanted, request.partial_response)?;
        Ok(with_warnings(warnings, metadata::label_values(&served, request, &context).await?))
    }
}

fn with_warnings(frames: Vec<Frame>, metadata: Metadata) -> Metadata {
    let mut warnings = metadata::texts(frames);
    warnings.extend(metadata.warnings);
    Metadata { warnings, ..metadata }
}
