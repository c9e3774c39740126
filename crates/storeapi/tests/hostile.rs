//! What hostile peers do to a fan-out and to a server of StoreAPI, within memory and time. It is
//! alone in this binary, because it counts every allocation of the process.

#![allow(clippy::print_stdout, reason = "tests report what they counted")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use model::error::in_one_line;
use model::{Budget, MatchOp, Matcher, RequestCost, SystemClock, TimeRange};
use storeapi::client::{ClientSettings, GrpcStore, channel};
use storeapi::fanout::{Endpoint, Fanout, FanoutSettings, Scope};
use storeapi::info::Capabilities;
use storeapi::server::StoreService;
use storeapi::{
    Error, Frame, Kind, LabelNamesRequest, Metadata, PartialResponse, Result, SeriesRequest, Store,
};
use testkit::Allocations;
use testkit::hostile::{CALLS, HONEST, HostileCall, HostileStore, MustHold, STORES};
use tokio::net::TcpListener;
use tonic::Status;
use tonic::transport::server::TcpIncoming;
use wire::thanos as pb;
use wire::thanos::store_client::StoreClient;

#[global_allocator]
static ALLOCATIONS: Allocations = Allocations::new();

const MIB: usize = 1 << 20;

/// Much longer than any row takes, and much shorter than what never ends.
const LONG: Duration = Duration::from_secs(60);

/// A connection to a server, and how it describes itself.
async fn endpoint(server: HostileStore) -> Result<Arc<Endpoint>> {
    let address = server.serve().await.to_string();
    let store = GrpcStore::new(&ClientSettings::new(&address))?;
    let info = store.endpoint_info().await?.store;
    let (capabilities, channel) = (Capabilities::STORE, Ok(store.channel()));
    Ok(Arc::new(Endpoint { address, store: Arc::new(store), info, capabilities, channel }))
}

fn fanout(endpoints: Vec<Arc<Endpoint>>) -> Fanout {
    let settings =
        FanoutSettings { budget: Budget::new(64 * MIB as u64), ..FanoutSettings::default() };
    let clock = Arc::new(SystemClock::new(|span| Box::pin(tokio::time::sleep(span))));
    let scope = Scope { deadline: Some(LONG), ..Scope::default() };
    Fanout::new(Arc::new(endpoints), settings, clock).scoped(scope)
}

fn any() -> Vec<Matcher> {
    vec![Matcher::new(MatchOp::Regex, "__name__", ".+").unwrap()]
}

/// How many series there are of each region, and the warnings.
async fn answer(store: &dyn Store, strategy: PartialResponse) -> Result<(usize, Vec<String>)> {
    let request = SeriesRequest {
        partial_response: strategy,
        ..SeriesRequest::new(TimeRange::new(0, 10_000), any())
    };
    let mut frames = store.series(request).await?;
    let (mut honest, mut warnings) = (0, Vec::new());
    while let Some(frame) = frames.next().await {
        match frame? {
            Frame::Series(some) => {
                let is_honest = |s: &&storeapi::Series| s.labels.get("region") == Some(b"honest");
                honest += some.iter().filter(is_honest).count();
            }
            Frame::Warning(text) => warnings.push(text),
            Frame::Info(_) => {}
        }
    }
    Ok((honest, warnings))
}

async fn names(store: &dyn Store) -> Result<Metadata> {
    let request = LabelNamesRequest {
        range: TimeRange::new(0, 10_000),
        matchers: any(),
        partial_response: PartialResponse::Warn,
        without_replica_labels: Vec::new(),
        limit: 0,
    };
    store.label_names(request).await
}

fn line(error: &Error) -> String {
    in_one_line(error).to_string()
}

