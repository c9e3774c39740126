//! What runs while rows are run: a querier, what it asks, and an ordinary question with its answer.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use model::TimeRange;
use serde_json::Value;
use synthetic::{BLOCK_MS, Fleet, Settings};
use tempfile::TempDir;
use testkit::hostile::{
    AskedObject, AskedPrometheus, Body, HONEST, HostileAnswer, HostileBlock, HostileObject,
    HostilePrometheus, HostileServer, HostileStore,
};

use super::BUDGET_MIB;
use crate::measure::MemoryWatch;
use crate::pair::folder_config;
use crate::process::{ChildProcess, drumlin, free_port};

/// Hours of data in the bucket of the fleet.
const HOURS: i64 = 8;

/// The end of the fleet's data, in seconds.
pub(super) const FLEET_END: i64 = 1_767_225_600;

/// The end of the sound blocks beside a hostile one, in seconds.
pub(super) const BLOCKS_END: i64 = 12 * 3600;

pub(super) enum Scene {
    /// A gateway over eight hours of 10,000 series.
    Fleet,
    /// The same, whose processes may open few files.
    FewDescriptors,
    /// A gateway over sound blocks and this one.
    Block(HostileBlock),
    /// An honest store, and this one.
    Endpoint(HostileStore),
    /// An honest store, and a gateway over an object store that answers like this.
    Objects(HostileObject),
    /// An honest store, and a sidecar beside a Prometheus that answers like this.
    Prometheus(HostilePrometheus),
}

/// One process of the product.
pub(super) struct Process {
    pub(super) name: &'static str,
    pub(super) http: u16,
    pub(super) grpc: u16,
    pub(super) process: ChildProcess,
    pub(super) memory: MemoryWatch,
}

/// An ordinary question, asked under every attack.
struct Question {
    /// Below `/api/v1`.
    path: String,
    /// The only value of its result.
    value: String,
}

/// A scene that runs; it ends when this is dropped.
pub(super) struct Running {
    /// The querier is the last.
    pub(super) processes: Vec<Process>,
    pub(super) client: reqwest::Client,
    /// The file that names the bucket, if there is one.
    pub(super) bucket: PathBuf,
    question: Question,
    server: Option<HostileServer>,
    folder: TempDir,
    limited: bool,
}

impl Scene {
    pub(super) async fn start(&self) -> Result<Running> {
        let folder = tempfile::tempdir()?;
        let client = reqwest::Client::builder().timeout(Duration::from_secs(60)).build()?;
        let limited = matches!(self, Scene::FewDescriptors);
        let mut running = Running {
            processes: Vec::new(),
            client,
            bucket: folder.path().join("objstore.yml"),
            question: self.question(),
            server: None,
            folder,
            limited,
        };
        let mut endpoints = Vec::new();
        match self {
            Scene::Fleet | Scene::FewDescriptors => running.start_gateway(write_fleet).await?,
            Scene::Block(block) => running.start_gateway(|at| Ok(block.write(at)?)).await?,
            Scene::Endpoint(store) => endpoints.push(store.serve().await.to_string()),
            Scene::Objects(row) => running.start_gateway_over(row).await?,
            Scene::Prometheus(row) => running.start_sidecar(row).await?,
        }
        if !matches!(self, Scene::Fleet | Scene::FewDescriptors | Scene::Block(_)) {
            endpoints.push(HONEST.serve().await.to_string());
        }
        running.start_querier(endpoints).await?;
        running.answered_at_last().await?;
        Ok(running)
    }

