//! What hostile stores and callers do to a querier, within memory and time. It is alone in this
//! binary, because it counts every allocation of the process.

#![allow(clippy::print_stdout, reason = "tests report what they counted")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::Request;
use http_body_util::BodyExt;
use model::{Budget, SystemClock};
use prometheus::{Encoder, Registry, TextEncoder};
use query::{EndpointSettings, EndpointSpec, Querier, Settings};
use serde_json::{Value, json};
use serve::{Component, Served};
use testkit::Allocations;
use testkit::hostile::{FORMS, HONEST, HostileForm, HostileStore, MustHold, STORES, TALKATIVE};
use tower::ServiceExt;

#[global_allocator]
static ALLOCATIONS: Allocations = Allocations::new();

const MIB: usize = 1 << 20;

/// Much longer than any row takes, and much shorter than what never ends.
const LONG: Duration = Duration::from_secs(60);

struct TestQuerier {
    routes: Router,
    registry: Registry,
    budget: Budget,
}

impl TestQuerier {
    /// It has asked each of the stores once.
    async fn over(stores: &[SocketAddr]) -> TestQuerier {
        let budget = Budget::new(64 * MIB as u64);
        let spec =
            |a: &SocketAddr| EndpointSpec { address: a.to_string(), ..EndpointSpec::default() };
        let settings = Settings {
            endpoints: EndpointSettings {
                specs: stores.iter().map(spec).collect(),
                ..EndpointSettings::default()
            },
            engine_threads: 1,
            budget: budget.clone(),
            ..Settings::default()
        };
        let clock = Arc::new(SystemClock::new(|span| Box::pin(tokio::time::sleep(span))));
        let registry = Registry::new();
        let querier = Querier::new(settings, &registry, clock).unwrap();
        let Component { served, run } = querier.into_component();
        let Served { routes, mut ready, .. } = served;
        tokio::spawn(run);
        tokio::time::timeout(LONG, ready.wait_for(|ready| *ready)).await.unwrap().unwrap();
        TestQuerier { routes, registry, budget }
    }

    async fn post(&self, path: &str, body: String) -> (u16, Value) {
        let request = Request::post(format!("/api/v1/{path}"))
            .header("content-type", "application/x-www-form-urlencoded")
            .body(Body::from(body))
            .unwrap();
        self.send(request).await
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        self.send(Request::get(format!("/api/v1/{path}")).body(Body::empty()).unwrap()).await
    }

    async fn send(&self, request: Request<Body>) -> (u16, Value) {
        let answer = tokio::time::timeout(LONG, self.routes.clone().oneshot(request)).await;
        let response = answer.expect("an answer in time").unwrap();
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&body).unwrap())
    }

    fn metrics(&self) -> String {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text).unwrap();
        String::from_utf8(text).unwrap()
    }
}

fn warnings(body: &Value) -> Vec<&str> {
    let warnings = body["warnings"].as_array().into_iter().flatten();
    warnings.map(|w| w.as_str().unwrap()).collect()
}

async fn check_store(row: HostileStore) {
    let (name, hostile) = (row.name, row.serve().await);
    let querier = TestQuerier::over(&[HONEST.serve().await, hostile]).await;
    let (status, counted) = querier.get("query?query=count(up)&time=1").await;
    assert_eq!(status, 200, "{name}: {counted}");
    assert_eq!(counted["data"]["result"][0]["value"], json!([1, "10"]), "{name}: {counted}");
    let (status, series) = querier.get("series?match[]=up").await;
    assert_eq!(status, 200, "{name}: {series}");
    let is_honest = |labels: &&Value| labels["region"] == "honest";
    let found = series["data"].as_array().unwrap();
    assert_eq!(found.iter().filter(is_honest).count(), 10, "{name}: {series}");
    let (status, labels) = querier.get("labels").await;
    match row.must_hold {
        MustHold::OthersWhole { said, most_warnings } => {
            for answer in [&counted, &series] {
                let warnings = warnings(answer);
                assert!(warnings.iter().any(|w| w.contains(said)), "{name}: {warnings:?}");
                assert!(warnings.len() <= most_warnings, "{name}: {}", warnings.len());
            }
            assert_eq!(labels["data"], json!(["__name__", "job", "region"]), "{name}");
            assert!(warnings(&labels).len() <= most_warnings, "{name}");
        }
        MustHold::OthersEvaluated { said } => {
            let left_out = format!("left out: read a chunk from {hostile}: series {{");
            let warned = |w: &&str| w.starts_with(&left_out) && w.contains(said);
            assert_eq!(warnings(&counted).iter().filter(|w| warned(w)).count(), 1, "{name}");
            let (status, refused) =
                querier.get("query?query=count(up)&time=1&partial_response=false").await;
            let text = refused["error"].as_str().unwrap();
            assert!(status == 422 && text.contains(&hostile.to_string()), "{name}: {text}");
            assert!(text.contains(said), "{name}: {text}");
        }
        MustHold::LabelsOverBudget => {
            let text = labels["error"].as_str().unwrap();
            assert!(status == 422 && text.contains(&hostile.to_string()), "{name}: {text}");
            assert!(text.contains("limit"), "{name}: {text}");
        }
        MustHold::NotAsked { reason } => {
            let (_, stores) = querier.get("stores").await;
            assert!(stores.to_string().contains(reason), "{name}: its health says why");
            assert_eq!(labels["data"], json!(["__name__", "job", "region"]), "{name}");
        }
    }
    let metrics = querier.metrics();
    assert!(metrics.len() < 100_000, "{name}: {} bytes of metrics", metrics.len());
}

