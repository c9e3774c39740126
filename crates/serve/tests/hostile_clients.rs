//! Clients that send half of something, nothing, or do not read: what they hold is given back, and
//! nobody waits for them.

#![allow(clippy::disallowed_methods, reason = "real connections need real time")]

mod support;

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use model::Budget;
use serve::{Patience, Server};
use support::{Held, PROBE_LIMIT, PROBES, probe, short_patience, start};
use testkit::hostile::{HostileClient, Port, TEST_SERVER, clients};

/// The patience of these tests is a fraction of a second.
const GENEROUS: Duration = Duration::from_secs(20);

fn address(server: &Server, port: Port) -> SocketAddr {
    match port {
        Port::Http => server.http_addr(),
        Port::Grpc => server.grpc_addr().unwrap(),
    }
}

/// Runs all clients side by side, and returns those that were not closed.
fn attack(attacked: Vec<(HostileClient, SocketAddr)>) -> Vec<&'static str> {
    let running: Vec<_> = attacked
        .into_iter()
        .map(|(client, address)| {
            thread::spawn(move || {
                let stream = client.connect(address).unwrap();
                (client.name, client.is_closed_within(stream, GENEROUS))
            })
        })
        .collect();
    let ended = running.into_iter().map(|client| client.join().unwrap());
    ended.filter(|(_, closed)| !closed).map(|(name, _)| name).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn every_hostile_client_is_let_go_and_holds_nothing() {
    let held = Held::default();
    let server = start(short_patience(), Budget::unlimited(), &held).await;
    let http = server.http_addr();
    let attacked: Vec<_> =
        clients(&TEST_SERVER).into_iter().map(|c| (c.clone(), address(&server, c.port))).collect();
    let attacking = tokio::task::spawn_blocking(move || attack(attacked));
    let mut slowest = Duration::ZERO;
    while !attacking.is_finished() {
        for path in PROBES {
            slowest =
                slowest.max(tokio::task::spawn_blocking(move || probe(http, path)).await.unwrap());
        }
    }
    assert_eq!(attacking.await.unwrap(), Vec::<&str>::new(), "these are still connected");
    assert!(slowest < PROBE_LIMIT, "a probe took {slowest:?}");
    let start = Instant::now();
    while held.answers() > 0 && start.elapsed() < GENEROUS {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(held.answers(), 0, "answers that nobody reads");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn stopping_does_not_wait_for_those_who_have_not_asked_for_anything() {
    let server = start(Patience::default(), Budget::unlimited(), &Held::default()).await;
    let unfinished = clients(&TEST_SERVER).into_iter().filter(|client| !client.is_owed);
    let connected: Vec<_> =
        unfinished.map(|c| c.connect(address(&server, c.port)).unwrap()).collect();
    // all of them are past accepting once a later connection is answered
    let http = server.http_addr();
    tokio::task::spawn_blocking(move || probe(http, PROBES[0])).await.unwrap();
    let start = Instant::now();
    server.stop().await;
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    drop(connected);
}
