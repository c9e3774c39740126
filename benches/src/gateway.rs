//! Queries through a store gateway over an object server with latency: `drumlin store`, or a peer
//! that takes the same flags, behind `drumlin query`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use object_store::local::LocalFileSystem;
use serde_json::json;
use testkit::{ObjectServer, ServerSettings};

use crate::engine::{Line, read_queries};
use crate::measure::{MemoryWatch, clock, seconds_since};
use crate::process::{ChildProcess, drumlin, free_port};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// A bucket of type FILESYSTEM
    #[arg(long)]
    bucket: PathBuf,
    /// The least time that every request to the bucket takes
    #[arg(long, default_value_t = 20)]
    latency_ms: u64,
    /// Lines `start end step query`, times in seconds
    #[arg(long)]
    queries: PathBuf,
    /// A binary whose `store` subcommand is measured instead of ours
    #[arg(long)]
    peer: Option<PathBuf>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(measure(args))
}

async fn measure(args: &Args) -> Result<()> {
    let settings = ServerSettings {
        latency: Duration::from_millis(args.latency_ms),
        ..ServerSettings::default()
    };
    let store = Arc::new(LocalFileSystem::new_with_prefix(&args.bucket)?);
    let server = ObjectServer::start(store, settings).await?;
    let client = reqwest::Client::new();
    let folder = tempfile::tempdir()?;
    let config = folder.path().join("objstore.yml");
    std::fs::write(&config, server.s3_config())?;

    let drumlin = drumlin()?;
    let gateway_binary = args.peer.clone().unwrap_or_else(|| drumlin.clone());
    let (grpc, http) = (free_port()?, free_port()?);
    let gateway_args = [
        "store".to_owned(),
        format!("--data-dir={}", folder.path().join("data").display()),
        format!("--objstore.config-file={}", config.display()),
        format!("--grpc-address=127.0.0.1:{grpc}"),
        format!("--http-address=127.0.0.1:{http}"),
    ];
    let mut gateway = ChildProcess::start(&gateway_binary, &gateway_args)?;
    gateway.wait_ready(&client, &format!("http://127.0.0.1:{http}/-/ready")).await?;
    let memory = MemoryWatch::of_pid(gateway.pid());

    let (query_grpc, query_http) = (free_port()?, free_port()?);
    let query_args = [
        "query".to_owned(),
        format!("--endpoint=127.0.0.1:{grpc}"),
        format!("--grpc-address=127.0.0.1:{query_grpc}"),
        format!("--http-address=127.0.0.1:{query_http}"),
    ];
    let mut querier = ChildProcess::start(&drumlin, &query_args)?;
    let url = format!("http://127.0.0.1:{query_http}");
    querier.wait_ready(&client, &format!("{url}/-/ready")).await?;

    for line in read_queries(&args.queries)? {
        for temperature in ["cold", "warm"] {
            server.reset_counts();
            let start = clock().monotonic();
            let bytes = ask(&client, &url, &line).await?;
            let (ms, counts) = (seconds_since(start) * 1e3, server.counts());
            let line = json!({
                "bench": "gateway", "gateway": gateway_binary.file_name().map(|n| n.to_string_lossy().into_owned()),
                "query": line.text, "cache": temperature, "latency_ms": args.latency_ms, "ms": ms,
                "gets": counts.gets, "requests": counts.requests, "bytes_read": counts.bytes_out,
                "answer_bytes": bytes, "peak_anon_mib": memory.peak_mib(),
            });
            println!("{line}");
        }
    }
    Ok(())
}

async fn ask(client: &reqwest::Client, url: &str, line: &Line) -> Result<usize> {
    let (start, end, step) = (line.start.to_string(), line.end.to_string(), line.step.to_string());
    let (path, times) = match line.step > 0.0 {
        true => ("query_range", vec![("start", start), ("end", end), ("step", step)]),
        false => ("query", vec![("time", end)]),
    };
    let mut request = reqwest::Url::parse(&format!("{url}/api/v1/{path}"))?;
    request.query_pairs_mut().append_pair("query", &line.text).extend_pairs(times);
    let response = client.get(request).send().await?;
    let status = response.status();
    let body = response.bytes().await?;
    ensure!(status.is_success(), "{}: {status}: {}", line.text, String::from_utf8_lossy(&body));
    let empty = body.windows(11).any(|w| w == b"\"result\":[]");
    ensure!(!empty, "{}: an empty answer measures nothing", line.text);
    Ok(body.len())
}
