//! A sidecar beside a Prometheus that is none. This is alone in its binary, because it counts every
//! allocation of the process.

#![allow(clippy::print_stdout, reason = "tests report what they counted")]

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use model::error::in_one_line;
use model::{Budget, Matcher, SystemClock, TimeRange};
use prometheus::Registry;
use serve::Task;
use sidecar::{Settings, Sidecar, SidecarParts};
use storeapi::{Kind, PartialResponse, Result, SeriesRequest, Store};
use testkit::Allocations;
use testkit::hostile::{AskedPrometheus, Body, HostileAnswer, HostileServer, prometheus};

#[global_allocator]
static ALLOCATIONS: Allocations = Allocations::new();

const MIB: usize = 1 << 20;
const BUDGET: usize = 64 * MIB;

/// What may be allocated besides: buffers of connections, and one piece of each answer.
const BESIDES: usize = 32 * MIB;

/// What a sidecar needs to hear before it serves anything.
fn greeting(request: &str) -> Option<HostileAnswer> {
    let json = |data: &str| {
        let text = format!(r#"{{"status":"success","data":{data}}}"#);
        let json = [("content-type", "application/json")];
        Some(HostileAnswer::new("", "200 OK", &json).with(Body::Whole(text.into())))
    };
    let path = request.split_whitespace().nth(1).unwrap_or_default();
    match path {
        "/api/v1/status/config" => json(r#"{"yaml":"global:\n  external_labels:\n    c: a\n"}"#),
        "/api/v1/status/flags" => json("{}"),
        "/api/v1/status/buildinfo" => json(r#"{"version":"3.0.0"}"#),
        path if path.starts_with("/api/v1/labels?") => json(r#"["a"]"#),
        "/metrics" => Some(HostileAnswer::new("", "200 OK", &[]).with(Body::Whole("\n".into()))),
        _ => None,
    }
}

/// The store of a sidecar that has met its Prometheus, and its work.
async fn sidecar(server: &HostileServer, budget: &Budget) -> (Arc<dyn Store>, Task<()>) {
    let settings = Settings { prometheus_url: server.url(), ..Settings::default() };
    let parts = SidecarParts {
        clock: Arc::new(SystemClock::new(|span| Box::pin(tokio::time::sleep(span)))),
        budget: budget.clone(),
        registry: Registry::new(),
        bucket: None,
    };
    let sidecar = Sidecar::new(settings, parts).unwrap();
    let (store, component) = (sidecar.store(), sidecar.into_component());
    let mut ready = component.served.ready;
    let work = component.run;
    let work = Task::spawn(async move { drop(work.await) });
    let met = ready.wait_for(|ready| *ready);
    tokio::time::timeout(Duration::from_secs(20), met).await.unwrap().unwrap();
    (store, work)
}

/// Reads all of an answer, and keeps nothing of it.
async fn read(store: &dyn Store) -> Result<()> {
    let request = SeriesRequest {
        partial_response: PartialResponse::Warn,
        ..SeriesRequest::new(TimeRange::new(0, 1000), vec![Matcher::equal("__name__", "up")])
    };
    let mut frames = store.series(request).await?;
    while let Some(frame) = frames.next().await {
        frame?;
    }
    Ok(())
}

#[tokio::test]
async fn series_of_a_hostile_prometheus_stay_within_the_budget() {
    let rows = prometheus().into_iter().filter(|row| row.asked == AskedPrometheus::Series);
    for row in rows {
        let (name, answer) = (row.answer.name, row.answer.clone());
        let server = HostileServer::start(move |request| {
            greeting(request).unwrap_or_else(|| answer.clone())
        })
        .await
        .unwrap();
        let budget = Budget::new(BUDGET as u64);
        let (store, _work) = sidecar(&server, &budget).await;
        let before = ALLOCATIONS.begin();
        let answered = read(&*store).await;
        let peak = ALLOCATIONS.peak() - before;
        println!(
            "{name}: {} MiB of memory, {} MiB charged",
            peak / MIB,
            budget.peak() as usize / MIB
        );
        assert!(peak <= BUDGET + BESIDES, "{name}: {} MiB", peak / MIB);
        let error = answered.unwrap_err();
        let shown = in_one_line(&error).to_string();
        // never a warning beside a part of the data
        assert!(matches!(error.kind(), Kind::Limit | Kind::Memory), "{name}: {shown}");
        assert!(shown.contains(row.fails_with.unwrap()), "{name}: {shown}");
        let address = server.address().to_string();
        assert!(shown.contains(&address), "{name} does not name {address}: {shown}");
    }
}
