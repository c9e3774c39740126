//! Queries through a store gateway over an object server with latency: `drumlin store`, or a peer
//! that takes the same flags, behind `drumlin query`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use object_store::local::LocalFileSystem;
use serde_json::json;
use testkit::{ObjectServer, ServerSettings};

use crate::engine::read_queries;
use crate::measure::{MemoryWatch, clock, seconds_since};
use crate::pair::{Pair, PairSettings};
use crate::process::drumlin;

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
    /// The coarsest resolution that may answer, such as 5m
    #[arg(long, default_value = "0s")]
    max_source_resolution: String,
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
    let folder = tempfile::tempdir()?;
    let objstore = folder.path().join("objstore.yml");
    std::fs::write(&objstore, server.s3_config())?;

    let gateway = args.peer.clone().map_or_else(drumlin, Ok)?;
    let settings = PairSettings {
        gateway: gateway.clone(),
        objstore,
        data: folder.path().join("data"),
        max_source_resolution: args.max_source_resolution.clone(),
        args: Vec::new(),
    };
    let pair = Pair::start(&settings).await?;
    let memory = MemoryWatch::of_pid(pair.gateway.pid());
    settled(&server).await;

    for line in read_queries(&args.queries)? {
        for temperature in ["cold", "warm"] {
            server.reset_counts();
            let start = clock().monotonic();
            let bytes = pair.ask(&line).await?.len();
            let (ms, counts) = (seconds_since(start) * 1e3, server.counts());
            let line = json!({
                "bench": "gateway", "gateway": gateway.file_name().map(|n| n.to_string_lossy().into_owned()),
                "query": line.text, "cache": temperature, "latency_ms": args.latency_ms, "ms": ms,
                "gets": counts.gets, "requests": counts.requests, "bytes_read": counts.bytes_out,
                "answer_bytes": bytes, "peak_anon_mib": memory.peak_mib(),
            });
            println!("{line}");
        }
    }
    Ok(())
}

/// Waits until the gateway opened its blocks, or at most ten seconds: a peer does so before it
/// answers.
async fn settled(server: &ObjectServer) {
    let mut before = server.counts().requests;
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let now = server.counts().requests;
        if now == before {
            return;
        }
        before = now;
    }
}
