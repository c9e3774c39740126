//! A store gateway and a querier in front of it, as processes.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, bail, ensure};

use crate::engine::Line;
use crate::process::{ChildProcess, drumlin, free_port};

pub(crate) struct PairSettings {
    /// A binary whose `store` subcommand is started.
    pub(crate) gateway: PathBuf,
    pub(crate) objstore: PathBuf,
    /// Where the gateway keeps its files.
    pub(crate) data: PathBuf,
    /// The coarsest resolution that may answer.
    pub(crate) max_source_resolution: String,
    /// Further arguments of both.
    pub(crate) args: Vec<String>,
}

pub(crate) struct Pair {
    pub(crate) gateway: ChildProcess,
    pub(crate) querier: ChildProcess,
    client: reqwest::Client,
    url: String,
    /// The coarsest resolution that may answer.
    max_source_resolution: String,
}

impl Pair {
    /// Starts both and waits until they are ready.
    pub(crate) async fn start(settings: &PairSettings) -> Result<Pair> {
        let client = reqwest::Client::new();
        let (grpc, http) = (free_port()?, free_port()?);
        let mut gateway_args = vec![
            "store".to_owned(),
            format!("--data-dir={}", settings.data.display()),
            format!("--objstore.config-file={}", settings.objstore.display()),
            format!("--grpc-address=127.0.0.1:{grpc}"),
            format!("--http-address=127.0.0.1:{http}"),
        ];
        gateway_args.extend_from_slice(&settings.args);
        let mut gateway = ChildProcess::start(&settings.gateway, &gateway_args)?;
        gateway.wait_ready(&client, &format!("http://127.0.0.1:{http}/-/ready")).await?;
        let (query_grpc, query_http) = (free_port()?, free_port()?);
        let mut query_args = vec![
            "query".to_owned(),
            format!("--endpoint=127.0.0.1:{grpc}"),
            format!("--grpc-address=127.0.0.1:{query_grpc}"),
            format!("--http-address=127.0.0.1:{query_http}"),
        ];
        query_args.extend_from_slice(&settings.args);
        let mut querier = ChildProcess::start(&drumlin()?, &query_args)?;
        let url = format!("http://127.0.0.1:{query_http}");
        querier.wait_ready(&client, &format!("{url}/-/ready")).await?;
        let max_source_resolution = settings.max_source_resolution.clone();
        Ok(Pair { gateway, querier, client, url, max_source_resolution })
    }

    /// The answer, which must be a success and not empty.
    pub(crate) async fn ask(&self, line: &Line) -> Result<Vec<u8>> {
        let (start, end, step) =
            (line.start.to_string(), line.end.to_string(), line.step.to_string());
        let (path, times) = match line.step > 0.0 {
            true => ("query_range", vec![("start", start), ("end", end), ("step", step)]),
            false => ("query", vec![("time", end)]),
        };
        let mut request = reqwest::Url::parse(&format!("{}/api/v1/{path}", self.url))?;
        let most = [("max_source_resolution", &self.max_source_resolution)];
        let mut pairs = request.query_pairs_mut();
        pairs.append_pair("query", &line.text).extend_pairs(times).extend_pairs(most);
        drop(pairs);
        let response = self.client.get(request).send().await?;
        let status = response.status();
        let body = response.bytes().await?;
        ensure!(status.is_success(), "{}: {status}: {}", line.text, String::from_utf8_lossy(&body));
        let empty = body.windows(11).any(|w| w == b"\"result\":[]");
        ensure!(!empty, "{}: an empty answer measures nothing", line.text);
        Ok(body.into())
    }

    /// Waits until a query has an answer: the querier looks for stores every few seconds.
    pub(crate) async fn wait_for_answer(&self, line: &Line) -> Result<()> {
        for _ in 0..200 {
            match self.ask(line).await {
                Ok(_) => return Ok(()),
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
        bail!("{} has no answer", line.text)
    }
}

/// The file that names a bucket in a folder.
pub(crate) fn folder_config(bucket: &Path, file: &Path) -> Result<()> {
    let text = format!("type: FILESYSTEM\nconfig:\n  directory: {:?}\n", bucket.display());
    Ok(std::fs::write(file, text)?)
}
