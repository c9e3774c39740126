//! The whole demo over a few days: every check holds.

use std::sync::Arc;

use demo::{Budgets, Settings};
use model::SystemClock;
use serve::{BuildInfo, Shutdown};

fn settings(days: u32) -> Settings {
    Settings {
        data_dir: None,
        days,
        seed: 1,
        check: true,
        prometheus_url: None,
        http_address: "127.0.0.1:0".into(),
        threads: 2,
        budgets: Budgets::unlimited(),
        build: BuildInfo { version: "0.0.0".into(), revision: String::new() },
    }
}

async fn run(settings: Settings) -> anyhow::Result<()> {
    let clock = Arc::new(SystemClock::new(|span| Box::pin(tokio::time::sleep(span))));
    demo::run(settings, clock, Shutdown::new()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_few_days_pass_every_check() {
    run(settings(6)).await.unwrap();
}

#[tokio::test]
async fn too_few_days_to_check_are_refused() {
    let error = run(settings(2)).await.unwrap_err();
    assert!(error.to_string().contains("--days"), "{error}");
}
