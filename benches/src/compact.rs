//! One run of `drumlin compact`, or of a peer that takes the same flags, over a copy of a bucket,
//! behind an object server or as a folder: what it took, what it read and wrote, and what it needed
//! locally and in memory.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Result;
use object_store::local::LocalFileSystem;
use serde_json::json;
use testkit::{ObjectServer, ServerSettings};

use crate::downsample::link_block;
use crate::measure::{MemoryWatch, Taken, clock, folder_bytes, seconds_since};
use crate::process::{ChildProcess, drumlin, free_port};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// A bucket of type FILESYSTEM; a linked copy of it is compacted
    #[arg(long)]
    bucket: PathBuf,
    /// A binary whose `compact` subcommand is measured instead of ours
    #[arg(long)]
    peer: Option<PathBuf>,
    /// Let the compactor use the folder itself, without an object server: nothing is counted then
    #[arg(long)]
    folder: bool,
    /// One more flag for `compact`, such as --flag=--downsampling.disable
    #[arg(long = "flag", allow_hyphen_values = true)]
    flags: Vec<String>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(measure(args))
}

async fn measure(args: &Args) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let copy = folder.path().join("bucket");
    link_block(&args.bucket, &copy)?;
    let store = Arc::new(LocalFileSystem::new_with_prefix(&copy)?);
    let server = ObjectServer::start(store, ServerSettings::default()).await?;
    let (config, data) = (folder.path().join("objstore.yml"), folder.path().join("data"));
    let folder_config = format!("type: FILESYSTEM\nconfig:\n  directory: {}\n", copy.display());
    std::fs::write(&config, if args.folder { folder_config } else { server.s3_config() })?;

    let binary = match &args.peer {
        Some(peer) => peer.clone(),
        None => drumlin()?,
    };
    let start = clock().monotonic();
    let mut compactor_args = vec![
        "compact".to_owned(),
        format!("--data-dir={}", data.display()),
        format!("--objstore.config-file={}", config.display()),
        "--consistency-delay=0s".to_owned(),
        format!("--http-address=127.0.0.1:{}", free_port()?),
    ];
    compactor_args.extend(args.flags.iter().cloned());
    let mut process = ChildProcess::start(&binary, &compactor_args)?;
    let memory = MemoryWatch::of_pid(process.pid());
    let disk = AtomicU64::new(0);
    let mut taken = Taken::default();
    while process.is_running() {
        disk.fetch_max(folder_bytes(&data), Ordering::Relaxed);
        taken = Taken::by(process.pid()).unwrap_or(taken);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    process.wait()?;
    let (seconds, counts) = (seconds_since(start), server.counts());
    let line = json!({
        "bench": "compact", "compactor": binary.file_name().map(|n| n.to_string_lossy().into_owned()),
        "flags": args.flags, "bucket_bytes": folder_bytes(&args.bucket), "wall_seconds": seconds,
        "user_seconds": taken.user_seconds, "system_seconds": taken.system_seconds,
        "minor_faults": taken.minor_faults, "peak_anon_mib": memory.peak_mib(),
        "peak_threads": memory.peak_threads(), "peak_local_disk_bytes": disk.load(Ordering::Relaxed),
        "requests": counts.requests, "gets": counts.gets, "puts": counts.puts,
        "bytes_read": counts.bytes_out, "bytes_written": counts.bytes_in,
    });
    println!("{line}");
    Ok(())
}
