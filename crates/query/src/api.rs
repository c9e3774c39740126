//! Prometheus' HTTP API with Thanos' parameters.

mod error;
mod metadata;
mod options;
mod parse;
mod query;
mod statistics;
mod status;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::response::Redirect;
use axum::routing::get;
use engine::{Answer, Engine, Error, ExplainedOperator, Query};
use futures::FutureExt;
use futures::future::BoxFuture;
use http_api::{ApiError, Cors, normal_prefix, with_layers};
use model::{Clock, TimestampMs};
use promql::ast::Expr;
use serve::{Gate, Pass};
use storeapi::fanout::Fanout;

use crate::endpoints::EndpointSet;
use crate::metrics::Metrics;
use crate::settings::Settings;

/// The release of Thanos whose API this is.
const THANOS_VERSION: &str = "0.42.0";

type Evaluating<T> = BoxFuture<'static, Result<T, Error>>;
type RunQuery = Box<dyn Fn(Query) -> Evaluating<Answer> + Send + Sync>;
type ExplainQuery = Box<dyn Fn(Query) -> Evaluating<Vec<ExplainedOperator>> + Send + Sync>;
/// What is said of a syntax tree, unless it is too much.
type SyntaxReader = fn(&Expr) -> Option<Vec<u8>>;
type ReadSyntax = Box<dyn Fn(String, SyntaxReader) -> Evaluating<Option<Vec<u8>>> + Send + Sync>;

/// What is done with queries. Handlers neither parse them nor hold their trees and plans: those are
/// higher than the stacks that handlers run on.
pub(crate) struct Evaluation {
    pub(crate) run: RunQuery,
    pub(crate) explain: ExplainQuery,
    pub(crate) read_syntax: ReadSyntax,
}

impl Evaluation {
    /// An engine does it.
    pub(crate) fn by(engine: Arc<Engine>) -> Evaluation {
        let (planner, parser) = (Arc::clone(&engine), Arc::clone(&engine));
        Evaluation {
            run: Box::new(move |query| {
                let engine = Arc::clone(&engine);
                async move { engine.query(query).await }.boxed()
            }),
            explain: Box::new(move |query| {
                let engine = Arc::clone(&planner);
                async move { engine.explain(query).await }.boxed()
            }),
            read_syntax: Box::new(move |text, read| {
                let engine = Arc::clone(&parser);
                async move { engine.read_syntax(text, read).await }.boxed()
            }),
        }
    }
}

/// What the handlers share.
pub(crate) struct ApiState {
    pub(crate) settings: Settings,
    pub(crate) evaluation: Evaluation,
    pub(crate) fanout: Fanout,
    pub(crate) endpoints: Arc<EndpointSet>,
    pub(crate) gate: Gate,
    pub(crate) metrics: Metrics,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) started: TimestampMs,
}

impl fmt::Debug for ApiState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiState").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// When a query may begin.
struct Turn {
    /// The time it has left.
    timeout: Duration,
    pass: Option<Pass>,
}

impl ApiState {
    /// Waits for a place behind the gate, for at most the time that the query has.
    async fn enter(&self, timeout: Duration) -> Result<Turn, ApiError> {
        if timeout.is_zero() {
            return Err(ApiError::timeout("the query has no time: its timeout is below 1 ms"));
        }
        let came = self.clock.monotonic();
        let pass = tokio::select! {
            pass = self.gate.enter() => pass,
            () = self.clock.sleep(timeout) => {
                return Err(ApiError::timeout("query timed out in query queue"));
            }
        };
        let waited = self.clock.monotonic().saturating_sub(came);
        Ok(Turn { timeout: timeout.saturating_sub(waited), pass: Some(pass) })
    }

    /// Does the work in the time that its turn has.
    async fn in_turn<T>(
        &self,
        turn: Turn,
        work: impl Future<Output = Result<T, ApiError>>,
    ) -> Result<T, ApiError> {
        let Turn { timeout, pass: _pass } = turn;
        tokio::select! {
            done = work => done,
            () = self.clock.sleep(timeout) => {
                Err(ApiError::timeout(format!("not done after {:?}", self.settings.timeout)))
            }
        }
    }
}

/// All routes, under the prefix of the settings.
pub(crate) fn router(api: ApiState) -> Router {
    let web = api.settings.web.clone();
    let v1 = Router::new()
        .route("/query", get(query::instant).post(query::instant))
        .route("/query_range", get(query::range).post(query::range))
        .route("/query_explain", get(query::instant_explain).post(query::instant_explain))
        .route("/query_range_explain", get(query::range_explain).post(query::range_explain))
        .route("/format_query", get(parse::format).post(parse::format))
        .route("/parse_query", get(parse::tree).post(parse::tree))
        .route("/series", get(metadata::series).post(metadata::series))
        .route("/labels", get(metadata::labels).post(metadata::labels))
        .route("/label/{name}/values", get(metadata::label_values))
        .route("/query_exemplars", get(status::exemplars).post(status::exemplars))
        .route("/metadata", get(status::metric_metadata))
        .route("/rules", get(status::rules))
        .route("/alerts", get(status::alerts))
        .route("/targets", get(status::targets))
        .route("/stores", get(status::stores))
        .route("/status/buildinfo", get(status::build_info))
        .route("/status/flags", get(status::flags))
        .route("/status/runtimeinfo", get(status::runtime_info));
    let prefix = normal_prefix(&web.route_prefix);
    let home = format!("{prefix}/");
    let routes =
        Router::new().nest(&format!("{prefix}/api/v1"), v1).route(&home, get(status::landing));
    let routes = if prefix.is_empty() {
        routes
    } else {
        let redirect = async move || Redirect::to(&home);
        routes.route(&prefix, get(redirect.clone())).route("/", get(redirect))
    };
    let cors = if web.disable_cors { Cors::SameOrigin } else { Cors::Anyone };
    with_layers(routes, cors).with_state(Arc::new(api))
}

#[cfg(test)]
mod nesting;
#[cfg(test)]
mod tests;
