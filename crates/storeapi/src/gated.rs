//! Calls for labels take their turn.

use std::sync::Arc;

use async_trait::async_trait;
use serve::Gate;

use crate::{
    FrameStream, LabelNamesRequest, LabelValuesRequest, Metadata, Result, SeriesRequest, Store,
    StoreInfo,
};

/// A store that is asked for names and values of labels only behind a gate.
#[derive(Clone)]
pub struct GatedLabels {
    inner: Arc<dyn Store>,
    gate: Gate,
}

impl GatedLabels {
    pub fn new(inner: Arc<dyn Store>, gate: Gate) -> GatedLabels {
        GatedLabels { inner, gate }
    }
}

#[async_trait]
impl Store for GatedLabels {
    async fn info(&self) -> Result<StoreInfo> {
        self.inner.info().await
    }

    async fn series(&self, request: SeriesRequest) -> Result<FrameStream> {
        self.inner.series(request).await
    }

    async fn label_names(&self, request: LabelNamesRequest) -> Result<Metadata> {
        let _pass = self.gate.enter().await;
        self.inner.label_names(request).await
    }

    async fn label_values(&self, request: LabelValuesRequest) -> Result<Metadata> {
        let _pass = self.gate.enter().await;
        self.inner.label_values(request).await
    }
}