async fn check_form(row: &HostileForm, querier: &TestQuerier) {
    for path in row.paths {
        let (status, body) = querier.post(path, (row.body)()).await;
        let error = body["error"].as_str().unwrap_or_default();
        assert_eq!(status, row.status, "{} {path}: {error}", row.name);
        assert!(error.contains(row.says), "{} {path}: {error}", row.name);
    }
}

/// Long answers are held as what was charged, and let go of while they are sent, piece by piece.
async fn check_pieces(path: &str) {
    let querier = TestQuerier::over(&[TALKATIVE.serve().await]).await;
    let (before, charged) = (ALLOCATIONS.begin(), querier.budget.used());
    let request = Request::get(format!("/api/v1/{path}")).body(Body::empty()).unwrap();
    let response = querier.routes.clone().oneshot(request).await.unwrap();
    assert_eq!(response.status(), 200, "{path}");
    let held = ALLOCATIONS.begin().saturating_sub(before);
    let charged = (querier.budget.used() - charged) as usize;
    assert!(held <= charged + 2 * MIB, "{path}: {held} bytes are held, {charged} charged");
    let (mut body, mut sent, mut at_half) = (response.into_body(), 0, None);
    while let Some(frame) = body.frame().await {
        sent += frame.unwrap().data_ref().map_or(0, |data| data.len());
        if sent > 5 * MIB && at_half.is_none() {
            let more = ALLOCATIONS.peak().saturating_sub(before + held);
            assert!(more < MIB, "{path}: {more} bytes more while it is sent");
            at_half = Some(ALLOCATIONS.begin().saturating_sub(before));
        }
    }
    let at_half = at_half.expect("a long answer");
    println!(
        "{path}: {} KiB charged, {} KiB held, {} KiB when half is sent, {} KiB sent",
        charged >> 10,
        held >> 10,
        at_half >> 10,
        sent >> 10
    );
    assert!(at_half < held * 3 / 4, "{path}: {at_half} of {held} bytes are held");
}

/// The MiB that the work takes at most. Its runtime ends with it, and with that every server and
/// querier.
fn taken_by(work: impl Future<Output = ()>) -> usize {
    let before = ALLOCATIONS.begin();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(work);
    ALLOCATIONS.peak().saturating_sub(before) / MIB
}

#[test]
fn hostile_stores_and_callers_are_held_to_bounds() {
    for row in STORES {
        let taken = taken_by(check_store(*row));
        println!("{}: {taken} MiB", row.name);
        assert!(taken <= row.most_mib, "{} ({}): {taken} MiB", row.name, row.does);
    }
    for row in FORMS {
        let taken = taken_by(async {
            check_form(row, &TestQuerier::over(&[HONEST.serve().await]).await).await;
        });
        println!("{}: {taken} MiB", row.name);
        assert!(taken <= row.most_mib, "{} ({}): {taken} MiB", row.name, row.does);
    }
    for path in ["series?match[]=up", "labels", "label/long/values"] {
        taken_by(check_pieces(path));
    }
}