    fn question(&self) -> Question {
        let hours = HOURS + 1;
        let (query, time, value) = match self {
            // the hour more is for samples of the first second
            Scene::Fleet | Scene::FewDescriptors => {
                let query = format!("sum(count_over_time(node_load1[{hours}h]))");
                (query, FLEET_END, (100 * HOURS * 60).to_string())
            }
            Scene::Block(_) => {
                // a sample a minute for two hours in each
                let sound = (HostileBlock::HOURS.len() - 1) * 120;
                ("sum(count_over_time(sound[13h]))".to_owned(), BLOCKS_END, sound.to_string())
            }
            Scene::Endpoint(_) | Scene::Objects(_) => ("count(up)".to_owned(), 1, "10".to_owned()),
            // that server is told apart by its external label
            Scene::Prometheus(_) => ("count(up{c!=\"a\"})".to_owned(), 1, "10".to_owned()),
        };
        Question { path: format!("query?query={query}&time={time}"), value }
    }
}

/// Eight hours of the fleet of 10,000 series, a sample a minute.
fn write_fleet(folder: &Path) -> Result<()> {
    let end = FLEET_END * 1000;
    let mut settings = Settings::bench(1, end - HOURS * BLOCK_MS / 2);
    settings.range = TimeRange::new(end - HOURS * BLOCK_MS / 2, end);
    settings.scrape_interval_ms = 60_000;
    let fleet = Fleet::new(settings)?;
    let replica = fleet.replicas().first().context("the fleet has no server")?;
    testkit::write_fleet(folder, &fleet, replica);
    Ok(())
}

impl Running {
    async fn start_gateway(&mut self, write: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
        let bucket = self.folder.path().join("bucket");
        std::fs::create_dir(&bucket)?;
        write(&bucket)?;
        folder_config(&bucket, &self.bucket)?;
        self.start_store().await?;
        // a querier that comes earlier looks again only after some seconds
        let client = self.client.clone();
        let store = self.processes.last_mut().context("the gateway has been started")?;
        let ready = format!("http://127.0.0.1:{}/-/ready", store.http);
        store.process.wait_ready(&client, &ready).await
    }

    async fn start_gateway_over(&mut self, row: &HostileObject) -> Result<()> {
        let (asked, answer) = (row.asked, row.answer.clone());
        let server = HostileServer::start(move |request| match asked {
            AskedObject::Whole | AskedObject::FirstTen if request.contains("list-type") => {
                one_block_listed()
            }
            _ => answer.clone(),
        });
        let server = server.await?;
        let config = format!(
            "type: S3\nconfig:\n  bucket: b\n  endpoint: {}\n  insecure: true\n  region: eu\n  \
             bucket_lookup_type: path\n  access_key: test\n  secret_key: test-secret\n",
            server.address()
        );
        std::fs::write(&self.bucket, config)?;
        self.server = Some(server);
        self.start_store().await
    }

    async fn start_store(&mut self) -> Result<()> {
        let args = vec![
            format!("--data-dir={}", self.folder.path().join("store").display()),
            format!("--objstore.config-file={}", self.bucket.display()),
            "--sync-block-duration=2s".to_owned(),
        ];
        self.start("store", args).await
    }

    async fn start_sidecar(&mut self, row: &HostilePrometheus) -> Result<()> {
        let (asked, answer) = (row.asked, row.answer.clone());
        let server = HostileServer::start(move |request| match honest_prometheus(request) {
            Some((what, _)) if what == asked => answer.clone(),
            Some((_, honest)) => honest,
            None => answer.clone(),
        });
        let server = server.await?;
        let args = vec![
            format!("--prometheus.url={}", server.url()),
            format!("--tsdb.path={}", self.folder.path().display()),
            "--prometheus.get_config_interval=1s".to_owned(),
        ];
        self.server = Some(server);
        self.start("sidecar", args).await
    }

    async fn start_querier(&mut self, endpoints: Vec<String>) -> Result<()> {
        let ours = self.processes.iter().map(|p| format!("127.0.0.1:{}", p.grpc));
        let flag = |address| format!("--endpoint={address}");
        self.start("query", ours.chain(endpoints).map(flag).collect()).await
    }

