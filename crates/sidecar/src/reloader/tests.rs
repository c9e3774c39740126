use std::sync::atomic::Ordering;

use model::Budget;
use prometheus::Registry;
use storeapi::conformance::Dataset;
use tempfile::TempDir;
use upstream::HttpClient;

use super::*;
use crate::testing::{FakePrometheus, clock};

fn environment() -> BTreeMap<String, String> {
    [("HOST".to_owned(), "a.example".to_owned())].into()
}

#[test]
fn variables_are_expanded_and_nothing_else() {
    let expanded =
        |text: &str| expand(text.as_bytes(), &environment()).map(|b| String::from_utf8(b).unwrap());
    assert_eq!(expanded("x: $(HOST):90, $(HOST)").unwrap(), "x: a.example:90, a.example");
    for kept in ["$HOST", "${HOST}", "$(", "$()", "$(9)", "$(no end", "$(a b)", "cost $1"] {
        assert_eq!(expanded(kept).unwrap(), kept);
    }
    assert_eq!(expanded("$(HOST) $(OTHER)").unwrap_err(), "OTHER");
}

struct Setting {
    dir: TempDir,
    fake: Arc<FakePrometheus>,
    reloader: Reloader,
}

async fn setting() -> Setting {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("in.yml"), "host: $(HOST)\n").unwrap();
    fs::create_dir_all(dir.path().join("rules/more")).unwrap();
    let fake = Arc::new(FakePrometheus::new(Dataset::default()));
    let url = Arc::clone(&fake).serve().await;
    let settings = ReloaderSettings {
        config_file: Some(dir.path().join("in.yml")),
        output_file: Some(dir.path().join("out.yml")),
        rule_dirs: vec![dir.path().join("rules")],
        environment: environment(),
        ..ReloaderSettings::default()
    };
    let client =
        PrometheusClient::new(&url, HttpClient::new("").unwrap(), Budget::unlimited()).unwrap();
    let reloader =
        Reloader::new(settings, client, clock(), ReloaderMetrics::new(&Registry::new()).unwrap());
    Setting { dir, fake, reloader }
}

#[tokio::test]
async fn prometheus_reloads_what_changed_and_only_then() {
    let Setting { dir, fake, mut reloader } = setting().await;
    let reloads = || fake.reloads.load(Ordering::Relaxed);
    reloader.apply().await.unwrap();
    assert_eq!(fs::read_to_string(dir.path().join("out.yml")).unwrap(), "host: a.example\n");
    reloader.apply().await.unwrap();
    assert_eq!(reloads(), 1);
    fs::write(dir.path().join("rules/more/a.yml"), "groups: []").unwrap();
    reloader.apply().await.unwrap();
    assert_eq!(reloads(), 2);
    fs::write(dir.path().join("in.yml"), "host: b\n").unwrap();
    reloader.apply().await.unwrap();
    reloader.apply().await.unwrap();
    assert_eq!(reloads(), 3);
}

#[tokio::test]
async fn a_reload_that_failed_is_due_again() {
    let Setting { dir: _dir, fake, mut reloader } = setting().await;
    fake.up.store(false, Ordering::Relaxed);
    assert_eq!(reloader.apply().await.unwrap_err().kind(), Kind::Unavailable);
    assert_eq!(reloader.metrics.last_reload_successful.get(), 0.0);
    fake.up.store(true, Ordering::Relaxed);
    reloader.apply().await.unwrap();
    assert_eq!(fake.reloads.load(Ordering::Relaxed), 1);
    assert_eq!(reloader.metrics.last_reload_successful.get(), 1.0);
}

#[tokio::test]
async fn what_cannot_be_expanded_is_named() {
    let Setting { dir, fake, mut reloader } = setting().await;
    fs::write(dir.path().join("in.yml"), "$(NOT_SET)").unwrap();
    let error = reloader.apply().await.unwrap_err().to_string();
    assert!(
        error.ends_with(r#"in.yml refers to the environment variable "NOT_SET", which is not set"#),
        "{error}"
    );
    assert!(!dir.path().join("out.yml").exists());
    assert_eq!(fake.reloads.load(Ordering::Relaxed), 0);
}
