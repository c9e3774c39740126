//! Nothing that is done with a query's text overflows a stack, whatever the stack of the thread
//! that serves the request, or takes longer than the text is long.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use engine::{Engine, EngineSettings};
use http::{Request, StatusCode};
use model::{Clock, SystemClock};
use promql::{MAX_DEPTH, MAX_NESTING, ParserOptions};
use tower::ServiceExt;

use super::Evaluation;
use super::tests::{Fixture, text};
use crate::Settings;

/// The stack of a worker of tokio, and a quarter of it.
const STACKS: [usize; 2] = [2 << 20, 512 << 10];

/// `before` so many times, `middle`, `after` so many times.
fn nested(before: &str, middle: &str, after: &str, times: usize) -> String {
    [&before.repeat(times), middle, &after.repeat(times)].concat()
}

/// Texts that nest as deep as the parser takes them, one of each kind, and the same shorter than
/// what is parsed on the thread of the caller.
fn texts() -> Vec<String> {
    // a chain is as high as it has operators, and what nests is read with an expression in each
    let (high, deep) = (MAX_DEPTH - 1, MAX_NESTING - 1);
    let kinds = |high: usize, deep: usize| {
        vec![
            nested("", "1", "+1", high),
            nested("", "up", "+up", high),
            nested("", "up", " or up", high),
            nested("up^", "up", "", deep),
            nested("(", "up", ")", deep),
            nested("-", "up", "", deep),
            nested("-(", "up", ")", deep / 2),
            nested("1+(", "up", ")", deep / 2),
            nested("abs(", "up", ")", deep),
            nested("sum(", "up", ")", deep),
            nested("label_replace(", "up", ",\"a\",\"$1\",\"b\",\"(.*)\")", deep),
            nested("max_over_time(", "up", "[1m:1m])", deep - 1),
            nested("(", &nested("", "up", "+up", high - deep), ")", deep - 1),
            format!("up[{}]", nested("", "1", "+1", high - 2)),
            format!("up offset {}", nested("-(", "step()", ")", deep / 2)),
        ]
    };
    let mut texts = kinds(high, deep);
    for times in 1..=128 {
        texts.extend(kinds(times + 2, times).into_iter().filter(|text| text.len() == 128));
    }
    texts
}

fn form(query: &str, parameters: &str) -> String {
    let encoded: String = query.bytes().map(|b| format!("%{b:02x}")).collect();
    format!("query={encoded}&{parameters}")
}

/// The API with an engine.
async fn api() -> Router {
    let language = ParserOptions::ALL;
    let engine = Engine::new(EngineSettings { threads: 1, language, ..EngineSettings::default() });
    let evaluation = Evaluation::by(Arc::new(engine));
    Fixture::with(Settings { language, ..Settings::default() }, evaluation).await
}

async fn ask(api: &Router, route: &str, form: String) -> (StatusCode, String) {
    let request = Request::post(format!("/api/v1/{route}"))
        .header("content-type", "application/x-www-form-urlencoded")
        .body(Body::from(form))
        .unwrap();
    text(api.clone().oneshot(request).await.unwrap()).await
}

/// Every route is asked about every text.
async fn ask_everything() {
    let api = api().await;
    for query in texts() {
        let mut routes = vec![
            ("query", "time=1"),
            ("query", "time=1&analyze=true"),
            ("query_explain", "time=1"),
            ("format_query", ""),
            ("parse_query", ""),
            ("query_exemplars", ""),
        ];
        if !query.starts_with("up[") {
            routes.push(("query_range", "start=1&end=2&step=1"));
            routes.push(("query_range_explain", "start=1&end=2&step=1"));
        }
        for (route, parameters) in routes {
            let (status, body) = ask(&api, route, form(&query, parameters)).await;
            let shown = &query[..query.len().min(40)];
            assert_eq!(status, StatusCode::OK, "{route} of {shown}…: {body:.200}");
        }
    }
}

#[test]
fn the_deepest_queries_are_answered_from_threads_with_little_stack() {
    for stack in STACKS {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_stack_size(stack)
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async { tokio::spawn(ask_everything()).await.unwrap() });
    }
}

/// A tree of as many nodes as the text has commas, 200 levels down: what copies it at every level
/// takes 200 times as long.
#[tokio::test]
async fn a_long_text_is_read_in_a_moment_however_it_nests() {
    let clock = SystemClock::new(|_| Box::pin(std::future::pending()));
    let call = format!("label_join(up,\"a\",\"b\"{})", ",\"c\"".repeat(30_000));
    let query = nested("(", &call, ")", MAX_NESTING - 3);
    let api = api().await;
    for route in ["parse_query", "format_query", "query_exemplars", "query_explain"] {
        let form = form(&query, "");
        let began = clock.monotonic();
        let (status, body) = ask(&api, route, form).await;
        let took = clock.monotonic() - began;
        assert_eq!(status, StatusCode::OK, "{route}: {body:.200}");
        println!("{route} of {} bytes: {} in {took:?}", query.len(), body.len());
        assert!(took < Duration::from_secs(5), "{route} took {took:?}");
    }
}

/// Texts that are answered with tens and hundreds of times as many bytes.
#[tokio::test]
async fn what_is_said_of_a_text_has_a_limit() {
    let api = api().await;
    let strings = |count: usize| format!("label_join(up,\"\",\"\"{})", ",\"\"".repeat(count));
    let indented = |count| nested("(", &nested("", &strings(count), "+up", 300), ")", 190);
    let numbers =
        |doublings| (0..doublings).fold("1+1".to_owned(), |half, _| format!("({half})+({half})"));
    for (route, short, long) in [
        ("format_query", indented(15_000), indented(300_000)),
        ("parse_query", numbers(12), numbers(16)),
    ] {
        let (status, body) = ask(&api, route, form(&short, "")).await;
        println!("{route} of {} bytes: {}", short.len(), body.len());
        assert!(status == StatusCode::OK && body.len() > 30 * short.len(), "{route}: {status}");
        let (status, body) = ask(&api, route, form(&long, "")).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{route} of {}", long.len());
        let text = "what can be said of it takes more than the limit of 16777216 bytes";
        assert!(body.contains(text), "{body:.200}");
    }
}