async fn check_store(row: HostileStore) {
    let name = row.name;
    let honest = endpoint(HONEST).await.unwrap();
    let hostile = match (endpoint(row).await, row.must_hold) {
        (Err(error), MustHold::NotAsked { reason }) => {
            let text = line(&error);
            assert!(text.contains(reason) && text.starts_with("endpoint 127."), "{name}: {text}");
            return;
        }
        (endpoint, _) => endpoint.unwrap(),
    };
    let address = hostile.address.clone();
    let store = fanout(vec![honest, hostile]);
    let (series, warnings) = answer(&store, PartialResponse::Warn).await.unwrap();
    assert_eq!(series, 10, "{name}: the honest store's series are whole");
    match row.must_hold {
        MustHold::OthersWhole { said, most_warnings } => {
            assert!(warnings.iter().any(|w| w.contains(said)), "{name}: {warnings:?}");
            assert!(warnings.len() <= most_warnings, "{name}: {} warnings", warnings.len());
            let names = names(&store).await.unwrap();
            assert_eq!(names.values, ["__name__", "job", "region"], "{name}");
            assert!(names.warnings.len() <= most_warnings, "{name}: {}", names.warnings.len());
        }
        MustHold::LabelsOverBudget => {
            let error = names(&store).await.unwrap_err();
            let text = line(&error);
            assert_eq!(error.kind(), Kind::Memory, "{name}: {text}");
            let expected = format!("receive labels from {address}: the labels of {address} needs");
            assert!(text.starts_with(&expected) && text.contains("67108864"), "{name}: {text}");
        }
        MustHold::OthersEvaluated { .. } => assert_eq!(warnings, [""; 0], "{name}"),
        MustHold::NotAsked { .. } => panic!("{name}: it described itself"),
    }
    if let Err(error) = answer(&store, PartialResponse::Abort).await {
        assert!(line(&error).contains(&address), "{name}: {}", line(&error));
    }
}

/// A server of StoreAPI over nothing: what is refused is refused before anything is looked up.
async fn served() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tonic::transport::Server::builder()
        .add_service(StoreService::serve(Arc::new(fanout(Vec::new()))))
        .serve_with_incoming(TcpIncoming::from(listener));
    tokio::spawn(server);
    address
}

async fn check_call(row: &HostileCall) {
    let settings = ClientSettings::new(served().await.to_string());
    let mut client = StoreClient::new(channel(&settings).unwrap());
    let message = (row.message)();
    let names = pb::LabelNamesRequest {
        matchers: message.matchers.clone(),
        without_replica_labels: message.without_replica_labels.clone(),
        ..pb::LabelNamesRequest::default()
    };
    let values = pb::LabelValuesRequest {
        label: "job".into(),
        matchers: message.matchers.clone(),
        without_replica_labels: message.without_replica_labels.clone(),
        ..pb::LabelValuesRequest::default()
    };
    let before = ALLOCATIONS.begin();
    let refused: [Status; 3] = [
        client.series(message).await.unwrap_err(),
        client.label_names(names).await.unwrap_err(),
        client.label_values(values).await.unwrap_err(),
    ];
    let taken = ALLOCATIONS.peak().saturating_sub(before) / MIB;
    for status in refused {
        use tonic::Code::{OutOfRange, ResourceExhausted};
        let (code, text) = (status.code(), status.message());
        assert!(matches!(code, ResourceExhausted | OutOfRange), "{}: {status}", row.name);
        // names and values of labels have other fields beside their matchers
        let refusal = row.refusal.trim_start_matches(|c: char| c.is_ascii_digit());
        assert!(text.contains(refusal), "{}: {text}", row.name);
    }
    println!("{}: {taken} MiB", row.name);
    assert!(taken <= 128, "{}: {taken} MiB", row.name);
}

/// Matches with as many matchers of this regex as one request may have; the MiB that this takes.
fn let_through(regex: &str) -> usize {
    let before = ALLOCATIONS.begin();
    let (mut cost, mut matchers) = (RequestCost::default(), Vec::new());
    while cost.charge(MatchOp::Regex, b"a", regex.as_bytes()).is_ok() {
        let matcher = Matcher::new(MatchOp::Regex, "a", regex).unwrap();
        matcher.matches(b"node-exporter-7f9c");
        matchers.push(matcher);
    }
    let taken = ALLOCATIONS.peak().saturating_sub(before) / MIB;
    println!("{} matchers {regex}: {taken} MiB", matchers.len());
    taken
}

/// Each row has a runtime of its own, which ends with every server in it.
fn run(work: impl Future<Output = ()>) {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(LONG, work).await.expect("an end in time") });
}

#[test]
fn hostile_peers_are_held_to_bounds() {
    for row in STORES {
        let before = ALLOCATIONS.begin();
        run(check_store(*row));
        let taken = ALLOCATIONS.peak().saturating_sub(before) / MIB;
        println!("{}: {taken} MiB", row.name);
        assert!(taken <= row.most_mib, "{} ({}): {taken} MiB", row.name, row.does);
    }
    for regex in [
        ".{999}|",
        r"\D{999}|x",
        "[^a]{900}b",
        r"\pL{200}",
        "(?i)[a-zé-ü]{90}",
        ".*a.*b.*",
        "(a|b|c){300}",
        "[a-c]{999}",
        ".+",
    ] {
        let taken = let_through(regex);
        assert!(taken <= 160, "{regex}: {taken} MiB");
    }
    for row in CALLS {
        run(check_call(row));
    }
}