    async fn start(&mut self, name: &'static str, mut args: Vec<String>) -> Result<()> {
        let (http, grpc) = (free_port()?, free_port()?);
        args.insert(0, name.to_owned());
        args.extend([
            format!("--http-address=127.0.0.1:{http}"),
            format!("--grpc-address=127.0.0.1:{grpc}"),
            format!("--memory-budget={BUDGET_MIB}MiB"),
        ]);
        let mut program = drumlin()?;
        if self.limited {
            let limit = r#"ulimit -n 128; exec "$0" "$@""#.to_owned();
            args.splice(0..0, ["-c".to_owned(), limit, program.display().to_string()]);
            program = PathBuf::from("/bin/sh");
        }
        let mut process = ChildProcess::start(&program, &args)?;
        let healthy = format!("http://127.0.0.1:{http}/-/healthy");
        process.wait_ready(&self.client, &healthy).await?;
        let memory = MemoryWatch::of_pid(process.pid());
        self.processes.push(Process { name, http, grpc, process, memory });
        Ok(())
    }

    /// The port of the querier's HTTP API.
    pub(super) fn querier(&self) -> u16 {
        self.processes.last().map_or(0, |querier| querier.http)
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}/api/v1/{path}", self.querier())
    }

    pub(super) fn ports(&self) -> Vec<u16> {
        self.processes.iter().map(|p| p.http).collect()
    }

    /// Asks the ordinary question. `Ok(false)` when it was refused.
    ///
    /// # Errors
    /// When there is an answer that is wrong.
    pub(super) async fn ask_honestly(&self) -> Result<bool> {
        let Ok(response) = self.client.get(self.url(&self.question.path)).send().await else {
            return Ok(false);
        };
        let is_answer = response.status().is_success();
        let body = response.bytes().await.unwrap_or_default();
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        let result = &body["data"]["result"];
        // the endpoint is not known yet, or is known to be down
        let is_empty = result.as_array().is_none_or(Vec::is_empty);
        if !is_answer || is_empty {
            return Ok(false);
        }
        let value = result[0]["value"][1].as_str().unwrap_or_default();
        let Question { path, value: expected } = &self.question;
        ensure!(value == expected, "{path} has the answer {body}, expected {expected}");
        Ok(true)
    }

    /// Asks until there is an answer.
    pub(super) async fn answered_at_last(&self) -> Result<()> {
        for _ in 0..200 {
            if self.ask_honestly().await? {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        bail!("{} has no answer", self.question.path)
    }
}

fn one_block_listed() -> HostileAnswer {
    let id = HostileBlock::id();
    let text = format!(
        "<ListBucketResult><IsTruncated>false</IsTruncated><CommonPrefixes><Prefix>{id}/</Prefix>\
         </CommonPrefixes></ListBucketResult>"
    );
    HostileAnswer::new("", "200 OK", &[("content-type", "application/xml")])
        .with(Body::Whole(text.into()))
}

/// What a request is for, and what a Prometheus would answer.
fn honest_prometheus(request: &str) -> Option<(AskedPrometheus, HostileAnswer)> {
    use AskedPrometheus::{Configuration, LabelNames, LabelSets, LabelValues, Metrics};
    let ok = |body: String| HostileAnswer::new("", "200 OK", &[]).with(Body::Whole(body.into()));
    let json = |data: &str| ok(format!(r#"{{"status":"success","data":{data}}}"#));
    let path = request.split_whitespace().nth(1)?;
    match path.split('?').next()? {
        "/api/v1/status/config" => {
            Some((Configuration, json(r#"{"yaml":"global:\n  external_labels:\n    c: a\n"}"#)))
        }
        // nothing hostile is asked here
        "/api/v1/status/flags" => Some((AskedPrometheus::Series, json("{}"))),
        "/api/v1/status/buildinfo" => {
            Some((AskedPrometheus::Series, json(r#"{"version":"3.0.0"}"#)))
        }
        "/api/v1/labels" => Some((LabelNames, json(r#"["a"]"#))),
        "/api/v1/series" => Some((LabelSets, json("[]"))),
        path if path.starts_with("/api/v1/label/") => Some((LabelValues, json("[]"))),
        "/metrics" => Some((Metrics, ok("\n".to_owned()))),
        _ => None,
    }
}
