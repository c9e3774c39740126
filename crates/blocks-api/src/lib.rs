//! `/api/v1/blocks` and `/api/v1/blocks/mark`, as Thanos' store gateway and compactor have them:
//! which blocks there are, and marks by hand.
//!
//! What it is not: nothing is listed or fetched for an answer; views are what the process that has
//! the API found at its last sync. Times are milliseconds inside and RFC 3339 in answers.

mod mark;
mod views;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::{get, post};
use block::sync::{Filter, Synced, SyncedBlock};
use block::{BlockLocation, Bucket};
use http_api::{ApiError, Cors, Params, with_layers};
use model::{BlockId, TimestampMs};

use mark::MarkOrder;
use views::View;

/// How the API behaves.
#[derive(Clone, Debug, Default)]
pub struct BlocksApiSettings {
    /// The external label by which block viewers group, as `--bucket-web-label` gives it.
    pub label: String,
    /// Marks may be set.
    pub admin_operations: bool,
}

/// The API. Cloning shares it.
#[derive(Clone, Debug)]
pub struct BlocksApi {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    bucket: Bucket,
    settings: BlocksApiSettings,
    views: Mutex<Views>,
}

#[derive(Debug, Default)]
struct Views {
    /// What the bucket held.
    global: View,
    /// What the process works with.
    loaded: View,
}

impl BlocksApi {
    pub fn new(bucket: Bucket, settings: BlocksApiSettings) -> BlocksApi {
        BlocksApi { shared: Arc::new(Shared { bucket, settings, views: Mutex::default() }) }
    }

    fn views(&self) -> MutexGuard<'_, Views> {
        self.shared.views.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A filter that leaves out nothing: put first, it sees what the bucket holds.
    pub fn watch(&self) -> impl Filter + use<> {
        Watch(self.clone())
    }

    /// Says what the process works with since now.
    pub fn set_loaded(&self, blocks: Vec<SyncedBlock>) {
        let now = self.now();
        self.views().loaded.replace(blocks, now);
    }

    /// Says that blocks could not be looked for; what was known stays in view.
    pub fn failed(&self, error: &str) {
        let now = self.now();
        let mut views = self.views();
        views.global.fail(error, now);
        views.loaded.fail(error, now);
    }

    fn now(&self) -> TimestampMs {
        self.shared.bucket.clock().now()
    }

    /// Where a block is: as the last sync found it, or in a folder of its own.
    fn location(&self, id: BlockId) -> BlockLocation {
        self.views().global.location(id).unwrap_or_else(|| BlockLocation::tsdb(id))
    }

    /// The API alone, for a process that has no other.
    pub fn router(&self) -> Router {
        with_layers(self.routes(), Cors::Anyone)
    }

    /// The routes, with their whole paths, to be put beside others.
    pub fn routes(&self) -> Router {
        Router::new()
            .route("/api/v1/blocks", get(blocks))
            .route("/api/v1/blocks/mark", post(mark_block))
            .with_state(self.clone())
    }
}

/// See [`BlocksApi::watch`].
#[derive(Debug)]
struct Watch(BlocksApi);

impl Filter for Watch {
    fn apply(&self, synced: &mut Synced, now: TimestampMs) {
        let found = synced.blocks.iter().chain(&synced.foreign).cloned().collect();
        self.0.views().global.replace(found, now);
    }
}

/// As in Thanos, every view but `loaded` is the global one.
async fn blocks(State(api): State<BlocksApi>, params: Params) -> Response {
    let views = api.views();
    let view = match params.get("view") {
        Some("loaded") => &views.loaded,
        _ => &views.global,
    };
    view.answer(&api.shared.settings.label)
}

async fn mark_block(State(api): State<BlocksApi>, params: Params) -> Result<Response, ApiError> {
    if !api.shared.settings.admin_operations {
        return Err(ApiError::bad_data(
            "Admin operations are disabled: ask a store gateway or compactor that runs without \
             --disable-admin-operations",
        ));
    }
    let order = MarkOrder::read(&params)?;
    order.carry_out(&api.shared.bucket, &api.location(order.id)).await
}

#[cfg(test)]
mod tests;
