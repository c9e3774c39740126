//! Answers of a Prometheus that is none. This is alone in its binary, because it counts every
//! allocation of the process.

#![allow(clippy::print_stdout, reason = "tests report what they counted")]

use model::error::in_one_line;
use model::{Budget, TimeRange};
use testkit::Allocations;
use testkit::hostile::{AskedPrometheus, HostileServer, prometheus};
use upstream::{HttpClient, Kind, PrometheusClient, Result};

#[global_allocator]
static ALLOCATIONS: Allocations = Allocations::new();

const MIB: usize = 1 << 20;
const BUDGET: usize = 64 * MIB;

/// What may be allocated besides: buffers of connections, and one piece of each answer.
const BESIDES: usize = 32 * MIB;

async fn ask(client: &PrometheusClient, asked: AskedPrometheus) -> Result<()> {
    let all = TimeRange::new(0, 1000);
    match asked {
        AskedPrometheus::Series => client.remote_read(&[], all).await.map(drop),
        AskedPrometheus::LabelSets => client.series(&[], all).await.map(drop),
        AskedPrometheus::LabelNames => client.label_names(&[], all, 0).await.map(drop),
        AskedPrometheus::LabelValues => client.label_values("a", &[], all, 0).await.map(drop),
        AskedPrometheus::Configuration => client.external_labels().await.map(drop),
        AskedPrometheus::Metrics => client.lowest_timestamp().await.map(drop),
    }
}

#[tokio::test]
async fn answers_of_a_hostile_prometheus_stay_within_the_budget() {
    // bodies of remote reads are read by whoever asked for them
    let rows = prometheus().into_iter().filter(|row| row.asked != AskedPrometheus::Series);
    for row in rows {
        let (name, answer) = (row.answer.name, row.answer.clone());
        let server = HostileServer::start(move |_| answer.clone()).await.unwrap();
        let budget = Budget::new(BUDGET as u64);
        let http = HttpClient::new("").unwrap();
        let client = PrometheusClient::new(&server.url(), http, budget.clone()).unwrap();
        let before = ALLOCATIONS.begin();
        let answered = ask(&client, row.asked).await;
        let peak = ALLOCATIONS.peak() - before;
        println!(
            "{name}: {} MiB of memory, {} MiB charged",
            peak / MIB,
            budget.peak() as usize / MIB
        );
        assert!(peak <= BUDGET + BESIDES, "{name}: {} MiB", peak / MIB);
        assert_eq!(budget.used(), 0, "{name}");
        match (answered, row.fails_with) {
            (Ok(()), None) => {}
            (Err(error), Some(text)) => {
                let shown = in_one_line(&error).to_string();
                assert!(matches!(error.kind(), Kind::Limit | Kind::Memory), "{name}: {shown}");
                assert!(shown.contains(text), "{name}: {shown}");
                let address = server.address().to_string();
                assert!(shown.contains(&address), "{name} does not name {address}: {shown}");
            }
            (answered, expected) => panic!("{name}: {answered:?}, expected {expected:?}"),
        }
    }
}
